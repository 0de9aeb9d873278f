/* A cache of many small clips, and one of full-size records: what opening, ls, verify, stats, gc and
 * weft-train's opening cost in time and memory, and how fast full-size records are read.
 *
 *   build/release/tests/bench/bench_cache [CLIPS...]     default 2000 8000 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cache/gc.h"
#include "cache/inspect.h"
#include "cache/stats.h"
#include "cache/verify.h"
#include "common/base/file.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/store/cache.h"
#include "train/dataset.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
enum { BIG = 100 };

static char dir[256];

static void die(const char *what, const Err *err)
{
    fprintf(stderr, "bench_cache: %s: %s\n", what, err->msg);
    err_ignore(dir_remove(dir, NULL));
    exit(1);
}

static Digest key_of(int64_t i, int kind)
{
    Digest d;
    char text[64];
    snprintf(text, sizeof text, "%d %lld", kind, (long long)i);
    if (sha256_bytes(text, (int64_t)strlen(text), &d, NULL) < 0)
        abort();
    return d;
}

static void hex_of(int64_t i, int kind, char hex[65])
{
    Digest d = key_of(i, kind);
    digest_hex(&d, hex);
}

static int put_clip(Cache *c, int64_t i, const float *values, const int32_t *ids, Err *err)
{
    char latents[65], text[65], tokens[65], id[32];
    Tensor moments = tensor_of((void *)values, DT_F32, 4, 3, 6, 4, 8),
           embedding = tensor_of((void *)values, DT_F32, 2, 8, 32), padded = tensor_of((void *)ids, DT_I32, 1, 8);
    Digest kl = key_of(i, 0), kt = key_of(i, 1), kk = key_of(i, 2);
    hex_of(i, 0, latents);
    hex_of(i, 1, text);
    hex_of(i, 2, tokens);
    snprintf(id, sizeof id, "clip-%07lld", (long long)i);
    int rc = cache_put_record(c, CACHE_LATENTS, &kl, RECORD_MOMENTS, &moments, err);
    if (rc == 0)
        rc = cache_put_record(c, CACHE_TEXT, &kt, RECORD_TEXT, &embedding, err);
    if (rc == 0)
        rc = cache_put_record(c, CACHE_TOKENS, &kk, RECORD_TOKENS, &padded, err);
    json_t *facts = json_pack("{s:s, s:[s], s:[s], s:[s], s:s, s:s, s:{}, s:i, s:i, s:i, s:i, s:{s:i, s:i, s:i, s:i}, "
                              "s:s, s:s, s:s, s:s}",
                              "latents", latents, "texts", text, "tokens", tokens, "captions",
                              "A woman in a red dress turns to the right.", "split", "train", "category", "dress",
                              "attributes", "frames", 9, "height", 48, "width", 32, "fps", 8, "latent", "frames", 3,
                              "height", 6, "width", 4, "channels", 4, "pixels_sha256", HEX64, "file_sha256", HEX64,
                              "vae_sha256", HEX64, "text_encoder_sha256", HEX64);
    if (rc == 0)
        rc = cache_put_clip(c, id, facts, err);
    json_decref(facts);
    return rc;
}

static int put_meta(Cache *c, const char *key, json_t *value, Err *err)
{
    int rc = cache_put_meta(c, key, value, err);
    json_decref(value);
    return rc;
}

static void make(int64_t n)
{
    Err err = {0};
    Cache *c = NULL;
    static float values[1024];
    static int32_t ids[8];
    char empty[65];
    hex_of(0, 1, empty);
    for (int i = 0; i < 1024; i++)
        values[i] = (float)(i % 13) / 13;
    int rc = cache_open(&c, dir, CACHE_WRITE, &err);
    if (rc == 0)
        cache_batch(c, 32 << 20);
    if (rc == 0)
        rc = put_meta(c, "vae",
                      json_pack("{s:f, s:b, s:i, s:{}, s:s, s:n}", "scaling_factor", 1.15, "invert_scale_latents", 0,
                                "latent_channels", 4, "config", "weights_sha256", HEX64, "tiling"),
                      &err);
    if (rc == 0)
        rc = put_meta(c, "text",
                      json_pack("{s:i, s:i, s:{}, s:s, s:s, s:s}", "length", 8, "dim", 32, "config", "weights_sha256",
                                HEX64, "tokenizer_sha256", HEX64, "empty", empty),
                      &err);
    if (rc == 0)
        rc = put_meta(c, "dataset",
                      json_pack("{s:s, s:s, s:I, s:{s:i, s:i}}", "manifest_sha256", HEX64, "recipe_sha256", HEX64,
                                "clips", (json_int_t)n, "shard", "index", 0, "count", 1),
                      &err);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        rc = put_clip(c, i, values, ids, &err);
    if (rc == 0)
        rc = put_meta(c, "rejected", json_object(), &err);
    if (rc == 0)
        rc = cache_commit(c, &err);
    cache_close(&c);
    if (rc < 0)
        die("making the cache", &err);
}

/* So that this process stays small, and its children with it. */
static void make_in_a_child(int64_t n)
{
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        make(n);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        exit(1);
}

