/* Cutting a run's log back to a checkpoint, and which changes let a run go on. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "train/identity.h"
#include "train/resume.h"
#include "recipe_keys.h"

static void cut(const char *before, int64_t step, const char *after)
{
    Err err = {0};
    char *path = check_tmp_path("log.jsonl"), *text = NULL;
    int64_t n = 0;

    CHECK_OK(file_write_atomic(path, before, (int64_t)strlen(before), &err), &err);
    CHECK_OK(resume_cut_log(path, step, &err), &err);
    CHECK_OK(file_read(path, 1 << 20, &text, &n, &err), &err);
    assert_string_equal(text, after);
    mem_free(text);
}

static void log_is_cut(void **state)
{
    Err err = {0};

    (void)state;
    CHECK_OK(resume_cut_log(check_tmp_path("absent"), 3, &err), &err);
    cut("", 3, "");
    cut("{\"step\":1}\n{\"step\":2}\n", 2, "{\"step\":1}\n{\"step\":2}\n");
    cut("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n", 2, "{\"step\":1}\n{\"step\":2}\n");
    cut("{\"step\":1}\n{\"step\":2}\n", 0, "");
    cut("{\"step\":1}\n{\"step\":2,\"lo", 9, "{\"step\":1}\n"); /* torn by a kill */
    cut("{\"step\":1}\n{\"step\":2}", 9, "{\"step\":1}\n");     /* whole, but its newline never came */
    cut("{\"step\":1}\nrubbish\n{\"step\":2}\n", 9, "{\"step\":1}\n");
    cut("[1]\n", 9, "");
}

static Schedule schedule;
static const char pipeline[] = "tests/golden/pipeline/model";
static char warnings[4096];

static void remember(void *user, LogLevel level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(warnings + strlen(warnings), sizeof warnings - strlen(warnings), "%s\n", text);
}

/* A job of the demo recipe with `set` on top. */
static Job job_with(const char *set, const char *base, char digest)
{
    static Dataset data[4];
    static Backend be = {.name = "cpu"};
    static int next;
    CommonOptions common = {.preset = "demo", .seed = -1, .set = {&set, set ? 1 : 0}};
    Dataset *d = &data[next++ % 4];
    Job j = {
        .base = base, .start = base, .be = &be, .data = d, .steps = 100, .batch = 1, .accumulate = 1, .epoch_steps = 7};
    Err err = {0};

    memset(d->digest, digest, 64);
    d->n = 7;
    j.log.log = (Log){.write = remember, .level = LOG_WARN};
    CHECK_OK(recipe_open(&j.recipe, &common, &err), &err);
    CHECK_OK(identity_make(&j.identity, &schedule, check_repo_path(pipeline), NULL, NULL, NULL, &err), &err);
    return j;
}

static void job_done(Job *j)
{
    recipe_close(&j->recipe);
    json_decref(j->identity);
}

/* Going on, from the demo recipe's state after `step`, with `after`. */
static int go_on_with(Job *after, int64_t step, Err *err)
{
    Job before = job_with(NULL, "base", 'a');
    json_t *state = NULL;
    int rc;

    CHECK_OK(resume_state_json(&before, step, 0, &state, err), err);
    CHECK_OK(schema_check("train-state", state, "state", err), err);
    warnings[0] = 0;
    rc = resume_check(after, state, step, err);
    json_decref(state);
    job_done(&before);
    return rc;
}

static int go_on(const char *set, const char *base, char digest, int64_t step, Err *err)
{
    Job after = job_with(set, base, digest);
    int rc = go_on_with(&after, step, err);

    job_done(&after);
    return rc;
}

/* 1 with the key of "training.KEY=VALUE". */
static int training_key(const char *set, char key[48])
{
    return set && sscanf(set, "training.%47[^=]", key) == 1;
}

