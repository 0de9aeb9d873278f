/* Winograd's minimal filtering (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural
 * Networks", F(2x2, 3x3)), in space and, for kernels of three frames, in time as well: F(2x2x2, 3x3x3)
 * makes 2x2x2 outputs of 4x4x4 inputs with 64 multiplications where the sum as written takes 216.
 *
 *   along each axis:  U = G g,  V = B' d,  y = A' (U * V)
 *   G g  = g0, (g0+g1+g2)/2, (g0-g1+g2)/2, g2
 *   B' d = d0-d2, d1+d2, d2-d1, d1-d3
 *   A' m = m0+m1+m2, m1-m2-m3
 *
 * A "row" is a tile: 2x2 output pixels of two frames (of one frame for kernels of one).  For each of
 * the 64 (16) products U * V, one sgemm takes ROWS tiles' channels at a time.  Where T is odd the last
 * frame is alone: its tile needs only the first three of time's four products.
 *
 * The error is about twice the direct form's (tests/bench/cpu.md has it layer by layer).  Pieces are
 * cut by shape, so the number of threads changes no bit. */
#include "common/ops/cpu/conv.h"

enum {
    LANES = 16,          /* channels transformed at once: a cache line of floats */
    PLANE = 16,          /* products of a tile in space, 4x4 */
    ROOM = 24 << 20,     /* bytes of V and M together, which bounds the tiles of a panel */
    LEAST_ROWS = 128,    /* fewer tiles than this: the kernel's transformation costs more than it saves */
    LEAST_CHANNELS = 64, /* thinner products do not pay for the transformations */
    SLICE = 256          /* output channels of one sgemm */
};

typedef struct Winograd {
    const Conv *c;
    int64_t high, wide;     /* tiles down and across a frame */
    int64_t times;          /* products in time: 4, or 1 for kernels of one frame */
    int64_t rows;           /* tiles of a panel */
    int64_t step_v, step_m; /* floats from one product's panel to the next */
    float *u, *v, *m;       /* [products][co, ci], [products][rows, ci], [products][rows, co] */
} Winograd;

/* The tiles [first, first + n) counted over frame groups and positions, and how many of time's
 * products and frames they have. */
typedef struct Panel {
    int64_t first, n, times, frames;
} Panel;

static const float zero[LANES];

int winograd_fits(const Conv *c)
{
    const ConvParams *p = c->p;
    int64_t tiles = cpu_ceil(c->ho, 2) * cpu_ceil(c->wo, 2) * (c->kt == 3 ? cpu_ceil(c->T, 2) : c->T);
    return (c->kt == 3 || c->kt == 1) && c->kh == 3 && c->kw == 3 && p->stride == 1 && p->top == 1 && p->bottom == 1 &&
           p->left == 1 && p->right == 1 && c->ci % LANES == 0 && c->co % LANES == 0 && c->ci >= LEAST_CHANNELS &&
           c->co >= LEAST_CHANNELS && tiles >= LEAST_ROWS;
}

/* ---- transformations ------------------------------------------------------------------------- */

/* G along one axis: to[4] from g[3], `stride` lanes apart. */
static inline void filter(float to[4][LANES], const float *g0, const float *g1, const float *g2)
{
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
        float ends = 0.5f * (g0[k] + g2[k]), middle = 0.5f * g1[k];
        to[0][k] = g0[k];
        to[1][k] = ends + middle;
        to[2][k] = ends - middle;
        to[3][k] = g2[k];
    }
}

/* B' along one axis. */
static inline void data(float *restrict t0, float *restrict t1, float *restrict t2, float *restrict t3,
                        const float *restrict d0, const float *restrict d1, const float *restrict d2,
                        const float *restrict d3)
{
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
        t0[k] = d0[k] - d2[k];
        t1[k] = d1[k] + d2[k];
        t2[k] = d2[k] - d1[k];
        t3[k] = d1[k] - d3[k];
    }
}

/* U for one output channel. */
static void transform_kernel(const Winograd *w, int64_t o)
{
    const Conv *c = w->c;
    const float *g = c->w + o * c->kt * 9 * c->ci;
    int64_t step = c->co * c->ci;
    for (int64_t i = 0; i < c->ci; i += LANES) {
        float plane[3][4][4][LANES], rows[4][3][LANES], time[4][LANES];
        float *u = w->u + o * c->ci + i;
        for (int64_t t = 0; t < c->kt; t++) {
            const float *f = g + t * 9 * c->ci + i;
            for (int j = 0; j < 3; j++) {
                float column[4][LANES];
                filter(column, f + j * c->ci, f + (3 + j) * c->ci, f + (6 + j) * c->ci);
                for (int r = 0; r < 4; r++)
                    memcpy(rows[r][j], column[r], sizeof column[r]);
            }
            for (int r = 0; r < 4; r++)
                filter(plane[t][r], rows[r][0], rows[r][1], rows[r][2]);
        }
        for (int q = 0; q < PLANE; q++) {
            if (c->kt == 1) {
                memcpy(u + q * step, plane[0][q / 4][q % 4], sizeof zero);
                continue;
            }
            filter(time, plane[0][q / 4][q % 4], plane[1][q / 4][q % 4], plane[2][q / 4][q % 4]);
            for (int t = 0; t < 4; t++)
                memcpy(u + (t * PLANE + q) * step, time[t], sizeof zero);
        }
    }
}

