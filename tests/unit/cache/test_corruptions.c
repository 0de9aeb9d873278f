/* Seeded corruptions of a small cache: flipped bits, overwritten bytes, cut files, exchanged records and
 * pages, records of another version, foreign files under our name.  Each is noticed on reading or by
 * verify, or changes nothing that a reader gets; nothing crashes, nothing hangs, and no other value is
 * ever handed out.  WEFT_CORRUPTIONS (400) of them; `make corruptions` tries 10,000. */
#include "check.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cache/verify.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
enum { PAGE = 4096, CLIPS = 6 };

static uint64_t state;

static int64_t below(int64_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)n);
}

static Digest key_of(int i)
{
    Digest d = {{(uint8_t)(i * 41), 7, (uint8_t)i}};
    return d;
}

static void put(Cache *c, CacheDb db, int i, RecordKind kind, DType dtype, int rank, const int64_t *dim)
{
    Err err = {0};
    static float values[4096];
    static int32_t ids[64];
    uint16_t *half = (uint16_t *)values;
    Digest key = key_of(i);
    Tensor t = tensor_view(dtype == DT_I32 ? (void *)ids : (void *)values, dtype, rank, dim);
    for (int64_t k = 0; k < tensor_count(&t); k++)
        if (dtype == DT_I32)
            ids[k] = (int32_t)(i + k);
        else if (dtype == DT_F16)
            half[k] = float_to_half((float)(i * 10 + k % 17));
        else
            values[k] = (float)(i * 100 + k % 97);
    CHECK_OK(cache_put_record(c, db, &key, kind, &t, &err), &err);
}

static void put_meta(Cache *c, const char *key, json_t *value)
{
    Err err = {0};
    assert_non_null(value);
    CHECK_OK(cache_put_meta(c, key, value, &err), &err);
    json_decref(value);
}

static void hex_of(int i, char hex[65])
{
    Digest d = key_of(i);
    digest_hex(&d, hex);
}

static char *make_cache(void)
{
    Err err = {0};
    Cache *c = NULL;
    char *dir = check_tmp_path("cache"), latents[65], text[65], tokens[65], empty[65];
    hex_of(30, empty);
    CHECK_OK(cache_open(&c, dir, CACHE_WRITE, &err), &err);
    put_meta(c, "vae",
             json_pack("{s:f, s:b, s:i, s:{}, s:s, s:n}", "scaling_factor", 1.15, "invert_scale_latents", 0,
                       "latent_channels", 4, "config", "weights_sha256", HEX64, "tiling"));
    put_meta(c, "text",
             json_pack("{s:i, s:i, s:{}, s:s, s:s, s:s}", "length", 8, "dim", 16, "config", "weights_sha256", HEX64,
                       "tokenizer_sha256", HEX64, "empty", empty));
    put_meta(c, "dataset",
             json_pack("{s:s, s:s, s:i, s:{s:i, s:i}}", "manifest_sha256", HEX64, "recipe_sha256", HEX64, "clips",
                       CLIPS, "shard", "index", 0, "count", 1));
    put(c, CACHE_TEXT, 30, RECORD_TEXT, DT_F16, 2, (const int64_t[]){8, 16});
    for (int i = 0; i < CLIPS; i++) {
        char id[16];
        put(c, CACHE_LATENTS, i, RECORD_MOMENTS, DT_F32, 4, (const int64_t[]){3, 8, 4, 8});
        put(c, CACHE_TEXT, 10 + i, RECORD_TEXT, DT_F16, 2, (const int64_t[]){8, 16});
        put(c, CACHE_TOKENS, 20 + i, RECORD_TOKENS, DT_I32, 1, (const int64_t[]){8});
        hex_of(i, latents);
        hex_of(10 + i, text);
        hex_of(20 + i, tokens);
        snprintf(id, sizeof id, "clip-%d", i);
        json_t *facts = json_pack(
            "{s:s, s:[s], s:[s], s:[s], s:s, s:n, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, "
            "s:s, s:s, s:s, s:s}",
            "latents", latents, "texts", text, "tokens", tokens, "captions", "A red dress.", "split", "train",
            "category", "attributes", "frames", 9, "height", 64, "width", 32, "fps", 8, "latent", "frames", 3, "height",
            8, "width", 4, "channels", 4, "pixels_sha256", HEX64, "file_sha256", HEX64, "vae_sha256", HEX64,
            "text_encoder_sha256", HEX64);
        assert_non_null(facts);
        CHECK_OK(cache_put_clip(c, id, facts, &err), &err);
        json_decref(facts);
    }
    put_meta(c, "rejected", json_object());
    cache_close(&c);
    return dir;
}

