/* Caches as one list of samples: what is taken, what each draw depends on, and what is refused. */
#include <stdlib.h>

#include "check.h"
#include "tests/train_fixture.h"
#include "train/draws.h"

static const char *fixture(void)
{
    static char *dir;
    Err err = {0};

    if (!dir) {
        dir = check_tmp_path("caches");
        CHECK_OK(fixture_make(check_repo_path("tests/golden/pipeline/model"), dir, &err), &err);
    }
    return dir;
}

static DitConfig tiny_config(void)
{
    DitConfig c = {.heads = 2,
                   .head_dim = 16,
                   .layers = 2,
                   .in_channels = 4,
                   .out_channels = 4,
                   .patch = 2,
                   .time_dim = 8,
                   .text_dim = 32,
                   .text_len = 226,
                   .sample_width = 6,
                   .sample_height = 4,
                   .sample_frames = 9,
                   .temporal_ratio = 4,
                   .spatial_scale = 1.875,
                   .temporal_scale = 1.0,
                   .norm_eps = 1e-5,
                   .flip_sin_to_cos = 1};
    return c;
}

static int open_names(Dataset **d, const char *first, const char *second, const DitConfig *c, Err *err)
{
    char *dir[2] = {path_join(fixture(), first, err), second ? path_join(fixture(), second, err) : NULL};
    int rc = dataset_open(d, (const char *const *)dir, second ? 2 : 1, c, err);

    mem_free(dir[0]);
    mem_free(dir[1]);
    return rc;
}

/* A batch's tensors on the host: x0, noise, text one after the other. */
enum { LATENT = 3 * 6 * 4 * 4, TEXT = 226 * 32 };
typedef struct Draw {
    float x0[LATENT], noise[LATENT], text[TEXT];
    int64_t timestep;
} Draw;

static void draw(Dataset *d, uint64_t seed, int64_t epoch, int64_t sample, Draw *out)
{
    Err err = {0};
    Backend *be = NULL;
    Arena *work = NULL;
    HostBatch host = {0};
    TrainBatch b;

    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(arena_new(&work, be, 1 << 20, "test", &err), &err);
    CHECK_OK(batch_new(&host, d, 1, &err), &err);
    CHECK_OK(batch_read(d, &(Draws){.seed = seed}, &host, epoch, &sample, 1, 1000, &err), &err);
    CHECK_OK(batch_put(d, &host, be, work, &b, &err), &err);
    assert_int_equal(host.sample[0], sample);
    out->timestep = b.timestep[0];
    CHECK_OK(backend_get_f32(be, out->x0, &b.x0, &err), &err);
    CHECK_OK(backend_get_f32(be, out->noise, &b.noise, &err), &err);
    CHECK_OK(backend_get_f32(be, out->text, &b.text, &err), &err);
    batch_free(&host);
    arena_free(&work);
    backend_close(&be);
}

static void one_list(void **state)
{
    Dataset *ab = NULL, *ba = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    Draw x, y;

    (void)state;
    CHECK_OK(open_names(&ab, "a", "b", &c, &err), &err);
    CHECK_OK(open_names(&ba, "b", "a", &c, &err), &err);
    assert_int_equal(ab->n, 7); /* the val clip is left out */
    assert_string_equal(ab->digest, ba->digest);
    for (int64_t i = 0; i < 7; i++) {
        assert_string_equal(ab->sample[i].id, ba->sample[i].id);
        draw(ab, 3, 1, i, &x);
        draw(ba, 3, 1, i, &y);
        assert_memory_equal(&x, &y, sizeof x);
    }
    dataset_close(&ab);
    dataset_close(&ba);
}

static int differs(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) != 0;
}

