#include "common/ops/selftest.h"

#include <math.h>
#include <string.h>

#include "common/base/args.h"
#include "common/base/mem.h"
#include "common/ops/ops.h"

/* ---- families -------------------------------------------------------------------------------- */

/* Types of operands: the back end's activations; weights of rank >= 2, bf16 beside bf16
 * activations; plain F32; bf16 anywhere; row numbers. */
typedef enum Kind { A, W, F, H, I } Kind;
typedef enum Role { IN, OUT, BOTH, POSITIVE } Role; /* POSITIVE: read and written, never negative */
typedef struct Operand {
    Role role;
    Kind kind;
    int64_t dim[5];
} Operand; /* extents up to the first 0 */

enum { OPERANDS = 10 };
typedef struct Family {
    const char *name;
    double tolerance; /* of the largest wanted value of an output */
    int (*call)(Backend *be, const Tensor *t, Err *err);
    Operand arg[OPERANDS];
} Family;

#define BF16 0x1p-7  /* two roundings */
#define LOOSE 0x1p-6 /* bf16 inside: probabilities, gradients through them */
#define EXACT 1e-5

static int call_linear(Backend *be, const Tensor *t, Err *err)
{
    return op_linear(be, &t[0], &t[1], &t[2], &t[3], err);
}
static int call_linear_x(Backend *be, const Tensor *t, Err *err)
{
    return op_linear_backward_x(be, &t[0], &t[1], &t[2], 1, err);
}
static int call_linear_w(Backend *be, const Tensor *t, Err *err)
{
    return op_linear_backward_w(be, &t[0], &t[1], &t[2], &t[3], err);
}

static AttnParams attention_of(const Tensor *q, int64_t hd)
{
    return (AttnParams){q->dim[2] / hd, 1 / sqrt((double)hd), NULL, 0};
}
static int call_attention(Backend *be, const Tensor *t, Err *err)
{
    AttnParams p = attention_of(&t[2], 64);
    return op_attention(be, &t[0], &t[1], &t[2], &t[3], &t[4], &p, err);
}
/* gq, gk, gv from go, q, k, v; o and lse made on the way. */
static int call_attention_back(Backend *be, const Tensor *t, Err *err)
{
    AttnParams p = attention_of(&t[4], 64);
    int rc = op_attention(be, &t[7], &t[8], &t[4], &t[5], &t[6], &p, err);
    return rc < 0 ? rc
                  : op_attention_backward(be, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &t[8], &p, err);
}
static int call_attention_bias(Backend *be, const Tensor *t, Err *err)
{
    AttnParams p = {2, 1, &t[4], 0};
    return op_attention(be, &t[0], NULL, &t[1], &t[2], &t[3], &p, err);
}
static int call_attention_causal(Backend *be, const Tensor *t, Err *err)
{
    AttnParams p = {2, 0.25, NULL, 1};
    return op_attention(be, &t[0], NULL, &t[1], &t[2], &t[3], &p, err);
}

static int call_layernorm(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[4], 5};
    return op_layernorm(be, &t[0], &t[1], &t[2], &t[3], 1e-5, &m, err);
}
static int call_head_norm(Backend *be, const Tensor *t, Err *err)
{
    return op_layernorm(be, &t[0], &t[1], &t[2], &t[3], 1e-6, NULL, err);
}
static int call_layernorm_back(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[8], 5};
    return op_layernorm_backward(be, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], 1e-5, &m, 1, err);
}
static int call_gate(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[2], 5};
    return op_gate_add(be, &t[0], &t[1], &m, err);
}
static int call_gate_back(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[4], 5};
    return op_gate_add_backward(be, &t[0], &t[1], &t[2], &t[3], &m, err);
}
static int call_rmsnorm(Backend *be, const Tensor *t, Err *err)
{
    return op_rmsnorm(be, &t[0], &t[1], &t[2], 1e-6, err);
}
static int call_groupnorm(Backend *be, const Tensor *t, Err *err)
{
    SpatialCond c = {&t[4], &t[5]};
    return op_groupnorm(be, &t[0], &t[1], &t[2], &t[3], 4, 1e-6, &c, ACT_SILU, err);
}

