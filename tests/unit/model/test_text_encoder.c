/* The text encoder of a pipeline folder, T5's or CLIP's: which one it is, the forms in which CLIP's
 * comes, and folders that are refused. */
#include "check.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/text_encoder.h"
#include "common/ops/ops.h"

enum { N = 6, D = 16 };
static const ClipConfig whole = {
    .text = {.hidden = D, .intermediate = 24, .layers = 2, .heads = 2, .act = ACT_GELU_ERF, .eps = 1e-5},
    .vision = {.hidden = 8, .intermediate = 8, .layers = 1, .heads = 2, .act = ACT_QUICK_GELU, .eps = 1e-5},
    .vocab = 40,
    .positions = N,
    .eos_id = 39,
    .projection = 4,
    .image_size = 4,
    .patch = 2};
static const char whole_json[] =
    "{\"model_type\":\"clip\",\"projection_dim\":4,\"text_config\":{\"hidden_size\":16,\"intermediate_size\":24,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"hidden_act\":\"gelu\",\"vocab_size\":40,"
    "\"max_position_embeddings\":6,\"eos_token_id\":39},\"vision_config\":{\"hidden_size\":8,\"intermediate_size\":8,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"image_size\":4,\"patch_size\":2}}";
static const int32_t ids[N] = {38, 5, 6, 39, 39, 39};

static void put(const char *dir, const char *name, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_atomic(check_path(dir, name), text, (int64_t)strlen(text), &err), &err);
}

/* The hidden states of `ids` by the folder's encoder. */
static void encode(Backend *be, const char *folder, float hidden[N * D])
{
    Err err = {0};
    TextConfig c;
    TextEncoder *t = NULL;
    Arena *work = NULL;
    int64_t bytes;
    CHECK_OK(text_config_read(&c, folder, &err), &err);
    assert_int_equal(c.kind, TEXT_CLIP);
    CHECK_OK(text_check_weights(&c, folder, NULL, &err), &err);
    CHECK_OK(text_plan(&c, be->act, N, &bytes, &err), &err);
    CHECK_OK(arena_new(&work, be, bytes, "text", &err), &err);
    CHECK_OK(text_encoder_open(&t, be, &c, folder, &err), &err);
    CHECK_OK(text_encode(t, work, hidden, ids, N, &err), &err);
    text_encoder_close(&t);
    arena_free(&work);
}

/* A whole CLIP in text_encoder/: its text tower is read, and gives what the whole model's does; so
 * does the tower saved alone. */
static void takes_a_whole_clip(void **state)
{
    (void)state;
    Err err = {0};
    Backend *be = NULL;
    Clip *clip = NULL;
    Arena *work = NULL;
    TextConfig c;
    float want[N * D], got[N * D], embed[4];
    char *dir = check_tmp_path("whole"), *alone = check_tmp_path("alone");
    CHECK_OK(dir_make(dir, &err), &err);
    put(dir, "config.json", whole_json);
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(clip_new_filled(&clip, be, &whole, &err), &err);
    CHECK_OK(params_save(clip_params(clip), check_path(dir, "model.safetensors"), DT_F32, &err), &err);
    CHECK_OK(arena_new(&work, be, 1 << 20, "clip", &err), &err);
    CHECK_OK(clip_text(clip, work, embed, want, NULL, ids, N, &err), &err);
    clip_close(&clip);
    encode(be, dir, got);
    assert_memory_equal(got, want, sizeof got);

    CHECK_OK(clip_text_open(&clip, be, dir, &err), &err);
    assert_int_equal(clip_config(clip)->vision.layers, 0);
    CHECK_OK(clip_text_save(clip, alone, DT_F32, &err), &err);
    clip_close(&clip);
    encode(be, alone, got);
    assert_memory_equal(got, want, sizeof got);
    CHECK_OK(text_config_read(&c, alone, &err), &err);
    json_t *json = text_config_json(&c, &err), *file = NULL;
    CHECK_OK(json_read_file(&file, check_path(alone, "config.json"), &err), &err);
    assert_true(json_equal(json, file));
    json_decref(json);
    json_decref(file);
    arena_free(&work);
    backend_close(&be);
}

