/* Attention with head dimension 64 on tensor cores (mma.m16n8k16, bf16 in, fp32 accumulate); after
 * Dao, FlashAttention-2 (2023).
 *
 * Forward: a block owns ROWS queries and streams tiles of keys; online softmax in registers.  The
 * backward pass is in attention_64_backward.cu; attention_64_tiles.h holds what both use.
 *
 * Every warp owns whole rows of its products, so the accumulator of one product, packed to bf16, is
 * the A fragment of the next and P never leaves registers.  Tiles are rows of 64 bf16 = 8 chunks of
 * 16 bytes; chunk c of row r lies at c ^ (r & 7): no bank conflicts.
 * Ragged ends: rows past S are loaded as zeros; only the last tile of the forward stream masks, and
 * dS of missing keys is made zero. */
#include "common/ops/cuda/attention_64_tiles.h"

enum { KEYS = 64 };

struct Softmax {
    float top[ROW_TILES][2], sum[ROW_TILES][2];
}; /* of raw scores; sum is this lane's share */

/* s becomes exp2((s - max) c); earlier output is rescaled. */
__device__ __forceinline__ void online_softmax(float (&s)[ROW_TILES][KEYS / 8][4], float (&o)[ROW_TILES][CHUNKS][4],
                                               Softmax *m, float c)
{
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = m->top[i][half];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
                top = fmaxf(top, fmaxf(s[i][j][2 * half], s[i][j][2 * half + 1]));
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
                if (first + 8 * j + (l & 3) * 2 + (e & 1) >= S)
                    s[i][j][e] = value;
}

static size_t forward_shared(void)
{
    return (size_t)(ROWS + 2 * KEYS) * HEAD * sizeof(bf16);
}

/* One tile of keys, from `first`; only the last one masks. */
template <int LAST>
__device__ __forceinline__ void forward_tile(float (&o)[ROW_TILES][CHUNKS][4], Softmax *m, const AttentionArgs &a,
                                             const Slice &sk, const bf16 *own, bf16 *tk, bf16 *tv, const Lanes &at,
                                             int first)
{
    float s[ROW_TILES][KEYS / 8][4];
    uint32_t packed[KEYS / 16][ROW_TILES][4];
    cp_async_wait<0>();
    __syncthreads(); /* the keys have arrived, and all warps are done with the last values */
    load_tile<KEYS>(tv, a.v, sk, first);
    cp_async_commit();
    scores<KEYS>(s, own, tk, at);
    if (LAST)
        mask_columns(s, first, sk.S, MASKED);
    online_softmax(s, o, m, a.scale * LOG2E);
    cp_async_wait<0>();
    __syncthreads(); /* the values have arrived, and all warps are done with the keys */
    if (!LAST)
        load_tile<KEYS>(tk, a.k, sk, first + KEYS);
    cp_async_commit();
    pack_rows<KEYS>(packed, s);
    accumulate<KEYS>(o, packed, tv, at);
}

__global__ void __launch_bounds__(THREADS) attention_64_forward(AttentionArgs a)
{
    SMEM_DYN(bf16, shared);
    bf16 *tq = shared, *tk = tq + ROWS * HEAD, *tv = tk + KEYS * HEAD;
    const int warp_row0 = (threadIdx.x >> 5) * 16 * ROW_TILES, l = threadIdx.x & 31;
    const int row0 = blockIdx.x * ROWS;
    const Slice sq = slice_of(a, a.Sq, 0), sk = slice_of(a, a.Sk, 0);
    const Lanes at = lanes();
    float o[ROW_TILES][CHUNKS][4];
    Softmax m;
    clear(o);
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
        m.top[i][0] = m.top[i][1] = MASKED, m.sum[i][0] = m.sum[i][1] = 0.0f;

    load_tile<ROWS>(tq, a.q, sq, row0);
    load_tile<KEYS>(tk, a.k, sk, 0);
    cp_async_commit();
    int first = 0;
    for (; first + KEYS < sk.S; first += KEYS)
        forward_tile<0>(o, &m, a, sk, tq + warp_row0 * HEAD, tk, tv, at, first);
    forward_tile<1>(o, &m, a, sk, tq + warp_row0 * HEAD, tk, tv, at, first);
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
            if (a.lse && (l & 3) == 0 && row < sq.S)
                a.lse[(int64_t)blockIdx.y * sq.S + row] = m.top[i][half] * a.scale + logf(sum);
        }
    write_rows(a.o, sq, row0 + warp_row0, o, inverse);
}

int attention_64(Device *d, const AttentionArgs *a, Err *err)
{
    DEVICE_TRY(allow_shared((const void *)attention_64_forward, forward_shared(), err));
    LAUNCH((attention_64_forward), grid_over(a->Sq, ROWS, a->B * a->heads), dim3(THREADS), forward_shared(), d->compute,
           *a);
    return device_launched("attention", err);
}
