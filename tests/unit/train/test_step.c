/* One optimiser step: rate, accumulation, determinism, refusals, and that it learns. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/ops/ops.h"
#include "train/step.h"

enum { F = 3, H = 4, W = 4, C = 4, S = 5, T = 12 };

typedef struct Case {
    Backend *be;
    Dit *dit;
    Arena *work;
    Schedule schedule;
    TrainState s;
    TrainBatch batch;
    int64_t timestep[8];
    Err err;
} Case;

static void case_open_with(Case *k, const char *backend, int64_t threads, int64_t B, Recompute policy, int how,
                           int64_t heads, OptimizerKind kind)
{
    DitConfig c = {.heads = heads,
                   .head_dim = 16,
                   .layers = 2,
                   .in_channels = C,
                   .out_channels = C,
                   .patch = 2,
                   .time_dim = 8,
                   .text_dim = T,
                   .text_len = S,
                   .sample_width = 6,
                   .sample_height = 4,
                   .sample_frames = 9,
                   .temporal_ratio = 4,
                   .spatial_scale = 1.875,
                   .temporal_scale = 1.0,
                   .norm_eps = 1e-5,
                   .flip_sin_to_cos = 1};
    TrainConfig t = {.rate = {.peak = 1e-3},
                     .optimizer = {.kind = kind, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 1e-4},
                     .max_grad_norm = 1.0,
                     .policy = policy};
    Philox rng = philox_stream(check_seed(), RNG_TEST, 0, 0);
    float *host = mem_calloc(8 * F * H * W * C + 8 * S * T, sizeof *host, NULL);

    memset(k, 0, sizeof *k);
    CHECK_OK(backend_open(&k->be, backend, threads, NULL, &k->err), &k->err);
    CHECK_OK(dit_new_filled(&k->dit, k->be, &c, how, &k->err), &k->err);
    CHECK_OK(schedule_init_default(&k->schedule, &k->err), &k->err);
    CHECK_OK(arena_new(&k->work, k->be, 16 << 20, "test", &k->err), &k->err);
    CHECK_OK(train_init(&k->s, k->be, k->dit, &k->schedule, &t, &k->err), &k->err);
    k->s.work = k->work;
    CHECK_OK(arena_tensor(k->work, &k->batch.x0, DT_F32, 5, &k->err, B, F, H, W, C), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->batch.noise, DT_F32, 5, &k->err, B, F, H, W, C), &k->err);
    CHECK_OK(arena_tensor(k->work, &k->batch.text, DT_F32, 3, &k->err, B, S, T), &k->err);
    philox_fill_normal(&rng, 0, host, 8 * F * H * W * C);
    CHECK_OK(backend_put_f32(k->be, &k->batch.x0, host, &k->err), &k->err);
    CHECK_OK(backend_put_f32(k->be, &k->batch.noise, host + 4 * F * H * W * C, &k->err), &k->err);
    philox_fill_normal(&rng, 100000, host, 8 * S * T);
    CHECK_OK(backend_put_f32(k->be, &k->batch.text, host, &k->err), &k->err);
    for (int i = 0; i < 8; i++)
        k->timestep[i] = (i * 311 + 100) % 1000;
    k->batch.timestep = k->timestep;
    mem_free(host);
}

static void case_open_as(Case *k, const char *backend, int64_t threads, int64_t B, Recompute policy, int how)
{
    case_open_with(k, backend, threads, B, policy, how, 2, OPTIMIZER_ADAMW);
}

static void case_open(Case *k, const char *backend, int64_t threads, int64_t B, Recompute policy)
{
    case_open_as(k, backend, threads, B, policy, DIT_TRAIN);
}

static void case_close(Case *k)
{
    train_fini(&k->s);
    arena_free(&k->work);
    schedule_fini(&k->schedule);
    dit_close(&k->dit);
    backend_close(&k->be);
}

static float *weights(Case *k, int64_t *n)
{
    Tensor t = params_flat_values(dit_params(k->dit));
    float *out;

    *n = tensor_count(&t);
    out = mem_calloc(*n, sizeof *out, &k->err);
    CHECK_OK(backend_get_f32(k->be, out, &t, &k->err), &k->err);
    return out;
}

/* Five steps under every policy and thread count: the same bits. */
static void same_bits_as(int how)
{
    static const struct {
        int64_t threads;
        Recompute policy;
    } run[] = {{1, RECOMPUTE_NONE},
               {1, RECOMPUTE_BLOCK},
               {2, RECOMPUTE_BLOCK},
               {2, RECOMPUTE_BLOCK_ATTENTION},
               {3, RECOMPUTE_NONE}};
    float *kept = NULL;
    double kept_loss = 0;

    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        Case k;
        double loss = 0, norm, lr;
        int64_t n;
        float *now;
        case_open_as(&k, "cpu", run[i].threads, 2, run[i].policy, how);
        for (int step = 0; step < 5; step++)
            CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm, &lr, &k.err), &k.err);
        now = weights(&k, &n);
        if (kept) {
            assert_memory_equal(kept, now, sizeof *now * (size_t)n);
            assert_memory_equal(&kept_loss, &loss, sizeof loss);
        }
        mem_free(kept);
        kept = now;
        kept_loss = loss;
        case_close(&k);
    }
    mem_free(kept);
}

