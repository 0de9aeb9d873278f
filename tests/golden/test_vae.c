/* The VAE against the numbers of the reference implementation (executed in double with
 * formula-defined weights), against its own invariants, and its memory plan against what it really
 * uses; on ref and cpu. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/model/latents.h"
#include "common/model/vae.h"
#include "golden/vae_golden.h"

static const char *const backends[] = {"ref", "cpu"};
enum { N_BACKENDS = 2 };
static const VaeConfig tiny = {.in_channels = 3,
                               .out_channels = 3,
                               .latent_channels = 4,
                               .n_blocks = 4,
                               .block_channels = {8, 16, 16, 32},
                               .layers_per_block = 2,
                               .groups = 4,
                               .temporal_ratio = 4,
                               .sample_height = 32,
                               .sample_width = 32,
                               .norm_eps = 1e-6,
                               .scaling_factor = 1.15258426};
static const VaeTiling tiles = {.enabled = 1,
                                .pixel_height = 16,
                                .pixel_width = 16,
                                .latent_height = 2,
                                .latent_width = 2,
                                .overlap_height = 0.5,
                                .overlap_width = 0.5};

typedef struct Rig {
    Backend *be;
    Vae *vae;
    VaeConfig c;
    Err err;
} Rig;

static void rig_open_as(Rig *r, const char *backend, const VaeConfig *c, int64_t threads)
{
    err_clear(&r->err);
    r->c = *c;
    CHECK_OK(backend_open(&r->be, backend, threads, NULL, &r->err), &r->err);
    CHECK_OK(vae_new_filled(&r->vae, r->be, c, &r->err), &r->err);
}

static void rig_open(Rig *r, const char *backend)
{
    rig_open_as(r, backend, &tiny, 0);
}

static void rig_close(Rig *r)
{
    vae_close(&r->vae);
    backend_close(&r->be);
}

static float *floats(int64_t n)
{
    float *p = malloc((size_t)n * sizeof *p);
    assert_non_null(p);
    return p;
}

/* Formula-defined input in the reference's order [C,T,H,W], turned to [T,H,W,C]. */
static float *input(uint32_t S, int64_t C, int64_t T, int64_t H, int64_t W)
{
    float *torch = floats(C * T * H * W), *ours = floats(C * T * H * W);
    filler_input(S, torch, C * T * H * W);
    latents_from_vae_order(ours, torch, T, C, H, W);
    free(torch);
    return ours;
}

/* Runs one call with exactly the planned memory and checks that the plan was the high-water mark. */
static float *encode(Rig *r, const VaeTiling *tiling, const float *pixels, int64_t T, int64_t H, int64_t W, int chunked)
{
    Arena *work = NULL;
    int64_t L = chunked ? vae_latent_frames(&r->c, T) : (T + 3) / 4, bytes = 1 << 26, scale = 1 << (r->c.n_blocks - 1);
    float *out = floats(L * (H / scale) * (W / scale) * 2 * r->c.latent_channels);
    if (chunked)
        CHECK_OK(vae_plan_encode(&r->c, DT_F32, tiling, T, H, W, &bytes, &r->err), &r->err);
    CHECK_OK(arena_new(&work, r->be, bytes, "vae", &r->err), &r->err);
    vae_set_chunked(r->vae, chunked);
    CHECK_OK(vae_encode(r->vae, work, tiling, out, pixels, T, H, W, &r->err), &r->err);
    vae_set_chunked(r->vae, 1);
    if (chunked)
        assert_int_equal(arena_high(work), bytes);
    assert_int_equal(arena_mark(work), 0);
    arena_free(&work);
    return out;
}

static float *decode(Rig *r, const VaeTiling *tiling, const float *z, int64_t L, int64_t h, int64_t w)
{
    Arena *work = NULL;
    int64_t bytes = 0, scale = 1 << (r->c.n_blocks - 1);
    float *out = floats(vae_pixel_frames(&r->c, L) * scale * h * scale * w * 3);
    CHECK_OK(vae_plan_decode(&r->c, DT_F32, tiling, L, h, w, &bytes, &r->err), &r->err);
    CHECK_OK(arena_new(&work, r->be, bytes, "vae", &r->err), &r->err);
    CHECK_OK(vae_decode(r->vae, work, tiling, out, z, L, h, w, &r->err), &r->err);
    assert_int_equal(arena_high(work), bytes);
    arena_free(&work);
    return out;
}

