/* The checked front end: every op looks at its arguments once, for all back ends, then calls the
 * back end's entry.
 *
 * Each op_x begins with the list of its tensors; ARGS refuses a missing one and absurd sizes, NEED
 * refuses what does not hold, with one sentence: the op, every tensor with its type and shape, and
 * the rule that is broken. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/ops/ops_table.h"

typedef struct Arg {
    const char *name;
    const Tensor *t;
    int optional;
} Arg;
#define ARG(t)     \
    {              \
#t, (t), 0 \
    }
#define OPT(t)     \
    {              \
#t, (t), 1 \
    }
#define ARGS(...)                                      \
    const Arg args[] = {__VA_ARGS__, {NULL, NULL, 0}}; \
    const char *const missing = broken_arg(be, args);  \
    if (missing)                                       \
    return refuse(err, __func__, missing, args)
#define NEED(holds, rule)                               \
    do {                                                \
        if (!(holds))                                   \
            return refuse(err, __func__, (rule), args); \
    } while (0)

static int refuse(Err *err, const char *op, const char *rule, const Arg *args)
{
    char list[1024] = "", shape[160];
    size_t at = 0;
    for (const Arg *a = args; a->name && at < sizeof list; a++)
        if (a->t || !a->optional)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s %s", at ? ", " : "", a->name,
                                   a->t ? tensor_describe(a->t, shape, sizeof shape) : "missing");
    return err_set(err, ERR_USAGE, "%s: %s: %s", op, rule, list);
}

static const char *broken_arg(const Backend *be, const Arg *args)
{
    for (const Arg *a = args; a->name; a++) {
        if (!a->t && a->optional)
            continue;
        if (!a->t)
            return "a tensor is missing";
        if (a->t->rank < 0 || a->t->rank > TENSOR_RANK_MAX || (unsigned)a->t->dtype >= DT_COUNT)
            return "a tensor's rank or type makes no sense";
        for (int i = 0; i < a->t->rank; i++)
            if (a->t->dim[i] < 1)
                return "every size must be at least 1";
        if (!a->t->data && !be->plan)
            return "a tensor has no memory";
        if ((uintptr_t)a->t->data % (uintptr_t)dtype_size(a->t->dtype))
            return "a tensor's memory is not aligned for its type";
    }
    return NULL;
}

/* The long operations ask here first, so that a run on a slow machine stops within one of them. */
static int stopped(const Backend *be, Err *err)
{
    return be->stop && be->stop() ? err_set(err, ERR_INTERRUPTED, "interrupted") : 0;
}

/* ---- what the rules are made of (NULL tensors pass) ------------------------------------------ */

static int is_act(const Backend *be, const Tensor *t)
{
    return !t || t->dtype == be->act;
}

/* Operands of one type: the activations', or F32 (the time embedding and the sampler's latents,
 * whatever the activations are). */
static int one_type(const Backend *be, const Tensor *a, const Tensor *b, const Tensor *c)
{
    return (a->dtype == be->act || a->dtype == DT_F32) && (!b || b->dtype == a->dtype) && (!c || c->dtype == a->dtype);
}

static int is_weight(const Backend *be, const Tensor *t)
{
    return !t || t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16 ||
           (t->dtype == DT_F64 && be->act == DT_F64);
}

/* Statistics, modulation, optimiser state. */
static int is_stat(const Backend *be, const Tensor *t)
{
    return !t || t->dtype == (be->act == DT_F64 ? DT_F64 : DT_F32);
}

/* Gradients of parameters, and parameters that an optimiser changes. */
static int is_trained(const Backend *be, const Tensor *t)
{
    return is_stat(be, t) || t->dtype == DT_BF16;
}

static int64_t last_dim(const Tensor *t)
{
    return t->rank ? t->dim[t->rank - 1] : 1;
}

/* All axes but the last, as one. */
static int64_t row_count(const Tensor *t)
{
    return tensor_count(t) / last_dim(t);
}

static int is_vector(const Tensor *t, int64_t n)
{
    return !t || (t->rank == 1 && t->dim[0] == n);
}

static int has_shape(const Tensor *t, int rank, const int64_t *dim)
{
    Tensor want = tensor_view(NULL, t->dtype, rank, dim);
    return tensor_same_shape(t, &want);
}
#define SHAPE(t, rank, ...) has_shape((t), (rank), (const int64_t[]){__VA_ARGS__})

