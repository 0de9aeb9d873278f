/* `weft-train run` from a cache against torch and diffusers on the same cache.
 *
 * tests/golden/make_train_run.py read the fixture's caches with py-lmdb, drew again what Weft draws,
 * and took twenty steps with diffusers' model, noise schedule and loss and torch's optimiser.  Here
 * the same runs are made by the trainer itself; losses, norms and rates are read from log.jsonl and
 * the weights from the last checkpoint.
 *
 * So every link between cache and weights is held by numbers that are not Weft's: the VAE's scaling
 * factor, the streams of the draws, order and captions, the weights of passes and short groups,
 * clipping, every number of the optimiser, the warm-up. */
#include <math.h>

#include "common/store/safetensors.h"
#include "tests/golden/recorded_run.h"

static SafeTensors *recorded;

/* ---- the weights ----------------------------------------------------------------------------- */

/* Every stride-th element of all tensors in the order of their names. */
static float *pick(const SafeTensors *file, int64_t n)
{
    int64_t first = json_integer_value(json_object_get(facts, "first")),
            stride = json_integer_value(json_object_get(facts, "stride")), at = 0, taken = 0;
    float *out = mem_calloc(n, sizeof *out, &err);

    for (int64_t k = 0; k < safetensors_count(file); k++) {
        const Tensor *t = &safetensors_at(file, k)->tensor;
        for (int64_t i = 0; i < tensor_count(t); i++, at++)
            if (at % stride == first && taken < n)
                out[taken++] = (float)tensor_get(t, i);
    }
    assert_int_equal(taken, n);
    return out;
}

/* folder: "transformer" or "transformer_ema" of the last checkpoint. */
static void compare_weights(const char *name, const char *out, const char *folder)
{
    const SafeEntry *want = safetensors_find(recorded, name), *start = safetensors_find(recorded, "start");
    char *path = mem_printf(&err, "%s/checkpoint-20/%s/diffusion_pytorch_model.safetensors", out, folder);
    SafeTensors *file = NULL;
    int64_t n;
    float *got;
    double off = 0, way = 0, far = 0;

    assert_true(want && start);
    n = tensor_count(&want->tensor);
    CHECK_OK(safetensors_open(&file, path, &err), &err);
    got = pick(file, n);
    for (int64_t i = 0; i < n; i++) {
        double w = tensor_get(&want->tensor, i), d = fabs(got[i] - w);
        off += d * d;
        way += pow(w - tensor_get(&start->tensor, i), 2);
        far = fmax(far, d);
    }
    printf("# %s: weights moved by %.3g in all, off by %.3g of that, at most %.3g\n", name, sqrt(way), sqrt(off / way),
           far);
    if (far > 1e-4)
        fail_msg("%s: a weight is %.3g off; 1e-4 is allowed", name, far);
    if (sqrt(off / way) > 1e-3)
        fail_msg("%s: the weights' way is %.3g of its length off; 1e-3 is allowed", name, sqrt(off / way));
    mem_free(got);
    safetensors_close(&file);
    mem_free(path);
}

static void run_and_compare(const char *name, const char *folder)
{
    const json_t *run = recorded_run(name);
    char *out = check_tmp_path(name);

    train(run, NULL, out);
    compare_log(name, run, out);
    compare_weights(name, out, folder);
}

static void run_named(const char *name)
{
    run_and_compare(name, "transformer");
}

static void plain(void **state)
{
    (void)state;
    run_named("plain");
}

static void accumulation_with_clipping_and_a_short_group(void **state)
{
    (void)state;
    run_named("accumulated");
}

static void bfloat16_records(void **state)
{
    (void)state;
    run_named("bf16_store");
}

static void stored_samples(void **state)
{
    (void)state;
    run_named("stored_samples");
}

static void dropped_captions(void **state)
{
    (void)state;
    run_named("caption_dropout");
}

static void logit_normal_timesteps(void **state)
{
    (void)state;
    run_named("logit_normal");
}

static void weighted_categories(void **state)
{
    (void)state;
    run_named("categories");
}

static void sgd(void **state)
{
    (void)state;
    run_named("sgd");
}

static void averaged_weights(void **state)
{
    (void)state;
    run_and_compare("ema", "transformer_ema");
}

/* 77 vectors of CLIP's width instead of T5's 226. */
static void embeddings_of_clip(void **state)
{
    (void)state;
    run_named("clip");
}

static int open_recorded(const char *name)
{
    char json[64], weights[64];

    snprintf(json, sizeof json, "tests/golden/%s.json", name);
    snprintf(weights, sizeof weights, "tests/golden/%s.safetensors", name);
    if (json_read_file(&facts, check_repo_path(json), &err) == 0 &&
        safetensors_open(&recorded, check_repo_path(weights), &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return 1;
}

static void close_recorded(void)
{
    json_decref(facts);
    safetensors_close(&recorded);
}

int main(void)
{
    const struct CMUnitTest runs[] = {cmocka_unit_test(plain),
                                      cmocka_unit_test(accumulation_with_clipping_and_a_short_group),
                                      cmocka_unit_test(bfloat16_records), cmocka_unit_test(stored_samples)};
    const struct CMUnitTest draws[] = {cmocka_unit_test(dropped_captions), cmocka_unit_test(logit_normal_timesteps),
                                       cmocka_unit_test(weighted_categories), cmocka_unit_test(sgd)};
    const struct CMUnitTest clips[] = {cmocka_unit_test(embeddings_of_clip)};
    const struct CMUnitTest averages[] = {cmocka_unit_test(averaged_weights)};
    int failed;

    if (fixture_make(check_repo_path("tests/golden/pipeline/model"), check_tmp_path("caches"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = open_recorded("train_run") || check_run("train-run", runs);
    close_recorded();
    failed |= open_recorded("train_draws") || check_run("train-run: draws and optimisers", draws);
    close_recorded();
    failed |= open_recorded("train_ema") || check_run("train-run: EMA", averages);
    close_recorded();
    recorded_model = "tests/golden/clip_pipeline/model";
    recorded_caches = "caches-clip";
    if (fixture_make(check_repo_path(recorded_model), check_tmp_path(recorded_caches), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed |= open_recorded("train_clip") || check_run("train-run: CLIP", clips);
    close_recorded();
    return failed;
}
