/* What a kernel may use beyond plain CUDA C, once for the GPU and once for the simulator.  The only file with an #ifdef for it.
 *
 * The same .cu sources are compiled by nvcc (for the shared object) and, with -DWEFT_SIM, by the host C++ compiler (for `--device sim`).
 * Rules that make both possible:
 *   - no inline PTX outside this file; launches only through LAUNCH((kernel<args>), grid, block, smem_bytes, stream, args...);
 *   - shared memory only through SMEM_ARRAY and SMEM_DYN, the total from one function used by launcher and kernel;
 *   - barriers at block-uniform points, full-warp masks, no early return before the last barrier, lane = linear thread index & 31;
 *   - no waiting between blocks, no float atomics, 16-byte accesses through load16 and store16;
 *   - kernels take plain values and pointers. */
#ifndef WEFT_COMMON_OPS_CUDA_PORT_H
#define WEFT_COMMON_OPS_CUDA_PORT_H
#include <math.h>
#include <stdint.h>
#include <string.h>

/* bfloat16 as kernels see it: storage only; arithmetic is float. */
struct bf16 { uint16_t bits; };

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
#define SMEM_DYN(T, name) extern __shared__ __align__(128) unsigned char port_dynamic_[]; T *name = reinterpret_cast<T *>(port_dynamic_)

__device__ __forceinline__ float to_float(bf16 v) { return __uint_as_float((uint32_t)v.bits << 16); }
__device__ __forceinline__ bf16 to_bf16(float f) { return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(f))}; }
/* a in the low half, b in the high half. */
__device__ __forceinline__ uint32_t pack_bf16(float a, float b)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    return (uint32_t)__bfloat16_as_ushort(v.x) | (uint32_t)__bfloat16_as_ushort(v.y) << 16;
}

/* 16 bytes at a 16-byte aligned address. */
__device__ __forceinline__ uint4 load16(const void *p) { return *reinterpret_cast<const uint4 *>(p); }
__device__ __forceinline__ void store16(void *p, uint4 v) { *reinterpret_cast<uint4 *>(p) = v; }

__device__ __forceinline__ uint32_t port_shared(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
/* Four 8x8 matrices of 16-bit elements: lane l gives the address of row l%8 of matrix l/8 in shared memory. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(port_shared(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(port_shared(row)) : "memory");
}
/* d[16x8] += a[16x16] b[16x8]; bf16 operands, fp32 accumulators; PTX ISA fragment layout of mma.m16n8k16. */
__device__ __forceinline__ void mma_16816(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* 16 bytes from global to shared memory behind the thread's back; bytes past src_bytes (0 or 16) become zero. */
__device__ __forceinline__ void cp_async_16(void *shared, const void *global, int src_bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(port_shared(shared)), "l"(global), "r"(src_bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N of this thread's groups are pending.  Other threads' copies: barrier after it. */
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
/* 2^x, 2 ulp, subnormals flushed. */
__device__ __forceinline__ float exp2_fast(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
#endif

#endif