static int apart(const Backend *be, const Tensor *a, const Tensor *b)
{
    if (be->plan || !a || !b)
        return 1;
    uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    return a0 + (uintptr_t)tensor_bytes(a) <= b0 || b0 + (uintptr_t)tensor_bytes(b) <= a0;
}

static int same_or_apart(const Backend *be, const Tensor *a, const Tensor *b)
{
    return apart(be, a, b) || (a->data == b->data && a->dtype == b->dtype && tensor_count(a) == tensor_count(b));
}

#define ACT_RULE "activations must have the back end's type"
#define ONE_RULE "the operands must all have the activations' type, or all be F32"
#define WEIGHT_RULE "weights must be F32, F16 or BF16"
#define STAT_RULE "statistics, modulation and optimiser state must be F32"
#define TRAINED_RULE "gradients of parameters (of one type), and what an optimiser changes, must be F32 or BF16"
#define FLOAT_RULE "a float type is needed"
#define SAME_RULE "shapes must be equal"
#define APART_RULE "an output overlaps an input"

/* ---- elementwise and moves ------------------------------------------------------------------- */

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
    NEED(apart(be, y, x), APART_RULE);
    return be->ops->copy(be, y, x, err);
}

int op_add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    ARGS(ARG(y), ARG(a), ARG(b));
    NEED(one_type(be, y, a, b), ONE_RULE);
    NEED(tensor_same_shape(y, a) && tensor_same_shape(y, b), SAME_RULE);
    NEED(same_or_apart(be, y, a) && same_or_apart(be, y, b), APART_RULE);
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
        NEED(same_or_apart(be, y, x[i]), APART_RULE);
    }
    return be->ops->lincomb(be, y, n, coef, x, err);
}

int op_act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(one_type(be, y, x, NULL), ONE_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(same_or_apart(be, y, x), APART_RULE);
    return be->ops->act(be, y, x, kind, err);
}

int op_act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    ARGS(ARG(gx), ARG(gy), ARG(x));
    NEED(one_type(be, gx, gy, x), ONE_RULE);
    NEED(tensor_same_shape(gx, gy) && tensor_same_shape(gx, x), SAME_RULE);
    NEED(same_or_apart(be, gx, gy) && apart(be, gx, x), APART_RULE);
    return be->ops->act_backward(be, gx, gy, x, kind, err);
}

int op_act_gate(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    ARGS(ARG(y), ARG(a), ARG(b));
    NEED(one_type(be, y, a, b), ONE_RULE);
    NEED(tensor_same_shape(y, a) && tensor_same_shape(y, b), SAME_RULE);
    NEED(same_or_apart(be, y, a) && same_or_apart(be, y, b), APART_RULE);
    return be->ops->act_gate(be, y, a, b, kind, err);
}

int op_embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    ARGS(ARG(y), ARG(table), ARG(ids));
    NEED(is_act(be, y), ACT_RULE);
    NEED(is_weight(be, table), WEIGHT_RULE);
    NEED(ids->dtype == DT_I32, "ids must be I32");
    NEED(table->rank == 2 && last_dim(y) == table->dim[1] && row_count(y) == tensor_count(ids),
         "y must be one table row an id");
    NEED(apart(be, y, table) && apart(be, y, ids), APART_RULE);
    return be->ops->embed(be, y, table, ids, err);
}

int op_copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(is_act(be, y) && is_act(be, x), ACT_RULE);
    NEED(y->rank == 3 && x->rank == 3 && y->dim[0] == x->dim[0] && y->dim[2] == x->dim[2],
         "shapes must be [B,S,D] with equal B and D");
    NEED(n >= 0 && y0 >= 0 && x0 >= 0 && n <= y->dim[1] - y0 && n <= x->dim[1] - x0, "rows outside the sequence");
    NEED(apart(be, y, x), APART_RULE);
    return be->ops->copy_rows(be, y, y0, x, x0, n, err);
}

int op_add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    ARGS(ARG(x), ARG(table));
    NEED(is_act(be, x), ACT_RULE);
    NEED(is_stat(be, table), "the table must be F32");
    NEED(x->rank == 3 && table->rank == 2 && x->dim[2] == table->dim[1], "x must be [B,S,D] and the table [n,D]");
    NEED(first >= 0 && table->dim[0] <= x->dim[1] - first, "rows outside the sequence");
    NEED(apart(be, x, table), APART_RULE);
    return be->ops->add_rows(be, x, first, table, err);
}