static void changes(void **state)
{
    static const char *const harmless[] = {NULL,
                                           "training.num_epochs=200",
                                           "training.max_steps=900",
                                           "training.checkpointing_steps=1",
                                           "training.checkpoints_total_limit=3",
                                           "training.log_every=7",
                                           "training.gradient_checkpointing=true",
                                           "training.recompute=block+attention",
                                           "training.base_model=elsewhere",
                                           "training.pretrained_weights=elsewhere",
                                           "training.lora_weights=elsewhere",
                                           "training.max_nonfinite=9",
                                           "training.max_loss_ratio=3",
                                           "sampling.guidance_scale=3"};
    static const char *const refused[] = {"training.batch_size=3",
                                          "training.gradient_accumulation_steps=2",
                                          "training.learning_rate=0.5",
                                          "training.lr_scheduler=constant",
                                          "training.warmup_steps=1",
                                          "training.optimizer=sgd",
                                          "training.sgd_momentum=0.5",
                                          "training.use_8bit_adam=true",
                                          "training.lr_num_cycles=2",
                                          "training.lr_power=2",
                                          "training.weight_decay=0.5",
                                          "training.adam_beta1=0.5",
                                          "training.adam_beta2=0.5",
                                          "training.adam_epsilon=0.5",
                                          "training.max_grad_norm=0.5",
                                          "training.gradient_dtype=bf16",
                                          "training.master_weights=false",
                                          "training.lora_rank=4",
                                          "training.lora_alpha=2",
                                          "training.lora_target_modules=[\"to_q\"]",
                                          "training.mixed_precision=bf16",
                                          "training.deterministic_reduction=true",
                                          "training.ema=true",
                                          "training.ema_decay=0.5",
                                          "training.ema_start=3",
                                          "training.caption_dropout=0.5",
                                          "training.timestep_sampling=logit_normal",
                                          "training.logit_mean=1",
                                          "training.logit_std=2",
                                          "training.category_weights={\"dress\": 2}",
                                          "seed=77"};
    static char names[64][48];
    const char *name[64];
    size_t n = 0;
    Err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        n += training_key(harmless[i], names[n]);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        n += training_key(refused[i], names[n]);
    for (size_t i = 0; i < n; i++)
        name[i] = names[i];
    recipe_keys_covered("training", "harmless and refused", name, n);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        CHECK_OK(go_on(harmless[i], "base", 'a', 10, &err), &err);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char key[64];
        snprintf(key, sizeof key, "%.*s was", (int)strcspn(refused[i], "="), refused[i]);
        CHECK_FAILS(go_on(refused[i], "base", 'a', 10, &err), ERR_USAGE, key, &err);
    }
    CHECK_OK(go_on(NULL, "elsewhere", 'a', 10, &err), &err); /* the same bytes under another path */
    CHECK_FAILS(go_on(NULL, "base", 'b', 10, &err), ERR_USAGE,
                "the clips to train on (caches, --limit), their latents or texts are others", &err);
    CHECK_FAILS(go_on(NULL, "base", 'a', 101, &err), ERR_USAGE, "ends at step 100", &err);
}

/* An adapter to start from is part of the identity; where it lies is not. */
static void adapters(void **state)
{
    Err err = {0};
    Job after = job_with("training.lora_weights=elsewhere", "base", 'a');
    char hex[65];

    (void)state;
    CHECK_OK(lora_digest(check_repo_path("tests/golden/lora"), hex, &err), &err);
    json_object_set_new(after.identity, "lora_sha256", json_string(hex));
    CHECK_FAILS(go_on_with(&after, 10, &err), ERR_USAGE, "the adapter that training starts from is another one", &err);
    job_done(&after);
}

/* The same run but for one value of its identity. */
static int go_on_but(const char *part, const char *key, json_t *value, Err *err)
{
    Job after = job_with(NULL, "base", 'a');
    json_t *in = part ? json_object_get(after.identity, part) : after.identity;
    int rc;

    assert_non_null(json_object_get(in, key));
    json_object_set_new(in, key, value);
    rc = go_on_with(&after, 10, err);
    job_done(&after);
    return rc;
}

static void identities(void **state)
{
    Err err = {0};
    Schedule other;
    Job j = job_with(NULL, "base", 'a');
    json_t *alpha;

    (void)state;
    CHECK_OK(go_on_with(&j, 10, &err), &err);
    assert_string_equal(warnings, "");
    /* snr_shift_scale 1 for 3, as a folder of another model has it */
    CHECK_OK(schedule_init_file(&other, check_repo_path("tests/golden/pipeline/model/scheduler"), &err), &err);
    for (int64_t t = 0; t < other.n_train; t++)
        other.alpha_bar[t] = 3 * other.alpha_bar[t] / (1 + 2 * other.alpha_bar[t]);
    json_decref(j.identity);
    CHECK_OK(identity_make(&j.identity, &other, check_repo_path(pipeline), NULL, NULL, NULL, &err), &err);
    CHECK_FAILS(go_on_with(&j, 10, &err), ERR_USAGE, "the base model's noise schedule is another one", &err);
    schedule_fini(&other);
    job_done(&j);
    /* another machine's last bits are the same schedule */
    j = job_with(NULL, "base", 'a');
    alpha = json_object_get(json_object_get(j.identity, "noise_schedule"), "alpha_bar");
    json_array_set_new(alpha, 4, json_real(json_number_value(json_array_get(alpha, 4)) * (1 + 1e-15)));
    CHECK_OK(go_on_with(&j, 10, &err), &err);
    job_done(&j);
    CHECK_FAILS(go_on_but("noise_schedule", "n_train", json_integer(500), &err), ERR_USAGE,
                "the noise schedule had 1000 timesteps and has 500", &err);
    CHECK_FAILS(go_on_but("transformer", "weights_sha256", json_string("0123456789abcdef"), &err), ERR_USAGE,
                "has other weights", &err);
    CHECK_FAILS(go_on_but("transformer", "config", json_object(), &err), ERR_USAGE, "the config of the transformer",
                &err);
    CHECK_FAILS(go_on_but(NULL, "numerics", json_integer(7), &err), ERR_USAGE, "computes other numbers (revision 7",
                &err);
}

