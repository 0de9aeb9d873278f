/* C[m,n] = (0 or C) + op(A)[m,k] B[k,n] where B and the rows of A and C in use lie in a core's own caches, as the
 * tiles of attention do.  A block of C is summed in registers while k runs; nothing is packed, and C is not set to
 * zero before.  BLAS, made for large matrices, spends a quarter to two fifths of its time on both at such sizes. */
#ifndef WEFT_COMMON_OPS_CPU_BLOCK_H
#define WEFT_COMMON_OPS_CPU_BLOCK_H
#include <stdint.h>

#ifdef __AVX512F__
enum { BLOCK_LANES = 16, BLOCK_M = 12 }; /* 24 of 32 registers hold sums */
#else
enum { BLOCK_LANES = 8, BLOCK_M = 6 }; /* 12 of 16 */
#endif
enum { BLOCK_N = 2 * BLOCK_LANES };
typedef float BlockLanes __attribute__((vector_size(4 * BLOCK_LANES), aligned(4), may_alias));

/* One block of C, `wide` (1 or 2, a constant) times BLOCK_LANES columns.  Row i of A at a + i * down, its element s at
 * s * along from there. */
static inline __attribute__((always_inline)) void block_sum(int64_t k, const float *a, int64_t down, int64_t along,
                                                            const float *b, int64_t ldb, float *c, int64_t ldc,
                                                            int wide, int add)
{
    BlockLanes sum[BLOCK_M][2] = {0};
    for (int64_t s = 0; s < k; s++, a += along, b += ldb) {
        BlockLanes left = *(const BlockLanes *)b, right = *(const BlockLanes *)(b + (wide - 1) * BLOCK_LANES);
        for (int i = 0; i < BLOCK_M; i++) {
            sum[i][0] += a[i * down] * left;
            if (wide == 2)
                sum[i][1] += a[i * down] * right;
        }
    }
    for (int i = 0; i < BLOCK_M; i++)
        for (int l = 0; l < wide; l++) {
            BlockLanes *to = (BlockLanes *)(c + i * ldc + l * BLOCK_LANES);
            *to = sum[i][l] + (add ? *to : (BlockLanes){0});
        }
}

/* m is rounded up to a multiple of BLOCK_M and n of BLOCK_N: A, B and C must have room for that, and what A has there
 * only reaches what C has there.  ta: A is [k,m]. */
static inline void block_product(int ta, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                                 int64_t ldb, float *c, int64_t ldc, int add)
{
    for (int64_t j = 0; j < n; j += BLOCK_N)
        for (int64_t i = 0; i < m; i += BLOCK_M)
            if (ta)
                block_sum(k, a + i, 1, lda, b + j, ldb, c + i * ldc + j, ldc, 2, add);
            else
                block_sum(k, a + i * lda, lda, 1, b + j, ldb, c + i * ldc + j, ldc, 2, add);
}
#endif
