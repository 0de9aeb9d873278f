/* Reading a prepared dataset: what is taken from it, and what is refused. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cache/prepared.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD                                                                                                    \
    "{\"id\":\"%s\",\"decision\":\"%s\",\"reason\":null,\"warnings\":[],\"split\":\"train\",\"category\":null," \
    "\"captions\":%s,"
#define MIDDLE                                                                                                       \
    "\"attributes\":{},\"extra\":{},\"key\":\"" HEX64 "\",\"recipe_sha256\":\"" HEX64                                \
    "\",\"source\":{\"path\":\"a.mp4\","                                                                             \
    "\"kind\":\"video\",\"size\":1,\"sha256\":null},\"probe\":null,\"window\":null,\"geometry\":null,\"ledger\":[]," \
    "\"timing\":null,\"quality\":null,"
#define CLIP                                                           \
    "{\"file\":\"clips/%s.mkv\",\"size\":9,\"pixels_sha256\":\"" HEX64 \
    "\",\"frames\":9,\"width\":32,\"height\":48,\"fps\":8}"

static Str manifest_line(const char *id, const char *decision, const char *captions, int clip)
{
    Err err = {0};
    Str s = {0};
    CHECK_OK(str_printf(&s, &err, HEAD MIDDLE "\"clip\":", id, decision, captions), &err);
    CHECK_OK(clip ? str_printf(&s, &err, CLIP "}\n", id) : str_append(&s, "null}\n", &err), &err);
    return s;
}

static Str token_line(const char *text, const char *ids, int n, int length, const char *tokenizer)
{
    Err err = {0};
    Str s = {0};
    CHECK_OK(str_printf(&s, &err,
                        "{\"text\":\"%s\",\"text_sha256\":\"" HEX64 "\",\"ids\":%s,\"n\":%d,\"length\":%d,\"cut\":0,"
                        "\"cut_text\":\"\",\"tokenizer_sha256\":\"%s\"}\n",
                        text, ids, n, length, tokenizer),
             &err);
    return s;
}

/* Joins lines (freed) into text. */
static char *joined(Str *lines, int n)
{
    Str all = {0};
    for (int i = 0; i < n; i++) {
        assert_int_equal(str_append(&all, lines[i].data, NULL), 0);
        str_fini(&lines[i]);
    }
    return all.data;
}

/* Writes a dataset from the two texts (tokens NULL: no file), freed here; returns its folder. */
static char *write_dataset(char *manifest, char *tokens)
{
    static int count;
    Err err = {0};
    Digest d;
    char hex[65], name[32], json[2048];
    snprintf(name, sizeof name, "d%d", count++);
    char *dir = check_tmp_path(name);
    CHECK_OK(dir_make(dir, &err), &err);
    CHECK_OK(sha256_bytes(manifest, (int64_t)strlen(manifest), &d, &err), &err);
    digest_hex(&d, hex);
    snprintf(json, sizeof json,
             "{\"format\":1,\"tool\":{\"name\":\"weft-prep\",\"revision\":1},\"layout\":\"pairs\",\"shard\":null,"
             "\"counts\":{\"sources\":0,\"accepted\":0,\"rejected\":0,\"reasons\":{},\"warnings\":{},\"splits\":{},"
             "\"categories\":{}},"
             "\"recipe_sha256\":\"" HEX64 "\",\"recipe\":{},"
             "\"manifest\":{\"file\":\"manifest.jsonl\",\"lines\":1,\"sha256\":\"%s\"}}",
             hex);
    char path[512];
    snprintf(path, sizeof path, "%s/dataset.json", dir);
    CHECK_OK(file_write_atomic(path, json, (int64_t)strlen(json), &err), &err);
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    CHECK_OK(file_write_atomic(path, manifest, (int64_t)strlen(manifest), &err), &err);
    snprintf(path, sizeof path, "%s/tokens.jsonl", dir);
    if (tokens)
        CHECK_OK(file_write_atomic(path, tokens, (int64_t)strlen(tokens), &err), &err);
    mem_free(manifest);
    mem_free(tokens);
    return dir;
}

