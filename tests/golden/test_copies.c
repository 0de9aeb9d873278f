/* The copy check against numpy (tests/golden/make_copies.py), on a cache and kept latents made here; and what it
 * refuses. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/metrics/nearest.h"
#include "common/model/latents.h"
#include "common/store/cache.h"
#include "common/store/safetensors.h"
#include "infer/copies.h"

enum { F = 3, H = 6, W = 5, C = 4, N = F * H * W * C, CLIPS = 40, SAMPLES = 6 };
static const float SCALE = 1.15258426f;
static Err err;

static void draw(float *out, uint32_t seed, float factor)
{
    for (int i = 0; i < N; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = (float)((seed >> 8) / 0x1p23 - 1) * factor;
    }
}

/* Four live at a time. */
static const char *hex_of(int i)
{
    static char hex[4][65];
    static int at;
    at = (at + 1) % 4;
    snprintf(hex[at], sizeof hex[at], "%064d", i);
    return hex[at];
}

static void put_clip(Cache *c, int i, int64_t h, const char *split)
{
    float z[N], moments[2 * N];
    char id[16];
    Digest key;

    draw(z, (uint32_t)(100 + i), (float)(1 + i % 3));
    for (int k = 0; k < N; k++) {
        moments[k / C * 2 * C + k % C] = z[k];
        moments[k / C * 2 * C + C + k % C] = 1e6f; /* no part of the mean */
    }
    Tensor t = tensor_of(moments, DT_F32, 4, (int64_t)F, h, (int64_t)W, (int64_t)2 * C);
    CHECK_OK(digest_parse(hex_of(i), &key, &err), &err);
    CHECK_OK(cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &t, &err), &err);
    snprintf(id, sizeof id, "clip-%02d", i);
    json_t *facts = json_pack(
        "{s:s, s:[s], s:[s], s:[s], s:s, s:n, s:{}, s:i, s:I, s:i, s:i, s:{s:i, s:I, s:i, s:i}, s:s, s:s, s:s, s:s}",
        "latents", hex_of(i), "texts", hex_of(i), "tokens", hex_of(i), "captions", "a dress", "split", split,
        "category", "attributes", "frames", 9, "height", (json_int_t)(8 * h), "width", 8 * W, "fps", 8, "latent",
        "frames", F, "height", (json_int_t)h, "width", W, "channels", C, "pixels_sha256", hex_of(i), "file_sha256",
        hex_of(i), "vae_sha256", hex_of(i), "text_encoder_sha256", hex_of(i));
    CHECK_OK(cache_put_clip(c, id, facts, &err), &err);
    json_decref(facts);
}

/* Clips, two of them held out; with `odd` also one of another size. */
static void make_cache(const char *dir, int odd)
{
    Cache *c = NULL;
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    json_t *vae = json_pack("{s:f, s:b, s:i, s:{}, s:s, s:n}", "scaling_factor", (double)SCALE, "invert_scale_latents",
                            0, "latent_channels", C, "config", "weights_sha256", hex_of(1), "tiling");
    CHECK_OK(cache_put_meta(c, "vae", vae, &err), &err);
    json_decref(vae);
    for (int i = 0; i < CLIPS; i++)
        put_clip(c, i, H, i == 7 || i == 8 ? "val" : "train");
    if (odd)
        put_clip(c, CLIPS, H - 1, "train");
    cache_close(&c);
}

/* Sample i's latents, as the pipeline has them. */
static void sample_latents(float *z, int i)
{
    static const int like[] = {5, 30, 7};
    float own[N];
    draw(own, (uint32_t)(900 + i), 2 * SCALE);
    memcpy(z, own, sizeof own);
    if (i > 2)
        return;
    draw(z, (uint32_t)(100 + like[i]), (float)(1 + like[i] % 3));
    for (int k = 0; k < N; k++)
        z[k] = z[k] * SCALE + (i ? own[k] / 64 : 0);
}

