/* Reading a prepared dataset: what is taken from it, and what is refused. */
#include "check.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
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

static PreparedClip clip_of(Prepared *p, int64_t i)
{
    Err err = {0};
    PreparedClip c;
    CHECK_OK(prepared_clip(p, i, &c, &err), &err);
    return c;
}

static PreparedText text_of(Prepared *p, int64_t k)
{
    Err err = {0};
    PreparedText t;
    CHECK_OK(prepared_text(p, k, &t, &err), &err);
    return t;
}

static void expect_id(Prepared *p, int64_t i, const char *id)
{
    Err err = {0};
    int64_t found;
    PreparedClip c = clip_of(p, i);
    assert_string_equal(c.id, id);
    CHECK_OK(prepared_find_clip(p, id, &found, &err), &err);
    assert_int_equal(found, i);
    prepared_clip_fini(&c);
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
    static const char *const texts[3] = {"", "red", "blue"};
    static const int32_t want[3][6] = {{1}, {7, 8, 1}, {9, 1}};
    static const int64_t n[3] = {1, 3, 2};
    int64_t found;
    for (int i = 2; i >= 0; i--) {
        PreparedText t = text_of(p, i);
        assert_int_equal(t.n, n[i]);
        assert_memory_equal(t.ids, want[i], (size_t)n[i] * sizeof *t.ids);
        assert_string_equal(t.text, texts[i]);
        CHECK_OK(prepared_find_text(p, texts[i], &found, &err), &err);
        assert_int_equal(found, i);
        prepared_text_fini(&t);
    }
    assert_int_equal(p->largest_id, 9); /* no clip has the text with 5 */
    assert_string_equal(p->tokenizer_sha256, HEX64);
    PreparedClip a = clip_of(p, 0), b = clip_of(p, 1), c = clip_of(p, 2), d = clip_of(p, 3);
    assert_string_equal(b.id, "b");
    assert_int_equal(b.n_text, 2);
    assert_int_equal(b.text[0], 2);
    assert_int_equal(b.text[1], 1);
    assert_string_equal(prepared_caption(&b, 1), "red");
    assert_int_equal(c.n_text, 1); /* no caption: the empty one */
    assert_int_equal(c.text[0], 0);
    assert_string_equal(prepared_caption(&c, 0), "");
    assert_int_equal(a.frames, 9);
    assert_int_equal(a.height, 48);
    assert_string_equal(json_string_value(a.split), "train");
    assert_true(file_exists(dir) && strstr(d.path, "/clips/d.mkv"));
    assert_int_equal(prepared_size(p).width, 32);
    assert_int_equal(p->other_size, -1);
    assert_int_equal(p->rgb_bytes, 9 * 32 * 48 * 3);
    prepared_clip_fini(&a);
    prepared_clip_fini(&b);
    prepared_clip_fini(&c);
    prepared_clip_fini(&d);
    prepared_clip_fini(&d);
    CHECK_OK(prepared_find_clip(p, "bad", &found, &err), &err); /* rejected */
    assert_int_equal(found, -1);
    CHECK_OK(prepared_find_clip(p, "e", &found, &err), &err);
    assert_int_equal(found, -1);
    CHECK_OK(prepared_find_text(p, "unused", &found, &err), &err);
    assert_int_equal(found, -1);
    int32_t ids[] = {5, 1};
    CHECK_OK(prepared_add_text(p, &(PreparedText){.text = (char *)"unused", .ids = ids, .n = 2, .cut = 1}, &err), &err);
    CHECK_OK(prepared_find_text(p, "unused", &found, &err), &err);
    assert_int_equal(found, 3);
    assert_int_equal(p->n_text, 4);
    PreparedText t = text_of(p, 3);
    assert_memory_equal(t.ids, ids, sizeof ids);
    assert_int_equal(t.cut, 1);
    prepared_text_fini(&t);
    prepared_close(&p);
    prepared_close(&p);

    const char *const shard[2][2] = {{"a", "c"}, {"b", "d"}}; /* of the accepted ones every second */
    for (int k = 0; k < 2; k++) {
        CHECK_OK(prepared_open(&p, dir, k, 2, &form, &err), &err);
        assert_int_equal(p->n, 2);
        for (int i = 0; i < 2; i++)
            expect_id(p, i, shard[k][i]);
        CHECK_OK(prepared_find_clip(p, shard[1 - k][0], &found, &err), &err); /* of the other shard */
        assert_int_equal(found, -1);
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
        PreparedText one = text_of(p, i);
        prepared_pad(&one, &clip, padded);
        assert_memory_equal(padded, want[i], sizeof want[i]);
        assert_int_equal(one.n, i ? 4 : 2);
        prepared_text_fini(&one);
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

/* A clip of another size is told from the first ones. */
static void finds_another_size(void **state)
{
    (void)state;
    Err err = {0};
    Prepared *p = NULL;
    Str m[] = {manifest_line("a", "accept", "[]", 1), manifest_line("b", "accept", "[]", 1),
               manifest_line("c", "accept", "[]", 1), manifest_line("d", "accept", "[]", 1)};
    for (int i = 2; i < 4; i++)
        strstr(m[i].data, "\"height\":48")[10] = '9';
    char *dir = write_dataset(joined(m, 4), mem_strdup("", &err));
    CHECK_OK(prepared_open(&p, dir, 0, 1, &form, &err), &err);
    assert_int_equal(p->other_size, 2);
    assert_int_equal(prepared_size(p).height, 48);
    assert_int_equal(p->rgb_bytes, 9 * 32 * 49 * 3);
    prepared_close(&p);
}

/* Writes over the first place of `from` in the file, which stays the same file. */
static void change(const char *dir, const char *name, const char *from, const char *to)
{
    Err err = {0};
    char path[512], *text;
    int64_t size;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_OK(file_read(path, 1 << 20, &text, &size, &err), &err);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    fseek(f, strstr(text, from) - text, SEEK_SET);
    fputs(to, f);
    fclose(f);
    mem_free(text);
}

/* What is read later is what was judged, or an error. */
static void notices_a_change(void **state)
{
    (void)state;
    Err err = {0};
    Prepared *p = NULL;
    PreparedClip c;
    PreparedText t;
    char path[512], *dir = five_clips();
    CHECK_OK(prepared_open(&p, dir, 0, 1, &form, &err), &err);
    change(dir, "manifest.jsonl", "clips/b.mkv", "clips/x.mkv");
    expect_id(p, 0, "a");
    CHECK_FAILS(prepared_clip(p, 1, &c, &err), ERR_FORMAT, "manifest.jsonl' changed while it was being read", &err);
    assert_null(c.line);
    change(dir, "tokens.jsonl", "[9,1]", "[8,1]");
    CHECK_FAILS(prepared_text(p, 2, &t, &err), ERR_FORMAT, "tokens.jsonl' changed while it was being read", &err);
    assert_null(t.text);
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    FILE *f = fopen(path, "r+");
    assert_int_equal(ftruncate(fileno(f), 900), 0);
    fclose(f);
    CHECK_FAILS(prepared_clip(p, 3, &c, &err), ERR_FORMAT, "manifest.jsonl' changed", &err);
    prepared_close(&p);

    dir = five_clips(); /* another file in its place is none of ours */
    CHECK_OK(prepared_open(&p, dir, 0, 1, &form, &err), &err);
    snprintf(path, sizeof path, "%s/manifest.jsonl", dir);
    CHECK_OK(file_write_atomic(path, "{}\n", 3, &err), &err);
    expect_id(p, 3, "d");
    prepared_close(&p);
}

/* Lines that end in CRLF, behind a byte order mark, are read again as they were read first. */
static void reads_lines_of_windows(void **state)
{
    (void)state;
    Err err = {0};
    Prepared *p = NULL;
    Str all = {0}, m[] = {manifest_line("a", "accept", "[]", 1), manifest_line("b", "accept", "[]", 1)};
    CHECK_OK(str_append(&all, "\xef\xbb\xbf", &err), &err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(str_append_n(&all, m[i].data, m[i].len - 1, &err), &err);
        CHECK_OK(str_append(&all, i ? "" : "\r\n", &err), &err); /* the last line may lack its end */
        str_fini(&m[i]);
    }
    char *dir = write_dataset(all.data, mem_strdup("", &err));
    CHECK_OK(prepared_open(&p, dir, 0, 1, &form, &err), &err);
    assert_int_equal(p->n, 2);
    expect_id(p, 0, "a");
    expect_id(p, 1, "b");
    prepared_close(&p);
}

static int64_t in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return (int64_t)(m.uordblks + m.hblkhd);
}

/* Captions and facts are not kept: a long caption takes as much as a short one. */
static void keeps_little(void **state)
{
    (void)state;
    enum { CLIPS = 20000, PER_CLIP = 130 };
    Err err = {0};
    Prepared *p = NULL;
    Str manifest = {0}, tokens = {0};
    for (int i = 0; i < CLIPS; i++) {
        char id[32], captions[256], caption[200];
        snprintf(id, sizeof id, "clip-%07d", i);
        snprintf(caption, sizeof caption, "%0150d", i);
        snprintf(captions, sizeof captions, "[\"%s\"]", caption);
        Str m = manifest_line(id, "accept", captions, 1), t = token_line(caption, "[7,8,9,10,1]", 5, 6, HEX64);
        CHECK_OK(str_append_n(&manifest, m.data, m.len, &err), &err);
        CHECK_OK(str_append_n(&tokens, t.data, t.len, &err), &err);
        str_fini(&m);
        str_fini(&t);
    }
    char *dir = write_dataset(manifest.data, tokens.data);
    int64_t before = in_use();
    CHECK_OK(prepared_open(&p, dir, 0, 1, &form, &err), &err);
    int64_t kept = (in_use() - before) / CLIPS;
    if (kept > PER_CLIP)
        fail_msg("%" PRId64 " bytes a clip, expected %d at most", kept, PER_CLIP);
    expect_id(p, CLIPS - 1, "clip-0019999");
    prepared_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads),
                                       cmocka_unit_test(reads_ids_of_clip),
                                       cmocka_unit_test(refuses),
                                       cmocka_unit_test(finds_another_size),
                                       cmocka_unit_test(notices_a_change),
                                       cmocka_unit_test(reads_lines_of_windows),
                                       cmocka_unit_test(keeps_little)};
    return check_run_live("cache_prepared", tests);
}
