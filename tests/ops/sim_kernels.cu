#include "tests/ops/sim_kernels.h"

#include "common/ops/cuda/device.h"

static const char *finish(void)
{
    cudaDeviceSynchronize();
    cudaGetLastError();
    return sim_fault();
}

__global__ void ldmatrix_kernel(uint32_t *out, const uint16_t *tile, int trans)
{
    SMEM_ARRAY(uint4, room, 32);
    bf16 *rows = (bf16 *)&room[0];
    uint32_t r[4];
    const int l = threadIdx.x;
    for (int k = 0; k < 8; k++)
        rows[l * 8 + k].bits = tile[l * 8 + k];
    __syncthreads();
    /* matrix l/8: rows 0-7 or 8-15, left or right half */
    const bf16 *row = rows + ((l & 7) + (l >> 3 & 1) * 8) * 16 + (l >> 4) * 8;
    if (trans)
        ldmatrix_x4_trans(r, row);
    else
        ldmatrix_x4(r, row);
    for (int k = 0; k < 4; k++)
        out[l * 4 + k] = r[k];
}
const char *run_ldmatrix(uint32_t out[32][4], const uint16_t tile[256], int trans)
{
    LAUNCH((ldmatrix_kernel), dim3(1), dim3(32), 0, nullptr, &out[0][0], tile, trans);
    return finish();
}

__global__ void mma_kernel(float *d, const uint32_t *a, const uint32_t *b)
{
    const int l = threadIdx.x;
    float sum[4];
    for (int k = 0; k < 4; k++)
        sum[k] = d[l * 4 + k];
    mma_16816(sum, a + l * 4, b + l * 2);
    for (int k = 0; k < 4; k++)
        d[l * 4 + k] = sum[k];
}
const char *run_mma(float d[32][4], const uint32_t a[32][4], const uint32_t b[32][2])
{
    LAUNCH((mma_kernel), dim3(1), dim3(32), 0, nullptr, &d[0][0], &a[0][0], &b[0][0]);
    return finish();
}

__global__ void shuffle_kernel(float *out, const float *value)
{
    const int l = threadIdx.x;
    out[l] = __shfl_xor_sync(0xffffffffu, value[l], 5);
    out[32 + l] = __shfl_sync(0xffffffffu, value[l], 7);
    out[64 + l] = __shfl_down_sync(0xffffffffu, value[l], 3);
}
const char *run_shuffles(float out[3][32], const float value[32])
{
    LAUNCH((shuffle_kernel), dim3(1), dim3(32), 0, nullptr, &out[0][0], value);
    return finish();
}

__global__ void copy_kernel(uint8_t *out, const uint8_t *in)
{
    SMEM_DYN(uint8_t, room);
    const int at = threadIdx.x * 16, bytes = threadIdx.x % 2 ? 0 : 16;
    for (int group = 0; group < 3; group++) {
        cp_async_16(room + group * 512 + at, in + group * 512 + at, bytes);
        cp_async_commit();
    }
    cp_async_wait<1>();
    for (int k = 0; k < 16; k++) {
        out[at + k] = room[at + k];
        out[512 + at + k] = room[512 + at + k];
    }
    cp_async_wait<0>();
    for (int k = 0; k < 16; k++)
        out[1024 + at + k] = room[1024 + at + k];
}
const char *run_copies(uint8_t out[3][512], const uint8_t in[3][512])
{
    LAUNCH((copy_kernel), dim3(1), dim3(32), 3 * 512, nullptr, &out[0][0], &in[0][0]);
    return finish();
}