static void write_latents(const char *path)
{
    static float torch[SAMPLES][N];
    static const char *const names[] = {"s0", "s1", "s2", "s3", "s4", "s5"};
    SafeSource source[SAMPLES];
    json_t *meta = json_object();
    for (int i = 0; i < SAMPLES; i++) {
        float z[N];
        sample_latents(z, i);
        latents_to_torch(torch[i], z, F, C, H, W);
        source[i] = (SafeSource){
            names[i], tensor_of(torch[i], DT_F32, 5, (int64_t)1, (int64_t)F, (int64_t)C, (int64_t)H, (int64_t)W)};
        json_object_set_new(meta, names[i], json_string(hex_of(50 + i)));
    }
    CHECK_OK(safetensors_write(path, source, SAMPLES, meta, &err), &err);
    json_decref(meta);
}

/* The record beside a video that need not be there, and its place in the list. */
static void add_sample(VideoItem *item, int i, const char *vae, int64_t frames)
{
    char name[16];
    const char *none = hex_of(0);
    json_t *record = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:s, s:{}, s:{s:s, s:s, s:s, s:s, s:s}, s:{s:s, s:s, s:i, s:i, s:i, s:i, s:s}}",
        "key", hex_of(50 + i), "id", "s", "prompt", "", "negative_prompt", "", "seed", i, "backend", "cpu", "sampling",
        "weights", "transformer", none, "vae", vae, "text_encoder", none, "tokenizer", none, "configs", none, "video",
        "file", "s.mp4", "sha256", none, "frames", (int)frames, "width", 8 * W, "height", 8 * H, "fps", 8, "rgb_sha256",
        none);
    snprintf(name, sizeof name, "s%d.json", i);
    CHECK_OK(json_write_file(record, check_tmp_path(name), &err), &err);
    json_decref(record);
    snprintf(name, sizeof name, "s%d.mp4", i);
    item->path = check_tmp_path(name);
    snprintf(name, sizeof name, "s%d", i);
    mem_free(item->id); /* of an earlier call */
    item->id = mem_strdup(name, &err);
}

typedef struct Set {
    const char *cache, *latents;
    VideoItem item[SAMPLES];
    Measured measured[SAMPLES];
    Evaluation e;
    Recipe *recipe;
} Set;

static void set_up(Set *s, const char *name, int odd)
{
    char vae[65];
    memset(s, 0, sizeof *s);
    s->cache = check_tmp_path(name);
    s->latents = check_tmp_path("kept.safetensors");
    make_cache(s->cache, odd);
    write_latents(s->latents);
    snprintf(vae, sizeof vae, "%s", hex_of(1));
    for (int i = 0; i < SAMPLES; i++) {
        add_sample(&s->item[i], i, vae, 9);
        s->measured[i].done = 1;
    }
    s->e = (Evaluation){.videos = {s->item, SAMPLES, SAMPLES}, .measured = s->measured};
    CHECK_OK(recipe_open(&s->recipe, &(CommonOptions){.preset = "demo", .seed = -1}, &err), &err);
}

static void tear_down(Set *s)
{
    for (int i = 0; i < SAMPLES; i++)
        mem_free(s->item[i].id);
    recipe_close(&s->recipe);
}

static int open_plan(Copies **c, Set *s, const CopyOptions *o, int64_t jobs)
{
    int rc = copies_open(c, o, "cpu", jobs, s->recipe, NULL, &err);
    return rc < 0 ? rc : copies_plan(*c, 0, &s->e.videos, &err);
}