static const TextForm form = {TEXT_T5, 6, -1, 1, 0};

static char *five_clips(void)
{
    Str m[] = {manifest_line("a", "accept", "[\"red\"]", 1), manifest_line("bad", "reject", "[\"unused\"]", 0),
               manifest_line("b", "accept", "[\"blue\",\"red\"]", 1), manifest_line("c", "accept", "[]", 1),
               manifest_line("d", "accept", "[\"red\"]", 1)};
    Str t[] = {token_line("red", "[7,8,1]", 3, 6, HEX64), token_line("blue", "[9,1]", 2, 6, HEX64),
               token_line("unused", "[5,1]", 2, 6, HEX64)};
    return write_dataset(joined(m, 5), joined(t, 3));
}

static void reads(void **state)
{
    (void)state;
    Err err = {0};
    Prepared *p = NULL;
    char *dir = five_clips();
    CHECK_OK(prepared_open(&p, dir, 0, 1, &form, &err), &err);
    assert_int_equal(p->n, 4);
    assert_int_equal(p->n_text, 3); /* "", red, blue */
    static const int32_t want[3][6] = {{1}, {7, 8, 1}, {9, 1}};
    static const int64_t n[3] = {1, 3, 2};
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(p->text[i].ids, want[i], sizeof want[i]);
        assert_int_equal(p->text[i].n, n[i]);
    }
    assert_string_equal(p->text[2].text, "blue");
    assert_string_equal(p->tokenizer_sha256, HEX64);
    assert_string_equal(p->clip[1].id, "b");
    assert_int_equal(p->clip[1].n_text, 2);
    assert_int_equal(p->clip[1].text[0], 2);
    assert_int_equal(p->clip[1].text[1], 1);
    assert_int_equal(p->clip[2].n_text, 1); /* no caption: the empty one */
    assert_int_equal(p->clip[2].text[0], 0);
    assert_int_equal(p->clip[0].frames, 9);
    assert_int_equal(p->clip[0].height, 48);
    assert_true(file_exists(dir) && strstr(p->clip[3].path, "/clips/d.mkv"));
    prepared_close(&p);
    prepared_close(&p);

    const char *ids[2][2] = {{"a", "c"}, {"b", "d"}}; /* of the accepted ones every second */
    for (int k = 0; k < 2; k++) {
        CHECK_OK(prepared_open(&p, dir, k, 2, &form, &err), &err);
        assert_int_equal(p->n, 2);
        for (int i = 0; i < 2; i++)
            assert_string_equal(p->clip[i].id, ids[k][i]);
        assert_int_equal(p->n_text, k ? 3 : 2); /* only the captions of the shard */
        prepared_close(&p);
    }
}

/* CLIP's ids: a mark at both ends, padded with the last one; the empty text has only the marks. */
static void reads_ids_of_clip(void **state)
{
    (void)state;
    Err err = {0};
    Prepared *p = NULL;
    const TextForm clip = {TEXT_CLIP, 6, 98, 99, 99};
    static const int32_t want[2][6] = {{98, 99, 99, 99, 99, 99}, {98, 7, 8, 99, 99, 99}};
    Str m = manifest_line("a", "accept", "[\"red\"]", 1);
    Str t = token_line("red", "[98,7,8,99]", 4, 6, HEX64 "\",\"text_encoder\":\"clip");
    char *dir = write_dataset(m.data, t.data);
    CHECK_OK(prepared_open(&p, dir, 0, 1, &clip, &err), &err);
    assert_int_equal(p->n_text, 2);
    for (int i = 0; i < 2; i++) {
        int32_t padded[6];
        prepared_pad(&p->text[i], &clip, padded);
        assert_memory_equal(padded, want[i], sizeof want[i]);
        assert_int_equal(p->text[i].n, i ? 4 : 2);
    }
    prepared_close(&p);
    CHECK_FAILS(prepared_open(&p, dir, 0, 1, &form, &err), ERR_USAGE,
                "ids are of CLIP, but the model's text encoder is T5", &err);
    dir = five_clips();
    CHECK_FAILS(prepared_open(&p, dir, 0, 1, &clip, &err), ERR_USAGE,
                "ids are of T5, but the model's text encoder is CLIP", &err);
    CHECK_OK(prepared_open(&p, dir, 0, 1, NULL, &err), &err); /* texts without ids */
    assert_int_equal(p->n_text, 3);
    prepared_close(&p);
}

