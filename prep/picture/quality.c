#include "prep/picture/quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/clones.h"
#include "common/base/mem.h"

enum { BINS = 32, UNIT = 10000 /* of luma */ };

struct Meter {
    int64_t width, height;
    int32_t black;   /* in units of luma */
    uint8_t *before; /* [height,width,3] */
    int32_t *rows;   /* [3][width] luma around the current row */
    int64_t histogram[2][3 * BINS];
    int64_t n;
};

int meter_open(Meter **out, int64_t width, int64_t height, double black_level, Err *err)
{
    *out = NULL;
    if (width < 2 || height < 2 || width > 65536 || height > 65536)
        return err_set(err, ERR_USAGE, "pictures of %" PRId64 "x%" PRId64 " cannot be measured", width, height);
    Meter *m = mem_calloc(1, sizeof *m, err);
    if (!m)
        return ERR_NOMEM;
    *m = (Meter){.width = width, .height = height, .black = (int32_t)lround(black_level * UNIT)};
    m->before = mem_calloc(width * height, 3, err);
    m->rows = mem_calloc(width * 3, sizeof *m->rows, err);
    if (!m->before || !m->rows) {
        meter_close(&m);
        return ERR_NOMEM;
    }
    *out = m;
    return 0;
}

void meter_close(Meter **meter)
{
    Meter *m = *meter;
    if (!m)
        return;
    mem_free(m->before);
    mem_free(m->rows);
    mem_free(m);
    *meter = NULL;
}

/* ---- one picture ----------------------------------------------------------------------------- */
WEFT_CLONES static void luma_row(const uint8_t *rgb, int64_t n, int32_t *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 2126 * rgb[3 * i] + 7152 * rgb[3 * i + 1] + 722 * rgb[3 * i + 2];
}

/* ---- area averages --------------------------------------------------------------------------- */
/* Pixel i of n covers [i*cells, (i+1)*cells) and cell c [c*n, (c+1)*n): whole numbers.  How much of
 * pixel i lies in cell c. */
static int64_t overlap(int64_t i, int64_t c, int64_t n, int64_t cells)
{
    int64_t from = i * cells > c * n ? i * cells : c * n,
            to = (i + 1) * cells < (c + 1) * n ? (i + 1) * cells : (c + 1) * n;
    return to > from ? to - from : 0;
}

enum { COLUMNS = 9, ROWS = 8 };

/* Sums over the cells; all weights sum to width * height, so they compare as the means do. */
typedef struct Hash {
    int64_t width, height, cell[ROWS][COLUMNS];
} Hash;

static void hash_row(Hash *h, const int32_t *luma, int64_t y)
{
    const int64_t w = h->width;
    for (int64_t c = 0; c < COLUMNS; c++) {
        int64_t first = c * w / COLUMNS, last = ((c + 1) * w - 1) / COLUMNS,
                sum = overlap(first, c, w, COLUMNS) * luma[first], inner = 0;
        if (last > first)
            sum += overlap(last, c, w, COLUMNS) * luma[last];
        for (int64_t x = first + 1; x < last; x++)
            inner += luma[x];
        sum += COLUMNS * inner;
        for (int64_t r = y * ROWS / h->height; r <= ((y + 1) * ROWS - 1) / h->height; r++)
            h->cell[r][c] += overlap(y, r, h->height, ROWS) * sum;
    }
}

static uint64_t hash_bits(const Hash *h)
{
    uint64_t hash = 0;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c + 1 < COLUMNS; c++)
            hash = hash << 1 | (h->cell[r][c + 1] > h->cell[r][c]);
    return hash;
}

uint64_t picture_dhash(const uint8_t *rgb, int64_t width, int64_t height)
{
    int64_t cell[ROWS][COLUMNS] = {{0}}, line[COLUMNS]; /* all weights sum to width*height: sums compare as means do */
    for (int64_t y = 0; y < height; y++) {
        memset(line, 0, sizeof line);
        for (int64_t x = 0; x < width; x++) {
            const uint8_t *p = rgb + (y * width + x) * 3;
            int64_t luma = 2126 * p[0] + 7152 * p[1] + 722 * p[2], first = x * COLUMNS / width,
                    last = ((x + 1) * COLUMNS - 1) / width;
            if (first == last)
                line[first] += COLUMNS * luma;
            else
                for (int64_t c = first; c <= last; c++)
                    line[c] += overlap(x, c, width, COLUMNS) * luma;
        }
        for (int64_t r = y * ROWS / height; r <= ((y + 1) * ROWS - 1) / height; r++)
            for (int c = 0; c < COLUMNS; c++)
                cell[r][c] += overlap(y, r, height, ROWS) * line[c];
    }
    uint64_t hash = 0;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c + 1 < COLUMNS; c++)
            hash = hash << 1 | (cell[r][c + 1] > cell[r][c]);
    return hash;
}

typedef struct Sums {
    int64_t rgb[3], y, lap, black;
    double y2, lap2; /* of whole numbers, added row by row in order: the same bits everywhere */
} Sums;

static int32_t laplacian(const int32_t *up, const int32_t *at, const int32_t *down, int64_t left, int64_t i,
                         int64_t right)
{
    return up[i] + down[i] + at[left] + at[right] - 4 * at[i]; /* at most 8 * 2550000 */
}

