/* Times the cpu back end against the machine's own sgemm, in one run: each heavy op at the demo's
 * size and at a real layer's, then whole training steps.  FLOPs are counted as the maths needs them
 * (recomputation inside attention's backward is not credited).  Times are the best of several
 * repetitions; with one thread they are CPU time, which other work on the machine changes little.
 *
 *   make bench            all of it
 *   build/release/tests/bench/bench_cpu [THREADS] [PART OF A NAME] */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/base/mem.h"
#include "common/base/machine.h"
#include "common/base/threads.h"
#include "common/model/dit.h"
#include "common/ops/ops.h"
#include "dit_2b.h"

extern __attribute__((weak)) void openblas_set_num_threads(int n);
extern __attribute__((weak)) char *openblas_get_corename(void);

typedef struct Bench {
    Backend *be;
    const char *only;
    double sgemm; /* GFLOP/s */
    Err err;
} Bench;

static void die(const Bench *b, const char *what)
{
    fprintf(stderr, "bench_cpu: %s: %s\n", what, b->err.msg);
    exit(1);
}

/* Values in [-1, 1], the same every run. */
static void noise(float *x, int64_t n)
{
    uint32_t state = 12345;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
}

static Tensor tensor_new(Bench *b, DType dtype, int rank, const int64_t *dim)
{
    Tensor t = tensor_view(NULL, dtype, rank, dim);
    int64_t n = tensor_count(&t);
    float *host = mem_alloc_aligned(n * (int64_t)sizeof(float), &b->err);
    if (!host || b->be->alloc(b->be, tensor_bytes(&t), &t.data, &b->err) < 0)
        die(b, "memory");
    noise(host, n);
    if (backend_put_f32(b->be, &t, host, &b->err) < 0)
        die(b, "memory");
    mem_free_aligned(host);
    return t;
}
#define TENSOR(b, dtype, rank, ...) tensor_new((b), (dtype), (rank), (const int64_t[]){__VA_ARGS__})