__global__ void conversion_kernel(uint16_t *bf, float *back, uint16_t *half, float *from_half, float *exp2,
                                  const float *value, const uint16_t *h, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const uint32_t two = pack_bf16(value[i], value[n - 1 - i]);
    bf[i] = to_bf16(value[i]).bits;
    back[i] = to_float(bf16{(uint16_t)two}) == to_float(to_bf16(value[i])) &&
                      two >> 16 == to_bf16(value[n - 1 - i]).bits
                  ? to_float(bf16{bf[i]})
                  : -1e30f;
    half[i] = float_to_half_bits(value[i]);
    from_half[i] = half_bits_to_float(h[i]);
    exp2[i] = exp2_fast(value[i]);
}
const char *run_conversions(uint16_t *bf, float *back, uint16_t *half, float *from_half, float *exp2,
                            const float *value, const uint16_t *h, int64_t n)
{
    LAUNCH((conversion_kernel), dim3(blocks_for(n, 256)), dim3(256), 0, nullptr, bf, back, half, from_half, exp2, value,
           h, n);
    return finish();
}

__global__ void rows_kernel(uint32_t *out, int swizzle)
{
    SMEM_DYN(bf16, tile); /* 16 rows of 64 */
    const int l = threadIdx.x, row = l & 15, chunk = l >> 4;
    uint32_t r[4];
    for (int k = 0; k < 32; k++)
        tile[l * 32 + k].bits = 0;
    __syncthreads();
    ldmatrix_x4(r, tile + row * 64 + (swizzle ? chunk ^ (row & 7) : chunk) * 8);
    for (int k = 0; k < 4; k++)
        out[l * 4 + k] = r[k];
}
const char *run_rows(uint32_t out[32][4], int swizzle)
{
    LAUNCH((rows_kernel), dim3(1), dim3(32), 16 * 64 * sizeof(bf16), nullptr, &out[0][0], swizzle);
    return finish();
}

