/* Cutting a run's log back to a checkpoint, and which changes let a run go on. */
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "train/resume.h"

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
    CHECK_OK(recipe_open(&j.recipe, &common, &err), &err);
    return j;
}

static int go_on(const char *set, const char *base, char digest, int64_t step, Err *err)
{
    Job before = job_with(NULL, "base", 'a'), after = job_with(set, base, digest);
    json_t *state = resume_state_json(&before, step, err);
    int rc;

    assert_non_null(state);
    CHECK_OK(schema_check("train-state", state, "state", err), err);
    rc = resume_check(&after, state, step, err);
    json_decref(state);
    recipe_close(&before.recipe);
    recipe_close(&after.recipe);
    return rc;
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
                                           "sampling.guidance_scale=3"};
    static const char *const refused[] = {"training.batch_size=3",
                                          "training.gradient_accumulation_steps=2",
                                          "training.learning_rate=0.5",
                                          "training.lr_scheduler=constant",
                                          "training.warmup_steps=1",
                                          "training.weight_decay=0.5",
                                          "training.adam_beta1=0.5",
                                          "training.adam_beta2=0.5",
                                          "training.adam_epsilon=0.5",
                                          "training.max_grad_norm=0.5",
                                          "training.gradient_dtype=bf16",
                                          "training.master_weights=false",
                                          "seed=77"};
    Err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        CHECK_OK(go_on(harmless[i], "base", 'a', 10, &err), &err);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char key[64];
        snprintf(key, sizeof key, "%.*s was", (int)strcspn(refused[i], "="), refused[i]);
        CHECK_FAILS(go_on(refused[i], "base", 'a', 10, &err), ERR_USAGE, key, &err);
    }
    CHECK_FAILS(go_on(NULL, "elsewhere", 'a', 10, &err), ERR_USAGE, "base_model was \"base\" and is \"elsewhere\"",
                &err);
    CHECK_FAILS(go_on(NULL, "base", 'b', 10, &err), ERR_USAGE, "the cache holds other clips", &err);
    CHECK_FAILS(go_on(NULL, "base", 'a', 101, &err), ERR_USAGE, "stops at step 100", &err);
}

/* Where a state says it stands: the next step's epoch and the samples of it already seen. */
static void position(void **state)
{
    Job j = job_with(NULL, "base", 'a');
    Err err = {0};
    json_t *s;

    (void)state;
    j.batch = 2;
    j.accumulate = 2;
    j.epoch_steps = 2; /* seven samples: four and three */
    s = resume_state_json(&j, 5, &err);
    assert_int_equal(json_integer_value(json_object_get(s, "epoch")), 2);
    assert_int_equal(json_integer_value(json_object_get(s, "position")), 4);
    json_decref(s);
    s = resume_state_json(&j, 6, &err);
    assert_int_equal(json_integer_value(json_object_get(s, "epoch")), 3);
    assert_int_equal(json_integer_value(json_object_get(s, "position")), 0);
    json_decref(s);
    recipe_close(&j.recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(log_is_cut), cmocka_unit_test(changes),
                                       cmocka_unit_test(position)};
    return check_run("train-resume", tests);
}
