/* Winograd's minimal filtering in space (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
 * Networks", F(4x4, 3x3)): 4x4 outputs of 6x6 inputs with 36 multiplications where the sum as written
 * takes 144.  Along each axis, with the points 0, +-a, +-b and infinity,
 *
 *   U = G g:   g0/(aabb), (g0 +- a g1 + aa g2)/(2aa(aa-bb)), (g0 +- b g1 + bb g2)/(2bb(bb-aa)), g2
 *   V = B' d:  aabb d0 - (aa+bb) d2 + d4, (d4 - bb d2) +- a(d3 - bb d1), (d4 - aa d2) +- b(d3 - aa d1),
 *              aabb d1 - (aa+bb) d3 + d5
 *   y = A' m:  m0 + m1 + m2 + m3 + m4, a(m1 - m2) + b(m3 - m4), aa(m1 + m2) + bb(m3 + m4),
 *              aaa(m1 - m2) + bbb(m3 - m4) + m5,   m = U * V
 *
 * a = 3/4 and b = 3/2 are exact in binary and leave half the error of the usual 1 and 2 (Barabasz and
 * others 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
 * Networks"); tests/bench/cpu.md has it layer by layer.  Time's taps are summed as the formula is written.
 *
 * Where there are few channels, sgemm would spend two fifths of its time on packing and on setting M to zero:
 * block.h's products take V and U where they lie.
 *
 * A panel holds some tiles of all frames, V ordered by product, frame and tile: so a tap takes a product's
 * rows of all output frames at once, and the next tap the same rows a frame later.  Panels are cut
 * by shape, so the number of threads changes no bit. */
#include "common/ops/cpu/block.h"
#include "common/ops/cpu/conv.h"

enum {
    LANES = 16,          /* channels transformed at once: a cache line of floats */
    EDGE = 6,            /* inputs of a tile along an axis */
    OUT = 4,             /* its outputs */
    PLANE = EDGE * EDGE, /* products of a tile */
    FRAMES = 9,          /* of a panel, at most: the longest piece of a clip that the VAE convolves */
    TILES = 128,         /* of a frame in a panel, at most; fewer where ROOM bounds them */
    ROOM = 24 << 20,     /* bytes of V and M together, of a panel */
    LEAST_PIXELS = 256,  /* fewer outputs than this: the kernel's transformation costs more than it saves */
    SLICE = 256,         /* output channels of one sgemm */
    THIN = 64            /* no more channels than this: block.h's products in place of sgemm */
};
#define A 0.75f
#define B 1.5f

typedef struct Winograd {
    const Conv *c;
    int64_t high, wide;     /* tiles down and across a frame */
    int64_t tiles;          /* of a panel, at most */
    int64_t step_v, step_m; /* floats from one product's panel to the next */
    int thin;         /* few channels, at least BLOCK_M rows (which the processor decides): u is [PLANE][kt][ci, co] */
    float *u, *v, *m; /* [PLANE][kt][co, ci], [PLANE][frames + kt - 1][tiles, ci], [PLANE][frames][tiles, co] */
} Winograd;

/* The tiles [first, first + n) of every frame in [t, t + frames). */
typedef struct Panel {
    int64_t first, n, t, frames;
} Panel;

static const float zero[LANES];

int winograd_fits(const Conv *c)
{
    const ConvParams *p = c->p;
    return (c->kt == 3 || c->kt == 1) && c->kh == 3 && c->kw == 3 && p->stride == 1 && p->top == 1 && p->bottom == 1 &&
           p->left == 1 && p->right == 1 && c->ci % LANES == 0 && c->co % LANES == 0 &&
           c->T * c->H * c->W >= LEAST_PIXELS &&
           cpu_ceil(c->H, OUT) * cpu_ceil(c->W, OUT) * OUT * OUT <= 2 * c->H * c->W; /* tiles are not mostly empty */
}

/* ---- transformations ------------------------------------------------------------------------- */

