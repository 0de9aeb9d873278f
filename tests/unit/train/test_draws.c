/* What is drawn for a step: weighted categories, dropped captions, timesteps, and the first N clips. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "tests/train_fixture.h"
#include "train/draws.h"

static Err err;

static Dataset *open_names(const char *a, const char *b)
{
    DitConfig c = {.in_channels = FIX_C, .out_channels = FIX_C, .patch = 2, .text_len = FIX_S, .text_dim = FIX_D};
    char *dirs[2] = {path_join(check_tmp_path("caches"), a, &err),
                     b ? path_join(check_tmp_path("caches"), b, &err) : NULL};
    Dataset *d = NULL;

    CHECK_OK(dataset_open(&d, (const char *const *)dirs, b ? 2 : 1, &c, &err), &err);
    mem_free(dirs[0]);
    mem_free(dirs[1]);
    return d;
}

static int open_draws(Draws *r, const Dataset *d, const char *a, const char *b)
{
    const char *set[] = {a, b};
    CommonOptions o = {.preset = "demo", .seed = 5, .set = {.item = set, .n = b ? 2 : 1}};
    Recipe *recipe = NULL;
    int rc;

    CHECK_OK(recipe_open(&recipe, &o, &err), &err);
    rc = draws_open(r, recipe, d, &err);
    recipe_close(&recipe);
    return rc;
}

/* Dresses (even clips) three times as often as coats, and never: each clip floor or ceil of its share,
 * over many epochs the share itself; a clip's second entry has draws of its own. */
static void categories(void **state)
{
    Dataset *d = open_names("a", "b"); /* clips 0 to 6: four dresses, three coats */
    Draws r, none = {.seed = 5};
    enum { EPOCHS = 400 };
    int64_t entry[7], plain[7];
    double seen[7] = {0}, share[2] = {7 * 3 / 15.0, 7 * 1 / 15.0};

    (void)state;
    CHECK_OK(open_draws(&r, d, "training.category_weights={\"dress\": 3}", NULL), &err);
    for (int64_t e = 0; e < EPOCHS; e++) {
        int count[7] = {0};
        CHECK_OK(draws_order(&r, d, e, entry, &err), &err);
        for (int i = 0; i < 7; i++) {
            assert_int_equal(entry[i] / 7, 0 + (entry[i] >= 7)); /* at most twice */
            count[entry[i] % 7]++;
        }
        for (int i = 0; i < 7; i++) {
            assert_true(count[i] == floor(share[i % 2]) || count[i] == ceil(share[i % 2]));
            seen[i] += count[i];
        }
    }
    for (int i = 0; i < 7; i++) /* an epoch's count is a fraction's coin: deviation at most 1/2 */
        check_value("share", seen[i] / EPOCHS, share[i % 2], 4 * 0.5 / sqrt(EPOCHS), 0);
    SampleDraws first = draws_of(&r, d, 3, 2, 1000), second = draws_of(&r, d, 3, 2 + 7, 1000);
    assert_true(philox_normal(&first.noise, 0) != philox_normal(&second.noise, 0));
    draws_close(&r);

    CHECK_OK(open_draws(&r, d, "training.category_weights={\"dress\": 0}", NULL), &err);
    CHECK_OK(draws_order(&r, d, 1, entry, &err), &err);
    for (int i = 0; i < 7; i++)
        assert_int_equal(entry[i] % 7 % 2, 1);
    draws_close(&r);

    CHECK_OK(open_draws(&r, d, "training.category_weights={\"dress\": 2, \"coat\": 2}", NULL), &err);
    CHECK_OK(draws_order(&r, d, 4, entry, &err), &err);
    CHECK_OK(draws_order(&none, d, 4, plain, &err), &err);
    assert_memory_equal(entry, plain, sizeof entry);
    draws_close(&r);
    dataset_close(&d);
}

/* A quarter of the samples get the empty prompt's embedding; the others the caption they would have
 * had. */