/* What a reader gets, item by item: 64 bits each, 0 for "refused or missing". */
enum { ITEMS = 3 * 31 + CLIPS + 5 + CLIPS };

/* The lines of `ls --json`. */
static void read_lines(CacheTxn *t, uint64_t got[CLIPS])
{
    CacheCursor *cursor = NULL;
    const char *id;
    JsonSpan line;
    int i, rc;
    while ((rc = cache_next_clip_text(t, &cursor, &id, &line, NULL)) == 1 || rc == ERR_FORMAT)
        if (rc == 1 && sscanf(id, "clip-%d", &i) == 1 && i >= 0 && i < CLIPS)
            got[i] = hash_xxh3(line.at, line.size);
    cache_cursor_free(&cursor);
}

static void read_all(const char *dir, uint64_t got[ITEMS])
{
    static const char *const metas[] = {"format", "vae", "text", "dataset", "rejected"};
    Cache *c = NULL;
    CacheTxn *t = NULL;
    int n = 0;
    memset(got, 0, ITEMS * sizeof *got);
    int rc = cache_open(&c, dir, CACHE_READ, NULL);
    if (rc == 0)
        rc = cache_begin(&t, c, NULL);
    for (int db = 0; rc == 0 && db < 3; db++)
        for (int i = 0; i < 31; i++, n++) {
            RecordView r;
            Digest key = key_of(i);
            if (cache_get_record(t, (CacheDb)db, &key, 1, &r, NULL) == 1)
                got[n] = hash_xxh3_seeded(r.tensor.data, tensor_bytes(&r.tensor),
                                          (uint64_t)r.kind + 16u * (uint64_t)r.tensor.dtype) ^
                         hash_xxh3(r.tensor.dim, r.tensor.rank * (int64_t)sizeof *r.tensor.dim);
        }
    for (int i = 0; rc == 0 && i < CLIPS + 5; i++, n++) {
        char id[16];
        json_t *value = NULL;
        snprintf(id, sizeof id, "clip-%d", i);
        if ((i < CLIPS ? cache_get_clip(t, id, &value, NULL) : cache_get_meta(t, metas[i - CLIPS], &value, NULL)) != 1)
            continue;
        char *text = json_canonical(value, NULL);
        got[n] = hash_xxh3(text, (int64_t)strlen(text));
        mem_free(text);
        json_decref(value);
    }
    if (rc == 0)
        read_lines(t, got + n);
    cache_end(&t);
    cache_close(&c);
}

static int verify_finds(const char *dir)
{
    Err err = {0};
    FILE *out = fopen("/dev/null", "w");
    int rc = cache_verify(&(VerifyParams){.dir = dir, .out = out}, &err);
    fclose(out);
    return rc != 0;
}

/* The place of record k in the file: where its "WEFT" stands. */
static int64_t record_at(const char *b, int64_t size, int64_t k)
{
    int64_t n = 0;
    for (int64_t i = 0; i + 48 < size; i++)
        if (memcmp(b + i, "WEFT", 4) == 0 && n++ == k)
            return i;
    return n > 0 ? record_at(b, size, k % n) : 0;
}