/* ---- golden numbers: mean, root mean square, and elements 0, 1, N/7, N/3, N/2, 5N/7, N-2, N-1 in
 * the reference's order ------------------------------------------------------------------------ */

static const Golden golden[] = {
    {"encode 8 frames",
     100008,
     0,
     1,
     0,
     8,
     32,
     16,
     2,
     4,
     2,
     8,
     -0.00282592625,
     0.506422545,
     {0.06184933, 1.37251672, 0.00867166, 0.27006828, 0.06798571, 0.20776165, 0.05601082, -0.09780119}},
    {"encode 9 frames",
     100009,
     0,
     1,
     0,
     9,
     32,
     16,
     3,
     4,
     2,
     8,
     -0.0642212645,
     0.461112057,
     {0.27912862, 0.10399365, -0.14463840, -0.29619312, -0.59105955, 0.17448942, -0.01839656, 0.08013922}},
    {"encode 17 frames",
     100017,
     0,
     1,
     0,
     17,
     32,
     16,
     5,
     4,
     2,
     8,
     -0.00950849723,
     0.46929687,
     {-0.11231867, -0.08521182, 1.41970205, -0.07630228, -0.74684207, 0.07848359, -0.32438664, 0.06084176}},
    {"encode 17 frames in one piece",
     100017,
     0,
     0,
     0,
     17,
     32,
     16,
     5,
     4,
     2,
     8,
     -0.00734801238,
     0.516457508,
     {-0.23148670, -0.17101328, 1.71677975, -0.15281540, -0.84674793, -0.06297414, -0.25358837, 0.05164290}},
    {"encode in tiles",
     100109,
     0,
     1,
     1,
     9,
     32,
     24,
     3,
     4,
     3,
     8,
     -0.0245113922,
     0.428007778,
     {-0.18379314, 0.35765070, 0.19641559, -0.03097692, 0.51450713, -0.17664217, 0.43030712, -0.23015692}},
    {"decode 1 latent",
     200001,
     1,
     1,
     0,
     1,
     4,
     2,
     1,
     32,
     16,
     3,
     0.210305884,
     0.684822201,
     {0.08321964, 0.02876401, -0.36141006, -0.38602437, -0.16041313, 1.05869598, 0.35783654, 0.85235083}},
    {"decode 2 latents",
     200002,
     1,
     1,
     0,
     2,
     4,
     2,
     8,
     32,
     16,
     3,
     0.27245212,
     0.973328711,
     {-0.14910667, -0.07353106, -0.26855848, 0.20717251, 0.24891014, -0.65501282, 0.45450518, 0.58020905}},
    {"decode 3 latents",
     200003,
     1,
     1,
     0,
     3,
     4,
     2,
     9,
     32,
     16,
     3,
     0.190126614,
     0.822238696,
     {0.37327677, -0.00006539, 1.28552101, -1.51076878, -0.23713135, -0.15910583, 0.91406532, 0.84832309}},
    {"decode 5 latents",
     200005,
     1,
     1,
     0,
     5,
     4,
     2,
     17,
     32,
     16,
     3,
     0.301466239,
     0.839219078,
     {0.26568703, -0.16939271, -0.38124550, -0.28507056, -0.33825591, 0.52787011, 0.37570338, 0.37562680}},
    {"decode in tiles",
     200103,
     1,
     1,
     1,
     3,
     4,
     3,
     9,
     32,
     24,
     3,
     0.229141191,
     0.951855341,
     {-0.06100772, 0.19135036, 0.41406343, -0.29343762, -0.15134068, 1.37346217, 0.42863514, 0.30384891}},
};