static int conv(Backend *be, const Tensor *t, int64_t stride, int64_t lead, int add, Err *err)
{
    ConvParams p = {stride, lead, 1, lead, 1, add};
    return op_conv(be, &t[0], &t[1], NULL, &t[2], &t[3], &p, err);
}
static int call_conv(Backend *be, const Tensor *t, Err *err)
{
    return conv(be, t, 1, 1, 1, err);
}
static int call_conv_down(Backend *be, const Tensor *t, Err *err)
{
    return conv(be, t, 2, 0, 0, err);
}
static int call_upsample(Backend *be, const Tensor *t, Err *err)
{
    return op_upsample(be, &t[0], &t[1], 1, err);
}
static int call_pool(Backend *be, const Tensor *t, Err *err)
{
    return op_pool_time(be, &t[0], &t[1], err);
}

static int call_gelu(Backend *be, const Tensor *t, Err *err)
{
    return op_act(be, &t[0], &t[1], ACT_GELU_TANH, err);
}
static int call_gelu_back(Backend *be, const Tensor *t, Err *err)
{
    return op_act_backward(be, &t[0], &t[1], &t[2], ACT_GELU_TANH, err);
}
static int call_gated(Backend *be, const Tensor *t, Err *err)
{
    return op_act_gate(be, &t[0], &t[1], &t[2], ACT_GELU_TANH, err);
}
static int call_add(Backend *be, const Tensor *t, Err *err)
{
    return op_add(be, &t[0], &t[1], &t[2], err);
}
static int call_lincomb(Backend *be, const Tensor *t, Err *err)
{
    const Tensor *x[] = {&t[1], &t[2]};
    return op_lincomb(be, &t[0], 2, (const double[]){0.75, -1.5}, x, err);
}
static int call_copy(Backend *be, const Tensor *t, Err *err)
{
    return op_copy(be, &t[0], &t[1], err);
}
static int call_embed(Backend *be, const Tensor *t, Err *err)
{
    return op_embed(be, &t[0], &t[1], &t[2], err);
}
static int call_rows(Backend *be, const Tensor *t, Err *err)
{
    int rc = op_copy_rows(be, &t[0], 2, &t[1], 1, 3, err);
    return rc < 0 ? rc : op_add_rows(be, &t[0], 1, &t[2], err);
}
static int call_patches(Backend *be, const Tensor *t, Err *err)
{
    int rc = op_patchify(be, &t[0], &t[2], 2, err);
    return rc < 0 ? rc : op_unpatchify(be, &t[1], &t[3], 2, err);
}
static int call_tiles(Backend *be, const Tensor *t, Err *err)
{
    int rc = op_copy_box(be, &t[0], (const int64_t[]){0, 1, 0, 1}, &t[1], (const int64_t[]){1, 0, 2, 0},
                         (const int64_t[]){1, 3, 3, 2}, err);
    return rc < 0 ? rc : op_blend(be, &t[0], &t[2], 1, 3, err);
}

