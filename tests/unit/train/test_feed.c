/* The reading thread: passes in the order of the steps, the same as read one by one, errors in
 * their turn, and an early end. */
#include <string.h>

#include "check.h"
#include "common/base/mem.h"
#include "common/store/cache.h"
#include "tests/train_fixture.h"
#include "train/feed.h"

enum { LATENT = FIX_F * FIX_H * FIX_W * FIX_C, STEPS = 9 };

static DitConfig tiny_config(void)
{
    return (DitConfig){.heads = 2,
                       .head_dim = 16,
                       .layers = 2,
                       .in_channels = FIX_C,
                       .out_channels = FIX_C,
                       .patch = 2,
                       .time_dim = 8,
                       .text_dim = FIX_D,
                       .text_len = FIX_S,
                       .sample_width = 6,
                       .sample_height = 4,
                       .sample_frames = 9,
                       .temporal_ratio = 4,
                       .spatial_scale = 1.875,
                       .temporal_scale = 1.0,
                       .norm_eps = 1e-5,
                       .flip_sin_to_cos = 1};
}

/* A job over the seven clips of caches a and b under `name`: passes of two samples, two passes a
 * step, the last of an epoch smaller. */
static void open_job(Job *j, const char *name)
{
    DitConfig c = tiny_config();
    Err err = {0};
    const char *dir = check_tmp_path(name);
    char *caches[2] = {path_join(dir, "a", &err), path_join(dir, "b", &err)};

    if (!file_is_dir(dir))
        CHECK_OK(fixture_make(check_repo_path("tests/golden/pipeline/model"), dir, &err), &err);
    memset(j, 0, sizeof *j);
    j->c.share.size = 1, j->batch = j->pass = 2, j->accumulate = 2, j->epoch_steps = 2, j->steps = STEPS,
    j->draws.seed = 17;
    CHECK_OK(schedule_init_default(&j->schedule, &err), &err);
    CHECK_OK(dataset_open(&j->data, (const char *const *)caches, 2, &c, &err), &err);
    mem_free(caches[0]);
    mem_free(caches[1]);
}

static void close_job(Job *j)
{
    dataset_close(&j->data);
    schedule_fini(&j->schedule);
}

static void same_pass(const HostBatch *got, const HostBatch *want)
{
    size_t n = (size_t)want->n;

    assert_int_equal(got->n, want->n);
    assert_memory_equal(got->sample, want->sample, n * sizeof *want->sample);
    assert_memory_equal(got->timestep, want->timestep, n * sizeof *want->timestep);
    assert_memory_equal(got->moments, want->moments, n * 2 * LATENT * sizeof(float));
    assert_memory_equal(got->draw, want->draw, n * LATENT * sizeof(float));
    assert_memory_equal(got->noise, want->noise, n * LATENT * sizeof(float));
    assert_memory_equal(got->text, want->text, n * FIX_S * FIX_D * sizeof(float));
}

/* From step `from` on: what batch_read gives for each pass in turn. */
static void check_from(const Job *j, int64_t from)
{
    Err err = {0};
    Feed *feed = NULL;
    HostBatch want = {0};
    const HostBatch *got;
    int64_t order[7], passes = 0;

    CHECK_OK(batch_new(&want, j->data, j->batch, &err), &err);
    CHECK_OK(feed_open(&feed, j, from, &err), &err);
    for (int64_t step = from; step < j->steps; step++) {
        int64_t epoch, first, last;
        job_step_range(j, step, &epoch, &first, &last);
        CHECK_OK(draws_order(&j->draws, j->data, epoch, order, &err), &err);
        for (int64_t at = first; at < last; at += 2, passes++) {
            CHECK_OK(feed_next(feed, &got, &err), &err);
            CHECK_OK(
                batch_read(j->data, &j->draws, &want, epoch, order + at, last - at < 2 ? last - at : 2, 1000, &err),
                &err);
            same_pass(got, &want);
        }
    }
    assert_int_equal(passes, 2 * (j->steps - from));
    CHECK_FAILS(feed_next(feed, &got, &err), ERR_USAGE, "no pass is left", &err);
    feed_close(&feed);
    batch_free(&want);
}

static void passes_in_order(void **state)
{
    Job j;

    (void)state;
    open_job(&j, "whole");
    check_from(&j, 0);
    check_from(&j, 5); /* as after a checkpoint */
    check_from(&j, STEPS);
    close_job(&j);
}

/* Closed with passes unread, at every moment. */
static void ends_early(void **state)
{
    Job j;

    (void)state;
    open_job(&j, "whole");
    for (int taken = 0; taken < 6; taken++) {
        Err err = {0};
        Feed *feed = NULL;
        const HostBatch *got;
        CHECK_OK(feed_open(&feed, &j, 0, &err), &err);
        for (int i = 0; i < taken; i++)
            CHECK_OK(feed_next(feed, &got, &err), &err);
        feed_close(&feed);
        assert_null(feed);
    }
    close_job(&j);
}

/* Changes a byte of a record of latents in the file itself. */
static void damage(const char *dir, const Digest *key)
{
    Err err = {0};
    Cache *c = NULL;
    CacheTxn *t = NULL;
    RecordView r;
    char *path = path_join(dir, "data.mdb", &err), *bytes, *at, first[16];
    int64_t size;

    CHECK_OK(cache_open(&c, dir, CACHE_READ, &err), &err);
    CHECK_OK(cache_begin(&t, c, &err), &err);
    assert_int_equal(cache_get_record(t, CACHE_LATENTS, key, 1, &r, &err), 1);
    memcpy(first, r.tensor.data, sizeof first);
    cache_end(&t);
    cache_close(&c);
    CHECK_OK(file_read(path, (int64_t)1 << 30, &bytes, &size, &err), &err);
    int found = 0;
    for (char *from = bytes; (at = memmem(from, (size_t)(bytes + size - from), first, sizeof first)) != NULL;
         from = at + 1, found++)
        at[5] ^= 1; /* pages that are no longer used may hold it too */
    assert_true(found > 0);
    FILE *f = fopen(path, "r+");
    assert_int_equal(fwrite(bytes, 1, (size_t)size, f), size);
    fclose(f);
    mem_free(bytes);
    mem_free(path);
}

/* Passes before the damaged record come whole; then its error, and nothing after it. */
static void errors_in_turn(void **state)
{
    Job j;
    Err err = {0};
    Feed *feed = NULL;
    const HostBatch *got = NULL;
    int64_t order[7], bad, at = 0;
    char *dir;

    (void)state;
    open_job(&j, "damaged");
    CHECK_OK(draws_order(&j.draws, j.data, 0, order, &err), &err);
    bad = order[4]; /* of the third pass */
    dir = path_join(check_tmp_path("damaged"), j.data->sample[bad].cache ? "b" : "a", &err);
    Digest key = j.data->sample[bad].latents;
    close_job(&j);
    damage(dir, &key);
    open_job(&j, "damaged");
    CHECK_OK(feed_open(&feed, &j, 0, &err), &err);
    for (; at < 4; at += 2)
        CHECK_OK(feed_next(feed, &got, &err), &err);
    CHECK_FAILS(feed_next(feed, &got, &err), ERR_FORMAT, j.data->sample[bad].id, &err);
    CHECK_FAILS(feed_next(feed, &got, &err), ERR_USAGE, "no pass is left", &err);
    feed_close(&feed);
    close_job(&j);
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes_in_order), cmocka_unit_test(ends_early),
                                       cmocka_unit_test(errors_in_turn)};

    return check_run_live("train-feed", tests);
}