static int patches_fit(const Tensor *tokens, const Tensor *latents, int64_t p)
{
    if (latents->rank != 5 || p < 1 || latents->dim[2] % p || latents->dim[3] % p)
        return 0;
    const int64_t *l = latents->dim; /* B, F, H, W, C */
    return SHAPE(tokens, 3, l[0], l[1] * (l[2] / p) * (l[3] / p), l[4] * p * p);
}
#define PATCH_RULE "latents must be [B,F,H,W,C] with H and W multiples of p, tokens [B, F*(H/p)*(W/p), C*p*p]"

int op_patchify(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err)
{
    ARGS(ARG(tokens), ARG(latents));
    NEED(is_act(be, tokens) && is_act(be, latents), ACT_RULE);
    NEED(patches_fit(tokens, latents, p), PATCH_RULE);
    NEED(apart(be, tokens, latents), APART_RULE);
    return be->ops->patchify(be, tokens, latents, p, err);
}

int op_unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    ARGS(ARG(latents), ARG(tokens));
    NEED(is_act(be, tokens) && is_act(be, latents), ACT_RULE);
    NEED(patches_fit(tokens, latents, p), PATCH_RULE);
    NEED(apart(be, tokens, latents), APART_RULE);
    return be->ops->unpatchify(be, latents, tokens, p, err);
}

int op_copy_box(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                const int64_t n[4], Err *err)
{
    ARGS(ARG(dst), ARG(src));
    NEED(dtype_is_float(dst->dtype) && dtype_is_float(src->dtype), FLOAT_RULE);
    NEED(dst->rank == 4 && src->rank == 4, "shapes must be [T,H,W,C]");
    for (int i = 0; i < 4; i++)
        NEED(n[i] >= 0 && d[i] >= 0 && s[i] >= 0 && n[i] <= dst->dim[i] - d[i] && n[i] <= src->dim[i] - s[i],
             "the box is outside");
    NEED(apart(be, dst, src), APART_RULE);
    return be->ops->copy_box(be, dst, d, src, s, n, err);
}

int op_blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    ARGS(ARG(cur), ARG(prev));
    NEED(is_act(be, cur) && is_act(be, prev), ACT_RULE);
    NEED(axis == 1 || axis == 2, "the axis must be 1 (H) or 2 (W)");
    NEED(cur->rank == 4 && prev->rank == 4, "shapes must be [T,H,W,C]");
    for (int i = 0; i < 4; i++)
        NEED(i == axis || cur->dim[i] == prev->dim[i], "shapes must be equal but for the axis");
    NEED(extent >= 0 && extent <= cur->dim[axis] && extent <= prev->dim[axis], "the extent is larger than a tile");
    NEED(apart(be, cur, prev), APART_RULE);
    return be->ops->blend(be, cur, prev, axis, extent, err);
}

/* ---- products -------------------------------------------------------------------------------- */

#define LINEAR_RULE "y[..,N] = x[..,K] w[N,K]^T + b[N] needs equal rows and these sizes"

static int linear_fits(const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b)
{
    return w->rank == 2 && last_dim(x) == w->dim[1] && last_dim(y) == w->dim[0] && row_count(x) == row_count(y) &&
           is_vector(b, w->dim[0]);
}

int op_linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    ARGS(ARG(y), ARG(x), ARG(w), OPT(b));
    NEED(one_type(be, y, x, NULL), ONE_RULE);
    NEED(is_weight(be, w) && is_weight(be, b), WEIGHT_RULE);
    NEED(linear_fits(y, x, w, b), LINEAR_RULE);
    NEED(apart(be, y, x) && apart(be, y, w) && apart(be, y, b), APART_RULE);
    int rc = stopped(be, err);
    return rc < 0 ? rc : be->ops->linear(be, y, x, w, b, err);
}

int op_linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *err)
{
    ARGS(ARG(gx), ARG(gy), ARG(w));
    NEED(one_type(be, gx, gy, NULL), ONE_RULE);
    NEED(is_weight(be, w), WEIGHT_RULE);
    NEED(linear_fits(gy, gx, w, NULL), LINEAR_RULE);
    NEED(apart(be, gx, gy) && apart(be, gx, w), APART_RULE);
    return be->ops->linear_backward_x(be, gx, gy, w, add, err);
}

