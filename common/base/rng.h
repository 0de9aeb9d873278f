/* Random numbers, two kinds.
 *
 * Philox: counter-based (Salmon et al. 2011, Philox 4x32-10), keyed by (seed, purpose, epoch,
 * sample), so that a draw depends on nothing but its name: not on thread count, rank, order or
 * resume point.
 * Torch: the Mersenne Twister stream of `torch.manual_seed(s); torch.randn(shape)` in float32 on
 * the CPU. */
#ifndef WEFT_COMMON_BASE_RNG_H
#define WEFT_COMMON_BASE_RNG_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum RngPurpose { /* values are part of every run's reproducibility: append, never renumber */
                          RNG_POSTERIOR = 1,
                          RNG_NOISE = 2,
                          RNG_TIMESTEP = 3,
                          RNG_ORDER = 4,
                          RNG_CAPTION = 5,
                          RNG_SAMPLER = 6,
                          RNG_INIT = 7,
                          RNG_TEST = 8,
                          RNG_SPLIT = 9,
                          RNG_DROPOUT = 10,
                          RNG_CATEGORY = 11,
                          RNG_HELD_OUT = 16,
                          RNG_BOOTSTRAP = 17
} RngPurpose;

typedef struct Philox {
    uint32_t key[2];
    uint32_t ctr[4]; /* ctr[0..1]: block index; ctr[2..3]: purpose and stream */
} Philox;

/* The raw block function: out = philox4x32-10(ctr, key). Known answers are in Random123's
 * kat_vectors. */
void philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);
/* A stream named by its arguments. */
Philox philox_stream(uint64_t seed, RngPurpose purpose, uint64_t epoch, uint64_t sample);
/* Element i of the stream, random access: 32 bits; uniform in [0,1) with 24 bits; standard normal
 * (Box-Muller on the block that holds i, in double, rounded to float). */
uint32_t philox_u32(const Philox *p, uint64_t i);
float philox_uniform(const Philox *p, uint64_t i);
float philox_normal(const Philox *p, uint64_t i);
void philox_fill_normal(const Philox *p, uint64_t first, float *out, int64_t n);
/* Element i reduced to 0..n-1 without bias worth speaking of (64-bit multiply-shift); n >= 1. */
uint64_t philox_below(const Philox *p, uint64_t i, uint64_t n);
/* perm[0..n-1] becomes a permutation (Fisher-Yates on the stream). */
void philox_permutation(const Philox *p, int64_t *perm, int64_t n);

/* Mersenne Twister 19937 as torch.Generator (CPU) uses it, with the cached second Box-Muller value
 * of the scalar path.
 * torch_randn continues the stream: two calls draw what two torch.randn calls draw.
 * Sizes under 16 take torch's scalar (double Box-Muller) path, others its blocks of 16 with the
 * tail redrawn; both match torch to 2e-6 absolute. */
typedef struct TorchRng {
    uint32_t state[624];
    int32_t left, next;
    int32_t has_normal;
    double next_normal;
} TorchRng;
void torch_seed(TorchRng *r, uint64_t seed);
uint32_t torch_u32(TorchRng *r);
void torch_randn(TorchRng *r, float *out, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
