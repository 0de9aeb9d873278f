/* Times every heavy operation, then whole jobs, on a device at the size of CogVideoX-2B, beside
 * what the device could do at most.
 *
 *   main_bench [--device cuda|sim] [--size 2b|toy] [--gpu A100|H100] [--only PART OF A NAME]
 *
 * FLOPs and bytes are those the counting back end (count.h) finds for the same call.  On sim only
 * the toy size makes sense, and only to see that all of it runs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/args.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/ops/ops.h"
#include "tests/cuda/count.h"
#include "tests/cuda/task.h"

typedef struct Bench {
    Backend *be;
    const Size *size;
    const Machine *gpu;
    const char *only;
    float *noise; /* NOISE values */
    Err err;
} Bench;
enum { NOISE = 1 << 20 };

/* ---- operations ------------------------------------------------------------------------------ */

/* Extents that depend on the size: batch, tokens, width, 4 and 6 widths, heads, their dimension;
 * frames of a chunk, height, width and their halves; the first two widths of the VAE; all
 * parameters. */
enum { END, B = -100, N, D, D4, D6, HEADS, HD, T, H, W, H2, W2, C0, C1, ALL };
typedef enum Kind { A, K, F, P } Kind; /* activations, weights, F32, F32 above 0 */
typedef struct Operand {
    Kind kind;
    int dim[5];
} Operand;
enum { OPERANDS = 10 };
typedef struct Op {
    const char *name;
    int (*call)(Backend *be, const Tensor *t, Err *err);
    Operand arg[OPERANDS];
} Op;

static int call_linear(Backend *be, const Tensor *t, Err *err)
{
    return op_linear(be, &t[0], &t[1], &t[2], &t[3], err);
}
static int call_linear_x(Backend *be, const Tensor *t, Err *err)
{
    return op_linear_backward_x(be, &t[1], &t[0], &t[2], 0, err);
}
static int call_linear_w(Backend *be, const Tensor *t, Err *err)
{
    return op_linear_backward_w(be, &t[2], NULL, &t[0], &t[1], err);
}
static int call_bias(Backend *be, const Tensor *t, Err *err)
{
    return op_linear_backward_w(be, NULL, &t[1], &t[0], &t[0], err);
}
static AttnParams attention_of(const Tensor *lse)
{
    return (AttnParams){lse->dim[1], 0.125, NULL, 0};
}
static int call_attention(Backend *be, const Tensor *t, Err *err)
{
    AttnParams p = attention_of(&t[4]);
    return op_attention(be, &t[3], &t[4], &t[0], &t[1], &t[2], &p, err);
}
static int call_attention_back(Backend *be, const Tensor *t, Err *err)
{
    AttnParams p = attention_of(&t[4]);
    return op_attention_backward(be, &t[5], &t[6], &t[7], &t[8], &t[0], &t[1], &t[2], &t[3], &t[4], &p, err);
}
static int call_norm(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[4], 1};
    return op_layernorm(be, &t[1], &t[0], &t[2], &t[3], 1e-5, &m, err);
}
static int call_head_norm(Backend *be, const Tensor *t, Err *err)
{
    return op_layernorm(be, &t[1], &t[0], &t[2], &t[3], 1e-6, NULL, err);
}
static int call_norm_back(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[4], 1};
    return op_layernorm_backward(be, &t[5], &t[6], &t[7], &t[8], &t[1], &t[0], &t[2], &t[3], 1e-5, &m, 1, err);
}
static int call_gate(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[2], 1};
    return op_gate_add(be, &t[0], &t[1], &m, err);
}
static int call_gate_back(Backend *be, const Tensor *t, Err *err)
{
    Modulation m = {&t[2], 1};
    return op_gate_add_backward(be, &t[3], &t[4], &t[0], &t[1], &m, err);
}
static int call_gelu(Backend *be, const Tensor *t, Err *err)
{
    return op_act(be, &t[1], &t[0], ACT_GELU_TANH, err);
}
static int call_gelu_back(Backend *be, const Tensor *t, Err *err)
{
    return op_act_backward(be, &t[2], &t[1], &t[0], ACT_GELU_TANH, err);
}
static int call_conv(Backend *be, const Tensor *t, Err *err)
{
    ConvParams p = {1, 1, 1, 1, 1, 0};
    return op_conv(be, &t[1], &t[0], NULL, &t[2], &t[3], &p, err);
}
static int call_group(Backend *be, const Tensor *t, Err *err)
{
    return op_groupnorm(be, &t[1], &t[0], &t[2], &t[3], 4, 1e-6, NULL, ACT_SILU, err);
}
static int call_upsample(Backend *be, const Tensor *t, Err *err)
{
    return op_upsample(be, &t[1], &t[0], 0, err);
}
static int call_squares(Backend *be, const Tensor *t, Err *err)
{
    double sum;
    return op_sum_squares(be, &sum, &t[0], err);
}
static const AdamParams adam = {
    .lr = 1e-5, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 1e-4, .step = 3, .grad_scale = 1};
