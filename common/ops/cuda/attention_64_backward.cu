/* The backward pass of attention with head dimension 64 on tensor cores; attention_64.cu says how
 * products and tiles lie.
 *
 *   backward_products   a block owns ROWS keys, streams tiles of queries: S^T = K Q^T, P^T, gV +=
 *                       P^T gO, dP^T = V gO^T, dS^T, gK += dS^T Q; and from the dS^T of all its
 *                       warps, through shared memory, gQ += dS K: 5 products
 *   key_facts, query_facts before it, gq after it: little kernels over the rows
 *
 * Results repeat bit for bit.  A block sums its own gK and gV in a fixed order.  A query's gQ is a
 * sum over all blocks, which finish in any order, so what each adds is first rounded to an integer
 * multiple of a unit, and integers are added: exactly, hence in whatever order.  The unit is 2^-30
 * to 2^-29 of a bound of the row's gQ (at query_facts), which no sum can pass, partial ones wrap
 * harmlessly, and 2^31 leaves room for roundings.  139 blocks (17 776 keys) are together off by 4
 * units as a rule, 70 at worst.  Noise passes for the bound's loosest case, uniform P over random
 * keys, where gQ is some 2^-15 of it: 2^-13 of gQ, below what P and dS lose as bf16 (2^-9 each). */
#include "common/ops/cuda/attention_64_tiles.h"

/* ---- backward: what is known of a slice before the products ---------------------------------- */

enum { STAGES = 2, LANES_A_ROW = CHUNKS, KEY_THREADS = 1024 };

/* Bits of the largest |V_j| |K_j|max, |K_j|max, |V_j|, |K_j| of a slice (lengths, and largest
 * magnitude of an element). */
struct KeyFacts {
    uint32_t product, top, value, key;
};

/* The eight lanes of a row, 8 elements each. */
__device__ __forceinline__ float row_sum(float x)
{
#pragma unroll
    for (int bits = 1; bits < LANES_A_ROW; bits <<= 1)
        x += __shfl_xor_sync(0xffffffffu, x, bits);
    return x;
}
__device__ __forceinline__ float row_top(const float v[8])
{
    float top = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++)
        top = fmaxf(top, fabsf(v[k]));
#pragma unroll
    for (int bits = 1; bits < LANES_A_ROW; bits <<= 1)
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, bits));
    return top;
}
/* Its length, by squares that neither overflow nor vanish; NaN when an element is NaN or infinite. */
__device__ __forceinline__ float row_length(const float v[8])
{
    const float top = fmaxf(row_top(v), 0x1p-126f);
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++)
        sum += v[k] / top * (v[k] / top);
    return top * sqrtf(row_sum(sum));
}

/* Floats that are not negative order as their bits do, and NaN is above all. */
__device__ __forceinline__ uint32_t larger(uint32_t bits, float x)
{
    const uint32_t y = __float_as_uint(fabsf(x));
    return bits > y ? bits : y;
}
__device__ __forceinline__ uint32_t warp_largest(uint32_t x)
{
#pragma unroll
    for (int bits = 16; bits; bits >>= 1) {
        const uint32_t y = __shfl_xor_sync(0xffffffffu, x, bits);
        x = x > y ? x : y;
    }
    return x;
}

/* A block a slice. */
__global__ void __launch_bounds__(KEY_THREADS) attention_64_key_facts(AttentionArgs a, KeyFacts *out)
{
    SMEM_ARRAY(KeyFacts, warps, KEY_THREADS / 32);
    const Slice s = slice_of(a, a.Sk, 0);
    KeyFacts f = {};
    for (int first = 0; first < s.S; first += KEY_THREADS / LANES_A_ROW) {
        const int j = first + threadIdx.x / LANES_A_ROW;
        const int64_t at = s.base + (int64_t)(j < s.S ? j : s.S - 1) * s.stride + threadIdx.x % LANES_A_ROW * 8;
        float k[8], v[8];
        load8(k, a.k + at);
        load8(v, a.v + at);
        const float top = row_top(k), key = row_length(k), value = row_length(v);
        f.product = larger(f.product, value * top);
        f.top = larger(f.top, top);
        f.value = larger(f.value, value);
        f.key = larger(f.key, key);
    }
    const int l = threadIdx.x & 31;
    f = KeyFacts{warp_largest(f.product), warp_largest(f.top), warp_largest(f.value), warp_largest(f.key)};
    if (l == 0)
        warps[threadIdx.x >> 5] = f;
    __syncthreads();
    if (threadIdx.x >= 32)
        return;
    f = warps[l];
    f = KeyFacts{warp_largest(f.product), warp_largest(f.top), warp_largest(f.value), warp_largest(f.key)};
    if (l == 0)
        out[blockIdx.y] = f;
}

