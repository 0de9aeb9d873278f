/* For tests of `weft-train run` against a run that torch and diffusers made of the same cache
 * (tests/golden/make_train_run.py, make_lora.py): running it, and comparing its log. */
#ifndef WEFT_TESTS_GOLDEN_RECORDED_RUN_H
#define WEFT_TESTS_GOLDEN_RECORDED_RUN_H
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "tests/train_fixture.h"
#include "train/run.h"

static Err err;
static json_t *facts; /* the recorded runs */
static const char *recorded_model = "tests/golden/pipeline/model", *recorded_caches = "caches";

/* Runs weft-train as the recorded run says; `more` (or NULL) is one more --set. */
static void train(const json_t *run, const char *more, const char *out)
{
    const char *sets[20] = {"training.max_steps=20", "training.num_epochs=100", "training.checkpointing_steps=20"};
    const char *dirs[4];
    const json_t *set = json_object_get(run, "set"), *caches = json_object_get(run, "caches");
    StrList set_list = {sets, 3 + (int64_t)json_array_size(set) + (more != NULL)},
            cache_list = {dirs, (int64_t)json_array_size(caches)};
    TrainOptions o = {.common = {.preset = "demo", .device = "cpu", .jobs = 1, .quiet = 1}, .out = out};
    Job j = {0};

    assert_true(set_list.n <= 20 && cache_list.n <= 4);
    if (more)
        sets[set_list.n - 1] = more;
    for (int64_t i = 3; i < set_list.n - (more != NULL); i++)
        sets[i] = json_string_value(json_array_get(set, (size_t)i - 3));
    for (int64_t i = 0; i < cache_list.n; i++) {
        char below[64];
        snprintf(below, sizeof below, "%s/%s", recorded_caches, json_string_value(json_array_get(caches, (size_t)i)));
        dirs[i] = check_tmp_path(below);
    }
    o.common.set = set_list;
    o.common.seed = json_integer_value(json_object_get(run, "seed"));
    o.cache = cache_list;
    o.model = check_repo_path(recorded_model);
    CHECK_OK(job_open(&j, &o, &err), &err);
    CHECK_OK(train_run(&j, out, &err), &err);
    job_close(&j);
}

/* ---- what was logged ------------------------------------------------------------------------- */

static double recorded_number(const json_t *run, const char *list, int64_t step)
{
    const json_t *v = json_array_get(json_object_get(run, list), (size_t)step);

    assert_true(json_is_number(v));
    return json_number_value(v);
}

static void compare(const char *name, const json_t *run, const char *list, int64_t step, const json_t *line,
                    const char *key)
{
    char what[96];
    double got = json_number_value(json_object_get(line, key));

    snprintf(what, sizeof what, "%s: %s of step %d", name, key, (int)step + 1);
    check_value(what, got, recorded_number(run, list, step), 0, 1e-4); /* the design's bound for a whole run */
}

static void compare_log(const char *name, const json_t *run, const char *out)
{
    char *path = path_join(out, "log.jsonl", &err), *text = NULL;
    int64_t size = 0, step = 0;

    CHECK_OK(file_read(path, 1 << 20, &text, &size, &err), &err);
    for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, step++) {
        json_t *line = NULL;
        CHECK_OK(json_parse(&line, at, end - at, "log.jsonl", &err), &err);
        assert_int_equal(json_integer_value(json_object_get(line, "step")), step + 1);
        compare(name, run, "samples", step, line, "samples");
        compare(name, run, "rates", step, line, "lr");
        compare(name, run, "losses", step, line, "loss");
        compare(name, run, "grad_norms", step, line, "grad_norm");
        json_decref(line);
    }
    assert_int_equal(step, json_integer_value(json_object_get(facts, "steps")));
    mem_free(text);
    mem_free(path);
}

/* The recorded run of that name. */
static const json_t *recorded_run(const char *name)
{
    const json_t *run;
    size_t i;

    json_array_foreach (json_object_get(facts, "runs"), i, run)
        if (!strcmp(json_string_value(json_object_get(run, "name")), name))
            return run;
    fail_msg("there is no recorded run '%s'", name);
    return NULL;
}
#endif
