/* The held-out loss of `weft-train run` against torch, diffusers and scipy.
 *
 * tests/golden/make_held_out.py chose the clips and timesteps again from the text of train/heldout.h,
 * measured them with diffusers before, during and after six steps of torch, and let scipy make the
 * intervals.  Here the trainer does the same; its lines are read from held_out.jsonl. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/bootstrap.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "tests/train_fixture.h"
#include "train/run.h"

static Err err;
static json_t *facts;

static int train(const char *out, const char *const *more, int64_t n_more)
{
    const char *sets[20] = {"training.num_epochs=100",
                            "training.checkpointing_steps=4",
                            "training.batch_size=2",
                            "training.learning_rate=2e-3",
                            "training.lr_scheduler=constant",
                            "training.adam_beta1=0.9",
                            "training.adam_beta2=0.95",
                            "training.weight_decay=1e-4",
                            "validation.clips=3",
                            "validation.timesteps=7",
                            "validation.every=4",
                            "training.ema=true",
                            "training.ema_decay=0.8",
                            "training.ema_start=1",
                            "training.max_steps=6"};
    const char *dirs[] = {check_tmp_path("caches/held"), check_tmp_path("caches/a")};
    TrainOptions o = {.common = {.preset = "demo", .device = "cpu", .jobs = 1, .quiet = 1, .seed = 77},
                      .out = out,
                      .cache = {dirs, 2},
                      .model = check_repo_path("tests/golden/pipeline/model")};
    Job j = {0};
    int rc;

    for (int64_t i = 0; i < n_more; i++)
        sets[15 + i] = more[i];
    o.common.set = (StrList){sets, 15 + n_more};
    rc = job_open(&j, &o, &err);
    if (rc == 0)
        rc = train_run(&j, out, &err);
    job_close(&j);
    return rc;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static int collect(void *user, const char *text, int64_t size, const char *where, Err *e)
{
    json_t *line = NULL;
    int rc = json_parse(&line, text, size, where, e);

    if (rc == 0) {
        json_object_del(line, "time");
        json_array_append_new(user, line);
    }
    return rc;
}

/* All lines without their times; json_decref. */
static json_t *lines_of(const char *out)
{
    char *path = path_join(out, "held_out.jsonl", &err);
    json_t *lines = json_array();

    CHECK_OK(lines_read(path, RECORD_BYTES_MAX, collect, lines, &err), &err);
    mem_free(path);
    return lines;
}

static void near(const char *what, int64_t step, const json_t *got, const json_t *want)
{
    char name[96];

    snprintf(name, sizeof name, "%s after step %d", what, (int)step);
    assert_true(json_is_number(got) && json_is_number(want));
    check_value(name, json_number_value(got), json_number_value(want), 0, 1e-4); /* the design's bound for a run */
}

/* Mean and interval of the change since step 0: a difference of two losses, within their bound. */
static void near_change(const json_t *got, const json_t *want)
{
    static const char *const part[] = {"mean", "low", "high"};

    for (int k = 0; k < 3; k++) {
        double x = json_number_value(json_object_get(json_object_get(got, "change"), part[k]));
        check_value(part[k], x, json_number_value(json_object_get(json_object_get(want, "change"), part[k])), 3e-4, 0);
    }
}

static void as_recorded(void **state)
{
    json_t *lines, *want;
    size_t i;

    (void)state;
    CHECK_OK(train(check_tmp_path("whole"), NULL, 0), &err);
    lines = lines_of(check_tmp_path("whole"));
    assert_int_equal(json_array_size(lines), 3);
    json_array_foreach (json_object_get(facts, "lines"), i, want) {
        const json_t *got = json_array_get(lines, i), *losses = json_object_get(want, "losses");
        const json_t *ema = json_object_get(got, "ema"), *averaged = json_object_get(want, "ema");
        int64_t step = json_integer_value(json_object_get(want, "step"));
        assert_int_equal(json_integer_value(json_object_get(got, "step")), step);
        assert_true(json_equal(json_object_get(got, "clips"), json_object_get(facts, "chosen")));
        assert_true(json_equal(json_object_get(got, "timesteps"), json_object_get(facts, "drawn")));
        near("the loss", step, json_object_get(got, "loss"), json_object_get(want, "loss"));
        for (size_t c = 0; c < json_array_size(losses); c++)
            for (size_t k = 0; k < 7; k++)
                near("an item", step, json_array_get(json_array_get(json_object_get(got, "losses"), c), k),
                     json_array_get(json_array_get(losses, c), k));
        assert_true(!json_object_get(got, "change") == !step);
        assert_true(!ema == !step);
        if (step == 0)
            continue;
        near_change(got, want);
        near("the averaged weights' loss", step, json_object_get(ema, "loss"), json_object_get(averaged, "loss"));
        near_change(ema, averaged);
    }
    json_decref(lines);
}

