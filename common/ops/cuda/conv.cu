/* The causal convolution: the choice of kernels, and the plain one; resampling in space and time. */
#include "common/ops/cuda/conv.h"

enum { THREADS = 256 };

/* ---- convolution ----------------------------------------------------------------------------- */

/* One thread an output element: any sizes, any type of weights. */
__global__ void __launch_bounds__(THREADS) conv_plain(ConvArgs a, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    const int64_t row = i / a.Co;
    const int co = (int)(i - row * a.Co), wo = (int)(row % a.Wo), ho = (int)(row / a.Wo % a.Ho),
              t = (int)(row / a.Wo / a.Ho);
    float sum = 0.0f;
    for (int dt = 0; dt < a.kt; dt++) {
        const bf16 *frame = conv_frame(a, t + dt - (a.kt - 1));
        for (int dh = 0; dh < a.kh; dh++)
            for (int dw = 0; dw < a.kw; dw++) {
                const int h = ho * a.stride + dh - a.top, w = wo * a.stride + dw - a.left;
                if (h < 0 || h >= a.H || w < 0 || w >= a.W)
                    continue;
                const bf16 *in = frame + ((int64_t)h * a.W + w) * a.Ci;
                const int64_t weight = ((((int64_t)co * a.kt + dt) * a.kh + dh) * a.kw + dw) * a.Ci;
                for (int c = 0; c < a.Ci; c++)
                    sum += load(in, c) * vec_get(a.w, weight + c);
            }
    }
    sum += vec_get(a.b, co);
    store(a.y, i, a.add ? load(a.y, i) + sum : sum);
}

static int conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w, const Tensor *b,
                const ConvParams *p, Err *err)
{
    const int64_t *xd = x->dim, *yd = y->dim, *wd = w->dim, most = INT32_MAX / 4;
    if (xd[1] * xd[2] * xd[3] > most || tensor_count(w) > most || yd[1] * yd[2] > most || xd[0] > most ||
        p->stride > most || p->top > most || p->left > most)
        return err_set(err, ERR_LIMIT,
                       "conv: a frame of %" PRId64 " x %" PRId64 " x %" PRId64 " is too large for the device's kernels",
                       xd[1], xd[2], xd[3]);
    const ConvArgs a = {(bf16 *)y->data,
                        (const bf16 *)x->data,
                        prefix ? (const bf16 *)prefix->data : nullptr,
                        vec_of(w),
                        vec_of(b),
                        (int)xd[0],
                        (int)xd[1],
                        (int)xd[2],
                        (int)xd[3],
                        (int)yd[1],
                        (int)yd[2],
                        (int)yd[3],
                        (int)wd[1],
                        (int)wd[2],
                        (int)wd[3],
                        (int)p->stride,
                        (int)p->top,
                        (int)p->left,
                        p->add};
    if (w->dtype == DT_BF16 && a.kh * a.kw <= 28) {
        Device *d = device_of(be);
        return d->capability == 90 && conv_90_takes(&a) ? conv_90(d, &a, err) : conv_gemm(d, &a, err);
    }
    const int64_t n = tensor_count(y);
    LAUNCH((conv_plain), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute, a, n);
    return device_launched("conv", err);
}

/* ---- resampling: V elements a thread --------------------------------------------------------- */

/* Frame t of the output comes from this frame of T. */
__device__ __forceinline__ int64_t source_frame(int64_t t, int64_t T, int doubled)
{
    return !doubled ? t : T % 2 ? (t + 1) / 2 : t / 2;
}

template <class M>
__global__ void __launch_bounds__(THREADS)
    upsample_nearest(M *y, const M *x, int64_t n, int64_t T, int64_t H, int64_t W, int64_t C, int doubled)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    const int64_t pixel = i / C, c = i - pixel * C, w = pixel % (2 * W), h = pixel / (2 * W) % (2 * H),
                  t = pixel / (4 * W * H);
    y[i] = x[((source_frame(t, T, doubled) * H + h / 2) * W + w / 2) * C + c];
}

