/* The checked front end (rules.h): elementwise operations. */
#include "common/ops/rules.h"

int op_fill(Backend *be, const Tensor *y, float value, Err *err)
{
    ARGS(ARG(y));
    NEED(dtype_is_float(y->dtype), FLOAT_RULE);
    return be->ops->fill(be, y, value, err);
}

int op_copy(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(y->dtype == x->dtype || (dtype_is_float(y->dtype) && dtype_is_float(x->dtype)),
         "only float types are converted");
    NEED(tensor_count(y) == tensor_count(x), "element counts must be equal");
    NEED(rule_apart(be, y, x), APART_RULE);
    return be->ops->copy(be, y, x, err);
}

int op_add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    ARGS(ARG(y), ARG(a), ARG(b));
    NEED(rule_one_type(be, y, a, b), ONE_RULE);
    NEED(tensor_same_shape(y, a) && tensor_same_shape(y, b), SAME_RULE);
    NEED(rule_same_or_apart(be, y, a) && rule_same_or_apart(be, y, b), APART_RULE);
    return be->ops->add(be, y, a, b, err);
}

int op_lincomb(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    if (n < 1 || n > 4)
        return err_set(err, ERR_USAGE, "op_lincomb: %d terms, expected 1 to 4", n);
    const Tensor *x0 = x[0], *x1 = n > 1 ? x[1] : x[0], *x2 = n > 2 ? x[2] : x[0], *x3 = n > 3 ? x[3] : x[0];
    ARGS(ARG(y), ARG(x0), ARG(x1), ARG(x2), ARG(x3));
    NEED(dtype_is_float(y->dtype), FLOAT_RULE);
    for (int i = 0; i < n; i++) {
        NEED(dtype_is_float(x[i]->dtype), FLOAT_RULE);
        NEED(tensor_same_shape(y, x[i]), SAME_RULE);
        NEED(rule_same_or_apart(be, y, x[i]), APART_RULE);
    }
    return be->ops->lincomb(be, y, n, coef, x, err);
}

int op_act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(rule_one_type(be, y, x, NULL), ONE_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(rule_same_or_apart(be, y, x), APART_RULE);
    return be->ops->act(be, y, x, kind, err);
}

int op_act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    ARGS(ARG(gx), ARG(gy), ARG(x));
    NEED(rule_one_type(be, gx, gy, x), ONE_RULE);
    NEED(tensor_same_shape(gx, gy) && tensor_same_shape(gx, x), SAME_RULE);
    NEED(rule_same_or_apart(be, gx, gy) && rule_apart(be, gx, x), APART_RULE);
    return be->ops->act_backward(be, gx, gy, x, kind, err);
}

int op_act_gate(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    ARGS(ARG(y), ARG(a), ARG(b));
    NEED(rule_one_type(be, y, a, b), ONE_RULE);
    NEED(tensor_same_shape(y, a) && tensor_same_shape(y, b), SAME_RULE);
    NEED(rule_same_or_apart(be, y, a) && rule_same_or_apart(be, y, b), APART_RULE);
    return be->ops->act_gate(be, y, a, b, kind, err);
}