WEFT_CLONES static void laplacian_row(const int32_t *up, const int32_t *at, const int32_t *down, int64_t n, Sums *s)
{
    for (int64_t from = 0; from < n; from += 4096) { /* 4096 squares fit */
        int64_t to = from + 4096 < n ? from + 4096 : n, first = from ? from : 1, last = to < n ? to : n - 1, sum = 0,
                squares = 0;
        for (int64_t i = first; i < last; i++) {
            int32_t lap = laplacian(up, at, down, i - 1, i, i + 1);
            uint32_t size = (uint32_t)abs(lap);
            sum += lap;
            squares += (int64_t)((uint64_t)size * size);
        }
        for (int edge = 0; edge < 2; edge++)
            if (edge ? to == n : from == 0) {
                int64_t lap = edge ? laplacian(up, at, down, n - 2, n - 1, n - 2) : laplacian(up, at, down, 1, 0, 1);
                sum += lap;
                squares += lap * lap;
            }
        s->lap += sum;
        s->lap2 += (double)squares;
    }
}

/* Four counters a bin, taken in turn: a run of equal samples need not wait for its own last
 * increment. */
enum { LANES = 4 };

static void row_histogram(const uint8_t *rgb, int64_t n, uint32_t histogram[LANES][3][256])
{
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            histogram[i % LANES][c][rgb[3 * i + c]]++;
}

WEFT_CLONES static void row_sums(const int32_t *y, int64_t n, int32_t black, Sums *s)
{
    int64_t sum = 0, squares = 0, dark = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += y[i];
        squares += (int64_t)y[i] * y[i]; /* below 2^43: 65536 of them fit */
        dark += y[i] < black;
    }
    s->y += sum;
    s->y2 += (double)squares;
    s->black += dark;
}

/* Sum of |a - b|. */
WEFT_CLONES static int64_t row_change(const uint8_t *a, const uint8_t *b, int64_t n)
{
    uint32_t sum = 0; /* 3 * 65536 samples of 255 fit */
    for (int64_t i = 0; i < n; i++)
        sum += (uint32_t)abs(a[i] - b[i]);
    return sum;
}

static double correlation(const int64_t *a, const int64_t *b, int n)
{
    double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
    for (int i = 0; i < n; i++) {
        ma += (double)a[i] / n;
        mb += (double)b[i] / n;
    }
    for (int i = 0; i < n; i++) {
        double x = (double)a[i] - ma, y = (double)b[i] - mb;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 1;
}

void meter_add(Meter *m, const uint8_t *rgb, FrameFigures *out)
{
    const int64_t w = m->width, h = m->height;
    int64_t *histogram = m->histogram[m->n & 1], channel[3] = {0}, moved = 0;
    uint32_t counts[LANES][3][256] = {0}; /* a lane of 2^16 x 2^16 pixels has 2^30 */
    Sums s = {0};
    Hash hash = {.width = w, .height = h};
    luma_row(rgb, w, m->rows);
    luma_row(rgb + 3 * w, w, m->rows + w);
    for (int64_t y = 0; y < h; y++) {
        const int32_t *at = m->rows + y % 3 * w, *below = m->rows + (y + 1) % 3 * w, *above = m->rows + (y + 2) % 3 * w;
        if (y > 0 && y + 1 < h)
            luma_row(rgb + (y + 1) * w * 3, w, m->rows + (y + 1) % 3 * w);
        row_sums(at, w, m->black, &s);
        row_histogram(rgb + y * w * 3, w, counts);
        laplacian_row(y ? above : below, at, y + 1 < h ? below : above, w, &s);
        hash_row(&hash, at, y);
        if (m->n)
            moved += row_change(rgb + y * w * 3, m->before + y * w * 3, 3 * w);
    }
    memset(histogram, 0, sizeof m->histogram[0]);
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            int64_t n = 0;
            for (int lane = 0; lane < LANES; lane++)
                n += counts[lane][c][v];
            histogram[c * BINS + v * BINS / 256] += n;
            channel[c] += n * v;
        }
    double pixels = (double)(w * h), mean = (double)s.y / pixels, lap = (double)s.lap / pixels;
    double variance = s.y2 / pixels - mean * mean, rough = s.lap2 / pixels - lap * lap;
    *out = (FrameFigures){.luma = mean / UNIT,
                          .std = variance > 0 ? sqrt(variance) / UNIT : 0,
                          .laplacian = rough > 0 ? rough / UNIT / UNIT : 0,
                          .black = (double)s.black / pixels,
                          .change = (double)moved / (3 * pixels),
                          .correlation = m->n ? correlation(m->histogram[0], m->histogram[1], 3 * BINS) : 1,
                          .dhash = hash_bits(&hash)};
    for (int c = 0; c < 3; c++)
        out->rgb[c] = (double)channel[c] / pixels;
    memcpy(m->before, rgb, (size_t)(w * h * 3));
    m->n++;
}

void picture_shrink(const uint8_t *rgb, int64_t width, int64_t height, uint8_t *out, int64_t to_width,
                    int64_t to_height)
{
    int64_t weight = width * height;
    for (int64_t r = 0; r < to_height; r++)
        for (int64_t c = 0; c < to_width; c++) {
            int64_t sum[3] = {0};
            for (int64_t y = r * height / to_height; y < height && y * to_height < (r + 1) * height; y++)
                for (int64_t x = c * width / to_width; x < width && x * to_width < (c + 1) * width; x++) {
                    int64_t part = overlap(y, r, height, to_height) * overlap(x, c, width, to_width);
                    for (int k = 0; k < 3; k++)
                        sum[k] += part * rgb[(y * width + x) * 3 + k];
                }
            for (int k = 0; k < 3; k++)
                out[(r * to_width + c) * 3 + k] = (uint8_t)((sum[k] + weight / 2) / weight);
        }
}