/* A schedule that ends with the run cannot be made longer half-way; one that does not, can. */
static void lengths(void **state)
{
    static const char *const set[] = {"training.lr_scheduler=cosine", "training.lr_scheduler=constant"};
    Err err = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        Job before = job_with(set[i], "base", 'a'), after = job_with(set[i], "base", 'a');
        json_t *s = NULL;
        before.c.rate.kind = after.c.rate.kind = i == 0 ? RATE_COSINE : RATE_CONSTANT;
        CHECK_OK(resume_state_json(&before, 10, 0, &s, &err), &err);
        CHECK_OK(resume_check(&after, s, 10, &err), &err);
        after.steps = 120;
        if (i == 0)
            CHECK_FAILS(resume_check(&after, s, 10, &err), ERR_USAGE, "which were 100 and are 120", &err);
        else
            CHECK_OK(resume_check(&after, s, 10, &err), &err);
        json_decref(s);
        job_done(&before);
        job_done(&after);
    }
}

/* A checkpoint whose recipe lacks a key, because an earlier version wrote it, was made with the
 * preset's value. */
static void newer_keys(void **state)
{
    static const char *const set[] = {NULL, "training.adam_beta1=0.5"};
    Err err = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        Job j = job_with(set[i], "base", 'a');
        json_t *shared = NULL, *s; /* the state shares the job's recipe */
        CHECK_OK(resume_state_json(&j, 10, 0, &shared, &err), &err);
        s = json_deep_copy(shared);
        json_decref(shared);
        json_object_del(json_object_get(json_object_get(s, "recipe"), "training"), "adam_beta1");
        if (i == 0)
            CHECK_OK(resume_check(&j, s, 10, &err), &err);
        else
            CHECK_FAILS(resume_check(&j, s, 10, &err), ERR_USAGE, "training.adam_beta1 was 0.9 and is 0.5", &err);
        json_decref(s);
        job_done(&j);
    }
}

/* Another build or device goes on, with a warning that says what differs. */
static void builds(void **state)
{
    Err err = {0};
    Job j = job_with(NULL, "base", 'a');
    Backend sim = {.name = "sim"};
    json_t *s = NULL;

    (void)state;
    CHECK_OK(resume_state_json(&j, 10, 1, &s, &err), &err);
    CHECK_OK(schema_check("train-state", s, "state", &err), &err);
    assert_true(json_is_true(json_object_get(s, "interim")));
    json_object_set_new(json_object_get(s, "build"), "compiler", json_string("gcc 1.0"));
    warnings[0] = 0;
    CHECK_OK(resume_check(&j, s, 10, &err), &err);
    assert_non_null(strstr(warnings, "checkpoint-10 was computed by another build (compiler 'gcc 1.0' before, "));
    assert_non_null(strstr(warnings, "results can differ in the last bits"));
    assert_null(strstr(warnings, "processor"));
    json_object_del(s, "identity");
    json_object_del(s, "build");
    j.be = &sim;
    warnings[0] = 0;
    CHECK_OK(resume_check(&j, s, 10, &err), &err);
    assert_non_null(strstr(warnings, "was written by version 0.1"));
    assert_non_null(strstr(warnings, "computed on cpu, this run on sim"));
    json_decref(s);
    CHECK_OK(resume_run_json(&j, 5, &s, &err), &err);
    assert_true(json_string_length(json_object_get(json_object_get(s, "build"), "compiler")) > 3);
    assert_true(json_string_length(json_object_get(json_object_get(s, "build"), "version")) > 3);
    json_decref(s);
    job_done(&j);
}

/* Where a state says it stands: the next step's epoch and the samples of it already seen. */
static void position(void **state)
{
    Job j = job_with(NULL, "base", 'a');
    Err err = {0};
    json_t *s = NULL;

    (void)state;
    j.batch = 2;
    j.accumulate = 2;
    j.epoch_steps = 2; /* seven samples: four and three */
    CHECK_OK(resume_state_json(&j, 5, 0, &s, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(s, "epoch")), 2);
    assert_int_equal(json_integer_value(json_object_get(s, "position")), 4);
    json_decref(s);
    CHECK_OK(resume_state_json(&j, 6, 0, &s, &err), &err);
    assert_int_equal(json_integer_value(json_object_get(s, "epoch")), 3);
    assert_int_equal(json_integer_value(json_object_get(s, "position")), 0);
    json_decref(s);
    job_done(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(log_is_cut), cmocka_unit_test(changes),
                                       cmocka_unit_test(adapters),   cmocka_unit_test(identities),
                                       cmocka_unit_test(builds),     cmocka_unit_test(lengths),
                                       cmocka_unit_test(newer_keys), cmocka_unit_test(position)};
    Err err = {0};
    int failed;

    if (schedule_init_default(&schedule, &err) < 0)
        return 1;
    failed = check_run_live("train-resume", tests);
    schedule_fini(&schedule);
    return failed;
}
