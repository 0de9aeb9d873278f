/* Attention with head dimension 64 on warpgroup products (wgmma, compute capability 9.0); after
 * Shah et al., FlashAttention-3 (2024).
 *
 * A block owns ROWS queries, 64 a warpgroup, and streams tiles of KEYS keys.  S = Q K^T reads both
 * from shared memory; P, packed to bf16, is the register operand of O += P V.  The scores of the
 * next tile and the values of this one are in flight together, and the softmax of the next runs
 * while the values are still being multiplied:
 *
 *   issue S(j+1) = Q K(j+1)^T; issue O += P(j) V(j); wait for S(j+1); softmax of S(j+1); wait for
 *   O; rescale O; pack P(j+1)
 *
 * Tiles and ragged ends as in attention_64.cu.  One barrier a tile: it makes K(j+1) and V(j) known
 * and says that everyone is done with K(j) and V(j-1), whose places the copies of K(j+2) and V(j+1)
 * take. */
#include "common/ops/cuda/attention_64.h"

enum { GROUPS = 3, THREADS = 128 * GROUPS, ROWS = 64 * GROUPS, KEYS = 128, STAGES = 2, TILE = KEYS * HEAD };

/* Starts copying rows [first, first+N) of x into a tile, chunk c of row r to c ^ (r & 7); rows past
 * the last become zeros. */
template <int N, int THREADS>
__device__ __forceinline__ void load_tile(bf16 *tile, const bf16 *x, const Slice &s, int first)
{
#pragma unroll
    for (int i = 0; i < (N * CHUNKS + THREADS - 1) / THREADS; i++) {
        const int id = threadIdx.x + i * THREADS, row = id / CHUNKS, chunk = id % CHUNKS, g = first + row;
        if (N * CHUNKS % THREADS && id >= N * CHUNKS)
            continue;
        cp_async_16(tile + row * HEAD + ((chunk ^ (row & 7)) << 3),
                    x + s.base + ((g < s.S ? g : 0) * s.stride + chunk * 8), g < s.S ? 16 : 0);
    }
}

/* Waits until all threads' copies can be read by products, and for all threads (a barrier). */
template <int PENDING>
__device__ __forceinline__ void tiles_ready(void)
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
    for (int kk = 1; kk < HEAD / 16; kk++)
        wgmma<1, 0, 0>(s, q + kk * WGMMA_NEXT_CHUNKS, k + kk * WGMMA_NEXT_CHUNKS);
    wgmma_commit();
}

__device__ __forceinline__ void issue_values(float (&o)[CHUNKS][4], const uint32_t (&p)[KEYS / 16][4], uint64_t v)
{
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
        wgmma<1, 1>(o, p[j], v + j * 2 * WGMMA_NEXT_EIGHT);
    wgmma_commit();
}

struct Softmax {
    float top[2], sum[2];
}; /* of raw scores, rows l/4 and 8 further; sum is this lane's share */

/* s becomes exp2((s - max) c); shrink: the factor for what was summed with the maximum before. */
__device__ __forceinline__ void online_softmax(float (&s)[KEYS / 8][4], float (&shrink)[2], Softmax *m, float c)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = m->top[half];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
            top = fmaxf(top, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
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
            if (first + 8 * j + (l & 3) * 2 + (e & 1) >= S)
                s[j][e] = MASKED;
}

/* Two neighbouring groups of eight columns are one register operand of 16 (the fragment
 * layouts: the same as mma.m16n8k16's). */
__device__ __forceinline__ void pack(uint32_t (&p)[KEYS / 16][4], const float (&s)[KEYS / 8][4])
{
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            p[j][i] = pack_bf16(s[2 * j + i / 2][i % 2 * 2], s[2 * j + i / 2][i % 2 * 2 + 1]);
}

__device__ __forceinline__ void rescale(float (&o)[CHUNKS][4], const float (&by)[2])
{
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            o[j][e] *= by[e >> 1];
}

static size_t forward_shared(void)
{
    return (size_t)(ROWS * HEAD + 2 * STAGES * TILE) * sizeof(bf16);
}

