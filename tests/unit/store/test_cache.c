/* The LMDB cache: records through writing, reopening, growth, several readers, a killed writer;
 * torn, foreign and damaged files. */
#include "tests/unit/store/cache_case.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache_internal.h"

static Digest key_of(int i)
{
    Digest d = {{0}};
    memcpy(d.byte, &i, sizeof i);
    d.byte[31] = 7;
    return d;
}

/* A moments record [2,h,3,4] whose elements follow from `i`. */
static Tensor make_moments(int i, int64_t h)
{
    Tensor t = tensor_of(NULL, DT_F32, 4, 2, h, 3, 4);
    float *p = malloc((size_t)tensor_bytes(&t));
    for (int64_t k = 0; k < tensor_count(&t); k++)
        p[k] = (float)(i * 1000 + k % 997);
    t.data = p;
    return t;
}

static void put_moments(Cache *c, int i, int64_t h)
{
    Err err = {0};
    Tensor t = make_moments(i, h);
    Digest key = key_of(i);
    CHECK_OK(cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &t, &err), &err);
    free(t.data);
}

static void expect_moments(CacheTxn *txn, int i, int64_t h)
{
    Err err = {0};
    Tensor want = make_moments(i, h);
    Digest key = key_of(i);
    RecordView v;
    int rc = cache_get_record(txn, CACHE_LATENTS, &key, 1, &v, &err);
    CHECK_OK(rc, &err);
    assert_int_equal(rc, 1);
    assert_int_equal(v.kind, RECORD_MOMENTS);
    assert_true(tensor_same_shape(&v.tensor, &want));
    assert_int_equal((uintptr_t)v.tensor.data % 64, 0);
    assert_memory_equal(v.tensor.data, want.data, (size_t)tensor_bytes(&want));
    free(want.data);
}

