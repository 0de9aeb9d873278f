/* Between the two families of kernels for head dimension 64: mma.sync's (attention_64*.cu) and
 * wgmma's (attention_90.cu). */
#ifndef WEFT_COMMON_OPS_CUDA_ATTENTION_64_H
#define WEFT_COMMON_OPS_CUDA_ATTENTION_64_H
#include "common/ops/cuda/attention.h"

#define LOG2E 1.4426950408889634f
#define MASKED (-1e30f) /* finite, so that max-subtraction never meets inf - inf */

/* STREAM: queries a tile of the backward pass */
enum { HEAD = 64, CHUNKS = HEAD / 8, STREAM = 32, TILE_WORDS = STREAM * HEAD };

/* One (sequence, head): element (row, dim) of q, k, v, o at base + row*stride + dim; S rows. */
struct Slice {
    int64_t base;
    int stride, S;
};
__device__ __forceinline__ Slice slice_of(const AttentionArgs &a, int64_t S, int first_slice)
{
    const int heads = (int)a.heads, n = first_slice + blockIdx.y, b = n / heads, h = n % heads, stride = heads * HEAD;
    return Slice{b * S * stride + h * HEAD, stride, (int)S};
}

/* Of a tile's queries: log-sum-exp in units of log2 and delta = go.o; missing queries get P = 0.
 * Of the tile before: the factor that turns its gQ into integers, which is done one tile later; so
 * a slice has one more of these than tiles. */
struct QueryFacts {
    float lse2[STREAM], delta[STREAM], multiplier_before[STREAM];
};

/* gK and gV of slices [first, first + n), and their share of gQ's sums (int32, zero before;
 * TILE_WORDS a tile of queries, register e of lane l of warp w at 512 w + 32 e + l as
 * attention_64_backward.cu's add_to_gq has it): compute capability 9.0. */
WEFT_MUST_CHECK int attention_90_backward_products(Device *d, const AttentionArgs *a, int32_t *sums,
                                                   const QueryFacts *queries, int64_t first, int64_t n, Err *err);
#endif
