/* GroupNorm in two passes over [T,H,W,C]: sums by pieces of pixels and by channel, in double and
 * about the first pixel's value (so that a large mean costs no digits), combined in order; then
 * normalise, condition and SiLU in one go. */
#include "common/ops/cpu/cpu.h"

typedef struct Group {
    const float *x;
    float *y;
    int64_t pixels, channels, step, blocks; /* pixels a piece, pieces */
} Group;

/* What a channel is multiplied with: ((x - mean) * factor + offset). */
typedef struct Channels {
    float *mean, *factor, *offset;
} Channels;

static void sum_block(const Group *g, int64_t block, double *restrict sum, double *restrict square)
{
    int64_t c_n = g->channels, end = cpu_min(g->pixels, (block + 1) * g->step);
    memset(sum, 0, (size_t)c_n * sizeof *sum);
    memset(square, 0, (size_t)c_n * sizeof *square);
    for (int64_t p = block * g->step; p < end; p++) {
        const float *restrict row = g->x + p * c_n, *restrict first = g->x;
#pragma omp simd
        for (int64_t c = 0; c < c_n; c++) {
            double d = (double)row[c] - (double)first[c];
            sum[c] += d;
            square[c] += d * d;
        }
    }
}

/* Channel sums over the pieces: into those of piece 0. */
static void combine(const Group *g, double *partial)
{
    for (int64_t i = 1; i < g->blocks; i++)
        for (int64_t c = 0; c < 2 * g->channels; c++)
            partial[c] += partial[i * 2 * g->channels + c];
}

static void fold_group(const Group *g, const double *partial, const Channels *ch, const Tensor *w, const Tensor *b,
                       int64_t c0, int64_t n, double eps)
{
    const double *sum = partial, *square = partial + g->channels, count = (double)g->pixels;
    double mean = 0, variance = 0;
    for (int64_t c = c0; c < c0 + n; c++)
        mean += ((double)g->x[c] + sum[c] / count) / (double)n;
    for (int64_t c = c0; c < c0 + n; c++) {
        double own = sum[c] / count, off = (double)g->x[c] + own - mean;
        variance += (square[c] / count - own * own + off * off) / (double)n;
    }
    double rstd = 1.0 / sqrt((variance > 0 ? variance : 0) + eps);
    for (int64_t c = c0; c < c0 + n; c++) {
        float room;
        double weight = (double)*cpu_weight(w, c, 1, &room) * rstd, bias = (double)*cpu_weight(b, c, 1, &room);
        ch->mean[c] = (float)mean;
        ch->factor[c] = (float)weight;
        ch->offset[c] = (float)(bias - (mean - (double)ch->mean[c]) * weight); /* what rounding took from the mean */
    }
}

/* One pixel; the flags are constants at each call so that each combination becomes its own loop. */
static inline __attribute__((always_inline)) void norm_pixel(float *y, const float *x, const Channels *ch, int64_t n,
                                                             const float *scale, const float *shift, int with_cond,
                                                             int with_silu)
{
    const float *restrict mean = ch->mean, *restrict factor = ch->factor, *restrict offset = ch->offset;
#pragma omp simd
    for (int64_t c = 0; c < n; c++) {
        float v = (x[c] - mean[c]) * factor[c] + offset[c];
        v = with_cond ? v * scale[c] + shift[c] : v;
        y[c] = with_silu ? v * cpu_sigmoid(v) : v;
    }
}

static void norm_pixels(const Group *g, const Channels *ch, int64_t first, int64_t end, int with_silu)
{
    for (int64_t p = first; p < end; p++) {
        int64_t at = p * g->channels;
        if (with_silu)
            norm_pixel(g->y + at, g->x + at, ch, g->channels, NULL, NULL, 0, 1);
        else
            norm_pixel(g->y + at, g->x + at, ch, g->channels, NULL, NULL, 0, 0);
    }
}

/* A row (frame t, row i) of W pixels with the condition of the nearest latent pixel. */
static void norm_row_cond(const Group *g, const Channels *ch, const Tensor *x, const SpatialCond *cond, int64_t row,
                          int with_silu)
{
    int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], t = row / H, i = row % H;
    const int64_t *z = cond->scale->dim;
    int64_t zt = T > 1 && T % 2 ? (t ? 1 + (t - 1) * (z[0] - 1) / (T - 1) : 0) : t * z[0] / T;
    int64_t base = (zt * z[1] + i * z[1] / H) * z[2];
    for (int64_t j = 0; j < W; j++) {
        int64_t at = (row * W + j) * g->channels, from = (base + j * z[2] / W) * g->channels;
        const float *scale = (const float *)cond->scale->data + from, *shift = (const float *)cond->shift->data + from;
        if (with_silu)
            norm_pixel(g->y + at, g->x + at, ch, g->channels, scale, shift, 1, 1);
        else
            norm_pixel(g->y + at, g->x + at, ch, g->channels, scale, shift, 1, 0);
    }
}

static int groupnorm_cpu(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                         int64_t groups, double eps, const SpatialCond *cond, ActKind act, Err *err)
{
    int64_t c_n = x->dim[3], rows = x->dim[0] * x->dim[1];
    Group g = {.x = x->data, .y = y->data, .pixels = rows * x->dim[2], .channels = c_n};
    g.step = cpu_row_block(g.pixels);
    g.blocks = cpu_ceil(g.pixels, g.step);
    CpuScratch s;
    int rc = cpu_scratch(be, g.blocks * 2 * c_n * (int64_t)sizeof(double) + 3 * c_n * (int64_t)sizeof(float), 0, &s,
                         err);
    if (rc < 0)
        return rc;
    double *partial = s.shared;
    float *room = (float *)(partial + g.blocks * 2 * c_n);
    Channels ch = {.mean = room, .factor = room + c_n, .offset = room + 2 * c_n};
    int threads = cpu_threads(be, g.pixels * c_n);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < g.blocks; i++)
        sum_block(&g, i, partial + i * 2 * c_n, partial + i * 2 * c_n + c_n);
    combine(&g, partial);
    for (int64_t i = 0; i < groups; i++)
        fold_group(&g, partial, &ch, w, b, i * (c_n / groups), c_n / groups, eps);
    if (cond) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t r = 0; r < rows; r++)
            norm_row_cond(&g, &ch, x, cond, r, act == ACT_SILU);
    } else {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < g.blocks; i++)
            norm_pixels(&g, &ch, i * g.step, cpu_min(g.pixels, (i + 1) * g.step), act == ACT_SILU);
    }
    return 0;
}

void cpu_table_groupnorm(OpsTable *t)
{
    t->groupnorm = groupnorm_cpu;
}
