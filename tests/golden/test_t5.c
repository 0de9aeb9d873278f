/* The T5 encoder against numbers of transformers' class, on ref and cpu. */
#include <math.h>
#include <string.h>
#include "check.h"
#include "golden/text_encoders.h"
#include "common/base/file.h"
#include "common/model/t5.h"
#include "common/ops/ops.h"

static const char *const backends[] = {"ref", "cpu"};
enum { N_BACKENDS = 2, D = 32, N = 12 };
#define ATOL 2e-5 /* the golden file's: float32 outputs of a model of this size */
static const T5Config tiny = {.vocab = 64,
                              .d_model = D,
                              .d_kv = 8,
                              .heads = 4,
                              .d_ff = 48,
                              .layers = 2,
                              .buckets = 32,
                              .max_distance = 128,
                              .eps = 1e-6};

typedef struct Rig {
    Backend *be;
    T5 *t5;
    Arena *work;
    int64_t bytes;
    Err err;
} Rig;

/* A model with room for n tokens, exactly as planned. */
static void rig_open(Rig *r, const char *backend, const T5Config *c, int64_t n)
{
    err_clear(&r->err);
    CHECK_OK(backend_open(&r->be, backend, 0, NULL, &r->err), &r->err);
    CHECK_OK(t5_new_filled(&r->t5, r->be, c, &r->err), &r->err);
    golden_put(t5_params(r->t5), t5_weights, sizeof t5_weights / sizeof *t5_weights, &r->err);
    CHECK_OK(t5_plan(c, DT_F32, n, &r->bytes, &r->err), &r->err);
    CHECK_OK(arena_new(&r->work, r->be, r->bytes, "t5", &r->err), &r->err);
}

static void rig_close(Rig *r)
{
    assert_int_equal(arena_high(r->work), r->bytes);
    arena_free(&r->work);
    t5_close(&r->t5);
    backend_close(&r->be);
}

static void generator_is_right(void **state)
{
    (void)state;
    static const double t0[] = {0.59375, -0.3125, 0.7890625, -0.90625, -0.5546875, 0.8671875, -0.9375, -0.8203125};
    static const double t5[] = {0.515625, 0.6640625, 0.3671875, 0.8359375, 0.2109375, 0.8359375, 0.0078125, 0.3203125};
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(golden_value(0, i) == t0[i]);
        assert_true(golden_value(5, i) == t5[i]);
    }
}

static void encodes_as_transformers(void **state)
{
    (void)state;
    const uint8_t mask[N] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0};
    float out[N * D];
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b], &tiny, N);
        CHECK_OK(t5_encode(r.t5, r.work, out, t5_ids, NULL, N, &r.err), &r.err);
        check_near("row 0", out, t5_plain_0_8_11, D, ATOL, 0);
        check_near("row 8", out + 8 * D, t5_plain_0_8_11 + D, D, ATOL, 0);
        check_near("row 11", out + 11 * D, t5_plain_0_8_11 + 2 * D, D, ATOL, 0);
        CHECK_OK(t5_encode(r.t5, r.work, out, t5_ids, mask, N, &r.err), &r.err);
        check_near("masked row 0", out, t5_masked_0_8, D, ATOL, 0);
        check_near("masked row 8", out + 8 * D, t5_masked_0_8 + D, D, ATOL, 0);
        rig_close(&r);
    }
}

/* 200 tokens: distances of every bucket. */
static void encodes_long_sequences(void **state)
{
    (void)state;
    enum { LONG = 200 };
    int32_t ids[LONG];
    float out[LONG * D];
    for (int i = 0; i < LONG; i++)
        ids[i] = (7 * i * i + 3 * i + 11) % 64;
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b], &tiny, LONG);
        CHECK_OK(t5_encode(r.t5, r.work, out, ids, NULL, LONG, &r.err), &r.err);
        for (int k = 0; k < 3; k++)
            check_near("long", out + (k == 0 ? 0 : k == 1 ? 99 : 199) * D, t5_long_0_99_199 + k * D, D, ATOL, 0);
        rig_close(&r);
    }
}