/* Relative to the output's size: the design's 1e-5 in relative L2. */
static void check_golden(const Golden *g, const float *ours, const char *backend)
{
    int64_t n = g->To * g->Ho * g->Wo * g->Co;
    const int64_t at[8] = {0, 1, n / 7, n / 3, n / 2, 5 * n / 7, n - 2, n - 1};
    float *torch = floats(n);
    double sum = 0, squares = 0, bound = 1e-5 * g->rms;
    char what[96];
    latents_to_vae_order(torch, ours, g->To, g->Co, g->Ho, g->Wo);
    for (int64_t i = 0; i < n; i++) {
        sum += torch[i];
        squares += (double)torch[i] * torch[i];
    }
    snprintf(what, sizeof what, "%s on %s", g->what, backend);
    check_value(what, sum / (double)n, g->mean, bound, 0);
    check_value(what, sqrt(squares / (double)n), g->rms, bound, 0);
    for (int i = 0; i < 8; i++)
        check_value(what, torch[at[i]], g->value[i], bound + 5e-9, 0); /* the table has 8 decimals */
    free(torch);
}

static void run_golden(Rig *r, const Golden *g, const VaeTiling *tiling, const char *backend)
{
    const VaeTiling *t = g->tiled ? tiling : NULL;
    float *in = input(g->S, g->decode ? r->c.latent_channels : 3, g->T, g->H, g->W);
    float *out = g->decode ? decode(r, t, in, g->T, g->H, g->W) : encode(r, t, in, g->T, g->H, g->W, g->chunked);
    check_golden(g, out, backend);
    free(in);
    free(out);
}

static void gives_the_reference_numbers(void **state)
{
    (void)state;
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b]);
        for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
            run_golden(&r, &golden[i], &tiles, backends[b]);
        rig_close(&r);
    }
}

#include "golden/vae_variants.h"

static void gives_the_numbers_of_other_shapes(void **state)
{
    (void)state;
    VaeTiling t = {.enabled = 1,
                   .pixel_height = 32,
                   .pixel_width = 32,
                   .latent_height = 4,
                   .latent_width = 4,
                   .overlap_height = 0.25,
                   .overlap_width = 0.5};
    for (int b = 0; b < N_BACKENDS; b++)
        for (size_t i = 0; i < sizeof variant_golden / sizeof *variant_golden; i++) {
            Rig r;
            if (b == 0 && variant_golden[i].variant == 0)
                continue; /* too long for ref */
            rig_open_as(&r, backends[b], &variants[variant_golden[i].variant], 0);
            run_golden(&r, &variant_golden[i].golden, &t, backends[b]);
            rig_close(&r);
        }
}

#include "golden/vae_matrix.h"

/* Weights stored in each type, as vae_open reads them; ref, which takes its time, of the short clips. */
static void gives_the_numbers_of_every_clip(void **state)
{
    (void)state;
    static const VaeConfig plain = {.in_channels = 3,
                                    .out_channels = 3,
                                    .latent_channels = 4,
                                    .n_blocks = 4,
                                    .block_channels = {8, 8, 16, 16},
                                    .layers_per_block = 1,
                                    .groups = 4,
                                    .temporal_ratio = 4,
                                    .sample_height = 64,
                                    .sample_width = 64,
                                    .norm_eps = 1e-6,
                                    .scaling_factor = 1.15258426};
    const VaeTiling t = {.enabled = 1,
                         .pixel_height = 32,
                         .pixel_width = 32,
                         .latent_height = 4,
                         .latent_width = 4,
                         .overlap_height = 0.25,
                         .overlap_width = 0.5};
    for (int b = 0; b < N_BACKENDS; b++)
        for (DType stored = DT_F32; stored <= DT_BF16; stored++) {
            Rig r;
            char *folder = check_tmp_path("stored");
            rig_open_as(&r, backends[b], &plain, 0);
            CHECK_OK(dir_make(folder, &r.err), &r.err);
            CHECK_OK(vae_save(r.vae, folder, stored, &r.err), &r.err);
            vae_close(&r.vae);
            CHECK_OK(vae_open(&r.vae, r.be, folder, VAE_BOTH, &r.err), &r.err);
            for (size_t i = 0; i < sizeof matrix_golden / sizeof *matrix_golden; i++)
                if (matrix_golden[i].stored == stored && (b > 0 || matrix_golden[i].golden.T <= 9))
                    run_golden(&r, &matrix_golden[i].golden, &t, backends[b]);
            rig_close(&r);
        }
}