/* A block a tile of queries.  The multiplier is a power of two, NaN when anything that gQ's row
 * depends on is NaN or infinite or when a product in between could overflow: the sum is then 0 and
 * the row comes out as NaN.  The bound:
 *     |gQ_ic| = |sum_j P_ij go_i.(V_j - o_i) K_jc| <= |go_i| (max_j |V_j| |K_j|max + |o_i| max_j
 *     |K_j|max) sum_j P_ij
 * sum_j P_ij is 1 but for the roundings of a score, forward and here, each below 64 x 2^-24 |q_i|
 * |K_j| scale. */
__global__ void __launch_bounds__(STREAM *LANES_A_ROW)
    attention_64_query_facts(AttentionArgs a, QueryFacts *out, const KeyFacts *keys)
{
    const Slice s = slice_of(a, a.Sq, 0);
    const int row = threadIdx.x / LANES_A_ROW, i = blockIdx.x * STREAM + row, live = i < s.S;
    const int64_t at = s.base + (int64_t)(live ? i : s.S - 1) * s.stride + threadIdx.x % LANES_A_ROW * 8;
    float q[8], go[8], o[8], delta = 0.0f;
    load8(q, a.q + at);
    load8(go, a.go + at);
    load8(o, a.o + at);
#pragma unroll
    for (int k = 0; k < 8; k++)
        delta += go[k] * o[k];
    delta = row_sum(delta);
    const KeyFacts k = keys[blockIdx.y];
    const float lo = row_length(o), lgo = row_length(go),
                score = row_length(q) * __uint_as_float(k.key) * fabsf(a.scale) * LOG2E;
    if (threadIdx.x % LANES_A_ROW)
        return;

    const float lse = live ? a.lse[(int64_t)blockIdx.y * s.S + i] : 0.0f;
    const float product = __uint_as_float(k.product) + 0x1p-100f; /* even where it vanished */
    const float bound = lgo * (product + lo * __uint_as_float(k.top)) * exp2f(score * 0x1p-16f) + 0x1p-97f;
    const float finite = bound + lgo * (__uint_as_float(k.value) + lo) + lse + delta,
                power = __uint_as_float(__float_as_uint(bound) & 0x7f800000u);
    QueryFacts *f = out + (int64_t)blockIdx.y * (gridDim.x + 1) + blockIdx.x;
    f->lse2[row] = live ? lse * LOG2E : 1e30f;
    f->delta[row] = live ? delta : 0.0f;
    f[1].multiplier_before[row] = 0x1p29f / power + (finite - finite);
}

/* ---- backward: the products ------------------------------------------------------------------ */

/* dS of this block's keys x a tile of queries: rows of 32 bf16 = 4 chunks; chunk c of row r lies at
 * c ^ (r/2 & 3). */
enum { DS_TILE = ROWS * STREAM };
__device__ __forceinline__ int ds_swizzled(int row, int chunk)
{
    return row * STREAM + ((chunk ^ (row >> 1 & 3)) << 3);
}

static size_t backward_shared(void)
{
    return (size_t)(2 * ROWS * HEAD + 2 * STAGES * STREAM * HEAD + STAGES * DS_TILE) * sizeof(bf16) +
           STAGES * sizeof(QueryFacts);
}

/* q and go of a tile, if there is one; its facts. */
__device__ __forceinline__ void load_queries(bf16 *tq, QueryFacts *facts, const AttentionArgs &a, const Slice &s,
                                             const QueryFacts *from, int first)
{
    if (first < s.S) {
        load_tile<STREAM>(tq, a.q, s, first);
        load_tile<STREAM>(tq + STREAM * HEAD, a.go, s, first);
    }
    if (threadIdx.x < sizeof(QueryFacts) / 16)
        cp_async_16((char *)facts + 16 * threadIdx.x, (const char *)from + 16 * threadIdx.x, 16);
}

/* This warp's rows of dS; zeros for those past the last key. */
__device__ __forceinline__ void store_ds(bf16 *own, const uint32_t (&f)[STREAM / 16][ROW_TILES][4], int rows)
{
    const int g = (threadIdx.x & 31) >> 2, at = ds_swizzled(g, 0) + (threadIdx.x & 3) * 2;
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = 16 * i + 8 * half, live = row + g < rows;
#pragma unroll
            for (int j = 0; j < STREAM / 8; j++)
                *(uint32_t *)(own + row * STREAM + (at ^ j * 8)) = live ? f[j / 2][i][(j & 1) * 2 + half] : 0;
        }
}

