/* Attention with head dimension 64 on tensor cores (mma.m16n8k16, bf16 in, fp32 accumulate); after Dao, FlashAttention-2 (2023).
 *
 * Three kernels, none with atomics, so that results repeat bit for bit:
 *   forward   a block owns ROWS queries, streams tiles of keys; online softmax in registers
 *   grad_kv   a block owns ROWS keys, streams tiles of queries:  S^T = K Q^T, P^T, gV += P^T gO, dP^T = V gO^T, gK += dS^T Q
 *   grad_q    a block owns ROWS queries, streams tiles of keys:  S, P, dP = gO V^T, gQ += dS K
 * The backward pair computes scores twice (7 products instead of 5) and needs no partial gQ in memory.
 *
 * Every warp owns whole rows of its products, so the accumulator of one product, packed to bf16, is the A fragment of the next and
 * P never leaves registers.  Tiles are rows of 64 bf16 = 8 chunks of 16 bytes; chunk c of row r lies at c ^ (r & 7): no bank conflicts.
 * Ragged ends: rows past S are loaded as zeros; only the last tile of a stream masks. */
#include "common/ops/cuda/attention.h"

#define LOG2E 1.4426950408889634f
#define MASKED (-1e30f) /* finite, so that max-subtraction never meets inf - inf */

enum { HEAD = 64, CHUNKS = HEAD / 8, WARPS = 4, THREADS = 32 * WARPS, ROW_TILES = 2, ROWS = 16 * ROW_TILES * WARPS };

/* One (sequence, head): element (row, dim) of q, k, v, o at base + row*stride + dim; S rows. */
struct Slice { int64_t base; int stride, S; };
__device__ __forceinline__ Slice slice_of(const AttentionArgs &a, int64_t S)
{
    const int heads = (int)a.heads, b = blockIdx.y / heads, h = blockIdx.y % heads, stride = heads * HEAD;
    return Slice{b * S * stride + h * HEAD, stride, (int)S};
}

__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD + ((chunk ^ (row & 7)) << 3); }

/* Starts copying rows [first, first+N) of x into a tile; rows past the last become zeros. */
template <int N> __device__ __forceinline__ void load_tile(bf16 *tile, const bf16 *x, const Slice &s, int first)
{
#pragma unroll
    for (int i = 0; i < N * CHUNKS / THREADS; i++) {
        const int id = threadIdx.x + i * THREADS, row = id / CHUNKS, chunk = id % CHUNKS;
        const int g = first + row;
        cp_async_16(tile + swizzled(row, chunk), x + s.base + ((g < s.S ? g : 0) * s.stride + chunk * 8), g < s.S ? 16 : 0);
    }
}

/* Fragments out of a tile (lane addressing of ldmatrix for each operand). */
__device__ __forceinline__ void fragment_a(uint32_t f[4], const bf16 *tile, int row, int kk) /* 16x16 of A at (row, 16 kk) */
{
    const int l = threadIdx.x & 31;
    ldmatrix_x4(f, tile + swizzled(row + (l & 15), kk * 2 + (l >> 4)));
}
__device__ __forceinline__ void fragment_b(uint32_t f[4], const bf16 *tile, int row, int kk) /* columns row..row+15 of B = tile^T, k at 16 kk */
{
    const int l = threadIdx.x & 31;
    ldmatrix_x4(f, tile + swizzled(row + (l & 7) + (l >> 4 << 3), kk * 2 + (l >> 3 & 1)));
}
__device__ __forceinline__ void fragment_b_trans(uint32_t f[4], const bf16 *tile, int row, int dd) /* k = rows row..row+15, columns 16 dd.. of B = tile */
{
    const int l = threadIdx.x & 31;
    ldmatrix_x4_trans(f, tile + swizzled(row + (l & 15), dd * 2 + (l >> 4)));
}

template <int A, int B> __device__ __forceinline__ void clear(float (&x)[A][B][4])
{
#pragma unroll
    for (int i = 0; i < A; i++)
#pragma unroll
        for (int j = 0; j < B; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) x[i][j][e] = 0.0f;
}

/* s[rows][N] = rows of `own` (this warp's, from row0) times rows of `other` transposed, over the 64 dims. */
template <int N> __device__ __forceinline__ void scores(float (&s)[ROW_TILES][N / 8][4], const bf16 *own, int row0, const bf16 *other)
{
    clear(s);
#pragma unroll
    for (int kk = 0; kk < HEAD / 16; kk++) {
        uint32_t fa[ROW_TILES][4];
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) fragment_a(fa[i], own, row0 + 16 * i, kk);
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            uint32_t fb[4];
            fragment_b(fb, other, 16 * j, kk);
#pragma unroll
            for (int i = 0; i < ROW_TILES; i++) {
                mma_16816(s[i][2 * j], fa[i], fb);
                mma_16816(s[i][2 * j + 1], fa[i], fb + 2);
            }
        }
    }
}

