/* Every way to sample against diffusers: schedulers, steps, guidance, frames, shapes
 * (tests/golden/make_sampling.py).  Latents within 1e-3, decoded frames within one level of 255. */
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/latents.h"
#include "common/store/safetensors.h"
#include "infer/pipeline.h"

static json_t *facts;
static SafeTensors *recorded;

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int64_t number_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static int load(void **state)
{
    Err err = {0};
    (void)state;
    CHECK_OK(json_read_file(&facts, check_repo_path("tests/golden/sampling.json"), &err), &err);
    CHECK_OK(safetensors_open(&recorded, check_repo_path("tests/golden/sampling.safetensors"), &err), &err);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    json_decref(facts);
    safetensors_close(&recorded);
    return 0;
}

static SampleSettings settings_of(const json_t *c)
{
    int64_t frames = number_of(c, "frames");
    SampleSettings s = {.width = number_of(c, "width"),
                        .height = number_of(c, "height"),
                        .num_frames = frames,
                        .model_frames = frames,
                        .fps = 8,
                        .sampler = strcmp(text_of(c, "scheduler"), "dpm") == 0 ? SAMPLER_DPM : SAMPLER_DDIM,
                        .steps = number_of(c, "steps"),
                        .guidance = json_number_value(json_object_get(c, "guidance")),
                        .dynamic_guidance = json_is_true(json_object_get(c, "dynamic"))};
    Err err = {0};
    CHECK_OK(model_frames_check(frames, &s.latent_frames, &err), &err);
    return s;
}

static float *encode(Pipeline *p, const char *text)
{
    Err err = {0};
    PipelineSizes z = pipeline_sizes(p);
    int64_t cut;
    float *out = mem_calloc(z.text_len * z.text_dim, sizeof *out, NULL);
    CHECK_OK(pipeline_encode_text(p, text, out, &cut, &err), &err);
    return out;
}

/* The frames whose pixels were recorded. */
static void check_frames(Pipeline *p, const SampleSettings *s, const json_t *c, const float *latents)
{
    Err err = {0};
    char name[16];
    const json_t *shown = json_object_get(c, "shown"), *k;
    int64_t frame = s->height * s->width * 3, apart = 0;
    size_t i;
    snprintf(name, sizeof name, "%s.rgb", text_of(c, "name"));
    const SafeEntry *e = safetensors_find(recorded, name);
    assert_non_null(e);
    assert_int_equal(tensor_count(&e->tensor), (int64_t)json_array_size(shown) * frame);
    const uint8_t *want = e->tensor.data;
    uint8_t *rgb = mem_calloc(s->num_frames * frame, 1, NULL);
    CHECK_OK(pipeline_decode(p, latents, rgb, NULL, &err), &err);
    json_array_foreach (shown, i, k) {
        const uint8_t *got = rgb + json_integer_value(k) * frame;
        for (int64_t j = 0; j < frame; j++) {
            int d = abs(got[j] - want[(int64_t)i * frame + j]);
            if (d > 1)
                fail_msg("case %s, frame %d: %d, diffusers has %d", text_of(c, "name"), (int)json_integer_value(k),
                         got[j], want[(int64_t)i * frame + j]);
            apart += d;
        }
    }
    printf("# case %s: %d of %d values are one level off\n", text_of(c, "name"), (int)apart,
           (int)((int64_t)json_array_size(shown) * frame));
    mem_free(rgb);
}

static void sample_case(const json_t *c, const char *device)
{
    Err err = {0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    Denoising d;
    SampleSettings s = settings_of(c);
    CHECK_OK(backend_open(&be, device, 0, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, be, check_repo_path("tests/golden/pipeline/model"), NULL, &s, NULL, &err), &err);
    float *embeds = encode(p, text_of(facts, "prompt")), *negative = encode(p, text_of(c, "negative"));
    pipeline_drop_text_encoder(p);
    CHECK_OK(denoising_init(&d, p, &err), &err);
    CHECK_OK(pipeline_denoise(p, embeds, negative, (uint64_t)number_of(facts, "seed"), &d, NULL, &err), &err);

    const SafeEntry *e = safetensors_find(recorded, text_of(c, "name"));
    PipelineSizes z = pipeline_sizes(p);
    assert_non_null(e);
    int64_t n = tensor_count(&e->tensor);
    assert_int_equal(n, s.latent_frames * z.latent_channels * z.latent_height * z.latent_width);
    float *torch = mem_calloc(n, sizeof *torch, NULL);
    double *want = mem_calloc(n, sizeof *want, NULL);
    for (int64_t i = 0; i < n; i++)
        want[i] = tensor_get(&e->tensor, i);
    latents_to_torch(torch, d.latents, s.latent_frames, z.latent_channels, z.latent_height, z.latent_width);
    check_rel_l2(text_of(c, "name"), torch, want, n, 1e-3);
    if (json_object_get(c, "shown"))
        check_frames(p, &s, c, d.latents);
    mem_free(torch);
    mem_free(want);
    mem_free(embeds);
    mem_free(negative);
    denoising_fini(&d);
    pipeline_close(&p);
    backend_close(&be);
}

static void every_case(const char *device, int64_t most_steps)
{
    const json_t *c;
    size_t i;
    int n = 0;
    json_array_foreach (json_object_get(facts, "cases"), i, c) {
        if (number_of(c, "steps") > most_steps)
            continue;
        sample_case(c, device);
        n++;
    }
    printf("# %d cases on %s\n", n, device);
}

static void on_cpu(void **state)
{
    (void)state;
    assert_int_equal(json_array_size(json_object_get(facts, "cases")), 180);
    every_case("cpu", 50);
}

static void on_ref(void **state)
{
    (void)state;
    every_case("ref", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(on_cpu, load, unload),
                                       cmocka_unit_test_setup_teardown(on_ref, load, unload)};
    return check_run("sampling", tests);
}
