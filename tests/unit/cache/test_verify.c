/* What `weft-cache verify` says of a build that was stopped at each of its first moments, and of a
 * loss that no stop explains. */
#include "check.h"
#include <fcntl.h>
#include <jansson.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cache/verify.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/store/cache.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* Verifies: the return value, and what was printed or the error. */
static int verify(const char *dir, char *said, size_t room)
{
    Err err = {0};
    FILE *out = tmpfile();
    assert_non_null(out);
    int rc = cache_verify(&(VerifyParams){.dir = dir, .out = out}, &err);
    rewind(out);
    size_t n = fread(said, 1, room - 1, out);
    said[n] = '\0';
    fclose(out);
    if (rc < 0)
        snprintf(said, room, "%s", err.msg);
    return rc;
}

static void is_unfinished(const char *dir, const char *what)
{
    char said[4096];
    int rc = verify(dir, said, sizeof said);
    if (rc == 0 || !strstr(said, "unfinished") || !strstr(said, "run weft-cache build again") ||
        (strstr(said, "damaged") && !strstr(said, " 0 damaged")))
        fail_msg("%s: verify returned %d and said: %s", what, rc, said);
}

static void put_meta(const char *dir, const char *key, json_t *value)
{
    Err err = {0};
    Cache *c = NULL;
    assert_non_null(value);
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    CHECK_OK(cache_put_meta(c, key, value, &err), &err);
    cache_close(&c);
    json_decref(value);
}

static void put_text_meta(const char *dir)
{
    put_meta(dir, "text",
             json_pack("{s:i, s:i, s:{}, s:s, s:s, s:s}", "length", 2, "dim", 4, "config", "weights_sha256", HEX64,
                       "tokenizer_sha256", HEX64, "empty", HEX64));
}

static void stopped_at_each_moment(void **state)
{
    Err err = {0};
    (void)state;
    char *dir = check_tmp_path("early"), *file = NULL;
    CHECK_OK(dir_make(dir, &err), &err);
    file = path_join(dir, "data.mdb", &err);
    int fd = open(file, O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    close(fd);
    is_unfinished(dir, "an empty file");

    MDB_env *env;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0666), 0);
    mdb_env_close(env);
    is_unfinished(dir, "an environment without databases");

    Cache *c = NULL;
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    cache_close(&c);
    is_unfinished(dir, "databases without entries");
    put_text_meta(dir);
    is_unfinished(dir, "meta entries before the first text");
    put_meta(dir, "dataset",
             json_pack("{s:s, s:s, s:i, s:{s:i, s:i}}", "manifest_sha256", HEX64, "recipe_sha256", HEX64, "clips", 3,
                       "shard", "index", 0, "count", 1));
    is_unfinished(dir, "all meta entries before the first text");
    mem_free(file);
}

static json_t *clip_facts(void)
{
    json_t *facts = json_pack("{s:s, s:[s], s:[s], s:[s], s:s, s:n, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, "
                              "s:s, s:s, s:s, s:s}",
                              "latents", HEX64, "texts", HEX64, "tokens", HEX64, "captions", "red", "split", "train",
                              "category", "attributes", "frames", 9, "height", 32, "width", 16, "fps", 8, "latent",
                              "frames", 3, "height", 4, "width", 2, "channels", 4, "pixels_sha256", HEX64,
                              "file_sha256", HEX64, "vae_sha256", HEX64, "text_encoder_sha256", HEX64);
    assert_non_null(facts);
    return facts;
}

/* A cache that holds the meta entry "text" and one clip. */
static char *small_cache(const char *name)
{
    Err err = {0};
    Cache *c = NULL;
    char *dir = check_tmp_path(name);
    put_text_meta(dir);
    json_t *facts = clip_facts();
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    CHECK_OK(cache_put_clip(c, "some-clip", facts, &err), &err);
    cache_close(&c);
    json_decref(facts);
    return dir;
}

/* A cache with a clip had its empty prompt's record once. */
static void a_lost_record_is_damage(void **state)
{
    char said[4096];
    (void)state;
    assert_int_equal(verify(small_cache("lost"), said, sizeof said), 1);
    assert_non_null(strstr(said, "damaged: the empty prompt: its text record is missing"));
}

/* All JSON that a reader gets from the cache, or NULL where something is refused. */
static json_t *all_entries(const char *dir)
{
    Cache *c = NULL;
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    json_t *all = json_object(), *value;
    const char *id;
    Err err = {0};
    int rc = cache_open(&c, dir, CACHE_READ, &err);
    if (rc == 0)
        rc = cache_begin(&t, c, &err);
    if (rc == 0 && (rc = cache_get_meta(t, "text", &value, &err)) == 1)
        json_object_set_new(all, "text", value);
    if (rc >= 0 && (rc = cache_get_meta(t, "format", &value, &err)) == 1)
        json_object_set_new(all, "format", value);
    while (rc >= 0 && (rc = cache_next_clip(t, &cursor, &id, &value, &err)) == 1)
        json_object_set_new(all, id, value);
    cache_cursor_free(&cursor);
    cache_end(&t);
    cache_close(&c);
    if (rc == 0)
        return all;
    json_decref(all);
    return NULL;
}