/* out[rows][64] += p[rows][N] times the N rows of `tile`. */
template <int N> __device__ __forceinline__ void accumulate(float (&out)[ROW_TILES][CHUNKS][4], const float (&p)[ROW_TILES][N / 8][4], const bf16 *tile)
{
#pragma unroll
    for (int j = 0; j < N / 16; j++) {
        uint32_t fp[ROW_TILES][4];
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++) {
            fp[i][0] = pack_bf16(p[i][2 * j][0], p[i][2 * j][1]);
            fp[i][1] = pack_bf16(p[i][2 * j][2], p[i][2 * j][3]);
            fp[i][2] = pack_bf16(p[i][2 * j + 1][0], p[i][2 * j + 1][1]);
            fp[i][3] = pack_bf16(p[i][2 * j + 1][2], p[i][2 * j + 1][3]);
        }
#pragma unroll
        for (int dd = 0; dd < HEAD / 16; dd++) {
            uint32_t fb[4];
            fragment_b_trans(fb, tile, 16 * j, dd);
#pragma unroll
            for (int i = 0; i < ROW_TILES; i++) {
                mma_16816(out[i][2 * dd], fp[i], fb);
                mma_16816(out[i][2 * dd + 1], fp[i], fb + 2);
            }
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
            if (row >= s.S) continue;
            bf16 *at = x + s.base + (int64_t)row * s.stride + (l & 3) * 2;
#pragma unroll
            for (int j = 0; j < CHUNKS; j++)
                *(uint32_t *)(at + 8 * j) = pack_bf16(v[i][j][2 * half] * factor[i][half], v[i][j][2 * half + 1] * factor[i][half]);
        }
}

/* ---- forward -------------------------------------------------------------------------------------------------------------- */

enum { KEYS = 64 };

struct Softmax { float top[ROW_TILES][2], sum[ROW_TILES][2]; }; /* of raw scores; sum is this lane's share */

/* s becomes exp2((s - max) c); earlier output is rescaled. */
__device__ __forceinline__ void online_softmax(float (&s)[ROW_TILES][KEYS / 8][4], float (&o)[ROW_TILES][CHUNKS][4], Softmax *m, float c)
{
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = m->top[i][half];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) top = fmaxf(top, fmaxf(s[i][j][2 * half], s[i][j][2 * half + 1]));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            const float shrink = exp2_fast((m->top[i][half] - top) * c), shift = top * c;
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    s[i][j][e] = exp2_fast(s[i][j][e] * c - shift);
                    sum += s[i][j][e];
                }
            m->top[i][half] = top;
            m->sum[i][half] = m->sum[i][half] * shrink + sum;
#pragma unroll
            for (int j = 0; j < CHUNKS; j++) {
                o[i][j][2 * half] *= shrink;
                o[i][j][2 * half + 1] *= shrink;
            }
        }
}

__device__ __forceinline__ void mask_columns(float (&s)[ROW_TILES][KEYS / 8][4], int first, int S, float value)
{
    const int l = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (first + 8 * j + (l & 3) * 2 + (e & 1) >= S) s[i][j][e] = value;
}

static size_t forward_shared(void) { return (size_t)(ROWS + 2 * KEYS) * HEAD * sizeof(bf16); }

__global__ void __launch_bounds__(THREADS) attention_64_forward(AttentionArgs a)
{
    SMEM_DYN(bf16, shared);
    bf16 *tq = shared, *tk = tq + ROWS * HEAD, *tv = tk + KEYS * HEAD;
    const int warp_row0 = (threadIdx.x >> 5) * 16 * ROW_TILES, l = threadIdx.x & 31;
    const int row0 = blockIdx.x * ROWS;
    const Slice sq = slice_of(a, a.Sq), sk = slice_of(a, a.Sk);
    const float c = a.scale * LOG2E;
    float o[ROW_TILES][CHUNKS][4], s[ROW_TILES][KEYS / 8][4];
    Softmax m;
    clear(o);
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++) m.top[i][0] = m.top[i][1] = MASKED, m.sum[i][0] = m.sum[i][1] = 0.0f;

    load_tile<ROWS>(tq, a.q, sq, row0);
    load_tile<KEYS>(tk, a.k, sk, 0);
    cp_async_commit();
    for (int first = 0; first < sk.S; first += KEYS) {
        cp_async_wait<0>();
        __syncthreads(); /* the keys are there, and everyone is done with the values before */
        load_tile<KEYS>(tv, a.v, sk, first);
        cp_async_commit();
        scores<KEYS>(s, tq, warp_row0, tk);
        if (first + KEYS > sk.S) mask_columns(s, first, sk.S, MASKED);
        online_softmax(s, o, &m, c);
        cp_async_wait<0>();
        __syncthreads(); /* the values are there, and everyone is done with the keys */
        if (first + KEYS < sk.S) load_tile<KEYS>(tk, a.k, sk, first + KEYS);
        cp_async_commit();
        accumulate<KEYS>(o, s, tv);
    }
    cp_async_wait<0>();

    float inverse[ROW_TILES][2];
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = m.sum[i][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            inverse[i][half] = 1.0f / sum;
            const int row = row0 + warp_row0 + 16 * i + (l >> 2) + 8 * half;
            if (a.lse && (l & 3) == 0 && row < sq.S) a.lse[(int64_t)blockIdx.y * sq.S + row] = m.top[i][half] * a.scale + logf(sum);
        }
    write_rows(a.o, sq, row0 + warp_row0, o, inverse);
}

