/* Posterior, diffusion, loss, optimiser.  Sums go through partial sums in double, as many as the
 * size says, added in a fixed order. */
#include "common/ops/cuda/device.h"
#include "common/ops/blockwise.h"
#include "common/ops/rounding.h"

enum { THREADS = 256, SUM_PARTS = 1024, PER_PART = 8 * THREADS };

/* ---- posterior and diffusion ----------------------------------------------------------------- */

/* V channels of z a thread. */
template <int V>
__global__ void __launch_bounds__(THREADS)
    posterior_rows(Vec z, Vec moments, Vec eps, float scale, int64_t n, int64_t C)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    const int64_t row = i / C, c = i - row * C;
    float v[V], logvar[V], noise[V];
    load_each(v, moments, row * 2 * C + c);
    if (eps.data) {
        load_each(logvar, moments, row * 2 * C + C + c);
        load_each(noise, eps, i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float l = logvar[k] < -30.0f ? -30.0f : logvar[k] > 20.0f ? 20.0f : logvar[k]; /* NaN stays */
            v[k] += expf(0.5f * l) * noise[k];
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++)
        v[k] *= scale;
    store_each((void *)z.data, z.dtype, i, v);
}

static int posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    const int64_t n = tensor_count(z), C = z->dim[z->rank - 1];
    const bool wide = C % 8 == 0 && aligned16(z->data, moments->data, vec_of(eps).data);
    auto run = [&](void (*kernel)(Vec, Vec, Vec, float, int64_t, int64_t), int width) {
        LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, device_of(be)->compute, vec_of(z),
               vec_of(moments), vec_of(eps), (float)scale, n, C);
    };
    run(wide ? posterior_rows<8> : posterior_rows<1>, wide ? 8 : 1);
    return device_launched("posterior", err);
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    diffuse_one(T *xt, T *v, const T *x0, const T *eps, float a, float s, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    float x[V], e[V], out[V];
    load_each(x, x0 + i);
    load_each(e, eps + i);
#pragma unroll
    for (int k = 0; k < V; k++)
        out[k] = a * x[k] + s * e[k];
    store_each(xt + i, out);
#pragma unroll
    for (int k = 0; k < V; k++)
        out[k] = a * e[k] - s * x[k];
    store_each(v + i, out);
}

