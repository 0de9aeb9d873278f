/* Attention with head dimension 64 on warpgroup products (wgmma, compute capability 9.0); after Shah et al., FlashAttention-3 (2024).
 *
 * A block owns ROWS queries, 64 a warpgroup, and streams tiles of KEYS keys.  S = Q K^T reads both from shared memory; P, packed to
 * bf16, is the register operand of O += P V.  The scores of the next tile and the values of this one are in flight together, and the
 * softmax of the next runs while the values are still being multiplied:
 *
 *   issue S(j+1) = Q K(j+1)^T; issue O += P(j) V(j); wait for S(j+1); softmax of S(j+1); wait for O; rescale O; pack P(j+1)
 *
 * Tiles and ragged ends as in attention_64.cu.  One barrier a tile: it makes K(j+1) and V(j) known and says that everyone is done with
 * K(j) and V(j-1), whose places the copies of K(j+2) and V(j+1) take. */
#include "common/ops/cuda/attention.h"

#define LOG2E 1.4426950408889634f
#define MASKED (-1e30f) /* finite, so that max-subtraction never meets inf - inf */

enum { HEAD = 64, CHUNKS = HEAD / 8, GROUPS = 3, THREADS = 128 * GROUPS, ROWS = 64 * GROUPS, KEYS = 128, STAGES = 2, TILE = KEYS * HEAD };

/* One (sequence, head): element (row, dim) of q, k, v, o at base + row*stride + dim; S rows. */
struct Slice { int64_t base; int stride, S; };
__device__ __forceinline__ Slice slice_of(const AttentionArgs &a, int64_t S)
{
    const int heads = (int)a.heads, b = blockIdx.y / heads, h = blockIdx.y % heads, stride = heads * HEAD;
    return Slice{b * S * stride + h * HEAD, stride, (int)S};
}

/* Starts copying rows [first, first+N) of x into a tile, chunk c of row r to c ^ (r & 7); rows past the last become zeros. */
template <int N> __device__ __forceinline__ void load_tile(bf16 *tile, const bf16 *x, const Slice &s, int first)
{
#pragma unroll
    for (int i = 0; i < (N * CHUNKS + THREADS - 1) / THREADS; i++) {
        const int id = threadIdx.x + i * THREADS, row = id / CHUNKS, chunk = id % CHUNKS, g = first + row;
        if (N * CHUNKS % THREADS && id >= N * CHUNKS) continue;
        cp_async_16(tile + row * HEAD + ((chunk ^ (row & 7)) << 3), x + s.base + ((g < s.S ? g : 0) * s.stride + chunk * 8), g < s.S ? 16 : 0);
    }
}

/* What this thread copied before is there for everyone's products; and everyone has come here. */
template <int PENDING> __device__ __forceinline__ void tiles_ready(void)
{
    cp_async_wait<PENDING>();
    fence_async();
    __syncthreads();
}

__device__ __forceinline__ void issue_scores(float (&s)[KEYS / 8][4], uint64_t q, uint64_t k)
{
    wgmma_fence();
    wgmma<0, 0, 0>(s, q, k);
#pragma unroll
    for (int kk = 1; kk < HEAD / 16; kk++) wgmma<1, 0, 0>(s, q + kk * WGMMA_NEXT_CHUNKS, k + kk * WGMMA_NEXT_CHUNKS);
    wgmma_commit();
}

__device__ __forceinline__ void issue_values(float (&o)[CHUNKS][4], const uint32_t (&p)[KEYS / 16][4], uint64_t v)
{
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) wgmma<1, 1>(o, p[j], v + j * 2 * WGMMA_NEXT_EIGHT);
    wgmma_commit();
}

struct Softmax { float top[2], sum[2]; }; /* of raw scores, rows l/4 and 8 further; sum is this lane's share */

/* s becomes exp2((s - max) c); shrink: the factor for what was summed with the maximum before. */
__device__ __forceinline__ void online_softmax(float (&s)[KEYS / 8][4], float (&shrink)[2], Softmax *m, float c)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = m->top[half];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) top = fmaxf(top, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        const float shift = top * c;
        shrink[half] = exp2_fast((m->top[half] - top) * c);
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                s[j][e] = exp2_fast(s[j][e] * c - shift);
                sum += s[j][e];
            }
        m->top[half] = top;
        m->sum[half] = m->sum[half] * shrink[half] + sum;
    }
}

__device__ __forceinline__ void mask_columns(float (&s)[KEYS / 8][4], int first, int S)
{
    const int l = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (first + 8 * j + (l & 3) * 2 + (e & 1) >= S) s[j][e] = MASKED;
}

