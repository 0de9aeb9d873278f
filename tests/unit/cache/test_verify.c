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
#include "cache/inspect.h"
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
    int rc = cache_verify(dir, out, &err);
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

/* A cache with a clip had its empty prompt's record once. */
static void a_lost_record_is_damage(void **state)
{
    Err err = {0};
    Cache *c = NULL;
    char said[4096];
    (void)state;
    char *dir = check_tmp_path("lost");
    put_text_meta(dir);
    json_t *facts = json_pack("{s:s, s:[s], s:[s], s:[s], s:s, s:n, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, "
                              "s:s, s:s, s:s, s:s}",
                              "latents", HEX64, "texts", HEX64, "tokens", HEX64, "captions", "red", "split", "train",
                              "category", "attributes", "frames", 9, "height", 32, "width", 16, "fps", 8, "latent",
                              "frames", 3, "height", 4, "width", 2, "channels", 4, "pixels_sha256", HEX64,
                              "file_sha256", HEX64, "vae_sha256", HEX64, "text_encoder_sha256", HEX64);
    assert_non_null(facts);
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    CHECK_OK(cache_put_clip(c, "a", facts, &err), &err);
    cache_close(&c);
    json_decref(facts);
    assert_int_equal(verify(dir, said, sizeof said), 1);
    assert_non_null(strstr(said, "damaged: the empty prompt: its text record is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_at_each_moment),
        cmocka_unit_test(a_lost_record_is_damage),
    };
    return check_run("verify", tests);
}
