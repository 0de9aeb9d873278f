/* Element by element: fill, copy, sums, activations. */
#include <math.h>
#include <string.h>
#include "common/ops/ref/ref.h"

static const double gelu_c = 0.044715;
static const double sqrt_2_over_pi = 0.79788456080286535588;
static const double sqrt_half = 0.70710678118654752440;
static const double quick_k = 1.702;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

double ref_act(ActKind kind, double x)
{
    switch (kind) {
    case ACT_SILU: return x * sigmoid(x);
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt_2_over_pi * (x + gelu_c * x * x * x)));
    case ACT_GELU_ERF: return 0.5 * x * (1 + erf(x * sqrt_half));
    case ACT_QUICK_GELU: return x * sigmoid(quick_k * x);
    case ACT_RELU: return x > 0 ? x : 0;
    default: return x;
    }
}

/* d act / d x */
double ref_act_slope(ActKind kind, double x)
{
    double s, t;
    switch (kind) {
    case ACT_SILU: s = sigmoid(x); return s * (1 + x * (1 - s));
    case ACT_GELU_TANH:
        t = tanh(sqrt_2_over_pi * (x + gelu_c * x * x * x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt_2_over_pi * (1 + 3 * gelu_c * x * x);
    case ACT_GELU_ERF: /* Phi(x) + x phi(x) */
        return 0.5 * (1 + erf(x * sqrt_half)) + x * exp(-0.5 * x * x) * 0.5 * sqrt_2_over_pi;
    case ACT_QUICK_GELU: s = sigmoid(quick_k * x); return s * (1 + quick_k * x * (1 - s));
    case ACT_RELU: return x > 0;
    default: return 1;
    }
}

static int fill_ref(Backend *be, const Tensor *y, float value, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(y);
    for (int64_t i = 0; i < n; i++)
        ref_set(y, i, value);
    return 0;
}

static int copy_ref(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(y);
    if (y->dtype == x->dtype) { /* any type, bit for bit */
        memcpy(y->data, x->data, (size_t)tensor_bytes(y));
        return 0;
    }
    for (int64_t i = 0; i < n; i++)
        ref_set(y, i, ref_get(x, i));
    return 0;
}

static int add_ref(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(y);
    for (int64_t i = 0; i < n; i++)
        ref_set(y, i, ref_get(a, i) + ref_get(b, i));
    return 0;
}

/* y = sum of coef[k] x[k] */
static int lincomb_ref(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    (void)be, (void)err;
    int64_t count = tensor_count(y);
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            sum += coef[k] * ref_get(x[k], i);
        ref_set(y, i, sum);
    }
    return 0;
}

static int act_ref(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(y);
    for (int64_t i = 0; i < n; i++)
        ref_set(y, i, ref_act(kind, ref_get(x, i)));
    return 0;
}

static int act_backward_ref(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(x);
    for (int64_t i = 0; i < n; i++)
        ref_set(gx, i, ref_get(gy, i) * ref_act_slope(kind, ref_get(x, i)));
    return 0;
}

/* T5 v1.1's gated feed-forward: y = act(a) b */
static int act_gate_ref(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(y);
    for (int64_t i = 0; i < n; i++)
        ref_set(y, i, ref_act(kind, ref_get(a, i)) * ref_get(b, i));
    return 0;
}

void ops_ref_elementwise(OpsTable *out)
{
    out->fill = fill_ref;
    out->copy = copy_ref;
    out->add = add_ref;
    out->lincomb = lincomb_ref;
    out->act = act_ref;
    out->act_backward = act_backward_ref;
    out->act_gate = act_gate_ref;
}
