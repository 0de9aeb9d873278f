/* A pipeline folder whose text encoder is CLIP's: ids, hidden states and sampled latents against
 * what transformers and diffusers computed with it (tests/golden/make_clip_pipeline.py). */
#include "tests/check.h"

#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/model/latents.h"
#include "common/model/text_encoder.h"
#include "common/store/safetensors.h"
#include "common/text/tokenizer.h"
#include "infer/pipeline.h"

#define FOLDER "tests/golden/clip_pipeline/"
enum { N = 77, D = 48 };

static json_t *facts(void)
{
    Err err = {0};
    json_t *f = NULL;
    CHECK_OK(json_read_file(&f, check_repo_path(FOLDER "facts.json"), &err), &err);
    return f;
}

/* A recorded tensor as doubles. */
static double *recorded(const char *name, int64_t *n)
{
    Err err = {0};
    SafeTensors *s = NULL;
    CHECK_OK(safetensors_open(&s, check_repo_path(FOLDER "outputs.safetensors"), &err), &err);
    const SafeEntry *e = safetensors_find(s, name);
    assert_non_null(e);
    *n = tensor_count(&e->tensor);
    double *out = mem_calloc(*n, sizeof *out, NULL);
    for (int64_t i = 0; i < *n; i++)
        out[i] = tensor_get(&e->tensor, i);
    safetensors_close(&s);
    return out;
}

/* Padded to 77, cut where too long, of either form of the tokeniser's files. */
static void ids_as_transformers(void **state)
{
    (void)state;
    static const char *const folder[] = {FOLDER "model/tokenizer", FOLDER "tokenizer_5"};
    json_t *f = facts(), *prompts = json_object_get(f, "prompts");
    char digest[65] = "";
    for (int form = 0; form < 2; form++) {
        Err err = {0};
        Tokenizer *t = NULL;
        CHECK_OK(tokenizer_open(&t, check_repo_path(folder[form]), TEXT_AUTO, &err), &err);
        assert_int_equal(tokenizer_kind(t), TEXT_CLIP);
        assert_int_equal(tokenizer_vocab(t), 574);
        if (form)
            assert_string_equal(tokenizer_digest(t), digest);
        memcpy(digest, tokenizer_digest(t), sizeof digest);
        for (size_t i = 0; i < json_array_size(prompts); i++) {
            const char *text = json_string_value(json_array_get(prompts, i));
            const json_t *want = json_array_get(json_object_get(f, "ids"), i);
            int64_t whole = json_integer_value(json_array_get(json_object_get(f, "tokens"), i)), used, cut;
            int32_t ids[N];
            CHECK_OK(tokenizer_encode_padded(t, text, ids, N, &used, &cut, &err), &err);
            for (size_t k = 0; k < N; k++)
                assert_int_equal(ids[k], json_integer_value(json_array_get(want, k)));
            assert_int_equal(used, whole < N ? whole : N);
            assert_int_equal(cut, whole - used);
        }
        tokenizer_close(&t);
    }
    json_decref(f);
}

/* The words that diffusers warns about, for the prompt of 285 tokens. */
static void tells_what_was_cut(void **state)
{
    (void)state;
    Err err = {0};
    Tokenizer *t = NULL;
    json_t *f = facts(), *prompts = json_object_get(f, "prompts");
    char *cut = NULL;
    CHECK_OK(tokenizer_open(&t, check_repo_path(FOLDER "model/tokenizer"), TEXT_CLIP, &err), &err);
    CHECK_OK(tokenizer_cut_text(t, json_string_value(json_array_get(prompts, 2)), N, &cut, &err), &err);
    static const char begin[] = "hirt isn 't white ! she wears a blue coat , the lady 's shirt",
                      end[] = "white ! the end of the long caption is cut off";
    assert_memory_equal(cut, begin, sizeof begin - 1);
    assert_string_equal(cut + strlen(cut) - (sizeof end - 1), end);
    mem_free(cut);
    CHECK_OK(tokenizer_cut_text(t, json_string_value(json_array_get(prompts, 0)), N, &cut, &err), &err);
    assert_string_equal(cut, "");
    mem_free(cut);
    tokenizer_close(&t);
    json_decref(f);
}

/* The last hidden state after the final norm, without a mask: fp16 and quick_gelu with the names of
 * transformers 5, bf16 and erf gelu with those of transformers 4. */