/* G along one axis. */
static inline void filter(float to[EDGE][LANES], const float *g0, const float *g1, const float *g2)
{
    const float end = 1 / (A * A * B * B), near = 1 / (2 * A * A * (A * A - B * B)),
                far = 1 / (2 * B * B * (B * B - A * A));
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
        float even_a = near * (g0[k] + A * A * g2[k]), odd_a = near * A * g1[k];
        float even_b = far * (g0[k] + B * B * g2[k]), odd_b = far * B * g1[k];
        to[0][k] = end * g0[k];
        to[1][k] = even_a + odd_a;
        to[2][k] = even_a - odd_a;
        to[3][k] = even_b + odd_b;
        to[4][k] = even_b - odd_b;
        to[5][k] = g2[k];
    }
}

/* B' along one axis. */
static inline void data(float to[EDGE][LANES], const float *const d[EDGE])
{
    const float *restrict d0 = d[0], *restrict d1 = d[1], *restrict d2 = d[2], *restrict d3 = d[3], *restrict d4 = d[4],
                          *restrict d5 = d[5];
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
        float even_a = d4[k] - B * B * d2[k], odd_a = A * (d3[k] - B * B * d1[k]);
        float even_b = d4[k] - A * A * d2[k], odd_b = B * (d3[k] - A * A * d1[k]);
        to[0][k] = A * A * B * B * d0[k] - (A * A + B * B) * d2[k] + d4[k];
        to[1][k] = even_a + odd_a;
        to[2][k] = even_a - odd_a;
        to[3][k] = even_b + odd_b;
        to[4][k] = even_b - odd_b;
        to[5][k] = A * A * B * B * d1[k] - (A * A + B * B) * d3[k] + d5[k];
    }
}

/* A' along one axis. */
static inline void inverse(float to[OUT][LANES], const float *const m[EDGE])
{
    const float *restrict m0 = m[0], *restrict m1 = m[1], *restrict m2 = m[2], *restrict m3 = m[3], *restrict m4 = m[4],
                          *restrict m5 = m[5];
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
        float even_a = m1[k] + m2[k], odd_a = m1[k] - m2[k], even_b = m3[k] + m4[k], odd_b = m3[k] - m4[k];
        to[0][k] = m0[k] + even_a + even_b;
        to[1][k] = A * odd_a + B * odd_b;
        to[2][k] = A * A * even_a + B * B * even_b;
        to[3][k] = A * A * A * odd_a + B * B * B * odd_b + m5[k];
    }
}

static inline void put_kernel(float *to, const float *from, int64_t step)
{
    if (step == 1)
        memcpy(to, from, sizeof zero);
    else
        for (int k = 0; k < LANES; k++)
            to[k * step] = from[k];
}

/* U for one output channel. */
static void transform_kernel(const Winograd *w, int64_t o)
{
    const Conv *c = w->c;
    int64_t step = c->kt * c->co * c->ci;
    for (int64_t t = 0; t < c->kt; t++)
        for (int64_t i = 0; i < c->ci; i += LANES) {
            const float *g = c->w + (o * c->kt + t) * 9 * c->ci + i;
            float *u = w->u + (w->thin ? (t * c->ci + i) * c->co + o : (t * c->co + o) * c->ci + i);
            float column[3][EDGE][LANES], row[EDGE][LANES];
            for (int j = 0; j < 3; j++)
                filter(column[j], g + j * c->ci, g + (3 + j) * c->ci, g + (6 + j) * c->ci);
            for (int r = 0; r < EDGE; r++) {
                filter(row, column[0][r], column[1][r], column[2][r]);
                for (int s = 0; s < EDGE; s++)
                    put_kernel(u + (r * EDGE + s) * step, row[s], w->thin ? c->co : 1);
            }
        }
}

