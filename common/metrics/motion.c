#include "common/metrics/motion.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/base/mem.h"

enum { PRICE = 2 /* of half a pixel of |dx| + |dy| */, MARGIN = MOTION_RANGE + 1 };

/* A picture with its edges' pixels repeated around it, MARGIN on each side: [height + 2 MARGIN, stride]. */
typedef struct Padded {
    uint8_t *all;
    const uint8_t *at; /* pixel (0, 0) */
    int64_t stride;    /* bytes */
} Padded;

typedef struct Block {
    int64_t x, y, w, h;
} Block;

typedef struct Best {
    int dx, dy, cost; /* half pixels */
} Best;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int pad(Padded *p, const uint8_t *from, int64_t width, int64_t height, int64_t channels, Err *err)
{
    p->stride = (width + 2 * MARGIN) * channels;
    if (!(p->all = mem_calloc(height + 2 * MARGIN, p->stride, err)))
        return ERR_NOMEM;
    p->at = p->all + MARGIN * p->stride + MARGIN * channels;
    for (int64_t y = -MARGIN; y < height + MARGIN; y++) {
        const uint8_t *row = from + (y < 0 ? 0 : least(y, height - 1)) * width * channels;
        uint8_t *out = p->all + (y + MARGIN) * p->stride;
        for (int64_t x = 0; x < MARGIN; x++) {
            memcpy(out + x * channels, row, (size_t)channels);
            memcpy(out + (MARGIN + width + x) * channels, row + (width - 1) * channels, (size_t)channels);
        }
        memcpy(out + MARGIN * channels, row, (size_t)(width * channels));
    }
    return 0;
}

int64_t motion_blocks(int64_t width, int64_t height)
{
    return ((width + MOTION_BLOCK - 1) / MOTION_BLOCK) * ((height + MOTION_BLOCK - 1) / MOTION_BLOCK);
}

static Block block_of(int64_t i, int64_t width, int64_t height)
{
    int64_t a_row = (width + MOTION_BLOCK - 1) / MOTION_BLOCK;
    Block b = {i % a_row * MOTION_BLOCK, i / a_row * MOTION_BLOCK, 0, 0};
    b.w = least(MOTION_BLOCK, width - b.x);
    b.h = least(MOTION_BLOCK, height - b.y);
    return b;
}

/* Sum of absolute differences; gives up once it reaches `limit`. */
static int sad(const uint8_t *a, int64_t stride_a, const uint8_t *b, int64_t stride_b, const Block *k, int limit)
{
    int sum = 0;
    for (int64_t y = 0; y < k->h && sum < limit; y++, a += stride_a, b += stride_b) {
#ifdef __SSE2__
        if (k->w == MOTION_BLOCK) {
            __m128i d = _mm_sad_epu8(_mm_loadu_si128((const __m128i *)a), _mm_loadu_si128((const __m128i *)b));
            sum += _mm_cvtsi128_si32(d) + _mm_extract_epi16(d, 4);
            continue;
        }
#endif
        for (int64_t x = 0; x < k->w; x++)
            sum += abs(a[x] - b[x]);
    }
    return sum;
}

/* Adds four times each sample of a block moved by (dx, dy) half pixels, bilinear: out [16, 16 channels]. */
static void add_half(const Padded *p, const Block *k, int dx, int dy, int64_t channels, int *out)
{
    int64_t x2 = 2 * k->x + dx, y2 = 2 * k->y + dy, fx = (x2 & 1) * channels, fy = (y2 & 1) * p->stride;
    const uint8_t *from = p->at + (y2 >> 1) * p->stride + (x2 >> 1) * channels;
    for (int64_t y = 0; y < k->h; y++)
        for (int64_t x = 0; x < channels * k->w; x++) {
            const uint8_t *q = from + y * p->stride + x;
            out[y * channels * MOTION_BLOCK + x] += q[0] + q[fx] + q[fy] + q[fy + fx];
        }
}

/* The same rounded half up to a sample. */
static void half_block(const Padded *p, const Block *k, int dx, int dy, uint8_t out[MOTION_BLOCK * MOTION_BLOCK])
{
    int sum[MOTION_BLOCK * MOTION_BLOCK] = {0};
    add_half(p, k, dx, dy, 1, sum);
    for (int i = 0; i < MOTION_BLOCK * MOTION_BLOCK; i++)
        out[i] = (uint8_t)((sum[i] + 2) >> 2);
}

static int price(const Block *k, int dx, int dy)
{
    return dx || dy ? (int)(k->w * k->h / 2) + PRICE * (abs(dx) + abs(dy)) : 0;
}