static void writes_and_reopens(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("basic");
    Cache *c = open_cache(dir, CACHE_WRITE);
    put_moments(c, 3, 200);
    put_moments(c, 1, 5);
    put_moments(c, 2, 200);
    int32_t ids[226] = {37, 3270, 1};
    uint16_t half[6] = {0x3C00, 0, 1, 2, 3, 4};
    Tensor tokens = tensor_of(ids, DT_I32, 1, 226), text = tensor_of(half, DT_F16, 2, 2, 3);
    Digest kt = key_of(50), kx = key_of(51);
    CHECK_OK(cache_put_record(c, CACHE_TOKENS, &kt, RECORD_TOKENS, &tokens, &err), &err);
    CHECK_OK(cache_put_record(c, CACHE_TEXT, &kx, RECORD_TEXT, &text, &err), &err);
    json_t *a = clip_facts("first"), *b = clip_facts("second \xC3\xA9");
    CHECK_OK(cache_put_clip(c, "b/\xC3\xA9", b, &err), &err);
    CHECK_OK(cache_put_clip(c, "a", b, &err), &err);
    CHECK_OK(cache_put_clip(c, "a", a, &err), &err); /* replaced */
    json_t *bad = json_pack("{s:s}", "latents", "x");
    CHECK_FAILS(cache_put_clip(c, "a", bad, &err), ERR_FORMAT, "cache clip 'a'", &err);
    CHECK_FAILS(cache_put_meta(c, "vae", bad, &err), ERR_FORMAT, "vae", &err);
    CHECK_FAILS(cache_put_meta(c, "other", bad, &err), ERR_FORMAT, "other", &err);
    json_decref(bad);
    CHECK_FAILS(cache_put_clip(c, "", a, &err), ERR_USAGE, "1 to 511", &err);
    text.rank = 1;
    CHECK_FAILS(cache_put_record(c, CACHE_TEXT, &kx, RECORD_TEXT, &text, &err), ERR_FORMAT,
                "kind 3 cannot hold F16 [2]", &err);
    Cache *second = NULL; /* same process, other handle of the lock file: refused all the same */
    CHECK_FAILS(cache_open(&second, dir, CACHE_WRITE, &err), ERR_LIMIT, "another process", &err);
    cache_close(&c);
    cache_close(&c);

    c = open_cache(dir, CACHE_READ);
    CacheTxn *t = NULL;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    expect_moments(t, 1, 5);
    expect_moments(t, 2, 200);
    expect_moments(t, 3, 200);
    RecordView v;
    Digest absent = key_of(99), key;
    assert_int_equal(cache_get_record(t, CACHE_LATENTS, &absent, 1, &v, &err), 0);
    assert_int_equal(cache_get_record(t, CACHE_TOKENS, &kt, 1, &v, &err), 1); /* inline: lies anywhere, comes aligned */
    assert_int_equal((uintptr_t)v.tensor.data % 64, 0);
    assert_memory_equal(v.tensor.data, ids, sizeof ids);
    assert_int_equal(cache_get_record(t, CACHE_TEXT, &kx, 1, &v, &err), 1);
    assert_int_equal((uintptr_t)v.tensor.data % 64, 0);
    assert_memory_equal(v.tensor.data, half, sizeof half);

    CacheCursor *cur = NULL;
    int n = 0;
    while (cache_next_record(t, CACHE_LATENTS, &cur, &key, &v, 1, &err) == 1) {
        n++;
        assert_int_equal(key.byte[0], n); /* key order */
    }
    assert_int_equal(n, 3);
    assert_null(cur);
    const char *id;
    json_t *facts;
    assert_int_equal(cache_next_clip(t, &cur, &id, &facts, &err), 1);
    assert_string_equal(id, "a");
    assert_true(json_equal(facts, a));
    json_decref(facts);
    cache_cursor_free(&cur);
    assert_int_equal(cache_get_clip(t, "b/\xC3\xA9", &facts, &err), 1);
    assert_true(json_equal(facts, b));
    json_decref(facts);
    assert_int_equal(cache_get_clip(t, "c", &facts, &err), 0);
    CacheStat st;
    CHECK_OK(cache_stat(t, &st, &err), &err);
    assert_int_equal(st.latents, 3);
    assert_int_equal(st.clips, 2);
    assert_int_equal(st.tokens, 1);
    assert_int_equal(st.text, 1);
    assert_int_equal(st.meta, 1);
    cache_end(&t);
    cache_end(&t);
    cache_close(&c);

    c = open_cache(dir, CACHE_WRITE);
    key = key_of(2);
    CHECK_OK(cache_delete_record(c, CACHE_LATENTS, &key, &err), &err);
    CHECK_FAILS(cache_delete_record(c, CACHE_LATENTS, &key, &err), ERR_NOTFOUND, "latents 02000000", &err);
    CHECK_OK(cache_delete_clip(c, "a", &err), &err);
    CHECK_FAILS(cache_delete_clip(c, "a", &err), ERR_NOTFOUND, "clip 'a'", &err);
    cache_close(&c);
    json_decref(a);
    json_decref(b);
}

static void map_grows(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("grow");
    Cache *c = open_cache(dir, CACHE_WRITE);
    CacheTxn *t = NULL;
    CacheStat before, after;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    CHECK_OK(cache_stat(t, &before, &err), &err);
    /* grows while a transaction is open here */
    Tensor big = make_moments(7, 70000); /* 6.7 MB; the third does not fit */
    put_moments(c, 6, 50);
    cache_end(&t);
    CHECK_OK(cache_begin(&t, c, &err), &err);
    Digest key = key_of(7);
    CHECK_OK(cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &big, &err), &err);
    key = key_of(8);
    CHECK_OK(cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &big, &err), &err);
    key = key_of(9);
    CHECK_OK(cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &big, &err), &err);
    free(big.data);
    expect_moments(t, 6, 50);
    assert_int_equal(cache_get_record(t, CACHE_LATENTS, &key, 1, &(RecordView){0}, &err), 0); /* it came later */
    cache_end(&t);
    put_moments(c, 10, 500000); /* larger than twice the map: several doublings at once */
    CHECK_OK(cache_begin(&t, c, &err), &err);
    CHECK_OK(cache_stat(t, &after, &err), &err);
    assert_true(after.map_bytes > 2 * before.map_bytes);
    expect_moments(t, 10, 500000);
    cache_end(&t);
    cache_close(&c);
    c = open_cache(dir, CACHE_WRITE); /* as large as it was: no growth for one more */
    CHECK_OK(cache_begin(&t, c, &err), &err);
    CHECK_OK(cache_stat(t, &before, &err), &err);
    assert_int_equal(before.map_bytes, after.map_bytes);
    assert_int_equal(before.latents, 5);
    cache_end(&t);
    cache_close(&c);
}