static void same_bits(void **state)
{
    (void)state;
    same_bits_as(DIT_TRAIN);
    same_bits_as(DIT_TRAIN | DIT_BF16_GRADS | DIT_BF16_VALUES);
}

/* Two passes of two samples (and uneven ones of three and one) are one pass of four: same loss,
 * norm and gradients, seen through Adam's first moment (a tenth of the clipped gradient). */
static void accumulation_as(int how)
{
    static const int64_t split[3][3] = {{4, 0, 0}, {2, 2, 0}, {3, 1, 0}};
    const int half = how & DIT_BF16_GRADS;
    double whole_loss = 0, whole_norm = 0;
    float *whole = NULL;

    for (int i = 0; i < 3; i++) {
        Case k;
        double loss = 0, norm, lr, off = 0, all = 0;
        int64_t n, first = 0;
        float *now;
        case_open_as(&k, "cpu", 1, 4, RECOMPUTE_NONE, how);
        for (int p = 0; split[i][p]; p++) {
            TrainBatch part = {tensor_rows(&k.batch.x0, first, split[i][p]),
                               tensor_rows(&k.batch.noise, first, split[i][p]),
                               tensor_rows(&k.batch.text, first, split[i][p]), k.timestep + first};
            double one = 0;
            CHECK_OK(train_gradient(&k.s, &part, (double)split[i][p] / 4, &one, &k.err), &k.err);
            loss += one * (double)split[i][p] / 4;
            first += split[i][p];
        }
        CHECK_OK(train_update(&k.s, &norm, &lr, &k.err), &k.err);
        n = tensor_count(&k.s.optimizer.m);
        now = mem_calloc(n, sizeof *now, &k.err);
        CHECK_OK(backend_get_f32(k.be, now, &k.s.optimizer.m, &k.err), &k.err);
        if (i == 0) {
            whole = now;
            whole_loss = loss;
            whole_norm = norm;
        } else {
            check_value("loss", loss, whole_loss, 0, 1e-6); /* float outputs; only the grouping of sums differs */
            check_value("norm", norm, whole_norm, 0, half ? 1e-3 : 1e-5);
            for (int64_t e = 0; e < n; e++) { /* gradients of size 0.01 in sums of a few hundred floats */
                off += pow((double)now[e] - (double)whole[e], 2);
                all += pow((double)whole[e], 2);
                if (!half)
                    check_value("gradient", now[e], whole[e], 1e-7, 1e-4);
            }
            assert_true(sqrt(off / all) < (half ? 0x1p-8 : 1e-6) && (off > 0 || !half));
            mem_free(now);
        }
        case_close(&k);
    }
    mem_free(whole);
}

/* bf16 sums round once a pass, by up to 2^-8 of what is there then, two or three roundings between
 * the two ways: as independent errors, spread evenly, they stay within 2^-8 of the whole gradient
 * (2.4e-3 was measured). */
static void accumulation(void **state)
{
    (void)state;
    accumulation_as(DIT_TRAIN);
    accumulation_as(DIT_TRAIN | DIT_BF16_GRADS);
}

/* One sample, one noise, one timestep: the loss must fall a long way. */
static void learns_one_sample(void **state)
{
    Case k;
    double first = 0, loss = 0, norm, lr;

    (void)state;
    case_open(&k, "cpu", 0, 1, RECOMPUTE_BLOCK);
    for (int step = 0; step < 150; step++) {
        CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm, &lr, &k.err), &k.err);
        if (step == 0)
            first = loss;
    }
    assert_true(loss < 0.2 * first);
    case_close(&k);
}

