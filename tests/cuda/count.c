#include "tests/cuda/count.h"

#include <math.h>
#include <string.h>

#include "common/ops/ops_table.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

/* NVIDIA's data sheets (SXM modules of 80 GB); the shares are assumptions: what published kernels
 * of the same make reach.
 * Attention's backward on A100: FlashAttention-2's (arXiv 2307.08691, mma.sync, 5 products, gQ by
 * atomics) about 170 TFLOP/s.
 * Attention forward on H100, head dimension 64, 16k tokens: FlashAttention-3's paper (arXiv
 * 2407.08608) shows 497 TFLOP/s for itself (TMA, warpgroups specialised), 413 for cuDNN, 403 for
 * Triton, 324 for FlashAttention-2 (mma.sync).  attention_90.cu has wgmma without TMA: 0.42.
 * Its backward: the paper shows about 0.48 of the peak for FlashAttention-3 and 0.44 for cuDNN;
 * held to be 0.40, for the same reason.
 * Outside the tensor cores, mostly T5's attention (attention_rows): shared memory gives 128 bytes a
 * clock and SM, and a warp's multiply-add takes
 * 0.69 clocks of it on average (keys: 8 bytes a lane and 16 of the query at once for four; values:
 * 4 bytes for two): 7.1 TFLOP/s on an A100, 10.7 on an H100; 60 % of that is held to be reached.
 * Convolution on H100, conv_90.cu: 0.50, without a published figure: below what is held for
 * cuBLASLt, since a gather by cp.async is no TMA. */
const Machine machines[MACHINES] = {
    {"A100", 312e12, 2.04e12, {0.77, 0.013, 0.61, 0.54, 0.62, 0.87}, 3e-6},
    {"H100", 989e12, 3.35e12, {0.60, 0.0065, 0.42, 0.40, 0.50, 0.87}, 3e-6},
};

double cost_roof(const Machine *m, const Cost *c)
{
    return fmax(c->flops / m->peak, c->bytes / m->bandwidth);
}

double cost_plan(const Machine *m, const Cost *c)
{
    double arithmetic = c->kind == COST_MEMORY ? 0 : c->flops / (m->peak * m->reached[c->kind]);
    return fmax(arithmetic, c->bytes / (m->bandwidth * m->reached[COST_MEMORY])) + (double)c->launches * m->launch;
}

static Counter *counter; /* the open one: operations receive only the back end */

static int add(const char *op, Cost c)
{
    CountRow *r = NULL;

    for (int i = 0; i < counter->n && !r; i++)
        if (strcmp(counter->row[i].op, op) == 0)
            r = &counter->row[i];
    if (!r) {
        if (counter->n == COUNT_OPS)
            return ERR_LIMIT;
        r = &counter->row[counter->n++];
        *r = (CountRow){.op = op};
    }
    r->calls++;
    r->launches += c.launches;
    r->flops += c.flops;
    r->useful += c.useful;
    r->bytes += c.bytes;
    for (int m = 0; m < MACHINES; m++) {
        r->roof[m] += cost_roof(&machines[m], &c);
        r->plan[m] += cost_plan(&machines[m], &c);
    }
    return 0;
}

static double bytes(const Tensor *t)
{
    return t ? (double)tensor_bytes(t) : 0;
}

static int moved(const char *op, double n, int64_t launches)
{
    return add(op, (Cost){.kind = COST_MEMORY, .bytes = n, .launches = launches});
}

/* ---- elementwise and moves ------------------------------------------------------------------- */

static int count_fill(Backend *be, const Tensor *y, float value, Err *err)
{
    return moved("fill", bytes(y), 1);
}
static int count_copy(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    return moved("copy", bytes(y) + bytes(x), 1);
}
static int count_add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    return moved("add", 3 * bytes(y), 1);
}
static int count_lincomb(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    double sum = bytes(y);
    for (int i = 0; i < n; i++)
        sum += bytes(x[i]);
    return moved("lincomb", sum, 1);
}
static int count_act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    return moved("act", 2 * bytes(y), 1);
}
static int count_act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    return moved("act_backward", 3 * bytes(gx), 1);
}
static int count_act_gate(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err)
{
    return moved("act_gate", 3 * bytes(y), 1);
}
static int count_embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    return moved("embed", 2 * bytes(y), 1);
}
static int count_copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    return moved("copy_rows", 2 * (double)(x->dim[0] * n * x->dim[2] * dtype_size(x->dtype)), 1);
}
static int count_add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    return moved("add_rows", bytes(table) + 2 * (double)(x->dim[0] * tensor_count(table) * dtype_size(x->dtype)), 1);
}
static int count_patchify(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err)
{
    return moved("patchify", 2 * bytes(tokens), 1);
}
static int count_unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    return moved("unpatchify", 2 * bytes(tokens), 1);
}
static int count_copy_box(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                          const int64_t n[4], Err *err)
{
    return moved("copy_box", (double)(n[0] * n[1] * n[2] * n[3] * (dtype_size(dst->dtype) + dtype_size(src->dtype))),
                 1);
}
static int count_blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    return moved("blend", 3 * bytes(cur) * (double)extent / (double)cur->dim[axis], 1);
}

