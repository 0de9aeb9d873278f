/* The commands that look after a cache with the n-th allocation failing, for a growing n: each says so,
 * and afterwards the cache is sound and the command does its work.  A verify that fails this way
 * accuses no record. */
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "cache/export.h"
#include "cache/gc.h"
#include "cache/inspect.h"
#include "cache/merge.h"
#include "cache/stats.h"
#include "cache/verify.h"
#include "common/base/file.h"
#include "tests/train_fixture.h"

static char *source, *other, *copy, *made, *exported, *imported; /* set before memory becomes scarce */
static FILE *nowhere;

static int stats(Err *err)
{
    return cache_stats(source, 1, nowhere, err);
}

static int ls(Err *err)
{
    int rc = cache_ls(source, CACHE_LIST_CSV, nowhere, err);
    return rc < 0 ? rc : cache_ls(source, CACHE_LIST_JSON, nowhere, err);
}

static int show(Err *err)
{
    const char *ids[] = {"clip-1"};
    int rc = cache_show(source, &(StrList){NULL, 0}, nowhere, err);
    return rc < 0 ? rc : cache_show(source, &(StrList){ids, 1}, nowhere, err);
}

static int verify(Err *err)
{
    return cache_verify(&(VerifyParams){.dir = source, .out = nowhere}, err);
}

static int gc(Err *err)
{
    return cache_gc(&(GcParams){.dir = copy, .compact = 1, .mode = CACHE_WRITE, .out = nowhere}, err);
}

static int merge(Err *err)
{
    const char *dirs[] = {source, other};
    return cache_merge(&(MergeParams){.sources = {dirs, 2}, .out = made, .mode = CACHE_WRITE, .results = nowhere}, err);
}

static int export_all(Err *err)
{
    return cache_export(source, exported, nowhere, err);
}

static int import_all(Err *err)
{
    return cache_import(&(ImportParams){.from = exported, .out = imported, .mode = CACHE_WRITE, .results = nowhere},
                        err);
}

/* Removes `out` (NULL: nothing) before each try, so that each begins anew. */
static void fail_each(const char *name, int (*command)(Err *err), const char *out)
{
    int failed = 1;
    int64_t n = 1;
    for (; failed; n += 1 + n / 12) {
        Err err = {0};
        if (out)
            err_ignore(dir_remove(out, NULL));
        mem_fail_after(n);
        int rc = command(&err);
        failed = mem_failed();
        mem_fail_after(0);
        if (failed && (rc != ERR_NOMEM || err.code != ERR_NOMEM || !err.msg[0]))
            fail_msg("%s, allocation %" PRId64 " refused: returned %d, code %d, '%s'", name, n, rc, err.code, err.msg);
        if (!failed && rc != 0)
            fail_msg("%s with memory enough: returned %d: %s", name, rc, err.msg);
    }
    printf("# %s: about %" PRId64 " allocations\n", name, n);
}

/* The ids that a clip's entry names. */
static void put_tokens(Cache *c, const json_t *entry)
{
    static int32_t ids[FIX_S] = {1};
    Err err = {0};
    Digest key;
    Tensor t = tensor_of(ids, DT_I32, 1, FIX_S);
    const json_t *names = json_object_get(entry, "tokens");
    for (size_t k = 0; k < json_array_size(names); k++) {
        CHECK_OK(digest_parse(json_string_value(json_array_get(names, k)), &key, &err), &err);
        CHECK_OK(cache_put_record(c, CACHE_TOKENS, &key, RECORD_TOKENS, &t, &err), &err);
    }
}

/* The meta entries and the ids that weft-train does without. */
static void complete(const char *dir, int clips)
{
    static const char *const keys[] = {"encoding", "recipe", "dataset", "rejected"};
    Err err = {0};
    Cache *c = NULL;
    char hex[65];
    fixture_hex_of("manifest", clips, hex);
    json_t *value[] = {json_pack("{s:s, s:s, s:i}", "dtype", "fp32", "store", "moments", "revision", 1), json_object(),
                       json_pack("{s:s, s:s, s:i, s:{s:i, s:i}}", "manifest_sha256", hex, "recipe_sha256", hex, "clips",
                                 clips, "shard", "index", 0, "count", 1),
                       json_object()};
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    for (int i = 0; i < 4; i++) {
        CHECK_OK(cache_put_meta(c, keys[i], value[i], &err), &err);
        json_decref(value[i]);
    }
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    const char *id;
    json_t *entry;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    while (cache_next_clip(t, &cursor, &id, &entry, &err) == 1) {
        put_tokens(c, entry);
        json_decref(entry);
    }
    cache_end(&t);
    CHECK_OK(cache_commit(c, &err), &err);
    cache_close(&c);
}

static void check_sound(const char *dir)
{
    Err err = {0};
    assert_int_equal(cache_verify(&(VerifyParams){.dir = dir, .out = nowhere}, &err), 0);
}

static void commands_say_so(void **state)
{
    (void)state;
    Err err = {0};
    char *caches = check_tmp_path("caches");
    CHECK_OK(fixture_make(check_repo_path("tests/golden/pipeline/model"), caches, &err), &err);
    source = check_tmp_path("caches/a");
    other = check_tmp_path("caches/b");
    complete(source, 5);
    complete(other, 3);
    copy = check_tmp_path("made/made"); /* merged from both: more than one page of each tree */
    made = copy;
    exported = check_tmp_path("made/export");
    imported = check_tmp_path("made/import");
    CHECK_OK(dir_make(check_tmp_path("made"), &err), &err);
    nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    fail_each("ls", ls, NULL);
    fail_each("show", show, NULL);
    fail_each("stats", stats, NULL);
    fail_each("verify", verify, NULL);
    fail_each("merge", merge, made);
    check_sound(made);
    fail_each("gc", gc, NULL);
    check_sound(copy);
    fail_each("export", export_all, exported);
    fail_each("import", import_all, imported);
    check_sound(imported);
    fclose(nowhere);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands_say_so)};
    return check_run("oom_cache", tests);
}
