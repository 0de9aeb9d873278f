/* Opening, running and saving the VAE, T5 and CLIP with the n-th allocation failing: an error each
 * time, nothing lost, and then right results again. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/model/text_encoder.h"
#include "common/model/vae.h"
#include "common/ops/ops.h"

static char *vae_folder, *t5_folder, *clip_folder, *vae_copy, *t5_copy,
    *clip_copy; /* set before memory becomes scarce */

typedef int (*Body)(Backend *be, Arena *work, Err *err);

/* Runs body with the n-th allocation failing, for a growing n, until it comes through. */
static void fail_each(Body body)
{
    Backend *be = NULL;
    Arena *work = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(arena_new(&work, be, 1 << 24, "oom", &err), &err);
    int failed = 1;
    for (int64_t n = 1; failed; n += 1 + n / 8) {
        err_clear(&err);
        mem_fail_after(n);
        int rc = body(be, work, &err);
        failed = mem_failed();
        mem_fail_after(0);
        if (failed && rc == 0)
            fail_msg("allocation %lld failed and nobody said so", (long long)n);
        if (!failed)
            CHECK_OK(rc, &err);
        assert_int_equal(arena_mark(work), 0);
    }
    arena_free(&work);
    backend_close(&be);
}

static int run_vae(Backend *be, Arena *work, Err *err)
{
    Vae *vae = NULL;
    float z[4 * 2 * 2] = {0}, pixels[16 * 16 * 3], moments[8 * 2 * 2];
    VaeTiling t = {.enabled = 1, .pixel_height = 8, .pixel_width = 8, .latent_height = 1, .latent_width = 1};
    int rc = vae_open(&vae, be, vae_folder, VAE_BOTH, err);
    if (!rc)
        rc = vae_decode(vae, work, &t, pixels, z, 1, 2, 2, err);
    if (!rc)
        rc = vae_encode(vae, work, NULL, moments, pixels, 1, 16, 16, err);
    if (!rc)
        rc = vae_save(vae, vae_copy, DT_BF16, err);
    vae_close(&vae);
    return rc;
}

static int run_t5(Backend *be, Arena *work, Err *err)
{
    T5 *t5 = NULL;
    const int32_t ids[4] = {5, 6, 1, 0};
    float hidden[4 * 32];
    int64_t bytes = 0;
    int rc = t5_open(&t5, be, t5_folder, err);
    if (!rc)
        rc = t5_plan(t5_config(t5), DT_F32, 4, &bytes, err);
    if (!rc)
        rc = t5_encode(t5, work, hidden, ids, NULL, 4, err);
    if (!rc)
        rc = t5_save(t5, t5_copy, DT_F16, err);
    t5_close(&t5);
    return rc;
}

static int run_clip(Backend *be, Arena *work, Err *err)
{
    static const ClipConfig tiny = {
        .text = {.hidden = 8, .intermediate = 8, .layers = 1, .heads = 2, .act = ACT_QUICK_GELU, .eps = 1e-5},
        .vision = {.hidden = 8, .intermediate = 8, .layers = 1, .heads = 2, .act = ACT_QUICK_GELU, .eps = 1e-5},
        .vocab = 16,
        .positions = 8,
        .eos_id = 2,
        .projection = 4,
        .image_size = 4,
        .patch = 2};
    Clip *clip = NULL;
    const int32_t ids[3] = {3, 4, 15};
    const uint8_t rgb[6 * 5 * 3] = {0};
    float embed[4], pixels[3 * 4 * 4];
    int rc = clip_new_filled(&clip, be, &tiny, err);
    if (!rc)
        rc = clip_text(clip, work, embed, NULL, NULL, ids, 3, err);
    if (!rc)
        rc = clip_preprocess(pixels, rgb, 6, 5, 4, err);
    if (!rc)
        rc = clip_image(clip, work, embed, NULL, NULL, pixels, err);
    clip_close(&clip);
    return rc;
}

/* CLIP as the text encoder of a pipeline. */
static int run_clip_text(Backend *be, Arena *work, Err *err)
{
    const int32_t ids[4] = {572, 6, 573, 573};
    float hidden[2 * 4 * 48];
    TextConfig c;
    TextEncoder *t = NULL;
    Clip *clip = NULL;
    json_t *json = NULL;
    int64_t bytes = 0;
    int rc = text_config_read(&c, clip_folder, err);
    if (!rc && !(json = text_config_json(&c, err)))
        rc = ERR_NOMEM;
    if (!rc)
        rc = text_check_weights(&c, clip_folder, NULL, err);
    if (!rc)
        rc = text_plan(&c, DT_F32, 4, &bytes, err);
    if (!rc)
        rc = text_encoder_open(&t, be, &c, clip_folder, err);
    if (!rc)
        rc = text_encode_many(t, work, hidden, (const int32_t *const[]){ids, ids}, 2, 4, err);
    if (!rc)
        rc = clip_text_open(&clip, be, clip_folder, err);
    if (!rc)
        rc = clip_text_save(clip, clip_copy, DT_F16, err);
    json_decref(json);
    clip_close(&clip);
    text_encoder_close(&t);
    return rc;
}

static void vae_survives(void **state)
{
    (void)state;
    fail_each(run_vae);
}

static void t5_survives(void **state)
{
    (void)state;
    fail_each(run_t5);
}

static void clip_survives(void **state)
{
    (void)state;
    fail_each(run_clip);
}

static void clip_text_survives(void **state)
{
    (void)state;
    fail_each(run_clip_text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(vae_survives), cmocka_unit_test(t5_survives),
                                       cmocka_unit_test(clip_survives), cmocka_unit_test(clip_text_survives)};
    vae_folder = check_repo_path("tests/golden/pipeline/model/vae");
    t5_folder = check_repo_path("tests/golden/pipeline/model/text_encoder");
    clip_folder = check_repo_path("tests/golden/clip_pipeline/model/text_encoder");
    clip_copy = check_tmp_path("clip");
    vae_copy = check_tmp_path("vae");
    t5_copy = check_tmp_path("t5");
    return check_run("oom models", tests);
}
