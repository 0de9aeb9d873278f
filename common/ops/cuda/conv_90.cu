/* The causal convolution as implicit GEMM on warpgroup products (wgmma, compute capability 9.0):
 * conv_gemm.cu's streamed kernel with steps of 64 K, whole tiles of 128-byte rows, for Ci a
 * multiple of 64.
 *
 * A block computes BM positions x BN channels, each of its two warpgroups half of the positions as
 * two products of 64 rows.  The products of one step are in flight while the next step's tile is
 * waited for: at the barrier of step s those of s - 2 are through everywhere, and the tile of step
 * s + STAGES - 2 takes their place. */
#include "common/ops/cuda/conv.h"

enum {
    BM = 256,
    BN = 128,
    BK = 64,
    STAGES = 4,
    GROUPS = 2,
    THREADS = 128 * GROUPS,
    HALVES = BM / GROUPS / 64,
    CHUNKS = BK / 8,
    STAGE = (BM + BN) * BK,
    STEP = THREADS / CHUNKS,
    A_ROWS = BM / STEP,
    B_ROWS = BN / STEP
};

static size_t conv_90_shared(void)
{
    return (size_t)STAGES * STAGE * sizeof(bf16);
}

__device__ __forceinline__ int swizzled(int row, int chunk)
{
    return row * BK + ((chunk ^ (row & 7)) << 3);
}

/* y = sums + bias (+ y) of 64 rows from row0. */
__device__ __forceinline__ void write_sums(const ConvArgs &a, const float (&sums)[BN / 8][4], int64_t row0, int col0)
{
    const int l = threadIdx.x & 31;
    const int64_t rows = (int64_t)a.T * a.Ho * a.Wo;
    const bool pairs = a.Co % 2 == 0 && (uintptr_t)a.y % 4 == 0;
#pragma unroll
    for (int j = 0; j < BN / 8; j++) {
        const int c = col0 + 8 * j + (l & 3) * 2;
        const bool one = c < a.Co, two = c + 1 < a.Co;
        const float b0 = one ? vec_get(a.b, c) : 0.0f, b1 = two ? vec_get(a.b, c + 1) : 0.0f;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int64_t row = row0 + (threadIdx.x % 128 >> 5) * 16 + (l >> 2) + 8 * half;
            bf16 *at = a.y + row * a.Co + c;
            float v0 = sums[j][2 * half] + b0, v1 = sums[j][2 * half + 1] + b1;
            if (row >= rows || !one)
                continue;
            if (a.add) {
                v0 += load(at, 0);
                if (two)
                    v1 += load(at, 1);
            }
            if (pairs) {
                *(uint32_t *)at = pack_bf16(v0, v1);
            } else {
                store(at, 0, v0);
                if (two)
                    store(at, 1, v1);
            }
        }
    }
}

