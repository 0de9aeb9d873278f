/* CLIP's towers against numbers of transformers' classes, its preprocessing against Pillow's to the
 * bit; on ref and cpu. */
#include <math.h>
#include <string.h>
#include "check.h"
#include "golden/text_encoders.h"
#include "common/base/file.h"
#include "common/model/clip.h"
#include "common/ops/ops.h"

static const char *const backends[] = {"ref", "cpu"};
enum { N_BACKENDS = 2, N = 10, S = 28 };
#define ATOL 2e-5 /* the golden file's: float32 outputs of a model of this size */
static const ClipConfig tiny = {
    .text = {.hidden = 32, .intermediate = 64, .layers = 2, .heads = 4, .act = ACT_QUICK_GELU, .eps = 1e-5},
    .vision = {.hidden = 48, .intermediate = 96, .layers = 2, .heads = 4, .act = ACT_QUICK_GELU, .eps = 1e-5},
    .vocab = 99,
    .positions = 16,
    .eos_id = 2,
    .projection = 24,
    .image_size = S,
    .patch = 7};

typedef struct Rig {
    Backend *be;
    Clip *clip;
    Arena *work;
    Err err;
} Rig;

static void rig_open(Rig *r, const char *backend, const ClipConfig *c)
{
    err_clear(&r->err);
    CHECK_OK(backend_open(&r->be, backend, 0, NULL, &r->err), &r->err);
    CHECK_OK(clip_new_filled(&r->clip, r->be, c, &r->err), &r->err);
    golden_put(clip_params(r->clip), clip_weights, sizeof clip_weights / sizeof *clip_weights, &r->err);
    CHECK_OK(arena_new(&r->work, r->be, 1 << 22, "clip", &r->err), &r->err);
}

static void rig_close(Rig *r)
{
    arena_free(&r->work);
    clip_close(&r->clip);
    backend_close(&r->be);
}

static void fill_pixels(float *pixels)
{
    for (uint32_t i = 0; i < 3 * S * S; i++)
        pixels[i] = (float)(2 * golden_value(1000, i));
}

static double cosine(const float *a, const float *b, int n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void embeds_as_transformers(void **state)
{
    (void)state;
    float text[24], image[24], hidden[N * 32], rows[17 * 48], pooled[48], pixels[3 * S * S];
    fill_pixels(pixels);
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b], &tiny);
        CHECK_OK(clip_text(r.clip, r.work, text, hidden, pooled, clip_ids, N, &r.err), &r.err);
        check_near("text row 9", hidden + 9 * 32, clip_text_row9, 32, ATOL, 0);
        check_near("text pooled", pooled, clip_text_pooled, 32, ATOL, 0);
        check_near("text embed", text, clip_text_embed, 24, ATOL, 0);
        CHECK_OK(clip_image(r.clip, r.work, image, rows, pooled, pixels, &r.err), &r.err);
        check_near("image row 0", rows, clip_image_row0, 48, ATOL, 0);
        check_near("image pooled", pooled, clip_image_pooled, 48, ATOL, 0);
        check_near("image embed", image, clip_image_embed, 24, ATOL, 0);
        check_value("cosine", cosine(text, image, 24), clip_cosine, ATOL, 0);
        rig_close(&r);
    }
}

/* Nothing after the end of the text is seen by it: the true length, other padding and an explicit
 * end give the same bits. */
static void padding_is_not_seen(void **state)
{
    (void)state;
    float want[24], got[24];
    int32_t ids[N];
    Rig r;
    rig_open(&r, "ref", &tiny);
    CHECK_OK(clip_text(r.clip, r.work, want, NULL, NULL, clip_ids, N, &r.err), &r.err);
    CHECK_OK(clip_text(r.clip, r.work, got, NULL, NULL, clip_ids, 6, &r.err), &r.err);
    assert_memory_equal(got, want, sizeof want);
    memcpy(ids, clip_ids, sizeof ids);
    for (int i = 6; i < N; i++)
        ids[i] = i;
    CHECK_OK(clip_text(r.clip, r.work, got, NULL, NULL, ids, N, &r.err), &r.err);
    assert_memory_equal(got, want, sizeof want);
    rig_close(&r);
    ClipConfig named = tiny;
    named.eos_id = 98;
    rig_open(&r, "ref", &named);
    CHECK_OK(clip_text(r.clip, r.work, got, NULL, NULL, ids, N, &r.err), &r.err);
    assert_memory_equal(got, want, sizeof want);
    CHECK_FAILS(clip_text(r.clip, r.work, got, NULL, NULL, ids, 17, &r.err), ERR_USAGE, "17 tokens", &r.err);
    rig_close(&r);
}