/* The stream after block 0 is not an output; but a model of one block gives its norm. */
static void first_block_agrees(void **state)
{
    (void)state;
    T5Config one = tiny;
    float out[N * D];
    double want[2 * D];
    one.layers = 1;
    for (int k = 0; k < 2; k++) {
        const double *x = t5_block0_0_11 + k * D;
        double squares = 0;
        for (int i = 0; i < D; i++)
            squares += x[i] * x[i];
        for (int i = 0; i < D; i++)
            want[k * D + i] = (1 + 0.5 * golden_value(20, (uint32_t)i)) * x[i] / sqrt(squares / D + 1e-6);
    }
    Rig r;
    rig_open(&r, "ref", &one, N);
    CHECK_OK(t5_encode(r.t5, r.work, out, t5_ids, NULL, N, &r.err), &r.err);
    check_near("row 0", out, want, D, ATOL, 0);
    check_near("row 11", out + 11 * D, want + D, D, ATOL, 0);
    rig_close(&r);
}

static void buckets_distances(void **state)
{
    (void)state;
    static const int first[] = {8, 12, 16, 23, 32, 46, 64, 91, 1000}; /* distances at which bucket 8, 9, ... 15 begin */
    for (int d = 0; d < 1000; d++) {
        int want = d;
        for (int k = 0; k < 8; k++)
            if (d >= first[k] && d < first[k + 1])
                want = 8 + k;
        assert_int_equal(t5_bucket(-d, 32, 128), want);
        assert_int_equal(t5_bucket(d, 32, 128), d ? want + 16 : 0);
    }
    /* transformers 5.24 with 18 buckets: the last distance of each bucket */
    static const int64_t last[] = {0, 1, 2, 3, 7, 15, 31, 63, 300};
    for (int64_t k = 0, r = 0; k < 9; k++)
        for (; r <= last[k]; r++) {
            assert_int_equal(t5_bucket(-r, 18, 128), k);
            assert_int_equal(t5_bucket(r, 18, 128), r ? k + 9 : 0);
        }
}

static void activations_agree(void **state)
{
    (void)state;
    enum { COUNT = sizeof act_x / sizeof *act_x };
    const struct {
        ActKind kind;
        const double *want;
    } kinds[] = {{ACT_GELU_TANH, act_gelu_new}, {ACT_GELU_ERF, act_gelu_erf}, {ACT_QUICK_GELU, act_quick_gelu}};
    float x[COUNT], y[COUNT];
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)act_x[i];
    for (int b = 0; b < N_BACKENDS; b++) {
        Backend *be = NULL;
        Err err = {0};
        CHECK_OK(backend_open(&be, backends[b], 0, NULL, &err), &err);
        Tensor tx = tensor_of(x, DT_F32, 1, COUNT), ty = tensor_of(y, DT_F32, 1, COUNT);
        for (int k = 0; k < 3; k++) {
            CHECK_OK(op_act(be, &ty, &tx, kinds[k].kind, &err), &err);
            check_near("activation", y, kinds[k].want, COUNT, 1e-6, 0);
        }
        backend_close(&be);
    }
}