/* ---- what diffusers computes with its own folder (stored as float16) ------------------------- */

static void check_output(const SafeTensors *outputs, const char *name, const float *ours, int64_t T, int64_t C,
                         int64_t H, int64_t W)
{
    const SafeEntry *e = safetensors_find(outputs, name);
    assert_non_null(e);
    int64_t n = T * C * H * W;
    assert_int_equal(tensor_count(&e->tensor), n);
    float *torch = floats(n);
    double *want = malloc((size_t)n * sizeof *want);
    assert_non_null(want);
    latents_to_vae_order(torch, ours, T, C, H, W);
    for (int64_t i = 0; i < n; i++)
        want[i] = tensor_get(&e->tensor, i);
    check_rel_l2(name, torch, want, n, 1e-5);
    free(want);
    free(torch);
}

static void agrees_with_the_pipeline(void **state)
{
    (void)state;
    enum { T = 17, H = 96, W = 64, L = 3, h = 8, w = 8 };
    Err err = {0};
    Backend *be = NULL;
    Vae *vae = NULL;
    Arena *work = NULL;
    SafeTensors *outputs = NULL;
    float *pixels = input(700001, 3, T, H, W), *z = input(700002, 4, L, h, w);
    float *moments = floats(5 * 8 * (H / 8) * (W / 8)), *made = floats(9 * 3 * 8 * h * 8 * w);
    for (int64_t i = 0; i < T * H * W * 3; i++)
        pixels[i] = pixels[i] < -1 ? -1 : pixels[i] > 1 ? 1 : pixels[i];
    CHECK_OK(safetensors_open(&outputs, check_repo_path("tests/golden/pipeline/outputs.safetensors"), &err), &err);
    CHECK_OK(backend_open(&be, "cpu", 0, NULL, &err), &err);
    CHECK_OK(vae_open(&vae, be, check_repo_path("tests/golden/pipeline/model/vae"), VAE_BOTH, &err), &err);
    CHECK_OK(arena_new(&work, be, 1 << 27, "vae", &err), &err);
    for (int tiled = 0; tiled < 2; tiled++) {
        VaeTiling t = vae_tiling_default(vae_config(vae), tiled);
        CHECK_OK(vae_encode(vae, work, &t, moments, pixels, T, H, W, &err), &err);
        check_output(outputs, tiled ? "moments_17_tiled" : "moments_17", moments, 5, 8, H / 8, W / 8);
        CHECK_OK(vae_decode(vae, work, &t, made, z, L, h, w, &err), &err);
        check_output(outputs, tiled ? "pixels_3_tiled" : "pixels_3", made, 9, 3, 8 * h, 8 * w);
    }
    arena_free(&work);
    vae_close(&vae);
    backend_close(&be);
    safetensors_close(&outputs);
    free(pixels);
    free(z);
    free(moments);
    free(made);
}

/* ---- invariants ------------------------------------------------------------------------------ */

static void later_frames_do_not_reach_back(void **state)
{
    (void)state;
    enum { H = 16, W = 16, FRAME = H * W * 3, LATENT = H / 8 * (W / 8) * 8 };
    Rig r;
    rig_open(&r, "cpu");
    float *pixels = input(1, 3, 49, H, W), *all, *first, *changed;
    all = encode(&r, NULL, pixels, 49, H, W, 1);
    first = encode(&r, NULL, pixels, 9, H, W, 1);
    assert_memory_equal(all, first, 3 * LATENT * sizeof *all);
    for (int i = 9 * FRAME; i < 49 * FRAME; i++)
        pixels[i] = -pixels[i];
    changed = encode(&r, NULL, pixels, 49, H, W, 1);
    assert_memory_equal(all, changed, 3 * LATENT * sizeof *all);
    assert_memory_not_equal(all + 3 * LATENT, changed + 3 * LATENT, 10 * LATENT * sizeof *all);
    free(pixels);
    free(all);
    free(first);
    free(changed);
    float *z = input(2, 4, 13, 2, 2);
    all = decode(&r, NULL, z, 13, 2, 2);
    first = decode(&r, NULL, z, 3, 2, 2);
    assert_memory_equal(all, first, 9 * FRAME * sizeof *all);
    free(z);
    free(all);
    free(first);
    rig_close(&r);
}

