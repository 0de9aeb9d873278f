/* Attention for any head dimension, with bias and causal mask: one warp a query (or, for the
 * gradients of k and v, a key), 32 scores at a time, online softmax in float.  What T5, CLIP and
 * small models run on; head dimension 64 without bias goes to the tensor-core kernels. */
#include "common/ops/cuda/attention.h"

enum { WARPS = 4, THREADS = 32 * WARPS, MAX_HEAD = 256, PER_LANE = MAX_HEAD / 32 };

/* This warp's row of one [S, hd] slice: sequence b, head h; out of range: the last row again, not
 * stored. */
struct WarpRow {
    int64_t b, h, i;
    int live, lane;
};
__device__ __forceinline__ WarpRow warp_row(int64_t heads, int64_t S)
{
    WarpRow r;
    const int64_t i = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5);
    r.lane = threadIdx.x & 31;
    r.live = i < S;
    r.i = r.live ? i : S - 1;
    r.b = blockIdx.y / heads;
    r.h = blockIdx.y % heads;
    return r;
}
__device__ __forceinline__ const bf16 *row_of(const bf16 *x, int64_t b, int64_t i, int64_t h, int64_t S, int64_t heads,
                                              int64_t hd)
{
    return x + ((b * S + i) * heads + h) * hd;
}
__device__ __forceinline__ float dot(const bf16 *a, const bf16 *b, int64_t hd)
{
    float sum = 0.0f;
    for (int64_t c = 0; c < hd; c++)
        sum += load(a, c) * load(b, c);
    return sum;
}

/* ---- forward: a block's queries share tiles of 32 keys and values in shared memory ----------- */

/* rows of hd + PAD elements: 8-byte reads, a row a lane, meet in no bank where hd is a multiple of
 * 16 */
enum { KEYS = 32, PAD = 4 };

/* Shared memory: the block's queries as floats [WARPS, width], weights [THREADS], keys and values
 * [KEYS, width + PAD]; width: hd up to a multiple of 4, what is beyond hd zero. */
HOST_AND_DEVICE static inline int64_t rows_width(int64_t hd)
{
    return (hd + 3) / 4 * 4;
}
static size_t rows_shared(int64_t hd)
{
    return (size_t)(WARPS * rows_width(hd) + THREADS) * sizeof(float) +
           (size_t)(2 * KEYS * (rows_width(hd) + PAD)) * sizeof(bf16);
}

/* A tile of rows first .. of one head's [S, hd]; rows past the end and columns past hd: zero.  V
 * elements a thread: 8, or 1. */
template <int V>
__device__ __forceinline__ void stage_rows(bf16 *tile, const bf16 *x, int64_t b, int64_t first, int64_t h, int64_t S,
                                           const AttentionArgs &a)
{
    const int width = (int)rows_width(a.hd), across = (width + V - 1) / V;
    for (int id = threadIdx.x; id < KEYS * across; id += THREADS) {
        const int row = id / across, c = id % across * V;
        const int64_t j = first + row;
        bf16 *to = tile + row * (width + PAD) + c;
        const bf16 *from = row_of(x, b, j < S ? j : S - 1, h, S, a.heads, a.hd) + c;
        if constexpr (V == 8) {
            const uint4 v = j < S ? load16(from) : uint4{0, 0, 0, 0};
            ((uint2 *)to)[0] = uint2{v.x, v.y};
            ((uint2 *)to)[1] = uint2{v.z, v.w};
        } else {
            *to = j < S && c < a.hd ? *from : bf16{0};
        }
    }
}

/* The terms in order, as dot() has them: zeros past hd change nothing. */
__device__ __forceinline__ float dot_tile(const float *q, const bf16 *k, int width)
{
    float sum = 0.0f;
    for (int c = 0; c < width; c += 4) {
        const uint2 v = *(const uint2 *)(k + c);
        const float4 f = *(const float4 *)(q + c);
        sum += f.x * __uint_as_float(v.x << 16);
        sum += f.y * __uint_as_float(v.x & 0xffff0000u);
        sum += f.z * __uint_as_float(v.y << 16);
        sum += f.w * __uint_as_float(v.y & 0xffff0000u);
    }
    return sum;
}