static int open_it(FILE *out, Err *err)
{
    Cache *c = NULL;
    CacheTxn *t = NULL;
    (void)out;
    int rc = cache_open(&c, dir, CACHE_READ, err);
    if (rc == 0)
        rc = cache_begin(&t, c, err);
    cache_end(&t);
    cache_close(&c);
    return rc;
}

static int open_to_write(FILE *out, Err *err)
{
    Cache *c = NULL;
    (void)out;
    int rc = cache_open(&c, dir, CACHE_WRITE, err);
    cache_close(&c);
    return rc;
}

static int list(FILE *out, Err *err)
{
    return cache_ls(dir, CACHE_LIST_CSV, out, err);
}

static int verify(FILE *out, Err *err)
{
    return cache_verify(&(VerifyParams){.dir = dir, .out = out}, err);
}

static int gc(FILE *out, Err *err)
{
    return cache_gc(&(GcParams){.dir = dir, .dry_run = 1, .out = out}, err);
}

static int stats(FILE *out, Err *err)
{
    return cache_stats(dir, 0, out, err);
}

static int train_opens(FILE *out, Err *err)
{
    Dataset *d = NULL;
    const char *const dirs[] = {dir};
    const DitConfig c = {.heads = 1,
                         .head_dim = 64,
                         .layers = 1,
                         .in_channels = 4,
                         .out_channels = 4,
                         .text_dim = 32,
                         .text_len = 8,
                         .patch = 2};
    (void)out;
    int rc = dataset_open(&d, dirs, 1, &c, err);
    dataset_close(&d);
    return rc;
}

static const struct {
    const char *name;
    int (*run)(FILE *out, Err *err);
} parts[] = {
    {"open", open_it}, {"open to write", open_to_write}, {"ls --csv", list}, {"verify", verify}, {"gc --dry-run", gc},
    {"stats", stats},  {"weft-train", train_opens}};
enum { N_PARTS = sizeof parts / sizeof *parts };

static int64_t anonymous_of(pid_t pid)
{
    char path[64], line[256];
    long long kb = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %lld", &kb) != 1)
        continue;
    if (f)
        fclose(f);
    return (int64_t)kb * 1024;
}

/* In a child, whose memory (without mapped files) is looked at every other millisecond. */
static void time_part(int k)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        Err err = {0};
        FILE *out = fopen("/dev/null", "w");
        int rc = parts[k].run(out, &err);
        if (rc != 0)
            printf(" (%d %s)", rc, err.msg);
        fflush(stdout);
        _exit(0);
    }
    int64_t most = 0;
    double begin = time_now_s();
    struct rusage used = {0};
    while (wait4(pid, NULL, WNOHANG, &used) == 0) {
        int64_t now = anonymous_of(pid);
        most = now > most ? now : most;
        usleep(2000);
    }
    double processor = (double)used.ru_utime.tv_sec + 1e-6 * (double)used.ru_utime.tv_usec +
                       (double)used.ru_stime.tv_sec + 1e-6 * (double)used.ru_stime.tv_usec;
    printf(" %.3f s (%.3f s processor) %.0f MB |", time_now_s() - begin, processor, (double)most / 1e6);
    fflush(stdout);
}

