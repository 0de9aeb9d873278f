/* The VAE's config, and what follows from it alone: which are refused, which sizes its tiles cover, memory. */
#include <string.h>
#include "check.h"
#include "common/base/json.h"
#include "common/model/vae.h"

/* The class's defaults are CogVideoX-2B's values. */
static VaeConfig real_config(void)
{
    Err err = {0};
    VaeConfig c;
    json_t *empty = json_pack("{s:n}", "a_key_of_tomorrow"); /* unknown, but not set */
    CHECK_OK(vae_config_parse(&c, empty, "config.json", &err), &err);
    json_decref(empty);
    return c;
}

static void refuses_configs(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *part;
    } bad[] = {{"{\"_class_name\":\"AutoencoderKL\"}", ERR_UNSUPPORTED, "AutoencoderKL"},
               {"{\"use_quant_conv\":true}", ERR_UNSUPPORTED, "use_quant_conv"},
               {"{\"act_fn\":\"relu\"}", ERR_UNSUPPORTED, "act_fn is 'relu'"},
               {"{\"layer_per_block\":2}", ERR_UNSUPPORTED, "layers_per_block"},
               {"{\"down_block_types\":[\"CogVideoXDownBlock3D\"]}", ERR_FORMAT, "down_block_types"},
               {"{\"up_block_types\":[\"A\",\"A\",\"A\",\"A\"]}", ERR_UNSUPPORTED, "up_block_types[0] is 'A'"},
               {"{\"block_out_channels\":[128,0]}", ERR_FORMAT, "block_out_channels[1]"},
               {"{\"block_out_channels\":[]}", ERR_UNSUPPORTED, "block_out_channels"},
               {"{\"norm_num_groups\":48}", ERR_FORMAT, "norm_num_groups"},
               {"{\"temporal_compression_ratio\":3}", ERR_UNSUPPORTED, "temporal_compression_ratio is 3"},
               {"{\"temporal_compression_ratio\":8}", ERR_UNSUPPORTED, "8x compression in time"},
               {"{\"block_out_channels\":[32,32,32]}", ERR_UNSUPPORTED, "4x compression in space"},
               {"{\"block_out_channels\":[32,32,32,32,32]}", ERR_UNSUPPORTED, "16x compression in space"},
               {"{\"in_channels\":4,\"out_channels\":4}", ERR_UNSUPPORTED, "in_channels 4 and out_channels 4"},
               {"{\"out_channels\":4}", ERR_UNSUPPORTED, "in_channels 3 and out_channels 4"},
               {"{\"latent_channels\":0}", ERR_FORMAT, "latent_channels is 0"},
               {"{\"norm_eps\":\"x\"}", ERR_FORMAT, "norm_eps"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        VaeConfig c;
        json_t *json = NULL;
        CHECK_OK(json_parse(&json, bad[i].text, (int64_t)strlen(bad[i].text), "config.json", &err), &err);
        CHECK_FAILS(vae_config_parse(&c, json, "config.json", &err), bad[i].code, bad[i].part, &err);
        json_decref(json);
    }
}

/* A size that tiles cannot cover is refused before any work, with sample sizes that would do; what
 * is accepted is what vae_encode and vae_decode accept. */
static void checks_tiles_early(void **state)
{
    (void)state;
    static const struct {
        int64_t sample_height, sample_width, H, W;
        const char *part;
    } cases[] = {
        {480, 720, 720, 480, NULL}, /* CogVideoX's config with a portrait clip */
        {480, 720, 64, 64, NULL},
        {96, 80, 96, 80, NULL},
        {96, 80, 48, 40, NULL},
        {720, 480, 360, 240, NULL}, /* no larger than one tile: no tiles */
        {720, 480, 720, 480, "sample_height to 672 or 768"},
        {480, 480, 720, 480, NULL},
        {64, 64, 64, 64, "sample_height to 96"},
        {96, 96, 96, 64, "sample_width to 80 or 160"},
    };
    VaeConfig c = real_config();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err err = {0};
        int64_t bytes, H = cases[i].H, W = cases[i].W;
        c.sample_height = cases[i].sample_height;
        c.sample_width = cases[i].sample_width;
        VaeTiling t = vae_tiling_default(&c, 1), off = vae_tiling_default(&c, 0);
        CHECK_OK(vae_tiling_check(&c, &off, H, W, &err), &err);
        if (cases[i].part) {
            CHECK_FAILS(vae_tiling_check(&c, &t, H, W, &err), ERR_USAGE, cases[i].part, &err);
            CHECK_FAILS(vae_plan_decode(&c, DT_F32, &t, 3, H / 8, W / 8, &bytes, &err), ERR_USAGE, cases[i].part, &err);
        } else {
            CHECK_OK(vae_tiling_check(&c, &t, H, W, &err), &err);
            CHECK_OK(vae_plan_encode(&c, DT_F32, &t, 9, H, W, &bytes, &err), &err);
            CHECK_OK(vae_plan_decode(&c, DT_F32, &t, 3, H / 8, W / 8, &bytes, &err), &err);
        }
    }
}

static void knows_the_real_shapes(void **state)
{
    (void)state;
    Err err = {0};
    Backend *plan = NULL;
    Vae *vae = NULL;
    VaeConfig c = real_config();
    int64_t enc, dec, enc_tiled, dec_tiled;
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    CHECK_OK(vae_new_filled(&vae, plan, &c, &err), &err);
    assert_int_equal(vae_params(vae)->n, 436);
    assert_int_equal(params_count(vae_params(vae)), 215583907);
    assert_int_equal(params_bytes(vae_params(vae), DT_F16), 431167814);
    const Param *p = params_find(vae_params(vae), "decoder.up_blocks.1.resnets.0.norm1.conv_y.conv.weight");
    assert_non_null(p);
    assert_int_equal(p->dim[0], 512);
    assert_non_null(params_find(vae_params(vae), "decoder.up_blocks.3.resnets.0.conv_shortcut.weight"));
    assert_null(params_find(vae_params(vae), "decoder.up_blocks.3.upsamplers.0.conv.weight"));
    vae_close(&vae);
    backend_close(&plan);
    VaeTiling t = vae_tiling_default(&c, 1);
    assert_int_equal(t.pixel_height, 240);
    assert_int_equal(t.latent_width, 45);
    CHECK_OK(vae_plan_encode(&c, DT_F32, NULL, 49, 720, 480, &enc, &err), &err);
    CHECK_OK(vae_plan_decode(&c, DT_F32, NULL, 13, 90, 60, &dec, &err), &err);
    CHECK_OK(vae_plan_encode(&c, DT_F32, &t, 49, 720, 480, &enc_tiled, &err), &err);
    CHECK_OK(vae_plan_decode(&c, DT_F32, &t, 13, 90, 60, &dec_tiled, &err), &err);
    print_message("# 480x720, 49 frames, F32: encode %.2f GB (tiled %.2f), decode %.2f GB (tiled %.2f)\n", enc * 1e-9,
                  enc_tiled * 1e-9, dec * 1e-9, dec_tiled * 1e-9);
    /* caches (3.60 and 5.62 GB) and three times [128,9,720,480], of which the decoder's widest step
     * has four */
    assert_true(enc < 8.5e9 && dec < 12.2e9 && enc_tiled < 2.6e9 && dec_tiled < 3.4e9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_configs), cmocka_unit_test(checks_tiles_early),
                                       cmocka_unit_test(knows_the_real_shapes)};
    return check_run_live("model_vae_config", tests);
}
