/* The checked front end (rules.h): diffusion, loss, optimiser. */
#include <math.h>
#include "common/ops/blockwise.h"
#include "common/ops/rules.h"

int op_posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    ARGS(ARG(z), ARG(moments), OPT(eps));
    NEED(rule_one_type(be, z, moments, eps), ONE_RULE);
    NEED(z->rank >= 1 && moments->rank == z->rank && rule_last_dim(moments) == 2 * rule_last_dim(z) &&
             rule_rows(moments) == rule_rows(z) && (!eps || tensor_same_shape(eps, z)),
         "z and eps must be [..,C], moments [..,2C]");
    NEED(rule_apart(be, z, moments) && rule_apart(be, z, eps), APART_RULE);
    return be->ops->posterior(be, z, moments, eps, scale, err);
}

int op_diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a,
               const double *s, Err *err)
{
    ARGS(ARG(xt), ARG(v), ARG(x0), ARG(eps));
    NEED(rule_one_type(be, xt, v, x0) && rule_one_type(be, xt, eps, NULL), ONE_RULE);
    NEED(xt->rank >= 1 && tensor_same_shape(xt, v) && tensor_same_shape(xt, x0) && tensor_same_shape(xt, eps),
         SAME_RULE);
    NEED(rule_apart(be, xt, v) && rule_apart(be, xt, x0) && rule_apart(be, xt, eps) && rule_apart(be, v, x0) &&
             rule_apart(be, v, eps),
         APART_RULE);
    return be->ops->diffuse(be, xt, v, x0, eps, a, s, err);
}

int op_mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight, Err *err)
{
    ARGS(OPT(gu), ARG(u), ARG(v));
    NEED(rule_one_type(be, u, v, gu), ONE_RULE);
    NEED(tensor_same_shape(u, v) && (!gu || tensor_same_shape(gu, u)), SAME_RULE);
    NEED((!gu || rule_same_or_apart(be, gu, u)) && rule_apart(be, gu, v), APART_RULE);
    return be->ops->mse(be, loss, gu, u, v, weight, err);
}

int op_sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    ARGS(ARG(g));
    NEED(rule_trained(be, g), TRAINED_RULE);
    return be->ops->sum_squares(be, sum, g, err);
}

int op_adamw(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const Tensor *v,
             const AdamParams *a, Err *err)
{
    ARGS(ARG(p), OPT(copy), ARG(g), ARG(m), ARG(v));
    NEED(rule_stat(be, m) && rule_stat(be, v), STAT_RULE);
    NEED(rule_trained(be, p) && rule_trained(be, g), TRAINED_RULE);
    NEED(!copy || ((copy->dtype == DT_BF16 || be->act == DT_F64) && p->dtype != DT_BF16),
         "a copy is BF16, of parameters that are not");
    NEED(tensor_count(p) == tensor_count(g) && tensor_count(p) == tensor_count(m) &&
             tensor_count(p) == tensor_count(v) && (!copy || tensor_count(p) == tensor_count(copy)),
         "element counts must be equal");
    NEED(a->step >= 1, "the step counts from 1");
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            NEED(rule_apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->adamw(be, p, copy, g, m, v, a, err);
}

int op_sgd(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const SgdParams *a,
           Err *err)
{
    ARGS(ARG(p), OPT(copy), ARG(g), OPT(m));
    NEED(rule_stat(be, m), STAT_RULE);
    NEED(rule_trained(be, p) && rule_trained(be, g), TRAINED_RULE);
    NEED(!copy || ((copy->dtype == DT_BF16 || be->act == DT_F64) && p->dtype != DT_BF16),
         "a copy is BF16, of parameters that are not");
    NEED(tensor_count(p) == tensor_count(g) && (!m || tensor_count(p) == tensor_count(m)) &&
             (!copy || tensor_count(p) == tensor_count(copy)),
         "element counts must be equal");
    NEED(a->step >= 1, "the step counts from 1");
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            NEED(rule_apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->sgd(be, p, copy, g, m, a, err);
}

static int blocks_fit(const Tensor *codes, const Tensor *scale, const Tensor *x)
{
    int64_t n = tensor_count(x);

    return codes->dtype == DT_U8 && tensor_count(codes) == n &&
           tensor_count(scale) == (n + BLOCKWISE_BLOCK - 1) / BLOCKWISE_BLOCK;
}
#define BLOCKS_RULE "codes must be U8, one an element, and scale F32, one for every 256"

int op_quantize(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed, Err *err)
{
    ARGS(ARG(codes), ARG(scale), ARG(x));
    NEED(rule_stat(be, scale) && rule_stat(be, x), STAT_RULE);
    NEED(blocks_fit(codes, scale, x), BLOCKS_RULE);
    NEED(rule_apart(be, codes, scale) && rule_apart(be, codes, x) && rule_apart(be, scale, x), APART_RULE);
    return be->ops->quantize(be, codes, scale, x, is_signed, err);
}

int op_dequantize(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed, Err *err)
{
    ARGS(ARG(y), ARG(codes), ARG(scale));
    NEED(rule_stat(be, scale) && rule_stat(be, y), STAT_RULE);
    NEED(blocks_fit(codes, scale, y), BLOCKS_RULE);
    NEED(rule_apart(be, y, codes) && rule_apart(be, y, scale), APART_RULE);
    return be->ops->dequantize(be, y, codes, scale, is_signed, err);
}