/* V of row `row` of the panel: one tile of one input frame. */
static void transform_input(const Winograd *w, const Panel *n, int64_t row)
{
    const Conv *c = w->c;
    int64_t tile = n->first + row % n->n, down = tile / w->wide * OUT - 1, across = tile % w->wide * OUT - 1;
    const float *frame = conv_frame(c, n->t + row / n->n - (c->kt - 1)), *pixel[PLANE];
    for (int q = 0; q < PLANE; q++) {
        int64_t i = down + q / EDGE, j = across + q % EDGE;
        pixel[q] = i >= 0 && i < c->H && j >= 0 && j < c->W ? frame + (i * c->W + j) * c->ci : NULL;
    }
    for (int64_t i = 0; i < c->ci; i += LANES) {
        float column[EDGE][EDGE][LANES], product[EDGE][LANES], *v = w->v + row * c->ci + i;
        const float *d[EDGE];
        for (int s = 0; s < EDGE; s++) {
            for (int r = 0; r < EDGE; r++)
                d[r] = pixel[r * EDGE + s] ? pixel[r * EDGE + s] + i : zero;
            data(column[s], d);
        }
        for (int r = 0; r < EDGE; r++) {
            for (int s = 0; s < EDGE; s++)
                d[s] = column[s][r];
            data(product, d);
            for (int s = 0; s < EDGE; s++)
                memcpy(v + (r * EDGE + s) * w->step_v, product[s], sizeof zero);
        }
    }
}

static inline void put_pixel(const Conv *c, float *restrict y, const float *restrict value, const float *restrict bias)
{
    if (c->p->add)
        for (int k = 0; k < LANES; k++)
            y[k] += value[k] + bias[k];
    else
        for (int k = 0; k < LANES; k++)
            y[k] = value[k] + bias[k];
}

/* The output pixels of row `row` of the panel: one tile of one output frame. */
static void transform_output(const Winograd *w, const Panel *n, int64_t row)
{
    const Conv *c = w->c;
    int64_t tile = n->first + row % n->n, down = tile / w->wide * OUT, across = tile % w->wide * OUT;
    int64_t high = cpu_min(OUT, c->H - down), wide = cpu_min(OUT, c->W - across);
    float *y = c->y + (((n->t + row / n->n) * c->H + down) * c->W + across) * c->co;
    for (int64_t o = 0; o < c->co; o += LANES) {
        float column[EDGE][OUT][LANES], pixel[OUT][LANES];
        const float *products = w->m + row * c->co + o, *m[EDGE];
        for (int s = 0; s < EDGE; s++) {
            for (int r = 0; r < EDGE; r++)
                m[r] = products + (r * EDGE + s) * w->step_m;
            inverse(column[s], m);
        }
        for (int64_t r = 0; r < high; r++) {
            for (int s = 0; s < EDGE; s++)
                m[s] = column[s][r];
            inverse(pixel, m);
            for (int64_t s = 0; s < wide; s++)
                put_pixel(c, y + (r * c->W + s) * c->co + o, pixel[s], c->b + o);
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The rows [i, i + BLOCK_M) of one product of the panel, all channels. */
static inline void multiply_rows(const Winograd *w, const Panel *n, int64_t product, int64_t i)
{
    const Conv *c = w->c;
    const float *v = w->v + product * w->step_v + i * c->ci, *u = w->u + product * c->kt * c->ci * c->co;
    float *m = w->m + product * w->step_m + i * c->co;
    for (int64_t t = 0; t < c->kt; t++, v += n->n * c->ci, u += c->ci * c->co) {
        int64_t o = 0;
        for (; o + BLOCK_N <= c->co; o += BLOCK_N)
            block_sum(c->ci, v, c->ci, 1, u + o, c->co, m + o, c->co, 2, t > 0);
        if (o < c->co) /* half a block, where BLOCK_N is 2 * LANES */
            block_sum(c->ci, v, c->ci, 1, u + o, c->co, m + o, c->co, 1, t > 0);
    }
}

/* One product of the panel for few channels.  The last rows are taken whole, some of them once more. */
static void multiply_thin(const Winograd *w, const Panel *n, int64_t product)
{
    int64_t rows = n->frames * n->n;
    for (int64_t i = 0; i < rows; i += BLOCK_M)
        multiply_rows(w, n, product, cpu_min(i, rows - BLOCK_M));
}

/* One product of the panel for SLICE output channels: the sum over time's taps. */
static void multiply(const Winograd *w, const Panel *n, int64_t piece)
{
    const Conv *c = w->c;
    int64_t slices = cpu_ceil(c->co, SLICE), product = piece / slices, o = piece % slices * SLICE;
    const float *v = w->v + product * w->step_v, *u = w->u + (product * c->kt * c->co + o) * c->ci;
    for (int64_t t = 0; t < c->kt; t++, v += n->n * c->ci, u += c->co * c->ci)
        cpu_sgemm(0, 1, n->frames * n->n, cpu_min(SLICE, c->co - o), c->ci, 1.0f, v, c->ci, u, c->ci, t ? 1.0f : 0.0f,
                  w->m + product * w->step_m + o, c->co);
}

static void convolve_panel(Backend *be, const Winograd *w, const Panel *n)
{
    int64_t pieces = PLANE * cpu_ceil(w->c->co, SLICE), rows = n->frames * n->n;
#pragma omp parallel num_threads(cpu_threads(be, rows *PLANE *(w->c->ci + w->c->co)))
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows + (w->c->kt - 1) * n->n; i++)
            transform_input(w, n, i);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < pieces; i++)
            if (w->thin)
                multiply_thin(w, n, i);
            else
                multiply(w, n, i);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            transform_output(w, n, i);
    }
}

