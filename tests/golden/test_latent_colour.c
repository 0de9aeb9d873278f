/* The map from latents to colours against numpy's least squares (tests/golden/make_latent_colour.py). */
#include <string.h>

#include "check.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/latent_colour.h"

enum { C = 5, F = 3, H = 2, W = 4, MOST = 12 * H * 8 * W * 8 * 3 };

static Err err;

static uint32_t next(uint32_t *state)
{
    *state = 1664525u * *state + 1013904223u;
    return *state >> 8;
}

typedef struct Made {
    float latents[F * H * W * 2 * C]; /* moments: the means first, then something else */
    uint8_t rgb[MOST];
} Made;

/* As in the script: noise, three quarters of which give way to a tint that depends on the latents. */
static void make_clip(Made *m, uint32_t seed, int frames)
{
    uint32_t state = seed;

    for (int i = 0; i < F * H * W * C; i++) {
        m->latents[i / C * 2 * C + i % C] = (float)(next(&state) / 0x1p23 - 1);
        m->latents[i / C * 2 * C + C + i % C] = 1e6f;
    }
    for (int i = 0; i < frames * H * 8 * W * 8 * 3; i++) {
        int k = i % 3, x = i / 3 % (W * 8) / 8, y = i / 3 / (W * 8) % (H * 8) / 8, f = i / 3 / (W * 8) / (H * 8);
        int t = frames == 9 ? (f + 3) / 4 : f / 4;
        float tint = 128 + 90 * m->latents[((t * H + y) * W + x) * 2 * C + k];
        uint8_t tinted = (uint8_t)(tint < 0 ? 0 : tint > 255 ? 255 : tint);
        m->rgb[i] = (uint8_t)(next(&state) % 256 / 4 + tinted / 4 * 3);
    }
}

static void fit(LatentColour *m)
{
    ColourFit *f = mem_calloc(1, sizeof *f, &err);
    Made *made = mem_calloc(1, sizeof *made, &err);
    static const int frames[] = {9, 12};

    CHECK_OK(colour_fit_begin(f, C, &err), &err);
    CHECK_FAILS(colour_fit_end(f, m, &err), ERR_USAGE, "no clip", &err);
    for (int i = 0; i < 2; i++) {
        make_clip(made, (uint32_t)i + 1, frames[i]);
        ColourClip c = {.latents = made->latents,
                        .stride = 2 * C,
                        .F = F,
                        .h = H,
                        .w = W,
                        .ratio = 4,
                        .rgb = made->rgb,
                        .frames = frames[i],
                        .height = H * 8,
                        .width = W * 8};
        CHECK_OK(colour_fit_add(f, &c, &err), &err);
        c.frames = 10;
        CHECK_FAILS(colour_fit_add(f, &c, &err), ERR_USAGE, "10 frames of 32x16 do not divide", &err);
    }
    CHECK_OK(colour_fit_end(f, m, &err), &err);
    mem_free(f);
    mem_free(made);
}

static void weights_are_numpys(void **state)
{
    json_t *want = NULL;
    LatentColour m;

    (void)state;
    CHECK_OK(json_read_file(&want, check_repo_path("tests/golden/latent_colour.json"), &err), &err);
    fit(&m);
    for (size_t i = 0; i <= C; i++)
        for (size_t k = 0; k < 3; k++)
            check_value("a weight", m.weight[i][k],
                        json_number_value(json_array_get(json_array_get(json_object_get(want, "weights"), i), k)), 1e-9,
                        1e-9);
    check_value("explained", m.explained, json_number_value(json_object_get(want, "explained")), 1e-9, 0);
    json_decref(want);
}

static void stored_and_applied(void **state)
{
    float z[2 * C] = {0.5f, -0.25f, 0.125f, 0, 1, 100, 0, 0, 0, 0};
    uint8_t rgb[6];
    LatentColour m, again;
    json_t *json = NULL;

    (void)state;
    fit(&m);
    CHECK_OK(latent_colour_json(&m, &json, &err), &err);
    CHECK_OK(latent_colour_parse(&again, json, "meta", &err), &err);
    assert_memory_equal(m.weight, again.weight, sizeof m.weight);
    latent_colour_apply(&m, rgb, z, 2, 0.5);
    for (int k = 0; k < 3; k++) {
        double y = m.weight[C][k];
        for (int c = 0; c < C; c++)
            y += m.weight[c][k] * 0.5 * z[c];
        check_value("a colour", rgb[k], 255 * y, 0.5, 0);
    }
    assert_int_equal(rgb[3], 255); /* far out: clipped */
    json_array_clear(json_object_get(json, "weights"));
    CHECK_FAILS(latent_colour_parse(&again, json, "meta", &err), ERR_FORMAT, "meta: 'weights' has 0 rows", &err);
    json_decref(json);
    CHECK_FAILS(colour_fit_begin(&(ColourFit){0}, 65, &err), ERR_UNSUPPORTED, "65 channels", &err);
}

/* Equal pixels and equal latents: the constant alone, and no division by nothing. */
static void grey(void **state)
{
    static float z[F * H * W * C];
    static uint8_t rgb[9 * H * 8 * W * 8 * 3];
    ColourFit *f = mem_calloc(1, sizeof *f, &err);
    uint8_t out[3];
    LatentColour m;

    (void)state;
    memset(rgb, 100, sizeof rgb);
    CHECK_OK(colour_fit_begin(f, C, &err), &err);
    CHECK_OK(colour_fit_add(f,
                            &(ColourClip){.latents = z,
                                          .stride = C,
                                          .F = F,
                                          .h = H,
                                          .w = W,
                                          .ratio = 4,
                                          .rgb = rgb,
                                          .frames = 9,
                                          .height = H * 8,
                                          .width = W * 8},
                            &err),
             &err);
    CHECK_OK(colour_fit_end(f, &m, &err), &err);
    latent_colour_apply(&m, out, z, 1, 1);
    assert_int_equal(out[0], 100);
    assert_true(m.explained == 0);
    mem_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_are_numpys), cmocka_unit_test(stored_and_applied),
                                       cmocka_unit_test(grey)};

    return check_run_live("latent-colour", tests);
}
