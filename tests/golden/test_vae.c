/* The VAE against the numbers of the reference implementation (executed in double with formula-defined weights), against its own
 * invariants, and its memory plan against what it really uses; on ref and cpu. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/latents.h"
#include "common/model/vae.h"

static const char *const backends[] = {"ref", "cpu"};
enum { N_BACKENDS = 2 };
static const VaeConfig tiny = {
    .in_channels = 3, .out_channels = 3, .latent_channels = 4, .n_blocks = 4, .block_channels = {8, 16, 16, 32}, .layers_per_block = 2,
    .groups = 4, .temporal_ratio = 4, .sample_height = 32, .sample_width = 32, .norm_eps = 1e-6, .scaling_factor = 1.15258426};
static const VaeTiling tiles = {.enabled = 1, .pixel_height = 16, .pixel_width = 16, .latent_height = 2, .latent_width = 2,
                                .overlap_height = 0.5, .overlap_width = 0.5};

typedef struct Rig { Backend *be; Vae *vae; Err err; } Rig;

static void rig_open(Rig *r, const char *backend)
{
    err_clear(&r->err);
    CHECK_OK(backend_open(&r->be, backend, 0, NULL, &r->err), &r->err);
    CHECK_OK(vae_new_filled(&r->vae, r->be, &tiny, &r->err), &r->err);
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
    int64_t L = chunked ? vae_latent_frames(&tiny, T) : (T + 3) / 4, bytes = 1 << 26;
    float *out = floats(L * (H / 8) * (W / 8) * 8);
    if (chunked)
        CHECK_OK(vae_plan_encode(&tiny, DT_F32, tiling, T, H, W, &bytes, &r->err), &r->err);
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
    int64_t bytes = 0;
    float *out = floats(vae_pixel_frames(&tiny, L) * 8 * h * 8 * w * 3);
    CHECK_OK(vae_plan_decode(&tiny, DT_F32, tiling, L, h, w, &bytes, &r->err), &r->err);
    CHECK_OK(arena_new(&work, r->be, bytes, "vae", &r->err), &r->err);
    CHECK_OK(vae_decode(r->vae, work, tiling, out, z, L, h, w, &r->err), &r->err);
    assert_int_equal(arena_high(work), bytes);
    arena_free(&work);
    return out;
}

/* ---- golden numbers: mean, root mean square, and elements 0, 1, N/7, N/3, N/2, 5N/7, N-2, N-1 in the reference's order -------- */

typedef struct Golden {
    const char *what;
    uint32_t S;
    int decode, chunked, tiled;
    int64_t T, H, W;         /* input */
    int64_t To, Ho, Wo, Co;  /* output */
    double mean, rms, value[8];
} Golden;

static const Golden golden[] = {
    {"encode 8 frames", 100008, 0, 1, 0, 8, 32, 16, 2, 4, 2, 8, -0.00282592625, 0.506422545,
     {0.06184933, 1.37251672, 0.00867166, 0.27006828, 0.06798571, 0.20776165, 0.05601082, -0.09780119}},
    {"encode 9 frames", 100009, 0, 1, 0, 9, 32, 16, 3, 4, 2, 8, -0.0642212645, 0.461112057,
     {0.27912862, 0.10399365, -0.14463840, -0.29619312, -0.59105955, 0.17448942, -0.01839656, 0.08013922}},
    {"encode 17 frames", 100017, 0, 1, 0, 17, 32, 16, 5, 4, 2, 8, -0.00950849723, 0.46929687,
     {-0.11231867, -0.08521182, 1.41970205, -0.07630228, -0.74684207, 0.07848359, -0.32438664, 0.06084176}},
    {"encode 17 frames in one piece", 100017, 0, 0, 0, 17, 32, 16, 5, 4, 2, 8, -0.00734801238, 0.516457508,
     {-0.23148670, -0.17101328, 1.71677975, -0.15281540, -0.84674793, -0.06297414, -0.25358837, 0.05164290}},
    {"encode in tiles", 100109, 0, 1, 1, 9, 32, 24, 3, 4, 3, 8, -0.0245113922, 0.428007778,
     {-0.18379314, 0.35765070, 0.19641559, -0.03097692, 0.51450713, -0.17664217, 0.43030712, -0.23015692}},
    {"decode 1 latent", 200001, 1, 1, 0, 1, 4, 2, 1, 32, 16, 3, 0.210305884, 0.684822201,
     {0.08321964, 0.02876401, -0.36141006, -0.38602437, -0.16041313, 1.05869598, 0.35783654, 0.85235083}},
    {"decode 2 latents", 200002, 1, 1, 0, 2, 4, 2, 8, 32, 16, 3, 0.27245212, 0.973328711,
     {-0.14910667, -0.07353106, -0.26855848, 0.20717251, 0.24891014, -0.65501282, 0.45450518, 0.58020905}},
    {"decode 3 latents", 200003, 1, 1, 0, 3, 4, 2, 9, 32, 16, 3, 0.190126614, 0.822238696,
     {0.37327677, -0.00006539, 1.28552101, -1.51076878, -0.23713135, -0.15910583, 0.91406532, 0.84832309}},
    {"decode 5 latents", 200005, 1, 1, 0, 5, 4, 2, 17, 32, 16, 3, 0.301466239, 0.839219078,
     {0.26568703, -0.16939271, -0.38124550, -0.28507056, -0.33825591, 0.52787011, 0.37570338, 0.37562680}},
    {"decode in tiles", 200103, 1, 1, 1, 3, 4, 3, 9, 32, 24, 3, 0.229141191, 0.951855341,
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

static void gives_the_reference_numbers(void **state)
{
    (void)state;
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b]);
        for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
            const Golden *g = &golden[i];
            const VaeTiling *t = g->tiled ? &tiles : NULL;
            float *in = input(g->S, g->decode ? 4 : 3, g->T, g->H, g->W);
            float *out = g->decode ? decode(&r, t, in, g->T, g->H, g->W) : encode(&r, t, in, g->T, g->H, g->W, g->chunked);
            check_golden(g, out, backends[b]);
            free(in);
            free(out);
        }
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_reference_numbers),
    };
    return check_run("vae", tests);
}