/* Mean of the timesteps of each tenth, from the items of the same line. */
static void deciles_are_of_their_timesteps(void **state)
{
    json_t *lines = lines_of(check_tmp_path("whole"));
    const json_t *line = json_array_get(lines, 0), *times = json_object_get(line, "timesteps");

    (void)state;
    for (int d = 0; d < 10; d++) {
        const json_t *got = json_array_get(json_object_get(line, "deciles"), (size_t)d);
        double sum = 0;
        int n = 0;
        for (size_t i = 0; i < 21; i++)
            if (json_integer_value(json_array_get(json_array_get(times, i / 7), i % 7)) / 100 == d) {
                sum += json_number_value(json_array_get(json_array_get(json_object_get(line, "losses"), i / 7), i % 7));
                n++;
            }
        if (n)
            check_value("a decile", json_number_value(got), sum / n, 1e-12, 0);
        else
            assert_true(json_is_null(got));
    }
    json_decref(lines);
}

/* Stopped at step 4, with and without the line of step 4: the same lines as at once. */
static void a_resume_measures_what_is_missing(void **state)
{
    const char *four = "training.max_steps=4", *out = check_tmp_path("resumed");
    char *path = path_join(out, "held_out.jsonl", &err), *text = NULL;
    json_t *whole = lines_of(check_tmp_path("whole")), *resumed;
    int64_t size;

    (void)state;
    CHECK_OK(train(out, &four, 1), &err);
    CHECK_OK(file_read(path, 1 << 20, &text, &size, &err), &err);
    CHECK_OK(file_write_atomic(path, text, strchr(text, '\n') + 1 - text, &err),
             &err); /* killed before it was written */
    CHECK_OK(train(out, NULL, 0), &err);
    resumed = lines_of(out);
    assert_true(json_equal(whole, resumed));
    json_decref(resumed);
    json_decref(whole);
    mem_free(text);
    mem_free(path);
}

static void refusals_and_none(void **state)
{
    const char *other = "validation.clips=2", *none = "validation.clips=0", *ends[] = {"validation.every=null"};
    json_t *lines;
    char *path;

    (void)state;
    CHECK_FAILS(train(check_tmp_path("whole"), &other, 1), ERR_USAGE, "measured on other clips or timesteps", &err);
    CHECK_OK(train(check_tmp_path("none"), &none, 1), &err);
    path = path_join(check_tmp_path("none"), "held_out.jsonl", &err);
    assert_false(file_exists(path));
    mem_free(path);
    CHECK_OK(train(check_tmp_path("ends"), ends, 1), &err);
    lines = lines_of(check_tmp_path("ends"));
    assert_int_equal(json_array_size(lines), 2);
    json_decref(lines);
}

/* scipy.stats.bootstrap of five numbers, from the same resamples. */
static void interval_is_scipys(void **state)
{
    const json_t *b = json_object_get(facts, "bootstrap"), *want = json_object_get(b, "interval");
    double x[5], low, high;

    (void)state;
    for (size_t i = 0; i < 5; i++)
        x[i] = json_number_value(json_array_get(json_object_get(b, "x"), i));
    CHECK_OK(bootstrap_mean(x, 5, 77, &low, &high, &err), &err);
    check_value("low", low, json_number_value(json_array_get(want, 0)), 1e-15, 0);
    check_value("high", high, json_number_value(json_array_get(want, 1)), 1e-15, 0);
    CHECK_FAILS(bootstrap_mean(x, 1, 77, &low, &high, &err), ERR_USAGE, "at least 2", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interval_is_scipys),
        cmocka_unit_test(as_recorded),
        cmocka_unit_test(deciles_are_of_their_timesteps),
        cmocka_unit_test(a_resume_measures_what_is_missing),
        cmocka_unit_test(refusals_and_none),
    };
    int failed;

    if (fixture_make(check_repo_path("tests/golden/pipeline/model"), check_tmp_path("caches"), &err) < 0 ||
        json_read_file(&facts, check_repo_path("tests/golden/held_out.json"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = check_run("held-out", tests);
    json_decref(facts);
    return failed;
}
