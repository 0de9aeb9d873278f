/* What a kernel may use beyond plain CUDA C, once for the GPU and once for the simulator.  The only
 * file with an #ifdef for it.
 *
 * The same .cu sources are compiled by nvcc (for the shared object) and, with -DWEFT_SIM, by the
 * host C++ compiler (for `--device sim`).
 * Rules that make both possible:
 *   - no inline PTX outside this file; launches only through LAUNCH((kernel<args>), grid, block,
 *   smem_bytes, stream, args...);
 *   - shared memory only through SMEM_ARRAY and SMEM_DYN, the total from one function used by
 *   launcher and kernel;
 *   - barriers at block-uniform points, full-warp masks, no early return before the last barrier,
 *   lane = linear thread index & 31;
 *   - no waiting between blocks, no float atomics, 16-byte accesses through load16 and store16;
 *   - kernels take plain values and pointers.
 * Kernels with warpgroup products (compute capability 9.0 only) sit in files *_90.cu, compiled for
 * sm_90a alone, and besides
 *   - keep tiles in SMEM_TILES, each at a multiple of 1024 bytes, rows of 128 bytes, 16-byte chunk
 *   c of row r at c ^ (r & 7);
 *   - begin every group of products with wgmma_fence() and end it with wgmma_commit(); accumulators
 *   and register operands are declared
 *     outside what they are in flight in, and untouched until the wait_group that covers them;
 *   - after writing or copying a tile: wait for the copy, fence_async(), barrier, then products. */
#ifndef WEFT_COMMON_OPS_CUDA_PORT_H
#define WEFT_COMMON_OPS_CUDA_PORT_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "common/ops/cuda/bf16.h"

#define HOST_AND_DEVICE __host__ __device__
/* A tile in shared memory as a product's operand (PTX ISA, wgmma matrix descriptors): address / 16,
 * leading offset (unused: 64 elements across are one tile), 1024 bytes from eight rows to the next,
 * swizzle of 128 bytes.  Both orders read the same tile:
 *   rows along m or n, k contiguous (K-major): the next 16 of k are WGMMA_NEXT_CHUNKS on; the next
 *   8 R rows R WGMMA_NEXT_EIGHT;
 *   rows along k, m or n contiguous (transposed): the next 16 of k are 2 WGMMA_NEXT_EIGHT on. */
#define WGMMA_TILE_BITS ((uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 16)
enum { WGMMA_NEXT_CHUNKS = 32 >> 4, WGMMA_NEXT_EIGHT = 1024 >> 4 };

#ifdef WEFT_SIM
#include "common/ops/cuda/sim/sim.h"
#define WEFT_DEVICE_OPEN weft_sim_open
#define WEFT_DEVICE_NAME "sim"
#else
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define WEFT_DEVICE_OPEN weft_cuda_open
#define WEFT_DEVICE_NAME "cuda"

#define PORT_UNPAREN(...) __VA_ARGS__
#define LAUNCH(kernel, grid, block, smem, stream, ...) PORT_UNPAREN kernel<<<grid, block, smem, stream>>>(__VA_ARGS__)
#define SMEM_ARRAY(T, name, n) __shared__ T name[n]
#define SMEM_DYN(T, name)                                           \
    extern __shared__ __align__(128) unsigned char port_dynamic_[]; \
    T *name = reinterpret_cast<T *>(port_dynamic_)
#define SMEM_TILES(T, name)                                        \
    extern __shared__ __align__(1024) unsigned char port_tiles_[]; \
    T *name = reinterpret_cast<T *>(port_tiles_)

__device__ __forceinline__ float to_float(bf16 v)
{
    return __uint_as_float((uint32_t)v.bits << 16);
}
__device__ __forceinline__ bf16 to_bf16(float f)
{
    return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(f))};
}
/* a in the low half, b in the high half. */
__device__ __forceinline__ uint32_t pack_bf16(float a, float b)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    return (uint32_t)__bfloat16_as_ushort(v.x) | (uint32_t)__bfloat16_as_ushort(v.y) << 16;
}

/* 16 bytes at a 16-byte aligned address. */
__device__ __forceinline__ uint4 load16(const void *p)
{
    return *reinterpret_cast<const uint4 *>(p);
}
__device__ __forceinline__ void store16(void *p, uint4 v)
{
    *reinterpret_cast<uint4 *>(p) = v;
}

__device__ __forceinline__ uint32_t port_shared(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}
/* Four 8x8 matrices of 16-bit elements: lane l gives the address of row l%8 of matrix l/8 in shared
 * memory. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(port_shared(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(port_shared(row))
                 : "memory");
}
/* d[16x8] += a[16x16] b[16x8]; bf16 operands, fp32 accumulators; PTX ISA fragment layout of
 * mma.m16n8k16. */
