/* The plan back end's table: nothing is computed; values handed back to the host are 0. */
#include "common/ops/ops_table.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

static int plan_fill(Backend *be, const Tensor *y, float value, Err *err)
{
    return 0;
}
static int plan_copy(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    return 0;
}
static int plan_add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    return 0;
}
static int plan_lincomb(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    return 0;
}
static int plan_act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    return 0;
}
static int plan_act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    return 0;
}
static int plan_act_gate(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    return 0;
}
static int plan_embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    return 0;
}
static int plan_copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    return 0;
}
static int plan_add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    return 0;
}
static int plan_patchify(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err)
{
    return 0;
}
static int plan_unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    return 0;
}
static int plan_copy_box(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                         const int64_t n[4], Err *err)
{
    return 0;
}
static int plan_blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    return 0;
}
static int plan_linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    return 0;
}
static int plan_linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *err)
{
    return 0;
}
static int plan_linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x,
                                  Err *err)
{
    return 0;
}
static int plan_attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k,
                          const Tensor *v, const AttnParams *p, Err *err)
{
    return 0;
}
static int plan_attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                                   const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o,
                                   const Tensor *lse, const AttnParams *p, Err *err)
{
    return 0;
}
static int plan_layernorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                          const Modulation *m, Err *err)
{
    return 0;
}
static int plan_layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                                   const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                                   const Modulation *m, int add, Err *err)
{
    return 0;
}
static int plan_gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    return 0;
}
static int plan_gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                                  const Modulation *m, Err *err)
{
    return 0;
}
static int plan_rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    return 0;
}
static int plan_groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                          int64_t groups, double eps, const SpatialCond *cond, ActKind kind, Err *err)
{
    return 0;
}
static int plan_conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w,
                     const Tensor *b, const ConvParams *p, Err *err)
{
    return 0;
}
static int plan_upsample(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    return 0;
}
static int plan_pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    return 0;
}
static int plan_pool(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err)
{
    return 0;
}
static int plan_posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale,
                          Err *err)
{
    return 0;
}
static int plan_diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps,
                        const double *a, const double *s, Err *err)
{
    return 0;
}
static int plan_mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight,
                    Err *err)
{
    *loss = 0;
    return 0;
}
static int plan_sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    *sum = 0;
    return 0;
}
static int plan_adamw(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                      const Tensor *v, const AdamParams *a, Err *err)
{
    return 0;
}
static int plan_sgd(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                    const SgdParams *a, Err *err)
{
    return 0;
}
static int plan_quantize(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed,
                         Err *err)
{
    return 0;
}
static int plan_dequantize(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed,
                           Err *err)
{
    return 0;
}

void ops_plan_table(OpsTable *out)
{
    *out = (OpsTable){
        .fill = plan_fill,
        .copy = plan_copy,
        .add = plan_add,
        .lincomb = plan_lincomb,
        .act = plan_act,
        .act_backward = plan_act_backward,
        .act_gate = plan_act_gate,
        .embed = plan_embed,
        .copy_rows = plan_copy_rows,
        .add_rows = plan_add_rows,
        .patchify = plan_patchify,
        .unpatchify = plan_unpatchify,
        .copy_box = plan_copy_box,
        .blend = plan_blend,
        .linear = plan_linear,
        .linear_backward_x = plan_linear_backward_x,
        .linear_backward_w = plan_linear_backward_w,
        .attention = plan_attention,
        .attention_backward = plan_attention_backward,
        .layernorm = plan_layernorm,
        .layernorm_backward = plan_layernorm_backward,
        .gate_add = plan_gate_add,
        .gate_add_backward = plan_gate_add_backward,
        .rmsnorm = plan_rmsnorm,
        .groupnorm = plan_groupnorm,
        .conv = plan_conv,
        .upsample = plan_upsample,
        .pool_time = plan_pool_time,
        .pool = plan_pool,
        .posterior = plan_posterior,
        .diffuse = plan_diffuse,
        .mse = plan_mse,
        .sum_squares = plan_sum_squares,
        .adamw = plan_adamw,
        .sgd = plan_sgd,
        .quantize = plan_quantize,
        .dequantize = plan_dequantize,
    };
}