static double clock_s(const Bench *b)
{
    struct timespec t;
    clock_gettime(b->be->threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef int (*Run)(Bench *b, void *arg);

static double best_time(Bench *b, Run run, void *arg)
{
    double best = 1e30, total = 0;
    for (int i = 0; i < 200 && (i < 3 || total < 0.5); i++) {
        double start = clock_s(b);
        if (run(b, arg) < 0)
            die(b, "run");
        double took = clock_s(b) - start;
        total += took;
        best = took < best ? took : best;
    }
    return best;
}

static int wanted(const Bench *b, const char *name)
{
    return !b->only || strstr(name, b->only);
}

static void report(Bench *b, const char *name, double flops, Run run, void *arg)
{
    double t = best_time(b, run, arg), rate = flops / t * 1e-9;
    printf("| %-58s | %9.3f | %8.1f | %5.2f |\n", name, t * 1e3, rate, rate / b->sgemm);
    fflush(stdout);
}

/* For what memory bounds: no ratio to a rate of arithmetic. */
static void report_bytes(Bench *b, const char *name, double bytes, Run run, void *arg)
{
    double t = best_time(b, run, arg);
    printf("| %-58s | %9.3f | %5.1f GB/s | |\n", name, t * 1e3, bytes / t * 1e-9);
    fflush(stdout);
}

/* ---- the yardstick --------------------------------------------------------------------------- */

typedef struct Square {
    int n;
    float *a, *b, *c;
} Square;

static int run_square(Bench *b, void *arg)
{
    Square *s = arg;
    (void)b;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s->n, s->n, s->n, 1.0f, s->a, s->n, s->b, s->n, 0.0f, s->c,
                s->n);
    return 0;
}

/* The library's own threads, at its best of four sizes. */
static void measure_sgemm(Bench *b)
{
    static const int sizes[] = {1024, 1280, 1536, 2048};
    if (openblas_set_num_threads)
        openblas_set_num_threads((int)b->be->threads);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int n = sizes[i];
        Tensor m[3];
        for (int k = 0; k < 3; k++)
            m[k] = TENSOR(b, DT_F32, 2, n, n);
        Square s = {n, m[0].data, m[1].data, m[2].data};
        double rate = 2.0 * n * n * n / best_time(b, run_square, &s) * 1e-9;
        printf("sgemm %4d: %.1f GFLOP/s\n", n, rate);
        b->sgemm = rate > b->sgemm ? rate : b->sgemm;
        for (int k = 0; k < 3; k++)
            b->be->release(b->be, m[k].data);
    }
    if (openblas_set_num_threads)
        openblas_set_num_threads(1);
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct Linear {
    Tensor x, w, b, y, gw, gb;
} Linear;

static int run_linear(Bench *b, void *arg)
{
    Linear *l = arg;
    return op_linear(b->be, &l->y, &l->x, &l->w, &l->b, &b->err);
}

static int run_linear_x(Bench *b, void *arg)
{
    Linear *l = arg;
    return op_linear_backward_x(b->be, &l->x, &l->y, &l->w, 0, &b->err);
}

static int run_linear_w(Bench *b, void *arg)
{
    Linear *l = arg;
    return op_linear_backward_w(b->be, &l->gw, &l->gb, &l->y, &l->x, &b->err);
}

static void bench_linear(Bench *b, int64_t m, int64_t n, int64_t k, DType type)
{
    char name[96];
    double flops = 2.0 * (double)m * (double)n * (double)k;
    snprintf(name, sizeof name, "linear %lld x %lld -> %lld, weights %s", (long long)m, (long long)k, (long long)n,
             dtype_name(type));
    if (!wanted(b, name))
        return;
    Linear l = {TENSOR(b, DT_F32, 2, m, k), TENSOR(b, type, 2, n, k),   TENSOR(b, type, 1, n),
                TENSOR(b, DT_F32, 2, m, n), TENSOR(b, DT_F32, 2, n, k), TENSOR(b, DT_F32, 1, n)};
    report(b, name, flops, run_linear, &l);
    if (type == DT_F32) {
        report(b, "linear backward x, the same", flops, run_linear_x, &l);
        report(b, "linear backward w, the same", flops, run_linear_w, &l);
    }
    Tensor *all[] = {&l.x, &l.w, &l.b, &l.y, &l.gw, &l.gb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->be->release(b->be, all[i]->data);
}

/* ---- attention ------------------------------------------------------------------------------- */

typedef struct Attention {
    Tensor q, k, v, o, lse, go, gq, gk, gv;
    AttnParams p;
} Attention;

static int run_attention(Bench *b, void *arg)
{
    Attention *a = arg;
    return op_attention(b->be, &a->o, &a->lse, &a->q, &a->k, &a->v, &a->p, &b->err);
}

static int run_attention_back(Bench *b, void *arg)
{
    Attention *a = arg;
    return op_attention_backward(b->be, &a->gq, &a->gk, &a->gv, &a->go, &a->q, &a->k, &a->v, &a->o, &a->lse, &a->p,
                                 &b->err);
}

static void bench_attention(Bench *b, int64_t batch, int64_t s, int64_t heads, int64_t hd, int backward)
{
    char name[96];
    int64_t d = heads * hd;
    double flops = 4.0 * (double)batch * (double)s * (double)s * (double)d;
    snprintf(name, sizeof name, "attention %lld x %lld tokens, %lld heads of %lld", (long long)batch, (long long)s,
             (long long)heads, (long long)hd);
    if (!wanted(b, name))
        return;
    Attention a = {.p = {.heads = heads, .scale = 0.125}, .lse = TENSOR(b, DT_F32, 3, batch, heads, s)};
    Tensor *all[] = {&a.q, &a.k, &a.v, &a.o, &a.go, &a.gq, &a.gk, &a.gv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] = TENSOR(b, DT_F32, 3, batch, s, d);
    report(b, name, flops, run_attention, &a);
    if (backward) {
        run_attention(b, &a);
        report(b, "attention backward, the same", 2 * flops, run_attention_back, &a);
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->be->release(b->be, all[i]->data);
    b->be->release(b->be, a.lse.data);
}

/* ---- convolution and its norm ---------------------------------------------------------------- */

typedef struct Conv {
    Tensor x, w, b, y, nw, nb;
    ConvParams p;
} Conv;

static int run_conv(Bench *b, void *arg)
{
    Conv *c = arg;
    return op_conv(b->be, &c->y, &c->x, NULL, &c->w, &c->b, &c->p, &b->err);
}

static int run_groupnorm(Bench *b, void *arg)
{
    Conv *c = arg;
    return op_groupnorm(b->be, &c->x, &c->x, &c->nw, &c->nb, 8, 1e-6, NULL, ACT_SILU, &b->err);
}

static void bench_conv(Bench *b, int64_t t, int64_t h, int64_t w, int64_t ci, int64_t co, int64_t kt, int64_t stride,
                       DType type)
{
    char name[96];
    int64_t ho = stride == 2 ? h / 2 : h, wo = stride == 2 ? w / 2 : w, lead = stride == 2 ? 0 : 1;
    snprintf(name, sizeof name, "conv %lldx3x3/%lld, %lld -> %lld on %lldx%lldx%lld, weights %s", (long long)kt,
             (long long)stride, (long long)ci, (long long)co, (long long)t, (long long)h, (long long)w,
             dtype_name(type));
    if (!wanted(b, name))
        return;
    Conv c = {TENSOR(b, DT_F32, 4, t, h, w, ci),
              TENSOR(b, type, 5, co, kt, 3, 3, ci),
              TENSOR(b, type, 1, co),
              TENSOR(b, DT_F32, 4, t, ho, wo, co),
              TENSOR(b, DT_F32, 1, ci),
              TENSOR(b, DT_F32, 1, ci),
              {stride, lead, 1, lead, 1, 0}};
    report(b, name, 2.0 * (double)(t * ho * wo * co) * (double)(kt * 9 * ci), run_conv, &c);
    if (stride == 1 && ci >= 16 && co >= 16) {
        b->be->direct_conv = 1;
        report(b, "the same, direct form", 2.0 * (double)(t * ho * wo * co) * (double)(kt * 9 * ci), run_conv, &c);
        b->be->direct_conv = 0;
    }
    if (ci >= 8 && stride == 1 && type == DT_F32)
        report_bytes(b, "groupnorm + SiLU, its input", 3.0 * (double)tensor_bytes(&c.x), run_groupnorm, &c);
    Tensor *all[] = {&c.x, &c.w, &c.b, &c.y, &c.nw, &c.nb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->be->release(b->be, all[i]->data);
}

/* ---- norms and activations ------------------------------------------------------------------- */

typedef struct Rows {
    Tensor x, y, w, b, mod, gm, gw, gb, g;
    Modulation m;
} Rows;

static int run_norm(Bench *b, void *arg)
{
    Rows *r = arg;
    return op_layernorm(b->be, &r->y, &r->x, &r->w, &r->b, 1e-5, &r->m, &b->err);
}

static int run_norm_back(Bench *b, void *arg)
{
    Rows *r = arg;
    return op_layernorm_backward(b->be, &r->g, &r->gw, &r->gb, &r->gm, &r->y, &r->x, &r->w, &r->b, 1e-5, &r->m, 1,
                                 &b->err);
}

static int run_gelu(Bench *b, void *arg)
{
    Rows *r = arg;
    return op_act(b->be, &r->y, &r->x, ACT_GELU_TANH, &b->err);
}

static int run_gelu_back(Bench *b, void *arg)
{
    Rows *r = arg;
    return op_act_backward(b->be, &r->g, &r->y, &r->x, ACT_GELU_TANH, &b->err);
}

static void bench_rows(Bench *b, int64_t batch, int64_t s, int64_t d)
{
    char name[96];
    snprintf(name, sizeof name, "layernorm + modulation %lldx%lldx%lld", (long long)batch, (long long)s, (long long)d);
    if (!wanted(b, name))
        return;
    Rows r = {.w = TENSOR(b, DT_F32, 1, d),
              .b = TENSOR(b, DT_F32, 1, d),
              .gw = TENSOR(b, DT_F32, 1, d),
              .gb = TENSOR(b, DT_F32, 1, d),
              .mod = TENSOR(b, DT_F32, 2, batch, 6 * d),
              .gm = TENSOR(b, DT_F32, 2, batch, 6 * d)};
    r.x = TENSOR(b, DT_F32, 3, batch, s, d);
    r.y = TENSOR(b, DT_F32, 3, batch, s, d);
    r.g = TENSOR(b, DT_F32, 3, batch, s, d);
    r.m = (Modulation){&r.mod, s / 4};
    double bytes = (double)tensor_bytes(&r.x);
    report_bytes(b, name, 2 * bytes, run_norm, &r);
    report_bytes(b, "layernorm backward, the same", 4 * bytes, run_norm_back, &r);
    report_bytes(b, "gelu, the same", 2 * bytes, run_gelu, &r);
    report_bytes(b, "gelu backward, the same", 3 * bytes, run_gelu_back, &r);
    Tensor *all[] = {&r.x, &r.y, &r.g, &r.w, &r.b, &r.gw, &r.gb, &r.mod, &r.gm};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->be->release(b->be, all[i]->data);
}

/* ---- training steps -------------------------------------------------------------------------- */

typedef struct Train {
    Dit *dit;
    Arena *work;
    Tensor latents, text, noise, v, m, s;
    Recompute how;
    int64_t step, timestep[2];
} Train;

static int run_step(Bench *b, void *arg)
{
    Train *t = arg;
    DitTape *tape = NULL;
    double loss, square;
    int64_t mark = arena_mark(t->work);
    Tensor values = params_flat_values(dit_params(t->dit)), grads = params_flat_grads(dit_params(t->dit));
    AdamParams adam = {
        .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 1e-4, .step = ++t->step, .grad_scale = 1};
    int rc = op_fill(b->be, &grads, 0, &b->err);
    if (rc == 0)
        rc = dit_forward_train(t->dit, t->work, &tape, t->how, &t->v, &t->latents, &t->text, t->timestep, &b->err);
    if (rc == 0)
        rc = op_mse(b->be, &loss, &t->v, &t->v, &t->noise, 1.0, &b->err);
    if (rc == 0)
        rc = dit_backward(t->dit, t->work, &tape, &t->v, NULL, NULL, &b->err);
    if (rc == 0)
        rc = op_sum_squares(b->be, &square, &grads, &b->err);
    if (rc == 0 && !b->be->plan)
        rc = op_adamw(b->be, &values, NULL, &grads, &t->m, &t->s, &adam, &b->err);
    arena_reset(t->work, mark);
    return rc;
}

/* FLOPs of one forward pass over all samples. */
static double forward_flops(const DitConfig *c, double batch, double tokens)
{
    double d = (double)(c->heads * c->head_dim), te = (double)c->time_dim, text = (double)c->text_len;
    double layer = 24 * d * d * tokens + 4 * tokens * tokens * d + 24 * te * d;
    double feature = (double)(c->patch * c->patch * (c->in_channels + c->out_channels));
    double ends = 2 * text * (double)c->text_dim * d + 2 * (tokens - text) * feature * d + 2 * te * (te + 3 * d);
    return batch * ((double)c->layers * layer + ends);
}

static void train_open(Bench *b, Train *t, Backend *be, const DitConfig *c, int64_t frames, int64_t h, int64_t w,
                       int64_t batch)
{
    Backend *own = b->be;
    b->be = be;
    if (dit_new_filled(&t->dit, be, c, 1, &b->err) < 0)
        die(b, "model");
    Tensor flat = params_flat_values(dit_params(t->dit));
    Tensor *shaped[] = {&t->latents, &t->noise, &t->v};
    for (size_t i = 0; i < 3; i++)
        *shaped[i] = TENSOR(b, DT_F32, 5, batch, frames, h, w, c->in_channels);
    t->text = TENSOR(b, DT_F32, 3, batch, c->text_len, c->text_dim);
    t->m = TENSOR(b, DT_F32, 1, tensor_count(&flat));
    t->s = TENSOR(b, DT_F32, 1, tensor_count(&flat));
    if (op_fill(be, &t->m, 0, &b->err) < 0 || op_fill(be, &t->s, 0, &b->err) < 0)
        die(b, "moments");
    b->be = own;
}

static void train_close(Train *t, Backend *be)
{
    Tensor *all[] = {&t->latents, &t->noise, &t->v, &t->text, &t->m, &t->s};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->release(be, all[i]->data);
    arena_free(&t->work);
    dit_close(&t->dit);
}

static void bench_train(Bench *b, const char *name, const DitConfig *c, int64_t frames, int64_t h, int64_t w,
                        int64_t batch, Recompute how)
{
    if (!wanted(b, name))
        return;
    Backend *plan, *own = b->be;
    Train t = {.how = how, .timestep = {999, 500}}, p = t;
    if (backend_open(&plan, "plan", 1, NULL, &b->err) < 0 || arena_new(&p.work, plan, 0, "bench", &b->err) < 0)
        die(b, "plan");
    train_open(b, &p, plan, c, frames, h, w, batch);
    b->be = plan;
    if (run_step(b, &p) < 0)
        die(b, "plan");
    b->be = own;
    if (arena_new(&t.work, own, arena_high(p.work), "bench", &b->err) < 0)
        die(b, "memory");
    train_close(&p, plan);
    backend_close(&plan);
    train_open(b, &t, own, c, frames, h, w, batch);
    double tokens = (double)(c->text_len + frames * (h / c->patch) * (w / c->patch));
    double times = how == RECOMPUTE_NONE ? 3 : 4;
    report(b, name, times * forward_flops(c, (double)batch, tokens), run_step, &t);
    train_close(&t, own);
}

static void bench_steps(Bench *b)
{
    DitConfig demo = {.heads = 4,
                      .head_dim = 32,
                      .layers = 4,
                      .in_channels = 8,
                      .out_channels = 8,
                      .patch = 2,
                      .time_dim = 64,
                      .text_dim = 64,
                      .text_len = 226,
                      .sample_width = 12,
                      .sample_height = 18,
                      .sample_frames = 49,
                      .temporal_ratio = 4,
                      .spatial_scale = 1.875,
                      .temporal_scale = 1,
                      .norm_eps = 1e-5,
                      .flip_sin_to_cos = 1};
    DitConfig real = DIT_2B(2);
    bench_train(b, "training step, demo: 4 layers of 128, 2 x 928 tokens", &demo, 13, 18, 12, 2, RECOMPUTE_NONE);
    bench_train(b, "training step, demo, recomputing blocks", &demo, 13, 18, 12, 2, RECOMPUTE_BLOCK);
    bench_train(b, "training step, 2 layers of 1920, 1 x 601 tokens", &real, 5, 30, 20, 1, RECOMPUTE_NONE);
    bench_train(b, "training step, 2 layers of 1920, 1 x 2176 tokens", &real, 13, 30, 20, 1, RECOMPUTE_BLOCK);
}

int main(int argc, char **argv)
{
    Bench b = {.only = argc > 2 ? argv[2] : NULL};
    if (backend_open(&b.be, "cpu", argc > 1 ? atoll(argv[1]) : machine_threads(), NULL, &b.err) < 0)
        die(&b, "cpu");
    printf("BLAS kernels: %s; threads: %lld\n", openblas_get_corename ? openblas_get_corename() : "unknown",
           (long long)b.be->threads);
    measure_sgemm(&b);
    printf("\n| %-58s | %9s | %8s | %5s |\n|---|---|---|---|\n", "what", "ms", "GFLOP/s", "ratio");
    bench_linear(&b, 1856, 128, 128, DT_F32);
    bench_linear(&b, 1856, 512, 128, DT_F32);
    bench_linear(&b, 600, 1920, 1920, DT_F32);
    bench_linear(&b, 600, 7680, 1920, DT_F32);
    bench_linear(&b, 2048, 1920, 1920, DT_F16);
    bench_linear(&b, 226, 10240, 4096, DT_BF16);
    bench_linear(&b, 2, 11520, 512, DT_F32);
    bench_attention(&b, 2, 928, 4, 32, 1);
    bench_attention(&b, 1, 600, 30, 64, 1);
    bench_attention(&b, 1, 2176, 30, 64, 1);
    bench_attention(&b, 1, 17776, 2, 64, 0);
    bench_conv(&b, 8, 144, 96, 16, 16, 3, 1, DT_F32);
    bench_conv(&b, 8, 72, 48, 32, 32, 3, 1, DT_F32);
    bench_conv(&b, 8, 72, 48, 64, 64, 3, 1, DT_F32);
    bench_conv(&b, 2, 180, 120, 128, 128, 3, 1, DT_F32);
    bench_conv(&b, 2, 180, 120, 256, 256, 3, 1, DT_F32);
    bench_conv(&b, 2, 90, 60, 512, 512, 3, 1, DT_F32);
    bench_conv(&b, 3, 8, 6, 512, 512, 3, 1, DT_F32);
    bench_conv(&b, 3, 16, 12, 512, 512, 3, 1, DT_F32);
    bench_conv(&b, 2, 180, 120, 256, 256, 1, 1, DT_F32);
    bench_conv(&b, 2, 180, 120, 256, 256, 3, 1, DT_F16);
    bench_conv(&b, 2, 180, 120, 256, 256, 1, 2, DT_F32);
    bench_conv(&b, 2, 180, 120, 3, 128, 3, 1, DT_F32);
    bench_conv(&b, 2, 180, 120, 128, 3, 3, 1, DT_F32);
    bench_rows(&b, 2, 928, 128);
    bench_rows(&b, 1, 2176, 1920);
    bench_steps(&b);
    backend_close(&b.be);
    return 0;
}