__device__ __forceinline__ void mma_16816(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* 16 bytes from global to shared memory behind the thread's back; bytes past src_bytes (0 or 16)
 * become zero. */
__device__ __forceinline__ void cp_async_16(void *shared, const void *global, int src_bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(port_shared(shared)), "l"(global), "r"(src_bytes)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most N of this thread's groups are pending.  Other threads' copies: barrier after
 * it. */
template <int N>
__device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
/* 2^x, 2 ulp, subnormals flushed. */
__device__ __forceinline__ float exp2_fast(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
/* To the nearest, halves to even; the nearest int beyond the range, 0 for NaN. */
__device__ __forceinline__ int32_t round_to_int(float x)
{
    return __float2int_rn(x);
}
/* Adds to a word of global memory that other blocks add to as well: the sum depends on no order. */
__device__ __forceinline__ void add_int(int32_t *p, int32_t v)
{
    atomicAdd(p, v);
}

/* ---- warpgroup products: 128 threads of four warps, the first a multiple of four; sm_90a ----- */

#define PORT_F4(x) "+f"((x)[0]), "+f"((x)[1]), "+f"((x)[2]), "+f"((x)[3])
#define PORT_F32(d)                                                                                          \
    PORT_F4(d[0]), PORT_F4(d[1]), PORT_F4(d[2]), PORT_F4(d[3]), PORT_F4(d[4]), PORT_F4(d[5]), PORT_F4(d[6]), \
        PORT_F4(d[7])
#define PORT_F64(d)                                                                                            \
    PORT_F32(d), PORT_F4(d[8]), PORT_F4(d[9]), PORT_F4(d[10]), PORT_F4(d[11]), PORT_F4(d[12]), PORT_F4(d[13]), \
        PORT_F4(d[14]), PORT_F4(d[15])
#define PORT_D32                                                                                                      \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%" \
    "30,%31"
#define PORT_D64                                                                 \
    PORT_D32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
             "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define PORT_WGMMA "wgmma.mma_async.sync.aligned.m64n"

__device__ __forceinline__ uint64_t wgmma_tile(const void *tile)
{
    return WGMMA_TILE_BITS | (port_shared(tile) & 0x3ffff) >> 4;
}
/* Registers written so far may be used by products after it. */
__device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits until at most N of this warp's groups are in flight. */
template <int N>
__device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/* What this thread wrote to shared memory so far may be read by products (which go through the
 * async proxy) after the next barrier. */
__device__ __forceinline__ void fence_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* d[64 x N] = a b, plus d if ADD; N = 64 or 128 columns; 16 of k.  a: a tile, TA for transposed, or
 * fragments as mma_16816's, warp w with rows 16 w of 64.  b: a tile of N rows along n, or TB: of
 * rows along k.  Asynchronous.  d[j]: columns 8 j.., as mma_16816's. */
template <int ADD, int TA, int TB>
__device__ __forceinline__ void wgmma(float (&d)[8][4], uint64_t a, uint64_t b)
{
    asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0;\n" PORT_WGMMA "64k16.f32.bf16.bf16 {" PORT_D32
                 "}, %32, %33, p, 1, 1, %35, %36;}"
                 : PORT_F32(d)
                 : "l"(a), "l"(b), "n"(ADD), "n"(TA), "n"(TB)
                 : "memory");
}
template <int ADD, int TA, int TB>
__device__ __forceinline__ void wgmma(float (&d)[16][4], uint64_t a, uint64_t b)
{
    asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0;\n" PORT_WGMMA "128k16.f32.bf16.bf16 {" PORT_D64
                 "}, %64, %65, p, 1, 1, %67, %68;}"
                 : PORT_F64(d)
                 : "l"(a), "l"(b), "n"(ADD), "n"(TA), "n"(TB)
                 : "memory");
}
template <int ADD, int TB>
__device__ __forceinline__ void wgmma(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("{.reg .pred p; setp.ne.b32 p, %37, 0;\n" PORT_WGMMA "64k16.f32.bf16.bf16 {" PORT_D32
                 "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;}"
                 : PORT_F32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ADD), "n"(TB)
                 : "memory");
}
template <int ADD, int TB>
__device__ __forceinline__ void wgmma(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("{.reg .pred p; setp.ne.b32 p, %69, 0;\n" PORT_WGMMA "128k16.f32.bf16.bf16 {" PORT_D64
                 "}, {%64,%65,%66,%67}, %68, p, 1, 1, %70;}"
                 : PORT_F64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ADD), "n"(TB)
                 : "memory");
}
#endif

#endif
