/* The checked front end (rules.h): norms, and the gates and modulation around them. */
#include "common/ops/rules.h"

#define MOD_RULE "with modulation x must be [B,S,D], mod [B,6*D] and text_rows in 0..S, or mod [B,2*D] and text_rows 0"

static int modulation_fits(const Tensor *x, const Modulation *m, int chunks_2)
{
    if (!m)
        return 1;
    if (!m->mod || x->rank != 3 || m->text_rows < 0 || m->text_rows > x->dim[1])
        return 0;
    return SHAPE(m->mod, 2, x->dim[0], 6 * x->dim[2]) ||
           (chunks_2 && m->text_rows == 0 && SHAPE(m->mod, 2, x->dim[0], 2 * x->dim[2]));
}

int op_layernorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                 const Modulation *m, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(ARG(y), ARG(x), OPT(w), OPT(b), OPT(mod));
    NEED(rule_act(be, y) && rule_act(be, x), ACT_RULE);
    NEED(rule_weight(be, w) && rule_weight(be, b), WEIGHT_RULE);
    NEED(rule_stat(be, mod), STAT_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(x->rank >= 1 && rule_vector(w, rule_last_dim(x)) && rule_vector(b, rule_last_dim(x)),
         "w and b must be [D], D the last axis of x");
    NEED(modulation_fits(x, m, 1), MOD_RULE);
    NEED(eps >= 0, "eps must not be negative");
    NEED(rule_same_or_apart(be, y, x) && rule_apart(be, y, w) && rule_apart(be, y, b) && rule_apart(be, y, mod),
         APART_RULE);
    return be->ops->layernorm(be, y, x, w, b, eps, m, err);
}

int op_layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                          const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                          const Modulation *m, int add, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(OPT(gx), OPT(gw), OPT(gb), OPT(gm), ARG(gy), ARG(x), OPT(w), OPT(b), OPT(mod));
    NEED(rule_act(be, gx) && rule_act(be, gy) && rule_act(be, x), ACT_RULE);
    NEED(rule_weight(be, w) && rule_weight(be, b), WEIGHT_RULE);
    NEED(rule_stat(be, mod) && rule_stat(be, gm), STAT_RULE);
    NEED(rule_trained(be, gw) && rule_trained(be, gb) && (!gw || !gb || gw->dtype == gb->dtype), TRAINED_RULE);
    NEED(tensor_same_shape(gy, x) && (!gx || tensor_same_shape(gx, x)), SAME_RULE);
    NEED(x->rank >= 1 && rule_vector(w, rule_last_dim(x)) && rule_vector(b, rule_last_dim(x)),
         "w and b must be [D], D the last axis of x");
    NEED(rule_vector(gw, rule_last_dim(x)) && rule_vector(gb, rule_last_dim(x)),
         "gw and gb must be [D], D the last axis of x");
    NEED(!gw == !gb && (!gw || (w && b)), "gw and gb go together, and with w and b");
    NEED(!gm == !m && (!gm || (mod && tensor_same_shape(gm, mod))), "gm goes with the modulation, shaped like it");
    NEED(modulation_fits(x, m, 1), MOD_RULE);
    NEED(eps >= 0, "eps must not be negative");
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 9; j++)
            NEED(i == j || rule_apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->layernorm_backward(be, gx, gw, gb, gm, gy, x, w, b, eps, m, add, err);
}

int op_gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(ARG(x), ARG(y), ARG(mod));
    NEED(rule_act(be, x) && rule_act(be, y), ACT_RULE);
    NEED(rule_stat(be, mod), STAT_RULE);
    NEED(tensor_same_shape(x, y), SAME_RULE);
    NEED(modulation_fits(x, m, 0), "x must be [B,S,D], mod [B,6*D] and text_rows in 0..S");
    NEED(rule_apart(be, x, y) && rule_apart(be, x, mod), APART_RULE);
    return be->ops->gate_add(be, x, y, m, err);
}

int op_gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                         const Modulation *m, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(ARG(gy), OPT(gm), ARG(gx), ARG(y), ARG(mod));
    NEED(rule_act(be, gy) && rule_act(be, gx) && rule_act(be, y), ACT_RULE);
    NEED(rule_stat(be, mod) && rule_stat(be, gm), STAT_RULE);
    NEED(tensor_same_shape(gy, gx) && tensor_same_shape(gy, y), SAME_RULE);
    NEED(modulation_fits(gx, m, 0), "x must be [B,S,D], mod [B,6*D] and text_rows in 0..S");
    NEED(!gm || tensor_same_shape(gm, mod), "gm must be shaped like the modulation");
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 5; j++)
            NEED(i == j || rule_apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->gate_add_backward(be, gy, gm, gx, y, m, err);
}

int op_rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    ARGS(ARG(y), ARG(x), ARG(w));
    NEED(rule_act(be, y) && rule_act(be, x), ACT_RULE);
    NEED(rule_weight(be, w), WEIGHT_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(x->rank >= 1 && rule_vector(w, rule_last_dim(x)), "w must be [D], D the last axis of x");
    NEED(eps >= 0, "eps must not be negative");
    NEED(rule_same_or_apart(be, y, x) && rule_apart(be, y, w), APART_RULE);
    return be->ops->rmsnorm(be, y, x, w, eps, err);
}

int op_groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, int64_t groups,
                 double eps, const SpatialCond *cond, ActKind act, Err *err)
{
    const Tensor *scale = cond ? cond->scale : NULL, *shift = cond ? cond->shift : NULL;
    ARGS(ARG(y), ARG(x), ARG(w), ARG(b), OPT(scale), OPT(shift));
    NEED(rule_act(be, y) && rule_act(be, x) && rule_act(be, scale) && rule_act(be, shift), ACT_RULE);
    NEED(rule_weight(be, w) && rule_weight(be, b), WEIGHT_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(x->rank == 4 && rule_vector(w, x->dim[3]) && rule_vector(b, x->dim[3]), "x must be [T,H,W,C], w and b [C]");
    NEED(groups >= 1 && x->dim[3] % groups == 0, "the channels must divide into the groups");
    NEED(!cond || (scale && shift && scale->rank == 4 && tensor_same_shape(scale, shift) && scale->dim[3] == x->dim[3]),
         "scale and shift must be [Tz,h,w,C]");
    NEED(act == ACT_NONE || act == ACT_SILU, "the activation must be none or silu");
    NEED(eps >= 0, "eps must not be negative");
    NEED(rule_same_or_apart(be, y, x), APART_RULE);
    for (int j = 2; j < 6; j++)
        NEED(rule_apart(be, y, args[j].t), APART_RULE);
    return be->ops->groupnorm(be, y, x, w, b, groups, eps, cond, act, err);
}