/* Adds dS^T K over this block's keys, 16 dims a warp, to gQ's sum of integers.  Register e of lane
 * l of warp w lies at 512 w + 32 e + l, and `sum` is this lane's register 0. */
__device__ __forceinline__ void add_to_gq(int32_t *sum, const bf16 *ds, const bf16 *tk, const float multiplier[STREAM],
                                          const Lanes &at)
{
    const int l = threadIdx.x & 31, warp = threadIdx.x >> 5, at_ds = ds_swizzled((l & 7) + (l >> 4 << 3), l >> 3 & 1);
    float gq[2][2][4];
    clear(gq);
#pragma unroll
    for (int kk = 0; kk < ROWS / 16; kk++) {
        uint32_t fa[4], fb[4];
        fragment_b_trans(fb, tk + 16 * kk * HEAD, at, warp);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            ldmatrix_x4_trans(fa, ds + 16 * kk * STREAM + (at_ds ^ i * 16));
            mma_16816(gq[i][0], fa, fb);
            mma_16816(gq[i][1], fa, fb + 2);
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float m = multiplier[16 * i + 8 * half + (l >> 2)];
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++)
                    add_int(sum + 32 * (8 * i + 4 * n + e), round_to_int(gq[i][n][e] * m));
        }
}

__global__ void __launch_bounds__(THREADS)
    attention_64_backward_products(AttentionArgs a, int32_t *sums, const QueryFacts *from, int first_slice)
{
    SMEM_DYN(bf16, shared);
    bf16 *tk = shared, *tv = tk + ROWS * HEAD, *stream = tv + ROWS * HEAD, *tds = stream + 2 * STAGES * STREAM * HEAD;
    QueryFacts *facts = (QueryFacts *)(tds + STAGES * DS_TILE);
    const int warp_row0 = (threadIdx.x >> 5) * 16 * ROW_TILES, l = threadIdx.x & 31;
    const int row0 = blockIdx.x * ROWS;
    const Slice sq = slice_of(a, a.Sq, first_slice), sk = slice_of(a, a.Sk, first_slice);
    const int tiles = (sq.S + STREAM - 1) / STREAM;
    const float c = a.scale * LOG2E;
    const Lanes at = lanes();
    float gk[ROW_TILES][CHUNKS][4], gv[ROW_TILES][CHUNKS][4];
    clear(gk);
    clear(gv);
    const int fact = (first_slice + blockIdx.y) * (tiles + 1);
    /* of this lane in the last tile's sums */
    int word = blockIdx.y * tiles * TILE_WORDS + (threadIdx.x >> 5) * 512 + l;

    load_tile<ROWS>(tk, a.k, sk, row0);
    load_tile<ROWS>(tv, a.v, sk, row0);
    load_queries(stream, facts, a, sq, from + fact, 0);
    cp_async_commit();
    int stage = 0;
    for (int tile = 0;; tile++, stage ^= 1) {
        cp_async_wait<0>();
        /* this tile and the last one's dS have arrived, and all warps are done with the data that
         * the next copies overwrite */
        __syncthreads();
        bf16 *tq = stream + stage * 2 * STREAM * HEAD, *tg = tq + STREAM * HEAD;
        if (tile < tiles)
            load_queries(stream + (stage ^ 1) * 2 * STREAM * HEAD, &facts[stage ^ 1], a, sq, from + fact + tile + 1,
                         (tile + 1) * STREAM);
        cp_async_commit();
        if (tile > 0) {
            add_to_gq(sums + word, tds + (stage ^ 1) * DS_TILE, tk, facts[stage].multiplier_before, at);
            word += TILE_WORDS;
        }
        if (tile == tiles)
            break;

        float p[ROW_TILES][STREAM / 8][4], ds[ROW_TILES][STREAM / 8][4];
        uint32_t packed[STREAM / 16][ROW_TILES][4];
        scores<STREAM>(p, tk + warp_row0 * HEAD, tq, at); /* keys x queries */
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < STREAM / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    p[i][j][e] = exp2_fast(p[i][j][e] * c - facts[stage].lse2[8 * j + (l & 3) * 2 + (e & 1)]);
        pack_rows<STREAM>(packed, p);
        accumulate<STREAM>(gv, packed, tg, at);
        scores<STREAM>(ds, tv + warp_row0 * HEAD, tg, at);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < STREAM / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    ds[i][j][e] = p[i][j][e] * (ds[i][j][e] - facts[stage].delta[8 * j + (l & 3) * 2 + (e & 1)]);
        pack_rows<STREAM>(packed, ds);
        store_ds(tds + stage * DS_TILE + warp_row0 * STREAM, packed, sk.S - row0 - warp_row0);
        accumulate<STREAM>(gk, packed, tq, at);
    }
    cp_async_wait<0>();

    float one[ROW_TILES][2], scale[ROW_TILES][2];
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
        one[i][0] = one[i][1] = 1.0f, scale[i][0] = scale[i][1] = a.scale;
    write_rows(a.gk, sk, row0 + warp_row0, gk, scale);
    write_rows(a.gv, sk, row0 + warp_row0, gv, one);
}

