/* The checked front end (rules.h): convolution and resampling. */
#include <assert.h>
#include <string.h>
#include "common/ops/rules.h"

int op_conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w, const Tensor *b,
            const ConvParams *p, Err *err)
{
    ARGS(ARG(y), ARG(x), OPT(prefix), ARG(w), ARG(b));
    NEED(rule_act(be, y) && rule_act(be, x) && rule_act(be, prefix), ACT_RULE);
    NEED(rule_weight(be, w) && rule_weight(be, b), WEIGHT_RULE);
    NEED(x->rank == 4 && w->rank == 5 && w->dim[4] == x->dim[3] && rule_vector(b, w->dim[0]),
         "x [T,H,W,Ci], w [Co,kt,kh,kw,Ci], b [Co]");
    const int64_t *k = w->dim, high = x->dim[1] + p->top + p->bottom - k[2],
                  wide = x->dim[2] + p->left + p->right - k[3];
    NEED(p->stride >= 1 && p->top >= 0 && p->bottom >= 0 && p->left >= 0 && p->right >= 0,
         "stride and padding must not be negative");
    NEED(high >= 0 && wide >= 0, "the kernel is larger than the padded frame");
    NEED(SHAPE(y, 4, x->dim[0], high / p->stride + 1, wide / p->stride + 1, k[0]), "y must be [T,Ho,Wo,Co]");
    NEED(!prefix || SHAPE(prefix, 4, k[1] - 1, x->dim[1], x->dim[2], x->dim[3]), "the prefix must be [kt-1,H,W,Ci]");
    NEED(rule_apart(be, y, x) && rule_apart(be, y, prefix) && rule_apart(be, y, w) && rule_apart(be, y, b), APART_RULE);
    int rc = rule_stopped(be, err);
    return rc < 0 ? rc : be->ops->conv(be, y, x, prefix, w, b, p, err);
}

void op_conv_pack(const Tensor *dst, const Tensor *src)
{
    assert(src->rank == 5 && dst->rank == 5 && src->dtype == dst->dtype && tensor_count(src) == tensor_count(dst));
    assert(dst->dim[0] == src->dim[0] && dst->dim[4] == src->dim[1]);
    int64_t n_out = src->dim[0], n_in = src->dim[1], taps = src->dim[2] * src->dim[3] * src->dim[4];
    size_t size = (size_t)dtype_size(src->dtype);
    const char *from = src->data;
    char *to = dst->data;
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t i = 0; i < n_in; i++, to += size)
                memcpy(to, from + (size_t)((o * n_in + i) * taps + tap) * size, size);
}

int op_upsample(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(rule_act(be, y) && rule_act(be, x), ACT_RULE);
    NEED(x->rank == 4, "x must be [T,H,W,C]");
    int64_t T = x->dim[0], To = !double_time || T == 1 ? T : T % 2 ? 2 * T - 1 : 2 * T;
    NEED(SHAPE(y, 4, To, 2 * x->dim[1], 2 * x->dim[2], x->dim[3]),
         "y must be [T',2H,2W,C] (doubling time: T even 2T, T odd 2T-1, else T)");
    NEED(rule_apart(be, y, x), APART_RULE);
    return be->ops->upsample(be, y, x, double_time, err);
}

int op_pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(rule_act(be, y) && rule_act(be, x), ACT_RULE);
    NEED(x->rank == 4, "x must be [T,H,W,C]");
    NEED(SHAPE(y, 4, (x->dim[0] + 1) / 2, x->dim[1], x->dim[2], x->dim[3]),
         "y must be [T',H,W,C] (T even T/2, T odd (T+1)/2)");
    NEED(rule_apart(be, y, x), APART_RULE);
    return be->ops->pool_time(be, y, x, err);
}

int op_pool(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(rule_act(be, y) && rule_act(be, x), ACT_RULE);
    NEED(x->rank == 4, "x must be [T,H,W,C]");
    int64_t out[3];
    for (int a = 0; a < 3; a++) {
        NEED(p->kernel[a] >= 1 && p->stride[a] >= 1 && p->before[a] >= 0 && p->after[a] >= 0 &&
                 p->before[a] < p->kernel[a] && p->after[a] < p->kernel[a],
             "every window must reach into x");
        NEED(x->dim[a] + p->before[a] + p->after[a] >= p->kernel[a], "the window is larger than the padded x");
        out[a] = (x->dim[a] + p->before[a] + p->after[a] - p->kernel[a]) / p->stride[a] + 1;
    }
    NEED(SHAPE(y, 4, out[0], out[1], out[2], x->dim[3]), "y must be [To,Ho,Wo,C]");
    NEED(rule_apart(be, y, x), APART_RULE);
    return be->ops->pool(be, y, x, p, err);
}