int op_linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x, Err *err)
{
    ARGS(OPT(gw), OPT(gb), ARG(gy), ARG(x));
    NEED(one_type(be, gy, x, NULL), ONE_RULE);
    NEED(is_trained(be, gw) && is_trained(be, gb), TRAINED_RULE);
    NEED(row_count(gy) == row_count(x) && is_vector(gb, last_dim(gy)), LINEAR_RULE);
    NEED(!gw || linear_fits(gy, x, gw, gb), LINEAR_RULE);
    NEED(apart(be, gw, gy) && apart(be, gw, x) && apart(be, gb, gy) && apart(be, gb, x) && apart(be, gb, gw),
         APART_RULE);
    if (!gw && !gb)
        return 0;
    return be->ops->linear_backward_w(be, gw, gb, gy, x, err);
}

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
    NEED(is_act(be, o) && is_act(be, q) && is_act(be, k) && is_act(be, v), ACT_RULE);
    NEED(is_stat(be, lse) && is_stat(be, bias), STAT_RULE);
    NEED(attention_fits(q, k, v, o, lse, p), ATTENTION_RULE);
    NEED(isfinite(p->scale), "the scale must be finite");
    NEED(apart(be, o, q) && apart(be, o, k) && apart(be, o, v) && apart(be, o, bias) && apart(be, o, lse), APART_RULE);
    NEED(apart(be, lse, q) && apart(be, lse, k) && apart(be, lse, v) && apart(be, lse, bias), APART_RULE);
    int rc = stopped(be, err);
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
        NEED(is_act(be, args[i].t), ACT_RULE);
    NEED(is_stat(be, lse), STAT_RULE);
    NEED(attention_fits(q, k, v, o, lse, p) && tensor_same_shape(gq, q) && tensor_same_shape(gk, k) &&
             tensor_same_shape(gv, v) && tensor_same_shape(go, o),
         ATTENTION_RULE);
    NEED(isfinite(p->scale), "the scale must be finite");
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 9; j++)
            NEED(i == j || apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->attention_backward(be, gq, gk, gv, go, q, k, v, o, lse, p, err);
}

/* ---- norms ----------------------------------------------------------------------------------- */

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
    NEED(is_act(be, y) && is_act(be, x), ACT_RULE);
    NEED(is_weight(be, w) && is_weight(be, b), WEIGHT_RULE);
    NEED(is_stat(be, mod), STAT_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(x->rank >= 1 && is_vector(w, last_dim(x)) && is_vector(b, last_dim(x)),
         "w and b must be [D], D the last axis of x");
    NEED(modulation_fits(x, m, 1), MOD_RULE);
    NEED(eps >= 0, "eps must not be negative");
    NEED(same_or_apart(be, y, x) && apart(be, y, w) && apart(be, y, b) && apart(be, y, mod), APART_RULE);
    return be->ops->layernorm(be, y, x, w, b, eps, m, err);
}

int op_layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                          const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                          const Modulation *m, int add, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(OPT(gx), OPT(gw), OPT(gb), OPT(gm), ARG(gy), ARG(x), OPT(w), OPT(b), OPT(mod));
    NEED(is_act(be, gx) && is_act(be, gy) && is_act(be, x), ACT_RULE);
    NEED(is_weight(be, w) && is_weight(be, b), WEIGHT_RULE);
    NEED(is_stat(be, mod) && is_stat(be, gm), STAT_RULE);
    NEED(is_trained(be, gw) && is_trained(be, gb) && (!gw || !gb || gw->dtype == gb->dtype), TRAINED_RULE);
    NEED(tensor_same_shape(gy, x) && (!gx || tensor_same_shape(gx, x)), SAME_RULE);
    NEED(x->rank >= 1 && is_vector(w, last_dim(x)) && is_vector(b, last_dim(x)),
         "w and b must be [D], D the last axis of x");
    NEED(is_vector(gw, last_dim(x)) && is_vector(gb, last_dim(x)), "gw and gb must be [D], D the last axis of x");
    NEED(!gw == !gb && (!gw || (w && b)), "gw and gb go together, and with w and b");
    NEED(!gm == !m && (!gm || (mod && tensor_same_shape(gm, mod))), "gm goes with the modulation, shaped like it");
    NEED(modulation_fits(x, m, 1), MOD_RULE);
    NEED(eps >= 0, "eps must not be negative");
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 9; j++)
            NEED(i == j || apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->layernorm_backward(be, gx, gw, gb, gm, gy, x, w, b, eps, m, add, err);
}

int op_gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(ARG(x), ARG(y), ARG(mod));
    NEED(is_act(be, x) && is_act(be, y), ACT_RULE);
    NEED(is_stat(be, mod), STAT_RULE);
    NEED(tensor_same_shape(x, y), SAME_RULE);
    NEED(modulation_fits(x, m, 0), "x must be [B,S,D], mod [B,6*D] and text_rows in 0..S");
    NEED(apart(be, x, y) && apart(be, x, mod), APART_RULE);
    return be->ops->gate_add(be, x, y, m, err);
}