static int call_adamw(Backend *be, const Tensor *t, Err *err)
{
    return op_adamw(be, &t[0], &t[4], &t[1], &t[2], &t[3], &adam, err);
}
static int call_adamw_half(Backend *be, const Tensor *t, Err *err)
{
    return op_adamw(be, &t[0], NULL, &t[1], &t[2], &t[3], &adam, err);
}

static const Op ops[] = {
    {"product, width to width", call_linear, {{A, {B, N, D}}, {A, {B, N, D}}, {K, {D, D}}, {F, {D}}}},
    {"product, feed-forward in", call_linear, {{A, {B, N, D4}}, {A, {B, N, D}}, {K, {D4, D}}, {F, {D4}}}},
    {"product, feed-forward out", call_linear, {{A, {B, N, D}}, {A, {B, N, D4}}, {K, {D, D4}}, {F, {D}}}},
    {"input gradient, feed-forward", call_linear_x, {{A, {B, N, D4}}, {A, {B, N, D}}, {K, {D4, D}}}},
    {"weight gradient, feed-forward", call_linear_w, {{A, {B, N, D4}}, {A, {B, N, D}}, {F, {D4, D}}}},
    {"bias gradient, feed-forward", call_bias, {{A, {B, N, D4}}, {F, {D4}}}},
    {"attention", call_attention, {{A, {B, N, D}}, {A, {B, N, D}}, {A, {B, N, D}}, {A, {B, N, D}}, {F, {B, HEADS, N}}}},
    {"attention backward",
     call_attention_back,
     {{A, {B, N, D}},
      {A, {B, N, D}},
      {A, {B, N, D}},
      {A, {B, N, D}},
      {F, {B, HEADS, N}},
      {A, {B, N, D}},
      {A, {B, N, D}},
      {A, {B, N, D}},
      {A, {B, N, D}}}},
    {"layer norm, modulated", call_norm, {{A, {B, N, D}}, {A, {B, N, D}}, {F, {D}}, {F, {D}}, {F, {B, D6}}}},
    {"layer norm, heads", call_head_norm, {{A, {B, N, HEADS, HD}}, {A, {B, N, HEADS, HD}}, {F, {HD}}, {F, {HD}}}},
    {"layer norm backward",
     call_norm_back,
     {{A, {B, N, D}},
      {A, {B, N, D}},
      {F, {D}},
      {F, {D}},
      {F, {B, D6}},
      {A, {B, N, D}},
      {F, {D}},
      {F, {D}},
      {F, {B, D6}}}},
    {"gated residual", call_gate, {{A, {B, N, D}}, {A, {B, N, D}}, {F, {B, D6}}}},
    {"gated residual backward",
     call_gate_back,
     {{A, {B, N, D}}, {A, {B, N, D}}, {F, {B, D6}}, {A, {B, N, D}}, {F, {B, D6}}}},
    {"gelu", call_gelu, {{A, {B, N, D4}}, {A, {B, N, D4}}}},
    {"gelu backward", call_gelu_back, {{A, {B, N, D4}}, {A, {B, N, D4}}, {A, {B, N, D4}}}},
    {"convolution, first width",
     call_conv,
     {{A, {T, H, W, C0}}, {A, {T, H, W, C0}}, {K, {C0, 3, 3, 3, C0}}, {F, {C0}}}},
    {"convolution, second width, half size",
     call_conv,
     {{A, {T, H2, W2, C1}}, {A, {T, H2, W2, C1}}, {K, {C1, 3, 3, 3, C1}}, {F, {C1}}}},
    {"convolution of pixels", call_conv, {{A, {T, H, W, 3}}, {A, {T, H, W, C0}}, {K, {C0, 3, 3, 3, 3}}, {F, {C0}}}},
    {"convolution to pixels", call_conv, {{A, {T, H, W, C0}}, {A, {T, H, W, 3}}, {K, {3, 3, 3, 3, C0}}, {F, {3}}}},
    {"group norm, SiLU", call_group, {{A, {T, H, W, C0}}, {A, {T, H, W, C0}}, {F, {C0}}, {F, {C0}}}},
    {"upsampling", call_upsample, {{A, {T, H2, W2, C1}}, {A, {T, H, W, C1}}}},
    {"sum of squares", call_squares, {{F, {ALL}}}},
    {"AdamW", call_adamw, {{F, {ALL}}, {F, {ALL}}, {F, {ALL}}, {P, {ALL}}, {K, {ALL}}}},
    {"AdamW, bf16 weights and gradients", call_adamw_half, {{K, {ALL}}, {K, {ALL}}, {F, {ALL}}, {P, {ALL}}}},
};