/* out[tid] = twice what its neighbour across a barrier wrote; with one mistake. */
__global__ void mistaken(float *out, int mistake)
{
    SMEM_DYN(float, room); /* 64 */
    SMEM_ARRAY(float, more, 64);
    const int t = threadIdx.x;
    const volatile int last = 63; /* the compiler must not see through it */
    uint32_t r[4];
    if (mistake == RETURN_BEFORE_BARRIER && t == 63)
        return;
    if (mistake == BLOCK_RACE) {
        out[t] = (float)blockIdx.x;
        return;
    }
    if (mistake != UNWRITTEN || t != 5)
        room[t] = (float)(63 - t);
    more[t] = 0.0f;
    if (mistake == PAST_ARRAY && t == 63)
        (&more[0])[last + 1] = 1.0f;
    if (mistake == PAST_DYNAMIC && t == 63)
        room[last + 1] = 1.0f;
    if (mistake == DIVERGENT_BARRIER && t < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    if (mistake == SHUFFLE_IN_A_BRANCH && t % 2)
        room[t] += __shfl_xor_sync(0xffffffffu, room[t], 1) * 0.0f;
    if (mistake == DIFFERENT_COLLECTIVES) {
        if (t % 2)
            __syncwarp();
        else
            ldmatrix_x4(r, room);
    }
    if (mistake == DEADLOCK && t == 0)
        more[0] += __shfl_xor_sync(0xffffffffu, 0.0f, 1);
    if (mistake == DEADLOCK && t != 0)
        __syncthreads();
    if (mistake == ODD_LDMATRIX)
        ldmatrix_x4(r, (const bf16 *)room + 1);
    if (mistake == LDMATRIX_OUTSIDE)
        ldmatrix_x4(r, room + (1 << 16));
    if (mistake == ODD_LOAD16)
        more[t] += (float)load16(room + 1).x * 0.0f;
    if (mistake == ODD_COPY)
        cp_async_16(room, (const char *)out + 4, 16);
    if (mistake == PENDING_COPY)
        cp_async_16(more, out, 0);
    out[t] = 2.0f * room[63 - t] + more[t];
}
const char *run_mistake(float out[64], Mistake mistake)
{
    const size_t shared = mistake == TOO_MUCH_SHARED ? (48 << 10) + 16 : 64 * sizeof(float);
    LAUNCH((mistaken), dim3(mistake == BLOCK_RACE ? 8 : 1), dim3(mistake == TOO_MANY_THREADS ? 1056 : 64), shared,
           nullptr, out, (int)mistake);
    return finish();
}

/* A from registers, B a tile, both orders of waiting; `room` has one tile more than is needed. */
__global__ void wgmma_kernel(float *out, const bf16 *a, const bf16 *b, int mistake)
{
    SMEM_DYN(bf16, loose);
    if (mistake != WGMMA_UNALIGNED_MEMORY) {
        SMEM_TILES(bf16, tiles);
        loose = tiles;
    }
    /* 512 bytes on: its rows' swizzle is not the memory's */
    bf16 *tile = loose + (mistake == WGMMA_TILE_BETWEEN ? 256 : 0);
    const int t = threadIdx.x, l = t & 31, row0 = (t >> 5) * 16 + (l >> 2), col0 = (l & 3) * 2;
    float d[8][4];
    uint32_t f[4][4];
    for (int id = t; id < 64 * 8; id += 128)
        cp_async_16(tile + id / 8 * 64 + ((id % 8 ^ (id / 8 & 7)) << 3), b + id / 8 * 64 + id % 8 * 8, 16);
    cp_async_commit();
    cp_async_wait<0>();
    if (mistake != WGMMA_NO_ASYNC_FENCE)
        fence_async();
    __syncthreads();
    for (int kk = 0; kk < 4; kk++)
        for (int i = 0; i < 4; i++) {
            const bf16 *at = a + (row0 + 8 * (i & 1)) * 64 + kk * 16 + col0 + 8 * (i >> 1);
            f[kk][i] = (uint32_t)at[0].bits | (uint32_t)at[1].bits << 16;
        }
    uint64_t db = wgmma_tile(tile);
    if (mistake == WGMMA_WRONG_STRIDE)
        db ^= (uint64_t)(1024 >> 4 ^ 512 >> 4) << 32;
    if (mistake == WGMMA_NO_SWIZZLE_BITS)
        db &= ~((uint64_t)3 << 62);
    if (mistake == WGMMA_OUTSIDE)
        db += 2 * 8192 >> 4;
    if (mistake != WGMMA_NO_FENCE)
        wgmma_fence();
    wgmma<0, 0>(d, f[0], db);
    if (mistake != WGMMA_THREE_WARPS || t < 96)
        for (int kk = 1; kk < 4; kk++)
            wgmma<1, 0>(d, f[kk], db + kk * WGMMA_NEXT_CHUNKS);
    wgmma_commit();
    if (mistake == WGMMA_READ_EARLY)
        f[0][0] = (uint32_t)(d[0][0] != d[0][0]) << 30 | (f[0][0] & 0x3fffffffu);
    if (mistake == WGMMA_WRITTEN_EARLY)
        d[1][1] = 0.0f;
    if (mistake == WGMMA_OPERAND_CHANGED)
        f[2][3] ^= 1;
    if (mistake == WGMMA_TILE_OVERWRITTEN)
        tile[t].bits = 0;
    if (mistake != WGMMA_NO_WAIT)
        wgmma_wait<0>();
    if (mistake == WGMMA_OVERWRITTEN_AFTER_OWN_WAIT)
        for (int i = t; i < 4096; i += 128)
            tile[i].bits = 0; /* no barrier: another warp may still be reading */
    for (int j = 0; j < 8; j++)
        for (int e = 0; e < 4; e++)
            out[(row0 + 8 * (e >> 1)) * 64 + 8 * j + col0 + (e & 1)] = d[j][e];
}
const char *run_wgmma(float out[64][64], const uint16_t a[64][64], const uint16_t b[64][64], WgmmaMistake mistake)
{
    LAUNCH((wgmma_kernel), dim3(1), dim3(128), 2 * 8192, nullptr, &out[0][0], (const bf16 *)a, (const bf16 *)b,
           (int)mistake);
    return finish();
}