__global__ void __launch_bounds__(THREADS, 1) attention_90_forward(AttentionArgs a)
{
    SMEM_TILES(bf16, shared);
    bf16 *tq = shared, *tk = tq + ROWS * HEAD, *tv = tk + STAGES * TILE;
    const int l = threadIdx.x & 31, row0 = blockIdx.x * ROWS, own_row0 = (threadIdx.x >> 5) * 16;
    const Slice sq = slice_of(a, a.Sq, 0), sk = slice_of(a, a.Sk, 0);
    const float c = a.scale * LOG2E;
    const uint64_t q = wgmma_tile(tq + threadIdx.x / 128 * 64 * HEAD);
    float s[KEYS / 8][4], o[CHUNKS][4], shrink[2];
    uint32_t p[KEYS / 16][4];
    Softmax m = {{MASKED, MASKED}, {0.0f, 0.0f}};

    load_tile<ROWS, THREADS>(tq, a.q, sq, row0);
    load_tile<KEYS, THREADS>(tk, a.k, sk, 0);
    cp_async_commit();
    if (KEYS < sk.S)
        load_tile<KEYS, THREADS>(tk + TILE, a.k, sk, KEYS);
    load_tile<KEYS, THREADS>(tv, a.v, sk, 0);
    cp_async_commit();
    tiles_ready<1>();
    issue_scores(s, q, wgmma_tile(tk));
    wgmma_wait<0>();
    if (KEYS > sk.S)
        mask_columns(s, 0, sk.S);
    online_softmax(s, shrink, &m, c);
    pack(p, s);
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            o[j][e] = 0.0f;

    int stage = 0, next = KEYS; /* of this tile's keys and values; the first key of the next tile */
    for (; next < sk.S; stage ^= 1, next += KEYS) {
        tiles_ready<0>();
        if (next + KEYS < sk.S)
            load_tile<KEYS, THREADS>(tk + stage * TILE, a.k, sk, next + KEYS);
        load_tile<KEYS, THREADS>(tv + (stage ^ 1) * TILE, a.v, sk, next);
        cp_async_commit();
        issue_scores(s, q, wgmma_tile(tk + (stage ^ 1) * TILE));
        issue_values(o, p, wgmma_tile(tv + stage * TILE));
        wgmma_wait<1>();
        if (next + KEYS > sk.S)
            mask_columns(s, next, sk.S);
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
        if (a.lse && (l & 3) == 0 && row < sq.S)
            a.lse[(int64_t)blockIdx.y * sq.S + row] = m.top[half] * a.scale + logf(sum);
    }
    rescale(o, inverse);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = row0 + own_row0 + (l >> 2) + 8 * half;
        if (row >= sq.S)
            continue;
        bf16 *at = a.o + sq.base + (int64_t)row * sq.stride + (l & 3) * 2;
#pragma unroll
        for (int j = 0; j < CHUNKS; j++)
            *(uint32_t *)(at + 8 * j) = pack_bf16(o[j][2 * half], o[j][2 * half + 1]);
    }
}

/* ---- backward: the products
 * ------------------------------------------------------------------------------------------------------
 *
 * As attention_64_backward.cu's, in the same integers, so that its kernels before and after serve both: a
 * block owns 128 keys, 64 a warpgroup, and streams tiles of 128 queries:
 *     S^T = K Q^T, dP^T = V gO^T   operands in shared memory
 *     gV += P^T gO, gK += dS^T Q   P^T and dS^T in registers, gO and Q transposed
 *     gQ  = dS K                   64 queries a warpgroup over all 128 keys: dS^T through shared
 *     memory, both transposed
 * gQ of a tile is multiplied with the next tile's gK: what a warpgroup reads of the other's dS^T
 * was made known by the barrier between. */

enum {
    BACK_GROUPS = 2,
    BACK_THREADS = 128 * BACK_GROUPS,
    BACK_KEYS = 64 * BACK_GROUPS,
    QUERIES = 128,
    QUERY_TILE = QUERIES * HEAD,
    DS_HALF = BACK_KEYS * 64,
    SMALL_TILES = QUERIES / STREAM,
    FACT_STAGES = 4
};

static size_t backward_shared(void)
{
    return (size_t)(2 * BACK_KEYS * HEAD + 2 * STAGES * QUERY_TILE + STAGES * 2 * DS_HALF) * sizeof(bf16) +
           FACT_STAGES * SMALL_TILES * sizeof(QueryFacts);
}

/* Starts copying a tile of Q, gO and what is known of its queries; of those past the last, that
 * their P is 0. */