/* One tile as large as the picture is no tile; and the number of threads changes no bit. */
static void tiles_and_threads_change_nothing(void **state)
{
    (void)state;
    Rig r;
    rig_open(&r, "cpu");
    VaeTiling large = tiles;
    large.pixel_height = large.pixel_width = 32;
    float *pixels = input(3, 3, 9, 32, 32), *plain = encode(&r, NULL, pixels, 9, 32, 32, 1);
    float *tiled = encode(&r, &large, pixels, 9, 32, 32, 1);
    assert_memory_equal(plain, tiled, 3 * 16 * 8 * sizeof *plain);
    free(tiled);
    rig_close(&r);
    for (int64_t threads = 1; threads <= 2; threads++) {
        rig_open_as(&r, "cpu", &tiny, threads);
        tiled = encode(&r, NULL, pixels, 9, 32, 32, 1);
        assert_memory_equal(plain, tiled, 3 * 16 * 8 * sizeof *plain);
        free(tiled);
        rig_close(&r);
    }
    free(pixels);
    free(plain);
}

static void set_all(Rig *r, const char *part, float value)
{
    ParamSet *ps = vae_params(r->vae);
    for (int64_t i = 0; i < ps->n; i++) {
        if (!strstr(ps->param[i].name, part))
            continue;
        int64_t n = tensor_count(&ps->param[i].value);
        float *host = floats(n);
        for (int64_t k = 0; k < n; k++)
            host[k] = value;
        CHECK_OK(params_put(ps, &ps->param[i], host, &r->err), &r->err);
        free(host);
    }
}

/* A damaged weight makes no picture; nor does a damaged latent. */
static void refuses_what_is_not_finite(void **state)
{
    (void)state;
    enum { h = 2, w = 2 };
    Rig r;
    Arena *work = NULL;
    float *z = input(700003, tiny.latent_channels, 1, h, w), *out = floats(8 * h * 8 * w * 3);
    rig_open(&r, "cpu");
    CHECK_OK(arena_new(&work, r.be, 1 << 26, "vae", &r.err), &r.err);
    CHECK_OK(vae_decode(r.vae, work, NULL, out, z, 1, h, w, &r.err), &r.err);
    z[0] = NAN;
    CHECK_FAILS(vae_decode(r.vae, work, NULL, out, z, 1, h, w, &r.err), ERR_FORMAT, "not finite", &r.err);
    z[0] = 0;
    set_all(&r, "decoder.conv_out", NAN);
    CHECK_FAILS(vae_decode(r.vae, work, NULL, out, z, 1, h, w, &r.err), ERR_FORMAT, "a weight of the VAE", &r.err);
    arena_free(&work);
    free(z);
    free(out);
    rig_close(&r);
}

/* With scale 1 and shift 0 the condition says nothing: the decoder's norm is GroupNorm.  So the
 * latent acts through conv_in alone:
 * with that kernel 0 too, every latent decodes to the same picture; with the condition alive it
 * does not. */
static void condition_reduces_to_groupnorm(void **state)
{
    (void)state;
    enum { SIZE = 9 * 16 * 16 * 3 };
    Rig r;
    rig_open(&r, "cpu");
    float *z = input(4, 4, 3, 2, 2), *other = input(5, 4, 3, 2, 2);
    set_all(&r, "decoder.conv_in.conv.weight", 0);
    float *a = decode(&r, NULL, z, 3, 2, 2), *b = decode(&r, NULL, other, 3, 2, 2);
    assert_memory_not_equal(a, b, SIZE * sizeof *a);
    free(a);
    free(b);
    set_all(&r, "conv_y.conv.weight", 0);
    set_all(&r, "conv_y.conv.bias", 1);
    set_all(&r, "conv_b.conv", 0);
    a = decode(&r, NULL, z, 3, 2, 2);
    b = decode(&r, NULL, other, 3, 2, 2);
    assert_memory_equal(a, b, SIZE * sizeof *a);
    free(a);
    free(b);
    free(z);
    free(other);
    rig_close(&r);
}

