/* The kernel side of the simulator: what port.h gives kernels when they are compiled for the CPU.
 *
 * Every CUDA thread is a fiber; a block's fibers run one at a time under a schedule; the lanes of a
 * warp meet at collectives, and the last to arrive computes for all.  The files that share block.h
 * check what hardware leaves undefined and report the first fault as a sentence with file and line;
 * the launch is then abandoned and the next CUDA call returns cudaErrorLaunchFailure. */
#ifndef WEFT_COMMON_OPS_CUDA_SIM_SIM_H
#define WEFT_COMMON_OPS_CUDA_SIM_SIM_H
#include <functional>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#include "common/ops/cuda/bf16.h"
#include "common/ops/cuda/sim/control.h"
#include "common/ops/cuda/sim/toolkit.h"

extern uint3 threadIdx, blockIdx; /* set at every switch of fibers */
extern dim3 blockDim, gridDim;
enum { warpSize = 32 };

enum SimWarpOp {
    SIM_SHUFFLE,
    SIM_SYNCWARP,
    SIM_LDMATRIX,
    SIM_LDMATRIX_TRANS,
    SIM_MMA,
    SIM_WGMMA,
    SIM_WGMMA_FENCE,
    SIM_WGMMA_COMMIT,
    SIM_WGMMA_WAIT
};
struct SimShuffle {
    uint32_t value, result;
    int source;
};
struct SimLdmatrix {
    uint32_t row[4], result[4];
    const void *address;
};
struct SimMma {
    uint32_t a[4], b[2];
    float d[4];
};
/* a: NULL for tile_a */
struct SimWgmma {
    float *d;
    const uint32_t *a;
    uint64_t tile_a, tile_b;
    int n;
    bool add, trans_a, trans_b;
};

extern "C" {
void sim_barrier(const char *file, int line);
/* operands: on the calling lane's stack, one of the structs above; filled in when it returns. */
void sim_warp(SimWarpOp op, unsigned mask, void *operands, const char *file, int line);
void *sim_shared_dynamic(void);
void *sim_shared_tiles(void); /* the same, and its 1024-byte alignment is used */
void *sim_shared_array(const void *site, size_t bytes);
/* 16 bytes, aligned, inside this block's shared memory */
void sim_check_shared(const void *p, const char *what, const char *file, int line);
void sim_check_aligned(const void *p, const char *file, int line);
int sim_copy_now(void); /* this cp.async lands at once, else at its wait */
void sim_copy_later(void *shared, const void *global, int bytes);
void sim_copy_commit(void);
int sim_copy_due(int pending, void **shared, const void **global, int *bytes); /* 1 with a copy that is due */
int sim_wait_is_skipped(const char *file, int line);
int sim_fence_is_skipped(const char *file, int line);
void sim_shared_written(const void *p); /* by store16, if it is shared memory */
void sim_fence_async(void);
uint64_t sim_wgmma_tile(const void *tile, const char *file, int line);
/* chunk i of what the wait will see read; NULL past the last */
const void *sim_wgmma_read(int pending, int operand, int i);
}

