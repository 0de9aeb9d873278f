/* Samples while training: those of step 0 are what weft-infer's pipeline makes of the same model, prompt and
 * seed (and that is held against diffusers, test_pipeline.c); a resume makes what is missing, to the same
 * bytes; what cannot be sampled is refused before any work. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "common/model/latent_colour.h"
#include "common/model/latents.h"
#include "infer/pipeline.h"
#include "tests/recipe_keys.h"
#include "tests/train_fixture.h"
#include "train/run.h"

static Err err;

enum { N = FIX_F * FIX_H * FIX_W * FIX_C, SETS = 16 };

static int train(const char *out, const char *const *more, int64_t n_more)
{
    const char *sets[SETS] = {
        "training.max_steps=4",      "training.checkpointing_steps=2", "validation.prompts=[\"one\", \"two\"]",
        "validation.sample_every=2", "sampling.num_inference_steps=4", "validation.decode=false"};
    const char *dirs[] = {check_tmp_path("caches/a"), check_tmp_path("caches/held")};
    TrainOptions o = {.common = {.preset = "demo", .device = "cpu", .jobs = 1, .quiet = 1, .seed = 31},
                      .out = out,
                      .cache = {dirs, 2},
                      .model = check_repo_path("tests/golden/pipeline/model")};
    FILE *nowhere = fopen("/dev/null", "w");
    Job j = {0};
    int rc;

    assert_non_null(nowhere);
    for (int64_t i = 0; i < n_more; i++)
        sets[6 + i] = more[i];
    o.common.set = (StrList){sets, 6 + n_more};
    rc = job_open(&j, &o, &err);
    if (rc == 0)
        rc = job_print(&j, nowhere, &err);
    if (rc == 0)
        rc = train_run(&j, out, &err);
#ifndef WEFT_ARENA_SPLIT /* whose pieces are not planned */
    if (rc == 0)
        check_value("memory", (double)j.be->allocated, j.planned, 0, 0); /* sampler and VAE included */
#endif
    job_close(&j);
    assert_int_equal(fclose(nowhere), 0);
    return rc;
}

static int one_line(void *user, const char *text, int64_t size, const char *where, Err *e)
{
    json_t *line = NULL;
    int rc = json_parse(&line, text, size, where, e);

    if (rc == 0) {
        json_object_del(line, "time");
        json_array_append_new(user, line);
    }
    return rc;
}

static json_t *lines_of(const char *out)
{
    char *path = path_join(out, "samples.jsonl", &err);
    json_t *lines = json_array();

    CHECK_OK(lines_read(path, RECORD_BYTES_MAX, one_line, lines, &err), &err);
    mem_free(path);
    return lines;
}

/* The latents of a sample as [F,h,w,C]. */
static void read_latents(const char *out, const char *file, float *z)
{
    char *path = path_join(out, file, &err);
    SafeTensors *st = NULL;
    const SafeEntry *e;

    CHECK_OK(safetensors_open(&st, path, &err), &err);
    assert_non_null(e = safetensors_find(st, "latents"));
    assert_int_equal(tensor_count(&e->tensor), N);
    assert_int_equal(e->tensor.dim[2], FIX_C);
    latents_from_torch(z, e->tensor.data, FIX_F, FIX_C, FIX_H, FIX_W);
    safetensors_close(&st);
    mem_free(path);
}

/* The embedding of a clip's first text, or of the empty prompt, as the fixture made it. */
static void fixture_text(uint64_t stream, float *out)
{
    Philox p = philox_stream(5, RNG_TEST, 0, stream);

    philox_fill_normal(&p, 0, out, FIX_S * FIX_D);
}

