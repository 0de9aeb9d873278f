/* What the three ways of convolving on the CPU share: the problem, read from the tensors. */
#ifndef WEFT_OPS_CPU_CONV_H
#define WEFT_OPS_CPU_CONV_H
#include "common/ops/cpu/cpu.h"

typedef struct Conv {
    int64_t T, H, W, ci, ho, wo, co, kt, kh, kw;
    int64_t run, taps, step, depth;  /* kw * Ci; kt * kh; taps a panel; kt * kh * kw * Ci */
    const float *x, *prefix, *w, *b; /* w, b: set by conv_cpu or winograd_conv */
    float *y;
    const ConvParams *p;
} Conv;

/* Frame t of prefix ++ x, t counted from x's first. */
static inline const float *conv_frame(const Conv *c, int64_t t)
{
    int64_t size = c->H * c->W * c->ci;
    if (t >= 0)
        return c->x + t * size;
    return c->prefix ? c->prefix + (t + c->kt - 1) * size : c->x;
}

/* The kw input pixels from `left` on in one input row, into `to`; those outside are zero. */
void conv_gather_run(const Conv *c, float *to, const float *row, int64_t left);
/* The kernel as floats: in place when it is, else converted into room. */
const float *conv_kernel(Backend *be, float *room, const Tensor *w);
/* Whether conv_few computes this convolution.  Depends on shapes and on the width of the processor's vectors. */
int conv_few_fits(const Conv *c);
/* y of *c; s has room for 4 runs of floats a thread. */
void conv_few(Backend *be, const Conv *c, const CpuScratch *s);
/* Whether Winograd's form computes this convolution, and in less time than the direct one.  Depends
 * on shapes alone. */
int winograd_fits(const Conv *c);
/* y of *c by Winograd's form; sets c->w and c->b. */
WEFT_MUST_CHECK int winograd_conv(Backend *be, Conv *c, const Tensor *w, const Tensor *b, Err *err);
#endif