static int call_posterior(Backend *be, const Tensor *t, Err *err)
{
    return op_posterior(be, &t[0], &t[1], &t[2], 0.7, err);
}
static int call_diffuse(Backend *be, const Tensor *t, Err *err)
{
    return op_diffuse(be, &t[0], &t[1], &t[2], &t[3], (const double[]){0.8, 0.3}, (const double[]){0.6, 0.95}, err);
}
/* Results on the host become tensors. */
static int call_mse(Backend *be, const Tensor *t, Err *err)
{
    double loss = 0;
    int rc = op_mse(be, &loss, &t[1], &t[2], &t[3], 1, err);
    return rc < 0 ? rc : op_fill(be, &t[0], (float)loss, err);
}
static int call_squares(Backend *be, const Tensor *t, Err *err)
{
    double sum = 0;
    int rc = op_sum_squares(be, &sum, &t[1], err);
    return rc < 0 ? rc : op_fill(be, &t[0], (float)sum, err);
}
static int call_adamw(Backend *be, const Tensor *t, Err *err)
{
    AdamParams a = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 1e-2, .step = 3, .grad_scale = 0.5};
    return op_adamw(be, &t[0], t[4].data ? &t[4] : NULL, &t[1], &t[2], &t[3], &a, err);
}
/* Without gradients p becomes p (1 - 2^-9), exact as a float: what differs is the rounding. */
static int call_rounding(Backend *be, const Tensor *t, Err *err)
{
    AdamParams a = {.lr = 1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0x1p-9, .step = 3, .seed = 7};
    return op_adamw(be, &t[0], NULL, &t[1], &t[2], &t[3], &a, err);
}

