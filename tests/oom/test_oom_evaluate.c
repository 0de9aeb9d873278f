/* Allocations of evaluate and compare fail one after another, in the program and in the processes that decode:
 * each run says so, leaks nothing, and leaves no report; then the same command writes it. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "infer/compare.h"
#include "infer/evaluate.h"

static const char *list[2];
static FILE *null;

static void make_videos(void)
{
    static uint8_t rgb[32 * 48 * 3];
    static const char *const names[] = {"a.mp4", "b.mp4"};
    Err err = {0};

    for (int i = 0; i < 2; i++) {
        VideoWriterParams p = {.codec = VIDEO_H264, .width = 32, .height = 48, .rate = {8, 1}};
        VideoWriter *w;
        CHECK_OK(video_create(&w, check_tmp_path(names[i]), &p, &err), &err);
        for (int k = 0; k < 4; k++) {
            for (size_t j = 0; j < sizeof rgb; j++)
                rgb[j] = (uint8_t)(j / 3 % 32 * 5 + (size_t)(k * (3 + i)));
            CHECK_OK(video_write(w, rgb, &err), &err);
        }
        CHECK_OK(video_finish(&w, &err), &err);
    }
    for (int i = 0; i < 2; i++) {
        char line[200];
        snprintf(line, sizeof line,
                 "{\"video\": \"%s\", \"prompt\": \"A dress.\", \"category\": \"dress\", \"seed\": 1}\n", names[i]);
        list[i] = check_tmp_path(i ? "tuned.jsonl" : "base.jsonl");
        CHECK_OK(file_write_atomic(list[i], line, (int64_t)strlen(line), &err), &err);
    }
}

static int run(int comparing, const char *out, Err *err)
{
    if (comparing) {
        CompareOptions o = {.common = {.quiet = 1, .seed = -1, .jobs = 1}, .out = out, .blind = 1};
        return compare_run(&o, &(StrList){list, 2}, NULL, null, err);
    }
    EvaluateOptions o = {.common = {.quiet = 1, .seed = -1, .jobs = 1}, .out = out, .references = {list + 1, 1}};
    return evaluate_run(&o, &(StrList){list, 1}, NULL, null, err);
}

/* The later the sparser: thousands take seconds. */
static void fail_each(int comparing, const char *report)
{
    const char *out = check_tmp_path("out"), *file = check_path(out, report);
    Err err = {0};
    int64_t failures = 0, live = mem_live();

    for (int64_t n = 1;; n += 1 + n / 25) {
        err_clear(&err);
        CHECK_OK(dir_remove(out, NULL), NULL);
        mem_fail_after(n);
        int rc = run(comparing, out, &err), reached = mem_failed();
        mem_fail_after(0);
        assert_int_equal(mem_live(), live);
        if (rc == 0 && !reached)
            break;
        failures += rc < 0;
        if (rc < 0 && ((reached && rc != ERR_NOMEM) || !err.msg[0]))
            fail_msg("allocation %d: %s (%d)", (int)n, err.msg, rc);
        if (rc < 0 && file_exists(file))
            fail_msg("allocation %d: %s is there", (int)n, report);
    }
    assert_true(file_exists(file));
    printf("# %d runs failed\n", (int)failures);
}

static void evaluate_without_memory(void **state)
{
    (void)state;
    fail_each(0, "metrics.json");
}

static void compare_without_memory(void **state)
{
    (void)state;
    fail_each(1, "blind"); /* which appears last */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(evaluate_without_memory),
                                       cmocka_unit_test(compare_without_memory)};
    null = fopen("/dev/null", "w");
    if (!null)
        return 1;
    make_videos();
    return check_run("memory that fails: evaluate, compare", tests);
}