static int64_t stored_latents(Cache *c)
{
    Err err = {0};
    CacheTxn *t = NULL;
    CacheStat stat;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    CHECK_OK(cache_stat(t, &stat, &err), &err);
    cache_end(&t);
    return stat.latents;
}

static void batches_are_whole(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("batch");
    Cache *c = open_cache(dir, CACHE_WRITE);
    Digest key = key_of(2);
    cache_batch(c, 4 << 20);
    put_moments(c, 1, 20000); /* 1.9 MB each */
    put_moments(c, 2, 20000);
    assert_int_equal(stored_latents(c), 0);
    put_moments(c, 3, 20000); /* 4 MB are full */
    assert_int_equal(stored_latents(c), 3);
    CHECK_OK(cache_delete_record(c, CACHE_LATENTS, &key, &err), &err);
    put_moments(c, 4, 5);
    assert_int_equal(stored_latents(c), 3);
    CHECK_OK(cache_commit(c, &err), &err);
    CHECK_OK(cache_commit(c, &err), &err);
    assert_int_equal(stored_latents(c), 3);
    cache_batch(c, 64 << 20); /* larger than LMDB's map */
    for (int i = 5; i < 20; i++)
        put_moments(c, i, 20000);
    assert_int_equal(stored_latents(c), 3);
    CHECK_OK(cache_commit(c, &err), &err);
    assert_int_equal(stored_latents(c), 18);
    put_moments(c, 30, 5);
    CHECK_OK(cache_delete_record(c, CACHE_LATENTS, &key, &err), &err); /* not there: the batch is dropped whole */
    CHECK_FAILS(cache_commit(c, &err), ERR_NOTFOUND, "is not in", &err);
    assert_int_equal(stored_latents(c), 18);
    cache_batch(c, 4 * 4096); /* small ones count as pages */
    for (int i = 40; i < 43; i++)
        put_moments(c, i, 5);
    assert_int_equal(stored_latents(c), 18);
    put_moments(c, 43, 5);
    assert_int_equal(stored_latents(c), 22);
    put_moments(c, 31, 5);
    cache_close(&c); /* dropped */
    c = open_cache(dir, CACHE_READ);
    assert_int_equal(stored_latents(c), 22);
    cache_close(&c);
}

/* ---- other processes ------------------------------------------------------------------------- */

/* Runs f in a child; returns its exit status (or -signal). */
static int in_child(int (*f)(const char *dir), const char *dir)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(f(dir));
    int st;
    assert_int_equal(waitpid(pid, &st, 0), pid);
    return WIFSIGNALED(st) ? -WTERMSIG(st) : WEXITSTATUS(st);
}

static int write_many(const char *dir)
{
    Cache *c;
    Err err = {0};
    if (cache_open(&c, dir, CACHE_WRITE, &err) < 0)
        return 1;
    for (int i = 1; i <= 24; i++) {
        Tensor t = make_moments(i, 20000); /* 1.9 MB each: the map grows under the readers */
        Digest key = key_of(i);
        int rc = cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &t, &err);
        free(t.data);
        if (rc < 0)
            return 2;
    }
    cache_close(&c);
    return 0;
}

typedef struct Reader {
    Cache *cache;
    int failed;
    int64_t seen;
} Reader;

/* Short transactions until all 24 are there; whatever is there must be whole. */
static void *read_until_done(void *arg)
{
    Reader *r = arg;
    Err err = {0};
    while (!r->failed && r->seen < 24) {
        CacheTxn *t = NULL;
        CacheCursor *cur = NULL;
        Digest key;
        RecordView v;
        int rc;
        r->seen = 0;
        err_clear(&err);
        rc = cache_begin(&t, r->cache, &err);
        while (rc >= 0 && (rc = cache_next_record(t, CACHE_LATENTS, &cur, &key, &v, 1, &err)) == 1)
            r->seen++;
        if (rc < 0) {
            print_message("# %s\n", err.msg);
            r->failed = 1;
        }
        cache_end(&t);
    }
    return NULL;
}

