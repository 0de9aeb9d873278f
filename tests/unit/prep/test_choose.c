/* The frame rule, against a second implementation that looks at every frame for every output. */
#include <stdlib.h>
#include "check.h"
#include "prep/clip/choose.h"

enum { N = 4000 };

/* |times[i] - times[0] - point/fps| as an exact fraction over a common denominator, smallest first,
 * earliest among equals. */
static int64_t nearest(const Rational *times, int64_t n, int64_t fps, int64_t point)
{
    __int128 best_num = 0, best_den = 0;
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
        __int128 num = ((__int128)times[i].num * times[0].den - (__int128)times[0].num * times[i].den) * fps -
                       (__int128)point * times[i].den * times[0].den;
        __int128 den = (__int128)times[i].den * times[0].den * fps;
        num = num < 0 ? -num : num;
        if (best < 0 || num * best_den < best_num * den) {
            best = i;
            best_num = num;
            best_den = den;
        }
    }
    return best;
}

static void compare(const Rational *times, int64_t n, int64_t fps, int64_t start)
{
    int64_t points = choose_points(times, n, fps);
    assert_true(points > start);
    Pick *picks = calloc((size_t)(points - start), sizeof *picks);
    choose_frames(times, n, fps, start, points - start, picks);
    for (int64_t k = 0; k < points - start; k++) {
        int64_t want = nearest(times, n, fps, start + k);
        if (picks[k].index != want)
            fail_msg("fps %lld point %lld: frame %lld, expected %lld", (long long)fps, (long long)(start + k),
                     (long long)picks[k].index, (long long)want);
        double error = rational_value(times[want]) - rational_value(times[0]) - (double)(start + k) / (double)fps;
        check_value("error", picks[k].error_s, error, 1e-9, 0);
        assert_int_equal(rational_cmp(picks[k].time, times[want]), 0);
    }
    free(picks);
}

static void constant_rates(void **state)
{
    static const Rational rates[] = {{24000, 1001}, {24, 1}, {25, 1}, {30000, 1001}, {30, 1}, {50, 1},
                                     {60, 1},       {10, 1}, {8, 1},  {179, 6},      {5, 1},  {16, 1}};
    static Rational times[N];
    (void)state;
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
        for (int64_t n = 1; n <= 400; n += 57) {
            for (int64_t i = 0; i < n; i++)
                times[i] = (Rational){i * rates[r].den, rates[r].num};
            compare(times, n, 8, 0);
            compare(times, n, 24, 0);
            if (choose_points(times, n, 8) > 23)
                compare(times, n, 8, 23);
        }
}

static void variable_rate_and_offset(void **state)
{
    static Rational times[N];
    (void)state;
    srand((unsigned)check_seed());
    for (int run = 0; run < 50; run++) {
        int64_t n = 1 + rand() % 300, at = rand() % 500000;
        for (int64_t i = 0; i < n; i++, at += 1 + rand() % 9000)
            times[i] = (Rational){at, 90000};
        compare(times, n, 8, 0);
    }
}

static void known_picks(void **state)
{
    static const int64_t want[] = {0, 4, 7, 11, 15, 19, 22, 26, 30, 34, 37, 41, 45};
    Rational times[350];
    Pick picks[94];
    (void)state;
    for (int64_t i = 0; i < 350; i++)
        times[i] = (Rational){i, 30};
    assert_int_equal(choose_points(times, 350, 8), 94); /* 349/30 s */
    choose_frames(times, 350, 8, 0, 94, picks);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++)
        assert_int_equal(picks[k].index, want[k]); /* 7.5 goes to 7 */
    assert_true(picks[2].error_s < 0);
    assert_int_equal(choose_points(times, 1, 8), 1);
    assert_int_equal(choose_points(times, 0, 8), 0);
}

static void refuses_bad_times(void **state)
{
    Err err = {0};
    Rational bad[][2] = {{{0, 1}, {0, 1}},   {{1, 30}, {0, 1}},        {{0, 1}, {1, 0}},
                         {{0, 1}, {1, -30}}, {{0, 1}, {INT64_MAX, 1}}, {{0, 1}, {1, INT64_MAX}}};
    (void)state;
    CHECK_FAILS(choose_check(bad[0], 2, &err), ERR_FORMAT, "does not come after", &err);
    CHECK_FAILS(choose_check(bad[1], 2, &err), ERR_FORMAT, "does not come after", &err);
    for (int i = 2; i < 6; i++)
        CHECK_FAILS(choose_check(bad[i], 2, &err), ERR_FORMAT, "out of range", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(constant_rates), cmocka_unit_test(variable_rate_and_offset),
                                       cmocka_unit_test(known_picks), cmocka_unit_test(refuses_bad_times)};
    return check_run_live("prep choose", tests);
}