/* ---- search ----------------------------------------------------------------------------------- */
/* both: the block of `from` moves the other way. */
static void try_whole(const Padded *from, const Padded *to, const Block *k, int dx, int dy, int both, Best *best)
{
    int more = price(k, 2 * dx, 2 * dy), most = best->cost - more;
    if (most <= 0)
        return;
    const uint8_t *a = from->at + (k->y - both * dy) * from->stride + k->x - both * dx,
                  *b = to->at + (k->y + dy) * to->stride + k->x + dx;
    int cost = sad(a, from->stride, b, to->stride, k, most) + more;
    if (cost < best->cost)
        *best = (Best){2 * dx, 2 * dy, cost};
}

/* Vectors of whole pixels, square by square around (0, 0), then the neighbours of the best. */
static Best search(const Padded *from, const Padded *to, const Block *k, int range, int both)
{
    Best best = {0, 0, INT_MAX};
    try_whole(from, to, k, 0, 0, both, &best);
    for (int r = 1; r <= range && best.cost > price(k, 2 * r, 0); r++)
        for (int i = -r; i <= r; i++) {
            try_whole(from, to, k, i, -r, both, &best);
            try_whole(from, to, k, i, r, both, &best);
            if (i > -r && i < r) {
                try_whole(from, to, k, -r, i, both, &best);
                try_whole(from, to, k, r, i, both, &best);
            }
        }
    Best whole = best;
    uint8_t one[MOTION_BLOCK * MOTION_BLOCK], two[MOTION_BLOCK * MOTION_BLOCK];
    for (int i = 0; i < 9; i++) {
        int dx = whole.dx + i % 3 - 1, dy = whole.dy + i / 3 - 1, more = price(k, dx, dy);
        if (i == 4 || best.cost <= more)
            continue;
        half_block(from, k, -both * dx, -both * dy, one);
        half_block(to, k, dx, dy, two);
        int cost = sad(one, MOTION_BLOCK, two, MOTION_BLOCK, k, INT_MAX) + more;
        if (cost < best.cost)
            best = (Best){dx, dy, cost};
    }
    return best;
}

int motion_search(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height, MotionVector *v, Err *err)
{
    Padded from = {0}, to = {0};
    int64_t n = motion_blocks(width, height);
    int rc = pad(&from, a, width, height, 1, err);
    if (rc == 0)
        rc = pad(&to, b, width, height, 1, err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        Block k = block_of(i, width, height);
        Best best = search(&from, &to, &k, MOTION_RANGE, 0);
        v[i] = (MotionVector){(int16_t)best.dx, (int16_t)best.dy};
    }
    mem_free(from.all);
    mem_free(to.all);
    return rc;
}

int motion_predict(const MotionFrame *before, const MotionFrame *after, int64_t width, int64_t height, uint8_t *out,
                   Err *err)
{
    Padded luma[2] = {{0}}, rgb[2] = {{0}};
    int64_t n = motion_blocks(width, height);
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = pad(&luma[i], (i ? after : before)->luma, width, height, 1, err);
        if (rc == 0)
            rc = pad(&rgb[i], (i ? after : before)->rgb, width, height, 3, err);
    }
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        Block k = block_of(i, width, height);
        Best best = search(&luma[0], &luma[1], &k, MOTION_RANGE / 2, 1);
        int sum[MOTION_BLOCK * MOTION_BLOCK * 3] = {0};
        add_half(&rgb[0], &k, -best.dx, -best.dy, 3, sum);
        add_half(&rgb[1], &k, best.dx, best.dy, 3, sum);
        for (int64_t y = 0; y < k.h; y++)
            for (int64_t x = 0; x < 3 * k.w; x++)
                out[((k.y + y) * width + k.x) * 3 + x] = (uint8_t)((sum[y * 3 * MOTION_BLOCK + x] + 4) >> 3);
    }
    for (int i = 0; i < 2; i++) {
        mem_free(luma[i].all);
        mem_free(rgb[i].all);
    }
    return rc;
}

/* ---- figures ---------------------------------------------------------------------------------- */
static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

int motion_lengths(const MotionVector *v, int64_t n, double *mean, double *top, Err *err)
{
    int64_t longest = n / 20 > 1 ? n / 20 : 1;
    double *length = mem_calloc(n, sizeof *length, err), sum = 0;
    if (!length)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        sum += length[i] = sqrt((double)(v[i].dx * v[i].dx + v[i].dy * v[i].dy)) / 2;
    *mean = sum / (double)n;
    qsort(length, (size_t)n, sizeof *length, descending);
    *top = 0;
    for (int64_t i = 0; i < longest; i++)
        *top += length[i] / (double)longest;
    mem_free(length);
    return 0;
}

double motion_change(const MotionVector *a, const MotionVector *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int dx = a[i].dx - b[i].dx, dy = a[i].dy - b[i].dy;
        sum += sqrt((double)(dx * dx + dy * dy)) / 2;
    }
    return sum / (double)n;
}