static void takes_the_activation_from_the_config(void **state)
{
    (void)state;
    ClipConfig other = tiny;
    float quick[24], erf_form[24];
    Rig r;
    rig_open(&r, "ref", &tiny);
    CHECK_OK(clip_text(r.clip, r.work, quick, NULL, NULL, clip_ids, N, &r.err), &r.err);
    rig_close(&r);
    other.text.act = ACT_GELU_ERF;
    rig_open(&r, "ref", &other);
    CHECK_OK(clip_text(r.clip, r.work, erf_form, NULL, NULL, clip_ids, N, &r.err), &r.err);
    rig_close(&r);
    assert_true(fabsf(quick[0] - erf_form[0]) > 1e-4f);
}

static void resizes_as_pillow(void **state)
{
    (void)state;
    const struct {
        const uint8_t *in, *want;
        int64_t in_h, in_w, h, w;
    } cases[] = {{bicubic_0_in, bicubic_0_out, BICUBIC_0_IN_H, BICUBIC_0_IN_W, BICUBIC_0_H, BICUBIC_0_W},
                 {bicubic_1_in, bicubic_1_out, BICUBIC_1_IN_H, BICUBIC_1_IN_W, BICUBIC_1_H, BICUBIC_1_W},
                 {bicubic_2_in, bicubic_2_out, BICUBIC_2_IN_H, BICUBIC_2_IN_W, BICUBIC_2_H, BICUBIC_2_W},
                 {bicubic_3_in, bicubic_3_out, BICUBIC_3_IN_H, BICUBIC_3_IN_W, BICUBIC_3_H, BICUBIC_3_W}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err err = {0};
        int64_t n = cases[i].h * cases[i].w;
        uint8_t *out = check_guarded(n);
        CHECK_OK(pil_bicubic(out, cases[i].h, cases[i].w, cases[i].in, cases[i].in_h, cases[i].in_w, 1, &err), &err);
        assert_memory_equal(out, cases[i].want, (size_t)n);
        check_guards(out);
        check_guarded_free(out);
    }
    Err err = {0};
    uint8_t one = 0;
    CHECK_FAILS(pil_bicubic(&one, 0, 1, &one, 1, 1, 1, &err), ERR_USAGE, "bicubic", &err);
}

static uint8_t *golden_picture(void)
{
    uint8_t *rgb = malloc(20 * 30 * 3);
    assert_non_null(rgb);
    for (uint32_t i = 0; i < 20 * 30 * 3; i++)
        rgb[i] = (uint8_t)golden_hash(78, i);
    return rgb;
}

static void preprocesses_as_clip(void **state)
{
    (void)state;
    Err err = {0};
    uint8_t *rgb = golden_picture();
    float *out = check_guarded(3 * 14 * 14 * (int64_t)sizeof *out);
    CHECK_OK(clip_preprocess(out, rgb, 20, 30, 14, &err), &err);
    for (int k = 0; k < 4; k++)
        check_near("row",
                   out + (k == 0   ? 0
                          : k == 1 ? 13
                          : k == 2 ? 14
                                   : 41) *
                             14,
                   preprocess_0_13 + k * 14, 14, 1e-6, 0);
    check_guards(out);
    check_guarded_free(out);
    free(rgb);
}

/* Portrait: a smooth picture turned gives the same picture turned; the two passes round in the
 * other order, a level each. */
static void preprocesses_portraits(void **state)
{
    (void)state;
    Err err = {0};
    uint8_t wide[20 * 30 * 3], high[30 * 20 * 3];
    float a[3 * 14 * 14], b[3 * 14 * 14];
    for (int y = 0; y < 20; y++)
        for (int x = 0; x < 30; x++)
            for (int c = 0; c < 3; c++)
                wide[(y * 30 + x) * 3 + c] = high[(x * 20 + y) * 3 + c] = (uint8_t)(40 + 5 * y + 3 * x + 4 * c);
    CHECK_OK(clip_preprocess(a, wide, 20, 30, 14, &err), &err);
    CHECK_OK(clip_preprocess(b, high, 30, 20, 14, &err), &err);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 14; y++)
            for (int x = 0; x < 14; x++)
                check_value("turned", b[(c * 14 + y) * 14 + x], a[(c * 14 + x) * 14 + y], 2 / 255.0 / 0.26 + 1e-6, 0);
}

static void saves_and_opens(void **state)
{
    (void)state;
    static const char config[] = "{\"projection_dim\":24,\"text_config\":{\"vocab_size\":99,\"hidden_size\":32,"
                                 "\"intermediate_size\":64,\"num_hidden_layers\":2,"
                                 "\"num_attention_heads\":4,\"max_position_embeddings\":16,\"eos_token_id\":2},"
                                 "\"vision_config\":{\"hidden_size\":48,"
                                 "\"intermediate_size\":96,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"image_"
                                 "size\":28,\"patch_size\":7}}";
    Rig r;
    Err err = {0};
    Clip *again = NULL;
    float a[24], b[24];
    rig_open(&r, "ref", &tiny);
    CHECK_OK(dir_make(check_tmp_path("clip"), &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("clip/config.json"), config, (int64_t)sizeof config - 1, &err), &err);
    CHECK_OK(params_save(clip_params(r.clip), check_tmp_path("clip/model.safetensors"), DT_F16, &err), &err);
    CHECK_OK(clip_open(&again, r.be, check_tmp_path("clip"), &err), &err);
    assert_memory_equal(clip_config(again), &tiny, sizeof tiny);
    CHECK_OK(clip_text(r.clip, r.work, a, NULL, NULL, clip_ids, N, &err), &err);
    CHECK_OK(clip_text(again, r.work, b, NULL, NULL, clip_ids, N, &err), &err);
    assert_memory_equal(a, b, sizeof a); /* the formula's weights are exact in half precision */
    clip_close(&again);
    rig_close(&r);
}