/* ---- gradients of k and v --------------------------------------------------------------------------------------------------- */

enum { STREAM = 32, STAGES = 2 };

/* log-sum-exp (in units of log2) and delta of a tile's queries; missing queries get P = 0. */
struct QueryFacts { float lse2[STREAM], delta[STREAM]; };

static size_t grad_kv_shared(void) { return (size_t)(2 * ROWS + 2 * STAGES * STREAM) * HEAD * sizeof(bf16) + STAGES * sizeof(QueryFacts); }
static size_t grad_q_shared(void) { return (size_t)(2 * ROWS + 2 * STAGES * STREAM) * HEAD * sizeof(bf16); }

__device__ __forceinline__ void load_queries(bf16 *tq, bf16 *tg, QueryFacts *facts, const AttentionArgs &a, const Slice &s, int first)
{
    load_tile<STREAM>(tq, a.q, s, first);
    load_tile<STREAM>(tg, a.go, s, first);
    if (threadIdx.x < STREAM) {
        const int i = first + threadIdx.x;
        const int64_t at = (int64_t)blockIdx.y * s.S;
        facts->lse2[threadIdx.x] = i < s.S ? (a.lse + at)[i] * LOG2E : 1e30f;
        facts->delta[threadIdx.x] = i < s.S ? (a.delta + at)[i] : 0.0f;
    }
}

__global__ void __launch_bounds__(THREADS) attention_64_grad_kv(AttentionArgs a)
{
    SMEM_DYN(bf16, shared);
    bf16 *tk = shared, *tv = tk + ROWS * HEAD, *stream = tv + ROWS * HEAD;
    QueryFacts *facts = (QueryFacts *)(stream + 2 * STAGES * STREAM * HEAD);
    const int warp_row0 = (threadIdx.x >> 5) * 16 * ROW_TILES, l = threadIdx.x & 31;
    const int row0 = blockIdx.x * ROWS;
    const Slice sq = slice_of(a, a.Sq), sk = slice_of(a, a.Sk);
    const float c = a.scale * LOG2E;
    float gk[ROW_TILES][CHUNKS][4], gv[ROW_TILES][CHUNKS][4];
    clear(gk);
    clear(gv);

    load_tile<ROWS>(tk, a.k, sk, row0);
    load_tile<ROWS>(tv, a.v, sk, row0);
    load_queries(stream, stream + STREAM * HEAD, facts, a, sq, 0);
    cp_async_commit();
    int stage = 0;
    for (int first = 0; first < sq.S; first += STREAM, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads(); /* this tile is there, and everyone is done with the one whose place comes next */
        bf16 *tq = stream + stage * 2 * STREAM * HEAD, *tg = tq + STREAM * HEAD, *next = stream + (stage ^ 1) * 2 * STREAM * HEAD;
        if (first + STREAM < sq.S) load_queries(next, next + STREAM * HEAD, &facts[stage ^ 1], a, sq, first + STREAM);
        cp_async_commit();

        float p[ROW_TILES][STREAM / 8][4], ds[ROW_TILES][STREAM / 8][4];
        scores<STREAM>(p, tk, warp_row0, tq); /* keys x queries */
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < STREAM / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) p[i][j][e] = exp2_fast(p[i][j][e] * c - facts[stage].lse2[8 * j + (l & 3) * 2 + (e & 1)]);
        accumulate<STREAM>(gv, p, tg);
        scores<STREAM>(ds, tv, warp_row0, tg);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < STREAM / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) ds[i][j][e] = p[i][j][e] * (ds[i][j][e] - facts[stage].delta[8 * j + (l & 3) * 2 + (e & 1)]);
        accumulate<STREAM>(gk, ds, tq);
    }
    cp_async_wait<0>();

    float one[ROW_TILES][2], scale[ROW_TILES][2];
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++) one[i][0] = one[i][1] = 1.0f, scale[i][0] = scale[i][1] = a.scale;
    write_rows(a.gk, sk, row0 + warp_row0, gk, scale);
    write_rows(a.gv, sk, row0 + warp_row0, gv, one);
}

