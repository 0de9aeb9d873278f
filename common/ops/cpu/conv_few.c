/* Convolution to at most FEW channels, as a decoder's last one to red, green and blue: each output is a dot product
 * of the kernel with the inputs where they lie (at the ends of a row, in a copy), PIXELS neighbours at once, so that
 * an input and a weight are loaded once for several sums.  A product by BLAS would gather 27 copies of the input for
 * three columns. */
#include "common/ops/cpu/block.h"
#include "common/ops/cpu/conv.h"

enum { FEW = 3, PIXELS = 4 }; /* 12 sums in registers */

int conv_few_fits(const Conv *c)
{
    return c->co <= FEW && c->run % BLOCK_LANES == 0;
}

static inline float total(BlockLanes v)
{
    float part[BLOCK_LANES];
    memcpy(part, &v, sizeof part);
    for (int half = BLOCK_LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            part[l] += part[l + half];
    return part[0];
}

/* Where the kw inputs of output pixel j in the row `line` lie; at its ends in `edge`, with zeros. */
static const float *run_at(const Conv *c, const float *line, int64_t j, float *edge)
{
    int64_t left = j * c->p->stride - c->p->left;
    if (left >= 0 && left + c->kw <= c->W)
        return line + left * c->ci;
    conv_gather_run(c, edge, line, left);
    return edge;
}

/* Output pixels [j, j + n) of row i of frame t; edge: room for PIXELS runs. */
static void few_pixels(const Conv *c, int64_t t, int64_t i, int64_t j, int64_t n, float *edge)
{
    BlockLanes sum[PIXELS][FEW] = {0};
    for (int64_t tap = 0; tap < c->taps; tap++) {
        int64_t row = i * c->p->stride + tap % c->kh - c->p->top;
        if (row < 0 || row >= c->H)
            continue;
        const float *line = conv_frame(c, t + tap / c->kh - (c->kt - 1)) + row * c->W * c->ci, *x[PIXELS], *w[FEW];
        for (int q = 0; q < PIXELS; q++)
            x[q] = run_at(c, line, j + q, edge + q * c->run);
        for (int o = 0; o < FEW; o++)
            w[o] = c->w + cpu_min(o, c->co - 1) * c->depth + tap * c->run;
        for (int64_t s = 0; s < c->run; s += BLOCK_LANES)
            for (int q = 0; q < PIXELS; q++)
                for (int o = 0; o < FEW; o++)
                    sum[q][o] += *(const BlockLanes *)(x[q] + s) * *(const BlockLanes *)(w[o] + s);
    }
    float *y = c->y + ((t * c->ho + i) * c->wo + j) * c->co;
    for (int64_t q = 0; q < n; q++, y += c->co)
        for (int64_t o = 0; o < c->co; o++)
            y[o] = (c->p->add ? y[o] : 0) + (total(sum[q][o]) + c->b[o]);
}

void conv_few(Backend *be, const Conv *c, const CpuScratch *s)
{
#pragma omp parallel for num_threads(cpu_threads(be, c->T * c->ho * c->wo * c->depth)) schedule(static)
    for (int64_t row = 0; row < c->T * c->ho; row++)
        for (int64_t j = 0; j < c->wo; j += PIXELS)
            few_pixels(c, row / c->ho, row % c->ho, j, cpu_min(PIXELS, c->wo - j), cpu_own(s));
}