static void step_0_is_the_pipelines(void **state)
{
    static float text[FIX_S * FIX_D], negative[FIX_S * FIX_D], z[N];
    static const uint64_t stream[] = {1000, 1001}; /* clip-0: "one", "two" */
    const char *out = check_tmp_path("whole");
    SampleSettings s = {.width = 8 * FIX_W,
                        .height = 8 * FIX_H,
                        .num_frames = 9,
                        .model_frames = 9,
                        .latent_frames = FIX_F,
                        .fps = 8,
                        .sampler = SAMPLER_DDIM,
                        .steps = 4,
                        .guidance = 6.0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    json_t *lines;

    (void)state;
    CHECK_OK(train(out, NULL, 0), &err);
    lines = lines_of(out);
    assert_int_equal(json_array_size(lines), 6); /* steps 0, 2, 4 */
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
    fixture_text(9999, negative);
    for (int k = 0; k < 2; k++) {
        const json_t *line = json_array_get(lines, (size_t)k);
        Denoising d;
        fixture_text(stream[k], text);
        CHECK_OK(denoising_init(&d, p, &err), &err);
        CHECK_OK(pipeline_denoise(p, text, negative, 31 + (uint64_t)k, &d, NULL, &err), &err);
        read_latents(out, json_string_value(json_object_get(line, "latents")), z);
        assert_memory_equal(z, d.latents, sizeof z);
        assert_string_equal(json_string_value(json_object_get(line, "prompt")), k ? "two" : "one");
        assert_true(json_is_null(json_object_get(line, "picture"))); /* the fixture has no map of colours */
        denoising_fini(&d);
    }
    pipeline_close(&p);
    backend_close(&be);
    json_decref(lines);
}

/* The same noise, other weights. */
static void samples_follow_the_weights(void **state)
{
    static float first[N], later[N];
    double off = 0;

    (void)state;
    read_latents(check_tmp_path("whole"), "samples/step-0-0.safetensors", first);
    read_latents(check_tmp_path("whole"), "samples/step-4-0.safetensors", later);
    for (int i = 0; i < N; i++)
        off += fabs(first[i] - later[i]);
    assert_true(off > 1e-3 && off < 100.0 * N);
}

static void same_file(const char *a, const char *b, const char *name)
{
    char *x = path_join(a, name, &err), *y = path_join(b, name, &err), hex[2][65];

    CHECK_OK(sha256_file_hex(x, hex[0], &err), &err);
    CHECK_OK(sha256_file_hex(y, hex[1], &err), &err);
    assert_string_equal(hex[0], hex[1]);
    mem_free(x);
    mem_free(y);
}

/* Stopped after step 2 with one of its two samples made. */
static void a_resume_makes_what_is_missing(void **state)
{
    const char *two = "training.max_steps=2", *out = check_tmp_path("resumed"), *whole = check_tmp_path("whole");
    char *path = path_join(out, "samples.jsonl", &err), *text = NULL, *at;
    json_t *a, *b;
    int64_t size;

    (void)state;
    CHECK_OK(train(out, &two, 1), &err);
    CHECK_OK(file_read(path, 1 << 20, &text, &size, &err), &err);
    at = text;
    for (int i = 0; i < 3; i++)
        at = strchr(at, '\n') + 1;
    CHECK_OK(file_write_atomic(path, text, at - text, &err), &err);
    CHECK_OK(train(out, NULL, 0), &err);
    a = lines_of(whole);
    b = lines_of(out);
    assert_true(json_equal(a, b));
    same_file(whole, out, "samples/step-2-1.safetensors");
    same_file(whole, out, "samples/step-4-1.safetensors");
    same_file(whole, out, "final/transformer/diffusion_pytorch_model.safetensors");
    json_decref(a);
    json_decref(b);
    mem_free(path);
    mem_free(text);
}

/* Training does not depend on what is sampled or measured on the way. */
static void sampling_changes_no_weight(void **state)
{
    const char *none[] = {"validation.prompts=[]", "validation.clips=0"};

    (void)state;
    CHECK_OK(train(check_tmp_path("none"), none, 2), &err);
    same_file(check_tmp_path("whole"), check_tmp_path("none"), "final/transformer/diffusion_pytorch_model.safetensors");
    assert_false(file_exists(check_tmp_path("none/samples.jsonl")));
}

static void pictures_through_the_map(void **state)
{
    const char *dir = check_tmp_path("caches/a"), *out = check_tmp_path("pictures");
    json_t *colour = json_pack("{s:[[f,f,f],[f,f,f],[f,f,f],[f,f,f],[f,f,f]], s:f, s:[s]}", "weights", 0.1, 0.0, 0.0,
                               0.0, 0.1, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.5, 0.25, 0.75, "explained", 0.5, "clips",
                               "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    static float z[N];
    uint8_t *rgb = NULL, want[3];
    int64_t width, height;
    Cache *c = NULL;
    LatentColour m;

    (void)state;
    assert_non_null(colour);
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    CHECK_OK(cache_put_meta(c, "colour", colour, &err), &err);
    cache_close(&c);
    CHECK_OK(train(out, NULL, 0), &err);
    char *path = path_join(out, "samples/step-4-1.png", &err);
    CHECK_OK(picture_read(path, &rgb, &width, &height, &err), &err);
    assert_int_equal(height, 30 * FIX_H); /* 180 pixels high */
    assert_int_equal(width, FIX_F * 30 * FIX_W + (FIX_F - 1) * 2);
    CHECK_OK(latent_colour_parse(&m, colour, "colour", &err), &err);
    read_latents(out, "samples/step-4-1.safetensors", z);
    for (int f = 0; f < FIX_F; f++) /* the middle of row 2, column 3 of each frame */
    {
        latent_colour_apply(&m, want, z + ((f * FIX_H + 2) * FIX_W + 3) * FIX_C, 1, 1 / 1.15258426);
        const uint8_t *got = rgb + ((2 * 30 + 15) * width + f * (30 * FIX_W + 2) + 3 * 30 + 15) * 3;
        assert_memory_equal(got, want, 3);
    }
    mem_free(path);
    mem_free(rgb);
    json_decref(colour);
}

/* Frames are those of weft-infer's pipeline; of nine frames the last is left out, as there. */
static void decoded(void **state)
{
    static float z[N];
    static uint8_t rgb[9 * 8 * FIX_H * 8 * FIX_W * 3];
    static const int shown[] = {0, 1, 3, 5, 7};
    const char *decode[] = {"validation.decode=true", "validation.sample_every=null"}, *out = check_tmp_path("decoded");
    SampleSettings s = {.width = 8 * FIX_W,
                        .height = 8 * FIX_H,
                        .num_frames = 9,
                        .model_frames = 9,
                        .latent_frames = FIX_F,
                        .fps = 8,
                        .sampler = SAMPLER_DDIM,
                        .steps = 4,
                        .guidance = 6.0};
    char *path = path_join(out, "samples/step-4-1.mp4", &err);
    uint8_t *got = NULL;
    Backend *be = NULL;
    Pipeline *p = NULL;
    int64_t n, width, height;

    (void)state;
    CHECK_OK(train(out, decode, 2), &err);
    assert_false(file_exists(check_tmp_path("decoded/samples/step-2-0.mp4")));
    CHECK_OK(video_read_rgb(path, 8, 8 * FIX_W, 8 * FIX_H, &got, &n, &width, &height, &err), &err);
    mem_free(got);
    mem_free(path);
    read_latents(out, "samples/step-4-1.safetensors", z);
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
    CHECK_OK(pipeline_decode(p, z, rgb, NULL, &err), &err);
    path = path_join(out, "samples/step-4-1.png", &err);
    CHECK_OK(picture_read(path, &got, &width, &height, &err), &err);
    assert_int_equal(height, 8 * FIX_H);
    assert_int_equal(width, 5 * 8 * FIX_W + 4 * 2);
    for (int k = 0; k < 5; k++)
        for (int y = 0; y < 8 * FIX_H; y++)
            assert_memory_equal(got + (y * width + k * (8 * FIX_W + 2)) * 3,
                                rgb + (shown[k] * 8 * FIX_H + y) * 8 * FIX_W * 3, 8 * FIX_W * 3);
    pipeline_close(&p);
    backend_close(&be);
    mem_free(got);
    mem_free(path);
}

static void refusals(void **state)
{
    const char *unknown = "validation.prompts=[\"a text that no clip has\"]",
               *negative = "sampling.negative_prompt=blurry", *steps = "sampling.num_inference_steps=1001";

    (void)state;
    CHECK_FAILS(train(check_tmp_path("x"), &unknown, 1), ERR_USAGE, "\"a text that no clip has\"", &err);
    CHECK_FAILS(train(check_tmp_path("x"), &negative, 1), ERR_USAGE, "\"blurry\"", &err);
    assert_true(train(check_tmp_path("x"), &steps, 1) < 0);
    err_clear(&err);
    assert_false(file_exists(check_tmp_path("x")));
}

/* Each key of the section is given another value in these tests or in test_held_out.c. */
static void every_key_has_a_test(void **state)
{
    static const char *const keys[] = {"clips", "timesteps", "every", "prompts", "sample_every", "decode"};

    (void)state;
    recipe_keys_covered("validation", "keys", keys, sizeof keys / sizeof *keys);
}

/* The fixture names the text encoder's digest as the empty prompt's key: puts an embedding there. */
static int add_empty_prompt(const char *dir)
{
    Cache *c = NULL;
    CacheTxn *t = NULL;
    json_t *text = NULL;
    int rc = cache_open(&c, dir, CACHE_READ, &err);

    if (rc == 0 && (rc = cache_begin(&t, c, &err)) == 0)
        rc = cache_get_meta(t, "text", &text, &err);
    cache_end(&t);
    cache_close(&c);
    if (rc > 0 && (rc = cache_open(&c, dir, CACHE_WRITE, &err)) == 0)
        rc = fixture_put_tensor(c, CACHE_TEXT, json_string_value(json_object_get(text, "empty")), RECORD_TEXT, DT_F32,
                                2, (int64_t[]){FIX_S, FIX_D}, 9999, 0, &err);
    cache_close(&c);
    json_decref(text);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_a_test),
        cmocka_unit_test(step_0_is_the_pipelines),
        cmocka_unit_test(samples_follow_the_weights),
        cmocka_unit_test(a_resume_makes_what_is_missing),
        cmocka_unit_test(sampling_changes_no_weight),
        cmocka_unit_test(pictures_through_the_map),
        cmocka_unit_test(decoded),
        cmocka_unit_test(refusals),
    };

    if (fixture_make(check_repo_path("tests/golden/pipeline/model"), check_tmp_path("caches"), &err) < 0 ||
        add_empty_prompt(check_tmp_path("caches/a")) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    return check_run("samples", tests);
}
