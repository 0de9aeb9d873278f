/* Twenty AdamW steps of the tiny pipeline against the same twenty taken with diffusers and torch
 * (tests/golden/make_pipeline.py):
 * same weights, noise and timesteps; warm-up over 4 steps, clipping at 1. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/latents.h"
#include "train/step.h"

enum { B = 2, F = 3, C = 4, H = 6, W = 4, S = 226, T = 32, N = B * F * C * H * W, STEPS = 20 };

typedef struct Facts {
    double loss[STEPS], norm[STEPS];
    int64_t timestep[2 * STEPS];
} Facts;

static Facts read_facts(void)
{
    Err err = {0};
    Facts f;
    json_t *o = NULL, *t;

    CHECK_OK(json_read_file(&o, check_repo_path("tests/golden/pipeline/facts.json"), &err), &err);
    t = json_object_get(o, "training");
    for (size_t k = 0; k < STEPS; k++) {
        f.loss[k] = json_number_value(json_array_get(json_object_get(t, "losses"), k));
        f.norm[k] = json_number_value(json_array_get(json_object_get(t, "grad_norms"), k));
    }
    for (size_t k = 0; k < 2 * STEPS; k++)
        f.timestep[k] = json_integer_value(json_array_get(json_object_get(t, "timesteps"), k));
    json_decref(o);
    return f;
}

static void put_latents(Backend *be, const Tensor *t, uint32_t seed, Err *err)
{
    static float torch[N], ours[N];

    filler_input(seed, torch, N);
    latents_from_torch(ours, torch, B * F, C, H, W);
    CHECK_OK(backend_put_f32(be, t, ours, err), err);
}

static void twenty_steps(const char *backend, Recompute policy)
{
    static float text[B * S * T];
    TrainConfig config = {.rate = {.kind = RATE_CONSTANT_WITH_WARMUP, .peak = 1e-3, .warmup = 4},
                          .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 1e-4},
                          .max_grad_norm = 1.0,
                          .policy = policy};
    Facts f = read_facts();
    Err err = {0};
    Backend *be = NULL;
    Dit *dit = NULL;
    Arena *work = NULL;
    Schedule schedule;
    TrainState s;
    TrainBatch batch;

    CHECK_OK(backend_open(&be, backend, 0, NULL, &err), &err);
    CHECK_OK(dit_open(&dit, be, check_repo_path("tests/golden/pipeline/model/transformer"), DIT_TRAIN, &err), &err);
    CHECK_OK(schedule_init_file(&schedule, check_repo_path("tests/golden/pipeline/model/scheduler"), &err), &err);
    CHECK_OK(arena_new(&work, be, 64 << 20, "test", &err), &err);
    CHECK_OK(train_init(&s, be, dit, &schedule, &config, &err), &err);
    s.work = work;
    CHECK_OK(arena_tensor(work, &batch.x0, DT_F32, 5, &err, B, F, H, W, C), &err);
    CHECK_OK(arena_tensor(work, &batch.noise, DT_F32, 5, &err, B, F, H, W, C), &err);
    CHECK_OK(arena_tensor(work, &batch.text, DT_F32, 3, &err, B, S, T), &err);
    put_latents(be, &batch.x0, 800001, &err);
    filler_input(800002, text, B * S * T);
    CHECK_OK(backend_put_f32(be, &batch.text, text, &err), &err);
    for (int k = 0; k < STEPS; k++) {
        double loss, norm, lr;
        put_latents(be, &batch.noise, 810000 + (uint32_t)k, &err);
        batch.timestep = f.timestep + 2 * k;
        CHECK_OK(train_step(&s, &batch, &loss, &norm, &lr, &err), &err);
        check_value("learning rate", lr, 1e-3 * fmin(1.0, k / 4.0), 0, 1e-15);
        check_value("loss", loss, f.loss[k], 0, 1e-4); /* the design's bound for a whole run */
        check_value("gradient norm", norm, f.norm[k], 0, 1e-4);
    }
    assert_int_equal(s.step, STEPS);
    train_fini(&s);
    arena_free(&work);
    schedule_fini(&schedule);
    dit_close(&dit);
    backend_close(&be);
}

static void cpu_keeping_all(void **state)
{
    (void)state;
    twenty_steps("cpu", RECOMPUTE_NONE);
}
static void cpu_recomputing(void **state)
{
    (void)state;
    twenty_steps("cpu", RECOMPUTE_BLOCK);
}
static void ref_keeping_attention(void **state)
{
    (void)state;
    twenty_steps("ref", RECOMPUTE_BLOCK_ATTENTION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cpu_keeping_all), cmocka_unit_test(cpu_recomputing),
                                       cmocka_unit_test(ref_keeping_attention)};
    return check_run("train-steps", tests);
}