static const Family families[] = {
    {"product", BF16, call_linear, {{OUT, A, {40, 72}}, {IN, A, {40, 64}}, {IN, W, {72, 64}}, {IN, F, {72}}}},
    {"product, ragged", BF16, call_linear, {{OUT, A, {19, 13}}, {IN, A, {19, 21}}, {IN, W, {13, 21}}, {IN, F, {13}}}},
    {"product in F32", EXACT, call_linear, {{OUT, F, {3, 20}}, {IN, F, {3, 24}}, {IN, W, {20, 24}}, {IN, F, {20}}}},
    {"product's input gradient", BF16, call_linear_x, {{BOTH, A, {40, 64}}, {IN, A, {40, 72}}, {IN, W, {72, 64}}}},
    {"product's weight gradient",
     EXACT,
     call_linear_w,
     {{BOTH, F, {72, 64}}, {BOTH, F, {72}}, {IN, A, {40, 72}}, {IN, A, {40, 64}}}},
    {"weight gradient in bf16",
     BF16,
     call_linear_w,
     {{BOTH, H, {72, 64}}, {BOTH, H, {72}}, {IN, A, {40, 72}}, {IN, A, {40, 64}}}},
    {"attention, heads of 64",
     LOOSE,
     call_attention,
     {{OUT, A, {2, 150, 128}},
      {OUT, F, {2, 2, 150}},
      {IN, A, {2, 150, 128}},
      {IN, A, {2, 150, 128}},
      {IN, A, {2, 150, 128}}}},
    {"attention's gradients, heads of 64",
     LOOSE,
     call_attention_back,
     {{OUT, A, {1, 140, 64}},
      {OUT, A, {1, 140, 64}},
      {OUT, A, {1, 140, 64}},
      {IN, A, {1, 140, 64}},
      {IN, A, {1, 140, 64}},
      {IN, A, {1, 140, 64}},
      {IN, A, {1, 140, 64}},
      {OUT, A, {1, 140, 64}},
      {OUT, F, {1, 1, 140}}}},
    {"attention with bias",
     LOOSE,
     call_attention_bias,
     {{OUT, A, {1, 21, 32}}, {IN, A, {1, 21, 32}}, {IN, A, {1, 21, 32}}, {IN, A, {1, 21, 32}}, {IN, F, {2, 21, 21}}}},
    {"attention, causal",
     LOOSE,
     call_attention_causal,
     {{OUT, A, {1, 21, 32}}, {IN, A, {1, 21, 32}}, {IN, A, {1, 21, 32}}, {IN, A, {1, 21, 32}}}},
    {"layer norm, modulated",
     BF16,
     call_layernorm,
     {{OUT, A, {2, 13, 96}}, {IN, A, {2, 13, 96}}, {IN, F, {96}}, {IN, F, {96}}, {IN, F, {2, 576}}}},
    {"layer norm, heads of 64",
     BF16,
     call_head_norm,
     {{OUT, A, {2, 7, 3, 64}}, {IN, A, {2, 7, 3, 64}}, {IN, F, {64}}, {IN, F, {64}}}},
    {"layer norm's gradients",
     BF16,
     call_layernorm_back,
     {{BOTH, A, {2, 13, 96}},
      {BOTH, F, {96}},
      {BOTH, F, {96}},
      {BOTH, F, {2, 576}},
      {IN, A, {2, 13, 96}},
      {IN, A, {2, 13, 96}},
      {IN, F, {96}},
      {IN, F, {96}},
      {IN, F, {2, 576}}}},
    {"gated residual", BF16, call_gate, {{BOTH, A, {2, 13, 96}}, {IN, A, {2, 13, 96}}, {IN, F, {2, 576}}}},
    {"gated residual's gradients",
     BF16,
     call_gate_back,
     {{OUT, A, {2, 13, 96}}, {BOTH, F, {2, 576}}, {IN, A, {2, 13, 96}}, {IN, A, {2, 13, 96}}, {IN, F, {2, 576}}}},
    {"RMS norm", BF16, call_rmsnorm, {{OUT, A, {9, 72}}, {IN, A, {9, 72}}, {IN, F, {72}}}},
    {"group norm, conditioned, SiLU",
     BF16,
     call_groupnorm,
     {{OUT, A, {3, 6, 8, 16}},
      {IN, A, {3, 6, 8, 16}},
      {IN, F, {16}},
      {IN, F, {16}},
      {IN, A, {2, 3, 4, 16}},
      {IN, A, {2, 3, 4, 16}}}},
    {"convolution, added",
     BF16,
     call_conv,
     {{BOTH, A, {3, 6, 7, 40}}, {IN, A, {3, 6, 7, 32}}, {IN, W, {40, 3, 3, 3, 32}}, {IN, F, {40}}}},
    {"convolution of pixels",
     BF16,
     call_conv,
     {{BOTH, A, {3, 6, 7, 24}}, {IN, A, {3, 6, 7, 3}}, {IN, W, {24, 3, 3, 3, 3}}, {IN, F, {24}}}},
    {"convolution, stride 2",
     BF16,
     call_conv_down,
     {{OUT, A, {2, 3, 4, 64}}, {IN, A, {2, 6, 8, 64}}, {IN, W, {64, 1, 3, 3, 64}}, {IN, F, {64}}}},
    {"upsampling", BF16, call_upsample, {{OUT, A, {5, 6, 8, 16}}, {IN, A, {3, 3, 4, 16}}}},
    {"pooling in time", BF16, call_pool, {{OUT, A, {3, 3, 4, 16}}, {IN, A, {5, 3, 4, 16}}}},
    {"gelu", BF16, call_gelu, {{OUT, A, {700}}, {IN, A, {700}}}},
    {"gelu's gradient", BF16, call_gelu_back, {{OUT, A, {700}}, {IN, A, {700}}, {IN, A, {700}}}},
    {"gated gelu", BF16, call_gated, {{OUT, A, {700}}, {IN, A, {700}}, {IN, A, {700}}}},
    {"sum", BF16, call_add, {{OUT, A, {700}}, {IN, A, {700}}, {IN, A, {700}}}},
    {"linear combination", BF16, call_lincomb, {{OUT, F, {300}}, {IN, A, {300}}, {IN, F, {300}}}},
    {"cast to activations", BF16, call_copy, {{OUT, A, {300}}, {IN, F, {300}}}},
    {"cast to F32", BF16, call_copy, {{OUT, F, {300}}, {IN, A, {300}}}},
    {"embedding", BF16, call_embed, {{OUT, A, {7, 24}}, {IN, W, {16, 24}}, {IN, I, {7}}}},
    {"token rows", BF16, call_rows, {{BOTH, A, {2, 6, 24}}, {IN, A, {2, 5, 24}}, {IN, F, {4, 24}}}},
    {"patches",
     BF16,
     call_patches,
     {{OUT, A, {1, 12, 16}}, {OUT, A, {1, 2, 4, 6, 4}}, {IN, A, {1, 2, 4, 6, 4}}, {IN, A, {1, 12, 16}}}},
    {"tiles", BF16, call_tiles, {{BOTH, A, {2, 5, 4, 3}}, {IN, A, {2, 4, 5, 3}}, {IN, A, {2, 5, 4, 3}}}},
    {"posterior", BF16, call_posterior, {{OUT, A, {40, 8}}, {IN, A, {40, 16}}, {IN, A, {40, 8}}}},
    {"noising", EXACT, call_diffuse, {{OUT, F, {2, 99}}, {OUT, F, {2, 99}}, {IN, F, {2, 99}}, {IN, F, {2, 99}}}},
    {"loss", EXACT, call_mse, {{OUT, F, {1}}, {OUT, F, {500}}, {IN, F, {500}}, {IN, F, {500}}}},
    {"sum of squares", EXACT, call_squares, {{OUT, F, {1}}, {IN, F, {5000}}}},
    {"AdamW", EXACT, call_adamw, {{BOTH, F, {500}}, {IN, F, {500}}, {BOTH, F, {500}}, {POSITIVE, F, {500}}}},
    {"AdamW, bf16 gradients and copies",
     BF16,
     call_adamw,
     {{BOTH, F, {504}}, {IN, H, {504}}, {BOTH, F, {504}}, {POSITIVE, F, {504}}, {OUT, H, {504}}}},
    {"stochastic rounding", 0, call_rounding, {{BOTH, H, {504}}, {OUT, H, {504}}, {OUT, F, {504}}, {OUT, F, {504}}}},
};
enum { FAMILIES = sizeof families / sizeof *families };

