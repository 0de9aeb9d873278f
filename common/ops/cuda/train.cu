/* Posterior, diffusion, loss, optimiser.  Sums go through a fixed number of partial sums in double, added in order. */
#include "common/ops/cuda/device.h"

enum { THREADS = 256 };

/* ---- posterior and diffusion ------------------------------------------------------------------------------------------ */

__global__ void __launch_bounds__(THREADS) posterior_any(Vec z, Vec moments, Vec eps, float scale, int64_t n, int64_t C)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const int64_t row = i / C, c = i - row * C;
    float v = vec_get(moments, row * 2 * C + c);
    if (eps.data) {
        float logvar = vec_get(moments, row * 2 * C + C + c);
        logvar = logvar < -30.0f ? -30.0f : logvar > 20.0f ? 20.0f : logvar; /* NaN stays */
        v += expf(0.5f * logvar) * vec_get(eps, i);
    }
    if (z.dtype == DT_F32) ((float *)z.data)[i] = v * scale;
    else ((bf16 *)z.data)[i] = to_bf16(v * scale);
}

static int posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    const int64_t n = tensor_count(z), C = z->dim[z->rank - 1];
    LAUNCH((posterior_any), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute, vec_of(z), vec_of(moments), vec_of(eps), (float)scale,
           n, C);
    return device_launched("posterior", err);
}

template <class T> __global__ void __launch_bounds__(THREADS) diffuse_one(T *xt, T *v, const T *x0, const T *eps, float a, float s, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float x = load(x0, i), e = load(eps, i);
    store(xt, i, a * x + s * e);
    store(v, i, a * e - s * x);
}

template <class T> static int diffuse_all(Device *d, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a, const double *s, Err *err)
{
    const int64_t n = tensor_count(xt) / xt->dim[0];
    for (int64_t b = 0; b < xt->dim[0]; b++)
        LAUNCH((diffuse_one<T>), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, d->compute, (T *)xt->data + b * n, (T *)v->data + b * n,
               (const T *)x0->data + b * n, (const T *)eps->data + b * n, (float)a[b], (float)s[b], n);
    return device_launched("diffuse", err);
}
static int diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a, const double *s, Err *err)
{
    return xt->dtype == DT_F32 ? diffuse_all<float>(device_of(be), xt, v, x0, eps, a, s, err) : diffuse_all<bf16>(device_of(be), xt, v, x0, eps, a, s, err);
}

/* ---- sums ------------------------------------------------------------------------------------------------------------- */

/* A block's sum of one double a thread; the result is in thread 0. */
__device__ __forceinline__ double block_sum(double v)
{
    SMEM_ARRAY(double, part, THREADS);
    const int t = threadIdx.x;
    part[t] = v;
    __syncthreads();
    for (int half = THREADS / 2; half; half >>= 1) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    return part[0];
}

__global__ void __launch_bounds__(THREADS) total_of(double *out, const double *part, int n)
{
    const double sum = block_sum((int)threadIdx.x < n ? part[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) *out = sum;
}

/* part[block] = sum of (u-v)^2 over its range; gu = scale (u-v). */
template <class T> __global__ void __launch_bounds__(THREADS) mse_partials(double *part, T *gu, const T *u, const T *v, float scale, int64_t n)
{
    const int64_t per = (n + gridDim.x - 1) / gridDim.x, first = per * blockIdx.x, last = first + per < n ? first + per : n;
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < last; i += THREADS) {
        const float miss = load(u, i) - load(v, i);
        sum += (double)miss * miss;
        if (gu) store(gu, i, scale * miss);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static int finish_sum(Device *d, double *part, double *out, const char *op, Err *err)
{
    LAUNCH((total_of), dim3(1), dim3(THREADS), 0, d->compute, part + REDUCE_PARTS, (const double *)part, (int)REDUCE_PARTS);
    DEVICE_TRY(device_launched(op, err));
    return device_read(d, out, part + REDUCE_PARTS, 1, op, err);
}

static int mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight, Err *err)
{
    Device *d = device_of(be);
    const int64_t n = tensor_count(u);
    const float scale = (float)(weight * 2.0 / (double)n);
    char *room;
    DEVICE_TRY(device_scratch(d, (REDUCE_PARTS + 1) * sizeof(double), &room, err));
    double *part = (double *)room;
    if (u->dtype == DT_F32)
        LAUNCH((mse_partials<float>), dim3(REDUCE_PARTS), dim3(THREADS), 0, d->compute, part, gu ? (float *)gu->data : nullptr, (const float *)u->data,
               (const float *)v->data, scale, n);
    else
        LAUNCH((mse_partials<bf16>), dim3(REDUCE_PARTS), dim3(THREADS), 0, d->compute, part, gu ? (bf16 *)gu->data : nullptr, (const bf16 *)u->data,
               (const bf16 *)v->data, scale, n);
    DEVICE_TRY(finish_sum(d, part, loss, "mse", err));
    *loss /= (double)n;
    return 0;
}

__global__ void __launch_bounds__(THREADS) square_partials(double *part, const float *g, int64_t n)
{
    const int64_t per = (n + gridDim.x - 1) / gridDim.x, first = per * blockIdx.x, last = first + per < n ? first + per : n;
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < last; i += THREADS) sum += (double)g[i] * g[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static int sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    Device *d = device_of(be);
    char *room;
    DEVICE_TRY(device_scratch(d, (REDUCE_PARTS + 1) * sizeof(double), &room, err));
    LAUNCH((square_partials), dim3(REDUCE_PARTS), dim3(THREADS), 0, d->compute, (double *)room, (const float *)g->data, tensor_count(g));
    return finish_sum(d, (double *)room, sum, "sum_squares", err);
}

/* ---- AdamW ------------------------------------------------------------------------------------------------------------ */

/* rest: 1-beta; rate: lr/(1-beta1^k); correct_v: 1/(1-beta2^k); decay: 1-lr*wd: differences taken in double. */
struct AdamStep { float grad_scale, beta1, rest1, beta2, rest2, rate, correct_v, eps, decay; };

__global__ void __launch_bounds__(THREADS) adamw_step(float *p, const float *g, float *m, float *v, AdamStep a, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float grad = a.grad_scale * g[i];
    const float first = a.beta1 * m[i] + a.rest1 * grad, second = a.beta2 * v[i] + a.rest2 * grad * grad;
    m[i] = first;
    v[i] = second;
    p[i] = p[i] * a.decay - a.rate * first / (sqrtf(second * a.correct_v) + a.eps);
}

static int adamw(Backend *be, const Tensor *p, const Tensor *g, const Tensor *m, const Tensor *v, const AdamParams *a, Err *err)
{
    const int64_t n = tensor_count(p);
    const AdamStep s = {(float)a->grad_scale, (float)a->beta1, (float)(1.0 - a->beta1), (float)a->beta2, (float)(1.0 - a->beta2), (float)(a->lr / (1.0 - pow(a->beta1, (double)a->step))),
                        (float)(1.0 / (1.0 - pow(a->beta2, (double)a->step))), (float)a->eps, (float)(1.0 - a->lr * a->weight_decay)};
    LAUNCH((adamw_step), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute, (float *)p->data, (const float *)g->data,
           (float *)m->data, (float *)v->data, s, n);
    return device_launched("adamw", err);
}

void device_train_table(OpsTable *t)
{
    t->posterior = posterior;
    t->diffuse = diffuse;
    t->mse = mse;
    t->sum_squares = sum_squares;
    t->adamw = adamw;
}
