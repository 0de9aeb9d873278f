/* Elementwise operations: eight elements a thread with 16-byte accesses where the pointers allow,
 * one by one at the tail and elsewhere.
 * Memory-bound: what counts is bytes moved once. */
#include "common/ops/cuda/device.h"

enum { THREADS = 256, PER_THREAD = 8, PER_BLOCK = THREADS * PER_THREAD };

/* y[i] = f(a[i], b[i], i) over n elements; vec: all three pointers are 16-byte aligned. */
template <class Y, class A, class B, class F>
__global__ void __launch_bounds__(THREADS) map2(Y *y, const A *a, const B *b, int64_t n, F f, int vec)
{
    const int64_t i0 = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * PER_THREAD;
    if (vec && i0 + PER_THREAD <= n) {
        float va[PER_THREAD], vb[PER_THREAD];
        load8(va, a + i0);
        load8(vb, b + i0);
#pragma unroll
        for (int k = 0; k < PER_THREAD; k++)
            va[k] = f(va[k], vb[k]);
        store8(y + i0, va);
        return;
    }
    for (int64_t i = i0; i < n && i < i0 + PER_THREAD; i++)
        store(y, i, f(load(a, i), load(b, i)));
}
template <class Y, class A, class F>
__global__ void __launch_bounds__(THREADS) map1(Y *y, const A *a, int64_t n, F f, int vec)
{
    const int64_t i0 = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * PER_THREAD;
    if (vec && i0 + PER_THREAD <= n) {
        float va[PER_THREAD];
        load8(va, a + i0);
#pragma unroll
        for (int k = 0; k < PER_THREAD; k++)
            va[k] = f(va[k]);
        store8(y + i0, va);
        return;
    }
    for (int64_t i = i0; i < n && i < i0 + PER_THREAD; i++)
        store(y, i, f(load(a, i)));
}

template <class Y, class A, class B, class F>
static int launch2(Backend *be, const char *op, const Tensor *y, const Tensor *a, const Tensor *b, F f, Err *err)
{
    const int64_t n = tensor_count(y);
    LAUNCH((map2<Y, A, B, F>), dim3(blocks_for(n, PER_BLOCK)), dim3(THREADS), 0, device_of(be)->compute, (Y *)y->data,
           (const A *)a->data, (const B *)b->data, n, f,
           aligned16(y->data) && aligned16(a->data) && aligned16(b->data));
    return device_launched(op, err);
}
template <class Y, class A, class F>
static int launch1(Backend *be, const char *op, const Tensor *y, const Tensor *a, F f, Err *err)
{
    const int64_t n = tensor_count(y);
    LAUNCH((map1<Y, A, F>), dim3(blocks_for(n, PER_BLOCK)), dim3(THREADS), 0, device_of(be)->compute, (Y *)y->data,
           (const A *)a->data, n, f, aligned16(y->data) && aligned16(a->data));
    return device_launched(op, err);
}
/* All operands of one type: the activations', or F32. */
template <class F>
static int same2(Backend *be, const char *op, const Tensor *y, const Tensor *a, const Tensor *b, F f, Err *err)
{
    return y->dtype == DT_F32 ? launch2<float, float, float>(be, op, y, a, b, f, err)
                              : launch2<bf16, bf16, bf16>(be, op, y, a, b, f, err);
}
template <class F>
static int same1(Backend *be, const char *op, const Tensor *y, const Tensor *a, F f, Err *err)
{
    return y->dtype == DT_F32 ? launch1<float, float>(be, op, y, a, f, err) : launch1<bf16, bf16>(be, op, y, a, f, err);
}

/* ---- fill and convert ------------------------------------------------------------------------ */

template <int V>
__global__ void __launch_bounds__(THREADS) fill_any(void *y, int dtype, int64_t n, float value)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    float v[V];
    if (i >= n)
        return;
#pragma unroll
    for (int k = 0; k < V; k++)
        v[k] = value;
    store_each(y, dtype, i, v);
}

