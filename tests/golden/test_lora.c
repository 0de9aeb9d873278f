/* LoRA against torch, diffusers and peft (tests/golden/make_lora.py): twenty steps of `weft-train run`
 * give peft's losses, norms and adapters; an adapter that diffusers saved gives diffusers' latents. */
#include <math.h>

#include "common/model/latents.h"
#include "common/model/lora.h"
#include "infer/pipeline.h"
#include "tests/golden/recorded_run.h"

static const char model[] = "tests/golden/pipeline/model", adapter[] = "tests/golden/lora";
static SafeTensors *recorded;

/* ---- training -------------------------------------------------------------------------------- */

/* The file's adapters, at the strength that they have for a reader who knows no alpha. */
static void compare_adapters(const char *name, const char *out, const char *below)
{
    char *path = mem_printf(&err, "%s/%s/" LORA_FILE_NAME, out, below);
    SafeTensors *file = NULL;
    int64_t compared = 0;
    double far = 0, way = 0;

    CHECK_OK(safetensors_open(&file, path, &err), &err);
    for (int64_t i = 0; i < safetensors_count(recorded); i++) {
        const SafeEntry *want = safetensors_at(recorded, i), *got;
        char key[192];
        if (strncmp(want->name, name, strlen(name)) || want->name[strlen(name)] != '.')
            continue;
        snprintf(key, sizeof key, "transformer.%s", want->name + strlen(name) + 1);
        got = safetensors_find(file, key);
        if (!got || !tensor_same_shape(&got->tensor, &want->tensor))
            fail_msg("%s: '%s' is missing or has another shape", path, key);
        for (int64_t k = 0; k < tensor_count(&want->tensor); k++) {
            far = fmax(far, fabs(tensor_get(&got->tensor, k) - tensor_get(&want->tensor, k)));
            way = fmax(way, strstr(key, ".lora_B.") ? fabs(tensor_get(&want->tensor, k)) : 0);
        }
        compared++;
    }
    printf("# %s: %d matrices at most %.3g off; the largest value of a B is %.3g\n", name, (int)compared, far, way);
    assert_int_equal(compared, safetensors_count(file));
    assert_true(way > 1e-3);
    if (far > 1e-4)
        fail_msg("%s: a value is %.3g off; 1e-4 is allowed", name, far);
    safetensors_close(&file);
    mem_free(path);
}

static void run_named(const char *name, const char *more, const char *below)
{
    const json_t *run = recorded_run(name);
    char *out = check_tmp_path(name);

    train(run, more, out);
    compare_log(name, run, out);
    compare_adapters(name, out, below);
}

static void usual_layers(void **state)
{
    (void)state;
    run_named("usual", NULL, "final");
}

static void every_layer(void **state)
{
    (void)state;
    run_named("every_layer", NULL, "final");
}

/* From diffusers' file, whose alpha is half its rank, with an alpha of twice the rank. */
static void on_from_diffusers(void **state)
{
    char *set = mem_printf(&err, "training.lora_weights=%s", check_repo_path(adapter));

    (void)state;
    run_named("went_on", set, "final");
    mem_free(set);
}

/* diffusers' EMAModel of peft's adapters; the checkpoint and final/ hold the same. */
static void averages(void **state)
{
    (void)state;
    run_named("averaged", NULL, "final/lora_ema");
    compare_adapters("averaged", check_tmp_path("averaged"), "checkpoint-20/lora_ema");
}

/* ---- sampling -------------------------------------------------------------------------------- */

static void sample(const char *name, int64_t n_use, const LoraUse *use, double within, double beyond)
{
    static const SampleSettings s = {.width = 32,
                                     .height = 48,
                                     .num_frames = 9,
                                     .model_frames = 9,
                                     .latent_frames = 3,
                                     .fps = 8,
                                     .sampler = SAMPLER_DDIM,
                                     .steps = 10,
                                     .guidance = 6};
    const SafeEntry *want = safetensors_find(recorded, name);
    int64_t n = want ? tensor_count(&want->tensor) : 0, cut;
    float *text = mem_calloc(FIX_S * FIX_D, sizeof *text, &err),
          *empty = mem_calloc(FIX_S * FIX_D, sizeof *empty, &err), *got = mem_calloc(n, sizeof *got, &err);
    double off = 0, all = 0;
    Denoising d;
    Backend *be = NULL;
    Pipeline *p = NULL;

    assert_non_null(want);
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, be, check_repo_path(model), NULL, &s, NULL, &err), &err);
    CHECK_OK(pipeline_set_loras(p, use, n_use, &err), &err);
    CHECK_OK(pipeline_check_parts(p, &err), &err);
    CHECK_OK(pipeline_encode_text(p, "A woman in a red striped dress turns to the right.", text, &cut, &err), &err);
    CHECK_OK(pipeline_encode_text(p, "", empty, &cut, &err), &err);
    CHECK_OK(denoising_init(&d, p, &err), &err);
    CHECK_OK(pipeline_denoise(p, text, empty, 42, &d, NULL, &err), &err);
    latents_to_torch(got, d.latents, 3, 4, 6, 4);
    for (int64_t i = 0; i < n; i++) {
        off += pow(got[i] - tensor_get(&want->tensor, i), 2);
        all += pow(tensor_get(&want->tensor, i), 2);
    }
    printf("# %s with %d adapters: relative distance %.3g\n", name, (int)n_use, sqrt(off / all));
    assert_true(sqrt(off / all) <= within && sqrt(off / all) >= beyond);
    denoising_fini(&d);
    pipeline_close(&p);
    backend_close(&be);
    mem_free(text);
    mem_free(empty);
    mem_free(got);
}

static void diffusers_adapter(void **state)
{
    char *path = mem_printf(&err, "%s", check_repo_path(adapter));
    LoraUse full = {path, 1}, half = {path, 0.5}, quarters[] = {{path, 0.75}, {path, 0.25}};

    (void)state;
    sample("latents", 0, NULL, 1e-4, 0);
    sample("latents_full", 1, &full, 1e-4, 0);
    sample("latents_half", 1, &half, 1e-4, 0);
    sample("latents_full", 2, quarters, 1e-4, 0); /* the same adapter in two parts */
    sample("latents_full", 1, &half, 10, 1e-2);   /* the strengths differ, */
    sample("latents", 1, &full, 10, 1e-2);        /* and the adapter does something */
    mem_free(path);
}

/* peft's save_pretrained: a folder with adapter_config.json, which says the strength. */
static void peft_adapter(void **state)
{
    char *folder = mem_printf(&err, "%s", check_repo_path("tests/golden/lora_peft"));
    char *file = path_join(folder, "adapter_model.safetensors", &err);
    LoraUse by_folder = {folder, 1}, by_file = {file, 1};

    (void)state;
    sample("latents_peft", 1, &by_folder, 1e-4, 0);
    sample("latents_peft", 1, &by_file, 1e-4, 0);
    sample("latents", 1, &by_folder, 10, 1e-2);
    mem_free(folder);
    mem_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(usual_layers),      cmocka_unit_test(every_layer),
                                       cmocka_unit_test(on_from_diffusers), cmocka_unit_test(averages),
                                       cmocka_unit_test(diffusers_adapter), cmocka_unit_test(peft_adapter)};
    int failed;

    if (fixture_make(check_repo_path(model), check_tmp_path("caches"), &err) < 0 ||
        json_read_file(&facts, check_repo_path("tests/golden/lora.json"), &err) < 0 ||
        safetensors_open(&recorded, check_repo_path("tests/golden/lora.safetensors"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = check_run("lora", tests);
    json_decref(facts);
    safetensors_close(&recorded);
    return failed;
}