static void saves_and_opens(void **state)
{
    (void)state;
    Rig r;
    Err err = {0};
    T5 *again = NULL;
    float a[N * D], b[N * D];
    char *folder = check_tmp_path("t5");
    rig_open(&r, "ref", &tiny, N);
    CHECK_OK(t5_save(r.t5, folder, DT_F32, &err), &err);
    CHECK_OK(t5_open(&again, r.be, folder, &err), &err);
    assert_memory_equal(t5_config(again), &tiny, sizeof tiny);
    CHECK_OK(t5_encode(r.t5, r.work, a, t5_ids, NULL, N, &err), &err);
    CHECK_OK(t5_encode(again, r.work, b, t5_ids, NULL, N, &err), &err);
    assert_memory_equal(a, b, sizeof a);
    t5_close(&again);
    /* names and shapes can be checked from the headers alone */
    T5Config other = tiny;
    CHECK_OK(t5_check_weights(&tiny, folder, NULL, &err), &err);
    other.vocab++;
    CHECK_FAILS(t5_check_weights(&other, folder, NULL, &err), ERR_FORMAT, "misshapen 1: shared.weight is", &err);
    int32_t bad[1] = {64};
    CHECK_FAILS(t5_encode(r.t5, r.work, a, bad, NULL, 1, &err), ERR_FORMAT, "64", &err);
    CHECK_FAILS(t5_encode(r.t5, r.work, a, t5_ids, NULL, 0, &err), ERR_USAGE, "0 tokens", &err);
    rig_close(&r);
}

static void refuses_configs(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *part;
    } bad[] = {
        {"{\"feed_forward_proj\":\"relu\"}", ERR_UNSUPPORTED, "feed_forward_proj is 'relu'"},
        {"{\"feed_forward_proj\":\"gated-silu\"}", ERR_UNSUPPORTED, "gated-silu"},
        {"{\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\"}", ERR_UNSUPPORTED, "dense_act_fn is 'gelu'"},
        {"{\"feed_forward_proj\":\"gated-gelu\",\"vocab_size\":8}", ERR_FORMAT, "d_model"},
        {"{\"feed_forward_proj\":\"gated-gelu\",\"vocab_size\":8,\"d_model\":-1,\"d_kv\":8,\"d_ff\":8,\"num_layers\":1,"
         "\"num_heads\":1}",
         ERR_FORMAT, "d_model is -1"},
        {"{\"feed_forward_proj\":\"gated-gelu\",\"vocab_size\":8,\"d_model\":8,\"d_kv\":8,\"d_ff\":8,\"num_layers\":1,"
         "\"num_heads\":1,\"relative_attention_max_distance\":8}",
         ERR_FORMAT, "relative_attention_max_distance is 8"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        T5Config c;
        json_t *json = NULL;
        CHECK_OK(json_parse(&json, bad[i].text, (int64_t)strlen(bad[i].text), "config.json", &err), &err);
        CHECK_FAILS(t5_config_parse(&c, json, "config.json", &err), bad[i].code, bad[i].part, &err);
        json_decref(json);
    }
}

/* Names and sizes of T5 v1.1 XXL, from its config alone. */
static void knows_the_real_shapes(void **state)
{
    (void)state;
    static const T5Config xxl = {.vocab = 32128,
                                 .d_model = 4096,
                                 .d_kv = 64,
                                 .heads = 64,
                                 .d_ff = 10240,
                                 .layers = 24,
                                 .buckets = 32,
                                 .max_distance = 128,
                                 .eps = 1e-6};
    Err err = {0};
    Backend *plan = NULL;
    T5 *t5 = NULL;
    int64_t bytes = 0;
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    CHECK_OK(t5_new_filled(&t5, plan, &xxl, &err), &err);
    assert_int_equal(t5_params(t5)->n, 219);
    assert_int_equal(params_count(t5_params(t5)), 4762310656);
    assert_int_equal(params_bytes(t5_params(t5), DT_F16), 9524621312);
    assert_non_null(params_find(t5_params(t5), "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"));
    CHECK_OK(t5_plan(&xxl, DT_F32, 226, &bytes, &err), &err);
    print_message("# T5 XXL, 226 tokens: %lld bytes of working memory\n", (long long)bytes);
    assert_true(bytes < 64 << 20);
    t5_close(&t5);
    backend_close(&plan);
}