static int64_t extent(const Size *z, int code)
{
    const DitConfig *c = &z->dit;
    int64_t width = c->heads * c->head_dim, h = z->height / 8, w = z->width / 8,
            frames = vae_latent_frames(&z->vae, z->frames);

    switch (code) {
    case B: return z->batch;
    case N: return c->text_len + frames * (h / c->patch) * (w / c->patch);
    case D: return width;
    case D4: return 4 * width;
    case D6: return 6 * width;
    case HEADS: return c->heads;
    case HD: return c->head_dim;
    case T: return 8;
    case H: return z->height;
    case W: return z->width;
    case H2: return z->height / 2;
    case W2: return z->width / 2;
    case C0: return z->vae.block_channels[0];
    case C1: return z->vae.block_channels[1];
    /* half of the parameters: 13.6 GB of state at 2B */
    case ALL: return c->layers * (24 * width * width + 12 * width * c->time_dim) / 2;
    default: return code;
    }
}

static Tensor shape_of(const Bench *b, const Backend *be, const Operand *o)
{
    int64_t dim[5];
    int rank = 0;

    for (; rank < 5 && o->dim[rank] != END; rank++)
        dim[rank] = extent(b->size, o->dim[rank]);
    return tensor_view(NULL, o->kind == A || o->kind == K ? be->act : DT_F32, rank, dim);
}

static int fill(Bench *b, Backend *be, Tensor *t, Kind kind)
{
    int64_t n = tensor_count(t), size = dtype_size(t->dtype);
    int rc = be->alloc(be, tensor_bytes(t), &t->data, &b->err);

    for (int64_t at = 0; at < n && rc == 0 && !be->plan; at += NOISE) {
        Tensor part = tensor_of((char *)t->data + at * size, t->dtype, 1, n - at < NOISE ? n - at : NOISE);
        rc = backend_put_f32(be, &part, kind == P ? b->noise + NOISE : b->noise, &b->err);
    }
    return rc;
}

/* ---- timing ---------------------------------------------------------------------------------- */

static void report(const Bench *b, const char *name, double seconds, const CountRow *c)
{
    double roof = c->roof[b->gpu - machines];

    printf("| %-42s | %11.3f | %8.2f | %8.1f | %11.3f | %5.1f %% |\n", name, seconds * 1e3, c->flops / seconds * 1e-12,
           c->bytes / seconds * 1e-9, roof * 1e3, 100 * roof / seconds);
    fflush(stdout);
}

/* One untimed call, then enough for a third of a second. */
static int time_op(Bench *b, const Op *op, const Tensor *t, double *seconds)
{
    int rc = op->call(b->be, t, &b->err), calls = 1;

    for (*seconds = 0; rc == 0 && *seconds < 0.3; calls *= 2) {
        if ((rc = b->be->sync(b->be, &b->err)) < 0)
            break;
        double start = time_now_s();
        for (int i = 0; i < calls && rc == 0; i++)
            rc = op->call(b->be, t, &b->err);
        if (rc == 0)
            rc = b->be->sync(b->be, &b->err);
        double took = time_now_s() - start;
        if (took >= 0.3 || calls >= 1 << 12 || b->size == &size_toy) {
            *seconds = took / calls;
            break;
        }
    }
    return rc;
}

static int bench_op(Bench *b, const Op *op)
{
    Tensor t[OPERANDS] = {{0}};
    Counter c;
    double seconds = 0;
    int n = 0, rc = count_open(&c, &b->err);

    for (; rc == 0 && n < OPERANDS && op->arg[n].dim[0] != END; n++) {
        t[n] = shape_of(b, c.be, &op->arg[n]);
        t[n].data = (void *)(uintptr_t)(64 * (n + 1)); /* never read */
    }
    if (rc == 0)
        rc = op->call(c.be, t, &b->err);
    CountRow cost = count_total(&c);
    count_close(&c);
    for (int i = 0; i < n; i++) {
        t[i].data = NULL;
        if (rc == 0)
            rc = fill(b, b->be, &t[i], op->arg[i].kind);
    }
    if (rc == 0)
        rc = time_op(b, op, t, &seconds);
    if (rc == 0)
        report(b, op->name, seconds, &cost);
    for (int i = 0; i < n; i++)
        b->be->release(b->be, t[i].data);
    return rc;
}

