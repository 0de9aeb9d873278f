/* Learning-rate schedules against those of transformers (tests/golden/make_rates.py). */
#include <math.h>
#include <stdio.h>

#include "check.h"
#include "common/base/json.h"
#include "train/rate.h"

static Err err;

static void same_as_transformers(void **state)
{
    json_t *cases = NULL, *c;
    size_t i;

    (void)state;
    CHECK_OK(json_read_file(&cases, check_repo_path("tests/golden/rates.json"), &err), &err);
    assert_true(json_array_size(cases) >= 11);
    json_array_foreach (cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        const json_t *want = json_object_get(c, "rates"), *cycles = json_object_get(c, "cycles"),
                     *power = json_object_get(c, "power");
        Rate r = {.peak = json_number_value(json_object_get(c, "rate")),
                  .warmup = json_integer_value(json_object_get(c, "warmup")),
                  .steps = json_integer_value(json_object_get(c, "steps")),
                  .cycles = cycles ? json_number_value(cycles) : 1,
                  .power = power ? json_number_value(power) : 1};
        CHECK_OK(rate_kind(&r.kind, name, &err), &err);
        CHECK_OK(rate_check(&r, &err), &err);
        assert_int_equal(json_array_size(want), r.steps + 3);
        for (int64_t k = 0; k < r.steps + 3; k++) {
            char what[96];
            snprintf(what, sizeof what, "%s (case %d), step %d", name, (int)i, (int)k);
            /* both in double; a cosine near its zero loses the digits of 1 */
            check_value(what, rate_at(&r, k), json_number_value(json_array_get(want, (size_t)k)), 1e-16 * r.peak * 8,
                        1e-14);
        }
    }
    json_decref(cases);
}

static void refusals(void **state)
{
    Rate r = {.kind = RATE_POLYNOMIAL, .peak = 1e-7, .steps = 10, .power = 1};
    RateKind kind;

    (void)state;
    CHECK_FAILS(rate_kind(&kind, "Cosine2", &err), ERR_USAGE, "'Cosine2' is not known", &err);
    CHECK_FAILS(rate_check(&r, &err), ERR_USAGE, "'polynomial' ends at 1e-07", &err);
    r = (Rate){.kind = RATE_LINEAR, .peak = 1e-3, .warmup = 10, .steps = 10};
    CHECK_FAILS(rate_check(&r, &err), ERR_USAGE, "warmup_steps is 10, but the run has 10 steps", &err);
    r.kind = RATE_CONSTANT_WITH_WARMUP;
    CHECK_OK(rate_check(&r, &err), &err);
    assert_false(rate_needs_length(&r));
    r.kind = RATE_COSINE;
    assert_true(rate_needs_length(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_transformers), cmocka_unit_test(refusals)};

    return check_run("rates", tests);
}