/* The 16 inputs of a tile in one frame, LANES channels from `i` on, transformed in space. */
static inline void transform_plane(float to[PLANE][LANES], const float *const pixel[PLANE], int64_t i)
{
    float a[4][4][LANES];
    const float *p[PLANE];
    for (int q = 0; q < PLANE; q++)
        p[q] = pixel[q] == zero ? zero : pixel[q] + i;
    for (int j = 0; j < 4; j++)
        data(a[0][j], a[1][j], a[2][j], a[3][j], p[j], p[4 + j], p[8 + j], p[12 + j]);
    for (int r = 0; r < 4; r++)
        data(to[r * 4], to[r * 4 + 1], to[r * 4 + 2], to[r * 4 + 3], a[r][0], a[r][1], a[r][2], a[r][3]);
}

static void find_pixels(const Winograd *w, const float *pixel[PLANE], const float *frame, int64_t down, int64_t across)
{
    const Conv *c = w->c;
    for (int q = 0; q < PLANE; q++) {
        int64_t i = 2 * down + q / 4 - 1, j = 2 * across + q % 4 - 1;
        pixel[q] = i >= 0 && i < c->H && j >= 0 && j < c->W ? frame + (i * c->W + j) * c->ci : zero;
    }
}

/* V of tile `row` of the panel. */
static void transform_input(const Winograd *w, const Panel *n, int64_t row)
{
    const Conv *c = w->c;
    int64_t tile = n->first + row, tiles = w->high * w->wide, place = tile % tiles;
    int64_t t = c->kt == 3 ? tile / tiles * 2 - 2 : tile / tiles, frames = c->kt == 3 ? n->frames + 2 : 1;
    const float *pixel[4][PLANE];
    float *to = w->v + row * c->ci;
    for (int64_t f = 0; f < frames; f++)
        find_pixels(w, pixel[f], conv_frame(c, t + f), place / w->wide, place % w->wide);
    for (int64_t i = 0; i < c->ci; i += LANES) {
        float plane[4][PLANE][LANES], time[4][LANES];
        for (int64_t f = 0; f < frames; f++)
            transform_plane(plane[f], pixel[f], i);
        for (int q = 0; q < PLANE; q++) {
            if (c->kt == 1) {
                memcpy(to + q * w->step_v + i, plane[0][q], sizeof zero);
                continue;
            }
            data(time[0], time[1], time[2], time[3], plane[0][q], plane[1][q], plane[2][q],
                 frames == 4 ? plane[3][q] : zero);
            for (int64_t k = 0; k < n->times; k++)
                memcpy(to + (k * PLANE + q) * w->step_v + i, time[k], sizeof zero);
        }
    }
}

/* A' in time of product q: the tile's one or two frames. */
static inline void sum_time(float to[2][LANES], const Winograd *w, const Panel *n, const float *m, int q)
{
    const float *m0 = m + q * w->step_m, *m1 = m0 + PLANE * w->step_m, *m2 = m1 + PLANE * w->step_m,
                *m3 = m2 + PLANE * w->step_m;
    if (n->times == 1) {
        memcpy(to[0], m0, sizeof zero);
    } else if (n->frames == 1) {
#pragma omp simd
        for (int k = 0; k < LANES; k++)
            to[0][k] = m0[k] + m1[k] + m2[k];
    } else {
#pragma omp simd
        for (int k = 0; k < LANES; k++) {
            to[0][k] = m0[k] + m1[k] + m2[k];
            to[1][k] = m1[k] - m2[k] - m3[k];
        }
    }
}