static void refuses_configs(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *part;
    } bad[] = {
        {"{}", ERR_FORMAT, "text_config"},
        {"{\"text_config\":{\"hidden_act\":\"relu\"},\"vision_config\":{}}", ERR_UNSUPPORTED, "hidden_act is 'relu'"},
        {"{\"text_config\":{\"num_attention_heads\":7},\"vision_config\":{}}", ERR_FORMAT, "num_attention_heads 7"},
        {"{\"text_config\":{},\"vision_config\":{\"patch_size\":15}}", ERR_UNSUPPORTED, "patch_size 15"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        ClipConfig c;
        json_t *json = NULL;
        CHECK_OK(json_parse(&json, bad[i].text, (int64_t)strlen(bad[i].text), "config.json", &err), &err);
        CHECK_FAILS(clip_config_parse(&c, json, "config.json", &err), bad[i].code, bad[i].part, &err);
        json_decref(json);
    }
}

/* Names and sizes of openai/clip-vit-large-patch14, from its config alone. */
static void knows_the_real_shapes(void **state)
{
    (void)state;
    ClipConfig large = {
        .text = {.hidden = 768, .intermediate = 3072, .layers = 12, .heads = 12, .act = ACT_QUICK_GELU, .eps = 1e-5},
        .vision = {.hidden = 1024, .intermediate = 4096, .layers = 24, .heads = 16, .act = ACT_QUICK_GELU, .eps = 1e-5},
        .vocab = 49408,
        .positions = 77,
        .eos_id = 2,
        .projection = 768,
        .image_size = 224,
        .patch = 14};
    Err err = {0};
    Backend *plan = NULL;
    Clip *clip = NULL;
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    CHECK_OK(clip_new_filled(&clip, plan, &large, &err), &err);
    assert_int_equal(clip_params(clip)->n, 590);
    assert_int_equal(params_count(clip_params(clip)), 427616513);
    Arena *work = NULL;
    CHECK_OK(arena_new(&work, plan, 0, "clip", &err), &err);
    CHECK_OK(clip_image(clip, work, NULL, NULL, NULL, NULL, &err), &err);
    CHECK_OK(clip_text(clip, work, NULL, NULL, NULL, NULL, 77, &err), &err);
    assert_true(arena_high(work) < 32 << 20);
    arena_free(&work);
    clip_close(&clip);
    backend_close(&plan);
}

static void agrees_with_the_whole_file(void **state)
{
    (void)state;
    Err err = {0};
    json_t *root = NULL;
    int64_t n = 0;
    float hidden[N * 32], pixels[3 * 14 * 14];
    CHECK_OK(json_read_file(&root, check_need_shared("data/golden/text-encoders.json"), &err), &err);
    double *want = GOLDEN_ARRAY(root, &n, "clip_tiny", "text", "last_hidden_state");
    assert_int_equal(n, N * 32);
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b], &tiny);
        CHECK_OK(clip_text(r.clip, r.work, NULL, hidden, NULL, clip_ids, N, &r.err), &r.err);
        check_near("text", hidden, want, n, ATOL, 0);
        rig_close(&r);
    }
    free(want);
    uint8_t *rgb = golden_picture(), small[14 * 21 * 3];
    want = GOLDEN_ARRAY(root, &n, "image", "clip_preprocess", "pixel_values_chw");
    CHECK_OK(clip_preprocess(pixels, rgb, 20, 30, 14, &err), &err);
    check_near("pixels", pixels, want, n, 1e-6, 0);
    free(want);
    want = GOLDEN_ARRAY(root, &n, "image", "clip_preprocess", "cropped_u8_hwc");
    CHECK_OK(pil_bicubic(small, 14, 21, rgb, 20, 30, 3, &err), &err);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(small[(i / 42 * 21 + 3) * 3 + i % 42], (int)want[i]);
    free(want);
    free(rgb);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeds_as_transformers),
        cmocka_unit_test(padding_is_not_seen),
        cmocka_unit_test(takes_the_activation_from_the_config),
        cmocka_unit_test(resizes_as_pillow),
        cmocka_unit_test(preprocesses_as_clip),
        cmocka_unit_test(preprocesses_portraits),
        cmocka_unit_test(saves_and_opens),
        cmocka_unit_test(refuses_configs),
        cmocka_unit_test(knows_the_real_shapes),
        cmocka_unit_test(agrees_with_the_whole_file),
    };
    return check_run("clip", tests);
}