/* What the task needs and costs, from a counting run. */
static int count_task(Bench *b, TaskKind kind, CountRow *cost, int64_t *work)
{
    Counter c;
    Task *t = NULL;
    int rc = count_open(&c, &b->err);

    if (rc == 0)
        rc = task_open(&t, c.be, b->size, kind, 0, &b->err);
    count_reset(&c);
    if (rc == 0)
        rc = task_run(t, &b->err);
    if (rc == 0) {
        *cost = count_total(&c);
        *work = task_work_bytes(t);
    }
    task_close(&t);
    count_close(&c);
    return rc;
}

static int bench_task(Bench *b, TaskKind kind)
{
    CountRow cost;
    Task *t = NULL;
    int64_t work = 0;
    double best = INFINITY;
    int rc = count_task(b, kind, &cost, &work);

    if (rc == 0)
        rc = task_open(&t, b->be, b->size, kind, work, &b->err);
    for (int i = 0; i < (b->size == &size_toy ? 1 : 3) && rc == 0; i++) {
        double start = time_now_s();
        rc = task_run(t, &b->err);
        best = fmin(best, time_now_s() - start);
    }
    task_close(&t);
    if (rc < 0)
        return rc;
    report(b, task_names[kind], best, &cost);
    if (kind == TASK_SAMPLE)
        printf("  that is %.2f s for %lld sampling steps\n", best * (double)b->size->sampling_steps,
               (long long)b->size->sampling_steps);
    return 0;
}

/* ---- main ------------------------------------------------------------------------------------ */

static int run(Bench *b)
{
    int rc = 0;

    printf("device %s, size %s; limits: %s\n\n| %-42s | %11s | %8s | %8s | %11s | %7s |\n|---|---|---|---|---|---|\n",
           b->be->name, b->size->name, b->gpu->name, "operation", "ms", "TFLOP/s", "GB/s", "limit ms", "reached");
    for (size_t i = 0; i < sizeof ops / sizeof *ops && rc == 0; i++)
        if (!b->only || strstr(ops[i].name, b->only))
            rc = bench_op(b, &ops[i]);
    for (int k = 0; k < TASKS && rc == 0; k++) {
        if (b->only && !strstr(task_names[k], b->only))
            continue;
        rc = bench_task(b, (TaskKind)k);
        if (rc == ERR_NOMEM) { /* this card is too small for it */
            printf("| %-42s | not done: %s |\n", task_names[k], b->err.msg);
            rc = 0;
        }
    }
    return rc;
}

typedef struct Options {
    const char *device, *size, *gpu, *only;
} Options;
static const Opt options[] = {
    OPTION(Options, device, OPT_ENUM, "device", NULL, "back end", .choices = "cuda|sim", .dflt = "cuda"),
    OPTION(Options, size, OPT_ENUM, "size", NULL, "of the model", .choices = "2b|toy", .dflt = "2b"),
    OPTION(Options, gpu, OPT_ENUM, "gpu", NULL, "whose limits to compare with", .choices = "A100|H100", .dflt = "A100"),
    OPTION(Options, only, OPT_STR, "only", "TEXT", "operations with this in their name"),
    {0},
};

int main(int argc, char **argv)
{
    Options o;
    StrList rest = {0};
    Bench b = {0};
    int rc = args_parse(options, &o, sizeof o, argc - 1, argv + 1, &rest, &b.err);

    if (rc == 0) {
        b.size = strcmp(o.size, "toy") == 0 ? &size_toy : &size_2b;
        b.gpu = &machines[strcmp(o.gpu, "H100") == 0 ? MACHINE_H100 : MACHINE_A100];
        b.only = o.only;
        b.noise = mem_alloc_aligned(2 * NOISE * (int64_t)sizeof *b.noise, &b.err);
        rc = b.noise ? backend_open(&b.be, o.device, 0, NULL, &b.err) : ERR_NOMEM;
    }
    if (rc == 0) {
        filler_input(11, b.noise, NOISE);
        for (int i = 0; i < NOISE; i++)
            b.noise[NOISE + i] = fabsf(b.noise[i]) + 0.01f;
        rc = run(&b);
    }
    backend_close(&b.be);
    mem_free_aligned(b.noise);
    args_free_list(&rest);
    if (rc < 0)
        fprintf(stderr, "main_bench: %s\n", b.err.msg);
    return rc != 0;
}