/* Seed, epoch and sample each change every draw; nothing else does. */
static void draws_are_keyed(void **state)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    Draw base, other;
    int texts = 0, times[10] = {0};

    (void)state;
    CHECK_OK(open_names(&d, "a", NULL, &c, &err), &err);
    draw(d, 3, 1, 0, &base);
    draw(d, 3, 1, 1, &other);
    draw(d, 3, 1, 0, &other); /* after another sample: the same again */
    assert_memory_equal(&base, &other, sizeof base);
    draw(d, 4, 1, 0, &other);
    assert_true(differs(base.x0, other.x0, LATENT) && differs(base.noise, other.noise, LATENT));
    draw(d, 3, 2, 0, &other);
    assert_true(differs(base.x0, other.x0, LATENT) && differs(base.noise, other.noise, LATENT));
    draw(d, 3, 1, 2, &other);
    assert_true(differs(base.noise, other.noise, LATENT));
    assert_true(differs(base.x0, base.noise, LATENT));
    for (int64_t e = 0; e < 200; e++) { /* two captions: both get their turn; timesteps go everywhere */
        draw(d, 3, e, 0, &other);
        assert_true(other.timestep >= 0 && other.timestep < 1000);
        times[other.timestep / 100]++;
        texts += differs(base.text, other.text, TEXT);
    }
    assert_true(texts > 60 && texts < 140);
    for (int i = 0; i < 10; i++)
        assert_true(times[i] > 4 && times[i] < 45);
    dataset_close(&d);
}

/* Each draw comes from the stream of its own purpose (1 posterior, 2 noise, 3 timestep, 5 caption):
 * those numbers are part of every run's reproducibility. */
static void streams(void **state)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    HostBatch host = {0};
    const int64_t sample = 2;
    Philox posterior = philox_stream(77, 1, 9, 2), noise = philox_stream(77, 2, 9, 2);
    Philox timestep = philox_stream(77, 3, 9, 2), caption = philox_stream(77, 5, 9, 2);
    RecordView r;
    CacheTxn *t = NULL;
    int64_t which = (int64_t)philox_below(&caption, 0, 2);

    (void)state;
    CHECK_OK(open_names(&d, "a", NULL, &c, &err), &err);
    CHECK_OK(batch_new(&host, d, 1, &err), &err);
    CHECK_OK(batch_read(d, &(Draws){.seed = 77}, &host, 9, &sample, 1, 1000, &err), &err);
    for (uint64_t i = 0; i < LATENT; i++) {
        if (host.draw[i] != philox_normal(&posterior, i))
            fail_msg("element %d of the posterior's draw is not from stream 1", (int)i);
        if (host.noise[i] != philox_normal(&noise, i))
            fail_msg("element %d of the noise is not from stream 2", (int)i);
    }
    if (host.timestep[0] != (int64_t)philox_below(&timestep, 0, 1000))
        fail_msg("the timestep is not from stream 3");
    assert_int_equal(d->sample[2].n_text, 2);
    CHECK_OK(cache_begin(&t, d->cache[0], &err), &err);
    assert_int_equal(cache_get_record(t, CACHE_TEXT, &d->sample[2].text[which], 1, &r, &err), 1);
    if (differs(host.text, r.tensor.data, TEXT))
        fail_msg("the caption is not the one that stream 5 names");
    cache_end(&t);
    batch_free(&host);
    dataset_close(&d);
}

/* Over many epochs a latent has the posterior's mean and deviation, times the scaling factor. */
static void posterior_moments(void **state)
{
    enum { EPOCHS = 400 };
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    static double sum[LATENT], squares[LATENT];
    Draw x;
    RecordView r;
    CacheTxn *t = NULL;

    (void)state;
    CHECK_OK(open_names(&d, "a", NULL, &c, &err), &err);
    for (int64_t e = 0; e < EPOCHS; e++) {
        draw(d, 1, e, 2, &x);
        for (int i = 0; i < LATENT; i++) {
            sum[i] += x.x0[i];
            squares[i] += (double)x.x0[i] * x.x0[i];
        }
    }
    CHECK_OK(cache_begin(&t, d->cache[0], &err), &err);
    assert_int_equal(cache_get_record(t, CACHE_LATENTS, &d->sample[2].latents, 1, &r, &err), 1);
    for (int i = 0; i < LATENT; i++) {
        const float *m = (const float *)r.tensor.data + i / 4 * 8; /* four means, four log-variances a place */
        double mean = 1.15258426 * (double)m[i % 4], deviation = 1.15258426 * exp((double)m[4 + i % 4] / 2);
        check_value("mean", sum[i] / EPOCHS, mean, 4.5 * deviation / sqrt(EPOCHS), 0); /* 4.5 sigma, 288 values */
        check_value("deviation", sqrt(squares[i] / EPOCHS - pow(sum[i] / EPOCHS, 2)), deviation, 0,
                    4.5 / sqrt(2.0 * EPOCHS));
    }
    cache_end(&t);
    dataset_close(&d);
}

