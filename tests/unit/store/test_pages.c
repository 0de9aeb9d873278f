/* The page checker in front of LMDB: it accepts what LMDB writes, however often records come and
 * go, and with random damage of any page nothing crashes: the cache is refused with a sentence, or
 * it can be read and written to its end. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/store/cache.h"

enum { PAGE = 4096 };

static uint64_t random_state;

static int64_t below(int64_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((random_state >> 33) % (uint64_t)n);
}

static Digest key_of(int64_t i)
{
    Digest d = {{0}};
    uint64_t mixed = (uint64_t)i * 0x9E3779B97F4A7C15u;
    memcpy(d.byte, &mixed, sizeof mixed);
    return d;
}

static int put(Cache *c, int64_t i, int64_t n, Err *err)
{
    static int32_t ids[5000];
    Tensor t = tensor_of(ids, DT_I32, 1, n);
    Digest key = key_of(i);
    return cache_put_record(c, CACHE_TOKENS, &key, RECORD_TOKENS, &t, err);
}

static Cache *open_cache(const char *dir, CacheMode mode)
{
    Err err = {0};
    Cache *c = NULL;
    CHECK_OK(cache_open(&c, dir, mode, &err), &err);
    return c;
}

/* Grows trees of several levels, large values and a free list with holes. */
static void churn(const char *dir, int changes, int keys)
{
    Err err = {0};
    Cache *c = open_cache(dir, CACHE_WRITE);
    for (int i = 0; i < changes; i++) {
        int64_t which = below(keys);
        Digest key = key_of(which);
        if (below(3) > 0)
            CHECK_OK(put(c, which, 1 + (below(4) ? below(400) : below(5000)), &err), &err);
        else if (cache_delete_record(c, CACHE_TOKENS, &key, &err) < 0)
            CHECK_FAILS(err.code, ERR_NOTFOUND, "is not in", &err);
        if (i % 10 == 0) {
            cache_close(&c);
            c = open_cache(dir, i % 20 ? CACHE_READ : CACHE_WRITE); /* the checker looks at each of these states */
            cache_close(&c);
            c = open_cache(dir, CACHE_WRITE);
        }
    }
    cache_close(&c);
}

static void sound_files(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("churn");
    random_state = check_seed();
    churn(dir, 400, 150);
    Cache *c = open_cache(dir, CACHE_WRITE);
    for (int64_t i = 0; i < 150; i++) { /* down to empty trees */
        Digest key = key_of(i);
        if (cache_delete_record(c, CACHE_TOKENS, &key, &err) < 0)
            CHECK_FAILS(err.code, ERR_NOTFOUND, "is not in", &err);
    }
    cache_close(&c);
    c = open_cache(dir, CACHE_READ);
    cache_close(&c);
}

/* 1 when the cache opened and was used to its end. */
static int use(const char *dir)
{
    Err err = {0};
    Cache *c = NULL;
    CacheTxn *t = NULL;
    int rc = cache_open(&c, dir, CACHE_READ, &err);
    if (rc < 0) {
        assert_true(err.msg[0] != 0 && (rc == ERR_FORMAT || rc == ERR_UNSUPPORTED));
        return 0;
    }
    CHECK_OK(cache_begin(&t, c, &err), &err);
    int sound = cache_check_pages(t, &err);
    err_clear(&err);
    for (int db = CACHE_LATENTS; db <= CACHE_TOKENS; db++) {
        CacheCursor *cursor = NULL;
        Digest key;
        RecordView v;
        while ((rc = cache_next_record(t, (CacheDb)db, &cursor, &key, &v, 1, &err)) != 0) {
            assert_true(rc == 1 || rc == ERR_FORMAT || rc == ERR_UNSUPPORTED);
            err_clear(&err);
            rc = cache_look_record(t, (CacheDb)db, &key, &v, &err); /* by its own way through the tree */
            assert_true(rc == 1 || rc == 0 || rc == ERR_FORMAT || rc == ERR_UNSUPPORTED);
            err_clear(&err);
        }
    }
    cache_end(&t);
    cache_close(&c);
    if (sound < 0) { /* read as far as it goes, never written to */
        assert_int_equal(sound, ERR_FORMAT);
        CHECK_FAILS(cache_open(&c, dir, CACHE_WRITE, &err), ERR_FORMAT, "data.mdb is damaged", &err);
        return 0;
    }
    c = open_cache(dir, CACHE_WRITE);
    for (int64_t i = 0; i < 3; i++) {
        Digest key = key_of(below(60));
        int deleted = cache_delete_record(c, CACHE_TOKENS, &key, &err);
        assert_true(deleted == 0 || deleted == ERR_NOTFOUND);
        err_clear(&err);
        CHECK_OK(put(c, 1000 + i, 1 + below(3000), &err), &err);
    }
    cache_close(&c);
    return 1;
}

