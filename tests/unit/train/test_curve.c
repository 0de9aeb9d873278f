/* What a run shows of itself: smoothing that a resume goes on with, pace, and event files that may fail. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/ops/card.h"
#include "train/curve.h"

static Err err;
static int warnings;
static char said[1024]; /* the latest line */

static void count_warnings(void *user, LogLevel level, const char *text)
{
    (void)user;
    snprintf(said, sizeof said, "%s", text);
    warnings += level == LOG_WARN;
}

static Dataset data = {.F = 3, .h = 6, .w = 4, .C = 4};
static Backend be = {.name = "cpu"};

static Job job(void)
{
    Job j = {.be = &be, .data = &data, .steps = 100};

    j.dit = (DitConfig){.heads = 2, .head_dim = 16, .layers = 2, .patch = 2, .text_len = 226};
    j.log.log = (Log){.write = count_warnings, .level = LOG_WARN};
    return j;
}

/* A line of the log as run.c writes it. */
static json_t *line_of(Curve *c, int64_t step, double loss)
{
    JsonWriter w;
    json_t *line = NULL;

    jsonw_begin(&w);
    jsonw_int(&w, "step", step);
    jsonw_int(&w, "epoch", 0);
    jsonw_num(&w, "loss", loss);
    curve_smoothed(c, &w, loss);
    jsonw_num(&w, "lr", 1e-3);
    jsonw_num(&w, "grad_norm", 1.5);
    jsonw_int(&w, "samples", 2);
    jsonw_open(&w, "time");
    jsonw_num(&w, "data", 0.5);
    jsonw_num(&w, "forward", 0.5);
    jsonw_num(&w, "backward", 0.5);
    jsonw_num(&w, "optimizer", 0.5);
    curve_pace(c, &w, step, 2, 2.0, 0.5);
    jsonw_close(&w);
    CHECK_OK(jsonw_finish(&w, &line, "a line", &err), &err);
    CHECK_OK(schema_check("train-log", line, "a line", &err), &err);
    return line;
}

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    assert_true(json_is_number(v));
    return json_number_value(v);
}

static const double loss[] = {4.0, 1.0, 3.0, 0.5};

/* sum of loss[i] * 0.95^(n-1-i) over sum of 0.95^(n-1-i) */
static double expected(int n)
{
    double sum = 0, weight = 0;

    for (int i = 0; i < n; i++) {
        sum = 0.95 * sum + loss[i];
        weight = 0.95 * weight + 1;
    }
    return sum / weight;
}

static void smoothing_goes_on(void **state)
{
    const char *run = check_tmp_path("run");
    char *path = path_join(run, "log.jsonl", &err);
    Job j = job();

    (void)state;
    CHECK_OK(dir_make(run, &err), &err);
    for (int i = 0; i < 4; i++) { /* each step in a process of its own */
        Curve *c = NULL;
        json_t *line;
        FILE *f = fopen(path, "a");
        CHECK_OK(curve_open(&c, &j, run, i, &err), &err);
        line = line_of(c, i + 1, loss[i]);
        check_value("loss_smoothed", number(line, "loss_smoothed"), expected(i + 1), 1e-14, 0);
        curve_step(c, line, NULL);
        CHECK_OK(json_write_line(line, f, &err), &err);
        assert_int_equal(fclose(f), 0);
        json_decref(line);
        curve_close(&c);
    }
    mem_free(path);
}

static void losses_as_people_read_them(void **state)
{
    char text[32];

    (void)state;
    assert_string_equal(curve_loss(0.98765, text), "0.9877");
    assert_string_equal(curve_loss(0.00061234, text), "0.000612");
    assert_string_equal(curve_loss(8240443891742.5, text), "8.24e+12");
    assert_string_equal(curve_loss(-1e308, text), "-1e+308"); /* four decimals would be 314 characters */
}

