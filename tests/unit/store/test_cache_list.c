/* The list of clips in the cache: its entries whole, in part, as a summary and as lines of JSON. */
#include "tests/unit/store/cache_case.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache_internal.h"

static void check_keys(CacheTxn *t, CacheCursor **cursor, const char *id, const json_t *facts)
{
    Err err = {0};
    const char *same, *category = json_string_value(json_object_get(facts, "category"));
    const json_t *texts = json_object_get(facts, "texts");
    ClipKeys k;
    char hex[65];
    assert_int_equal(cache_next_clip_keys(t, cursor, &same, &k, &err), 1);
    assert_string_equal(id, same);
    assert_string_equal(k.split, json_string_value(json_object_get(facts, "split")));
    assert_int_equal(!k.category, !category);
    assert_string_equal(k.category ? k.category : "", category ? category : "");
    digest_hex(&k.latents, hex);
    assert_string_equal(hex, json_string_value(json_object_get(facts, "latents")));
    assert_int_equal(k.n_text, json_array_size(texts));
    for (int64_t i = 0; i < k.n_text; i++) {
        digest_hex(&k.text[i], hex);
        assert_string_equal(hex, json_string_value(json_array_get(texts, (size_t)i)));
    }
}

/* The summary and the keys of each entry say what the parsed entry does; entries that are not as Weft writes them as
 * well. */
static void summaries(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "plain", "", "\"so\" he\\she said:\n\t\x7f", "caf\xC3\xA9", "two\nlines", "[a, b]", "{\"split\":1}"};
    enum { ODD = sizeof odd / sizeof *odd };
    Err err = {0};
    char *dir = check_tmp_path("summaries"), name[8];
    Cache *c = open_cache(dir, CACHE_WRITE);
    for (int i = 0; i < ODD * ODD; i++) {
        json_t *facts = clip_facts(odd[i % ODD]);
        if (i / ODD)
            json_object_set_new(facts, "category", json_string(odd[i / ODD]));
        json_object_set_new(facts, "split", json_string(i % 3 == 0 ? "train" : i % 3 == 1 ? "val" : "test"));
        json_object_set_new(facts, "width", json_integer(i % 2 ? 1 + i : 1000000000000000000));
        json_object_set_new(json_object_get(facts, "latent"), "channels", json_integer(10 + i));
        json_object_set_new(facts, "attributes",
                            json_pack("{s:[i, s], s:{s:s}}", "height", 5, "width", "latent", "frames", "x"));
        for (int k = 0; k < i / ODD; k++) {
            char hex[65];
            CHECK_OK(sha256_hex(odd[k], k, hex, &err), &err);
            json_array_append_new(json_object_get(facts, "captions"), json_string(odd[k]));
            json_array_append_new(json_object_get(facts, "texts"), json_string(hex));
        }
        snprintf(name, sizeof name, "%02d", i);
        CHECK_OK(cache_put_clip(c, name, facts, &err), &err);
        json_decref(facts);
    }
    CacheTxn *t = NULL;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    CacheCursor *whole = NULL, *brief = NULL, *line = NULL, *keys = NULL;
    const char *id, *same;
    json_t *facts;
    ClipSummary s;
    JsonSpan text;
    int n = 0;
    for (; cache_next_clip(t, &whole, &id, &facts, &err) == 1; n++) {
        const json_t *captions = json_object_get(facts, "captions"), *latent = json_object_get(facts, "latent");
        const char *category = json_string_value(json_object_get(facts, "category"));
        assert_int_equal(cache_next_clip_summary(t, &brief, &same, &s, &err), 1);
        assert_string_equal(id, same);
        assert_string_equal(s.split, json_string_value(json_object_get(facts, "split")));
        assert_int_equal(!s.category, !category);
        assert_string_equal(s.category ? s.category : "", category ? category : "");
        assert_string_equal(s.caption, json_string_value(json_array_get(captions, 0)));
        assert_int_equal(s.captions, json_array_size(captions));
        assert_int_equal(s.frames, 9);
        assert_int_equal(s.height, 16);
        assert_int_equal(s.width, json_integer_value(json_object_get(facts, "width")));
        assert_int_equal(s.latent_frames, 3);
        assert_int_equal(s.latent_height, 2);
        assert_int_equal(s.latent_width, 2);
        assert_int_equal(s.latent_channels, json_integer_value(json_object_get(latent, "channels")));
        assert_int_equal(cache_next_clip_text(t, &line, &same, &text, &err), 1);
        assert_string_equal(id, same);
        char *canonical = json_canonical(facts, &err);
        assert_true(json_span_is(text, canonical));
        assert_int_equal(cache_get_clip_text(t, id, &text, &err), 1);
        assert_true(json_span_is(text, canonical));
        mem_free(canonical);
        check_keys(t, &keys, id, facts);
        json_decref(facts);
    }
    ClipKeys none;
    assert_int_equal(n, ODD * ODD);
    assert_int_equal(cache_next_clip_keys(t, &keys, &same, &none, &err), 0);
    assert_null(keys);
    assert_int_equal(cache_next_clip_summary(t, &brief, &same, &s, &err), 0);
    assert_null(brief);
    assert_int_equal(cache_next_clip_text(t, &line, &same, &text, &err), 0);
    assert_null(line);
    assert_int_equal(cache_get_clip_text(t, "none", &text, &err), 0);
    assert_null(text.at);
    cache_end(&t);
    cache_close(&c);
}