/* Whether every entry that was read is the right one. */
static int got_is_part_of(const json_t *got, json_t *want)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)got, key, value)
        if (!json_equal(value, json_object_get(want, key)))
            return 0;
    return 1;
}

/* Any change of a byte of an entry, its key included, is refused, or lies where nothing is read; a
 * meta entry whose key changed is missing. */
static void every_byte_of_an_entry_is_covered(void **state)
{
    Err err = {0};
    char *dir = small_cache("bytes"), *file = path_join(dir, "data.mdb", &err), *bytes = NULL;
    int64_t size = 0, refused = 0, unread = 0, lost = 0;
    static const char *const marks[] = {"{\"attributes\"", "{\"config\"", "{\"version\""};
    (void)state;
    json_t *want = all_entries(dir);
    assert_non_null(want);
    CHECK_OK(file_read(file, 1 << 26, &bytes, &size, &err), &err);
    int fd = open(file, O_WRONLY);
    assert_true(fd >= 0);
    for (int m = 0; m < 3; m++)
        for (char *at = bytes; (at = memmem(at, (size_t)(bytes + size - at), marks[m], strlen(marks[m]))); at++) {
            int64_t begin = at - bytes - 12, end = at - bytes;
            while (end < size && bytes[end] && bytes[end] != '\n')
                end++;
            for (int64_t i = begin; i < end + 17 && i < size; i += 2 + i % 2) {
                char changed = (char)(bytes[i] ^ (i % 3 ? 1 : 0x10));
                assert_int_equal(pwrite(fd, &changed, 1, i), 1);
                json_t *got = all_entries(dir);
                refused += !got;
                unread += got != NULL;
                if (got && !json_object_get(got, "text") && got_is_part_of(got, want))
                    lost++; /* a meta entry of another name: seen to be missing */
                else if (got && !json_equal(got, want))
                    fail_msg("a change of byte %d (%c) of the file went unnoticed", (int)i, bytes[i]);
                json_decref(got);
                assert_int_equal(pwrite(fd, &bytes[i], 1, i), 1);
            }
        }
    close(fd);
    assert_true(refused > 300 && unread < 3 * refused && lost < 10);
    json_decref(want);
    mem_free(bytes);
    mem_free(file);
}

/* Turns the cache into one of format 1: entries without checksums. */
static void make_old(const char *dir)
{
    MDB_env *env;
    MDB_txn *txn;
    static const char *const names[] = {"clips", "meta"};
    static const char *const keys[] = {"some-clip", "text"};
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 8);
    assert_int_equal(mdb_env_open(env, dir, 0, 0666), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    for (int i = 0; i < 2; i++) {
        MDB_dbi dbi;
        MDB_val k = {strlen(keys[i]), (void *)keys[i]}, v;
        assert_int_equal(mdb_dbi_open(txn, names[i], 0, &dbi), 0);
        assert_int_equal(mdb_get(txn, dbi, &k, &v), 0);
        char text[4096];
        assert_true(v.mv_size > 17 && v.mv_size < sizeof text);
        memcpy(text, v.mv_data, v.mv_size);
        assert_true(text[v.mv_size - 17] == '\n');
        MDB_val bare = {v.mv_size - 17, text};
        assert_int_equal(mdb_put(txn, dbi, &k, &bare, 0), 0);
        MDB_val f = {6, (void *)"format"}, one = {13, (void *)"{\"version\":1}"};
        if (i == 1)
            assert_int_equal(mdb_put(txn, dbi, &f, &one, 0), 0);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void old_caches_are_read_and_brought_up(void **state)
{
    Err err = {0};
    Cache *c = NULL;
    char *dir = small_cache("old");
    (void)state;
    json_t *now = all_entries(dir);
    make_old(dir);
    json_t *old = all_entries(dir);
    assert_non_null(old);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(old, "format"), "version")), 1);
    assert_true(json_equal(json_object_get(old, "some-clip"), json_object_get(now, "some-clip")));
    assert_true(json_equal(json_object_get(old, "text"), json_object_get(now, "text")));
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    cache_close(&c);
    json_t *again = all_entries(dir);
    /* an entry without a checksum is refused from now on, an old record is not */
    json_t *format = json_object_get(again, "format");
    assert_int_equal(json_integer_value(json_object_get(format, "version")), 3);
    assert_int_equal(json_integer_value(json_object_get(format, "records")), 1);
    json_object_set(again, "format", json_object_get(now, "format"));
    assert_true(json_equal(again, now));
    json_decref(now);
    json_decref(old);
    json_decref(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_at_each_moment),
        cmocka_unit_test(a_lost_record_is_damage),
        cmocka_unit_test(every_byte_of_an_entry_is_covered),
        cmocka_unit_test(old_caches_are_read_and_brought_up),
    };
    return check_run_live("verify", tests);
}
