/* LoRA files: what is written, every spelling that is read, several at once, merging, what is refused. */
#include <math.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "tests/unit/model/lora_case.h"

static float *values(Case *k)
{
    Tensor t = params_flat_values(dit_trainable(k->dit));

    return host_of(k, &t);
}

/* Writes the adapters of `from` again, spelled otherwise. */
static void respell(const char *from, const char *to, const char *prefix, const char *a, const char *b, int flat,
                    double alpha)
{
    SafeTensors *file = NULL;
    Err err = {0};
    SafeSource source[64];
    char name[64][128];
    float alphas[64];
    int64_t n = 0;

    CHECK_OK(safetensors_open(&file, from, &err), &err);
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const SafeEntry *e = safetensors_at(file, i);
        char layer[96];
        int is_b = strstr(e->name, ".lora_B.") != NULL;
        assert_true(n + 2 <= 64);
        snprintf(layer, sizeof layer, "%.*s", (int)(strstr(e->name, ".lora_") - e->name - 12), e->name + 12);
        for (char *at = layer; flat && *at; at++)
            *at = *at == '.' ? '_' : *at;
        snprintf(name[n], sizeof name[n], "%s%s.%s.weight", prefix, layer, is_b ? b : a);
        source[n] = (SafeSource){name[n], e->tensor};
        n++;
        if (is_b && !isnan(alpha)) {
            alphas[n] = (float)alpha;
            snprintf(name[n], sizeof name[n], "%s%s.alpha", prefix, layer);
            source[n] = (SafeSource){name[n], tensor_view(&alphas[n], DT_F32, 0, NULL)};
            n++;
        }
    }
    CHECK_OK(safetensors_write(to, source, n, NULL, &err), &err);
    safetensors_close(&file);
}

/* What a model with fresh adapters makes of a file, as a multiple of `want` in B. */
static void expect_loaded(const char *path, const float *want, double times)
{
    Case k;
    float *got;
    DitLora l = {.rank = 3, .alpha = 6, .target = attention, .targets = 4, .seed = 77};
    const ParamSet *ps;
    int64_t at = 0;

    case_open(&k, "cpu");
    CHECK_OK(dit_add_lora(k.dit, &l, DIT_TRAIN, &k.err), &k.err);
    CHECK_OK(dit_load_lora(k.dit, path, &k.err), &k.err);
    got = values(&k);
    ps = dit_trainable(k.dit);
    for (int64_t i = 0; i < ps->n; i++)
        for (int64_t j = 0; j < (tensor_count(&ps->param[i].value) + 15) / 16 * 16; j++, at++)
            check_value(path, got[at], want[at] * (i % 2 ? times : 1), 0, 1e-7);
    assert_int_equal(at, ps->flat);
    mem_free(got);
    case_close(&k);
}

static void written_and_read(void **state)
{
    char *path = check_tmp_path("lora.safetensors"), *other = check_tmp_path("other.safetensors");
    SafeTensors *file = NULL;
    const SafeEntry *e;
    json_t *meta = NULL;
    float *want;
    Case k;

    (void)state;
    case_open(&k, "cpu");
    add(&k, attention, 4, 3);
    want = values(&k);
    CHECK_OK(dit_save_lora(k.dit, path, &k.err), &k.err);
    CHECK_OK(safetensors_open(&file, path, &k.err), &k.err);
    assert_int_equal(safetensors_count(file), 16);
    e = safetensors_find(file, "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight");
    assert_non_null(e);
    assert_true(e->tensor.dim[0] == 32 && e->tensor.dim[1] == 3);
    { /* the first row of B is the first column of its transpose, times alpha / rank = 2 */
        const Param *p = params_find(dit_trainable(k.dit), "transformer_blocks.0.attn1.to_q.lora_B.weight");
        for (int r = 0; r < 3; r++)
            assert_true(((float *)e->tensor.data)[r] == 2 * ((float *)p->value.data)[r * 32]);
    }
    CHECK_OK(json_parse(&meta, safetensors_meta(file, "lora_adapter_metadata"),
                        (int64_t)strlen(safetensors_meta(file, "lora_adapter_metadata")), "metadata", &k.err),
             &k.err);
    assert_int_equal(json_integer_value(json_object_get(meta, "transformer.r")), 3);
    assert_int_equal(json_integer_value(json_object_get(meta, "transformer.lora_alpha")), 3);
    json_decref(meta);
    safetensors_close(&file);
    expect_loaded(path, want, 1);
    respell(path, other, "", "lora_A", "lora_B", 0, NAN);
    expect_loaded(other, want, 1);
    respell(path, other, "diffusion_model.", "lora_A", "lora_B", 0, NAN);
    expect_loaded(other, want, 1);
    respell(path, other, "transformer.", "lora_A.default", "lora_B.default", 0, NAN);
    expect_loaded(other, want, 1);
    respell(path, other, "lora_unet_", "lora_down", "lora_up", 1, 3);
    expect_loaded(other, want, 1);
    respell(path, other, "lora_unet_", "lora_down", "lora_up", 1, 1.5); /* alpha / rank = 0.5 */
    expect_loaded(other, want, 0.5);
    respell(path, other, "transformer.", "lora.down", "lora.up", 0, 6);
    expect_loaded(other, want, 2);
    mem_free(want);
    case_close(&k);
}

