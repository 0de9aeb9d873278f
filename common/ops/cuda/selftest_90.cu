/* The warpgroup wrappers of port.h, each form the kernels use, against scalar code; on devices of
 * compute capability 9.0. */
#include "common/ops/cuda/device.h"

enum { M = 64, K = 64, MOST_N = 128, THREADS = 128, ROW_CHUNKS = 8 };

/* A tile of `rows` rows of 64: chunk c of row r at c ^ (r & 7). */
__device__ __forceinline__ void put_tile(bf16 *tile, const bf16 *x, int rows)
{
    for (int id = threadIdx.x; id < rows * ROW_CHUNKS; id += THREADS) {
        const int row = id / ROW_CHUNKS, c = id % ROW_CHUNKS;
        store16(tile + row * 64 + ((c ^ (row & 7)) << 3), load16(x + row * 64 + c * 8));
    }
}

/* d[64][N] = A B over 64 of k.  a: A, or TA: A transposed; b: B transposed (rows along n), or TB: B
 * (rows along k). */
template <int N, int REGISTERS, int TA, int TB>
__global__ void __launch_bounds__(THREADS) probe_wgmma(float *d, const bf16 *a, const bf16 *b)
{
    SMEM_TILES(bf16, shared);
    bf16 *ta = shared, *tb = shared + M * 64;
    const int l = threadIdx.x & 31, row0 = (threadIdx.x >> 5) * 16 + (l >> 2), col0 = (l & 3) * 2;
    float s[N / 8][4];
    uint32_t fa[K / 16][4];
    put_tile(ta, a, M);
    put_tile(tb, b, TB ? K : N);
    fence_async();
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < K / 16; kk++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const bf16 *at = a + (row0 + 8 * (i & 1)) * K + kk * 16 + col0 + 8 * (i >> 1);
            fa[kk][i] = (uint32_t)at[0].bits | (uint32_t)at[1].bits << 16;
        }
#pragma unroll
    for (int j = 0; j < N / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[j][e] = 7.0f; /* the first product must not add */
    const uint64_t da = wgmma_tile(ta), db = wgmma_tile(tb);
    constexpr int next_a = TA ? 2 * WGMMA_NEXT_EIGHT : WGMMA_NEXT_CHUNKS,
                  next_b = TB ? 2 * WGMMA_NEXT_EIGHT : WGMMA_NEXT_CHUNKS;
    wgmma_fence();
    if constexpr (REGISTERS) {
        wgmma<0, TB>(s, fa[0], db);
#pragma unroll
        for (int kk = 1; kk < K / 16; kk++)
            wgmma<1, TB>(s, fa[kk], db + kk * next_b);
    } else {
        wgmma<0, TA, TB>(s, da, db);
#pragma unroll
        for (int kk = 1; kk < K / 16; kk++)
            wgmma<1, TA, TB>(s, da + kk * next_a, db + kk * next_b);
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int j = 0; j < N / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            d[(row0 + 8 * (e >> 1)) * N + 8 * j + col0 + (e & 1)] = s[j][e];
}

/* ---- host ------------------------------------------------------------------------------------ */

static float value_at(int i, int salt)
{
    return (float)((i * 37 + salt) % 61 - 30) / 16.0f;
} /* exact in bf16 */
static bf16 exact(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return bf16{(uint16_t)(u >> 16)};
}

struct Room {
    float d[M * MOST_N];
    bf16 a[M * K], b[MOST_N * K];
}; /* the same on both sides */

template <int N, int REGISTERS, int TA, int TB>
static int try_wgmma(Device *dev, const char *name, Room *host, Room *room, DeviceReport report, void *user, Err *err)
{
    int wrong = 0;
    for (int i = 0; i < M; i++)
        for (int k = 0; k < K; k++)
            host->a[TA ? k * M + i : i * K + k] = exact(value_at(i * K + k, 11));
    for (int j = 0; j < N; j++)
        for (int k = 0; k < K; k++)
            host->b[TB ? k * N + j : j * K + k] = exact(value_at(j * K + k, 29));
    DEVICE_TRY(dev->be.upload(&dev->be, room, host, sizeof *host, err));
    const void *kernel = (const void *)probe_wgmma<N, REGISTERS, TA, TB>;
    const size_t shared = sizeof host->a + sizeof host->b;
    DEVICE_TRY(device_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
                            name, err));
    LAUNCH((probe_wgmma<N, REGISTERS, TA, TB>), dim3(1), dim3(THREADS), shared, dev->compute, room->d,
           (const bf16 *)room->a, (const bf16 *)room->b);
    DEVICE_TRY(device_launched("probe_wgmma", err));
    DEVICE_TRY(dev->be.download(&dev->be, host, room, sizeof *host, err));
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float want = 0.0f; /* sums of 256ths below 2^16: exact */
            for (int k = 0; k < K; k++)
                want += value_at(i * K + k, 11) * value_at(j * K + k, 29);
            wrong += !(host->d[i * N + j] == want);
        }
    report(user, name, wrong);
    return 0;
}

int device_selftest_90(Device *d, DeviceReport report, void *user, Err *err)
{
    void *room = nullptr;
    Room *host = (Room *)calloc(1, sizeof *host);
    if (!host)
        return err_set(err, ERR_NOMEM, "no memory for the self-test");
    int rc = d->be.alloc(&d->be, sizeof *host, &room, err);
    Room *r = (Room *)room;
    if (rc == 0)
        rc = try_wgmma<64, 0, 0, 0>(d, "wgmma m64n64k16, both K-major", host, r, report, user, err);
    if (rc == 0)
        rc = try_wgmma<128, 0, 0, 0>(d, "wgmma m64n128k16, both K-major", host, r, report, user, err);
    if (rc == 0)
        rc = try_wgmma<64, 0, 1, 1>(d, "wgmma m64n64k16, both transposed", host, r, report, user, err);
    if (rc == 0)
        rc = try_wgmma<64, 1, 0, 0>(d, "wgmma m64n64k16, A in registers", host, r, report, user, err);
    if (rc == 0)
        rc = try_wgmma<64, 1, 0, 1>(d, "wgmma m64n64k16, A in registers, B transposed", host, r, report, user, err);
    if (rc == 0)
        rc = try_wgmma<128, 1, 0, 0>(d, "wgmma m64n128k16, A in registers", host, r, report, user, err);
    d->be.release(&d->be, room);
    free(host);
    return rc;
}
