/* Text encoders whose checkpoints are fp16 and bf16 against transformers (tests/golden/make_half_text.py), with weights
 * that both sides make by one rule and round. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/model/text_encoder.h"
#include "common/ops/ops.h"
#include "tests/golden/named_weights.h"

enum { N = 12, D = 32 };
/* As test_t5.c: float32 outputs of models of this size, whose values are about 1. */
#define ATOL 2e-5

static const TextConfig configs[2] = {
    {.kind = TEXT_T5,
     .t5 = {.vocab = 64,
            .d_model = D,
            .d_kv = 8,
            .heads = 4,
            .d_ff = 48,
            .layers = 2,
            .buckets = 32,
            .max_distance = 128,
            .eps = 1e-6}},
    {.kind = TEXT_CLIP,
     .clip = {.text = {.hidden = D, .intermediate = 64, .layers = 2, .heads = 4, .act = ACT_QUICK_GELU, .eps = 1e-5},
              .vocab = 64,
              .positions = N,
              .eos_id = 63,
              .projection = D}}};

/* FOLDER/config.json and FOLDER/model.safetensors of that type. */
static void make_folder(const TextConfig *c, DType type, const char *folder)
{
    Err err = {0};
    Backend *plan = NULL;
    T5 *t5 = NULL;
    Clip *clip = NULL;
    json_t *json = text_config_json(c, &err);
    CHECK_OK(dir_make(folder, &err), &err);
    CHECK_OK(json_write_file(json, check_path(folder, "config.json"), &err), &err);
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    if (c->kind == TEXT_T5)
        CHECK_OK(t5_open(&t5, plan, folder, &err), &err);
    else
        CHECK_OK(clip_text_open(&clip, plan, folder, &err), &err);
    NamedFile f = named_file(t5 ? t5_params(t5) : clip_params(clip));
    for (int64_t i = 0; i < f.n; i++) {
        Tensor *t = &f.source[i].tensor, half = *t;
        half.dtype = type;
        half.data = malloc((size_t)tensor_bytes(&half));
        for (int64_t k = 0; k < tensor_count(t); k++)
            tensor_set(&half, k, tensor_get(t, k));
        free(t->data);
        *t = half;
    }
    CHECK_OK(safetensors_write(check_path(folder, "model.safetensors"), f.source, f.n, NULL, &err), &err);
    named_file_free(&f);
    t5_close(&t5);
    clip_close(&clip);
    backend_close(&plan);
    json_decref(json);
}

static void check_encoder(const json_t *golden, const TextConfig *c, DType type, const char *key)
{
    static const char *const backends[] = {"ref", "cpu"};
    const char *folder = check_tmp_path(key);
    const json_t *want = json_object_get(golden, key), *list = json_object_get(golden, "ids");
    int32_t ids[N];
    double values[N * D];
    assert_int_equal(json_array_size(list), N);
    assert_int_equal(json_array_size(want), N * D);
    for (size_t i = 0; i < N; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    for (size_t i = 0; i < N * D; i++)
        values[i] = json_number_value(json_array_get(want, i));
    make_folder(c, type, folder);
    for (int b = 0; b < 2; b++) {
        Err err = {0};
        Backend *be = NULL;
        TextEncoder *t = NULL;
        Arena *work = NULL;
        TextConfig read;
        float hidden[N * D];
        int64_t bytes;
        CHECK_OK(backend_open(&be, backends[b], 0, NULL, &err), &err);
        CHECK_OK(text_config_read(&read, folder, &err), &err);
        CHECK_OK(text_plan(&read, be->act, N, &bytes, &err), &err);
        CHECK_OK(arena_new(&work, be, bytes, key, &err), &err);
        CHECK_OK(text_encoder_open(&t, be, &read, folder, &err), &err);
        CHECK_OK(text_encode(t, work, hidden, ids, N, &err), &err);
        check_near(key, hidden, values, N * D, ATOL, 0);
        text_encoder_close(&t);
        arena_free(&work);
        backend_close(&be);
    }
}

static void half_checkpoints(void **state)
{
    static const struct {
        DType type;
        const char *name;
    } types[] = {{DT_F16, "float16"}, {DT_BF16, "bfloat16"}};
    json_t *golden = NULL;
    Err err = {0};
    char key[40];

    (void)state;
    CHECK_OK(json_read_file(&golden, check_repo_path("tests/golden/half_text.json"), &err), &err);
    for (int k = 0; k < 2; k++)
        for (int t = 0; t < 2; t++) {
            snprintf(key, sizeof key, "%s_%s", k ? "clip" : "t5", types[t].name);
            check_encoder(golden, &configs[k], types[t].type, key);
        }
    json_decref(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(half_checkpoints)};
    return check_run("half_text", tests);
}