int winograd_conv(Backend *be, Conv *c, const Tensor *kernel, const Tensor *bias, Err *err)
{
    int64_t converted = kernel->dtype == DT_F32 ? 0 : tensor_count(kernel), weights = PLANE * c->kt * c->co * c->ci;
    int64_t frames = cpu_min(c->T, FRAMES), per_tile = (frames + c->kt - 1) * c->ci + frames * c->co;
    Winograd w = {.c = c, .high = cpu_ceil(c->H, OUT), .wide = cpu_ceil(c->W, OUT)};
    int64_t tiles = w.high * w.wide;
    CpuScratch s;
    int rc;

    w.tiles = cpu_min(cpu_min(tiles, TILES), cpu_max(8, ROOM / ((int64_t)sizeof(float) * PLANE * per_tile)));
    int64_t panels = cpu_ceil(tiles, w.tiles), groups = cpu_ceil(c->T, frames);
    w.thin = c->ci <= THIN && c->co <= THIN && tiles / panels * (c->T / groups) >= BLOCK_M;
    w.step_v = w.tiles * (frames + c->kt - 1) * c->ci + LANES; /* off the powers of two, so that products do not */
    w.step_m = w.tiles * frames * c->co + LANES;               /* share cache sets */
    rc = cpu_scratch(be, (int64_t)sizeof(float) * (c->co + converted + weights + PLANE * (w.step_v + w.step_m)), 0, &s,
                     err);
    if (rc < 0)
        return rc;
    w.v = s.shared;
    w.m = w.v + PLANE * w.step_v;
    w.u = w.m + PLANE * w.step_m;
    c->w = conv_kernel(be, w.u + weights, kernel);
    c->b = cpu_weight(bias, 0, c->co, w.u + weights + converted);
#pragma omp parallel for num_threads(cpu_threads(be, weights)) schedule(static)
    for (int64_t o = 0; o < c->co; o++)
        transform_kernel(&w, o);
    for (int64_t i = 0; i < panels * groups; i++) { /* of nearly the same size, so that no sgemm is a thin one */
        int64_t first = tiles * (i % panels) / panels, last = tiles * (i % panels + 1) / panels;
        int64_t begin = c->T * (i / panels) / groups, end = c->T * (i / panels + 1) / groups;
        convolve_panel(be, &w, &(Panel){.first = first, .n = last - first, .t = begin, .frames = end - begin});
    }
    return 0;
}