__device__ __forceinline__ void load_queries(bf16 *tq, QueryFacts *facts, const AttentionArgs &a, const Slice &s,
                                             const QueryFacts *from, int tile)
{
    enum { CHUNKS_EACH = sizeof(QueryFacts) / 16, LSE_CHUNKS = sizeof facts->lse2 / 16 };
    const int small = tile * SMALL_TILES + threadIdx.x / CHUNKS_EACH, chunk = threadIdx.x % CHUNKS_EACH;
    load_tile<QUERIES, BACK_THREADS>(tq, a.q, s, tile * QUERIES);
    load_tile<QUERIES, BACK_THREADS>(tq + QUERY_TILE, a.go, s, tile * QUERIES);
    if (threadIdx.x >= SMALL_TILES * CHUNKS_EACH)
        return;
    float *at = (float *)facts + 4 * threadIdx.x;
    if (small * STREAM < s.S) {
        /* its multiplier lies with the next */
        cp_async_16(at, (const float *)(from + small + (chunk >= 2 * LSE_CHUNKS)) + 4 * chunk, 16);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            at[i] = chunk < LSE_CHUNKS ? 1e30f : 0.0f;
    }
}

/* Adds this warp's 16 queries of gQ to the sum of integers: zeros where there is no such tile
 * (before the first, or past the last query), so that no branch stands beside products in flight,
 * which would make the compiler wait for them. */
__device__ __forceinline__ void add_to_gq(int32_t *sums, const float (&gq)[CHUNKS][4], const QueryFacts *facts,
                                          int tile, int tiles)
{
    const int l = threadIdx.x & 31, warp = threadIdx.x >> 5, i = warp % 2;
    const int asked = tile * SMALL_TILES + warp / 2, small = asked < 0 ? 0 : asked < tiles ? asked : tiles - 1;
    const float *multiplier = facts[warp / 2].multiplier_before + 16 * i + (l >> 2);
    const float by[2] = {multiplier[0], multiplier[8]};
    sums += (int64_t)small * TILE_WORDS + 32 * 8 * i + l;
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            add_int(sums + 512 * (j / 2) + 32 * (4 * (j % 2) + e), round_to_int(gq[j][e] * by[e >> 1]));
}

__device__ __forceinline__ void issue_gq(float (&gq)[CHUNKS][4], uint64_t ds, uint64_t k)
{
    wgmma_fence();
    wgmma<0, 1, 1>(gq, ds, k);
#pragma unroll
    for (int kk = 1; kk < BACK_KEYS / 16; kk++)
        wgmma<1, 1, 1>(gq, ds + kk * 2 * WGMMA_NEXT_EIGHT, k + kk * 2 * WGMMA_NEXT_EIGHT);
    wgmma_commit();
}

/* This warpgroup's rows of dS^T; of those past the last key nothing is stored: zeros lie there. */
__device__ __forceinline__ void store_ds(bf16 *tds, const uint32_t (&f)[QUERIES / 16][4], int row, int rows)
{
    const int l = threadIdx.x & 31;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = row + 8 * half;
        if (r < rows)
#pragma unroll
            for (int j = 0; j < QUERIES / 8; j++)
                *(uint32_t *)(tds + j / 8 * DS_HALF + r * 64 + ((j % 8 ^ (r & 7)) << 3) +
                              (l & 3) * 2) = f[j / 2][(j & 1) * 2 + half];
    }
}

__device__ __forceinline__ void write_keys(bf16 *x, const Slice &s, int row, const float (&v)[CHUNKS][4], float factor)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (row + 8 * half >= s.S)
            continue;
        bf16 *at = x + s.base + (int64_t)(row + 8 * half) * s.stride + (threadIdx.x & 3) * 2;
#pragma unroll
        for (int j = 0; j < CHUNKS; j++)
            *(uint32_t *)(at + 8 * j) = pack_bf16(v[j][2 * half] * factor, v[j][2 * half + 1] * factor);
    }
}