/* y = sum of coef x over up to four tensors of any kept types. */
struct Terms {
    Vec x[4];
    float coef[4];
    int n;
};

template <int V>
__global__ void __launch_bounds__(THREADS) lincomb_any(void *y, int dtype, Terms t, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    float sum[V], v[V];
#pragma unroll
    for (int k = 0; k < V; k++)
        sum[k] = 0.0f;
#pragma unroll
    for (int term = 0; term < 4; term++) {
        if (term >= t.n)
            continue;
        load_each(v, t.x[term], i);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum[k] += t.coef[term] * v[k];
    }
    store_each(y, dtype, i, sum);
}

static int launch_lincomb(Backend *be, const char *op, const Tensor *y, const Terms *t, Err *err)
{
    const int64_t n = tensor_count(y);
    const bool wide = n % 8 == 0 && aligned16(y->data, t->x[0].data, t->x[1].data, t->x[2].data, t->x[3].data);
    auto run = [&](void (*kernel)(void *, int, Terms, int64_t), int width) {
        LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, device_of(be)->compute, y->data,
               (int)y->dtype, *t, n);
    };
    run(wide ? lincomb_any<8> : lincomb_any<1>, wide ? 8 : 1);
    return device_launched(op, err);
}

static int fill(Backend *be, const Tensor *y, float value, Err *err)
{
    Device *d = device_of(be);
    const int64_t n = tensor_count(y);
    DEVICE_TRY(device_check_kept("fill", y, err));
    if (value == 0.0f)
        return device_check(cudaMemsetAsync(y->data, 0, (size_t)tensor_bytes(y), d->compute), "fill", err);
    const bool wide = n % 8 == 0 && aligned16(y->data);
    auto run = [&](void (*kernel)(void *, int, int64_t, float), int width) {
        LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, d->compute, y->data, (int)y->dtype, n,
               value);
    };
    run(wide ? fill_any<8> : fill_any<1>, wide ? 8 : 1);
    return device_launched("fill", err);
}

struct Same {
    __device__ __forceinline__ float operator()(float x) const
    {
        return x;
    }
};

static int copy(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    Device *d = device_of(be);
    if (y->dtype == x->dtype)
        return device_check(
            cudaMemcpyAsync(y->data, x->data, (size_t)tensor_bytes(y), cudaMemcpyDeviceToDevice, d->compute), "copy",
            err);
    if (y->dtype == DT_BF16 && x->dtype == DT_F32)
        return launch1<bf16, float>(be, "copy", y, x, Same(), err);
    if (y->dtype == DT_F32 && x->dtype == DT_BF16)
        return launch1<float, bf16>(be, "copy", y, x, Same(), err);
    DEVICE_TRY(device_check_kept("copy", y, err));
    DEVICE_TRY(device_check_kept("copy", x, err));
    const Terms t = {{vec_of(x), {}, {}, {}}, {1.0f, 0.0f, 0.0f, 0.0f}, 1};
    return launch_lincomb(be, "copy", y, &t, err);
}

/* ---- sums ------------------------------------------------------------------------------------ */

struct Plus {
    __device__ __forceinline__ float operator()(float a, float b) const
    {
        return a + b;
    }
};

static int add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    return same2(be, "add", y, a, b, Plus(), err);
}

static int lincomb(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    Terms t = {};
    t.n = n;
    DEVICE_TRY(device_check_kept("lincomb", y, err));
    for (int i = 0; i < n; i++) {
        DEVICE_TRY(device_check_kept("lincomb", x[i], err));
        t.x[i] = vec_of(x[i]);
        t.coef[i] = (float)coef[i];
    }
    return launch_lincomb(be, "lincomb", y, &t, err);
}

/* ---- activations: value and derivative ------------------------------------------------------- */