static void pace_and_peak(void **state)
{
    const json_t *time;
    Job j = job();
    Curve *c = NULL;
    json_t *line;

    (void)state;
    CHECK_OK(curve_open(&c, &j, check_tmp_path("pace"), 10, &err), &err);
    line = line_of(c, 11, 1.0);
    time = json_object_get(line, "time");
    assert_true(number(time, "samples_per_second") == 1.0);
    assert_true(number(time, "data_share") == 0.25);
    /* 244 tokens of 32: three times 24 N D^2 + 4 N^2 D in two blocks */
    check_value("flops", number(time, "flops"), 3 * 2 * (24. * 244 * 32 * 32 + 4. * 244 * 244 * 32), 0, 1e-12);
    assert_true(number(time, "eta") >= 0 && number(time, "eta") < 89);
    assert_null(json_object_get(time, "mfu"));
    json_decref(line);
    snprintf(be.card, sizeof be.card, "NVIDIA A100-SXM4-80GB");
    line = line_of(c, 12, 1.0);
    time = json_object_get(line, "time");
    check_value("mfu", number(time, "mfu"), number(time, "flops") / 312e12, 0, 1e-12);
    json_decref(line);
    be.card[0] = '\0';
    curve_close(&c);
}

static void peaks(void **state)
{
    (void)state;
    assert_true(card_peak("NVIDIA H100 PCIe") == 756e12);
    assert_true(card_peak("NVIDIA H100 80GB HBM3") == 989e12);
    assert_true(card_peak("NVIDIA H200") == 989e12);
    assert_true(card_peak("simulated sm_90") == 0);
    assert_true(card_peak("") == 0);
}

/* One warning, and the run goes on. */
static void event_files_may_fail(void **state)
{
    const char *run = check_tmp_path("blocked");
    char *path = path_join(run, "tensorboard", &err);
    Job j = job();
    Curve *c = NULL;

    (void)state;
    CHECK_OK(dir_make(run, &err), &err);
    CHECK_OK(file_write_atomic(path, "", 0, &err), &err);
    CHECK_OK(curve_open(&c, &j, run, 0, &err), &err);
    warnings = 0;
    for (int i = 1; i < 4; i++) {
        json_t *line = line_of(c, i, 1.0);
        curve_step(c, line, NULL);
        json_decref(line);
    }
    assert_int_equal(warnings, 1);
    curve_close(&c);
    mem_free(path);
}

static void line_says(Progress *p, const char *part, const char * not )
{
    progress_end(&p); /* shows it a last time */
    if (!strstr(said, part) || (not &&strstr(said, not )))
        fail_msg("the live line is: %s", said);
}

/* Measured after the step's line was shown. */
static void live_line_has_the_newest_held_out_loss(void **state)
{
    Job j = job();
    Curve *c = NULL;
    json_t *line, *held_out = json_pack("{s:i,s:f,s:[],s:{s:f,s:[]}}", "step", 1, "loss", 0.25, "deciles", "ema",
                                        "loss", 0.125, "deciles");

    (void)state;
    j.log.log.level = LOG_INFO;
    CHECK_OK(curve_open(&c, &j, check_tmp_path("live"), 0, &err), &err);
    for (int measured = 0; measured < 2; measured++) {
        Progress *p = progress_start(&j.log.log, "train", "steps", 100);
        line = line_of(c, measured + 1, 1.0);
        json_object_set_new(line, "held_out", json_real(0.5));
        curve_step(c, line, p);
        json_decref(line);
        if (measured)
            curve_held_out(c, held_out);
        line_says(p, measured ? ", held-out 0.2500, EMA 0.1250)" : ", held-out 0.5000)", measured ? "0.5000" : NULL);
    }
    json_decref(held_out);
    curve_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smoothing_goes_on),    cmocka_unit_test(losses_as_people_read_them),
        cmocka_unit_test(pace_and_peak),        cmocka_unit_test(peaks),
        cmocka_unit_test(event_files_may_fail), cmocka_unit_test(live_line_has_the_newest_held_out_loss)};

    return check_run_live("curve", tests);
}