static void damage(char *b, int64_t *size)
{
    int64_t pages = *size / PAGE, p = below(pages) * PAGE, q = below(pages) * PAGE;
    char other[PAGE];
    switch (below(6)) {
    case 0:
        for (int i = 0; i < 3; i++)
            b[p + below(64)] = (char)below(256);
        break; /* a page's head and table */
    case 1:
        for (int i = 0; i < 8; i++)
            b[below(*size)] = (char)below(256);
        break;
    /* the heads */
    case 2:
        b[below(2 * PAGE)] ^= (char)(1 << below(8));
        b[16 + PAGE * below(2) + below(144)] = (char)below(256);
        break;
    case 3: *size = below(2) ? p : below(*size); break;
    case 4:
        memcpy(other, b + p, PAGE);
        memcpy(b + p, b + q, PAGE);
        memcpy(b + q, other, PAGE);
        break;
    default: b[p + below(PAGE)] ^= (char)(1 << below(8)); break;
    }
}

static void damaged_files(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("damaged"), *file = check_tmp_path("damaged/data.mdb"), *bytes = NULL;
    int64_t size = 0, refused = 0, used = 0;
    random_state = check_seed() + 1;
    churn(dir, 120, 60);
    CHECK_OK(file_read(file, 1 << 26, &bytes, &size, &err), &err);
    char *copy = malloc((size_t)size);
    assert_non_null(copy);
    for (int i = 0; i < 300; i++) {
        int64_t n = size;
        memcpy(copy, bytes, (size_t)size);
        damage(copy, &n);
        FILE *f = fopen(file, "wb");
        assert_true(f && fwrite(copy, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
        if (use(dir))
            used++;
        else
            refused++;
    }
    print_message("%lld refused, %lld used\n", (long long)refused, (long long)used);
    assert_true(refused > 80 && used > 20);
    free(copy);
    mem_free(bytes);
}

/* The header of a record is what the record says, wherever it stands. */
static void headers(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("headers");
    Cache *c = open_cache(dir, CACHE_WRITE);
    for (int64_t i = 0; i < 60; i++)
        CHECK_OK(put(c, i, 1 + 40 * i, &err), &err); /* in the leaf, and in pages of their own */
    CacheTxn *t = NULL;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    RecordView h, r;
    Digest key;
    for (int64_t i = 0; i < 60; i++) {
        key = key_of(i);
        assert_int_equal(cache_look_record(t, CACHE_TOKENS, &key, &h, &err), 1);
        assert_int_equal(cache_get_record(t, CACHE_TOKENS, &key, 1, &r, &err), 1);
        assert_null(h.tensor.data);
        assert_true(h.kind == r.kind && h.version == r.version && h.checksum == r.checksum);
        assert_true(h.tensor.dtype == DT_I32 && h.tensor.rank == 1 && h.tensor.dim[0] == 1 + 40 * i);
    }
    key = key_of(60);
    assert_int_equal(cache_look_record(t, CACHE_TOKENS, &key, &h, &err), 0);
    key = key_of(1);
    assert_int_equal(cache_look_record(t, CACHE_TEXT, &key, &h, &err), 0);
    cache_end(&t);
    cache_close(&c);
}

/* A page is taken as sound as long as it is kept, and no longer: what is read again is checked again. */
static void sound_for_a_while(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("while"), *file = check_tmp_path("while/data.mdb"), *bytes = NULL;
    Cache *c = open_cache(dir, CACHE_WRITE);
    CHECK_OK(put(c, 1, 10, &err), &err);
    cache_close(&c);
    c = open_cache(dir, CACHE_READ);
    CacheTxn *t = NULL;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    RecordView h;
    Digest key = key_of(1);
    assert_int_equal(cache_look_record(t, CACHE_TOKENS, &key, &h, &err), 1);
    int64_t size = 0;
    CHECK_OK(file_read(file, 1 << 26, &bytes, &size, &err), &err);
    FILE *f = fopen(file, "r+b");
    for (int64_t p = 2; p < size / PAGE; p++) { /* every page carries another number */
        fseek(f, p * PAGE, SEEK_SET);
        fputc(0x7f, f);
    }
    assert_int_equal(fclose(f), 0);
    int rc = 1, looks = 0;
    for (; rc == 1 && looks < 5000; looks++)
        rc = cache_look_record(t, CACHE_TOKENS, &key, &h, &err);
    CHECK_FAILS(rc, ERR_FORMAT, "carries the number", &err);
    assert_true(looks > 1);
    cache_end(&t);
    cache_close(&c);
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sound_files), cmocka_unit_test(damaged_files),
                                       cmocka_unit_test(headers), cmocka_unit_test(sound_for_a_while)};
    return check_run_live("store_pages", tests);
}
