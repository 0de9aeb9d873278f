/* Elementwise operations and moves, in pieces of CPU_BLOCK elements or of rows.  None of them
 * depends on how the pieces are shared out. */
#include "common/ops/cpu/cpu.h"

static int fill_cpu(Backend *be, const Tensor *y, float value, Err *err)
{
    (void)err;
    int64_t n = tensor_count(y);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i0 = 0; i0 < n; i0 += CPU_BLOCK) {
        int64_t end = cpu_min(n, i0 + CPU_BLOCK);
        if (y->dtype == DT_F32)
            for (int64_t i = i0; i < end; i++)
                ((float *)y->data)[i] = value;
        else
            for (int64_t i = i0; i < end; i++)
                tensor_set(y, i, value);
    }
    return 0;
}

/* y[to, to+n) = x[from, from+n). */
static void move(const Tensor *y, int64_t to, const Tensor *x, int64_t from, int64_t n)
{
    int64_t size = dtype_size(y->dtype);
    if (y->dtype == x->dtype)
        memcpy((char *)y->data + to * size, (const char *)x->data + from * size, (size_t)(n * size));
    else if (y->dtype == DT_F32 && (x->dtype == DT_F16 || x->dtype == DT_BF16))
        cpu_to_f32((float *)y->data + to, (const char *)x->data + from * 2, x->dtype, n);
    else
        for (int64_t i = 0; i < n; i++)
            tensor_set(y, to + i, tensor_get(x, from + i));
}

static int copy_cpu(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    (void)err;
    int64_t n = tensor_count(y);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_BLOCK)
        move(y, i, x, i, cpu_min(CPU_BLOCK, n - i));
    return 0;
}

static int add_cpu(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    (void)err;
    int64_t n = tensor_count(y);
    float *to = y->data;
    const float *p = a->data, *q = b->data;
#pragma omp parallel for simd num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i++)
        to[i] = p[i] + q[i];
    return 0;
}

static int lincomb_cpu(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    (void)err;
    int64_t count = tensor_count(y);
    Tensor rows[4];
    for (int k = 0; k < n; k++)
        rows[k] = tensor_of(x[k]->data, x[k]->dtype, 1, count);
#pragma omp parallel for num_threads(cpu_threads(be, count)) schedule(static)
    for (int64_t i0 = 0; i0 < count; i0 += CPU_BLOCK / 8) {
        float sum[CPU_BLOCK / 8], room[CPU_BLOCK / 8];
        int64_t len = cpu_min(CPU_BLOCK / 8, count - i0);
        Tensor one = tensor_of(room, DT_F32, 1, len), all = tensor_of(sum, DT_F32, 1, len),
               out = tensor_of(y->data, y->dtype, 1, count);
        for (int k = 0; k < n; k++) {
            float c = (float)coef[k];
            move(&one, 0, &rows[k], i0, len);
            for (int64_t i = 0; i < len; i++)
                sum[i] = k ? sum[i] + c * room[i] : c * room[i];
        }
        move(&out, i0, &all, 0, len);
    }
    return 0;
}

/* ---- activations: all but erf and ReLU are x * sigmoid(s(x)) ---------------------------------- */

/* tanh form: 0.5(1 + tanh(u)) = sigmoid(2u).  Beyond |x| = 11 it is 0 or 1; the clamp keeps the
 * cube finite. */
static inline float tanh_slope(float x, float *rate)
{
    float c = x < -11.0f ? -11.0f : x;
    c = c > 11.0f ? 11.0f : c;
    *rate = 1.5957691216f + 0.2140644488f * c * c; /* d(2u)/dx */
    return c * (1.5957691216f + 0.0713548163f * c * c);
}

static void act_block(float *y, const float *x, int64_t n, ActKind kind)
{
    float unused;
    switch (kind) {
    case ACT_NONE: memmove(y, x, (size_t)n * sizeof *y); break;
    case ACT_SILU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * cpu_sigmoid(x[i]);
        break;
    case ACT_QUICK_GELU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * cpu_sigmoid(1.702f * x[i]);
        break;
    case ACT_GELU_TANH:
#pragma omp simd private(unused)
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * cpu_sigmoid(tanh_slope(x[i], &unused));
        break;
    case ACT_GELU_ERF:
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * (0.5f * erfcf(-0.70710678f * x[i]));
        break;
    case ACT_RELU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] > 0 ? x[i] : 0;
        break;
    }
}

static void act_grad_block(float *gx, const float *gy, const float *x, int64_t n, ActKind kind)
{
    float rate;
    switch (kind) {
    case ACT_NONE: memmove(gx, gy, (size_t)n * sizeof *gx); break;
    case ACT_SILU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float s = cpu_sigmoid(x[i]);
            gx[i] = gy[i] * (s + x[i] * (s * (1.0f - s)));
        }
        break;
    case ACT_QUICK_GELU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float s = cpu_sigmoid(1.702f * x[i]);
            gx[i] = gy[i] * (s + 1.702f * x[i] * (s * (1.0f - s)));
        }
        break;
    case ACT_GELU_TANH:
