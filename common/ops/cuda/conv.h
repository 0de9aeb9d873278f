/* Between the convolution's files: the arguments, and the two families of kernels. */
#ifndef WEFT_COMMON_OPS_CUDA_CONV_H
#define WEFT_COMMON_OPS_CUDA_CONV_H
#include "common/ops/cuda/device.h"

/* y[T,Ho,Wo,Co] (+)= conv(prefix ++ x[T,H,W,Ci]) with w[Co,kt,kh,kw,Ci]; a frame of each and the
 * weights have less than 2^29 elements. */
struct ConvArgs {
    bf16 *y;
    const bf16 *x, *prefix; /* prefix NULL: the first frame of x repeated */
    Vec w, b;
    int T, H, W, Ci, Ho, Wo, Co, kt, kh, kw, stride, top, left, add;
};

/* Frame t of prefix ++ x, t counted from x's first. */
__device__ __forceinline__ const bf16 *conv_frame(const ConvArgs &a, int t)
{
    const int64_t size = (int64_t)a.H * a.W * a.Ci;
    if (t >= 0)
        return a.x + t * size;
    return a.prefix ? a.prefix + (t + a.kt - 1) * size : a.x;
}
static inline int64_t conv_rows(const ConvArgs *a)
{
    return (int64_t)a->T * a->Ho * a->Wo;
}

/* bf16 weights, at most 28 taps in a frame: tensor cores. */
WEFT_MUST_CHECK int conv_gemm(Device *d, const ConvArgs *a, Err *err);
/* The same on warpgroup products (compute capability 9.0), for wide layers: those that
 * conv_90_takes() is true for. */
bool conv_90_takes(const ConvArgs *a);
WEFT_MUST_CHECK int conv_90(Device *d, const ConvArgs *a, Err *err);
#endif