static void counts_frames(void **state)
{
    (void)state;
    static const int64_t frames[][2] = {{1, 1}, {8, 2}, {9, 3}, {17, 5}, {45, 12}, {48, 12}, {49, 13}};
    static const int64_t latents[][2] = {{1, 1}, {2, 8}, {3, 9}, {5, 17}, {12, 48}, {13, 49}};
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
        assert_int_equal(vae_latent_frames(&tiny, frames[i][0]), frames[i][1]);
    for (size_t i = 0; i < sizeof latents / sizeof *latents; i++)
        assert_int_equal(vae_pixel_frames(&tiny, latents[i][0]), latents[i][1]);
}

/* ---- bytes, files, refusals ------------------------------------------------------------------ */

static void takes_bytes(void **state)
{
    (void)state;
    enum { COUNT = 16 * 16 * 3 };
    Rig r;
    Arena *work = NULL;
    uint8_t rgb[COUNT], back[COUNT];
    float pixels[COUNT], a[4 * 8], b[4 * 8];
    for (int i = 0; i < COUNT; i++) {
        rgb[i] = (uint8_t)(i * 37);
        pixels[i] = (float)(rgb[i] / 127.5 - 1.0);
    }
    rig_open(&r, "cpu");
    CHECK_OK(arena_new(&work, r.be, 1 << 24, "vae", &r.err), &r.err);
    CHECK_OK(vae_encode_rgb(r.vae, work, NULL, a, rgb, 1, 16, 16, &r.err), &r.err);
    CHECK_OK(vae_encode(r.vae, work, NULL, b, pixels, 1, 16, 16, &r.err), &r.err);
    assert_memory_equal(a, b, sizeof a);
    pixels_to_rgb(back, pixels, COUNT);
    assert_memory_equal(back, rgb, sizeof rgb);
    const float edge[] = {-7, 7, NAN, 0};
    const uint8_t want[] = {0, 255, 0, 128}; /* clamped; 127.5 goes to the even neighbour */
    pixels_to_rgb(back, edge, 4);
    assert_memory_equal(back, want, sizeof want);
    arena_free(&work);
    rig_close(&r);
}

static void saves_and_opens(void **state)
{
    (void)state;
    Rig r;
    Vae *again = NULL;
    char *folder = check_tmp_path("vae");
    rig_open(&r, "cpu");
    CHECK_OK(vae_save(r.vae, folder, DT_F32, &r.err), &r.err);
    CHECK_OK(vae_open(&again, r.be, folder, VAE_BOTH, &r.err), &r.err);
    assert_memory_equal(vae_config(again), &tiny, sizeof tiny);
    VaeConfig other = tiny;
    CHECK_OK(vae_check_weights(&tiny, folder, NULL, &r.err), &r.err);
    other.layers_per_block++;
    CHECK_FAILS(vae_check_weights(&other, folder, NULL, &r.err), ERR_FORMAT, "missing", &r.err);
    float *z = input(6, 4, 1, 2, 2), *a = decode(&r, NULL, z, 1, 2, 2);
    vae_close(&r.vae);
    r.vae = again;
    float *b = decode(&r, NULL, z, 1, 2, 2);
    assert_memory_equal(a, b, 16 * 16 * 3 * sizeof *a);
    free(a);
    free(b);
    free(z);
    rig_close(&r);
}