int op_gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                         const Modulation *m, Err *err)
{
    const Tensor *mod = m ? m->mod : NULL;
    ARGS(ARG(gy), OPT(gm), ARG(gx), ARG(y), ARG(mod));
    NEED(is_act(be, gy) && is_act(be, gx) && is_act(be, y), ACT_RULE);
    NEED(is_stat(be, mod) && is_stat(be, gm), STAT_RULE);
    NEED(tensor_same_shape(gy, gx) && tensor_same_shape(gy, y), SAME_RULE);
    NEED(modulation_fits(gx, m, 0), "x must be [B,S,D], mod [B,6*D] and text_rows in 0..S");
    NEED(!gm || tensor_same_shape(gm, mod), "gm must be shaped like the modulation");
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 5; j++)
            NEED(i == j || apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->gate_add_backward(be, gy, gm, gx, y, m, err);
}

int op_rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    ARGS(ARG(y), ARG(x), ARG(w));
    NEED(is_act(be, y) && is_act(be, x), ACT_RULE);
    NEED(is_weight(be, w), WEIGHT_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(x->rank >= 1 && is_vector(w, last_dim(x)), "w must be [D], D the last axis of x");
    NEED(eps >= 0, "eps must not be negative");
    NEED(same_or_apart(be, y, x) && apart(be, y, w), APART_RULE);
    return be->ops->rmsnorm(be, y, x, w, eps, err);
}

int op_groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, int64_t groups,
                 double eps, const SpatialCond *cond, ActKind act, Err *err)
{
    const Tensor *scale = cond ? cond->scale : NULL, *shift = cond ? cond->shift : NULL;
    ARGS(ARG(y), ARG(x), ARG(w), ARG(b), OPT(scale), OPT(shift));
    NEED(is_act(be, y) && is_act(be, x) && is_act(be, scale) && is_act(be, shift), ACT_RULE);
    NEED(is_weight(be, w) && is_weight(be, b), WEIGHT_RULE);
    NEED(tensor_same_shape(y, x), SAME_RULE);
    NEED(x->rank == 4 && is_vector(w, x->dim[3]) && is_vector(b, x->dim[3]), "x must be [T,H,W,C], w and b [C]");
    NEED(groups >= 1 && x->dim[3] % groups == 0, "the channels must divide into the groups");
    NEED(!cond || (scale && shift && scale->rank == 4 && tensor_same_shape(scale, shift) && scale->dim[3] == x->dim[3]),
         "scale and shift must be [Tz,h,w,C]");
    NEED(act == ACT_NONE || act == ACT_SILU, "the activation must be none or silu");
    NEED(eps >= 0, "eps must not be negative");
    NEED(same_or_apart(be, y, x), APART_RULE);
    for (int j = 2; j < 6; j++)
        NEED(apart(be, y, args[j].t), APART_RULE);
    return be->ops->groupnorm(be, y, x, w, b, groups, eps, cond, act, err);
}

/* ---- convolution and resampling -------------------------------------------------------------- */

int op_conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w, const Tensor *b,
            const ConvParams *p, Err *err)
{
    ARGS(ARG(y), ARG(x), OPT(prefix), ARG(w), ARG(b));
    NEED(is_act(be, y) && is_act(be, x) && is_act(be, prefix), ACT_RULE);
    NEED(is_weight(be, w) && is_weight(be, b), WEIGHT_RULE);
    NEED(x->rank == 4 && w->rank == 5 && w->dim[4] == x->dim[3] && is_vector(b, w->dim[0]),
         "x [T,H,W,Ci], w [Co,kt,kh,kw,Ci], b [Co]");
    const int64_t *k = w->dim, high = x->dim[1] + p->top + p->bottom - k[2],
                  wide = x->dim[2] + p->left + p->right - k[3];
    NEED(p->stride >= 1 && p->top >= 0 && p->bottom >= 0 && p->left >= 0 && p->right >= 0,
         "stride and padding must not be negative");
    NEED(high >= 0 && wide >= 0, "the kernel is larger than the padded frame");
    NEED(SHAPE(y, 4, x->dim[0], high / p->stride + 1, wide / p->stride + 1, k[0]), "y must be [T,Ho,Wo,Co]");
    NEED(!prefix || SHAPE(prefix, 4, k[1] - 1, x->dim[1], x->dim[2], x->dim[3]), "the prefix must be [kt-1,H,W,Ci]");
    NEED(apart(be, y, x) && apart(be, y, prefix) && apart(be, y, w) && apart(be, y, b), APART_RULE);
    int rc = stopped(be, err);
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
    NEED(is_act(be, y) && is_act(be, x), ACT_RULE);
    NEED(x->rank == 4, "x must be [T,H,W,C]");
    int64_t T = x->dim[0], To = !double_time || T == 1 ? T : T % 2 ? 2 * T - 1 : 2 * T;
    NEED(SHAPE(y, 4, To, 2 * x->dim[1], 2 * x->dim[2], x->dim[3]),
         "y must be [T',2H,2W,C] (doubling time: T even 2T, T odd 2T-1, else T)");
    NEED(apart(be, y, x), APART_RULE);
    return be->ops->upsample(be, y, x, double_time, err);
}