template <int KIND>
__device__ __forceinline__ float act_value(float x)
{
    if (KIND == ACT_SILU)
        return x * sigmoid(x);
    if (KIND == ACT_GELU_TANH)
        return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    if (KIND == ACT_GELU_ERF)
        return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f));
    if (KIND == ACT_QUICK_GELU)
        return x * sigmoid(1.702f * x);
    if (KIND == ACT_RELU)
        return x > 0.0f ? x : 0.0f;
    return x;
}
template <int KIND>
__device__ __forceinline__ float act_slope(float x)
{
    if (KIND == ACT_SILU) {
        const float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    if (KIND == ACT_GELU_TANH) {
        const float t = tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608028654f * (1.0f + 3.0f * 0.044715f * x * x);
    }
    if (KIND == ACT_GELU_ERF)
        return 0.5f * (1.0f + erff(x * 0.7071067811865476f)) + x * 0.3989422804014327f * expf(-0.5f * x * x);
    if (KIND == ACT_QUICK_GELU) {
        const float s = sigmoid(1.702f * x);
        return s * (1.0f + 1.702f * x * (1.0f - s));
    }
    if (KIND == ACT_RELU)
        return x > 0.0f ? 1.0f : 0.0f;
    return 1.0f;
}
template <int KIND>
struct Act {
    __device__ __forceinline__ float operator()(float x) const
    {
        return act_value<KIND>(x);
    }
};
template <int KIND>
struct ActSlope {
    __device__ __forceinline__ float operator()(float gy, float x) const
    {
        return gy * act_slope<KIND>(x);
    }
};
template <int KIND>
struct ActGate {
    __device__ __forceinline__ float operator()(float a, float b) const
    {
        return act_value<KIND>(a) * b;
    }
};

static int act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    switch (kind) {
    case ACT_SILU: return same1(be, "act", y, x, Act<ACT_SILU>(), err);
    case ACT_GELU_TANH: return same1(be, "act", y, x, Act<ACT_GELU_TANH>(), err);
    case ACT_GELU_ERF: return same1(be, "act", y, x, Act<ACT_GELU_ERF>(), err);
    case ACT_QUICK_GELU: return same1(be, "act", y, x, Act<ACT_QUICK_GELU>(), err);
    case ACT_RELU: return same1(be, "act", y, x, Act<ACT_RELU>(), err);
    case ACT_NONE: break;
    }
    return y->data == x->data ? 0 : copy(be, y, x, err);
}
static int act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    switch (kind) {
    case ACT_SILU: return same2(be, "act_backward", gx, gy, x, ActSlope<ACT_SILU>(), err);
    case ACT_GELU_TANH: return same2(be, "act_backward", gx, gy, x, ActSlope<ACT_GELU_TANH>(), err);
    case ACT_GELU_ERF: return same2(be, "act_backward", gx, gy, x, ActSlope<ACT_GELU_ERF>(), err);
    case ACT_QUICK_GELU: return same2(be, "act_backward", gx, gy, x, ActSlope<ACT_QUICK_GELU>(), err);
    case ACT_RELU: return same2(be, "act_backward", gx, gy, x, ActSlope<ACT_RELU>(), err);
    case ACT_NONE: break;
    }
    return gx->data == gy->data ? 0 : copy(be, gx, gy, err);
}
static int act_gate(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    switch (kind) {
    case ACT_SILU: return same2(be, "act_gate", y, a, b, ActGate<ACT_SILU>(), err);
    case ACT_GELU_TANH: return same2(be, "act_gate", y, a, b, ActGate<ACT_GELU_TANH>(), err);
    case ACT_GELU_ERF: return same2(be, "act_gate", y, a, b, ActGate<ACT_GELU_ERF>(), err);
    case ACT_QUICK_GELU: return same2(be, "act_gate", y, a, b, ActGate<ACT_QUICK_GELU>(), err);
    case ACT_RELU: return same2(be, "act_gate", y, a, b, ActGate<ACT_RELU>(), err);
    case ACT_NONE: break;
    }
    return same2(be, "act_gate", y, a, b, ActGate<ACT_NONE>(), err);
}

void device_elementwise_table(OpsTable *t)
{
    t->fill = fill;
    t->copy = copy;
    t->add = add;
    t->lincomb = lincomb;
    t->act = act;
    t->act_backward = act_backward;
    t->act_gate = act_gate;
}