/* ---- running one ----------------------------------------------------------------------------- */

typedef struct Test {
    Backend *be, *ref;
    FILE *out;
    int checks, failed;
} Test;

static int rank_of(const Operand *o)
{
    int n = 0;
    while (n < 5 && o->dim[n])
        n++;
    return n;
}

static Tensor shape_of(const Operand *o, const Backend *be)
{
    DType type = o->kind == A                                           ? be->act
                 : o->kind == H || (o->kind == W && be->act == DT_BF16) ? DT_BF16
                 : o->kind == I                                         ? DT_I32
                                                                        : DT_F32;
    return tensor_view(NULL, type, rank_of(o), o->dim);
}

/* Values within (-1, 1) that bf16 holds exactly, the same for both back ends; what is only written
 * starts at 0. */
static int put(Backend *be, Tensor *t, const Operand *o, int seed, Err *err)
{
    int64_t n = tensor_count(t);
    float *host = mem_alloc_aligned(n * (int64_t)sizeof *host, err);
    int32_t *ids = (int32_t *)host;
    uint32_t state = (uint32_t)seed * 2654435761u + 1;
    int rc = host ? be->alloc(be, tensor_bytes(t), &t->data, err) : ERR_NOMEM;

    for (int64_t i = 0; i < n && rc == 0; i++) {
        state = state * 1664525u + 1013904223u;
        float x = (float)((int32_t)(state >> 24) - 128) / 128;
        if (o->kind == I)
            ids[i] = (int32_t)(state >> 28);
        else
            host[i] = o->role == OUT ? 0 : o->role == POSITIVE ? fabsf(x) + 0.25f : x;
    }
    if (rc == 0)
        rc = o->kind == I ? be->upload(be, t->data, ids, tensor_bytes(t), err) : backend_put_f32(be, t, host, err);
    mem_free_aligned(host);
    return rc;
}