__global__ void __launch_bounds__(BACK_THREADS, 1)
    attention_90_backward(AttentionArgs a, int32_t *sums, const QueryFacts *from, int first_slice)
{
    SMEM_TILES(bf16, shared);
    bf16 *tk = shared, *tv = tk + BACK_KEYS * HEAD, *stream = tv + BACK_KEYS * HEAD,
         *tds = stream + 2 * STAGES * QUERY_TILE;
    QueryFacts *facts = (QueryFacts *)(tds + STAGES * 2 * DS_HALF);
    const int l = threadIdx.x & 31, group = threadIdx.x / 128, row0 = blockIdx.x * BACK_KEYS,
              row = (threadIdx.x >> 5) * 16 + (l >> 2);
    const Slice sq = slice_of(a, a.Sq, first_slice), sk = slice_of(a, a.Sk, first_slice);
    const int small_tiles = (sq.S + STREAM - 1) / STREAM, tiles = (sq.S + QUERIES - 1) / QUERIES;
    const float c = a.scale * LOG2E;
    const uint64_t own_k = wgmma_tile(tk + group * 64 * HEAD), own_v = wgmma_tile(tv + group * 64 * HEAD),
                   all_k = wgmma_tile(tk);
    float p[QUERIES / 8][4], ds[QUERIES / 8][4], gk[CHUNKS][4], gv[CHUNKS][4], gq[CHUNKS][4];
    uint32_t packed_p[QUERIES / 16][4], packed_ds[QUERIES / 16][4];
    from += (int64_t)(first_slice + blockIdx.y) * (small_tiles + 1);
    sums += (int64_t)blockIdx.y * small_tiles * TILE_WORDS;
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            gk[j][e] = gv[j][e] = 0.0f;

    load_tile<BACK_KEYS, BACK_THREADS>(tk, a.k, sk, row0);
    load_tile<BACK_KEYS, BACK_THREADS>(tv, a.v, sk, row0);
    load_queries(stream, facts, a, sq, from, 0);
    cp_async_commit();
    for (int i = threadIdx.x; i < STAGES * 2 * DS_HALF / 8; i += BACK_THREADS)
        store16(tds + 8 * i, make_uint4(0, 0, 0, 0));
    for (int tile = 0; tile < tiles; tile++) {
        const int stage = tile & 1;
        const QueryFacts *now = facts + tile % FACT_STAGES * SMALL_TILES;
        bf16 *tq = stream + stage * 2 * QUERY_TILE;
        /* this tile and the last one's dS^T have arrived, and all warps are done with the data
         * that the next copies overwrite */
        tiles_ready<0>();
        if (tile + 1 < tiles)
            load_queries(stream + (stage ^ 1) * 2 * QUERY_TILE, facts + (tile + 1) % FACT_STAGES * SMALL_TILES, a, sq,
                         from, tile + 1);
        cp_async_commit();
        const uint64_t q = wgmma_tile(tq), go = wgmma_tile(tq + QUERY_TILE);
        issue_scores(p, own_k, q);
        issue_scores(ds, own_v, go);
        wgmma_wait<1>();
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                p[j][e] = exp2_fast(p[j][e] * c - now[j / 4].lse2[8 * (j % 4) + (l & 3) * 2 + (e & 1)]);
        pack(packed_p, p);
        issue_values(gv, packed_p, go);
        wgmma_wait<1>();
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                ds[j][e] = p[j][e] * (ds[j][e] - now[j / 4].delta[8 * (j % 4) + (l & 3) * 2 + (e & 1)]);
        pack(packed_ds, ds);
        issue_values(gk, packed_ds, q);
        issue_gq(gq, wgmma_tile(tds + ((stage ^ 1) * 2 + group) * DS_HALF), all_k);
        store_ds(tds + stage * 2 * DS_HALF, packed_ds, row, sk.S - row0);
        wgmma_wait<0>();
        add_to_gq(sums, gq, facts + (tile + FACT_STAGES - 1) % FACT_STAGES * SMALL_TILES, tile - 1, small_tiles);
    }
    tiles_ready<0>();
    issue_gq(gq, wgmma_tile(tds + ((tiles - 1) % 2 * 2 + group) * DS_HALF), all_k);
    wgmma_wait<0>();
    add_to_gq(sums, gq, facts + (tiles - 1) % FACT_STAGES * SMALL_TILES, tiles - 1, small_tiles);
    write_keys(a.gk, sk, row0 + row, gk, a.scale);
    write_keys(a.gv, sk, row0 + row, gv, 1.0f);
}

/* ---- launchers ------------------------------------------------------------------------------- */

int attention_90(Device *d, const AttentionArgs *a, Err *err)
{
    DEVICE_TRY(device_check(cudaFuncSetAttribute((const void *)attention_90_forward,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)forward_shared()),
                            "attention's shared memory", err));
    LAUNCH((attention_90_forward), dim3(blocks_for(a->Sq, ROWS), (unsigned)(a->B * a->heads)), dim3(THREADS),
           forward_shared(), d->compute, *a);
    return device_launched("attention", err);
}

int attention_90_backward_products(Device *d, const AttentionArgs *a, int32_t *sums, const QueryFacts *queries,
                                   int64_t first, int64_t n, Err *err)
{
    DEVICE_TRY(device_check(cudaFuncSetAttribute((const void *)attention_90_backward,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)backward_shared()),
                            "attention's shared memory", err));
    LAUNCH((attention_90_backward), dim3(blocks_for(a->Sk, BACK_KEYS), (unsigned)n), dim3(BACK_THREADS),
           backward_shared(), d->compute, *a, sums, queries, (int)first);
    return 0;
}