/* What diffusers' pipeline computes with its own folder (stored as bfloat16). */
static void encodes_as_the_pipeline(void **state)
{
    (void)state;
    enum { TOKENS = 226, WIDTH = 32 };
    Err err = {0};
    SafeTensors *outputs = NULL;
    json_t *facts = NULL;
    int32_t ids[TOKENS] = {0}, empty[TOKENS] = {1};
    static float out[TOKENS * WIDTH];
    static double want[TOKENS * WIDTH];
    CHECK_OK(safetensors_open(&outputs, check_repo_path("tests/golden/pipeline/outputs.safetensors"), &err), &err);
    CHECK_OK(json_read_file(&facts, check_repo_path("tests/golden/pipeline/facts.json"), &err), &err);
    const json_t *list = json_object_get(facts, "ids");
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    for (int b = 0; b < N_BACKENDS; b++) {
        Backend *be = NULL;
        Arena *work = NULL;
        T5 *t5 = NULL;
        CHECK_OK(backend_open(&be, backends[b], 0, NULL, &err), &err);
        CHECK_OK(t5_open(&t5, be, check_repo_path("tests/golden/pipeline/model/text_encoder"), &err), &err);
        CHECK_OK(arena_new(&work, be, 1 << 23, "t5", &err), &err);
        for (int k = 0; k < 2; k++) {
            const SafeEntry *e = safetensors_find(outputs, k ? "negative_embeds" : "prompt_embeds");
            assert_non_null(e);
            for (int i = 0; i < TOKENS * WIDTH; i++)
                want[i] = tensor_get(&e->tensor, i);
            CHECK_OK(t5_encode(t5, work, out, k ? empty : ids, NULL, TOKENS, &err), &err);
            check_rel_l2("prompt embedding", out, want, TOKENS * WIDTH, 1e-5);
        }
        arena_free(&work);
        t5_close(&t5);
        backend_close(&be);
    }
    json_decref(facts);
    safetensors_close(&outputs);
}

static void agrees_with_the_whole_file(void **state)
{
    (void)state;
    Err err = {0};
    json_t *root = NULL;
    int64_t n = 0;
    float out[N * D];
    CHECK_OK(json_read_file(&root, check_need_shared("data/golden/text-encoders.json"), &err), &err);
    double *plain = GOLDEN_ARRAY(root, &n, "t5_tiny", "no_mask", "last_hidden_state");
    double *masked = GOLDEN_ARRAY(root, &n, "t5_tiny", "with_pad_mask", "last_hidden_state");
    const uint8_t mask[N] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0};
    assert_int_equal(n, N * D);
    for (int b = 0; b < N_BACKENDS; b++) {
        Rig r;
        rig_open(&r, backends[b], &tiny, N);
        CHECK_OK(t5_encode(r.t5, r.work, out, t5_ids, NULL, N, &r.err), &r.err);
        check_near("plain", out, plain, n, ATOL, 0);
        CHECK_OK(t5_encode(r.t5, r.work, out, t5_ids, mask, N, &r.err), &r.err);
        check_near("masked", out, masked, n, ATOL, 0);
        rig_close(&r);
    }
    double *bucket = GOLDEN_ARRAY(root, &n, "t5_relative_buckets", "bucket");
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(t5_bucket(i - 130, 32, 128), (int)bucket[i]);
    free(plain);
    free(masked);
    free(bucket);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator_is_right),
        cmocka_unit_test(encodes_as_transformers),
        cmocka_unit_test(encodes_long_sequences),
        cmocka_unit_test(first_block_agrees),
        cmocka_unit_test(buckets_distances),
        cmocka_unit_test(activations_agree),
        cmocka_unit_test(saves_and_opens),
        cmocka_unit_test(refuses_configs),
        cmocka_unit_test(knows_the_real_shapes),
        cmocka_unit_test(encodes_as_the_pipeline),
        cmocka_unit_test(agrees_with_the_whole_file),
    };
    return check_run("t5", tests);
}
