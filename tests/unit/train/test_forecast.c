/* Predicted times: from a card's data sheet, against what make cuda-report counts call by call. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/progress.h"
#include "check.h"
#include "train/forecast.h"

/* tests/bench/cuda-prediction.md: 49 frames of 480 x 720, batch 2. */
static void cards(void **state)
{
    static const struct {
        const char *card;
        Recompute policy;
        double seconds;
    } row[] = {{"A100 80GB", RECOMPUTE_NONE, 4.331},
               {"A100 80GB", RECOMPUTE_BLOCK, 5.535},
               {"NVIDIA A100-SXM4-80GB", RECOMPUTE_BLOCK_ATTENTION, 4.770},
               {"H100", RECOMPUTE_NONE, 1.889},
               {"H100", RECOMPUTE_BLOCK, 2.428},
               {"NVIDIA H100 80GB HBM3", RECOMPUTE_BLOCK_ATTENTION, 2.077}};
    Dataset data = {.n = 480, .F = 13, .h = 90, .w = 60};
    Job j = {.data = &data,
             .batch = 2,
             .pass = 2,
             .accumulate = 1,
             .epochs = 10,
             .epoch_steps = 240,
             .steps = 2400,
             .parameters = 1693783872,
             .optimizer_bytes = 8 * 1693783872LL};
    Forecast f;
    Card card;

    (void)state;
    j.dit = (DitConfig){.heads = 30, .head_dim = 64, .layers = 30, .patch = 2, .text_len = 226};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        assert_true(card_find(&card, row[i].card));
        j.c.policy = row[i].policy;
        forecast_card(&f, &j, 0, &card);
        if (fabs(f.step / row[i].seconds - 1) > 0.02)
            fail_msg("%s, policy %d: %g s a step, expected %g", row[i].card, (int)row[i].policy, f.step,
                     row[i].seconds);
        assert_true(fabs(f.all / (2400 * f.step) - 1) < 1e-12);
    }
    assert_false(card_find(&card, "Voodoo 2"));
}

/* Short last steps of an epoch, measurements of the held-out loss, and what is done already. */
static void whole_runs(void **state)
{
    Dataset data = {.n = 10, .F = 1, .h = 4, .w = 4, .n_held_out = 3};
    Job j = {.data = &data,
             .batch = 2,
             .pass = 2,
             .accumulate = 2,
             .epochs = 2,
             .epoch_steps = 3,
             .steps = 6,
             .parameters = 1};
    Card card;
    Forecast all, rest, none;

    (void)state;
    j.dit = (DitConfig){.heads = 1, .head_dim = 64, .layers = 1, .patch = 2, .text_len = 16};
    assert_true(card_find(&card, "A100"));
    j.validation.every = -1;
    forecast_card(&none, &j, 0, &card);
    assert_true(fabs(none.all - (10 * none.pass + 6 * none.update)) < 1e-12 * none.all); /* 20 samples, 10 passes */
    forecast_card(&rest, &j, 3, &card);
    assert_true(fabs(rest.all - none.all / 2) < 1e-12 * none.all);
    j.validation.clips = 2;
    j.validation.timesteps = 5;
    j.validation.every = 4;
    forecast_card(&all, &j, 0, &card); /* at steps 0, 4 and 6 */
    assert_true(fabs(all.all - none.all - 3 * 2 * 5 * all.forward) < 1e-9 * all.all);
    j.c.ema.on = 1;
    forecast_card(&all, &j, 0, &card); /* the averaged weights too, but for step 0 */
    assert_true(fabs(all.all - none.all - 5 * 2 * 5 * all.forward) < 1e-9 * all.all);
    j.c.ema.on = 0;
    j.validation.clips = 0;
    j.prompts.n = 2;
    j.sampling.steps = 7;
    j.sampling.every = 3;
    j.sampling.guidance = 6;
    forecast_card(&all, &j, 0, &card); /* at steps 0, 3 and 6, each step two passes */
    assert_true(fabs(all.all - none.all - 3 * 2 * 7 * 2 * all.forward) < 1e-9 * all.all);
}

static void durations(void **state)
{
    char out[32];

    (void)state;
    assert_string_equal(time_duration(0.00525, out), "5.2 ms");
    assert_string_equal(time_duration(1.5, out), "1.5 s");
    assert_string_equal(time_duration(336, out), "5.6 min");
    assert_string_equal(time_duration(598, out), "10 min");
    assert_string_equal(time_duration(3720, out), "62 min");
    assert_string_equal(time_duration(11520, out), "3.2 h");
    assert_string_equal(time_duration(86400 * 5.0, out), "5.0 days");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cards), cmocka_unit_test(whole_runs),
                                       cmocka_unit_test(durations)};
    return check_run_live("train_forecast", tests);
}