int op_pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(is_act(be, y) && is_act(be, x), ACT_RULE);
    NEED(x->rank == 4, "x must be [T,H,W,C]");
    NEED(SHAPE(y, 4, (x->dim[0] + 1) / 2, x->dim[1], x->dim[2], x->dim[3]),
         "y must be [T',H,W,C] (T even T/2, T odd (T+1)/2)");
    NEED(apart(be, y, x), APART_RULE);
    return be->ops->pool_time(be, y, x, err);
}

/* ---- diffusion, loss, optimiser -------------------------------------------------------------- */

int op_posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    ARGS(ARG(z), ARG(moments), OPT(eps));
    NEED(one_type(be, z, moments, eps), ONE_RULE);
    NEED(z->rank >= 1 && moments->rank == z->rank && last_dim(moments) == 2 * last_dim(z) &&
             row_count(moments) == row_count(z) && (!eps || tensor_same_shape(eps, z)),
         "z and eps must be [..,C], moments [..,2C]");
    NEED(apart(be, z, moments) && apart(be, z, eps), APART_RULE);
    return be->ops->posterior(be, z, moments, eps, scale, err);
}

int op_diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a,
               const double *s, Err *err)
{
    ARGS(ARG(xt), ARG(v), ARG(x0), ARG(eps));
    NEED(one_type(be, xt, v, x0) && one_type(be, xt, eps, NULL), ONE_RULE);
    NEED(xt->rank >= 1 && tensor_same_shape(xt, v) && tensor_same_shape(xt, x0) && tensor_same_shape(xt, eps),
         SAME_RULE);
    NEED(apart(be, xt, v) && apart(be, xt, x0) && apart(be, xt, eps) && apart(be, v, x0) && apart(be, v, eps),
         APART_RULE);
    return be->ops->diffuse(be, xt, v, x0, eps, a, s, err);
}

int op_mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight, Err *err)
{
    ARGS(OPT(gu), ARG(u), ARG(v));
    NEED(one_type(be, u, v, gu), ONE_RULE);
    NEED(tensor_same_shape(u, v) && (!gu || tensor_same_shape(gu, u)), SAME_RULE);
    NEED((!gu || same_or_apart(be, gu, u)) && apart(be, gu, v), APART_RULE);
    return be->ops->mse(be, loss, gu, u, v, weight, err);
}

int op_sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    ARGS(ARG(g));
    NEED(is_trained(be, g), TRAINED_RULE);
    return be->ops->sum_squares(be, sum, g, err);
}

int op_adamw(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, const Tensor *v,
             const AdamParams *a, Err *err)
{
    ARGS(ARG(p), OPT(copy), ARG(g), ARG(m), ARG(v));
    NEED(is_stat(be, m) && is_stat(be, v), STAT_RULE);
    NEED(is_trained(be, p) && is_trained(be, g), TRAINED_RULE);
    NEED(!copy || ((copy->dtype == DT_BF16 || be->act == DT_F64) && p->dtype != DT_BF16),
         "a copy is BF16, of parameters that are not");
    NEED(tensor_count(p) == tensor_count(g) && tensor_count(p) == tensor_count(m) &&
             tensor_count(p) == tensor_count(v) && (!copy || tensor_count(p) == tensor_count(copy)),
         "element counts must be equal");
    NEED(a->step >= 1, "the step counts from 1");
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < i; j++)
            NEED(apart(be, args[i].t, args[j].t), APART_RULE);
    return be->ops->adamw(be, p, copy, g, m, v, a, err);
}
