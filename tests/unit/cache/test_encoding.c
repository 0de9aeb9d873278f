/* Encoding for the cache: stored values are the models' own, keys change with everything that
 * shapes a value, and with nothing else. */
#include "check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cache/encoding_internal.h"
#include "cache/text_form.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
enum { T = 9, H = 32, W = 16, LENGTH = 8 };

static Backend *be; /* of the test that runs */

static void begin(void)
{
    Err err = {0};
    CHECK_OK(backend_open(&be, "cpu", 2, NULL, &err), &err);
}

/* A model folder made by the tool that stands beside this test. */
static char *model_folder(const char *name, const char *n)
{
    Err err = {0};
    char *out = check_tmp_path(name), command[2048], self[1024];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    char *here = path_dir(self, &err);
    snprintf(command, sizeof command, "'%s/../../tools/make_encoders' '%s' %s", here, out, n);
    mem_free(here);
    assert_int_equal(system(command), 0);
    return out;
}

static Encoding *open_encoding(const char *model, const char *const *settings)
{
    Err err = {0};
    Encoding *e = NULL;
    Recipe *r = NULL;
    const char *set[8] = {"model.text_length=8"};
    int64_t n = 1;
    for (; settings && settings[n - 1]; n++)
        set[n] = settings[n - 1];
    CommonOptions o = {.preset = "demo", .set = {set, n}, .seed = -1};
    CHECK_OK(recipe_open(&r, &o, &err), &err);
    CHECK_OK(encoding_open(&e, be, r, model, NULL, NULL, &err), &err);
    recipe_close(&r);
    return e;
}

static int32_t ids[LENGTH] = {7, 8, 9, 1};
static const PreparedText text = {.text = (char *)"red", .ids = ids, .n = 4};
static const PreparedClip clip = {
    .id = (char *)"a", .frames = T, .height = H, .width = W, .fps = 8, .pixels_sha256 = HEX64};

static uint8_t *make_pixels(void)
{
    uint8_t *rgb = malloc(T * H * W * 3);
    for (int i = 0; i < T * H * W * 3; i++)
        rgb[i] = (uint8_t)(i * 2654435761u >> 24);
    return rgb;
}