/* gQ from the sums: a block a tile; each lane holds the same registers as in the products. */
__global__ void __launch_bounds__(THREADS)
    attention_64_gq(AttentionArgs a, const int32_t *sums, const QueryFacts *from, int first_slice)
{
    const int l = threadIdx.x & 31, warp = threadIdx.x >> 5, g = l >> 2;
    const Slice s = slice_of(a, a.Sq, first_slice);
    const QueryFacts *f = from + (int64_t)(first_slice + blockIdx.y) * (gridDim.x + 1) + blockIdx.x + 1;
    sums += ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * TILE_WORDS + 512 * warp + l;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int r = 16 * i + 8 * half + g, row = blockIdx.x * STREAM + r;
            if (row >= s.S)
                continue;
            const float unit = 1.0f / f->multiplier_before[r];
            bf16 *at = a.gq + s.base + (int64_t)row * s.stride + 16 * warp + (l & 3) * 2;
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const int32_t *x = sums + 32 * (8 * i + 4 * n + 2 * half);
                *(uint32_t *)(at + 8 * n) = pack_bf16((float)x[0] * unit * a.scale, (float)x[32] * unit * a.scale);
            }
        }
}

/* Slices at a time, as scratch holds their sums: at the size of CogVideoX-2B 20 of 60 in 104 MB,
 * and 20 x 139 blocks are 12.9 waves of an A100's 216. */
enum { MOST_SLICES = 20 };

int attention_64_backward(Device *d, const AttentionArgs *a, Err *err)
{
    const int64_t slices = a->B * a->heads, tiles = (a->Sq + STREAM - 1) / STREAM;
    const size_t key_bytes = slices * sizeof(KeyFacts),
                 facts_bytes = key_bytes + slices * (tiles + 1) * sizeof(QueryFacts),
                 slice_bytes = tiles * TILE_WORDS * sizeof(int32_t);
    const int64_t fit = facts_bytes < DEVICE_SCRATCH_BYTES
                            ? (int64_t)((DEVICE_SCRATCH_BYTES - facts_bytes) / slice_bytes)
                            : 0;
    const int64_t most = fit < 1             ? 1
                         : fit < MOST_SLICES ? fit
                                             : (int64_t)MOST_SLICES,
                  launches = (slices + most - 1) / most;
    const int64_t group = (slices + launches - 1) / launches;
    char *room;
    DEVICE_TRY(device_scratch(d, facts_bytes + group * slice_bytes, &room, err));
    KeyFacts *keys = (KeyFacts *)room;
    QueryFacts *queries = (QueryFacts *)(room + key_bytes);
    int32_t *sums = (int32_t *)(room + facts_bytes);
    DEVICE_TRY(allow_shared((const void *)attention_64_backward_products, backward_shared(), err));
    LAUNCH((attention_64_key_facts), grid_over(1, 1, slices), dim3(KEY_THREADS), 0, d->compute, *a, keys);
    LAUNCH((attention_64_query_facts), grid_over(a->Sq, STREAM, slices), dim3(STREAM * LANES_A_ROW), 0, d->compute, *a,
           queries, keys);
    for (int64_t first = 0; first < slices; first += group) {
        const int64_t n = first + group < slices ? group : slices - first;
        DEVICE_TRY(device_check(cudaMemsetAsync(sums, 0, n * slice_bytes, d->compute), "attention_backward", err));
        if (d->capability == 90)
            DEVICE_TRY(attention_90_backward_products(d, a, sums, queries, first, n, err));
        else
            LAUNCH((attention_64_backward_products), grid_over(a->Sk, ROWS, n), dim3(THREADS), backward_shared(),
                   d->compute, *a, sums, queries, (int)first);
        LAUNCH((attention_64_gq), grid_over(a->Sq, STREAM, n), dim3(THREADS), 0, d->compute, *a, sums, queries,
               (int)first);
    }
    return device_launched("attention_backward", err);
}