enum { READERS = 10 };
static void ten_readers_and_a_writer(void **state)
{
    (void)state;
    char *dir = check_tmp_path("readers");
    Cache *c = open_cache(dir, CACHE_WRITE);
    cache_close(&c);
    pid_t pid = fork(); /* before the environment is opened here */
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(write_many(dir));
    c = open_cache(dir, CACHE_READ);
    Reader r[READERS];
    pthread_t th[READERS];
    for (int i = 0; i < READERS; i++) {
        r[i] = (Reader){c, 0, 0};
        assert_int_equal(pthread_create(&th[i], NULL, read_until_done, &r[i]), 0);
    }
    int st;
    assert_int_equal(waitpid(pid, &st, 0), pid);
    if (st != 0)
        for (int i = 0; i < READERS; i++)
            r[i].failed = 1;
    assert_int_equal(st, 0);
    for (int i = 0; i < READERS; i++) {
        pthread_join(th[i], NULL);
        assert_int_equal(r[i].failed, 0);
    }
    cache_close(&c);
}

static void killed_writer(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("killed");
    int64_t kept = 0;
    for (int round = 0; round < 6; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(write_many(dir));
        usleep(3000u + 7000u * (unsigned)round);
        kill(pid, SIGKILL);
        int st;
        waitpid(pid, &st, 0);
        Cache *c = open_cache(dir, CACHE_WRITE); /* the dead writer's locks do not stand in the way */
        CacheTxn *t = NULL;
        CacheStat stat;
        CHECK_OK(cache_begin(&t, c, &err), &err);
        CHECK_OK(cache_stat(t, &stat, &err), &err);
        assert_true(stat.latents >= kept); /* what was committed stays */
        kept = stat.latents;
        for (int i = 1; i <= kept; i++)
            expect_moments(t, i, 20000);
        cache_end(&t);
        cache_close(&c);
    }
    assert_int_equal(in_child(write_many, dir), 0);
}

static int write_with_little_room(const char *dir)
{
    struct rlimit lim = {5 << 20, 5 << 20};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &lim);
    Cache *c;
    Err err = {0};
    if (cache_open(&c, dir, CACHE_WRITE, &err) < 0)
        return 1;
    int rc = 0, i = 1;
    for (; rc == 0 && i <= 24; i++) {
        Tensor t = make_moments(i, 20000);
        Digest key = key_of(i);
        rc = cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &t, &err);
        free(t.data);
    }
    cache_close(&c);
    return (rc == ERR_LIMIT || rc == ERR_IO) && strstr(err.msg, "intact") ? 100 + i - 2 : 2; /* 100 + records stored */
}

static void no_room(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("full");
    int stored = in_child(write_with_little_room, dir) - 100;
    assert_true(stored >= 1 && stored <= 2);
    Cache *c = open_cache(dir, CACHE_READ);
    CacheTxn *t = NULL;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    for (int i = 1; i <= stored; i++)
        expect_moments(t, i, 20000);
    cache_end(&t);
    cache_close(&c);
    assert_int_equal(in_child(write_many, dir), 0); /* with room again */
}

/* ---- bad files ------------------------------------------------------------------------------- */