/* Of the weights it takes one half, with the same results, and refuses the other half's work. */
static void holds_what_it_was_opened_for(void **state)
{
    (void)state;
    Rig r;
    Vae *whole;
    int64_t both, encodes, decodes;
    char *folder = check_tmp_path("halves");
    rig_open(&r, "cpu");
    CHECK_OK(vae_save(r.vae, folder, DT_F32, &r.err), &r.err);
    CHECK_OK(vae_plan_weights(r.be, folder, VAE_BOTH, &both, &r.err), &r.err);
    CHECK_OK(vae_plan_weights(r.be, folder, VAE_ENCODES, &encodes, &r.err), &r.err);
    CHECK_OK(vae_plan_weights(r.be, folder, VAE_DECODES, &decodes, &r.err), &r.err);
    assert_true(encodes > both / 4 && decodes > both / 4);
    assert_int_equal(encodes + decodes, both);
    whole = r.vae;
    float *x = input(5, 3, 9, 32, 32), *moments = encode(&r, NULL, x, 9, 32, 32, 1);
    float *z = input(6, 4, 3, 4, 4), *pixels = decode(&r, NULL, z, 3, 4, 4);
    CHECK_OK(vae_open(&r.vae, r.be, folder, VAE_ENCODES, &r.err), &r.err);
    float *half = encode(&r, NULL, x, 9, 32, 32, 1);
    assert_memory_equal(half, moments, 3 * 4 * 4 * 8 * sizeof *half);
    CHECK_FAILS(vae_decode(r.vae, NULL, NULL, pixels, z, 3, 4, 4, &r.err), ERR_USAGE, "opened to encode only", &r.err);
    free(half);
    vae_close(&r.vae);
    CHECK_OK(vae_open(&r.vae, r.be, folder, VAE_DECODES, &r.err), &r.err);
    half = decode(&r, NULL, z, 3, 4, 4);
    assert_memory_equal(half, pixels, 9 * 32 * 32 * 3 * sizeof *half);
    CHECK_FAILS(vae_encode(r.vae, NULL, NULL, moments, x, 9, 32, 32, &r.err), ERR_USAGE, "opened to decode only",
                &r.err);
    free(half);
    free(x);
    free(moments);
    free(z);
    free(pixels);
    vae_close(&whole);
    rig_close(&r);
}

static void refuses_calls(void **state)
{
    (void)state;
    Rig r;
    Arena *work = NULL;
    float one[8] = {0};
    int64_t bytes = 0;
    rig_open(&r, "cpu");
    VaeTiling apart = tiles;
    apart.overlap_height = 0.3;
    CHECK_FAILS(vae_plan_encode(&tiny, DT_F32, &apart, 9, 32, 32, &bytes, &r.err), ERR_USAGE, "would not meet", &r.err);
    CHECK_FAILS(vae_plan_encode(&tiny, DT_F32, NULL, 9, 30, 32, &bytes, &r.err), ERR_USAGE, "32x30", &r.err);
    CHECK_FAILS(vae_plan_decode(&tiny, DT_F32, NULL, 0, 4, 4, &bytes, &r.err), ERR_USAGE, "0 frames", &r.err);
    CHECK_FAILS(vae_plan_decode(&tiny, DT_F32, NULL, 1, 1 << 20, 4, &bytes, &r.err), ERR_LIMIT, "16384", &r.err);
    CHECK_OK(arena_new(&work, r.be, 1000, "vae", &r.err), &r.err);
    CHECK_FAILS(vae_decode(r.vae, work, NULL, one, one, 1, 1, 1, &r.err), ERR_LIMIT, "vae", &r.err);
    arena_free(&work);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_reference_numbers),
        cmocka_unit_test(gives_the_numbers_of_other_shapes),
        cmocka_unit_test(gives_the_numbers_of_every_clip),
        cmocka_unit_test(agrees_with_the_pipeline),
        cmocka_unit_test(later_frames_do_not_reach_back),
        cmocka_unit_test(tiles_and_threads_change_nothing),
        cmocka_unit_test(refuses_what_is_not_finite),
        cmocka_unit_test(condition_reduces_to_groupnorm),
        cmocka_unit_test(counts_frames),
        cmocka_unit_test(takes_bytes),
        cmocka_unit_test(saves_and_opens),
        cmocka_unit_test(holds_what_it_was_opened_for),
        cmocka_unit_test(refuses_calls),
    };
    return check_run("vae", tests);
}