/* Stored samples are used as they are: the same in every epoch, times the scaling factor; noise is
 * still fresh. */
static void stored_samples(void **state)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    Draw x, y;
    RecordView r;
    CacheTxn *t = NULL;

    (void)state;
    CHECK_OK(open_names(&d, "sample", NULL, &c, &err), &err);
    draw(d, 1, 0, 3, &x);
    draw(d, 1, 1, 3, &y);
    assert_false(differs(x.x0, y.x0, LATENT));
    assert_true(differs(x.noise, y.noise, LATENT));
    CHECK_OK(cache_begin(&t, d->cache[0], &err), &err);
    assert_int_equal(cache_get_record(t, CACHE_LATENTS, &d->sample[3].latents, 1, &r, &err), 1);
    for (int i = 0; i < LATENT; i++)
        assert_true(x.x0[i] == (float)(tensor_get(&r.tensor, i) * 1.15258426));
    cache_end(&t);
    dataset_close(&d);
}

static void orders(void **state)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    int64_t order[7], again[7];
    int moved = 0;

    (void)state;
    CHECK_OK(open_names(&d, "a", "b", &c, &err), &err);
    for (int64_t e = 0; e < 20; e++) {
        int seen[7] = {0};
        CHECK_OK(draws_order(&(Draws){.seed = 5}, d, e, order, &err), &err);
        CHECK_OK(draws_order(&(Draws){.seed = 5}, d, e, again, &err), &err);
        assert_memory_equal(order, again, sizeof order);
        for (int i = 0; i < 7; i++)
            seen[order[i]]++;
        for (int i = 0; i < 7; i++)
            assert_int_equal(seen[i], 1);
        CHECK_OK(draws_order(&(Draws){.seed = 5}, d, e + 1, again, &err), &err);
        moved += memcmp(order, again, sizeof order) != 0;
    }
    assert_true(moved >= 19);
    dataset_close(&d);
}

static void refusals(void **state)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};

    (void)state;
    CHECK_FAILS(dataset_open(&d, NULL, 0, &c, &err), ERR_USAGE, "no cache", &err);
    assert_null(d);
    CHECK_FAILS(open_names(&d, "nowhere", NULL, &c, &err), ERR_NOTFOUND, "nowhere", &err);
    CHECK_FAILS(open_names(&d, "wide", NULL, &c, &err), ERR_USAGE, "8 channels", &err);
    CHECK_FAILS(open_names(&d, "a", "tall", &c, &err), ERR_USAGE,
                "but clip 'clip-0' has 3 frames of 6 x 4: a run takes clips of one size", &err);
    CHECK_FAILS(open_names(&d, "holes", NULL, &c, &err), ERR_NOTFOUND, "text record", &err);
    CHECK_FAILS(open_names(&d, "lost", NULL, &c, &err), ERR_NOTFOUND, "latents record", &err);
    CHECK_FAILS(open_names(&d, "val", NULL, &c, &err), ERR_NOTFOUND, "split 'train'", &err);
    CHECK_FAILS(open_names(&d, "a", "again", &c, &err), ERR_USAGE, "clip-0", &err);
    CHECK_FAILS(open_names(&d, "a", "other", &c, &err), ERR_USAGE, "another VAE", &err);
    CHECK_FAILS(open_names(&d, "part", NULL, &c, &err), ERR_USAGE, "holds 2 of 3 clips", &err);
    CHECK_OK(open_names(&d, "done", NULL, &c, &err), &err);
    dataset_close(&d);
    c.text_dim = 64;
    CHECK_FAILS(open_names(&d, "a", NULL, &c, &err), ERR_USAGE,
                "226 tokens of 32 values, but the transformer reads 226 of 64", &err);
    c = tiny_config();
    c.patch = 4;
    CHECK_FAILS(open_names(&d, "a", NULL, &c, &err), ERR_USAGE, "patch size 4", &err);
    c = tiny_config();
    c.out_channels = 8;
    CHECK_FAILS(open_names(&d, "a", NULL, &c, &err), ERR_UNSUPPORTED, "as many out as in", &err);
}