static void dropped_captions(void **state)
{
    enum { N = 7000 };
    Dataset *d = open_names("a", "b");
    Draws r, none = {.seed = 5};
    HostBatch b = {0};
    Philox empty = philox_stream(5, RNG_TEST, 0, 999);
    int64_t dropped = 0;

    (void)state;
    CHECK_OK(open_draws(&r, d, "training.caption_dropout=0.25", NULL), &err);
    CHECK_OK(batch_new(&b, d, 1, &err), &err);
    for (int64_t e = 0; e < N / 7; e++)
        for (int64_t i = 0; i < 7; i++) {
            SampleDraws x = draws_of(&r, d, e, i, 1000), y = draws_of(&none, d, e, i, 1000);
            assert_int_equal(x.timestep, y.timestep);
            if (x.caption == SAMPLE_NO_CAPTION)
                dropped++;
            else
                assert_int_equal(x.caption, y.caption);
            if (e == 0) {
                CHECK_OK(batch_read(d, &r, &b, e, &i, 1, 1000, &err), &err);
                for (uint64_t k = 0; k < (uint64_t)(FIX_S * FIX_D); k += 97)
                    assert_int_equal(b.text[k] == philox_normal(&empty, k), x.caption == SAMPLE_NO_CAPTION);
            }
        }
    check_value("share", (double)dropped / N, 0.25, 4 * sqrt(0.25 * 0.75 / N), 0);
    batch_free(&b);
    draws_close(&r);
    dataset_close(&d);
    d = open_names("again", NULL);
    CHECK_FAILS(open_draws(&r, d, "training.caption_dropout=0.25", NULL), ERR_NOTFOUND, "training.caption_dropout",
                &err);
    CHECK_OK(open_draws(&r, d, "training.caption_dropout=0", NULL), &err);
    draws_close(&r);
    dataset_close(&d);
}

/* The logits of (t + 1/2) / n are normal: their mean and deviation; and all timesteps are possible. */
static void logit_normal(void **state)
{
    enum { N = 7000 };
    static const double want[2][2] = {{0, 1}, {-0.75, 0.5}};
    Dataset *d = open_names("a", "b");

    (void)state;
    for (int w = 0; w < 2; w++) {
        Draws r = {.seed = 5, .logit_normal = 1, .logit_mean = want[w][0], .logit_std = want[w][1]};
        double sum = 0, squares = 0;
        for (int64_t k = 0; k < N; k++) {
            int64_t t = draws_of(&r, d, k / 7, k % 7, 1000).timestep;
            double share = ((double)t + 0.5) / 1000, logit = log(share / (1 - share));
            assert_true(t >= 0 && t < 1000);
            sum += logit;
            squares += (logit - want[w][0]) * (logit - want[w][0]);
        }
        check_value("mean", sum / N, want[w][0], 4 * want[w][1] / sqrt(N), 0);
        check_value("deviation", sqrt(squares / N), want[w][1], 4 * want[w][1] / sqrt(2 * N), 0);
    }
    Draws far = {.seed = 5, .logit_normal = 1, .logit_mean = 100, .logit_std = 1};
    assert_int_equal(draws_of(&far, d, 0, 0, 1000).timestep, 999);
    far.logit_mean = -100;
    assert_int_equal(draws_of(&far, d, 0, 0, 1000).timestep, 0);
    dataset_close(&d);
}

static void refusals(void **state)
{
    Dataset *d = open_names("a", NULL);
    Draws r;

    (void)state;
    CHECK_FAILS(open_draws(&r, d, "training.category_weights={\"hat\": 1}", NULL), ERR_USAGE,
                "no clip has category 'hat'; the caches' clips have 'dress', 'coat'", &err);
    draws_close(&r);
    CHECK_FAILS(open_draws(&r, d, "training.category_weights={\"dress\": 0, \"coat\": 0}", NULL), ERR_USAGE,
                "all clips have weight 0", &err);
    draws_close(&r);
    dataset_close(&d);
}

/* The first three clips; other data than all of them. */
static void first_clips(void **state)
{
    Dataset *d = open_names("b", "a"), *all = open_names("a", "b");

    (void)state;
    CHECK_OK(dataset_limit(d, 3, &err), &err);
    assert_int_equal(d->n, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(d->sample[i].id, all->sample[i].id);
    assert_string_not_equal(d->digest, all->digest);
    CHECK_OK(dataset_limit(all, 100, &err), &err);
    assert_int_equal(all->n, 7);
    dataset_close(&all);
    dataset_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(categories), cmocka_unit_test(dropped_captions),
                                       cmocka_unit_test(logit_normal), cmocka_unit_test(refusals),
                                       cmocka_unit_test(first_clips)};

    if (fixture_make(check_repo_path("tests/golden/pipeline/model"), check_tmp_path("caches"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    return check_run_live("train-draws", tests);
}
