/* A pipeline folder saved by diffusers, opened as it is: text vectors, 50 DDIM steps, 50 DPM steps
 * and decoded frames against what diffusers computed with it (tests/golden/make_pipeline.py). */
#include "tests/check.h"

#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/model/latents.h"
#include "common/store/safetensors.h"
#include "infer/pipeline.h"

static const SampleSettings settings = {.width = 32,
                                        .height = 48,
                                        .num_frames = 9,
                                        .model_frames = 9,
                                        .latent_frames = 3,
                                        .fps = 8,
                                        .sampler = SAMPLER_DDIM,
                                        .steps = 50,
                                        .guidance = 6.0};

static SafeTensors *outputs(void)
{
    Err err = {0};
    SafeTensors *s = NULL;
    CHECK_OK(safetensors_open(&s, check_repo_path("tests/golden/pipeline/outputs.safetensors"), &err), &err);
    return s;
}

/* A recorded tensor as doubles. */
static double *recorded(const SafeTensors *s, const char *name, int64_t *n)
{
    const SafeEntry *e = safetensors_find(s, name);
    assert_non_null(e);
    *n = tensor_count(&e->tensor);
    double *out = mem_calloc(*n, sizeof *out, NULL);
    for (int64_t i = 0; i < *n; i++)
        out[i] = tensor_get(&e->tensor, i);
    return out;
}

static Pipeline *open_pipeline(Backend **be, const char *device, SamplerKind kind)
{
    Err err = {0};
    Pipeline *p = NULL;
    SampleSettings s = settings;
    s.sampler = kind;
    CHECK_OK(backend_open(be, device, 0, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, *be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
    return p;
}

static void noise_is_torchs(void **state)
{
    SafeTensors *s = outputs();
    int64_t n;
    double *want = recorded(s, "noise", &n);
    float *got = mem_calloc(n, sizeof *got, NULL);
    TorchRng rng;
    (void)state;
    torch_seed(&rng, 42);
    torch_randn(&rng, got, n);
    check_near("noise of seed 42", got, want, n, 2e-6, 0);
    mem_free(got);
    mem_free(want);
    safetensors_close(&s);
}

static void sample_like_diffusers(const char *device, SamplerKind kind, const char *latents_name)
{
    Err err = {0};
    SafeTensors *s = outputs();
    Backend *be = NULL;
    Pipeline *p = open_pipeline(&be, device, kind);
    PipelineSizes z = pipeline_sizes(p);
    int64_t nt = z.text_len * z.text_dim, n, cut;
    float *embeds = mem_calloc(nt, sizeof(float), NULL), *negative = mem_calloc(nt, sizeof(float), NULL);
    CHECK_OK(pipeline_encode_text(p, "A woman in a red striped dress turns to the right.", embeds, &cut, &err), &err);
    CHECK_OK(pipeline_encode_text(p, "", negative, &cut, &err), &err);
    double *want = recorded(s, "prompt_embeds", &n);
    assert_int_equal(n, nt);
    check_rel_l2("prompt embeddings", embeds, want, n, 1e-5);
    mem_free(want);
    want = recorded(s, "negative_embeds", &n);
    check_rel_l2("negative embeddings", negative, want, n, 1e-5);
    mem_free(want);
    pipeline_drop_text_encoder(p);

    want = recorded(s, latents_name, &n);
    float *torch = mem_calloc(n, sizeof(float), NULL);
    Denoising d;
    CHECK_OK(denoising_init(&d, p, &err), &err);
    CHECK_OK(pipeline_denoise(p, embeds, negative, 42, &d, NULL, &err), &err);
    latents_to_torch(torch, d.latents, settings.latent_frames, z.latent_channels, z.latent_height, z.latent_width);
    check_rel_l2(latents_name, torch, want, n, 1e-3);
    mem_free(want);

    if (kind == SAMPLER_DDIM) {
        want = recorded(s, "frames_ddim", &n); /* [1,3,T,H,W] */
        int64_t T = settings.num_frames, H = settings.height, W = settings.width;
        uint8_t *rgb = mem_calloc(n, 1, NULL);
        float *pixels = mem_calloc(n, sizeof(float), NULL), *planar = mem_calloc(n, sizeof(float), NULL);
        CHECK_OK(pipeline_decode(p, d.latents, rgb, pixels, &err), &err);
        latents_to_vae_order(planar, pixels, T, 3, H, W);
        check_rel_l2("decoded frames", planar, want, n, 1e-3);
        mem_free(rgb);
        mem_free(pixels);
        mem_free(planar);
        mem_free(want);
    }
    mem_free(torch);
    denoising_fini(&d);
    mem_free(embeds);
    mem_free(negative);
    pipeline_close(&p);
    backend_close(&be);
    safetensors_close(&s);
}

static void ddim_cpu(void **state)
{
    (void)state;
    sample_like_diffusers("cpu", SAMPLER_DDIM, "latents_ddim");
}
static void ddim_ref(void **state)
{
    (void)state;
    sample_like_diffusers("ref", SAMPLER_DDIM, "latents_ddim");
}
static void dpm_cpu(void **state)
{
    (void)state;
    sample_like_diffusers("cpu", SAMPLER_DPM, "latents_dpm");
}
static void dpm_ref(void **state)
{
    (void)state;
    sample_like_diffusers("ref", SAMPLER_DPM, "latents_dpm");
}

/* The number of threads changes no bit. */
static void threads_agree(void **state)
{
    Err err = {0};
    Denoising d[2] = {0};
    (void)state;
    for (int t = 0; t < 2; t++) {
        Backend *be = NULL;
        Pipeline *p = NULL;
        SampleSettings s = settings;
        s.steps = 5;
        CHECK_OK(backend_open(&be, "cpu", t + 1, NULL, &err), &err);
        CHECK_OK(pipeline_open(&p, be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
        PipelineSizes z = pipeline_sizes(p);
        float *embeds = mem_calloc(z.text_len * z.text_dim, sizeof(float), NULL);
        int64_t cut, n = s.latent_frames * z.latent_height * z.latent_width * z.latent_channels;
        CHECK_OK(denoising_init(&d[t], p, &err), &err);
        CHECK_OK(pipeline_encode_text(p, "a coat", embeds, &cut, &err), &err);
        CHECK_OK(pipeline_denoise(p, embeds, embeds, 7, &d[t], NULL, &err), &err);
        if (t == 1)
            assert_memory_equal(d[0].latents, d[1].latents, (size_t)n * sizeof(float));
        mem_free(embeds);
        pipeline_close(&p);
        backend_close(&be);
    }
    denoising_fini(&d[0]);
    denoising_fini(&d[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_torchs), cmocka_unit_test(ddim_cpu), cmocka_unit_test(ddim_ref),
        cmocka_unit_test(dpm_cpu),         cmocka_unit_test(dpm_ref),  cmocka_unit_test(threads_agree),
    };
    return check_run("pipeline", tests);
}