#define LAUNCH(kernel, grid, block, smem, stream, ...) \
    sim_launch(#kernel, grid, block, smem, stream, SIM_UNPAREN kernel, ##__VA_ARGS__)
#define SIM_UNPAREN(...) __VA_ARGS__
#define SMEM_ARRAY(T, name, n)             \
    static const char sim_site_##name = 0; \
    T(&name)[n] = *(T(*)[n])sim_shared_array(&sim_site_##name, sizeof(T[n]))
#define SMEM_DYN(T, name) T *name = (T *)sim_shared_dynamic()
#define SMEM_TILES(T, name) T *name = (T *)sim_shared_tiles()
#define __syncthreads() sim_barrier(__FILE__, __LINE__)
#define __syncwarp() sim_warp(SIM_SYNCWARP, 0xffffffffu, nullptr, __FILE__, __LINE__)

void sim_enqueue(cudaStream_t stream, std::function<void()> work);
void sim_launch_erased(const char *name, const void *kernel, dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
                       std::function<void()> body);
/* Arguments are converted to the kernel's parameter types at launch, as the hardware copies them. */
template <class... P, class... A>
static inline void sim_launch(const char *name, dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
                              void (*kernel)(P...), A &&...args)
{
    std::tuple<P...> values(static_cast<P>(args)...);
    sim_launch_erased(name, (const void *)kernel, grid, block, smem, stream,
                      [kernel, values] { std::apply(kernel, values); });
}

static inline int sim_lane(void)
{
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31;
}

template <class T>
static inline T sim_shuffle(unsigned mask, T v, int source, const char *file, int line)
{
    static_assert(sizeof(T) == 4, "32-bit shuffles");
    SimShuffle s = {0, 0, source};
    T out;
    memcpy(&s.value, &v, 4);
    sim_warp(SIM_SHUFFLE, mask, &s, file, line);
    memcpy(&out, &s.result, 4);
    return out;
}
#define __shfl_sync(mask, v, lane) sim_shuffle(mask, v, (lane)&31, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, v, bits) sim_shuffle(mask, v, sim_lane() ^ (bits), __FILE__, __LINE__)
#define __shfl_down_sync(mask, v, by) \
    sim_shuffle(mask, v, sim_lane() + (by) > 31 ? sim_lane() : sim_lane() + (by), __FILE__, __LINE__)

#define load16(p) sim_load16((p), __FILE__, __LINE__)
#define store16(p, v) sim_store16((p), (v), __FILE__, __LINE__)
static inline uint4 sim_load16(const void *p, const char *file, int line)
{
    uint4 v;
    sim_check_aligned(p, file, line);
    memcpy(&v, p, 16);
    return v;
}
static inline void sim_store16(void *p, uint4 v, const char *file, int line)
{
    sim_check_aligned(p, file, line);
    memcpy(p, &v, 16);
    sim_shared_written(p);
}

/* Each lane reads its own row here, in instrumented code, so that a sanitizer names the right
 * thread; the exchange is in the runtime. */
static inline void sim_ldmatrix(SimWarpOp op, uint32_t r[4], const void *row, const char *file, int line)
{
    SimLdmatrix m;
    sim_check_shared(row, "ldmatrix row", file, line);
    m.address = row;
    memcpy(m.row, row, 16);
    sim_warp(op, 0xffffffffu, &m, file, line);
    memcpy(r, m.result, 16);
}
#define ldmatrix_x4(r, row) sim_ldmatrix(SIM_LDMATRIX, (r), (row), __FILE__, __LINE__)
#define ldmatrix_x4_trans(r, row) sim_ldmatrix(SIM_LDMATRIX_TRANS, (r), (row), __FILE__, __LINE__)

#define mma_16816(d, a, b) sim_mma((d), (a), (b), __FILE__, __LINE__)
static inline void sim_mma(float d[4], const uint32_t a[4], const uint32_t b[2], const char *file, int line)
{
    SimMma m;
    memcpy(m.a, a, 16);
    memcpy(m.b, b, 8);
    memcpy(m.d, d, 16);
    sim_warp(SIM_MMA, 0xffffffffu, &m, file, line);
    memcpy(d, m.d, 16);
}

/* Both orders are legal on hardware: the copy may land at once (and overwrite data still in use) or
 * only at the wait (the destination holds NaN until then). */
#define cp_async_16(shared, global, src_bytes) sim_cp_async((shared), (global), (src_bytes), __FILE__, __LINE__)
static inline void sim_copy16(void *shared, const void *global, int bytes)
{
    if (bytes == 16)
        memcpy(shared, global, 16);
    else
        memset(shared, 0, 16);
}
static inline void sim_cp_async(void *shared, const void *global, int src_bytes, const char *file, int line)
{
    sim_check_shared(shared, "cp.async destination", file, line);
    if (src_bytes)
        sim_check_aligned(global, file, line);
    if (sim_copy_now()) {
        sim_copy16(shared, global, src_bytes);
    } else {
        memset(shared, 0xff, 16);
        sim_copy_later(shared, global, src_bytes);
    }
}
static inline void cp_async_commit(void)
{
    sim_copy_commit();
}
struct SimWait {
    const char *file;
    int line;
    template <int N>
    void wait(void) const
    {
        void *shared;
        const void *global;
        int bytes;
        if (sim_wait_is_skipped(file, line))
            return;
        while (sim_copy_due(N, &shared, &global, &bytes))
            sim_copy16(shared, global, bytes);
    }
};
#define cp_async_wait SimWait{__FILE__, __LINE__}.wait

/* Warpgroup products: wgmma.cc.  The thread sanitizer sees each lane read its share of the tiles,
 * at issue and at the wait. */
#if defined(__SANITIZE_THREAD__)
static inline void sim_wgmma_touch(int pending)
{
    const void *p;
    for (int operand = 0; sim_wgmma_read(pending, operand, 0); operand++)
        for (int i = sim_lane(); (p = sim_wgmma_read(pending, operand, i)); i += 32)
            (void)*(const volatile uint64_t *)p, (void)((const volatile uint64_t *)p)[1];
}
#else
static inline void sim_wgmma_touch(int pending)
{
    (void)pending;
}
#endif
struct SimWgmmaPlace {
    const char *file;
    int line;
    template <int ADD, int TA, int TB, int N>
    void product(float (&d)[N][4], uint64_t a, uint64_t b) const
    {
        issue(SimWgmma{&d[0][0], nullptr, a, b, 8 * N, ADD != 0, TA != 0, TB != 0});
    }
    template <int ADD, int TB, int N>
    void product(float (&d)[N][4], const uint32_t (&a)[4], uint64_t b) const
    {
        issue(SimWgmma{&d[0][0], a, 0, b, 8 * N, ADD != 0, false, TB != 0});
    }
    void issue(SimWgmma m) const
    {
        sim_warp(SIM_WGMMA, 0xffffffffu, &m, file, line);
        sim_wgmma_touch(-1);
    }
    template <int N>
    void wait(void) const
    {
        int pending = N;
        if (sim_wait_is_skipped(file, line))
            return;
        sim_wgmma_touch(N);
        sim_warp(SIM_WGMMA_WAIT, 0xffffffffu, &pending, file, line);
    }
    void plain(SimWarpOp op) const
    {
        if (op == SIM_WGMMA_FENCE && sim_fence_is_skipped(file, line))
            return;
        sim_warp(op, 0xffffffffu, nullptr, file, line);
    }
    void fence_shared(void) const
    {
        if (!sim_fence_is_skipped(file, line))
            sim_fence_async();
    }
};
#define wgmma_tile(tile) sim_wgmma_tile((tile), __FILE__, __LINE__)
#define wgmma SimWgmmaPlace{__FILE__, __LINE__}.product
#define wgmma_wait SimWgmmaPlace{__FILE__, __LINE__}.wait
#define wgmma_fence() SimWgmmaPlace{__FILE__, __LINE__}.plain(SIM_WGMMA_FENCE)
#define wgmma_commit() SimWgmmaPlace{__FILE__, __LINE__}.plain(SIM_WGMMA_COMMIT)
#define fence_async() SimWgmmaPlace{__FILE__, __LINE__}.fence_shared()

static inline uint32_t sim_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float sim_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline float to_float(bf16 v)
{
    return sim_float((uint32_t)v.bits << 16);
}
static inline bf16 to_bf16(float f)
{
    uint32_t u = sim_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return bf16{0x7fff}; /* NaN, as the hardware gives it */
    return bf16{(uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16)};
}
static inline uint32_t pack_bf16(float a, float b)
{
    return to_bf16(a).bits | (uint32_t)to_bf16(b).bits << 16;
}
static inline float exp2_fast(float x)
{
    return exp2f(x);
}
static inline int32_t round_to_int(float x)
{
    return x != x ? 0 : x >= 0x1p31f ? INT32_MAX : x <= -0x1p31f ? INT32_MIN : (int32_t)lrintf(x);
}
static inline void add_int(int32_t *p, int32_t v)
{
    __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
/* glibc 2.43 declares a rsqrtf of its own in <math.h>; this one gives the same bits with every glibc. */
static inline float sim_rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
#define rsqrtf sim_rsqrtf
static inline uint32_t __float_as_uint(float f)
{
    return sim_bits(f);
}
static inline float __uint_as_float(uint32_t u)
{
    return sim_float(u);
}
template <class T>
static inline T __ldg(const T *p)
{
    return *p;
}
#endif