static void compare_with_numpy(int odd, int64_t jobs)
{
    static const char *const side[] = {"videos", "videos"};
    json_t *want = NULL, *got = NULL;
    Copies *c = NULL;
    Set s;

    set_up(&s, odd ? "odd" : "even", odd);
    CopyOptions o = {.cache = s.cache, .latents = {&s.latents, 1}};
    CHECK_OK(json_read_file(&want, check_repo_path("tests/golden/copies.json"), &err), &err);
    CHECK_OK(open_plan(&c, &s, &o, jobs), &err);
    s.measured[4].done = 2; /* a video that could not be read is left out */
    CHECK_OK(copies_run(c, (const Evaluation *const[]){&s.e}, 1, &err), &err);
    for (int i = 0; i < SAMPLES; i++) {
        const json_t *w = json_array_get(json_object_get(want, "samples"), (size_t)i);
        const Closest *k = copies_closest(c, 0, i);
        if (i == 4) {
            assert_null(k);
            continue;
        }
        assert_non_null(k);
        assert_string_equal(copies_clip_id(c, k->clip), json_string_value(json_object_get(w, "clip")));
        check_value("distance", k->distance, json_number_value(json_object_get(w, "distance")), 1e-7, 1e-6);
        check_value("share", k->share, json_number_value(json_object_get(w, "share")), 1e-12, 0);
        assert_int_equal(k->closer, json_is_true(json_object_get(w, "closer")));
        assert_int_equal(k->encoded, 0);
    }
    CHECK_OK(copies_json(c, side, &got, &err), &err);
    const json_t *training = json_object_get(got, "training"), *theirs = json_object_get(want, "training");
    check_value("p5", json_number_value(json_object_get(training, "p5")),
                json_number_value(json_object_get(want, "p5")), 0, 1e-6);
    check_value("median", json_number_value(json_object_get(training, "median")),
                json_number_value(json_object_get(want, "median")), 0, 1e-6);
    check_value("least", json_number_value(json_object_get(training, "least")),
                json_number_value(json_array_get(theirs, 0)), 0, 1e-6);
    check_value("most", json_number_value(json_object_get(training, "most")),
                json_number_value(json_array_get(theirs, json_array_size(theirs) - 1)), 0, 1e-6);
    assert_int_equal(json_integer_value(json_object_get(training, "clips")), CLIPS - 2);
    assert_int_equal(json_integer_value(json_object_get(training, "other_sizes")), odd);
    assert_int_equal(json_array_size(json_object_get(got, "samples")), SAMPLES - 1);
    json_decref(got);
    json_decref(want);
    copies_close(&c);
    tear_down(&s);
}

static void distances_are_numpys(void **state)
{
    (void)state;
    compare_with_numpy(0, 1);
    compare_with_numpy(1, 3);
}

/* Lengths around the pieces that are summed apart, against a plain sum; the same bits with any threads. */
static void all_lengths(void **state)
{
    enum { MOST = 2 * 4096 + 300 };
    static float a[MOST], b[MOST];
    static const int64_t lengths[] = {1, 15, 16, 255, 256, 257, 4095, 4096, 4097, MOST};
    (void)state;
    for (int i = 0; i < MOST; i++) {
        a[i] = (float)((i * 37) % 101) / 50 - 1;
        b[i] = (float)((i * 53) % 97) / 48 - 1;
    }
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        double want = 0, got[4], again[4];
        const float *query[] = {a, b}, *row[] = {b, a};
        for (int64_t i = 0; i < lengths[k]; i++)
            want += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        nearest_distances(got, query, 2, row, 2, lengths[k], 1);
        nearest_distances(again, query, 2, row, 2, lengths[k], 3);
        check_value("distance", got[0], sqrt(want / (double)lengths[k]), 0, 1e-6);
        check_value("to itself", got[1], 0, 0, 0);
        assert_memory_equal(got, again, sizeof got);
    }
}

static void refused(void **state)
{
    Copies *c = NULL;
    Set s;
    (void)state;
    set_up(&s, "refused", 1);
    CopyOptions o = {.cache = s.cache, .latents = {&s.latents, 1}};
    CHECK_FAILS(copies_open(&c, &(CopyOptions){.latents = o.latents}, "cpu", 1, s.recipe, NULL, &err), ERR_USAGE,
                "give --train-cache too", &err);
    CHECK_FAILS(open_plan(&c, &s, &(CopyOptions){.cache = s.cache}, 1), ERR_USAGE, "give --model FOLDER", &err);
    copies_close(&c);
    add_sample(&s.item[0], 0, hex_of(2), 9); /* the same id: another VAE in its record */
    CHECK_FAILS(open_plan(&c, &s, &o, 1), ERR_USAGE, "are of another VAE", &err);
    copies_close(&c);
    tear_down(&s);
    set_up(&s, "refused", 0);
    const char *model = check_repo_path("tests/golden/pipeline/model");
    CHECK_FAILS(copies_open(&c, &(CopyOptions){.cache = s.cache, .model = model}, "cpu", 1, s.recipe, NULL, &err),
                ERR_USAGE, "is another VAE than the one", &err);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_lengths), cmocka_unit_test(distances_are_numpys),
                                       cmocka_unit_test(refused)};
    return check_run("copies", tests);
}