/* Puts `value` into the first element of a tensor. */
static void spoil(Case *k, const Tensor *t, float value)
{
    Tensor one = tensor_of(t->data, DT_F32, 1, 1);

    CHECK_OK(backend_put_f32(k->be, &one, &value, &k->err), &k->err);
}

/* Not a number: the step is skipped with not one weight or moment touched, the first bad tensor is named,
 * and the next step is the optimiser's second. */
static void not_finite_skipped(void **state)
{
    Case k, other;
    double loss, norm, lr;
    int64_t n;
    float *before, *after, *want, good;
    Tensor x0, w, g;

    (void)state;
    case_open(&k, "cpu", 1, 1, RECOMPUTE_NONE);
    x0 = k.batch.x0;
    CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm, &lr, &k.err), &k.err);
    before = weights(&k, &n);
    good = *(float *)x0.data;
    spoil(&k, &x0, NAN);
    CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm, &lr, &k.err), &k.err);
    assert_true(isnan(loss) && isnan(norm));
    assert_string_equal(k.s.bad, "the latents");
    spoil(&k, &x0, good);
    k.s.bad[0] = 0;
    w = params_find(dit_params(k.dit), "transformer_blocks.1.ff.net.2.weight")->value;
    good = *(float *)w.data;
    spoil(&k, &w, INFINITY);
    CHECK_OK(train_gradient(&k.s, &k.batch, 1, &loss, &k.err), &k.err);
    CHECK_OK(train_update(&k.s, &norm, &lr, &k.err), &k.err);
    assert_string_equal(k.s.bad, "the weight transformer_blocks.1.ff.net.2.weight (block 1)");
    spoil(&k, &w, good);
    k.s.bad[0] = 0;
    CHECK_OK(train_gradient(&k.s, &k.batch, 1, &loss, &k.err), &k.err);
    g = params_find(dit_params(k.dit), "transformer_blocks.0.attn1.to_k.weight")->grad;
    spoil(&k, &g, INFINITY);
    g = params_find(dit_params(k.dit), "transformer_blocks.1.attn1.to_k.weight")->grad;
    spoil(&k, &g, NAN);
    CHECK_OK(train_update(&k.s, &norm, &lr, &k.err), &k.err);
    assert_string_equal(k.s.bad, "the gradient of transformer_blocks.1.attn1.to_k.weight (block 1)");
    after = weights(&k, &n);
    assert_memory_equal(before, after, sizeof *before * (size_t)n);
    assert_int_equal(k.s.step, 4);
    assert_int_equal(k.s.skipped, 3);
    mem_free(after);
    CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm, &lr, &k.err), &k.err);
    after = weights(&k, &n);
    case_open(&other, "cpu", 1, 1, RECOMPUTE_NONE);
    for (int i = 0; i < 2; i++)
        CHECK_OK(train_step(&other.s, &other.batch, &loss, &norm, &lr, &k.err), &k.err);
    want = weights(&other, &n);
    assert_memory_equal(want, after, sizeof *want * (size_t)n);
    mem_free(before);
    mem_free(after);
    mem_free(want);
    case_close(&other);
    case_close(&k);
}

/* Latents so large that attention's scores overflow in a block: the block is named. */
static void bad_block_named(void **state)
{
    Case k;
    double loss, norm, lr;
    Tensor w;

    (void)state;
    case_open(&k, "cpu", 1, 1, RECOMPUTE_BLOCK);
    w = params_find(dit_params(k.dit), "transformer_blocks.0.ff.net.2.bias")->value;
    spoil(&k, &w, 3e38f);
    w = params_find(dit_params(k.dit), "transformer_blocks.0.norm2.linear.bias")->value;
    CHECK_OK(op_fill(k.be, &w, 1e3f, &k.err), &k.err); /* the gate, too: their product overflows */
    CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm, &lr, &k.err), &k.err);
    assert_string_equal(k.s.bad, "the output of block 0 of 2");
    case_close(&k);
}

static void timestep_refused(void **state)
{
    Case k;
    double loss;

    (void)state;
    case_open(&k, "cpu", 1, 2, RECOMPUTE_NONE);
    k.timestep[1] = 1000;
    CHECK_FAILS(train_gradient(&k.s, &k.batch, 1, &loss, &k.err), ERR_USAGE, "timestep 1000", &k.err);
    case_close(&k);
}