/* A' along one axis. */
static inline void inverse(float *restrict t0, float *restrict t1, const float *restrict m0, const float *restrict m1,
                           const float *restrict m2, const float *restrict m3)
{
#pragma omp simd
    for (int k = 0; k < LANES; k++) {
        t0[k] = m0[k] + m1[k] + m2[k];
        t1[k] = m1[k] - m2[k] - m3[k];
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

/* Output pixels of tile `row`, LANES channels from o on, of one frame whose products in space are m. */
static inline void put_plane(const Conv *c, float m[PLANE][LANES], int64_t t, int64_t down, int64_t across, int64_t o)
{
    float a[2][4][LANES], y[2][2][LANES];
    for (int j = 0; j < 4; j++)
        inverse(a[0][j], a[1][j], m[j], m[4 + j], m[8 + j], m[12 + j]);
    for (int r = 0; r < 2; r++) {
        inverse(y[r][0], y[r][1], a[r][0], a[r][1], a[r][2], a[r][3]);
        for (int s = 0; s < 2; s++)
            if (2 * down + r < c->H && 2 * across + s < c->W)
                put_pixel(c, c->y + ((t * c->H + 2 * down + r) * c->W + 2 * across + s) * c->co + o, y[r][s], c->b + o);
    }
}

static void transform_output(const Winograd *w, const Panel *n, int64_t row)
{
    const Conv *c = w->c;
    int64_t tile = n->first + row, tiles = w->high * w->wide, place = tile % tiles;
    int64_t t = tile / tiles * (c->kt == 3 ? 2 : 1);
    for (int64_t o = 0; o < c->co; o += LANES) {
        float plane[2][PLANE][LANES];
        const float *m = w->m + row * c->co + o;
        for (int q = 0; q < PLANE; q++) {
            float sum[2][LANES];
            sum_time(sum, w, n, m, q);
            for (int64_t f = 0; f < n->frames; f++)
                memcpy(plane[f][q], sum[f], sizeof zero);
        }
        for (int64_t f = 0; f < n->frames; f++)
            put_plane(c, plane[f], t + f, place / w->wide, place % w->wide, o);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void multiply(const Winograd *w, const Panel *n, int64_t piece)
{
    const Conv *c = w->c;
    int64_t slices = cpu_ceil(c->co, SLICE), product = piece / slices, o = piece % slices * SLICE;
    cpu_sgemm(0, 1, n->n, cpu_min(SLICE, c->co - o), c->ci, 1.0f, w->v + product * w->step_v, c->ci,
              w->u + (product * c->co + o) * c->ci, c->ci, 0.0f, w->m + product * w->step_m + o, c->co);
}

static void convolve_panel(Backend *be, const Winograd *w, const Panel *n)
{
    int64_t pieces = n->times * PLANE * cpu_ceil(w->c->co, SLICE);
#pragma omp parallel num_threads(cpu_threads(be, n->n * n->times * PLANE * (w->c->ci + w->c->co)))
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n->n; i++)
            transform_input(w, n, i);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < pieces; i++)
            multiply(w, n, i);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n->n; i++)
            transform_output(w, n, i);
    }
}

/* The tiles [first, last), all with as many frames. */
static void convolve_tiles(Backend *be, const Winograd *w, int64_t first, int64_t last, int64_t times, int64_t frames)
{
    int64_t panels = cpu_ceil(last - first, w->rows);
    for (int64_t i = 0; i < panels; i++) { /* of nearly the same size, so that no sgemm is a thin one */
        int64_t begin = first + (last - first) * i / panels, end = first + (last - first) * (i + 1) / panels;
        Panel n = {.first = begin, .n = end - begin, .times = times, .frames = frames};
        convolve_panel(be, w, &n);
    }
}

int winograd_conv(Backend *be, Conv *c, const Tensor *kernel, const Tensor *bias, Err *err)
{
    Winograd w = {.c = c, .high = cpu_ceil(c->H, 2), .wide = cpu_ceil(c->W, 2), .times = c->kt == 3 ? 4 : 1};
    int64_t products = w.times * PLANE, converted = kernel->dtype == DT_F32 ? 0 : tensor_count(kernel);
    int64_t tiles = w.high * w.wide, groups = c->kt == 3 ? c->T / 2 : c->T;
    CpuScratch s;
    int rc;

    w.rows = cpu_max(64, ROOM / ((int64_t)sizeof(float) * products * (c->ci + c->co)));
    w.step_v = w.rows * c->ci + LANES; /* off the powers of two, so that products do not share cache sets */
    w.step_m = w.rows * c->co + LANES;
    rc = cpu_scratch(be,
                     (int64_t)sizeof(float) * (c->co + converted + products * (c->co * c->ci + w.step_v + w.step_m)), 0,
                     &s, err);
    if (rc < 0)
        return rc;
    w.v = s.shared;
    w.m = w.v + products * w.step_v;
    w.u = w.m + products * w.step_m;
    c->w = conv_kernel(be, w.u + products * c->co * c->ci, kernel);
    c->b = cpu_weight(bias, 0, c->co, w.u + products * c->co * c->ci + converted);
#pragma omp parallel for num_threads(cpu_threads(be, products * c->co * c->ci)) schedule(static)
    for (int64_t o = 0; o < c->co; o++)
        transform_kernel(&w, o);
    convolve_tiles(be, &w, 0, groups * tiles, w.times, c->kt == 3 ? 2 : 1);
    if (c->kt == 3 && c->T % 2)
        convolve_tiles(be, &w, groups * tiles, (groups + 1) * tiles, 3, 1);
    return 0;
}