static void stores_what_the_models_give(void **state)
{
    (void)state;
    begin();
    Err err = {0};
    char *model = model_folder("model", "");
    uint8_t *rgb = make_pixels();
    Encoding *e = open_encoding(model, NULL);
    Encoder *enc = NULL;
    Tensor got;
    CHECK_OK(encoder_open_clips(&enc, e, &clip, &err), &err);
    CHECK_OK(encoder_clip(enc, &clip, rgb, &got, &err), &err);
    Tensor shape = encoding_latents_shape(e, &clip);
    assert_true(tensor_same_shape(&got, &shape));
    assert_int_equal(got.dim[0], 3);
    assert_int_equal(got.dim[3], 8);
    int64_t n = tensor_count(&got), bytes;
    float *moments = malloc((size_t)tensor_bytes(&got)), *direct = malloc((size_t)tensor_bytes(&got));
    memcpy(moments, got.data, (size_t)tensor_bytes(&got));
    encoder_close(&enc);
    encoder_close(&enc);

    Vae *vae = NULL;
    Arena *work = NULL;
    CHECK_OK(vae_open(&vae, be, e->vae_dir, VAE_ENCODES, &err), &err);
    CHECK_OK(encoding_plan_clip(e, &clip, &bytes, &err), &err);
    CHECK_OK(arena_new(&work, be, bytes, "test", &err), &err);
    CHECK_OK(vae_encode_rgb(vae, work, NULL, direct, rgb, T, H, W, &err), &err);
    assert_memory_equal(moments, direct, (size_t)n * 4);
    arena_free(&work);
    vae_close(&vae);

    CHECK_OK(encoder_open_text(&enc, e, &err), &err);
    CHECK_OK(encoder_text(enc, &text, &got, &err), &err);
    T5 *t5 = NULL;
    float *hidden = malloc((size_t)tensor_bytes(&got));
    CHECK_OK(t5_open(&t5, be, e->text_dir, &err), &err);
    CHECK_OK(encoding_plan_text(e, &bytes, &err), &err);
    CHECK_OK(arena_new(&work, be, bytes, "test", &err), &err);
    CHECK_OK(t5_encode(t5, work, hidden, ids, NULL, LENGTH, &err), &err);
    assert_memory_equal(got.data, hidden, (size_t)tensor_bytes(&got));
    arena_free(&work);
    t5_close(&t5);
    /* several in one pass: each as if it were alone */
    int32_t others[] = {9, 3, 1}; /* without padding */
    PreparedText other_text = {.text = (char *)"blue", .ids = others, .n = 3};
    float *second = malloc((size_t)tensor_bytes(&got));
    CHECK_OK(encoder_text(enc, &other_text, &got, &err), &err);
    memcpy(second, got.data, (size_t)tensor_bytes(&got));
    CHECK_OK(encoder_pass(enc, (const PreparedText *const[]){&text, &other_text, &text}, 3, &err), &err);
    for (int k = 0; k < 3; k++) {
        CHECK_OK(encoder_passed(enc, k, &got, &err), &err);
        assert_memory_equal(got.data, k == 1 ? second : hidden, (size_t)tensor_bytes(&got));
    }
    free(second);
    encoder_close(&enc);
    free(hidden);
    encoding_close(&e);

    /* fp16: the same values, rounded */
    e = open_encoding(model, (const char *const[]){"cache.dtype=fp16", NULL});
    CHECK_OK(encoder_open_clips(&enc, e, &clip, &err), &err);
    CHECK_OK(encoder_clip(enc, &clip, rgb, &got, &err), &err);
    assert_int_equal(got.dtype, DT_F16);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(((uint16_t *)got.data)[i], float_to_half(moments[i]));
    encoder_close(&enc);
    encoding_close(&e);

    /* one draw: mean + std * normal, the same every time, another for other pixels */
    e = open_encoding(model, (const char *const[]){"cache.store=sample", NULL});
    float *draw = malloc((size_t)n * 2);
    double sum = 0, squares = 0;
    CHECK_OK(encoder_open_clips(&enc, e, &clip, &err), &err);
    CHECK_OK(encoder_clip(enc, &clip, rgb, &got, &err), &err);
    assert_int_equal(got.dim[3], 4);
    memcpy(draw, got.data, (size_t)n * 2);
    for (int64_t i = 0; i < n / 2; i++) {
        double mean = moments[i / 4 * 8 + i % 4], std = exp(0.5 * moments[i / 4 * 8 + 4 + i % 4]),
               z = (draw[i] - mean) / std;
        sum += z;
        squares += z * z;
    }
    check_value("mean of the draws", sum / (double)(n / 2), 0, 5 / sqrt((double)n / 2), 0); /* five standard errors */
    check_value("variance of the draws", squares / (double)(n / 2), 1, 5 * sqrt(4.0 / (double)n), 0);
    CHECK_OK(encoder_clip(enc, &clip, rgb, &got, &err), &err);
    assert_memory_equal(got.data, draw, (size_t)n * 2);
    PreparedClip other = clip;
    other.pixels_sha256 = OTHER;
    CHECK_OK(encoder_clip(enc, &other, rgb, &got, &err), &err);
    assert_memory_not_equal(got.data, draw, (size_t)n * 2);
    encoder_close(&enc);
    encoding_close(&e);
    free(draw);
    free(moments);
    free(direct);
    free(rgb);
    backend_close(&be);
}

typedef struct Keys {
    Digest latents, text, tokens;
} Keys;

static Keys keys_of(Encoding *e, const PreparedClip *c, const PreparedText *t)
{
    Err err = {0};
    Keys k;
    CHECK_OK(encoding_latents_key(e, c, &k.latents, &err), &err);
    CHECK_OK(encoding_text_key(e, t, &k.text, &err), &err);
    CHECK_OK(encoding_tokens_key(e, t->text, &k.tokens, &err), &err);
    return k;
}

/* Which of the three keys differ: "l", "t", "o" for latents, text, tokens. */
static void expect_change(const char *what, const Keys *a, const Keys *b, const char *want)
{
    char got[4] = "", *p = got;
    if (memcmp(&a->latents, &b->latents, sizeof(Digest)))
        *p++ = 'l';
    if (memcmp(&a->text, &b->text, sizeof(Digest)))
        *p++ = 't';
    if (memcmp(&a->tokens, &b->tokens, sizeof(Digest)))
        *p++ = 'o';
    *p = '\0';
    if (strcmp(got, want) != 0)
        fail_msg("%s: keys '%s' change, expected '%s'", what, got, want);
}