/* The largest difference over the largest wanted value; infinite where a value is no number. */
static int compare(Test *t, const Tensor *got, const Tensor *want, double *worst, Err *err)
{
    int64_t n = tensor_count(got);
    float *a = mem_alloc_aligned(n * (int64_t)sizeof *a, err), *b = mem_alloc_aligned(n * (int64_t)sizeof *b, err);
    double top = 1e-30, off = 0;
    int rc = a && b ? backend_get_f32(t->be, a, got, err) : ERR_NOMEM;

    if (rc == 0)
        rc = backend_get_f32(t->ref, b, want, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        top = fmax(top, fabs(b[i]));
        off = isfinite(a[i]) ? fmax(off, fabs((double)a[i] - b[i])) : INFINITY;
        if (isinf(off))
            break;
    }
    *worst = fmax(*worst, off / top);
    mem_free_aligned(a);
    mem_free_aligned(b);
    return rc;
}

static int run_family(Test *t, const Family *f, Err *err)
{
    Tensor here[OPERANDS] = {{0}}, there[OPERANDS] = {{0}};
    double worst = 0;
    int n = 0, rc = 0;

    while (n < OPERANDS && f->arg[n].dim[0])
        n++;
    for (int i = 0; i < n && rc == 0; i++) {
        here[i] = shape_of(&f->arg[i], t->be);
        there[i] = shape_of(&f->arg[i], t->ref);
        rc = put(t->be, &here[i], &f->arg[i], i + 1, err);
        if (rc == 0)
            rc = put(t->ref, &there[i], &f->arg[i], i + 1, err);
    }
    if (rc == 0)
        rc = f->call(t->ref, there, err);
    if (rc == 0)
        rc = f->call(t->be, here, err);
    for (int i = 0; i < n && rc == 0; i++)
        if (f->arg[i].role != IN)
            rc = compare(t, &here[i], &there[i], &worst, err);
    for (int i = 0; i < n; i++) {
        t->be->release(t->be, here[i].data);
        t->ref->release(t->ref, there[i].data);
    }
    if (rc < 0)
        return rc;
    int ok = worst <= f->tolerance;
    t->checks++;
    t->failed += !ok;
    fprintf(t->out, "%s  %-36s off by %.1e of the largest value, %.1e allowed\n", ok ? "ok    " : "FAILED", f->name,
            worst, f->tolerance);
    return 0;
}

static void report_instruction(void *user, const char *what, int wrong)
{
    Test *t = user;

    t->checks++;
    t->failed += wrong != 0;
    fprintf(t->out, "%s  %-36s %d values wrong\n", wrong ? "FAILED" : "ok    ", what, wrong);
}

int selftest_run(Backend *be, FILE *out, int *failed, Err *err)
{
    Test t = {.be = be, .out = out};
    int rc = backend_open(&t.ref, "ref", 1, NULL, err);

    if (rc == 0 && be->selftest)
        rc = be->selftest(be, report_instruction, &t, err);
    for (int i = 0; i < FAMILIES && rc == 0; i++) {
        rc = run_family(&t, &families[i], err);
        if (rc < 0)
            err_wrap(err, rc, "%s", families[i].name);
    }
    backend_close(&t.ref);
    *failed = t.failed;
    if (rc == 0 && t.failed)
        fprintf(out, "device %s: NOT SOUND: %d of %d checks failed\n", be->name, t.failed, t.checks);
    else if (rc == 0)
        fprintf(out, "device %s: sound, %d checks passed\n", be->name, t.checks);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------- */

const Opt selftest_opts[] = {
    OPTION(SelftestOptions, device, OPT_ENUM, "device", NULL, "back end to check; auto: cuda where it works, else cpu",
           .choices = "auto|cpu|cuda|sim|ref", .dflt = "auto"),
    {0},
};

int selftest_command(void *options, const StrList *positional, Err *err)
{
    const SelftestOptions *o = options;
    Backend *be = NULL;
    int failed = 0;
    (void)positional;
    int rc = backend_open(&be, o->device, 0, NULL, err);
    if (rc == 0)
        rc = selftest_run(be, stdout, &failed, err);
    backend_close(&be);
    return rc < 0 ? rc : failed != 0;
}