template <class T>
static int diffuse_all(Device *d, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps,
                       const double *a, const double *s, Err *err)
{
    const int64_t n = tensor_count(xt) / xt->dim[0];
    const bool wide = n % 8 == 0 && aligned16(xt->data, v->data, x0->data, eps->data);
    auto run = [&](void (*kernel)(T *, T *, const T *, const T *, float, float, int64_t), int width) {
        for (int64_t b = 0; b < xt->dim[0]; b++)
            LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, d->compute, (T *)xt->data + b * n,
                   (T *)v->data + b * n, (const T *)x0->data + b * n, (const T *)eps->data + b * n, (float)a[b],
                   (float)s[b], n);
    };
    run(wide ? diffuse_one<T, 8> : diffuse_one<T, 1>, wide ? 8 : 1);
    return device_launched("diffuse", err);
}
static int diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a,
                   const double *s, Err *err)
{
    return xt->dtype == DT_F32 ? diffuse_all<float>(device_of(be), xt, v, x0, eps, a, s, err)
                               : diffuse_all<bf16>(device_of(be), xt, v, x0, eps, a, s, err);
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* A block's sum of one double a thread; the result is in thread 0. */
__device__ __forceinline__ double block_sum(double v)
{
    SMEM_ARRAY(double, part, THREADS);
    const int t = threadIdx.x;
    part[t] = v;
    __syncthreads();
    for (int half = THREADS / 2; half; half >>= 1) {
        if (t < half)
            part[t] += part[t + half];
        __syncthreads();
    }
    return part[0];
}

__global__ void __launch_bounds__(THREADS) total_of(double *out, const double *part, int n)
{
    double sum = 0.0;
    for (int i = threadIdx.x; i < n; i += THREADS)
        sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *out = sum;
}

/* part[block] = sum of (u-v)^2 over its range; gu = scale (u-v). */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    mse_partials(double *part, T *gu, const T *u, const T *v, float scale, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V; i < n; i += (int64_t)gridDim.x * THREADS * V) {
        float a[V], b[V];
        load_each(a, u + i);
        load_each(b, v + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            a[k] -= b[k];
            sum += (double)a[k] * a[k];
            a[k] *= scale;
        }
        if (gu)
            store_each(gu + i, a);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

/* Blocks of a sum over n elements, SUM_PARTS at most: a function of n alone. */
static int sum_parts(int64_t n)
{
    return n >= (int64_t)SUM_PARTS * PER_PART ? (int)SUM_PARTS : (int)((n + PER_PART - 1) / PER_PART);
}

static int finish_sum(Device *d, double *part, int parts, double *out, const char *op, Err *err)
{
    LAUNCH((total_of), dim3(1), dim3(THREADS), 0, d->compute, part + parts, (const double *)part, parts);
    DEVICE_TRY(device_launched(op, err));
    return device_read(d, out, part + parts, 1, op, err);
}

template <class T>
static void launch_mse(Device *d, double *part, int parts, const Tensor *gu, const Tensor *u, const Tensor *v,
                       float scale)
{
    const int64_t n = tensor_count(u);
    const bool wide = n % 8 == 0 && aligned16(u->data, v->data, vec_of(gu).data);
    auto run = [&](void (*kernel)(double *, T *, const T *, const T *, float, int64_t)) {
        LAUNCH((kernel), dim3((unsigned)parts), dim3(THREADS), 0, d->compute, part, gu ? (T *)gu->data : nullptr,
               (const T *)u->data, (const T *)v->data, scale, n);
    };
    run(wide ? mse_partials<T, 8> : mse_partials<T, 1>);
}

static int mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight, Err *err)
{
    Device *d = device_of(be);
    const int64_t n = tensor_count(u);
    const float scale = (float)(weight * 2.0 / (double)n);
    const int parts = sum_parts(n);
    char *room;
    DEVICE_TRY(device_scratch(d, (size_t)(parts + 1) * sizeof(double), &room, err));
    if (u->dtype == DT_F32)
        launch_mse<float>(d, (double *)room, parts, gu, u, v, scale);
    else
        launch_mse<bf16>(d, (double *)room, parts, gu, u, v, scale);
    DEVICE_TRY(finish_sum(d, (double *)room, parts, loss, "mse", err));
    *loss /= (double)n;
    return 0;
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS) square_partials(double *part, const T *g, int64_t n)
{
    double sum = 0.0;
#pragma unroll 2
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V; i < n; i += (int64_t)gridDim.x * THREADS * V) {
        float v[V];
        load_each(v, g + i);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum += (double)v[k] * v[k];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

static int sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    Device *d = device_of(be);
    const int64_t n = tensor_count(g);
    const int parts = sum_parts(n);
    char *room;
    DEVICE_TRY(device_scratch(d, (size_t)(parts + 1) * sizeof(double), &room, err));
    const bool wide = n % 8 == 0 && aligned16(g->data);
    auto run = [&](auto *kernel, auto *from) {
        LAUNCH((kernel), dim3((unsigned)parts), dim3(THREADS), 0, d->compute, (double *)room, from, n);
    };
    if (g->dtype == DT_F32)
        run(wide ? square_partials<float, 8> : square_partials<float, 1>, (const float *)g->data);
    else
        run(wide ? square_partials<bf16, 8> : square_partials<bf16, 1>, (const bf16 *)g->data);
    return finish_sum(d, (double *)room, parts, sum, "sum_squares", err);
}

/* ---- AdamW ----------------------------------------------------------------------------------- */

/* rest: 1-beta; rate: lr/(1-beta1^k); correct_v: 1/(1-beta2^k); decay: 1-lr*wd: differences
 * in double. */
struct AdamStep {
    float grad_scale, beta1, rest1, beta2, rest2, rate, correct_v, eps, decay;
};

/* Masters stay exact and leave a copy rounded to nearest (copy may be null); bf16 parameters
 * without a master are rounded stochastically. */
template <int V>
__device__ __forceinline__ void put_value(float *p, bf16 *copy, int64_t i, float (&value)[V], uint64_t, int64_t)
{
    store_each(p + i, value);
    if (copy)
        store_each(copy + i, value);
}
template <int V>
__device__ __forceinline__ void put_value(bf16 *p, bf16 *, int64_t i, float (&value)[V], uint64_t key, int64_t first)
{
#pragma unroll
    for (int k = 0; k < V; k++)
        value[k] = round_stochastic(value[k], rounding_noise(key, first + i + k));
    store_each(p + i, value); /* exact: bf16 holds them */
}

template <class P, class G, int V>
__global__ void __launch_bounds__(THREADS) adamw_step(P *p, bf16 *copy, const G *g, float *m, float *v, AdamStep a,
                                                      uint64_t key, int64_t first_number, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    float grad[V], first[V], second[V], value[V];
    load_each(grad, g + i);
    load_each(first, m + i);
    load_each(second, v + i);
    load_each(value, p + i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        grad[k] *= a.grad_scale;
        first[k] = a.beta1 * first[k] + a.rest1 * grad[k];
        second[k] = a.beta2 * second[k] + a.rest2 * grad[k] * grad[k];
        value[k] = value[k] * a.decay - a.rate * first[k] / (sqrtf(second[k] * a.correct_v) + a.eps);
    }
    store_each(m + i, first);
    store_each(v + i, second);
    put_value(p, copy, i, value, key, first_number);
}

template <class P, class G>
static void launch_adamw(Device *d, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                         const Tensor *v, const AdamStep &s, const AdamParams *a)
{
    const int64_t n = tensor_count(p);
    bf16 *to = copy ? (bf16 *)copy->data : nullptr;
    const bool wide = n % 8 == 0 && aligned16(p->data, to, g->data, m->data, v->data);
    auto run = [&](auto *kernel, int width) {
        LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, d->compute, (P *)p->data, to,
               (const G *)g->data, (float *)m->data, (float *)v->data, s, rounding_key(a->seed, a->step), a->first, n);
    };
    run(wide ? adamw_step<P, G, 8> : adamw_step<P, G, 1>, wide ? 8 : 1);
}