static void hidden_states_as_transformers(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *output;
    } form[] = {{FOLDER "model/text_encoder", "quick_gelu"}, {FOLDER "text_encoder_4", "gelu"}};
    static const char *const backends[] = {"ref", "cpu"};
    json_t *f = facts(), *all = json_object_get(f, "ids");
    size_t count = json_array_size(all);
    float *hidden = mem_calloc((int64_t)count * N * D, sizeof *hidden, NULL);
    for (int k = 0; k < 4; k++) {
        Err err = {0};
        Backend *be = NULL;
        Arena *work = NULL;
        TextEncoder *t = NULL;
        TextConfig c;
        int32_t ids[4][N];
        const int32_t *const list[4] = {ids[0], ids[1], ids[2], ids[3]};
        int64_t n, bytes;
        char folder[512];
        snprintf(folder, sizeof folder, "%s", check_repo_path(form[k / 2].folder));
        double *want = recorded(form[k / 2].output, &n);
        assert_int_equal(count, 4);
        assert_int_equal(n, 4 * N * D);
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < N; j++)
                ids[i][j] = (int32_t)json_integer_value(json_array_get(json_array_get(all, i), j));
        CHECK_OK(backend_open(&be, backends[k % 2], 0, NULL, &err), &err);
        CHECK_OK(text_config_read(&c, folder, &err), &err);
        assert_int_equal(c.kind, TEXT_CLIP);
        assert_int_equal(text_config_width(&c), D);
        CHECK_OK(text_check_weights(&c, folder, NULL, &err), &err);
        CHECK_OK(text_plan(&c, be->act, N, &bytes, &err), &err);
        CHECK_OK(arena_new(&work, be, bytes, "clip", &err), &err);
        CHECK_OK(text_encoder_open(&t, be, &c, folder, &err), &err);
        CHECK_OK(text_encode_many(t, work, hidden, list, 4, N, &err), &err);
        assert_int_equal(arena_high(work), bytes);
        check_rel_l2(form[k / 2].output, hidden, want, n, 1e-5);
        text_encoder_close(&t);
        arena_free(&work);
        backend_close(&be);
        mem_free(want);
    }
    mem_free(hidden);
    json_decref(f);
}

/* 20 DDIM steps with guidance: the tokeniser, the text encoder, the transformer and the schedule
 * together. */
static void samples_as_diffusers(void **state)
{
    (void)state;
    static const SampleSettings settings = {.width = 32,
                                            .height = 48,
                                            .num_frames = 9,
                                            .model_frames = 9,
                                            .latent_frames = 3,
                                            .fps = 8,
                                            .sampler = SAMPLER_DDIM,
                                            .steps = 20,
                                            .guidance = 6.0,
                                            .text_encoder = TEXT_CLIP};
    Err err = {0};
    Backend *be = NULL;
    Pipeline *p = NULL;
    Denoising d;
    json_t *f = facts();
    int64_t n, cut;
    double *want = recorded("latents", &n);
    float *text = mem_calloc(N * D, sizeof *text, NULL), *none = mem_calloc(N * D, sizeof *none, NULL),
          *got = mem_calloc(n, sizeof *got, NULL);
    CHECK_OK(backend_open(&be, "cpu", 0, NULL, &err), &err);
    CHECK_OK(pipeline_open(&p, be, check_repo_path(FOLDER "model"), NULL, &settings, NULL, &err), &err);
    CHECK_OK(pipeline_check_parts(p, &err), &err);
    CHECK_OK(
        pipeline_encode_text(p, json_string_value(json_array_get(json_object_get(f, "prompts"), 0)), text, &cut, &err),
        &err);
    assert_int_equal(cut, 0);
    CHECK_OK(pipeline_encode_text(p, "", none, &cut, &err), &err);
    CHECK_OK(denoising_init(&d, p, &err), &err);
    CHECK_OK(pipeline_denoise(p, text, none, 42, &d, NULL, &err), &err);
    assert_int_equal(n, 3 * 4 * 6 * 4);
    latents_to_torch(got, d.latents, 3, 4, 6, 4);
    check_rel_l2("latents", got, want, n, 1e-3);
    denoising_fini(&d);
    pipeline_close(&p);
    backend_close(&be);
    json_decref(f);
    mem_free(want);
    mem_free(text);
    mem_free(none);
    mem_free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_as_transformers),
        cmocka_unit_test(tells_what_was_cut),
        cmocka_unit_test(hidden_states_as_transformers),
        cmocka_unit_test(samples_as_diffusers),
    };
    return check_run_live("clip_pipeline", tests);
}
