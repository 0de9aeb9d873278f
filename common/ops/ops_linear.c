/* The checked front end (rules.h): products with a matrix. */
#include "common/ops/rules.h"

#define LINEAR_RULE "y[..,N] = x[..,K] w[N,K]^T + b[N] needs equal rows and these sizes"

static int linear_fits(const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b)
{
    return w->rank == 2 && rule_last_dim(x) == w->dim[1] && rule_last_dim(y) == w->dim[0] &&
           rule_rows(x) == rule_rows(y) && rule_vector(b, w->dim[0]);
}

int op_linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    ARGS(ARG(y), ARG(x), ARG(w), OPT(b));
    NEED(rule_one_type(be, y, x, NULL), ONE_RULE);
    NEED(rule_weight(be, w) && rule_weight(be, b), WEIGHT_RULE);
    NEED(linear_fits(y, x, w, b), LINEAR_RULE);
    NEED(rule_apart(be, y, x) && rule_apart(be, y, w) && rule_apart(be, y, b), APART_RULE);
    int rc = rule_stopped(be, err);
    return rc < 0 ? rc : be->ops->linear(be, y, x, w, b, err);
}

int op_linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *err)
{
    ARGS(ARG(gx), ARG(gy), ARG(w));
    NEED(rule_one_type(be, gx, gy, NULL), ONE_RULE);
    NEED(rule_weight(be, w), WEIGHT_RULE);
    NEED(linear_fits(gy, gx, w, NULL), LINEAR_RULE);
    NEED(rule_apart(be, gx, gy) && rule_apart(be, gx, w), APART_RULE);
    return be->ops->linear_backward_x(be, gx, gy, w, add, err);
}

int op_linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x, Err *err)
{
    ARGS(OPT(gw), OPT(gb), ARG(gy), ARG(x));
    NEED(rule_one_type(be, gy, x, NULL), ONE_RULE);
    NEED(rule_trained(be, gw) && rule_trained(be, gb), TRAINED_RULE);
    NEED(rule_rows(gy) == rule_rows(x) && rule_vector(gb, rule_last_dim(gy)), LINEAR_RULE);
    NEED(!gw || linear_fits(gy, x, gw, gb), LINEAR_RULE);
    NEED(rule_apart(be, gw, gy) && rule_apart(be, gw, x) && rule_apart(be, gb, gy) && rule_apart(be, gb, x) &&
             rule_apart(be, gb, gw),
         APART_RULE);
    if (!gw && !gb)
        return 0;
    return be->ops->linear_backward_w(be, gw, gb, gy, x, err);
}