#pragma omp simd private(rate)
        for (int64_t i = 0; i < n; i++) {
            float s = cpu_sigmoid(tanh_slope(x[i], &rate));
            gx[i] = gy[i] * (s + x[i] * (s * (1.0f - s)) * rate);
        }
        break;
    case ACT_GELU_ERF:
        for (int64_t i = 0; i < n; i++)
            gx[i] = gy[i] * (0.5f * erfcf(-0.70710678f * x[i]) + x[i] * 0.39894228f * expf(-0.5f * x[i] * x[i]));
        break;
    case ACT_RELU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            gx[i] = x[i] > 0 ? gy[i] : 0;
        break;
    }
}

static int act_cpu(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    (void)err;
    int64_t n = tensor_count(y);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_BLOCK)
        act_block((float *)y->data + i, (const float *)x->data + i, cpu_min(CPU_BLOCK, n - i), kind);
    return 0;
}

static int act_backward_cpu(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    (void)err;
    int64_t n = tensor_count(gx);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_BLOCK)
        act_grad_block((float *)gx->data + i, (const float *)gy->data + i, (const float *)x->data + i,
                       cpu_min(CPU_BLOCK, n - i), kind);
    return 0;
}

static int act_gate_cpu(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    (void)err;
    int64_t n = tensor_count(y);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i0 = 0; i0 < n; i0 += CPU_BLOCK / 8) {
        float room[CPU_BLOCK / 8], *to = (float *)y->data + i0;
        const float *gate = (const float *)b->data + i0;
        int64_t len = cpu_min(CPU_BLOCK / 8, n - i0);
        act_block(room, (const float *)a->data + i0, len, kind);
        for (int64_t i = 0; i < len; i++)
            to[i] = room[i] * gate[i];
    }
    return 0;
}

/* ---- moves ----------------------------------------------------------------------------------- */

static int copy_rows_cpu(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    (void)err;
    int64_t d = x->dim[2], pieces = x->dim[0] * n;
#pragma omp parallel for num_threads(cpu_threads(be, pieces *d)) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t b = i / n, r = i % n;
        memcpy((float *)y->data + (b * y->dim[1] + y0 + r) * d, (const float *)x->data + (b * x->dim[1] + x0 + r) * d,
               (size_t)d * sizeof(float));
    }
    return 0;
}

static int add_rows_cpu(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    (void)err;
    int64_t d = x->dim[2], n = table->dim[0], pieces = x->dim[0] * n;
#pragma omp parallel for num_threads(cpu_threads(be, pieces *d)) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        float *restrict to = (float *)x->data + (i / n * x->dim[1] + first + i % n) * d;
        const float *restrict from = (const float *)table->data + i % n * d;
        for (int64_t c = 0; c < d; c++)
            to[c] += from[c];
    }
    return 0;
}

static int copy_box_cpu(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                        const int64_t n[4], Err *err)
{
    (void)err;
    int64_t rows = n[0] * n[1];
#pragma omp parallel for num_threads(cpu_threads(be, rows *n[2] * n[3])) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        int64_t t = i / n[1], h = i % n[1];
        int64_t to = (((d[0] + t) * dst->dim[1] + d[1] + h) * dst->dim[2] + d[2]) * dst->dim[3] + d[3];
        int64_t from = (((s[0] + t) * src->dim[1] + s[1] + h) * src->dim[2] + s[2]) * src->dim[3] + s[3];
        if (n[3] == dst->dim[3] && n[3] == src->dim[3]) {
            move(dst, to, src, from, n[2] * n[3]);
            continue;
        }
        for (int64_t w = 0; w < n[2]; w++)
            move(dst, to + w * dst->dim[3], src, from + w * src->dim[3], n[3]);
    }
    return 0;
}

static int blend_cpu(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    (void)err;
    int64_t h = axis == 1 ? extent : cur->dim[1], w = axis == 2 ? extent : cur->dim[2], c = cur->dim[3],
            rows = cur->dim[0] * h;
    int64_t shift_h = axis == 1 ? prev->dim[1] - extent : 0, shift_w = axis == 2 ? prev->dim[2] - extent : 0;
#pragma omp parallel for num_threads(cpu_threads(be, rows *w *c)) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t t = r / h, i = r % h;
        for (int64_t j = 0; j < w; j++) {
            float *restrict to = (float *)cur->data + ((t * cur->dim[1] + i) * cur->dim[2] + j) * c;
            const float *restrict from = (const float *)prev->data +
                                         ((t * prev->dim[1] + i + shift_h) * prev->dim[2] + j + shift_w) * c;
            float part = (float)((double)(axis == 1 ? i : j) / (double)extent);
            for (int64_t k = 0; k < c; k++)
                to[k] = from[k] * (1.0f - part) + to[k] * part;
        }
    }
    return 0;
}

void cpu_table_elementwise(OpsTable *t)
{
    t->fill = fill_cpu;
    t->copy = copy_cpu;
    t->add = add_cpu;
    t->lincomb = lincomb_cpu;
    t->act = act_cpu;
    t->act_backward = act_backward_cpu;
    t->act_gate = act_gate_cpu;
    t->copy_rows = copy_rows_cpu;
    t->add_rows = add_rows_cpu;
    t->copy_box = copy_box_cpu;
    t->blend = blend_cpu;
}