static void torn_and_foreign(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c = NULL;
    char *dir = check_tmp_path("torn"), *file = check_tmp_path("torn/data.mdb");
    CHECK_FAILS(cache_open(&c, dir, CACHE_READ, &err), ERR_NOTFOUND, "torn", &err);
    assert_int_equal(in_child(write_many, dir), 0);
    int64_t size = file_size(file, &err);
    assert_int_equal(truncate(file, size - 4096), 0);
    CHECK_FAILS(cache_open(&c, dir, CACHE_READ, &err), ERR_FORMAT, "data.mdb is cut short: it has", &err);
    CHECK_FAILS(cache_open(&c, dir, CACHE_WRITE, &err), ERR_FORMAT, "data.mdb is cut short: it has", &err);
    for (int64_t cut = 8192; cut > 0; cut -= 1365) {
        assert_int_equal(truncate(file, cut), 0);
        assert_int_equal(cache_open(&c, dir, CACHE_READ, &err), ERR_FORMAT);
        err_clear(&err);
    }
    static const char html[] = "<html><body>404 Not Found</body></html>";
    char page[8192] = {0};
    memcpy(page, html, sizeof html);
    CHECK_OK(file_write_atomic(file, html, sizeof html, &err), &err);
    CHECK_FAILS(cache_open(&c, dir, CACHE_READ, &err), ERR_FORMAT, "not a cache", &err);
    CHECK_OK(file_write_atomic(file, page, sizeof page, &err), &err);
    CHECK_FAILS(cache_open(&c, dir, CACHE_WRITE, &err), ERR_FORMAT, "not a cache", &err);
    CHECK_OK(file_write_atomic(file, "", 0, &err), &err);
    CHECK_FAILS(cache_open(&c, dir, CACHE_READ, &err), ERR_FORMAT, "a build was stopped before it stored anything",
                &err);
    assert_null(c);
}

static void flipped_byte(void **state)
{
    (void)state;
    Err err = {0};
    char *dir = check_tmp_path("flip"), *file = check_tmp_path("flip/data.mdb"), *bytes = NULL;
    Cache *c = open_cache(dir, CACHE_WRITE);
    put_moments(c, 1, 200);
    cache_close(&c);
    int64_t size = 0;
    CHECK_OK(file_read(file, 1 << 26, &bytes, &size, &err), &err);
    char *at = memmem(bytes, (size_t)size, "WEFT", 4);
    assert_non_null(at);
    at[RECORD_HEADER_SIZE + 100] ^= 4;
    CHECK_OK(file_write_atomic(file, bytes, size, &err), &err);
    mem_free(bytes);
    c = open_cache(dir, CACHE_READ);
    CacheTxn *t = NULL;
    CHECK_OK(cache_begin(&t, c, &err), &err);
    Digest key = key_of(1), found;
    RecordView v;
    CHECK_FAILS(cache_get_record(t, CACHE_LATENTS, &key, 1, &v, &err), ERR_FORMAT, "latents 01000000", &err);
    assert_int_equal(cache_get_record(t, CACHE_LATENTS, &key, 0, &v, &err), 1);
    CacheCursor *cur = NULL;
    CHECK_FAILS(cache_next_record(t, CACHE_LATENTS, &cur, &found, &v, 1, &err), ERR_FORMAT, "checksum", &err);
    assert_memory_equal(&found, &key, sizeof key);
    assert_int_equal(cache_next_record(t, CACHE_LATENTS, &cur, &found, &v, 1, &err), 0); /* goes on behind it */
    cache_end(&t);
    cache_close(&c);
}

/* Small records lie anywhere: one that is only looked at is not copied. */
static void looks_without_keeping(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c = open_cache(check_tmp_path("look"), CACHE_WRITE);
    CacheTxn *t = NULL;
    RecordView v;
    for (int i = 0; i < 8; i++)
        put_moments(c, i, 1);
    CHECK_OK(cache_begin(&t, c, &err), &err);
    int64_t live = mem_live();
    for (int i = 0; i < 9; i++) {
        Digest key = key_of(i);
        assert_int_equal(cache_look_record(t, CACHE_LATENTS, &key, &v, &err), i < 8);
        assert_null(v.tensor.data);
        if (i < 8)
            assert_int_equal(tensor_count(&v.tensor), 24);
    }
    assert_int_equal(mem_live(), live);
    cache_end(&t);
    cache_close(&c);
}