static void exchange(char *a, char *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        char x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

static const char *const kinds[] = {"flipped bit",       "overwritten bytes", "cut file",
                                    "exchanged records", "exchanged pages",   "record of another version",
                                    "foreign file",      "zeroed page",       "a record's header"};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void corrupt(int kind, char *b, int64_t *size)
{
    int64_t pages = *size / PAGE, p = record_at(b, *size, below(30)), q = record_at(b, *size, below(30));
    switch (kind) {
    case 0: b[below(*size)] ^= (char)(1 << below(8)); break;
    case 1:
        for (int64_t i = 1 + below(8), at = below(*size - 16); i > 0; i--)
            b[at + i] = (char)below(256);
        break;
    case 2: *size = below(*size); break;
    case 3: exchange(b + p, b + q, 304 < *size - (p > q ? p : q) ? 304 : 48); break;
    case 4: exchange(b + below(pages) * PAGE, b + below(pages) * PAGE, PAGE); break;
    case 5: b[p + 4] = (char)(below(2) ? 1 : 3 + below(250)); break;
    case 6: {
        static const char heads[][16] = {"SQLite format 3", "<!doctype html>", "PK\3\4", "{\"weights\":"};
        for (int64_t i = 0; i < *size; i++)
            b[i] = (char)below(256);
        memcpy(b, heads[below(4)], 8);
        break;
    }
    case 7: memset(b + below(pages) * PAGE, 0, PAGE); break;
    default: b[p + below(48)] ^= (char)(1 + below(255)); break;
    }
}

static void each_corruption_is_noticed(void **unused)
{
    (void)unused;
    Err err = {0};
    const char *asked = getenv("WEFT_CORRUPTIONS");
    int tries = asked ? atoi(asked) : 400, detected[KINDS] = {0}, harmless[KINDS] = {0};
    char *dir = make_cache(), *file = path_join(dir, "data.mdb", &err), *bytes = NULL;
    uint64_t want[ITEMS], got[ITEMS];
    int64_t size;
    state = check_seed();
    CHECK_OK(file_read(file, 1 << 26, &bytes, &size, &err), &err);
    read_all(dir, want);
    assert_false(verify_finds(dir));
    char *copy = malloc((size_t)size);
    assert_non_null(copy);
    for (int i = 0; i < tries; i++) {
        int kind = i % KINDS, missing = 0;
        int64_t n = size;
        memcpy(copy, bytes, (size_t)size);
        corrupt(kind, copy, &n);
        FILE *f = fopen(file, "wb");
        assert_true(f && fwrite(copy, 1, (size_t)n, f) == (size_t)n && fclose(f) == 0);
        read_all(dir, got);
        for (int k = 0; k < ITEMS; k++) {
            if (got[k] != 0 && got[k] != want[k])
                fail_msg("corruption %d (%s): item %d is another than was stored", i, kinds[kind], k);
            missing += got[k] != want[k];
        }
        int found = verify_finds(dir);
        if (missing > 0 && !found)
            fail_msg("corruption %d (%s): %d items are lost and verify does not notice", i, kinds[kind], missing);
        *(found ? &detected[kind] : &harmless[kind]) += 1;
        if (kind == 6 && !found)
            fail_msg("corruption %d: a foreign file is taken for a cache", i);
    }
    int all = 0, none = 0;
    for (int k = 0; k < KINDS; k++) {
        print_message("# %s: %d detected, %d without effect\n", kinds[k], detected[k], harmless[k]);
        all += detected[k];
        none += harmless[k];
    }
    print_message("# %d corruptions: %d detected, %d in bytes that nothing reads, 0 unnoticed\n", tries, all, none);
    assert_true(all > tries / 2);
    free(copy);
    mem_free(bytes);
    mem_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_corruption_is_noticed)};
    return check_run_live("cache_corruptions", tests);
}
