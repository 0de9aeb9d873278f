/* What a recipe says of its run, compared with the run. */
#include <string.h>

#include "check.h"
#include "common/base/str.h"
#include "train/expected.h"

static Err err;
static Str heard;

static void hear(void *user, LogLevel level, const char *line)
{
    (void)user;
    assert_int_equal(level, LOG_WARN);
    CHECK_OK(str_printf(&heard, &err, "%s\n", line), &err);
}

/* A run of 480 clips, 2 x 8 a step: 30 steps in each of 10 epochs. */
static int check(const char *set)
{
    Dataset data = {.n = 480};
    Job j = {
        .data = &data, .batch = 2, .accumulate = 8, .epochs = 10, .epoch_steps = 30, .steps = 300, .max_steps = -1};
    CommonOptions common = {.seed = -1, .set = {&set, 1}};
    int rc;

    str_fini(&heard);
    j.log.log = (Log){.write = hear, .level = LOG_WARN};
    CHECK_OK(recipe_open(&j.recipe, &common, &err), &err);
    rc = expected_check(&j, &err);
    recipe_close(&j.recipe);
    return rc;
}

static void quiet(const char *set)
{
    CHECK_OK(check(set), &err);
    assert_null(heard.data);
}

static void warns(const char *set, const char *words)
{
    CHECK_OK(check(set), &err);
    if (!heard.data || !strstr(heard.data, words))
        fail_msg("%s: '%s' is not in '%s'", set, words, heard.data ? heard.data : "");
}

static void numbers(void **state)
{
    (void)state;
    quiet("effective_batch_size=16");
    quiet("effective_batch_size=~16");
    quiet("expected.training_videos=480");
    quiet("total_steps=300");
    quiet("total_steps=null");
    CHECK_FAILS(
        check("effective_batch_size=32"), ERR_USAGE,
        "the recipe says effective_batch_size 32, but this run has 16: batch_size 2 x gradient_accumulation_steps 8",
        &err);
    warns("effective_batch_size=~32", "effective_batch_size about 32, but this run has 16");
    CHECK_FAILS(check("training_videos=479"), ERR_USAGE, "training_videos 479, but this run has 480", &err);
    warns("training_videos=~400", "training_videos about 400, but this run has 480");
    warns("training_videos=500", "training_videos 500, but this run has 480"); /* some were rejected */
    CHECK_FAILS(check("total_steps=2400"), ERR_USAGE,
                "total_steps 2400, but this run has 300: 480 clips make 30 steps an epoch, and the run has at most 10",
                &err);
    CHECK_FAILS(check("total_steps=\"2400\""), ERR_USAGE, "total_steps 2400, but this run has 300", &err);
    warns("total_steps=~2400", "total_steps about 2400, but this run has 300");
    str_fini(&heard);
}

static void quantities(void **state)
{
    (void)state;
    assert_true(expected_seconds("62 minutes") == 3720);
    assert_true(expected_seconds("~1.5h") == 5400);
    assert_true(expected_seconds("2 days") == 172800);
    assert_true(expected_seconds("30 s") == 30);
    assert_true(expected_seconds(NULL) == -1);
    assert_true(expected_bytes("~76GB") == 76e9);
    assert_true(expected_bytes("24 GiB") == 24.0 * 1024 * 1024 * 1024);
    assert_true(expected_bytes("512mb") == 512e6);
    assert_true(expected_bytes("1.5 TB") == 1.5e12);
    assert_true(expected_bytes("8 kB") == 8000);
    assert_true(expected_bytes("24G") == 24e9);
    assert_true(expected_bytes("~24 g") == 24e9);
    assert_true(expected_bytes(NULL) == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers), cmocka_unit_test(quantities)};
    return check_run_live("train_expected", tests);
}