static void record_headers(void **state)
{
    (void)state;
    Err err = {0};
    float data[16] = {1, 2, 3};
    uint8_t r[RECORD_HEADER_SIZE + sizeof data];
    Tensor t = tensor_of(data, DT_F32, 4, 1, 2, 2, 4);
    Digest k = key_of(3), other = key_of(4);
    record_header_encode(r, RECORD_MOMENTS, &t, &k);
    memcpy(r + RECORD_HEADER_SIZE, data, sizeof data);
    /* the layout that the header promises */
    assert_memory_equal(r, "WEFT\2\0\0\0\1\4\0\0\1\0\0\0\2\0\0\0\2\0\0\0\4\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0", 40);
    RecordView v;
    CHECK_OK(record_decode(&v, r, sizeof r, &k, "x", &err), &err);
    assert_int_equal(v.tensor.dim[3], 4);
    /* the checksum covers the key and the header: an exchanged record, two extents that change places */
    CHECK_FAILS(record_decode(&v, r, sizeof r, &other, "x", &err), ERR_FORMAT, "checksum", &err);
    r[12] = 2, r[16] = 1;
    CHECK_FAILS(record_decode(&v, r, sizeof r, &k, "x", &err), ERR_FORMAT, "checksum", &err);
    r[12] = 1, r[16] = 2;
    uint64_t plain = hash_xxh3(data, sizeof data); /* version 1: the payload alone */
    uint8_t old[sizeof r];
    memcpy(old, r, sizeof r);
    old[4] = 1;
    memcpy(old + 40, &plain, sizeof plain);
    CHECK_OK(record_decode(&v, old, sizeof old, &k, "x", &err), &err);
    assert_int_equal(v.version, 1);
    static const struct {
        int at;
        uint8_t value;
        int code;
        const char *part;
    } bad[] = {
        {0, 'w', ERR_FORMAT, "magic"},
        {4, 3, ERR_UNSUPPORTED, "version 3"},
        {4, 0, ERR_UNSUPPORTED, "version 0"},
        {4, 1, ERR_FORMAT, "checksum"}, /* what version 1 covers is not the same */
        {5, 1, ERR_UNSUPPORTED, "version 258"},
        {6, 200, ERR_FORMAT, "dtype 200"},
        {6, 9, ERR_FORMAT, "cannot hold I32"},
        {7, 1, ERR_FORMAT, "dtype 256"},
        {8, 0, ERR_FORMAT, "kind 0"},
        {8, 3, ERR_FORMAT, "kind 3"},
        {8, 99, ERR_FORMAT, "kind 99"},
        {9, 3, ERR_FORMAT, "unused dimension 4"},
        {9, 6, ERR_FORMAT, "rank 6"},
        {10, 1, ERR_FORMAT, "damaged header"},
        {12, 2, ERR_FORMAT, "needs 128 bytes"},
        {15, 255, ERR_FORMAT, "needs"},
        {28, 1, ERR_FORMAT, "unused dimension 1"},
        {32, 65, ERR_FORMAT, "says 65"},
        {39, 128, ERR_FORMAT, "says"},
        {40, 0x5A, ERR_FORMAT, "checksum"},
        {RECORD_HEADER_SIZE, 1, ERR_FORMAT, "checksum"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t was = r[bad[i].at];
        r[bad[i].at] = bad[i].value;
        CHECK_FAILS(record_decode(&v, r, sizeof r, &k, "x", &err), bad[i].code, bad[i].part, &err);
        r[bad[i].at] = was;
    }
    for (int64_t n = 0; n < (int64_t)sizeof r; n++) {
        assert_int_equal(record_decode(&v, r, n, &k, "x", &err), ERR_FORMAT);
        err_clear(&err);
    }
    memset(r + 12, 0xFF, 16); /* a shape whose product overflows */
    CHECK_FAILS(record_decode(&v, r, sizeof r, &k, "x", &err), ERR_FORMAT, "overflows", &err);
}

static void content_keys(void **state)
{
    (void)state;
    Err err = {0};
    Digest a, b, c;
    json_t *x = json_pack("{s:i, s:s}", "frames", 9, "kind", "latents"),
           *y = json_pack("{s:s, s:i}", "kind", "latents", "frames", 9);
    CHECK_OK(cache_key(&a, x, &err), &err);
    CHECK_OK(cache_key(&b, y, &err), &err);
    assert_memory_equal(&a, &b, sizeof a); /* order does not matter */
    json_object_set_new(y, "frames", json_integer(10));
    CHECK_OK(cache_key(&c, y, &err), &err);
    assert_memory_not_equal(&a, &c, sizeof a);
    json_decref(x);
    json_decref(y);
}

/* ---- readers that cannot use LMDB's lock ----------------------------------------------------- */

static char *finished_cache(const char *name)
{
    char *dir = check_tmp_path(name);
    Cache *c = open_cache(dir, CACHE_WRITE);
    put_moments(c, 1, 20);
    cache_close(&c);
    return dir;
}

/* In this process or a child: the cache is read, and cache_unlocked says why without a lock.  Exit
 * statuses of a child: 0 as it should be. */
static int reads_unlocked(const char *dir)
{
    Err err = {0};
    Cache *c = NULL;
    CacheTxn *txn = NULL;
    RecordView v;
    Digest key = key_of(1);
    if (cache_open(&c, dir, CACHE_READ, &err) < 0 || !cache_unlocked(c) || cache_begin(&txn, c, &err) < 0 ||
        cache_get_record(txn, CACHE_LATENTS, &key, 1, &v, &err) != 1) {
        print_message("# %s\n", err.msg[0] ? err.msg : "the lock was used");
        return 1;
    }
    cache_end(&txn);
    cache_close(&c);
    return 0;
}

static void lock_is_used_where_it_can(void **state)
{
    (void)state;
    Cache *c = open_cache(finished_cache("locked"), CACHE_READ);
    assert_null(cache_unlocked(c));
    cache_close(&c);
}

/* LMDB marks a live reader by locking the byte of its process id in lock.mdb.  A process with the
 * same id in another container holds that byte: here a child does. */
static void same_process_id_elsewhere(void **state)
{
    (void)state;
    char *dir = finished_cache("same-pid"), path[1024];
    pid_t reader = getpid(), child;
    int ready[2], done[2];
    char byte = 0;
    snprintf(path, sizeof path, "%s/lock.mdb", dir);
    assert_int_equal(pipe(ready) | pipe(done), 0);
    if ((child = fork()) == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = reader, .l_len = 1};
        close(done[1]); /* so that this child ends with its parent */
        int fd = open(path, O_RDWR);
        byte = fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0;
        if (write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    assert_int_equal(reads_unlocked(dir), 0);

    /* a writer at work: reading without a lock would see pages change */
    Err err = {0};
    DirLock lock = {0};
    Cache *c = NULL;
    CHECK_OK(dir_lock(&lock, dir, &err), &err);
    CHECK_FAILS(cache_open(&c, dir, CACHE_READ, &err), ERR_LIMIT, "is being written", &err);
    dir_unlock(&lock);
    assert_int_equal(write(done[1], "x", 1), 1);
    waitpid(child, NULL, 0);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(done[i]);
    }
}

/* A folder that another user owns, who lets us read it. */
static void folder_of_another_user(void **state)
{
    (void)state;
    char *dir = finished_cache("other-user"), path[1024];
    snprintf(path, sizeof path, "%s/lock.mdb", dir);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    assert_int_equal(chmod(check_tmp(), 0755), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(geteuid() == 0 && setuid(65534) != 0 ? 2 : reads_unlocked(dir));
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_fifo_is_no_cache(void **state)
{
    (void)state;
    Err err = {0};
    Cache *c = NULL;
    char *dir = check_tmp_path("fifo"), path[1024];
    CHECK_OK(dir_make(dir, &err), &err);
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    CHECK_FAILS(cache_open(&c, dir, CACHE_READ, &err), ERR_FORMAT, "data.mdb", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reopens),
        cmocka_unit_test(map_grows),
        cmocka_unit_test(batches_are_whole),
        cmocka_unit_test(ten_readers_and_a_writer),
        cmocka_unit_test(killed_writer),
        cmocka_unit_test(no_room),
        cmocka_unit_test(torn_and_foreign),
        cmocka_unit_test(flipped_byte),
        cmocka_unit_test(looks_without_keeping),
        cmocka_unit_test(record_headers),
        cmocka_unit_test(lock_is_used_where_it_can),
        cmocka_unit_test(same_process_id_elsewhere),
        cmocka_unit_test(folder_of_another_user),
        cmocka_unit_test(a_fifo_is_no_cache),
        cmocka_unit_test(content_keys),
    };
    return check_run_live("store_cache", tests);
}
