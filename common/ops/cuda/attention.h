/* Between attention's files: the arguments, and the two families of kernels. */
#ifndef WEFT_COMMON_OPS_CUDA_ATTENTION_H
#define WEFT_COMMON_OPS_CUDA_ATTENTION_H
#include "common/ops/cuda/device.h"

struct AttentionArgs {
    bf16 *o, *gq, *gk, *gv;     /* outputs */
    const bf16 *q, *k, *v, *go; /* [B,S,heads*hd] */
    float *lse;                 /* [B,heads,Sq], written forward (may be NULL), read backward */
    float *delta;               /* [B,heads,Sq], sum over a head of go*o: the plain kernels' scratch */
    const float *bias;          /* [heads,Sq,Sk] or NULL */
    int64_t B, heads, hd, Sq, Sk;
    float scale;
    int causal;
};

WEFT_MUST_CHECK int attention_plain(Device *d, const AttentionArgs *a, Err *err);
WEFT_MUST_CHECK int attention_plain_backward(Device *d, const AttentionArgs *a, Err *err);
/* Head dimension 64, no bias, not causal, 16-byte aligned: tensor cores. */
WEFT_MUST_CHECK int attention_64(Device *d, const AttentionArgs *a, Err *err);
WEFT_MUST_CHECK int attention_64_backward(Device *d, const AttentionArgs *a, Err *err);
/* The same on warpgroup products: compute capability 9.0. */
WEFT_MUST_CHECK int attention_90(Device *d, const AttentionArgs *a, Err *err);
#endif