/* Two files at two strengths, then merged into the weights: the same model. */
static void stacked_and_merged(void **state)
{
    char *one = check_tmp_path("one.safetensors"), *two = check_tmp_path("two.safetensors");
    LoraUse use[] = {{one, 1}, {two, -0.5}};
    float *plain, *stacked, *merged;
    double way = 0, off = 0;
    Case k;

    (void)state;
    case_open(&k, "cpu");
    add(&k, attention, 4, 3);
    CHECK_OK(dit_save_lora(k.dit, one, &k.err), &k.err);
    case_close(&k);
    case_open(&k, "cpu");
    add(&k, every, 11, 5);
    CHECK_OK(dit_save_lora(k.dit, two, &k.err), &k.err);
    case_close(&k);

    case_open(&k, "cpu");
    plain = forward(&k);
    CHECK_OK(dit_use_loras(k.dit, use, 2, &k.err), &k.err);
    stacked = forward(&k);
    CHECK_OK(dit_merge_loras(k.dit, &k.err), &k.err);
    merged = forward(&k);
    for (int i = 0; i < VALUES; i++) {
        way += pow((double)stacked[i] - (double)plain[i], 2);
        off += pow((double)stacked[i] - (double)merged[i], 2);
    }
    assert_true(way > 1e-2);
    check_value("merged", sqrt(off / way), 0, 1e-5, 0);
    mem_free(plain);
    mem_free(stacked);
    mem_free(merged);
    case_close(&k);
}

static void refused(const char *path, const char *says)
{
    LoraUse use = {(char *)path, 1};
    Case k;

    case_open(&k, "cpu");
    CHECK_FAILS(dit_use_loras(k.dit, &use, 1, &k.err), ERR_FORMAT, says, &k.err);
    case_close(&k);
}

static float of_a[4096], of_b[4096]; /* the numbers that `put` writes */

static void put(const char *path, const char *a, int64_t a0, int64_t a1, const char *b, int64_t b0, int64_t b1)
{
    SafeSource s[] = {{a, tensor_of(of_a, DT_F32, 2, a0, a1)}, {b, tensor_of(of_b, DT_F32, 2, b0, b1)}};
    Err err = {0};

    CHECK_OK(safetensors_write(path, s, b ? 2 : 1, NULL, &err), &err);
}

static void other_models(void **state)
{
    char *path = check_tmp_path("bad.safetensors");

    (void)state;
    put(path, "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", 4, 32,
        "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight", 32, 4);
    refused(path, "is a LoRA of another model: 2 of its 2 tensors");
    put(path, "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", 4, 48,
        "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight", 48, 4);
    refused(path, "is a LoRA of another model: its layer 'transformer_blocks.0.attn1.to_q' has A F32 [4, 48]");
    put(path, "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", 4, 32, NULL, 0, 0);
    refused(path, "lacks its B matrix");
    put(path, "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", 4, 32,
        "lora_unet_transformer_blocks_0_attn1_to_q.lora_down.weight", 4, 32);
    refused(path, "has two adapters");
    put(path, "transformer.transformer_blocks.0.attn1.to_q.dora_scale", 4, 32, NULL, 0, 0);
    refused(path, "no DoRA");
}

static void not_finite(void **state)
{
    static const char a[] = "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight",
                      b[] = "transformer.transformer_blocks.0.attn1.to_q.lora_B.weight";
    char *path = check_tmp_path("nan.safetensors");

    (void)state;
    of_a[127] = NAN;
    put(path, a, 4, 32, b, 32, 4);
    refused(path, "attn1.to_q.lora_A.weight' has a number that is not finite");
    of_a[127] = 0;
    of_b[5] = -INFINITY;
    put(path, a, 4, 32, b, 32, 4);
    refused(path, "attn1.to_q.lora_B.weight' has a number that is not finite");
    of_b[5] = 0;
}

