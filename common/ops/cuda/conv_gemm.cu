/* The causal convolution as implicit GEMM on tensor cores (mma.m16n8k16, bf16 in, fp32 accumulate):
 * rows are output positions, columns output channels, and K runs over (time tap, row tap, column
 * tap, input channel), the order the weights lie in.
 *
 * Two kernels share the product:
 *   streamed  Ci a multiple of 32: a step of 32 K lies inside one tap.  A thread copies chunks of
 *             the same few rows in every step, so that frame, position and a mask of the taps
 *             inside the frame are found once; taps outside are copies of zero bytes.  STAGES tiles
 *             of cp.async in flight, one barrier a step, counters instead of divisions
 *   gathered  any other Ci (3 pixels, 16 latent channels): elements are gathered one by one; few
 *             steps
 *
 * Tiles are rows of 32 bf16 = 4 chunks of 16 bytes; chunk c of row r lies at c ^ (r >> 1 & 3): no
 * bank conflicts. */
#include "common/ops/cuda/conv.h"

enum { BK = 32, CHUNKS = BK / 8 };

__device__ __forceinline__ int swizzled(int row, int chunk)
{
    return row * BK + ((chunk ^ (row >> 1 & 3)) << 3);
}

/* A block computes BM positions x BN channels, each warp WM x WN of them. */
template <int BM_, int BN_, int WM_, int WN_, int STAGES_>
struct ConvTile {
    enum {
        BM = BM_,
        BN = BN_,
        WM = WM_,
        WN = WN_,
        STAGES = STAGES_,
        WARPS = (BM / WM) * (BN / WN),
        THREADS = 32 * WARPS
    };
    static_assert(BM * CHUNKS % THREADS == 0 && WM % 16 == 0 && WN % 16 == 0,
                  "whole rows a thread, whole fragments a warp");
    static size_t shared(int stages)
    {
        return (size_t)stages * (BM + BN) * BK * sizeof(bf16);
    }
};

template <class C>
struct Sums {
    float v[C::WM / 16][C::WN / 8][4];
};

/* sums += this warp's rows of tile a times its rows of tile b transposed, over 32 K. */
template <class C>
__device__ __forceinline__ void multiply(Sums<C> &sums, const bf16 *a, const bf16 *b, int row0, int col0)
{
    const int l = threadIdx.x & 31;
#pragma unroll
    for (int kk = 0; kk < BK / 16; kk++) {
        uint32_t fa[C::WM / 16][4];
#pragma unroll
        for (int i = 0; i < C::WM / 16; i++)
            ldmatrix_x4(fa[i], a + swizzled(row0 + 16 * i + (l & 15), kk * 2 + (l >> 4)));
#pragma unroll
        for (int j = 0; j < C::WN / 16; j++) {
            uint32_t fb[4];
            ldmatrix_x4(fb, b + swizzled(col0 + 16 * j + (l & 7) + (l >> 4 << 3), kk * 2 + (l >> 3 & 1)));
#pragma unroll
            for (int i = 0; i < C::WM / 16; i++) {
                mma_16816(sums.v[i][2 * j], fa[i], fb);
                mma_16816(sums.v[i][2 * j + 1], fa[i], fb + 2);
            }
        }
    }
}