static void refuse(char *dir, int code, const char *part)
{
    Err err = {0};
    Prepared *p = NULL;
    CHECK_FAILS(prepared_open(&p, dir, 0, 1, &form, &err), code, part, &err);
    assert_null(p);
}

static char *one_clip(Str tokens)
{
    Str m = manifest_line("a", "accept", "[\"red\"]", 1);
    return write_dataset(m.data, tokens.data);
}

static void refuses(void **state)
{
    (void)state;
    Err err = {0};
    refuse(check_tmp_path("nothing"), ERR_NOTFOUND, "weft-prep ingest");
    refuse(one_clip((Str){0}), ERR_NOTFOUND, "run weft-prep tokenize first");
    refuse(one_clip(token_line("blue", "[1]", 1, 6, HEX64)), ERR_FORMAT,
           "clip 'a': its caption \"red\" is not in tokens.jsonl");
    refuse(one_clip(token_line("red", "[1]", 1, 5, HEX64)), ERR_USAGE,
           "padded to 5, but model.text_length is 6: set it to 5, or run");
    refuse(one_clip(token_line("red", "[2,3]", 2, 6, HEX64)), ERR_FORMAT, "the end mark (1) last");
    refuse(one_clip(token_line("red", "[2,3,4,5,6,7,1]", 7, 6, HEX64)), ERR_FORMAT, "at most 6 ids");
    refuse(one_clip(token_line("red", "[3000000000,1]", 2, 6, HEX64)), ERR_FORMAT, "id 3000000000");
    refuse(one_clip(token_line("red", "[-1,1]", 2, 6, HEX64)), ERR_FORMAT, "tokens.jsonl line 1");
    refuse(one_clip(token_line("red", "[]", 0, 6, HEX64)), ERR_FORMAT, "tokens.jsonl line 1");
    refuse(one_clip(token_line("red\",\"x\":\"", "[1]", 1, 6, HEX64)), ERR_FORMAT, "tokens.jsonl line 1");
    Str two[] = {token_line("red", "[1]", 1, 6, HEX64), token_line("blue", "[1]", 1, 6, OTHER)};
    Str m = manifest_line("a", "accept", "[\"red\"]", 1);
    refuse(write_dataset(m.data, joined(two, 2)), ERR_FORMAT,
           "tokens.jsonl line 2: this line was made with another tokeniser");
    Str twice[] = {manifest_line("a", "accept", "[]", 1), manifest_line("a", "reject", "[]", 0)};
    refuse(write_dataset(joined(twice, 2), mem_strdup("", &err)), ERR_FORMAT,
           "manifest.jsonl line 2: the id 'a' appears twice");
    m = manifest_line("a", "accept", "[]", 0);
    refuse(write_dataset(m.data, mem_strdup("", &err)), ERR_FORMAT, "has no file");
    refuse(write_dataset(mem_strdup("{\n", &err), mem_strdup("", &err)), ERR_FORMAT, "manifest.jsonl line 1");
    refuse(write_dataset(mem_strdup("{}\n", &err), mem_strdup("", &err)), ERR_FORMAT, "manifest.jsonl line 1");
    char *dir = five_clips(), path[512];
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    CHECK_OK(file_write_atomic(path, "", 0, &err), &err);
    refuse(dir, ERR_FORMAT, "is not the manifest that dataset.json was written for");
    dir = one_clip((Str){0}); /* a pipe in place of a file would be waited for */
    snprintf(path, sizeof path, "%s/tokens.jsonl", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse(dir, ERR_FORMAT, "is not a regular file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads), cmocka_unit_test(reads_ids_of_clip),
                                       cmocka_unit_test(refuses)};
    return check_run_live("cache_prepared", tests);
}
