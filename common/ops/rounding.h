/* Stochastic rounding to bf16: one rule for host and device, so that ref, cpu, sim and cuda give
 * the same bits for the same float.
 *
 * A float between two neighbouring bf16 values becomes the one away from zero with probability
 * (distance from the other) / (their distance), in units of 2^-16: what bf16 loses is 16 bits, and
 * 16 random bits are added below the last one that stays.  So E[rounded] = x exactly, and a value
 * that bf16 can hold never changes.  Exponent 255 is looked at first: infinities and NaNs stay.
 * What would be carried beyond the largest finite bf16 becomes that, with its sign: rounding never
 * makes an infinity.
 *
 * The noise is a function of (seed, step, element's number) alone: not of threads, launches or back
 * ends. */
#ifndef WEFT_COMMON_OPS_ROUNDING_H
#define WEFT_COMMON_OPS_ROUNDING_H
#include <stdint.h>
#include <string.h>

#ifndef HOST_AND_DEVICE /* port.h says what it takes where kernels are compiled */
#define HOST_AND_DEVICE
#endif

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014): every bit of x reaches every bit of the
 * result. */
static inline HOST_AND_DEVICE uint64_t rounding_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* What a seed and a step are in noise. */
static inline uint64_t rounding_key(uint64_t seed, int64_t step)
{
    return rounding_mix(rounding_mix(seed + 0x9e3779b97f4a7c15u) + (uint64_t)step);
}

/* 16 random bits for element i. */
static inline HOST_AND_DEVICE uint32_t rounding_noise(uint64_t key, int64_t i)
{
    return (uint32_t)(rounding_mix(key + (uint64_t)i * 0x9e3779b97f4a7c15u) >> 48);
}

/* x rounded: a float that bf16 can hold, or the NaN that x is. */
static inline HOST_AND_DEVICE float round_stochastic(float x, uint32_t noise)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7f800000u) == 0x7f800000u)
        return x;
    const uint32_t r = (u + noise) & 0xffff0000u, largest = (u & 0x80000000u) | 0x7f7f0000u;
    u = (r & 0x7f800000u) == 0x7f800000u ? largest : r;
    memcpy(&x, &u, sizeof x);
    return x;
}
#endif
