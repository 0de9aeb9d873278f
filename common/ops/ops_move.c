/* The checked front end (rules.h): what only moves numbers: rows, patches, boxes, tiles. */
#include "common/ops/rules.h"

int op_embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    ARGS(ARG(y), ARG(table), ARG(ids));
    NEED(rule_act(be, y), ACT_RULE);
    NEED(rule_weight(be, table), WEIGHT_RULE);
    NEED(ids->dtype == DT_I32, "ids must be I32");
    NEED(table->rank == 2 && rule_last_dim(y) == table->dim[1] && rule_rows(y) == tensor_count(ids),
         "y must be one table row an id");
    NEED(rule_apart(be, y, table) && rule_apart(be, y, ids), APART_RULE);
    return be->ops->embed(be, y, table, ids, err);
}

int op_copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    ARGS(ARG(y), ARG(x));
    NEED(rule_act(be, y) && rule_act(be, x), ACT_RULE);
    NEED(y->rank == 3 && x->rank == 3 && y->dim[0] == x->dim[0] && y->dim[2] == x->dim[2],
         "shapes must be [B,S,D] with equal B and D");
    NEED(n >= 0 && y0 >= 0 && x0 >= 0 && n <= y->dim[1] - y0 && n <= x->dim[1] - x0, "rows outside the sequence");
    NEED(rule_apart(be, y, x), APART_RULE);
    return be->ops->copy_rows(be, y, y0, x, x0, n, err);
}

int op_add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    ARGS(ARG(x), ARG(table));
    NEED(rule_act(be, x), ACT_RULE);
    NEED(rule_stat(be, table), "the table must be F32");
    NEED(x->rank == 3 && table->rank == 2 && x->dim[2] == table->dim[1], "x must be [B,S,D] and the table [n,D]");
    NEED(first >= 0 && table->dim[0] <= x->dim[1] - first, "rows outside the sequence");
    NEED(rule_apart(be, x, table), APART_RULE);
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
    NEED(rule_act(be, tokens) && rule_act(be, latents), ACT_RULE);
    NEED(patches_fit(tokens, latents, p), PATCH_RULE);
    NEED(rule_apart(be, tokens, latents), APART_RULE);
    return be->ops->patchify(be, tokens, latents, p, err);
}

int op_unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    ARGS(ARG(latents), ARG(tokens));
    NEED(rule_act(be, tokens) && rule_act(be, latents), ACT_RULE);
    NEED(patches_fit(tokens, latents, p), PATCH_RULE);
    NEED(rule_apart(be, tokens, latents), APART_RULE);
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
    NEED(rule_apart(be, dst, src), APART_RULE);
    return be->ops->copy_box(be, dst, d, src, s, n, err);
}

int op_blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    ARGS(ARG(cur), ARG(prev));
    NEED(rule_act(be, cur) && rule_act(be, prev), ACT_RULE);
    NEED(axis == 1 || axis == 2, "the axis must be 1 (H) or 2 (W)");
    NEED(cur->rank == 4 && prev->rank == 4, "shapes must be [T,H,W,C]");
    for (int i = 0; i < 4; i++)
        NEED(i == axis || cur->dim[i] == prev->dim[i], "shapes must be equal but for the axis");
    NEED(extent >= 0 && extent <= cur->dim[axis] && extent <= prev->dim[axis], "the extent is larger than a tile");
    NEED(rule_apart(be, cur, prev), APART_RULE);
    return be->ops->blend(be, cur, prev, axis, extent, err);
}