static void refuses_configs(void **state)
{
    (void)state;
    static const struct {
        const char *json, *part;
        int code;
    } bad[] = {
        {"{\"model_type\":\"bert\"}", "model_type is 'bert'", ERR_UNSUPPORTED},
        {"{}", "model_type is ''", ERR_UNSUPPORTED},
        {"[]", "model_type is ''", ERR_UNSUPPORTED},
        {"{\"model_type\":\"clip_text_model\",\"hidden_act\":\"relu\"}", "hidden_act is 'relu'", ERR_UNSUPPORTED},
        {"{\"model_type\":\"clip_text_model\",\"hidden_size\":10,\"num_attention_heads\":4}", "make no tower",
         ERR_FORMAT},
        {"{\"model_type\":\"clip_text_model\",\"vocab_size\":0}", "vocab_size 0", ERR_FORMAT},
        {"{\"model_type\":\"clip_text_model\",\"max_position_embeddings\":-1}", "max_position_embeddings -1",
         ERR_FORMAT},
        {"{\"model_type\":\"clip\",\"text_config\":[]}", "is missing, or no object", ERR_FORMAT},
        {"{\"model_type\":\"t5\"}", "feed_forward_proj", ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        TextConfig c;
        json_t *json = NULL;
        CHECK_OK(json_parse(&json, bad[i].json, (int64_t)strlen(bad[i].json), "t", &err), &err);
        CHECK_FAILS(text_config_parse(&c, json, "config.json", &err), bad[i].code, bad[i].part, &err);
        json_decref(json);
    }
}

/* A tensor missing, a shape that the config does not give, and more tokens than positions. */
static void refuses_weights(void **state)
{
    (void)state;
    Err err = {0};
    Backend *be = NULL;
    Clip *clip = NULL;
    TextConfig c;
    TextEncoder *t = NULL;
    char *alone = check_tmp_path("alone"), *file = check_path(alone, "model.safetensors");
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(text_config_read(&c, alone, &err), &err);
    CHECK_OK(text_config_check_length(&c, N, "there", &err), &err);
    CHECK_FAILS(text_config_check_length(&c, N + 1, "there", &err), ERR_USAGE,
                "texts have 7 tokens, but 'there' has positions for 6", &err);
    c.clip.text.layers = 3;
    CHECK_FAILS(text_check_weights(&c, alone, NULL, &err), ERR_FORMAT, "text_model.encoder.layers.2", &err);
    c.clip.text.layers = 2;
    c.clip.vocab = 41;
    CHECK_FAILS(text_check_weights(&c, alone, NULL, &err), ERR_FORMAT, "token_embedding", &err);
    CHECK_OK(dir_remove(file, &err), &err);
    CHECK_FAILS(text_check_weights(&c, alone, NULL, &err), ERR_NOTFOUND, "model.safetensors", &err);
    CHECK_FAILS(text_encoder_open(&t, be, &c, alone, &err), ERR_NOTFOUND, "model.safetensors", &err);
    assert_null(t);
    CHECK_FAILS(clip_text_open(&clip, be, check_tmp_path("nowhere"), &err), ERR_NOTFOUND, "nowhere", &err);
    backend_close(&be);
}

/* CLIP ViT-L/14's tower as it is published: 123,060,480 parameters in 196 tensors. */
static void knows_the_real_shapes(void **state)
{
    (void)state;
    static const char json[] = "{\"model_type\":\"clip_text_model\",\"hidden_size\":768,\"intermediate_size\":3072,"
                               "\"num_hidden_layers\":12,\"num_attention_heads\":12}";
    Err err = {0};
    Backend *plan = NULL;
    Clip *clip = NULL;
    TextConfig c;
    json_t *root = NULL;
    CHECK_OK(json_parse(&root, json, sizeof json - 1, "t", &err), &err);
    CHECK_OK(text_config_parse(&c, root, "config.json", &err), &err);
    assert_int_equal(text_config_width(&c), 768);
    assert_int_equal(text_config_vocab(&c), 49408);
    assert_int_equal(c.clip.positions, 77);
    CHECK_OK(backend_open(&plan, "plan", 1, NULL, &err), &err);
    CHECK_OK(clip_new_filled(&clip, plan, &c.clip, &err), &err);
    assert_int_equal(clip_params(clip)->n, 196);
    assert_int_equal(params_count(clip_params(clip)), 123060480);
    clip_close(&clip);
    backend_close(&plan);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_whole_clip),
        cmocka_unit_test(refuses_configs),
        cmocka_unit_test(refuses_weights),
        cmocka_unit_test(knows_the_real_shapes),
    };
    return check_run_live("text_encoder", tests);
}