template <int V>
__global__ void __launch_bounds__(THREADS) attention_rows(AttentionArgs a)
{
    SMEM_DYN(float, shared);
    const WarpRow r = warp_row(a.heads, a.Sq);
    const int width = (int)rows_width(a.hd), warp = threadIdx.x >> 5;
    float *q = shared + warp * width, *w = shared + WARPS * width + warp * 32, best = -1e30f, sum = 0.0f,
          acc[PER_LANE / 2][2];
    bf16 *keys = (bf16 *)(shared + WARPS * width + THREADS), *values = keys + KEYS * (width + PAD);
    for (int c = r.lane; c < width; c += 32)
        q[c] = c < a.hd ? load(row_of(a.q, r.b, r.i, r.h, a.Sq, a.heads, a.hd), c) : 0.0f;
    for (int k = 0; k < PER_LANE / 2; k++)
        acc[k][0] = acc[k][1] = 0.0f;
    const int64_t top_row = (int64_t)blockIdx.x * WARPS + WARPS, last = a.causal && r.i + 1 < a.Sk ? r.i + 1 : a.Sk,
                  block_last = a.causal && top_row < a.Sk ? top_row : a.Sk; /* of any of the block's queries */
    for (int64_t j0 = 0; j0 < block_last; j0 += KEYS) {
        __syncthreads(); /* the tile before is read */
        stage_rows<V>(keys, a.k, r.b, j0, r.h, a.Sk, a);
        stage_rows<V>(values, a.v, r.b, j0, r.h, a.Sk, a);
        __syncthreads();
        const int64_t j = j0 + r.lane;
        const int live = j < last, n = last - j0 < KEYS ? (int)(last - j0) : (int)KEYS;
        float s = -1e30f;
        if (live) {
            s = a.scale * dot_tile(q, keys + r.lane * (width + PAD), width);
            if (a.bias)
                s += a.bias[(r.h * a.Sq + r.i) * a.Sk + j];
        }
        const float top = fmaxf(best, warp_max(s)), shrink = expf(best - top), p = live ? expf(s - top) : 0.0f;
        sum = sum * shrink + warp_sum(p);
        best = top;
        w[r.lane] = p;
        __syncwarp();
        for (int k = 0; k < PER_LANE / 2; k++) { /* this lane's columns 2 lane and 2 lane + 1 of each 64 */
            const int c = 64 * k + 2 * r.lane;
            if (c >= width)
                break;
            float x = acc[k][0] * shrink, y = acc[k][1] * shrink;
            for (int jj = 0; jj < n; jj++) {
                const uint32_t v = *(const uint32_t *)(values + jj * (width + PAD) + c);
                x += w[jj] * __uint_as_float(v << 16);
                y += w[jj] * __uint_as_float(v & 0xffff0000u);
            }
            acc[k][0] = x;
            acc[k][1] = y;
        }
        __syncwarp();
    }
    if (!r.live)
        return;
    bf16 *o = (bf16 *)row_of(a.o, r.b, r.i, r.h, a.Sq, a.heads, a.hd);
    for (int k = 0; k < PER_LANE / 2; k++)
        for (int e = 0; e < 2; e++) {
            const int c = 64 * k + 2 * r.lane + e;
            if (c < a.hd)
                store(o, c, acc[k][e] / sum);
        }
    if (a.lse && r.lane == 0)
        a.lse[(r.b * a.heads + r.h) * a.Sq + r.i] = best + logf(sum);
}

enum { DELTA_WARPS = 8 };

/* delta[b,h,i] = sum over the head of go*o, fp32: one warp a (row, head). */
__global__ void __launch_bounds__(32 * DELTA_WARPS)
    delta_rows(float *delta, const bf16 *go, const bf16 *o, int64_t rows, int64_t heads, int64_t hd, int64_t S)
{
    const int64_t r = (int64_t)blockIdx.x * DELTA_WARPS + (threadIdx.x >> 5);
    const int lane = threadIdx.x & 31;
    float sum = 0.0f;
    if (r < rows)
        for (int64_t c = lane; c < hd; c += 32)
            sum += load(go, r * hd + c) * load(o, r * hd + c);
    sum = warp_sum(sum);
    if (r < rows && lane == 0) {
        const int64_t h = r % heads, i = r / heads % S, b = r / (heads * S);
        delta[(b * heads + h) * S + i] = sum;
    }
}

/* gq_i = scale sum_j ds_ij k_j, ds = p (dp - delta), dp = go . v. */
__global__ void __launch_bounds__(THREADS) attention_gradient_q(AttentionArgs a)
{
    SMEM_ARRAY(float, weights, THREADS);
    const WarpRow r = warp_row(a.heads, a.Sq);
    const bf16 *q = row_of(a.q, r.b, r.i, r.h, a.Sq, a.heads, a.hd),
               *go = row_of(a.go, r.b, r.i, r.h, a.Sq, a.heads, a.hd);
    const int64_t at = (r.b * a.heads + r.h) * a.Sq + r.i;
    const float lse = a.lse[at], delta = a.delta[at];
    float *w = weights + (threadIdx.x & ~31), acc[PER_LANE];
    for (int k = 0; k < PER_LANE; k++)
        acc[k] = 0.0f;
    for (int64_t j0 = 0; j0 < a.Sk; j0 += 32) {
        const int64_t j = j0 + r.lane;
        float ds = 0.0f;
        if (j < a.Sk) {
            const float p = expf(a.scale * dot(q, row_of(a.k, r.b, j, r.h, a.Sk, a.heads, a.hd), a.hd) - lse);
            ds = p * (dot(go, row_of(a.v, r.b, j, r.h, a.Sk, a.heads, a.hd), a.hd) - delta);
        }
        w[r.lane] = ds;
        __syncwarp();
        for (int k = 0; k < PER_LANE; k++) {
            const int64_t c = r.lane + 32 * k;
            if (c >= a.hd)
                break;
            for (int64_t jj = 0; jj < 32 && j0 + jj < a.Sk; jj++)
                acc[k] += w[jj] * load(row_of(a.k, r.b, j0 + jj, r.h, a.Sk, a.heads, a.hd), c);
        }
        __syncwarp();
    }
    if (!r.live)
        return;
    for (int k = 0; k < PER_LANE; k++) {
        const int64_t c = r.lane + 32 * k;
        if (c < a.hd)
            store((bf16 *)row_of(a.gq, r.b, r.i, r.h, a.Sq, a.heads, a.hd), c, a.scale * acc[k]);
    }
}

