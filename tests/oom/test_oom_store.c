/* The store and the tokenisers with their first allocation failing, then their second, and so on
 * until the operation succeeds: it says "out of memory", leaves nothing behind, and (under a
 * sanitizer) leaks nothing. */
#include "tests/check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/store/cache.h"
#include "common/model/model_folder.h"
#include "common/store/safetensors.h"
#include "common/store/torch_file.h"
#include "common/text/clip_tokenizer.h"
#include "common/text/t5_tokenizer.h"
#include "common/text/tokenizer.h"

typedef int Operation(Err *err);

static void exhaust(const char *name, Operation *operation)
{
    for (int n = 1;; n++) {
        Err err = {0};
        mem_fail_after(n);
        int rc = operation(&err), failed = mem_failed();
        mem_fail_after(0);
        if (failed && (rc != ERR_NOMEM || err.code != ERR_NOMEM || !err.msg[0]))
            fail_msg("%s, allocation %d refused: returned %d, code %d, '%s'", name, n, rc, err.code, err.msg);
        if (failed)
            continue;
        if (rc != 0)
            fail_msg("%s with memory enough: returned %d: %s", name, rc, err.msg);
        printf("# %s: %d allocations\n", name, n - 1);
        return;
    }
}

static char *weights, *folder, *cache_dir, *new_dir, *model, *merges;
static char *variant_folder, *hub_entry, *clip_files, *clip_json_file;
static float values[24];

static int write_weights(Err *err)
{
    SafeSource src[] = {{"a", tensor_of(values, DT_F32, 2, 2, 3)}, {"b", tensor_of(values, DT_F16, 1, 4)}};
    json_t *meta = json_pack("{s:s}", "format", "pt");
    int rc = safetensors_write(weights, src, 2, meta, err);
    json_decref(meta);
    return rc;
}

static int read_weights(Err *err)
{
    SafeTensors *s = NULL;
    char hex[65];
    int rc = safetensors_open(&s, weights, err);
    if (rc == 0)
        rc = safetensors_digest(s, hex, err);
    safetensors_close(&s);
    return rc;
}

/* libzip's own allocations are not ours to fail. */
static int read_torch(const char *name, Err *err)
{
    SafeTensors *s = NULL;
    int rc = torch_file_open(&s, check_path(check_repo_path("tests/golden/torch_file"), name), err);
    safetensors_close(&s);
    return rc;
}

static int read_archive(Err *err)
{
    return read_torch("zip.pt", err);
}

static int read_stream(Err *err)
{
    return read_torch("stream.pth", err);
}

static int read_shards(Err *err)
{
    SafeTensors *s = NULL;
    int rc = safetensors_open_folder(&s, folder, "model", NULL, err);
    safetensors_close(&s);
    return rc;
}

static int new_cache(Err *err)
{
    Cache *c = NULL;
    int rc = cache_open(&c, new_dir, CACHE_WRITE, err);
    cache_close(&c);
    return rc;
}

static int use_cache(Err *err)
{
    Cache *c = NULL;
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    RecordView v;
    Digest key = {{1}}, found;
    int32_t ids[20] = {1};
    Tensor tokens = tensor_of(ids, DT_I32, 1, 20);
    json_t *meta = json_pack("{s:s, s:s, s:i}", "dtype", "fp32", "store", "moments", "revision", 1), *back = NULL;
    int rc = cache_open(&c, cache_dir, CACHE_WRITE, err);
    if (rc == 0)
        rc = cache_put_record(c, CACHE_TOKENS, &key, RECORD_TOKENS, &tokens, err);
    if (rc == 0)
        rc = cache_put_meta(c, "encoding", meta, err);
    if (rc == 0)
        rc = cache_begin(&t, c, err);
    if (rc == 0)
        rc = cache_get_record(t, CACHE_TOKENS, &key, 1, &v, err);
    if (rc == 1)
        rc = cache_get_meta(t, "encoding", &back, err);
    while (rc == 1)
        rc = cache_next_record(t, CACHE_TOKENS, &cursor, &found, &v, 1, err);
    cache_cursor_free(&cursor);
    cache_end(&t);
    cache_close(&c);
    json_decref(meta);
    json_decref(back);
    return rc;
}

static int t5_text(Err *err)
{
    static const char text[] = "a red dress <extra_id_3> b</s>";
    T5Tokenizer *t = NULL;
    int32_t *ids = NULL, padded[8];
    int64_t n, used, cut;
    char *words = NULL;
    int rc = t5_tokenizer_open(&t, model, err);
    if (rc == 0)
        rc = t5_tokenizer_encode(t, text, sizeof text - 1, &ids, &n, err);
    if (rc == 0)
        rc = t5_tokenizer_encode_padded(t, text, sizeof text - 1, padded, 8, &used, &cut, err);
    if (rc == 0 && !(words = t5_tokenizer_decode(t, ids, n, err)))
        rc = err->code;
    mem_free(words);
    mem_free(ids);
    t5_tokenizer_close(&t);
    return rc;
}

/* tokenizer.json: every piece and setting passes through a growing string. */
static int t5_json(Err *err)
{
    static const char text[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],"
        "[\"\xE2\x96\x81\",-3],[\"a\",-2]]},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
        "\"\xE2\x96\x81\",\"prepend_scheme\":\"always\"}}";
    T5Tokenizer *t = NULL;
    int rc = t5_tokenizer_open_json(&t, text, sizeof text - 1, "tokenizer", err);
    t5_tokenizer_close(&t);
    return rc;
}