/* The text as the entry of clip "a", with a checksum that is right: as another program might write it. */
static void put_foreign(const char *dir, const char *text)
{
    Err err = {0};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    char *entry;
    CHECK_OK(cache_entry_write(&entry, DB_CLIPS, "a", text, &err), &err);
    MDB_val key = {1, "a"}, value = {strlen(entry), entry};
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 5);
    assert_int_equal(mdb_env_open(env, dir, 0, 0666), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "clips", 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    mem_free(entry);
}

/* A cache with the clip "a"; its entry's text. */
static char *make_one(const char *dir)
{
    Err err = {0};
    json_t *facts = clip_facts("A dress.");
    char *canonical = json_canonical(facts, &err);
    Cache *c = open_cache(dir, CACHE_WRITE);
    CHECK_OK(cache_put_clip(c, "a", facts, &err), &err);
    cache_close(&c);
    json_decref(facts);
    return canonical;
}

/* A line is one line of JSON, whoever wrote the entry. */
static void foreign_entries(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c;
    char *dir = check_tmp_path("foreign"), *canonical = make_one(dir);
    char *const texts[] = {mem_printf(&err, "%s ", canonical), mem_printf(&err, "{ \n%s", canonical + 1),
                           mem_printf(&err, "{\"attributes\":nonsense%s", strstr(canonical, ",\"captions\""))};
    for (int i = 0; i < 3; i++) {
        CacheTxn *t = NULL;
        CacheCursor *cursor = NULL;
        const char *id;
        JsonSpan text;
        put_foreign(dir, texts[i]);
        c = open_cache(dir, CACHE_READ);
        CHECK_OK(cache_begin(&t, c, &err), &err);
        if (i < 2) {
            assert_int_equal(cache_next_clip_text(t, &cursor, &id, &text, &err), 1);
            assert_true(json_span_is(text, canonical));
        } else {
            CHECK_FAILS(cache_next_clip_text(t, &cursor, &id, &text, &err), ERR_FORMAT, "a:1:", &err);
        }
        cache_cursor_free(&cursor);
        cache_end(&t);
        cache_close(&c);
        mem_free(texts[i]);
    }
    mem_free(canonical);
}

/* A key that the schema does not take is no key, and entries that are read as they stand are judged as the others. */
static void foreign_keys(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c;
    char *dir = check_tmp_path("foreign_keys"), *canonical = make_one(dir);
    const struct {
        const char *from, *to, *wrong;
    } cases[] = {{"\"latents\":\"0123456789a", "\"latents\":\"0123456789A", "latents"},
                 {"\"texts\":[\"0123456789a", "\"texts\":[\"0123456789A", "texts"},
                 {"\"texts\":[\"" HEX64 "\"]", "\"texts\":[]", "texts"},
                 {"\"category\":null", "\"category\":5", "category"},
                 {"\"split\":\"train\"", "\"split\":\"trail\"", "split"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CacheTxn *t = NULL;
        CacheCursor *cursor = NULL;
        const char *id, *at = strstr(canonical, cases[i].from);
        ClipKeys keys;
        assert_non_null(at);
        char *text = mem_printf(&err, "%.*s%s%s", (int)(at - canonical), canonical, cases[i].to,
                                at + strlen(cases[i].from));
        put_foreign(dir, text);
        c = open_cache(dir, CACHE_READ);
        CHECK_OK(cache_begin(&t, c, &err), &err);
        CHECK_FAILS(cache_next_clip_keys(t, &cursor, &id, &keys, &err), ERR_FORMAT, cases[i].wrong, &err);
        cache_cursor_free(&cursor);
        cache_end(&t);
        cache_close(&c);
        mem_free(text);
    }
    mem_free(canonical);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summaries),
        cmocka_unit_test(foreign_entries),
        cmocka_unit_test(foreign_keys),
    };
    return check_run_live("store_cache_list", tests);
}