/* gv_j = sum_i p_ij go_i, gk_j = scale sum_i ds_ij q_i: one warp a key. */
__global__ void __launch_bounds__(THREADS) attention_gradient_kv(AttentionArgs a)
{
    SMEM_ARRAY(float, weights, 2 * THREADS);
    const WarpRow r = warp_row(a.heads, a.Sk);
    const bf16 *key = row_of(a.k, r.b, r.i, r.h, a.Sk, a.heads, a.hd),
               *value = row_of(a.v, r.b, r.i, r.h, a.Sk, a.heads, a.hd);
    float *wp = weights + (threadIdx.x & ~31), *wd = wp + THREADS, gk[PER_LANE], gv[PER_LANE];
    for (int k = 0; k < PER_LANE; k++)
        gk[k] = gv[k] = 0.0f;
    for (int64_t i0 = 0; i0 < a.Sq; i0 += 32) {
        const int64_t i = i0 + r.lane, at = (r.b * a.heads + r.h) * a.Sq + i;
        float p = 0.0f, ds = 0.0f;
        if (i < a.Sq) {
            p = expf(a.scale * dot(row_of(a.q, r.b, i, r.h, a.Sq, a.heads, a.hd), key, a.hd) - a.lse[at]);
            ds = p * (dot(row_of(a.go, r.b, i, r.h, a.Sq, a.heads, a.hd), value, a.hd) - a.delta[at]);
        }
        wp[r.lane] = p;
        wd[r.lane] = ds;
        __syncwarp();
        for (int k = 0; k < PER_LANE; k++) {
            const int64_t c = r.lane + 32 * k;
            if (c >= a.hd)
                break;
            for (int64_t ii = 0; ii < 32 && i0 + ii < a.Sq; ii++) {
                gv[k] += wp[ii] * load(row_of(a.go, r.b, i0 + ii, r.h, a.Sq, a.heads, a.hd), c);
                gk[k] += wd[ii] * load(row_of(a.q, r.b, i0 + ii, r.h, a.Sq, a.heads, a.hd), c);
            }
        }
        __syncwarp();
    }
    if (!r.live)
        return;
    for (int k = 0; k < PER_LANE; k++) {
        const int64_t c = r.lane + 32 * k;
        if (c >= a.hd)
            break;
        store((bf16 *)row_of(a.gk, r.b, r.i, r.h, a.Sk, a.heads, a.hd), c, a.scale * gk[k]);
        store((bf16 *)row_of(a.gv, r.b, r.i, r.h, a.Sk, a.heads, a.hd), c, gv[k]);
    }
}

static int check_head(const AttentionArgs *a, Err *err)
{
    if (a->hd <= MAX_HEAD)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "attention: head dimension %" PRId64 ", the device takes at most %d", a->hd,
                   (int)MAX_HEAD);
}

int attention_plain(Device *d, const AttentionArgs *a, Err *err)
{
    DEVICE_TRY(check_head(a, err));
    const size_t shared = rows_shared(a->hd); /* 38 KiB at most: no opt-in */
    auto run = [&](void (*kernel)(AttentionArgs)) {
        LAUNCH((kernel), dim3(blocks_for(a->Sq, WARPS), (unsigned)(a->B * a->heads)), dim3(THREADS), shared, d->compute,
               *a);
    };
    run(a->hd % 8 == 0 && aligned16(a->k, a->v) ? attention_rows<8> : attention_rows<1>);
    return device_launched("attention", err);
}

int attention_plain_backward(Device *d, const AttentionArgs *given, Err *err)
{
    AttentionArgs a = *given;
    const int64_t rows = a.B * a.Sq * a.heads;
    char *room;
    DEVICE_TRY(check_head(&a, err));
    DEVICE_TRY(device_scratch(d, (size_t)rows * sizeof(float), &room, err));
    a.delta = (float *)room;
    LAUNCH((delta_rows), dim3(blocks_for(rows, DELTA_WARPS)), dim3(32 * DELTA_WARPS), 0, d->compute, a.delta, a.go,
           (const bf16 *)a.o, rows, a.heads, a.hd, a.Sq);
    LAUNCH((attention_gradient_q), dim3(blocks_for(a.Sq, WARPS), (unsigned)(a.B * a.heads)), dim3(THREADS), 0,
           d->compute, a);
    LAUNCH((attention_gradient_kv), dim3(blocks_for(a.Sk, WARPS), (unsigned)(a.B * a.heads)), dim3(THREADS), 0,
           d->compute, a);
    return device_launched("attention_backward", err);
}
