/* The device back end's own state and helpers, for the files of this folder.  Compiled as C++ (C
 * with templates). */
#ifndef WEFT_COMMON_OPS_CUDA_DEVICE_H
#define WEFT_COMMON_OPS_CUDA_DEVICE_H
#include "common/ops/cuda/port.h"
#include "common/ops/cuda/nccl.h"
extern "C" {
#include "common/ops/ops_table.h"
}

enum {
    PINNED_SLOTS = 3,
    /* most ranges of rows in a column sum, whatever the device: results do not depend on the number
     * of SMs */
    REDUCE_PARTS = 128,
};
#define PINNED_BYTES ((int64_t)8 << 20)

/* A cuBLASLt call that was prepared before: found again by its shapes. */
struct MatmulPlan {
    int64_t m, n, k;
    int ta, tb, epilogue, out_f32, accumulate;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
};
enum { MAX_MATMUL_PLANS = 256 };

struct Device {
    Backend be; /* first */
    OpsTable table;
    int capability; /* 80, 86, 90: compute capability 9.0 has warpgroup products */
    cudaStream_t compute, copy;
    cudaEvent_t compute_done; /* orders a copy behind the work already enqueued */
    void *slot[PINNED_SLOTS]; /* pinned host memory for uploads */
    cudaEvent_t slot_free[PINNED_SLOTS];
    int next_slot;
    void *landing; /* pinned host memory for downloads and scalar results */
    cublasLtHandle_t lt;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    char *scratch;
    cudaStream_t link; /* link.cu; NULL until it is opened */
    cudaEvent_t link_event;
    ncclComm_t comm;
    MatmulPlan plan[MAX_MATMUL_PLANS];
    int plans, oldest; /* when the array is full, the oldest plan is replaced */
};

static inline Device *device_of(Backend *be)
{
    return (Device *)be;
}

/* ERR_DEVICE with "WHAT: the runtime's sentence" unless rc is success. */
WEFT_MUST_CHECK int device_check(cudaError_t rc, const char *what, Err *err);
/* After a launch: its own errors. */
WEFT_MUST_CHECK int device_launched(const char *op, Err *err);
#define DEVICE_TRY(call)      \
    do {                      \
        int try_rc_ = (call); \
        if (try_rc_ < 0)      \
            return try_rc_;   \
    } while (0)

/* The first `bytes` of scratch; valid until the op returns (work on the compute stream is in
 * order).  ERR_LIMIT beyond DEVICE_SCRATCH_BYTES. */
WEFT_MUST_CHECK int device_scratch(Device *d, size_t bytes, char **out, Err *err);
/* n doubles from device memory, waited for. */
WEFT_MUST_CHECK int device_read(Device *d, double *out, const double *src, int64_t n, const char *what, Err *err);

/* Partial sums for n rows: at most REDUCE_PARTS, few for few rows; a function of the shape alone. */
static inline int reduce_parts(int64_t n)
{
    return n >= 16 * REDUCE_PARTS ? (int)REDUCE_PARTS : (int)((n + 15) / 16);
}

static inline unsigned blocks_for(int64_t n, int64_t per_block)
{
    return (unsigned)((n + per_block - 1) / per_block);
}

/* An element of a float tensor of run-time type; weights of rank 1 are read this way. */
struct Vec {
    const void *data;
    int dtype;
};
/* ERR_UNSUPPORTED unless F32, F16 or BF16: all that Vec knows. */
WEFT_MUST_CHECK int device_check_kept(const char *op, const Tensor *t, Err *err);
static inline Vec vec_of(const Tensor *t)
{
    return t ? Vec{t->data, (int)t->dtype} : Vec{nullptr, DT_F32};
}
__device__ __forceinline__ float half_bits_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 0x3ffu;
    if (e == 31)
        return __uint_as_float(sign | 0x7f800000u | m << 13);
    if (e == 0)
        return __uint_as_float(sign) + (sign ? -1.0f : 1.0f) * (float)m * 5.9604644775390625e-8f; /* 2^-24 */
    return __uint_as_float(sign | (e + 112) << 23 | m << 13);
}
__device__ __forceinline__ float vec_get(Vec v, int64_t i)
{
    if (v.dtype == DT_F32)
        return ((const float *)v.data)[i];
    if (v.dtype == DT_BF16)
        return to_float(((const bf16 *)v.data)[i]);
    return half_bits_to_float(((const uint16_t *)v.data)[i]);
}

/* The other way, for kernels whose output may have any kept type. */
__device__ __forceinline__ uint16_t float_to_half_bits(float f)
{
    const uint32_t u = __float_as_uint(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u); /* 65520 and more round to infinity */
    if (a < 0x38800000u) {                 /* below 2^-14: subnormal, in units of 2^-24 */
        const float scaled = __uint_as_float(a) * 16777216.0f;
        return (uint16_t)(sign | (uint32_t)rintf(scaled));
    }
    const uint32_t r = a + 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | ((r - 0x38000000u) >> 13));
}
__device__ __forceinline__ void any_set(void *p, int dtype, int64_t i, float v)
{
    if (dtype == DT_F32)
        ((float *)p)[i] = v;
    else if (dtype == DT_BF16)
        ((bf16 *)p)[i] = to_bf16(v);
    else
        ((uint16_t *)p)[i] = float_to_half_bits(v);
}