static void keys_follow_what_shapes_a_value(void **state)
{
    (void)state;
    begin();
    char *model = check_tmp_path("model"), *changed = model_folder("changed", "3");
    Encoding *e = open_encoding(model, NULL), *o;
    Keys base = keys_of(e, &clip, &text), k;
    static const struct {
        const char *set, *changes;
    } settings[] = {
        {"cache.dtype=bf16", "lt"},
        {"cache.store=sample", "l"},
        {"cache.vae_tiling=true", "l"},
        {"model.text_length=9", "to"},
        {"seed=5", ""},
        {"training.learning_rate=0.5", ""},
        {"clip.fit=pad", ""},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        o = open_encoding(model, (const char *const[]){settings[i].set, NULL});
        k = keys_of(o, &clip, &text);
        expect_change(settings[i].set, &base, &k, settings[i].changes);
        encoding_close(&o);
    }
    Encoding *s1 = open_encoding(model, (const char *const[]){"cache.store=sample", NULL});
    Encoding *s2 = open_encoding(model, (const char *const[]){"cache.store=sample", "seed=5", NULL});
    Keys k1 = keys_of(s1, &clip, &text), k2 = keys_of(s2, &clip, &text);
    expect_change("seed of a sample", &k1, &k2, "l");
    encoding_close(&s1);
    encoding_close(&s2);
    o = open_encoding(changed, NULL);
    k = keys_of(o, &clip, &text);
    expect_change("other weights", &base, &k, "lt");
    encoding_close(&o);
    char *copy = model_folder("copy", "");
    o = open_encoding(copy, NULL);
    k = keys_of(o, &clip, &text);
    expect_change("the same model elsewhere", &base, &k, "");
    encoding_close(&o);

    PreparedClip c = clip;
    c.id = (char *)"another";
    k = keys_of(e, &c, &text);
    expect_change("id", &base, &k, "");
    c.pixels_sha256 = OTHER;
    k = keys_of(e, &c, &text);
    expect_change("pixels", &base, &k, "l");
    c = clip;
    c.frames = 17;
    k = keys_of(e, &c, &text);
    expect_change("frames", &base, &k, "l");
    int32_t other_ids[LENGTH] = {7, 8, 10, 1};
    PreparedText t = text;
    t.ids = other_ids;
    k = keys_of(e, &clip, &t);
    expect_change("ids", &base, &k, "t");
    t = text;
    t.text = (char *)"Red";
    k = keys_of(e, &clip, &t);
    expect_change("another text of the same ids", &base, &k, "o");
    encoding_close(&e);
    backend_close(&be);
}

/* With T5 v1.1 XXL 480 captions and the empty prompt pass together, and leave room for the rest in 3 GiB; a small
 * encoder's passes do not grow with the number of captions. */
static void passes_hold(void **state)
{
    (void)state;
    begin();
    Encoding xxl = {.be = be, .text_bytes = 9524600000, .form = {.kind = TEXT_T5, .length = 226}};
    xxl.text.kind = TEXT_T5;
    xxl.text.t5.d_model = 4096;
    int64_t a_text = 226 * 4096 * 4;
    assert_in_range(encoding_pass_texts(&xxl), 481, (2000 << 20) / a_text);
    xxl.text_bytes = 100000;
    assert_in_range(encoding_pass_texts(&xxl), 4, (16 << 20) / a_text);
    backend_close(&be);
}

/* A model whose text encoder is CLIP's: its length where the recipe's is the preset's, its marks in
 * the empty prompt, keys that are no T5's, and the values of clip_text. */