/* ---- products -------------------------------------------------------------------------------- */

static int product(const char *op, const Tensor *a, const Tensor *b, const Tensor *out, double again, double flops,
                   int64_t launches)
{
    CostKind kind = a->dtype == DT_BF16 && b->dtype == DT_BF16 ? COST_PRODUCT : COST_PLAIN;
    return add(op, (Cost){kind, flops, flops, bytes(a) + bytes(b) + bytes(out) * (1 + again), launches});
}
static double product_flops(const Tensor *rows, const Tensor *w)
{
    return 2.0 * (double)(tensor_count(rows) / rows->dim[rows->rank - 1]) * (double)tensor_count(w);
}
static int count_linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    return product("linear", x, w, y, 0, product_flops(y, w), b && b->dtype != DT_BF16 && x->dtype == DT_BF16 ? 2 : 1);
}
static int count_linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int sum, Err *err)
{
    return product("linear_backward_x", gy, w, gx, sum, product_flops(gy, w), 1);
}
static int count_linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x,
                                   Err *err)
{
    int rc = gw ? product("linear_backward_w", gy, x, gw, 1, product_flops(gy, gw), 1) : 0;
    return rc < 0 || !gb ? rc : moved("bias gradient", bytes(gy), 2);
}

static double scores(const Tensor *q, const Tensor *k) /* FLOPs of one product of all queries with all keys */
{
    return 2.0 * (double)q->dim[0] * (double)q->dim[1] * (double)k->dim[1] * (double)q->dim[2];
}
static int count_attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k,
                           const Tensor *v, const AttnParams *p, Err *err)
{
    double f = 2 * scores(q, k);
    int tensor = q->dim[2] / p->heads == 64 && !p->bias && !p->causal;
    return add("attention",
               (Cost){tensor ? COST_ATTENTION : COST_PLAIN, f, f, 2 * bytes(q) + 2 * bytes(k) + bytes(lse), 1});
}
static int count_attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                                    const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o,
                                    const Tensor *lse, const AttnParams *p, Err *err)
{
    double f = scores(q, k);
    int64_t slices = q->dim[0] * p->heads;
    /* delta reads go and o; each of the two kernels reads q, k, v, go; gq, gk, gv are written */
    if (q->dim[2] / p->heads != 64)
        return add("attention_backward",
                   (Cost){COST_PLAIN, 7 * f, 5 * f, 7 * bytes(q) + 6 * bytes(k) + 2 * bytes(lse), 3});
    /* the facts read k, v, q, go, o, the products q, k, v, go; gk, gv are written; gq's sums, of
     * twice its bytes, are cleared, added to in the L2 cache (which holds those of the slices at
     * work), written and read; 20 slices at a time */
    return add("attention_backward",
               (Cost){COST_ATTENTION_BACK, 5 * f, 5 * f, 12 * bytes(q) + 6 * bytes(k) + 2 * bytes(lse),
                      2 + 3 * ((slices + 19) / 20)});
}

/* ---- norms ----------------------------------------------------------------------------------- */

static int count_layernorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                           const Modulation *m, Err *err)
{
    return moved("layernorm", 2 * bytes(x), 1);
}
static int count_layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                                    const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                                    const Modulation *m, int sum, Err *err)
{
    return moved("layernorm_backward", (2 + (gx ? 1 + sum : 0) + (gw || gm ? 2 : 0)) * bytes(x), 3);
}
static int count_gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    return moved("gate_add", 3 * bytes(x), 1);
}
static int count_gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                                   const Modulation *m, Err *err)
{
    return moved("gate_add_backward", (gm ? 4 : 2) * bytes(gx), gm ? 3 : 1);
}
static int count_rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    return moved("rmsnorm", 2 * bytes(x), 1);
}
static int count_groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                           int64_t groups, double eps, const SpatialCond *cond, ActKind kind, Err *err)
{
    return moved("groupnorm", 3 * bytes(x) + (cond ? bytes(cond->scale) + bytes(cond->shift) : 0), 3);
}

/* ---- convolution, diffusion, optimiser ------------------------------------------------------- */