static int upsample(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    const int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3], n = tensor_count(y);
    const int doubled = double_time && T > 1;
    cudaStream_t s = device_of(be)->compute;
    if (C % 8 == 0 && aligned16(y->data) && aligned16(x->data))
        LAUNCH((upsample_nearest<uint4>), dim3(blocks_for(n / 8, THREADS)), dim3(THREADS), 0, s, (uint4 *)y->data,
               (const uint4 *)x->data, n / 8, T, H, W, C / 8, doubled);
    else
        LAUNCH((upsample_nearest<bf16>), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, s, (bf16 *)y->data,
               (const bf16 *)x->data, n, T, H, W, C, doubled);
    return device_launched("upsample", err);
}

/* y frame t = mean of frames first(t) and second(t); for an odd T frame 0 stands alone. */
template <int V>
__global__ void __launch_bounds__(THREADS) mean_of_pairs(bf16 *y, const bf16 *x, int64_t n, int64_t frame, int odd)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    const int64_t t = i / frame, at = i - t * frame, first = odd ? (t ? 2 * t - 1 : 0) : 2 * t,
                  second = odd && t == 0 ? 0 : first + 1;
    float a[V], b[V];
    load_each(a, x + first * frame + at);
    load_each(b, x + second * frame + at);
#pragma unroll
    for (int k = 0; k < V; k++)
        a[k] = 0.5f * (a[k] + b[k]);
    store_each(y + i, a);
}

static int pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    const int64_t frame = x->dim[1] * x->dim[2] * x->dim[3], n = tensor_count(y);
    const int odd = x->dim[0] % 2 != 0;
    cudaStream_t s = device_of(be)->compute;
    if (frame % 8 == 0 && aligned16(y->data) && aligned16(x->data))
        LAUNCH((mean_of_pairs<8>), dim3(blocks_for(n / 8, THREADS)), dim3(THREADS), 0, s, (bf16 *)y->data,
               (const bf16 *)x->data, n, frame, odd);
    else
        LAUNCH((mean_of_pairs<1>), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, s, (bf16 *)y->data,
               (const bf16 *)x->data, n, frame, odd);
    return device_launched("pool_time", err);
}

/* One window of y, the part of it that lies in x. */
struct Pool {
    int mean, d[4], out[3], kernel[3], stride[3], before[3];
};

__global__ void __launch_bounds__(THREADS) pool_window(bf16 *y, const bf16 *x, int64_t n, Pool p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    const int c = (int)(i % p.d[3]);
    int64_t pixel = i / p.d[3];
    int from[3], to[3];
    for (int a = 2; a >= 0; a--) {
        const int first = (int)(pixel % p.out[a]) * p.stride[a] - p.before[a];
        pixel /= p.out[a];
        from[a] = first > 0 ? first : 0;
        to[a] = first + p.kernel[a] < p.d[a] ? first + p.kernel[a] : p.d[a];
    }
    float sum = 0.0f, most = -INFINITY;
    for (int t = from[0]; t < to[0]; t++)
        for (int h = from[1]; h < to[1]; h++)
            for (int w = from[2]; w < to[2]; w++) {
                const float value = to_float(x[(((int64_t)t * p.d[1] + h) * p.d[2] + w) * p.d[3] + c]);
                sum += value;
                most = value > most ? value : most;
            }
    const int count = (to[0] - from[0]) * (to[1] - from[1]) * (to[2] - from[2]);
    y[i] = to_bf16(p.mean ? sum / (float)count : most);
}

static int pool(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *params, Err *err)
{
    Pool p;
    const int64_t n = tensor_count(y);
    p.mean = params->kind == POOL_MEAN;
    p.d[3] = (int)x->dim[3];
    for (int a = 0; a < 3; a++) {
        p.d[a] = (int)x->dim[a];
        p.out[a] = (int)y->dim[a];
        p.kernel[a] = (int)params->kernel[a];
        p.stride[a] = (int)params->stride[a];
        p.before[a] = (int)params->before[a];
    }
    LAUNCH((pool_window), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute, (bf16 *)y->data,
           (const bf16 *)x->data, n, p);
    return device_launched("pool", err);
}

void device_conv_table(OpsTable *t)
{
    t->pool = pool;
    t->conv = conv;
    t->upsample = upsample;
    t->pool_time = pool_time;
}