static void takes_clip(void **state)
{
    (void)state;
    begin();
    Err err = {0};
    char *model = check_repo_path("tests/golden/clip_pipeline/model");
    Encoding *e = NULL, *t5 = open_encoding(check_tmp_path("model"), NULL);
    Recipe *r = NULL;
    CHECK_OK(recipe_open(&r, &(CommonOptions){.preset = "demo", .seed = -1}, &err), &err);
    CHECK_OK(encoding_open(&e, be, r, model, NULL, NULL, &err), &err);
    assert_int_equal(e->form.kind, TEXT_CLIP);
    assert_int_equal(e->form.length, 77);
    assert_int_equal(t5->form.kind, TEXT_T5);
    assert_int_equal(encoding_pass_texts(e), 16);
    assert_true(encoding_pass_texts(t5) > 1000);
    CHECK_OK(text_form_adopt(r, model, &err), &err);
    assert_int_equal(recipe_int(r, "model.text_length"), 77);
    recipe_close(&r);

    int32_t padded[77];
    PreparedText empty = {.text = (char *)"", .ids = padded};
    prepared_empty(&empty, &e->form);
    assert_int_equal(empty.n, 2);
    assert_int_equal(padded[0], 572);
    for (int i = 1; i < 77; i++)
        assert_int_equal(padded[i], 573);
    Digest a, b;
    CHECK_OK(encoding_text_key(e, &empty, &a, &err), &err);
    CHECK_OK(encoding_text_key(t5, &empty, &b, &err), &err);
    assert_true(memcmp(&a, &b, sizeof a) != 0);
    PreparedText begins = empty; /* the begin mark alone */
    begins.n = 1;
    CHECK_OK(encoding_text_key(e, &begins, &b, &err), &err);
    assert_true(memcmp(&a, &b, sizeof a) != 0);
    e->form.pad = 0; /* other padding gives other values */
    CHECK_OK(encoding_write_parts(e, &err), &err);
    CHECK_OK(encoding_text_key(e, &empty, &b, &err), &err);
    assert_true(memcmp(&a, &b, sizeof a) != 0);
    e->form.pad = 573;
    CHECK_OK(encoding_write_parts(e, &err), &err);

    Encoder *enc = NULL;
    Clip *clip_model = NULL;
    Arena *work = NULL;
    Tensor got;
    int64_t bytes;
    CHECK_OK(encoder_open_text(&enc, e, &err), &err);
    CHECK_OK(encoder_text(enc, &empty, &got, &err), &err);
    assert_int_equal(got.dim[0], 77);
    assert_int_equal(got.dim[1], 48);
    float *hidden = malloc((size_t)tensor_bytes(&got));
    CHECK_OK(clip_text_open(&clip_model, be, e->text_dir, &err), &err);
    CHECK_OK(encoding_plan_text(e, &bytes, &err), &err);
    CHECK_OK(arena_new(&work, be, bytes, "test", &err), &err);
    CHECK_OK(clip_text(clip_model, work, NULL, hidden, NULL, padded, 77, &err), &err);
    assert_memory_equal(got.data, hidden, (size_t)tensor_bytes(&got));
    CHECK_OK(encoder_pass(enc, (const PreparedText *const[]){&empty, &empty}, 2, &err), &err);
    CHECK_OK(encoder_passed(enc, 1, &got, &err), &err);
    assert_memory_equal(got.data, hidden, (size_t)tensor_bytes(&got));
    free(hidden);
    arena_free(&work);
    clip_close(&clip_model);
    encoder_close(&enc);
    encoding_close(&e);
    encoding_close(&t5);
    backend_close(&be);
}

/* A recipe that asks for the other encoder, or for more tokens than CLIP has positions. */
static void refuses_the_other_kind(void **state)
{
    (void)state;
    const char *clip_model = check_repo_path("tests/golden/clip_pipeline/model"), *t5 = check_tmp_path("model");
    const struct {
        const char *set, *model, *part;
    } bad[] = {{"model.text_encoder=t5", clip_model, "text_encoder' is of CLIP: give one of T5, or set clip"},
               {"model.text_encoder=clip", t5, "text_encoder' is of T5: give one of CLIP, or set t5"},
               {"model.text_length=78", clip_model, "model.text_length is 78, but CLIP reads at most 77 tokens"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        Recipe *r = NULL;
        TextForm form;
        const char *set = bad[i].set;
        CHECK_OK(recipe_open(&r, &(CommonOptions){.preset = "demo", .set = {&set, 1}, .seed = -1}, &err), &err);
        CHECK_FAILS(text_form_read(&form, r, bad[i].model, &err), ERR_USAGE, bad[i].part, &err);
        recipe_close(&r);
    }
}

static void refuses_models(void **state)
{
    (void)state;
    begin();
    Err err = {0};
    Encoding *e = NULL;
    Recipe *r = NULL;
    CommonOptions o = {.preset = "demo", .seed = -1};
    CHECK_OK(recipe_open(&r, &o, &err), &err);
    CHECK_FAILS(encoding_open(&e, be, r, check_tmp_path("none"), NULL, NULL, &err), ERR_NOTFOUND,
                "none/vae/config.json", &err);
    char *model = model_folder("broken", "");
    CHECK_OK(dir_remove(check_tmp_path("broken/tokenizer"), &err), &err);
    CHECK_FAILS(encoding_open(&e, be, r, model, NULL, NULL, &err), ERR_NOTFOUND, "broken/tokenizer", &err);
    CHECK_OK(dir_remove(check_tmp_path("broken/text_encoder/model.safetensors"), &err), &err);
    CHECK_FAILS(encoding_open(&e, be, r, model, NULL, NULL, &err), ERR_NOTFOUND, "neither model.safetensors", &err);
    assert_null(e);
    recipe_close(&r);
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_what_the_models_give),
        cmocka_unit_test(keys_follow_what_shapes_a_value),
        cmocka_unit_test(passes_hold),
        cmocka_unit_test(takes_clip),
        cmocka_unit_test(refuses_the_other_kind),
        cmocka_unit_test(refuses_models),
    };
    return check_run_live("cache_encoding", tests);
}