static int count_conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w,
                      const Tensor *b, const ConvParams *p, Err *err)
{
    double f = 2.0 * (double)(tensor_count(y) / y->dim[3]) * (double)tensor_count(w);
    return add("conv", (Cost){w->dtype == DT_BF16 ? COST_CONV : COST_PLAIN, f, f,
                              bytes(x) + bytes(prefix) + bytes(w) + bytes(y) * (1 + p->add), 1});
}
static int count_upsample(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    return moved("upsample", bytes(y) + bytes(x), 1);
}
static int count_pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    return moved("pool_time", bytes(y) + bytes(x), 1);
}
static int count_pool(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err)
{
    return moved("pool", bytes(y) + bytes(x), 1);
}
static int count_posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale,
                           Err *err)
{
    return moved("posterior", bytes(z) + bytes(moments) + bytes(eps), 1);
}
static int count_diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps,
                         const double *a, const double *s, Err *err)
{
    return moved("diffuse", 4 * bytes(xt), xt->dim[0]);
}
static int count_mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight,
                     Err *err)
{
    *loss = 0;
    return moved("mse", bytes(gu) + bytes(u) + bytes(v), 2);
}
static int count_sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    *sum = 0;
    return moved("sum_squares", bytes(g), 2);
}
static int count_adamw(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                       const Tensor *v, const AdamParams *a, Err *err)
{
    return moved("adamw", 2 * bytes(p) + bytes(copy) + bytes(g) + 2 * bytes(m) + 2 * bytes(v), 1);
}
static int count_sgd(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                     const SgdParams *a, Err *err)
{
    return moved("sgd", 2 * bytes(p) + bytes(copy) + bytes(g) + 2 * bytes(m), 1);
}
static int count_quantize(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed,
                          Err *err)
{
    return moved("quantize", bytes(codes) + bytes(scale) + bytes(x), 1);
}
static int count_dequantize(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed,
                            Err *err)
{
    return moved("dequantize", bytes(y) + bytes(codes) + bytes(scale), 1);
}

static const OpsTable table = {
    .fill = count_fill,
    .copy = count_copy,
    .add = count_add,
    .lincomb = count_lincomb,
    .act = count_act,
    .act_backward = count_act_backward,
    .act_gate = count_act_gate,
    .embed = count_embed,
    .copy_rows = count_copy_rows,
    .add_rows = count_add_rows,
    .patchify = count_patchify,
    .unpatchify = count_unpatchify,
    .copy_box = count_copy_box,
    .blend = count_blend,
    .linear = count_linear,
    .linear_backward_x = count_linear_backward_x,
    .linear_backward_w = count_linear_backward_w,
    .attention = count_attention,
    .attention_backward = count_attention_backward,
    .layernorm = count_layernorm,
    .layernorm_backward = count_layernorm_backward,
    .gate_add = count_gate_add,
    .gate_add_backward = count_gate_add_backward,
    .rmsnorm = count_rmsnorm,
    .groupnorm = count_groupnorm,
    .conv = count_conv,
    .upsample = count_upsample,
    .pool_time = count_pool_time,
    .pool = count_pool,
    .posterior = count_posterior,
    .diffuse = count_diffuse,
    .mse = count_mse,
    .sum_squares = count_sum_squares,
    .adamw = count_adamw,
    .sgd = count_sgd,
    .quantize = count_quantize,
    .dequantize = count_dequantize,
};

/* ---- the back end ---------------------------------------------------------------------------- */

static int count_alloc(Backend *be, int64_t n, void **out, Err *err)
{
    counter->held += n;
    *out = (void *)(uintptr_t)64; /* aligned, never read: the plan back end's way */
    return 0;
}

int count_open(Counter *c, Err *err)
{
    memset(c, 0, sizeof *c);
    int rc = backend_open(&c->be, "plan", 1, NULL, err);
    if (rc < 0)
        return rc;
    c->be->act = DT_BF16;
    c->be->ops = &table;
    c->be->alloc = count_alloc;
    counter = c;
    return 0;
}

void count_reset(Counter *c)
{
    c->n = 0;
}

void count_close(Counter *c)
{
    backend_close(&c->be);
    counter = NULL;
}

CountRow count_total(const Counter *c)
{
    CountRow all = {.op = "all"};

    for (int i = 0; i < c->n; i++) {
        const CountRow *r = &c->row[i];
        all.calls += r->calls;
        all.launches += r->launches;
        all.flops += r->flops;
        all.useful += r->useful;
        all.bytes += r->bytes;
        for (int m = 0; m < MACHINES; m++) {
            all.roof[m] += r->roof[m];
            all.plan[m] += r->plan[m];
        }
    }
    return all;
}
