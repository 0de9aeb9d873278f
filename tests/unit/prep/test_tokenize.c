/* tokens.jsonl: distinct captions once, cuts shown, stale or foreign datasets refused. */
#include <stdio.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/media/video.h"
#include "common/text/t5_tokenizer.h"
#include "prep/ingest.h"
#include "prep/tokenize.h"

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static void film(const char *path)
{
    Err err = {0};
    VideoWriter *w;
    static uint8_t rgb[48 * 80 * 3];
    CHECK_OK(video_create(&w, path,
                          &(VideoWriterParams){.codec = VIDEO_H264, .width = 48, .height = 80, .rate = {8, 1}}, &err),
             &err);
    for (int k = 0; k < 49; k++) {
        memset(rgb, k * 5, sizeof rgb);
        CHECK_OK(video_write(w, rgb, &err), &err);
    }
    CHECK_OK(video_finish(&w, &err), &err);
}

static char *prepared(const char *name, const char *metadata)
{
    Err err = {0};
    char folder[64];
    snprintf(folder, sizeof folder, "%s-out", name);
    char *source = check_tmp_path(name), *out = check_tmp_path(folder);
    CHECK_OK(dir_make(source, &err), &err);
    film(at(source, "a.mp4"));
    CHECK_OK(file_write_atomic(at(source, "metadata.jsonl"), metadata, (int64_t)strlen(metadata), &err), &err);
    const char *sets[] = {"clip.width=48", "clip.height=80", "clip.min_side=16", "quality.mode=warn",
                          "quality.duplicates=ignore"};
    Recipe *recipe;
    CHECK_OK(recipe_open(&recipe, &(CommonOptions){.preset = "demo", .set = {sets, 5}, .seed = -1}, &err), &err);
    FILE *null = fopen("/dev/null", "w");
    IngestParams p = {.source = source, .out = out, .recipe = recipe, .jobs = 1, .shards = 1, .results = null};
    CHECK_OK(prep_ingest(&p, &err), &err);
    fclose(null);
    recipe_close(&recipe);
    return out;
}

static char *tokenizer(void)
{
    static const char *const lines[] = {
        "A woman in a red sleeveless dress walks forward.", "A man in a black jacket walks to the left.",
        "A woman in a floral long-sleeve dress turns around.", "A woman in a green skirt with pleats."};
    static char *path;
    Err err = {0};
    if (!path) {
        path = check_tmp_path("spiece.model");
        CHECK_OK(t5_tokenizer_train(path, lines, 4, 80, &err), &err);
    }
    return path;
}

static Recipe *recipe_with(const char *set)
{
    Err err = {0};
    Recipe *r;
    CHECK_OK(recipe_open(&r, &(CommonOptions){.preset = "demo", .set = {&set, set != NULL}, .seed = -1}, &err), &err);
    return r;
}

static char warned[4096];
static void keep_warning(void *user, LogLevel level, const char *line)
{
    (void)user;
    if (level == LOG_WARN)
        snprintf(warned, sizeof warned, "%s", line);
}

static json_t *lines_of(const char *dir)
{
    Err err = {0};
    char *text;
    int64_t size;
    json_t *list = json_array();
    CHECK_OK(file_read(at(dir, "tokens.jsonl"), 1 << 24, &text, &size, &err), &err);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *o;
        CHECK_OK(json_parse(&o, line, (int64_t)strlen(line), "line", &err), &err);
        CHECK_OK(schema_check("tokens", o, "line", &err), &err);
        json_array_append_new(list, o);
    }
    mem_free(text);
    return list;
}

static void distinct_and_cut(void **state)
{
    Err err = {0};
    Str metadata = {0};
    (void)state;
    CHECK_OK(str_append(&metadata, "{\"file_name\": \"a.mp4\", \"text\": [\"A red dress.\", \"", &err), &err);
    for (int i = 0; i < 150; i++)
        CHECK_OK(str_append(&metadata, "a red dress ", &err), &err);
    CHECK_OK(
        str_append(&metadata,
                   "with a bow\"]}\n{\"file_name\": \"a.mp4\", \"id\": \"b\", \"text\": [\"A red dress.\", \"Two.\"]}\n"
                   "{\"file_name\": \"none.mp4\", \"text\": \"Of a rejected clip.\"}\n",
                   &err),
        &err);
    char *out = prepared("cut", metadata.data);
    FILE *null = fopen("/dev/null", "w");
    Log log = {.write = keep_warning, .level = LOG_DEBUG};
    CHECK_OK(prep_tokenize(out, tokenizer(), NULL, NULL, &log, null, &err), &err);
    assert_non_null(strstr(warned, "clip 'a': its caption has "));
    assert_non_null(strstr(warned, " tokens, 226 fit; cut off: '"));
    assert_non_null(strstr(warned, "with a bow'"));
    json_t *list = lines_of(out);
    assert_int_equal(json_array_size(list), 3);
    T5Tokenizer *t;
    CHECK_OK(t5_tokenizer_open(&t, tokenizer(), &err), &err);
    for (size_t i = 0; i < 3; i++) {
        const json_t *o = json_array_get(list, i), *ids = json_object_get(o, "ids");
        const char *text = json_string_value(json_object_get(o, "text"));
        int32_t want[226];
        int64_t used, cut;
        CHECK_OK(t5_tokenizer_encode_padded(t, text, (int64_t)strlen(text), want, 226, &used, &cut, &err), &err);
        assert_int_equal(json_array_size(ids), used);
        assert_int_equal(json_integer_value(json_object_get(o, "n")), used);
        assert_int_equal(json_integer_value(json_object_get(o, "cut")), cut);
        for (int64_t k = 0; k < used; k++)
            assert_int_equal(json_integer_value(json_array_get(ids, (size_t)k)), want[k]);
        Digest digest;
        char hex[65];
        CHECK_OK(sha256_bytes(text, (int64_t)strlen(text), &digest, &err), &err);
        digest_hex(&digest, hex);
        assert_string_equal(json_string_value(json_object_get(o, "text_sha256")), hex);
        assert_int_equal(*json_string_value(json_object_get(o, "cut_text")) != 0, i == 1);
    }
    t5_tokenizer_close(&t);
    json_decref(list);

    Recipe *four = recipe_with("model.text_length=4"); /* another length when asked for */
    CHECK_OK(prep_tokenize(out, tokenizer(), NULL, four, &log, null, &err), &err);
    recipe_close(&four);
    list = lines_of(out);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "n")), 4);
    json_decref(list);

    /* A manifest that was changed by hand is not the one the dataset was finished with. */
    char *text;
    int64_t size;
    CHECK_OK(file_read(at(out, "manifest.jsonl"), 1 << 24, &text, &size, &err), &err);
    memcpy(strstr(text, "A red dress."), "A tan dress.", 12);
    CHECK_OK(file_write_atomic(at(out, "manifest.jsonl"), text, size, &err), &err);
    CHECK_FAILS(prep_tokenize(out, tokenizer(), NULL, NULL, &log, null, &err), ERR_FORMAT, "is not the manifest", &err);
    CHECK_OK(dir_remove(at(out, "dataset.json"), &err), &err);
    CHECK_FAILS(prep_tokenize(out, tokenizer(), NULL, NULL, &log, null, &err), ERR_NOTFOUND, "no finished dataset",
                &err);
    mem_free(text);
    fclose(null);
    str_fini(&metadata);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(distinct_and_cut)};
    return check_run_live("prep tokenize", tests);
}