static void many(int64_t n)
{
    double begin = time_now_s();
    make_in_a_child(n);
    printf("| %lld | %8.3f s |", (long long)n, time_now_s() - begin);
    for (int k = 0; k < N_PARTS; k++)
        time_part(k);
    printf("\n");
    err_ignore(dir_remove(dir, NULL));
}

/* Records of 13 x 60 x 90 x 32 halves, read in an order of no order, and memcpy from
 * as many bytes of memory. */
static void full_size(void)
{
    Err err = {0};
    Cache *c = NULL;
    CacheTxn *t = NULL;
    Tensor moments = tensor_of(NULL, DT_F16, 4, 13, 60, 90, 32);
    int64_t bytes = tensor_bytes(&moments);
    char *from = mem_calloc(bytes * BIG, 1, &err), *to = mem_calloc(bytes, 1, &err);
    int rc = from && to ? cache_open(&c, dir, CACHE_WRITE, &err) : ERR_NOMEM;
    if (rc == 0)
        cache_batch(c, 64 << 20);
    for (int64_t i = 0; rc == 0 && i < BIG; i++) {
        Digest key = key_of(i, 3);
        moments.data = from + i * bytes;
        memset(moments.data, (int)i, (size_t)bytes);
        rc = cache_put_record(c, CACHE_LATENTS, &key, RECORD_MOMENTS, &moments, &err);
    }
    if (rc == 0)
        rc = cache_commit(c, &err);
    double best[3] = {1e9, 1e9, 1e9};
    for (int round = 0; rc == 0 && round < 5; round++)
        for (int how = 0; rc == 0 && how < 3; how++) { /* memcpy; read; read with checksum */
            double begin = time_now_s();
            rc = cache_begin(&t, c, &err);
            for (int64_t i = 0; rc >= 0 && i < BIG; i++) {
                Digest key = key_of(i * 37 % BIG, 3);
                RecordView r;
                if (how == 0)
                    memcpy(to, from + i * 37 % BIG * bytes, (size_t)bytes);
                else if ((rc = cache_get_record(t, CACHE_LATENTS, &key, how == 2, &r, &err)) == 1)
                    memcpy(to, r.tensor.data, (size_t)bytes);
            }
            cache_end(&t);
            rc = rc < 0 ? rc : 0;
            double spent = time_now_s() - begin;
            best[how] = spent < best[how] ? spent : best[how];
        }
    cache_close(&c);
    if (rc < 0)
        die("full-size records", &err);
    printf("full-size records (%.1f MB), best of 5: memcpy %.2f GB/s, read %.2f GB/s (%.0f %%), read with checksum "
           "%.2f GB/s\n",
           (double)bytes / 1e6, BIG * (double)bytes / best[0] / 1e9, BIG * (double)bytes / best[1] / 1e9,
           100 * best[0] / best[1], BIG * (double)bytes / best[2] / 1e9);
    mem_free(from);
    mem_free(to);
    err_ignore(dir_remove(dir, NULL));
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/weft-bench-cache-%ld", tmp ? tmp : "/tmp", (long)getpid());
    printf("| clips | written |");
    for (int k = 0; k < N_PARTS; k++)
        printf(" %s |", parts[k].name);
    printf("\n");
    if (argc < 2) {
        many(2000);
        many(8000);
    }
    for (int i = 1; i < argc; i++)
        many(atoll(argv[i]));
    full_size();
    return 0;
}
