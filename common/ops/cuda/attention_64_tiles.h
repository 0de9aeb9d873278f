/* Tiles and fragments that the forward and the backward kernels of head dimension 64 share
 * (attention_64.cu, attention_64_backward.cu). */
#ifndef WEFT_COMMON_OPS_CUDA_ATTENTION_64_TILES_H
#define WEFT_COMMON_OPS_CUDA_ATTENTION_64_TILES_H
#include "common/ops/cuda/attention_64.h"

enum { WARPS = 4, THREADS = 32 * WARPS, ROW_TILES = 2, ROWS = 16 * ROW_TILES * WARPS };

__device__ __forceinline__ int swizzled(int row, int chunk)
{
    return row * HEAD + ((chunk ^ (row & 7)) << 3);
}

/* Starts copying rows [first, first+N) of x into a tile; rows past the last become zeros. */
template <int N>
__device__ __forceinline__ void load_tile(bf16 *tile, const bf16 *x, const Slice &s, int first)
{
    const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS, at = (first + row) * s.stride + chunk * 8;
#pragma unroll
    for (int i = 0; i < N; i += THREADS / CHUNKS)
        cp_async_16(tile + swizzled(row, chunk) + i * HEAD, x + s.base + at + i * s.stride,
                    first + row + i < s.S ? 16 : 0);
}

/* Where a lane's row of a fragment lies, for ldmatrix: counted from the fragment's first row, a
 * multiple of 8, at dim 0.  Dims are chosen by xor with 16 times the number of the 16, as the
 * swizzle leaves it: one addition and one xor an address. */
struct Lanes {
    int a, b;
};
__device__ __forceinline__ Lanes lanes()
{
    const int l = threadIdx.x & 31;
    return Lanes{swizzled(l & 15, l >> 4), swizzled((l & 7) + (l >> 4 << 3), l >> 3 & 1)};
}
/* 16x16 of A at (row, 16 kk) */
__device__ __forceinline__ void fragment_a(uint32_t f[4], const bf16 *rows, const Lanes &at, int kk)
{
    ldmatrix_x4(f, rows + (at.a ^ kk * 16));
}
/* 16 columns of B = rows^T, k at 16 kk */
__device__ __forceinline__ void fragment_b(uint32_t f[4], const bf16 *rows, const Lanes &at, int kk)
{
    ldmatrix_x4(f, rows + (at.b ^ kk * 16));
}
/* k = 16 rows, columns 16 dd.. of B = rows */
__device__ __forceinline__ void fragment_b_trans(uint32_t f[4], const bf16 *rows, const Lanes &at, int dd)
{
    ldmatrix_x4_trans(f, rows + (at.a ^ dd * 16));
}

template <int A, int B>
__device__ __forceinline__ void clear(float (&x)[A][B][4])
{
#pragma unroll
    for (int i = 0; i < A; i++)
#pragma unroll
        for (int j = 0; j < B; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                x[i][j][e] = 0.0f;
}

/* s[rows][N] = this warp's rows `own` times rows of `other` transposed, over the 64 dims. */
template <int N>
__device__ __forceinline__ void scores(float (&s)[ROW_TILES][N / 8][4], const bf16 *own, const bf16 *other,
                                       const Lanes &at)
{
    clear(s);
#pragma unroll
    for (int kk = 0; kk < HEAD / 16; kk++) {
        uint32_t fa[ROW_TILES][4];
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
            fragment_a(fa[i], own + 16 * i * HEAD, at, kk);
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            uint32_t fb[4];
            fragment_b(fb, other + 16 * j * HEAD, at, kk);
#pragma unroll
            for (int i = 0; i < ROW_TILES; i++) {
                mma_16816(s[i][2 * j], fa[i], fb);
                mma_16816(s[i][2 * j + 1], fa[i], fb + 2);
            }
        }
    }
}

/* Accumulators as the A fragments of the next product. */
template <int N>
__device__ __forceinline__ void pack_rows(uint32_t (&f)[N / 16][ROW_TILES][4], const float (&p)[ROW_TILES][N / 8][4])
{
#pragma unroll
    for (int j = 0; j < N / 16; j++)
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                f[j][i][e] = pack_bf16(p[i][2 * j + e / 2][e % 2 * 2], p[i][2 * j + e / 2][e % 2 * 2 + 1]);
}

/* out[rows][64] += p[rows][N] times the N rows of `tile`. */
template <int N>
__device__ __forceinline__ void accumulate(float (&out)[ROW_TILES][CHUNKS][4],
                                           const uint32_t (&p)[N / 16][ROW_TILES][4], const bf16 *tile, const Lanes &at)
{
#pragma unroll
    for (int j = 0; j < N / 16; j++)
#pragma unroll
        for (int dd = 0; dd < HEAD / 16; dd++) {
            uint32_t fb[4];
            fragment_b_trans(fb, tile + 16 * j * HEAD, at, dd);
#pragma unroll
            for (int i = 0; i < ROW_TILES; i++) {
                mma_16816(out[i][2 * dd], p[j][i], fb);
                mma_16816(out[i][2 * dd + 1], p[j][i], fb + 2);
            }
        }
}

/* Writes this warp's rows, each times `factor[i][half]`. */
__device__ __forceinline__ void write_rows(bf16 *x, const Slice &s, int row0, const float (&v)[ROW_TILES][CHUNKS][4],
                                           const float (&factor)[ROW_TILES][2])
{
    const int l = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = row0 + 16 * i + (l >> 2) + 8 * half;
            if (row >= s.S)
                continue;
            bf16 *at = x + s.base + (int64_t)row * s.stride + (l & 3) * 2;
#pragma unroll
            for (int j = 0; j < CHUNKS; j++)
                *(uint32_t *)(at + 8 * j) = pack_bf16(v[i][j][2 * half] * factor[i][half],
                                                      v[i][j][2 * half + 1] * factor[i][half]);
        }
}

/* Of launches. */
static inline dim3 grid_over(int64_t rows, int per_block, int64_t slices)
{
    return dim3(blocks_for(rows, per_block), (unsigned)slices);
}

static inline int allow_shared(const void *kernel, size_t bytes, Err *err)
{
    return device_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                        "attention's shared memory", err);
}
#endif