static void expect_fault(const char *dir, const char *format, int clip)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    char text[128];

    snprintf(text, sizeof text, format, clip);
    if (dataset_open(&d, &dir, 1, &c, &err) == 0 || !strstr(err.msg, text))
        fail_msg("expected '%s', got '%s'", text, err.msg);
}

/* Puts a record of that tensor there, NULL: deletes it.  The cache is closed in between: a process may open
 * an LMDB environment once. */
static void change_record(const char *dir, CacheDb db, const Digest *key, const Tensor *tensor)
{
    Cache *cache = NULL;
    Err err = {0};

    CHECK_OK(cache_open(&cache, dir, CACHE_WRITE, &err), &err);
    if (tensor)
        CHECK_OK(cache_put_record(cache, db, key, RECORD_MOMENTS, tensor, &err), &err);
    else
        CHECK_OK(cache_delete_record(cache, db, key, &err), &err);
    cache_close(&cache);
}

/* Records are looked up in the order of their keys, but of several faults the first by id is told, a clip's latents
 * before its texts. */
static void first_fault(void **state)
{
    Dataset *d = NULL;
    DitConfig c = tiny_config();
    Err err = {0};
    char *dir = check_tmp_path("faults"), *bytes = NULL;
    int64_t size;
    static float zeros[FIX_F * 2 * FIX_H * FIX_W * 2 * FIX_C];
    Tensor tall = tensor_of(zeros, DT_F32, 4, FIX_F, 2 * FIX_H, FIX_W, 2 * FIX_C);

    (void)state;
    CHECK_OK(open_names(&d, "a", NULL, &c, &err), &err);
    CHECK_OK(file_read(check_tmp_path("caches/a/data.mdb"), 1 << 26, &bytes, &size, &err), &err);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("faults/data.mdb"), bytes, size, &err), &err);
    for (int i = 4; i >= 0; i--) {
        const Sample *s = &d->sample[i];
        change_record(dir, CACHE_TEXT, &s->text[s->n_text - 1], NULL);
        expect_fault(dir, "clip 'clip-%d': its text record is not in the cache", i);
        change_record(dir, CACHE_LATENTS, &s->latents, NULL);
        expect_fault(dir, "clip 'clip-%d': its latents record is not in the cache", i);
        if (i == 0)
            continue;
        change_record(dir, CACHE_LATENTS, &s->latents, &tall);
        expect_fault(dir, "clip 'clip-%d': latents F32 [3, 12, 4, 8], but clip 'clip-0' has 3 frames of 6 x 4", i);
    }
    dataset_close(&d);
    mem_free(bytes);
}

/* Of a dataset in three shards every one must be given; what is missing is named as --shard names
 * it. */
static void shards(void **state)
{
    DitConfig c = tiny_config();
    Dataset *d = NULL;
    Err err = {0};
    const char *all[] = {check_tmp_path("caches/shard-2-of-3"), check_tmp_path("caches/shard-0-of-3"),
                         check_tmp_path("caches/shard-1-of-3"), check_tmp_path("caches/b")};

    (void)state;
    CHECK_FAILS(open_names(&d, "shard-0-of-3", NULL, &c, &err), ERR_USAGE,
                "shard-0-of-3' is shard 0/3 of its dataset, and shards 1/3, 2/3 are missing", &err);
    assert_null(d);
    CHECK_FAILS(open_names(&d, "shard-2-of-3", "shard-0-of-3", &c, &err), ERR_USAGE, "and shard 1/3 is missing", &err);
    CHECK_FAILS(open_names(&d, "shard-0-of-3", "shard-1-of-2", &c, &err), ERR_USAGE, "with one count", &err);
    CHECK_FAILS(open_names(&d, "a", "shard-1-of-2", &c, &err), ERR_USAGE, "and shard 0/2 is missing", &err);
    CHECK_OK(dataset_open(&d, all, 4, &c, &err), &err); /* with a cache that says nothing of its dataset */
    assert_int_equal(d->n, 7);
    dataset_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_list),          cmocka_unit_test(draws_are_keyed), cmocka_unit_test(streams),
        cmocka_unit_test(posterior_moments), cmocka_unit_test(stored_samples),  cmocka_unit_test(orders),
        cmocka_unit_test(refusals),          cmocka_unit_test(first_fault),     cmocka_unit_test(shards),
    };
    return check_run_live("train-data", tests);
}
