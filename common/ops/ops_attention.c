/* The checked front end (rules.h): attention. */
#include <math.h>
#include "common/ops/rules.h"

#define ATTENTION_RULE "q and o must be [B,Sq,heads*hd], k and v [B,Sk,heads*hd], bias [heads,Sq,Sk], lse [B,heads,Sq]"

static int attention_fits(const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                          const AttnParams *p)
{
    if (q->rank != 3 || k->rank != 3 || p->heads < 1 || q->dim[2] % p->heads)
        return 0;
    return q->dim[0] == k->dim[0] && q->dim[2] == k->dim[2] && tensor_same_shape(k, v) && tensor_same_shape(q, o) &&
           (!p->bias || SHAPE(p->bias, 3, p->heads, q->dim[1], k->dim[1])) &&
           (!lse || SHAPE(lse, 3, q->dim[0], p->heads, q->dim[1]));
}

int op_attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k, const Tensor *v,
                 const AttnParams *p, Err *err)
{
    const Tensor *bias = p->bias;
    ARGS(ARG(o), OPT(lse), ARG(q), ARG(k), ARG(v), OPT(bias));
    NEED(rule_act(be, o) && rule_act(be, q) && rule_act(be, k) && rule_act(be, v), ACT_RULE);
    NEED(rule_stat(be, lse) && rule_stat(be, bias), STAT_RULE);
    NEED(attention_fits(q, k, v, o, lse, p), ATTENTION_RULE);
    NEED(isfinite(p->scale), "the scale must be finite");
    NEED(rule_apart(be, o, q) && rule_apart(be, o, k) && rule_apart(be, o, v) && rule_apart(be, o, bias) &&
             rule_apart(be, o, lse),
         APART_RULE);
    NEED(rule_apart(be, lse, q) && rule_apart(be, lse, k) && rule_apart(be, lse, v) && rule_apart(be, lse, bias),
         APART_RULE);
    int rc = rule_stopped(be, err);
    return rc < 0 ? rc : be->ops->attention(be, o, lse, q, k, v, p, err);
}

int op_attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                          const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                          const AttnParams *p, Err *err)
{
    if (p->bias || p->causal)
        return err_set(err, ERR_UNSUPPORTED, "op_attention_backward: not with a bias or a causal mask");
    ARGS(ARG(gq), ARG(gk), ARG(gv), ARG(go), ARG(q), ARG(k), ARG(v), ARG(o), ARG(lse));
    for (int i = 0; i < 8; i++)
        NEED(rule_act(be, args[i].t), ACT_RULE);
    NEED(rule_stat(be, lse), STAT_RULE);
    NEED(attention_fits(q, k, v, o, lse, p) && tensor_same_shape(gq, q) && tensor_same_shape(gk, k) &&
             tensor_same_shape(gv, v) && tensor_same_shape(go, o),
         ATTENTION_RULE);
    NEED(isfinite(p->scale), "the scale must be finite");
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 9; j++)
            NEED(i == j || rule_apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->attention_backward(be, gq, gk, gv, go, q, k, v, o, lse, p, err);
}
