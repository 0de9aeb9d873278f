/* Small kernels for the simulator's own tests, compiled as the back end's are.  The simulated
 * device's memory is the host's, so that they take host pointers.  Each launches, waits and returns
 * the fault's sentence, or "". */
#ifndef WEFT_TESTS_OPS_SIM_KERNELS_H
#define WEFT_TESTS_OPS_SIM_KERNELS_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The wrappers of port.h.  tile: 16 rows of 16; out: the four registers of each lane. */
const char *run_ldmatrix(uint32_t out[32][4], const uint16_t tile[256], int trans);
const char *run_mma(float d[32][4], const uint32_t a[32][4], const uint32_t b[32][2]); /* d: in and out */
/* out[0..2][lane]: shuffle by xor 5, from lane 7, down by 3; of value[lane]. */
const char *run_shuffles(float out[3][32], const float value[32]);
/* Three groups of copies of 32 x 16 bytes; two are waited for and written out, the third after its
 * own wait.  Odd lanes ask for zeros. */
const char *run_copies(uint8_t out[3][512], const uint8_t in[3][512]);
/* Conversions of n values: float to bf16 and back, to half, half to float, exp2. */
const char *run_conversions(uint16_t *bf, float *back, uint16_t *half, float *from_half, float *exp2,
                            const float *value, const uint16_t *h, int64_t n);
/* Eight rows of eight chunks through ldmatrix: with the kernels' swizzle, or without. */
const char *run_rows(uint32_t out[32][4], int swizzle);

/* What must be found. */
typedef enum Mistake {
    WHOLE,
    DIVERGENT_BARRIER,
    RETURN_BEFORE_BARRIER,
    SHUFFLE_IN_A_BRANCH,
    DIFFERENT_COLLECTIVES,
    DEADLOCK,
    ODD_LDMATRIX,
    LDMATRIX_OUTSIDE,
    ODD_LOAD16,
    ODD_COPY,
    PENDING_COPY,
    PAST_ARRAY,
    PAST_DYNAMIC,
    UNWRITTEN,
    TOO_MUCH_SHARED,
    TOO_MANY_THREADS,
    BLOCK_RACE,
    MISTAKES
} Mistake;
/* out[64]: 2 tid for 64 threads when whole. */
const char *run_mistake(float out[64], Mistake mistake);

/* Warpgroup products: out[64][64] = a b^T of 64 x 64 bf16 numbers by 128 threads, whole or with one
 * mistake. */
typedef enum WgmmaMistake {
    WGMMA_WHOLE,
    WGMMA_NO_FENCE,
    WGMMA_NO_ASYNC_FENCE,
    WGMMA_NO_WAIT,
    WGMMA_READ_EARLY,
    WGMMA_WRITTEN_EARLY,
    WGMMA_OPERAND_CHANGED,
    WGMMA_THREE_WARPS,
    WGMMA_NO_SWIZZLE_BITS,
    WGMMA_OUTSIDE,
    WGMMA_UNALIGNED_MEMORY, /* and those that only give wrong numbers: */
    WGMMA_TILE_OVERWRITTEN,
    WGMMA_OVERWRITTEN_AFTER_OWN_WAIT,
    WGMMA_WRONG_STRIDE,
    WGMMA_TILE_BETWEEN,
    WGMMA_MISTAKES
} WgmmaMistake;
const char *run_wgmma(float out[64][64], const uint16_t a[64][64], const uint16_t b[64][64], WgmmaMistake mistake);
#ifdef __cplusplus
}
#endif
#endif