/* Clipping scales the gradient to the norm; the printed norm is the one before. */
static void clipping(void **state)
{
    double norm[2], loss, lr;
    int64_t n;
    Tensor m;
    float *host[2];

    (void)state;
    for (int i = 0; i < 2; i++) { /* Adam's first moment after one step is (1 - beta1) * clipped gradient */
        Case k;
        case_open(&k, "cpu", 1, 1, RECOMPUTE_NONE);
        k.s.c.max_grad_norm = i ? 0.01 : 0;
        CHECK_OK(train_step(&k.s, &k.batch, &loss, &norm[i], &lr, &k.err), &k.err);
        m = k.s.optimizer.m;
        n = tensor_count(&m);
        host[i] = mem_calloc(n, sizeof **host, &k.err);
        CHECK_OK(backend_get_f32(k.be, host[i], &m, &k.err), &k.err);
        case_close(&k);
    }
    assert_true(norm[0] == norm[1] && norm[0] > 0.01);
    for (int64_t e = 0; e < n; e++)
        check_value("clipped", host[1][e], host[0][e] * (0.01 / (norm[0] + 1e-6)), 1e-9, 1e-5);
    mem_free(host[0]);
    mem_free(host[1]);
}

enum { CURVE = 400, TAIL = 200 };

/* Mean loss of the last TAIL of CURVE steps on two samples, each step with noise and timesteps of its own
 * that `seed` names; all products have 4096 weights and more. */
static double loss_curve(OptimizerKind kind, uint64_t seed, double *losses)
{
    Case k;
    double norm, lr, mean = 0;
    float *host = mem_calloc(2 * F * H * W * C, sizeof *host, NULL);

    case_open_with(&k, "cpu", 1, 2, RECOMPUTE_NONE, DIT_TRAIN, 4, kind);
    for (int step = 0; step < CURVE; step++) {
        Philox noise = philox_stream(seed, RNG_NOISE, (uint64_t)step, 0), t = philox_stream(seed, RNG_TIMESTEP, 0, 0);
        philox_fill_normal(&noise, 0, host, 2 * F * H * W * C);
        CHECK_OK(backend_put_f32(k.be, &k.batch.noise, host, &k.err), &k.err);
        for (uint64_t i = 0; i < 2; i++)
            k.timestep[i] = (int64_t)philox_below(&t, 2 * (uint64_t)step + i, 1000);
        CHECK_OK(train_step(&k.s, &k.batch, &losses[step], &norm, &lr, &k.err), &k.err);
        mean += step < CURVE - TAIL ? 0 : losses[step] / TAIL;
    }
    mem_free(host);
    case_close(&k);
    return mean;
}

/* With 8-bit moments the loss falls along the same curve: on the same draws it ends nearer to the exact
 * moments' than those do to themselves on other draws. */
static void eight_bits_learn_alike(void **state)
{
    static double exact[CURVE], small[CURVE], other[CURVE];
    double a, b, c, apart = 0;

    (void)state;
    a = loss_curve(OPTIMIZER_ADAMW, 1, exact);
    b = loss_curve(OPTIMIZER_ADAMW_8BIT, 1, small);
    c = loss_curve(OPTIMIZER_ADAMW, 2, other);
    for (int i = CURVE - TAIL; i < CURVE; i++)
        apart += fabs(small[i] - exact[i]) / TAIL;
    print_message(
        "# first loss %.4f; mean of the last %d: exact %.5f, 8 bits %.5f, exact on other draws %.5f; step by step "
        "8 bits are %.2g apart\n",
        exact[0], TAIL, a, b, c, apart);
    assert_true(exact[0] == small[0] && small[CURVE - 1] != exact[CURVE - 1] && a < 0.5 * exact[0]);
    assert_true(fabs(b / a - 1) < 0.02 && fabs(b - a) < fabs(c - a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_bits_learn_alike), cmocka_unit_test(same_bits),
        cmocka_unit_test(accumulation),           cmocka_unit_test(learns_one_sample),
        cmocka_unit_test(not_finite_skipped),     cmocka_unit_test(bad_block_named),
        cmocka_unit_test(timestep_refused),       cmocka_unit_test(clipping),
    };
    return check_run_live("train-step", tests);
}