__global__ void __launch_bounds__(THREADS, 1) conv_90_streamed(ConvArgs a)
{
    SMEM_TILES(bf16, shared);
    const int my_row = threadIdx.x / CHUNKS, my_chunk = threadIdx.x % CHUNKS, group = threadIdx.x / 128;
    const int taps = a.kh * a.kw, K = a.kt * taps * a.Ci, steps = K / BK, area = a.Ho * a.Wo;
    /* blocks of the same positions share them in L2 */
    const int across = (a.Co + BN - 1) / BN, col0 = (int)(blockIdx.x % across) * BN;
    const int64_t row0 = (int64_t)(blockIdx.x / across) * BM, rows = (int64_t)a.T * area;

    /* This thread's rows of the A tile: frame, offset in it, and which taps lie inside. */
    int frame[A_ROWS], at[A_ROWS];
    uint32_t inside[A_ROWS];
    const bf16 *base[A_ROWS];
#pragma unroll
    for (int i = 0; i < A_ROWS; i++) {
        const int64_t row = row0 + my_row + i * STEP, known = row < rows ? row : 0;
        const int t = (int)(known / area), p = (int)(known - (int64_t)t * area), ho = p / a.Wo;
        const int h0 = ho * a.stride - a.top, w0 = (p - ho * a.Wo) * a.stride - a.left;
        uint32_t mask = 0;
        for (int q = 0; q < taps; q++) {
            const int h = h0 + q / a.kw, w = w0 + q % a.kw;
            if (row < rows && h >= 0 && h < a.H && w >= 0 && w < a.W)
                mask |= 1u << q;
        }
        frame[i] = t - (a.kt - 1);
        at[i] = (h0 * a.W + w0) * a.Ci + my_chunk * 8;
        inside[i] = mask;
        base[i] = conv_frame(a, frame[i]) + at[i];
    }
    const bf16 *weight = (const bf16 *)a.w.data + (int64_t)(col0 + my_row) * K + my_chunk * 8;

    /* The next step to copy: channels `channel`.. of tap `tap` (row tap dh, column tap dw),
     * `offset` from base. */
    int channel = 0, tap = 0, dw = 0, dh = 0, dt = 0, offset = 0;
    auto copy_step = [&](bf16 *stage) {
#pragma unroll
        for (int i = 0; i < A_ROWS; i++) {
            const bool in = inside[i] >> tap & 1;
            cp_async_16(stage + swizzled(my_row + i * STEP, my_chunk), in ? base[i] + offset : a.x, in ? 16 : 0);
        }
#pragma unroll
        for (int i = 0; i < B_ROWS; i++) {
            const bool in = col0 + my_row + i * STEP < a.Co;
            cp_async_16(stage + BM * BK + swizzled(my_row + i * STEP, my_chunk),
                        in ? weight + (int64_t)i * STEP * K : a.x, in ? 16 : 0);
        }
        weight += BK;
        channel += BK;
        offset += BK;
        if (channel < a.Ci)
            return;
        channel = 0;
        tap++;
        if (++dw == a.kw) {
            dw = 0;
            dh++;
        }
        if (tap == taps) {
            tap = dh = 0;
            dt++;
#pragma unroll
            for (int i = 0; i < A_ROWS; i++)
                base[i] = conv_frame(a, dt < a.kt ? frame[i] + dt : 0) + at[i];
        }
        offset = (dh * a.W + dw) * a.Ci;
    };

    float sums[HALVES][BN / 8][4];
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int j = 0; j < BN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                sums[h][j][e] = 0.0f;
    for (int s = 0; s < STAGES - 2; s++) {
        if (s < steps)
            copy_step(shared + s * STAGE);
        cp_async_commit();
    }
    for (int s = 0; s < steps; s++) {
        bf16 *stage = shared + s % STAGES * STAGE;
        cp_async_wait<STAGES - 3>();
        fence_async();
        __syncthreads();
        const uint64_t ta = wgmma_tile(stage + group * HALVES * 64 * BK), tb = wgmma_tile(stage + BM * BK);
        wgmma_fence();
#pragma unroll
        for (int kk = 0; kk < BK / 16; kk++)
#pragma unroll
            for (int h = 0; h < HALVES; h++)
                wgmma<1, 0, 0>(sums[h], ta + 8 * h * WGMMA_NEXT_EIGHT + kk * WGMMA_NEXT_CHUNKS,
                               tb + kk * WGMMA_NEXT_CHUNKS);
        wgmma_commit();
        if (s + STAGES - 2 < steps)
            copy_step(shared + (s + STAGES - 2) % STAGES * STAGE);
        cp_async_commit();
        wgmma_wait<1>();
    }
    wgmma_wait<0>();
    cp_async_wait<0>();
#pragma unroll
    for (int h = 0; h < HALVES; h++)
        write_sums(a, sums[h], row0 + (group * HALVES + h) * 64, col0);
}

bool conv_90_takes(const ConvArgs *a)
{
    return a->Ci % BK == 0 && a->Co > BN / 2 && aligned16(a->x) && aligned16(a->prefix) && aligned16(a->w.data);
}

int conv_90(Device *d, const ConvArgs *a, Err *err)
{
    const int64_t blocks = (conv_rows(a) + BM - 1) / BM * ((a->Co + BN - 1) / BN);
    if (blocks > INT32_MAX)
        return err_set(err, ERR_LIMIT, "conv: more than 2^31 tiles");
    DEVICE_TRY(device_check(cudaFuncSetAttribute((const void *)conv_90_streamed,
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)conv_90_shared()),
                            "conv's shared memory", err));
    LAUNCH((conv_90_streamed), dim3((unsigned)blocks), dim3(THREADS), conv_90_shared(), d->compute, *a);
    return device_launched("conv", err);
}