/* Two neighbouring groups of eight columns are one register operand of 16 (gpu.md's fragment layouts: the same as mma.m16n8k16's). */
__device__ __forceinline__ void pack(uint32_t (&p)[KEYS / 16][4], const float (&s)[KEYS / 8][4])
{
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) p[j][i] = pack_bf16(s[2 * j + i / 2][i % 2 * 2], s[2 * j + i / 2][i % 2 * 2 + 1]);
}

__device__ __forceinline__ void rescale(float (&o)[CHUNKS][4], const float (&by)[2])
{
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) o[j][e] *= by[e >> 1];
}

static size_t forward_shared(void) { return (size_t)(ROWS * HEAD + 2 * STAGES * TILE) * sizeof(bf16); }

__global__ void __launch_bounds__(THREADS, 1) attention_90_forward(AttentionArgs a)
{
    SMEM_TILES(bf16, shared);
    bf16 *tq = shared, *tk = tq + ROWS * HEAD, *tv = tk + STAGES * TILE;
    const int l = threadIdx.x & 31, row0 = blockIdx.x * ROWS, own_row0 = (threadIdx.x >> 5) * 16;
    const Slice sq = slice_of(a, a.Sq), sk = slice_of(a, a.Sk);
    const float c = a.scale * LOG2E;
    const uint64_t q = wgmma_tile(tq + threadIdx.x / 128 * 64 * HEAD);
    float s[KEYS / 8][4], o[CHUNKS][4], shrink[2];
    uint32_t p[KEYS / 16][4];
    Softmax m = {{MASKED, MASKED}, {0.0f, 0.0f}};

    load_tile<ROWS>(tq, a.q, sq, row0);
    load_tile<KEYS>(tk, a.k, sk, 0);
    cp_async_commit();
    if (KEYS < sk.S) load_tile<KEYS>(tk + TILE, a.k, sk, KEYS);
    load_tile<KEYS>(tv, a.v, sk, 0);
    cp_async_commit();
    tiles_ready<1>();
    issue_scores(s, q, wgmma_tile(tk));
    wgmma_wait<0>();
    if (KEYS > sk.S) mask_columns(s, 0, sk.S);
    online_softmax(s, shrink, &m, c);
    pack(p, s);
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) o[j][e] = 0.0f;

    int stage = 0, next = KEYS; /* of this tile's keys and values; the first key of the next tile */
    for (; next < sk.S; stage ^= 1, next += KEYS) {
        tiles_ready<0>();
        if (next + KEYS < sk.S) load_tile<KEYS>(tk + stage * TILE, a.k, sk, next + KEYS);
        load_tile<KEYS>(tv + (stage ^ 1) * TILE, a.v, sk, next);
        cp_async_commit();
        issue_scores(s, q, wgmma_tile(tk + (stage ^ 1) * TILE));
        issue_values(o, p, wgmma_tile(tv + stage * TILE));
        wgmma_wait<1>();
        if (next + KEYS > sk.S) mask_columns(s, next, sk.S);
        online_softmax(s, shrink, &m, c);
        wgmma_wait<0>();
        rescale(o, shrink);
        pack(p, s);
    }
    tiles_ready<0>();
    issue_values(o, p, wgmma_tile(tv + stage * TILE));
    wgmma_wait<0>();

    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = m.sum[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        inverse[half] = 1.0f / sum;
        const int row = row0 + own_row0 + (l >> 2) + 8 * half;
        if (a.lse && (l & 3) == 0 && row < sq.S) a.lse[(int64_t)blockIdx.y * sq.S + row] = m.top[half] * a.scale + logf(sum);
    }
    rescale(o, inverse);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = row0 + own_row0 + (l >> 2) + 8 * half;
        if (row >= sq.S) continue;
        bf16 *at = a.o + sq.base + (int64_t)row * sq.stride + (l & 3) * 2;
#pragma unroll
        for (int j = 0; j < CHUNKS; j++) *(uint32_t *)(at + 8 * j) = pack_bf16(o[j][2 * half], o[j][2 * half + 1]);
    }
}

/* ---- launchers ---------------------------------------------------------------------------------------------------------------- */

int attention_90(Device *d, const AttentionArgs *a, Err *err)
{
    DEVICE_TRY(device_check(cudaFuncSetAttribute((const void *)attention_90_forward, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)forward_shared()),
                            "attention's shared memory", err));
    LAUNCH((attention_90_forward), dim3(blocks_for(a->Sq, ROWS), (unsigned)(a->B * a->heads)), dim3(THREADS), forward_shared(), d->compute, *a);
    return device_launched("attention", err);
}