/* A folder with only the fp16 variant, found by its listing; and one without any weights. */
static int read_variant(Err *err)
{
    SafeTensors *s = NULL;
    int rc = safetensors_open_folder(&s, variant_folder, "model", NULL, err);
    safetensors_close(&s);
    return rc;
}

static int find_model(Err *err)
{
    char *found = NULL;
    int rc = model_folder_find(&found, hub_entry, NULL, err);
    mem_free(found);
    return rc;
}

static int clip_text(Err *err)
{
    static const char text[] = "A red dress<|endoftext|> it's \xC3\x89t\xC3\xA9 <|startoftext|>2024";
    ClipTokenizer *t = NULL;
    int32_t *ids = NULL, padded[CLIP_LENGTH];
    int64_t n, used, cut;
    int rc = clip_tokenizer_open(&t, merges, err);
    if (rc == 0)
        rc = clip_tokenizer_encode(t, text, sizeof text - 1, &ids, &n, err);
    if (rc == 0)
        rc = clip_tokenizer_encode_padded(t, text, sizeof text - 1, padded, CLIP_LENGTH, &used, &cut, err);
    mem_free(ids);
    clip_tokenizer_close(&t);
    return rc;
}

/* A tokenizer/ folder of either kind, and of either form. */
static int either(const char *path, Err *err)
{
    Tokenizer *t = NULL;
    char *cut = NULL;
    int32_t ids[4];
    int64_t used, n_cut;
    int rc = tokenizer_open(&t, path, TEXT_AUTO, err);
    if (rc == 0)
        rc = tokenizer_encode_padded(t, "A red dress, \xC3\xA9", ids, 4, &used, &n_cut, err);
    if (rc == 0)
        rc = tokenizer_cut_text(t, "A red dress, \xC3\xA9", 4, &cut, err);
    mem_free(cut);
    tokenizer_close(&t);
    return rc;
}

static int clip_folder(Err *err)
{
    return either(clip_files, err);
}

static int clip_json(Err *err)
{
    return either(clip_json_file, err);
}

static int t5_file(Err *err)
{
    return either(model, err);
}

static void make_files(void)
{
    static const char index[] =
        "{\"metadata\":{\"total_size\":32},\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"}}";
    static const char *const lines[] = {"a red dress", "a blue dress with stripes", "an old coat in the park"};
    static const char list[] = "r e\nre d</w>\nd r\n", pad[] = "{\"pad_token\":\"<|endoftext|>\"}";
    Err err = {0};
    weights = check_tmp_path("shards/m-1.safetensors");
    folder = check_tmp_path("shards");
    cache_dir = check_tmp_path("cache");
    new_dir = check_tmp_path("new");
    model = check_tmp_path("spiece.model");
    clip_files = check_tmp_path("clip"); /* with CLIP's 48,894 merges this would take minutes */
    CHECK_OK(dir_make(clip_files, &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("clip/merges.txt"), list, sizeof list - 1, &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("clip/tokenizer_config.json"), pad, sizeof pad - 1, &err), &err);
    clip_json_file = check_repo_path("tests/golden/clip_pipeline/tokenizer_5/tokenizer.json");
    merges = check_tmp_path("merges.txt");
    CHECK_OK(dir_make(folder, &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("shards/model.safetensors.index.json"), index, sizeof index - 1, &err),
             &err);
    CHECK_OK(file_write_atomic(merges, list, sizeof list - 1, &err), &err);
    CHECK_OK(t5_tokenizer_train(model, lines, 3, 60, &err), &err);
    CHECK_OK(write_weights(&err), &err);
    variant_folder = check_tmp_path("variant");
    hub_entry = check_tmp_path("models--o--n");
    CHECK_OK(dir_make(variant_folder, &err), &err);
    CHECK_OK(dir_make(check_tmp_path("models--o--n/snapshots/abc"), &err), &err);
    CHECK_OK(dir_make(check_tmp_path("models--o--n/refs"), &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("models--o--n/refs/main"), "abc", 3, &err), &err);
    float one[1] = {1};
    const int64_t dim[] = {1};
    SafeSource source = {"a", tensor_view(one, DT_F32, 1, dim)};
    CHECK_OK(safetensors_write(check_tmp_path("variant/model.fp16.safetensors"), &source, 1, NULL, &err), &err);
}

static void every_allocation(void **state)
{
    (void)state;
    make_files();
    exhaust("safetensors_write", write_weights);
    exhaust("safetensors_open", read_weights);
    exhaust("safetensors_open_folder", read_shards);
    exhaust("PyTorch's archive", read_archive);
    exhaust("PyTorch's older stream", read_stream);
    exhaust("a new cache", new_cache);
    exhaust("a cache used", use_cache);
    exhaust("T5 tokeniser", t5_text);
    exhaust("tokenizer.json", t5_json);
    exhaust("a variant of the weights", read_variant);
    exhaust("a model's folder", find_model);
    exhaust("CLIP tokeniser", clip_text);
    exhaust("either tokeniser: CLIP's folder", clip_folder);
    exhaust("either tokeniser: CLIP's tokenizer.json", clip_json);
    exhaust("either tokeniser: spiece.model", t5_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
    return check_run("oom_store", tests);
}