/* A parameter's gradient, F32 or BF16: added to with one rounding. */
struct Grad {
    void *data;
    int dtype;
};
static inline Grad grad_of(const Tensor *t)
{
    return t ? Grad{t->data, (int)t->dtype} : Grad{nullptr, DT_F32};
}
__device__ __forceinline__ void grad_add(Grad g, int64_t i, float v)
{
    if (g.dtype == DT_F32)
        ((float *)g.data)[i] += v;
    else
        ((bf16 *)g.data)[i] = to_bf16(to_float(((bf16 *)g.data)[i]) + v);
}

/* Kernels over activations are templates on the element type: float or bf16. */
__device__ __forceinline__ float load(const float *p, int64_t i)
{
    return p[i];
}
__device__ __forceinline__ float load(const bf16 *p, int64_t i)
{
    return to_float(p[i]);
}
__device__ __forceinline__ void store(float *p, int64_t i, float v)
{
    p[i] = v;
}
__device__ __forceinline__ void store(bf16 *p, int64_t i, float v)
{
    p[i] = to_bf16(v);
}

/* Eight elements at a 16-byte aligned address. */
__device__ __forceinline__ void load8(float v[8], const bf16 *p)
{
    const uint4 u = load16(p);
    const uint32_t w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = __uint_as_float(w[i] << 16);
        v[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
    }
}
__device__ __forceinline__ void load8(float v[8], const float *p)
{
    const uint4 a = load16(p), b = load16(p + 4);
    const uint32_t w[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 8; i++)
        v[i] = __uint_as_float(w[i]);
}
__device__ __forceinline__ void store8(bf16 *p, const float v[8])
{
    store16(p, make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])));
}
__device__ __forceinline__ void store8(float *p, const float v[8])
{
    store16(p, make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3])));
    store16(p + 4,
            make_uint4(__float_as_uint(v[4]), __float_as_uint(v[5]), __float_as_uint(v[6]), __float_as_uint(v[7])));
}
/* One element or eight: what a kernel with its vector width V as a template parameter calls.  V = 8
 * needs 16-byte aligned addresses. */
template <class T>
__device__ __forceinline__ void load_each(float (&v)[1], const T *p)
{
    v[0] = load(p, 0);
}
template <class T>
__device__ __forceinline__ void load_each(float (&v)[8], const T *p)
{
    load8(v, p);
}
template <class T>
__device__ __forceinline__ void store_each(T *p, const float (&v)[1])
{
    store(p, 0, v[0]);
}
template <class T>
__device__ __forceinline__ void store_each(T *p, const float (&v)[8])
{
    store8(p, v);
}
__device__ __forceinline__ void load_each(float (&v)[1], Vec x, int64_t i)
{
    v[0] = vec_get(x, i);
}
__device__ __forceinline__ void load_each(float (&v)[8], Vec x, int64_t i)
{
    if (x.dtype == DT_F32) {
        load8(v, (const float *)x.data + i);
    } else if (x.dtype == DT_BF16) {
        load8(v, (const bf16 *)x.data + i);
    } else {
        const uint4 u = load16((const uint16_t *)x.data + i);
        const uint32_t w[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
        for (int k = 0; k < 8; k++)
            v[k] = half_bits_to_float((uint16_t)(w[k / 2] >> (k % 2 * 16)));
    }
}
__device__ __forceinline__ void store_each(void *p, int dtype, int64_t i, const float (&v)[1])
{
    any_set(p, dtype, i, v[0]);
}
__device__ __forceinline__ void store_each(void *p, int dtype, int64_t i, const float (&v)[8])
{
    if (dtype == DT_F32)
        store8((float *)p + i, v);
    else if (dtype == DT_BF16)
        store8((bf16 *)p + i, v);
    else {
        uint32_t w[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            w[k] = float_to_half_bits(v[2 * k]) | (uint32_t)float_to_half_bits(v[2 * k + 1]) << 16;
        store16((uint16_t *)p + i, make_uint4(w[0], w[1], w[2], w[3]));
    }
}
/* Whether the pointer can be used with load8. */
static inline bool aligned16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}
template <class... P>
static inline bool aligned16(const void *p, P... more)
{
    return aligned16(p) && aligned16(more...);
}

__device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int bits = 16; bits; bits >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, bits);
    return v;
}
__device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int bits = 16; bits; bits >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, bits));
    return v;
}

/* Each family of kernels fills its entries. */
void device_elementwise_table(OpsTable *t);
void device_move_table(OpsTable *t);
void device_linear_table(OpsTable *t);
void device_norm_table(OpsTable *t);
void device_groupnorm_table(OpsTable *t);
void device_attention_table(OpsTable *t);
void device_conv_table(OpsTable *t);
void device_train_table(OpsTable *t);

/* link.cu */
extern const DeviceLink device_link;
void device_link_close(Device *d, int failed);

/* selftest.cu: the wrappers of port.h, each against scalar code. */
WEFT_MUST_CHECK int device_selftest(Backend *be, DeviceReport report, void *user, Err *err);
/* selftest_90.cu: the warpgroup wrappers */
WEFT_MUST_CHECK int device_selftest_90(Device *d, DeviceReport report, void *user, Err *err);

/* Opens the back end: what backend.c calls, through dlsym for the shared object. */
extern "C" __attribute__((visibility("default"))) int WEFT_DEVICE_OPEN(Backend **out, const Log *log, Err *err);
#endif