static int adamw(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const Tensor *v,
                 const AdamParams *a, Err *err)
{
    const AdamStep s = {(float)a->grad_scale,
                        (float)a->beta1,
                        (float)(1.0 - a->beta1),
                        (float)a->beta2,
                        (float)(1.0 - a->beta2),
                        (float)(a->lr / (1.0 - pow(a->beta1, (double)a->step))),
                        (float)(1.0 / (1.0 - pow(a->beta2, (double)a->step))),
                        (float)a->eps,
                        (float)(1.0 - a->lr * a->weight_decay)};
    const bool half = g->dtype == DT_BF16;
    auto run = [&](auto *launch) { launch(device_of(be), p, copy, g, m, v, s, a); };
    if (p->dtype == DT_F32)
        run(half ? launch_adamw<float, bf16> : launch_adamw<float, float>);
    else
        run(half ? launch_adamw<bf16, bf16> : launch_adamw<bf16, float>);
    return device_launched("adamw", err);
}

/* ---- SGD ------------------------------------------------------------------------------------- */

/* m may be null: then the momentum is not kept. */
template <class P, class G, int V>
__global__ void __launch_bounds__(THREADS)
    sgd_step(P *p, bf16 *copy, const G *g, float *m, float grad_scale, float momentum, float decay, float rate,
             uint64_t key, int64_t first_number, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    float grad[V], kept[V], value[V];
    load_each(grad, g + i);
    load_each(value, p + i);
    if (m)
        load_each(kept, m + i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        grad[k] = grad_scale * grad[k] + decay * value[k];
        kept[k] = m ? momentum * kept[k] + grad[k] : grad[k];
        value[k] -= rate * kept[k];
    }
    if (m)
        store_each(m + i, kept);
    put_value(p, copy, i, value, key, first_number);
}

