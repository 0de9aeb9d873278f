#include "common/base/rng.h"
#include <math.h>

#define TWO_PI 6.283185307179586476925

/* ---- Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 ---- */

void philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t next0 = (uint32_t)(b >> 32) ^ c1 ^ k0, next2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c0 = next0;
        c1 = (uint32_t)b;
        c2 = next2;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u; /* Weyl steps of the key: golden ratio, sqrt(3)-1 */
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The name (purpose, epoch, sample) is hashed to a stream by Philox itself under the seed's key:
 * 128 bits in, of which 64 become the upper half of the stream's counter and 64 its key.  Two names
 * meet with probability 2^-128. */
Philox philox_stream(uint64_t seed, RngPurpose purpose, uint64_t epoch, uint64_t sample)
{
    const uint32_t seed_key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t who[4] = {(uint32_t)purpose, 0, (uint32_t)epoch, (uint32_t)(epoch >> 32)};
    uint32_t mixed[4], name[4];
    philox4x32(who, seed_key, mixed);
    mixed[0] ^= (uint32_t)sample;
    mixed[1] ^= (uint32_t)(sample >> 32);
    philox4x32(mixed, seed_key, name);
    return (Philox){.key = {name[0], name[1]}, .ctr = {0, 0, name[2], name[3]}};
}

static void block(const Philox *p, uint64_t index, uint32_t out[4])
{
    const uint32_t ctr[4] = {(uint32_t)index, (uint32_t)(index >> 32), p->ctr[2], p->ctr[3]};
    philox4x32(ctr, p->key, out);
}

uint32_t philox_u32(const Philox *p, uint64_t i)
{
    uint32_t out[4];
    block(p, i / 4, out);
    return out[i % 4];
}

float philox_uniform(const Philox *p, uint64_t i)
{
    return (float)(philox_u32(p, i) >> 8) * 0x1p-24f;
}

/* Four normals from a block: words 0 and 2 give the radius (never zero, so that its logarithm is
 * finite), 1 and 3 the angle. */
static void block_normals(const Philox *p, uint64_t index, float out[4])
{
    uint32_t bits[4];
    block(p, index, bits);
    for (int half = 0; half < 4; half += 2) {
        double radius = sqrt(-2 * log(((double)bits[half] + 0.5) * 0x1p-32));
        double angle = TWO_PI * ((double)bits[half + 1] * 0x1p-32);
        out[half] = (float)(radius * cos(angle));
        out[half + 1] = (float)(radius * sin(angle));
    }
}

float philox_normal(const Philox *p, uint64_t i)
{
    float four[4];
    block_normals(p, i / 4, four);
    return four[i % 4];
}

void philox_fill_normal(const Philox *p, uint64_t first, float *out, int64_t n)
{
    float four[4];
    for (int64_t i = 0; i < n;) {
        uint64_t at = first + (uint64_t)i;
        block_normals(p, at / 4, four);
        for (uint64_t j = at % 4; j < 4 && i < n; j++)
            out[i++] = four[j];
    }
}

uint64_t philox_below(const Philox *p, uint64_t i, uint64_t n)
{
    uint32_t out[4];
    block(p, i, out); /* one block an element: 64 bits are wanted */
    uint64_t x = (uint64_t)out[1] << 32 | out[0];
    return (uint64_t)((unsigned __int128)x * n >> 64);
}

void philox_permutation(const Philox *p, int64_t *perm, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        perm[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)philox_below(p, (uint64_t)i, (uint64_t)i + 1), held = perm[i];
        perm[i] = perm[j];
        perm[j] = held;
    }
}

/* ---- torch's CPU generator: MT19937 (Matsumoto and Nishimura 1998), seeded from the low 32 bits ---- */

enum { MT_N = 624, MT_M = 397 };

void torch_seed(TorchRng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < MT_N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->left = 1;
    r->next = 0;
    r->has_normal = 0;
    r->next_normal = 0;
}

static uint32_t twist(uint32_t high, uint32_t low)
{
    uint32_t y = (high & 0x80000000u) | (low & 0x7FFFFFFFu);
    return y >> 1 ^ (low & 1 ? 0x9908B0DFu : 0);
}

static void next_state(TorchRng *r)
{
    uint32_t *s = r->state;
    for (int i = 0; i < MT_N; i++)
        s[i] = s[(i + MT_M) % MT_N] ^ twist(s[i], s[(i + 1) % MT_N]);
    r->left = MT_N;
    r->next = 0;
}

uint32_t torch_u32(TorchRng *r)
{
    if (--r->left == 0)
        next_state(r);
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

static float uniform_24(TorchRng *r)
{
    return (float)(torch_u32(r) & 0xFFFFFFu) * 0x1p-24f;
}

static double uniform_53(TorchRng *r)
{
    uint64_t high = torch_u32(r), low = torch_u32(r);
    return (double)((high << 32 | low) & 0x1FFFFFFFFFFFFFull) * 0x1p-53;
}

/* Box-Muller in double, the sine kept for the next call: the generator's cache outlives the randn
 * call. */
static double scalar_normal(TorchRng *r)
{
    if (r->has_normal) {
        r->has_normal = 0;
        return r->next_normal;
    }
    double angle = TWO_PI * uniform_53(r);
    double radius = sqrt(-2 * log1p(-uniform_53(r)));
    r->has_normal = 1;
    r->next_normal = radius * sin(angle);
    return radius * cos(angle);
}

/* 16 uniforms become 16 normals, in pairs (j, j+8).  The angle is rounded to float, as torch does;
 * the rest is double. */
static void box_muller_16(float *x)
{
    for (int j = 0; j < 8; j++) {
        double radius = sqrt(-2 * log(1.0 - (double)x[j]));
        double angle = (double)((float)TWO_PI * x[j + 8]);
        x[j] = (float)(radius * cos(angle));
        x[j + 8] = (float)(radius * sin(angle));
    }
}

void torch_randn(TorchRng *r, float *out, int64_t n)
{
    if (n < 16) {
        for (int64_t i = 0; i < n; i++)
            out[i] = (float)scalar_normal(r);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = uniform_24(r);
    for (int64_t i = 0; i + 16 <= n; i += 16)
        box_muller_16(out + i);
    if (n % 16 == 0)
        return;
    float *tail = out + n - 16; /* the last 16 are drawn again, over what was there */
    for (int i = 0; i < 16; i++)
        tail[i] = uniform_24(r);
    box_muller_16(tail);
}