/* peft's own files: the strength stands beside them, and is not guessed. */
static void peft_files(void **state)
{
    static const struct {
        const char *config;
        double times; /* of the strength 2 that B was made for */
        const char *says;
        int code;
    } row[] = {
        {"{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 6}", 1, NULL, 0},
        {"{\"r\": 3, \"lora_alpha\": 3, \"use_dora\": false, \"layer_replication\": null}", 0.5, NULL, 0},
        {"{\"r\": 3, \"lora_alpha\": 3, \"use_rslora\": true, \"init_lora_weights\": \"gaussian\"}", 0.8660254037844386,
         NULL, 0},
        {"{\"r\": 3, \"lora_alpha\": 1, \"alpha_pattern\": {\"to_q\": 6, \"to_k\": 6, \"attn1.to_v\": 6, \"to_out.0\": "
         "6}}",
         1, NULL, 0},
        {"{\"lora_alpha\": 1, \"alpha_pattern\": {\".*to_[qk]\": 6}}", 0, "is a regular expression", ERR_UNSUPPORTED},
        {"{\"lora_alpha\": \"much\"}", 0, "is no number", ERR_FORMAT},
        {"{\"lora_alpha\": 1, \"use_dora\": true}", 0, "use_dora is set", ERR_UNSUPPORTED},
        {"{\"lora_alpha\": 1, \"init_lora_weights\": \"pissa\"}", 0, "changed the model's own weights",
         ERR_UNSUPPORTED},
        {"{\"peft_type\": \"LOHA\"}", 0, "peft's type LOHA", ERR_UNSUPPORTED},
        {"[]", 0, "adapter_config.json is no JSON object", ERR_FORMAT},
        {NULL, 0, "its strength (lora_alpha) stands in", ERR_NOTFOUND}};
    char *folder = check_tmp_path("peft"), *ours = check_tmp_path("ours.safetensors"), hex[2][65];
    char *file = path_join(folder, "adapter_model.safetensors", NULL),
         *config = path_join(folder, "adapter_config.json", NULL);
    LoraUse use = {folder, 1};
    float *want;
    Case k;

    (void)state;
    case_open(&k, "cpu");
    add(&k, attention, 4, 3);
    want = values(&k);
    CHECK_OK(dit_save_lora(k.dit, ours, &k.err), &k.err);
    CHECK_OK(dir_make(folder, &k.err), &k.err);
    /* the file's B has the strength 2 in it, so that alpha / r = 2 gives four times `want`'s effect: twice B */
    respell(ours, file, "base_model.model.", "lora_A", "lora_B", 0, NAN);
    case_close(&k);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (row[i].config)
            CHECK_OK(file_write_atomic(config, row[i].config, (int64_t)strlen(row[i].config), &k.err), &k.err);
        else
            remove(config);
        if (row[i].says) {
            case_open(&k, "cpu");
            CHECK_FAILS(dit_use_loras(k.dit, &use, 1, &k.err), row[i].code, row[i].says, &k.err);
            case_close(&k);
        } else {
            expect_loaded(folder, want, 2 * row[i].times);
            expect_loaded(file, want, 2 * row[i].times);
            CHECK_OK(lora_digest(folder, hex[i == 1], &k.err), &k.err);
        }
    }
    assert_string_not_equal(hex[0], hex[1]); /* another strength is another adapter */
    mem_free(want);
    mem_free(file);
    mem_free(config);
}

static void on_from_a_file(void **state)
{
    char *path = check_tmp_path("from.safetensors");
    DitLora l = {.rank = 4, .alpha = 4, .target = attention, .targets = 4};
    Case k;

    (void)state;
    case_open(&k, "cpu");
    add(&k, every, 11, 4);
    CHECK_OK(dit_save_lora(k.dit, path, &k.err), &k.err);
    case_close(&k);
    case_open(&k, "cpu");
    CHECK_OK(dit_add_lora(k.dit, &l, DIT_TRAIN, &k.err), &k.err);
    CHECK_FAILS(dit_load_lora(k.dit, path, &k.err), ERR_USAGE, "does not name", &k.err);
    case_close(&k);
    case_open(&k, "plan"); /* found out before any work */
    l = (DitLora){.rank = 8, .alpha = 4, .target = every, .targets = 11};
    CHECK_OK(dit_add_lora(k.dit, &l, DIT_TRAIN, &k.err), &k.err);
    CHECK_FAILS(dit_load_lora(k.dit, path, &k.err), ERR_USAGE, "has rank 4", &k.err);
    case_close(&k);
}

static void strengths(void **state)
{
    char *odd = check_tmp_path("odd:2");
    LoraUse use;
    Err err = {0};

    (void)state;
    CHECK_OK(lora_use_parse(&use, "a.safetensors", &err), &err);
    assert_true(!strcmp(use.path, "a.safetensors") && use.scale == 1);
    mem_free(use.path);
    CHECK_OK(lora_use_parse(&use, "a:b.safetensors:-0.25", &err), &err);
    assert_true(!strcmp(use.path, "a:b.safetensors") && use.scale == -0.25);
    mem_free(use.path);
    CHECK_OK(lora_use_parse(&use, "c:\\lora", &err), &err);
    assert_true(!strcmp(use.path, "c:\\lora") && use.scale == 1);
    mem_free(use.path);
    CHECK_OK(file_write_atomic(odd, "x", 1, &err), &err);
    CHECK_OK(lora_use_parse(&use, odd, &err), &err);
    assert_true(!strcmp(use.path, odd) && use.scale == 1);
    mem_free(use.path);
    CHECK_FAILS(lora_use_parse(&use, "a:nan", &err), ERR_USAGE, "no finite number", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_and_read), cmocka_unit_test(stacked_and_merged), cmocka_unit_test(other_models),
        cmocka_unit_test(not_finite),       cmocka_unit_test(peft_files),         cmocka_unit_test(on_from_a_file),
        cmocka_unit_test(strengths),
    };
    return check_run_live("lora_file", tests);
}