template <class P, class G>
static void launch_sgd(Device *d, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                       const SgdParams *a)
{
    const int64_t n = tensor_count(p);
    bf16 *to = copy ? (bf16 *)copy->data : nullptr;
    float *kept = m ? (float *)m->data : nullptr;
    const bool wide = n % 8 == 0 && aligned16(p->data, to, g->data, kept);
    auto run = [&](auto *kernel, int width) {
        LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, d->compute, (P *)p->data, to,
               (const G *)g->data, kept, (float)a->grad_scale, (float)a->momentum, (float)a->weight_decay, (float)a->lr,
               rounding_key(a->seed, a->step), a->first, n);
    };
    run(wide ? sgd_step<P, G, 8> : sgd_step<P, G, 1>, wide ? 8 : 1);
}

static int sgd(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const SgdParams *a,
               Err *err)
{
    const bool half = g->dtype == DT_BF16;
    auto run = [&](auto *launch) { launch(device_of(be), p, copy, g, m, a); };
    if (p->dtype == DT_F32)
        run(half ? launch_sgd<float, bf16> : launch_sgd<float, float>);
    else
        run(half ? launch_sgd<bf16, bf16> : launch_sgd<bf16, float>);
    return device_launched("sgd", err);
}

/* ---- block-wise quantisation ----------------------------------------------------------------- */

/* A thread an element, a block of threads a block of elements: BLOCKWISE_BLOCK is THREADS. */
__global__ void __launch_bounds__(THREADS)
    quantize_blocks(uint8_t *codes, float *scale, const float *x, BlockwiseMap map, int64_t n)
{
    SMEM_ARRAY(float, bound, BLOCKWISE_CODES);
    SMEM_ARRAY(float, most, THREADS);
    const int t = threadIdx.x;
    const int64_t i = (int64_t)blockIdx.x * THREADS + t;
    const float value = i < n ? x[i] : 0.0f;
    bound[t] = map.bound[t];
    most[t] = fabsf(value);
    __syncthreads();
    for (int half = THREADS / 2; half; half >>= 1) {
        if (t < half)
            most[t] = most[t + half] > most[t] ? most[t + half] : most[t];
        __syncthreads();
    }
    if (i < n)
        codes[i] = blockwise_code(bound, most[0] > 0.0f ? value / most[0] : 0.0f);
    if (t == 0)
        scale[blockIdx.x] = most[0];
}

__global__ void __launch_bounds__(THREADS)
    dequantize_blocks(float *y, const uint8_t *codes, const float *scale, BlockwiseMap map, int64_t n)
{
    SMEM_ARRAY(float, value, BLOCKWISE_CODES);
    const int t = threadIdx.x;
    const int64_t i = (int64_t)blockIdx.x * THREADS + t;
    value[t] = map.value[t];
    __syncthreads();
    if (i < n)
        y[i] = value[codes[i]] * scale[blockIdx.x];
}

static int quantize(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed, Err *err)
{
    const int64_t n = tensor_count(x);
    BlockwiseMap map;
    blockwise_map(&map, is_signed);
    LAUNCH((quantize_blocks), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute,
           (uint8_t *)codes->data, (float *)scale->data, (const float *)x->data, map, n);
    return device_launched("quantize", err);
}

static int dequantize(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed, Err *err)
{
    const int64_t n = tensor_count(y);
    BlockwiseMap map;
    blockwise_map(&map, is_signed);
    LAUNCH((dequantize_blocks), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute,
           (float *)y->data, (const uint8_t *)codes->data, (const float *)scale->data, map, n);
    return device_launched("dequantize", err);
}

void device_train_table(OpsTable *t)
{
    t->posterior = posterior;
    t->diffuse = diffuse;
    t->mse = mse;
    t->sum_squares = sum_squares;
    t->adamw = adamw;
    t->sgd = sgd;
    t->quantize = quantize;
    t->dequantize = dequantize;
}