template <class C>
__device__ __forceinline__ void clear(Sums<C> &sums)
{
#pragma unroll
    for (int i = 0; i < C::WM / 16; i++)
#pragma unroll
        for (int j = 0; j < C::WN / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                sums.v[i][j][e] = 0.0f;
}

/* y = sums + bias (+ y). */
template <class C>
__device__ __forceinline__ void write_sums(const ConvArgs &a, const Sums<C> &sums, int64_t row0, int col0)
{
    const int l = threadIdx.x & 31;
    const int64_t rows = (int64_t)a.T * a.Ho * a.Wo;
    const bool pairs = a.Co % 2 == 0 && (uintptr_t)a.y % 4 == 0;
#pragma unroll
    for (int j = 0; j < C::WN / 8; j++) {
        const int c = col0 + 8 * j + (l & 3) * 2;
        const bool one = c < a.Co, two = c + 1 < a.Co;
        const float b0 = one ? vec_get(a.b, c) : 0.0f, b1 = two ? vec_get(a.b, c + 1) : 0.0f;
#pragma unroll
        for (int i = 0; i < C::WM / 16; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int64_t row = row0 + 16 * i + (l >> 2) + 8 * half;
                bf16 *at = a.y + row * a.Co + c;
                float v0 = sums.v[i][j][2 * half] + b0, v1 = sums.v[i][j][2 * half + 1] + b1;
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

/* The block's first position and channel; blocks of the same positions are neighbours, so that they
 * share inputs in L2. */
template <class C>
__device__ __forceinline__ int64_t block_origin(const ConvArgs &a, int *col0)
{
    const int across = (a.Co + C::BN - 1) / C::BN;
    *col0 = (int)(blockIdx.x % across) * C::BN;
    return (int64_t)(blockIdx.x / across) * C::BM;
}

/* Where output position `row` looks: its frame, and the input row and column under tap (0, 0). */
struct Place {
    int t, h, w;
};
__device__ __forceinline__ Place place_of(const ConvArgs &a, int64_t row)
{
    const int area = a.Ho * a.Wo, t = (int)(row / area), p = (int)(row - (int64_t)t * area), ho = p / a.Wo;
    return Place{t, ho * a.stride - a.top, (p - ho * a.Wo) * a.stride - a.left};
}

/* ---- Ci a multiple of 32 --------------------------------------------------------------------- */

template <class C>
__global__ void __launch_bounds__(C::THREADS) conv_streamed(ConvArgs a)
{
    SMEM_DYN(bf16, shared);
    enum {
        STEP = C::THREADS / CHUNKS,
        A_ROWS = C::BM / STEP,
        B_ROWS = (C::BN + STEP - 1) / STEP,
        STAGE = (C::BM + C::BN) * BK
    };
    const int warp = threadIdx.x >> 5, row_in_block = warp % (C::BM / C::WM) * C::WM,
              col_in_block = warp / (C::BM / C::WM) * C::WN;
    const int my_row = threadIdx.x / CHUNKS, my_chunk = threadIdx.x % CHUNKS, taps = a.kh * a.kw,
              K = a.kt * taps * a.Ci, steps = K / BK;
    int col0;
    const int64_t row0 = block_origin<C>(a, &col0), rows = (int64_t)a.T * a.Ho * a.Wo;

    /* This thread's rows of the A tile: frame, offset in it, and which taps lie inside. */
    int frame[A_ROWS], at[A_ROWS];
    uint32_t inside[A_ROWS];
    const bf16 *base[A_ROWS];
#pragma unroll
    for (int i = 0; i < A_ROWS; i++) {
        const int64_t row = row0 + my_row + i * STEP;
        const Place p = place_of(a, row < rows ? row : 0);
        uint32_t mask = 0;
        for (int q = 0; q < taps; q++) {
            const int h = p.h + q / a.kw, w = p.w + q % a.kw;
            /* bit 4 of it shifted: the bytes to copy */
            if (row < rows && h >= 0 && h < a.H && w >= 0 && w < a.W)
                mask |= 16u << q;
        }
        frame[i] = p.t - (a.kt - 1);
        at[i] = (p.h * a.W + p.w) * a.Ci + my_chunk * 8;
        inside[i] = mask;
        base[i] = conv_frame(a, frame[i]) + at[i];
    }
    const bf16 *weight = (const bf16 *)a.w.data + (int64_t)(col0 + my_row) * K + my_chunk * 8;

    /* The next step to copy: channels `channel`.. of tap `tap` (row tap dh, column tap dw),
     * `offset` from base. */
    int channel = 0, tap = 0, dw = 0, dh = 0, dt = 0, offset = 0;
    auto copy_step = [&](bf16 *stage) {
        bf16 *sa = stage, *sb = stage + C::BM * BK;
#pragma unroll
        for (int i = 0; i < A_ROWS; i++) {
            cp_async_16(sa + swizzled(my_row + i * STEP, my_chunk), base[i] + offset, (int)(inside[i] >> tap & 16));
        }
#pragma unroll
        for (int i = 0; i < B_ROWS; i++) {
            const int r = my_row + i * STEP;
            const bool in = col0 + r < a.Co;
            if (C::BN % STEP == 0 || r < C::BN)
                cp_async_16(sb + swizzled(r, my_chunk), weight + (int64_t)i * STEP * K, in ? 16 : 0);
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

    Sums<C> sums;
    clear(sums);
    for (int s = 0; s < C::STAGES - 1; s++) {
        if (s < steps)
            copy_step(shared + s * STAGE);
        cp_async_commit();
    }
    int use = 0, fill = C::STAGES - 1;
    for (int s = 0; s < steps; s++) {
        cp_async_wait<C::STAGES - 2>();
        __syncthreads(); /* this step's tile has arrived, and all warps are done with the one overwritten next */
        if (s + C::STAGES - 1 < steps)
            copy_step(shared + fill * STAGE);
        cp_async_commit();
        multiply(sums, shared + use * STAGE, shared + use * STAGE + C::BM * BK, row_in_block, col_in_block);
        use = use + 1 == C::STAGES ? 0 : use + 1;
        fill = fill + 1 == C::STAGES ? 0 : fill + 1;
    }
    write_sums(a, sums, row0 + row_in_block, col0 + col_in_block);
}

/* ---- any Ci ---------------------------------------------------------------------------------- */

template <class C>
__global__ void __launch_bounds__(C::THREADS) conv_gathered(ConvArgs a)
{
    SMEM_DYN(bf16, shared);
    SMEM_ARRAY(int, places, 3 * C::BM); /* Place of every row; h far above the frame: no row */
    bf16 *sa = shared, *sb = shared + C::BM * BK;
    const int warp = threadIdx.x >> 5, l = threadIdx.x & 31, row_in_block = warp % (C::BM / C::WM) * C::WM,
              col_in_block = warp / (C::BM / C::WM) * C::WN;
    const int taps = a.kh * a.kw, K = a.kt * taps * a.Ci;
    int col0;
    const int64_t row0 = block_origin<C>(a, &col0), rows = (int64_t)a.T * a.Ho * a.Wo;
    for (int r = threadIdx.x; r < C::BM; r += C::THREADS) {
        const Place p = place_of(a, row0 + r < rows ? row0 + r : 0);
        places[3 * r] = p.t;
        places[3 * r + 1] = row0 + r < rows ? p.h : -(1 << 30);
        places[3 * r + 2] = p.w;
    }
    Sums<C> sums;
    clear(sums);
    for (int k0 = 0; k0 < K; k0 += BK) {
        const int k = k0 + l, tap = k / a.Ci, channel = k - tap * a.Ci, dt = tap / taps, q = tap - dt * taps,
                  dh = q / a.kw, dw = q - dh * a.kw;
        __syncthreads(); /* the places are written, and all warps are done with the last step's tiles */
        for (int r = warp; r < C::BM; r += C::WARPS) {
            const int h = places[3 * r + 1] + dh, w = places[3 * r + 2] + dw;
            bf16 v = {0};
            if (k < K && h >= 0 && h < a.H && w >= 0 && w < a.W)
                v = conv_frame(a, places[3 * r] + dt - (a.kt - 1))[(h * a.W + w) * a.Ci + channel];
            sa[swizzled(r, l >> 3) + (l & 7)] = v;
        }
        for (int r = warp; r < C::BN; r += C::WARPS) {
            bf16 v = {0};
            if (k < K && col0 + r < a.Co)
                v = ((const bf16 *)a.w.data)[(int64_t)(col0 + r) * K + k];
            sb[swizzled(r, l >> 3) + (l & 7)] = v;
        }
        __syncthreads();
        multiply(sums, sa, sb, row_in_block, col_in_block);
    }
    write_sums(a, sums, row0 + row_in_block, col0 + col_in_block);
}

/* ---- launchers ------------------------------------------------------------------------------- */

template <class C>
static int conv_grid(const ConvArgs *a, const void *kernel, size_t shared, dim3 *grid, Err *err)
{
    const int64_t blocks = (conv_rows(a) + C::BM - 1) / C::BM * ((a->Co + C::BN - 1) / C::BN);
    if (blocks > INT32_MAX)
        return err_set(err, ERR_LIMIT, "conv: more than 2^31 tiles");
    *grid = dim3((unsigned)blocks);
    return device_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                        "conv's shared memory", err);
}
template <class C>
static int launch_streamed(Device *d, const ConvArgs *a, Err *err)
{
    dim3 grid;
    DEVICE_TRY(conv_grid<C>(a, (const void *)conv_streamed<C>, C::shared(C::STAGES), &grid, err));
    LAUNCH((conv_streamed<C>), grid, dim3(C::THREADS), C::shared(C::STAGES), d->compute, *a);
    return device_launched("conv", err);
}
template <class C>
static int launch_gathered(Device *d, const ConvArgs *a, Err *err)
{
    dim3 grid;
    DEVICE_TRY(conv_grid<C>(a, (const void *)conv_gathered<C>, C::shared(1), &grid, err));
    LAUNCH((conv_gathered<C>), grid, dim3(C::THREADS), C::shared(1), d->compute, *a);
    return device_launched("conv", err);
}

/* Large tiles move least through L2 (85 FLOP a byte); narrow ones waste least where there are few
 * channels. */
int conv_gemm(Device *d, const ConvArgs *a, Err *err)
{
    const bool whole = a->Ci % BK == 0 && aligned16(a->x) && aligned16(a->prefix) && aligned16(a->w.data);
    if (!whole && a->Co <= 32)
        return launch_gathered<ConvTile<128, 32, 32, 32, 1>>(d, a, err);
    if (!whole)
        return launch_gathered<ConvTile<128, 128, 64, 32, 1>>(d, a, err);
    if (a->Co <= 16)
        return launch_streamed<ConvTile<128, 16, 32, 16, 4>>(d, a, err);
    if (a->Co <= 32)
        return launch_streamed<ConvTile<128, 32, 32, 32, 4>>(d, a, err);
    if (a->Co <= 64)
        return launch_streamed<ConvTile<128, 64, 64, 32, 4>>(d, a, err);
    if (a->Co <= 128)
        return launch_streamed<ConvTile<256, 128, 64, 64, 4>>(d, a, err);
    return launch_streamed<ConvTile<128, 256, 64, 64, 4>>(d, a, err);
}