/* ---- gradient of q ----------------------------------------------------------------------------------------------------------- */

__global__ void __launch_bounds__(THREADS) attention_64_grad_q(AttentionArgs a)
{
    SMEM_DYN(bf16, shared);
    bf16 *tq = shared, *tg = tq + ROWS * HEAD, *stream = tg + ROWS * HEAD;
    const int warp_row0 = (threadIdx.x >> 5) * 16 * ROW_TILES, l = threadIdx.x & 31;
    const int row0 = blockIdx.x * ROWS;
    const Slice sq = slice_of(a, a.Sq), sk = slice_of(a, a.Sk);
    const float c = a.scale * LOG2E;
    float gq[ROW_TILES][CHUNKS][4], lse2[ROW_TILES][2], delta[ROW_TILES][2];
    clear(gq);
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = row0 + warp_row0 + 16 * i + (l >> 2) + 8 * half;
            const int64_t at = (int64_t)blockIdx.y * sq.S + row;
            lse2[i][half] = row < sq.S ? a.lse[at] * LOG2E : 1e30f;
            delta[i][half] = row < sq.S ? a.delta[at] : 0.0f;
        }

    load_tile<ROWS>(tq, a.q, sq, row0);
    load_tile<ROWS>(tg, a.go, sq, row0);
    load_tile<STREAM>(stream, a.k, sk, 0);
    load_tile<STREAM>(stream + STREAM * HEAD, a.v, sk, 0);
    cp_async_commit();
    int stage = 0;
    for (int first = 0; first < sk.S; first += STREAM, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads();
        bf16 *tk = stream + stage * 2 * STREAM * HEAD, *tv = tk + STREAM * HEAD, *next = stream + (stage ^ 1) * 2 * STREAM * HEAD;
        if (first + STREAM < sk.S) {
            load_tile<STREAM>(next, a.k, sk, first + STREAM);
            load_tile<STREAM>(next + STREAM * HEAD, a.v, sk, first + STREAM);
        }
        cp_async_commit();

        float p[ROW_TILES][STREAM / 8][4], ds[ROW_TILES][STREAM / 8][4];
        scores<STREAM>(p, tq, warp_row0, tk);
        scores<STREAM>(ds, tg, warp_row0, tv);
#pragma unroll
        for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
            for (int j = 0; j < STREAM / 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) ds[i][j][e] = exp2_fast(p[i][j][e] * c - lse2[i][e >> 1]) * (ds[i][j][e] - delta[i][e >> 1]);
        if (first + STREAM > sk.S) { /* a missing key's score is 0, not -inf: its P may be huge */
#pragma unroll
            for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
                for (int j = 0; j < STREAM / 8; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        if (first + 8 * j + (l & 3) * 2 + (e & 1) >= sk.S) ds[i][j][e] = 0.0f;
        }
        accumulate<STREAM>(gq, ds, tk);
    }
    cp_async_wait<0>();

    float scale[ROW_TILES][2];
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++) scale[i][0] = scale[i][1] = a.scale;
    write_rows(a.gq, sq, row0 + warp_row0, gq, scale);
}

/* ---- launchers ---------------------------------------------------------------------------------------------------------------- */

static dim3 grid_over(int64_t rows, const AttentionArgs *a) { return dim3(blocks_for(rows, ROWS), (unsigned)(a->B * a->heads)); }

static int allow_shared(const void *kernel, size_t bytes, Err *err)
{
    return device_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), "attention's shared memory", err);
}

int attention_64(Device *d, const AttentionArgs *a, Err *err)
{
    DEVICE_TRY(allow_shared((const void *)attention_64_forward, forward_shared(), err));
    LAUNCH((attention_64_forward), grid_over(a->Sq, a), dim3(THREADS), forward_shared(), d->compute, *a);
    return device_launched("attention", err);
}

int attention_64_backward(Device *d, const AttentionArgs *a, Err *err)
{
    DEVICE_TRY(allow_shared((const void *)attention_64_grad_kv, grad_kv_shared(), err));
    DEVICE_TRY(allow_shared((const void *)attention_64_grad_q, grad_q_shared(), err));
    LAUNCH((attention_64_grad_kv), grid_over(a->Sk, a), dim3(THREADS), grad_kv_shared(), d->compute, *a);
    LAUNCH((attention_64_grad_q), grid_over(a->Sq, a), dim3(THREADS), grad_q_shared(), d->compute, *a);
    return device_launched("attention_backward", err);
}
