/* Any bytes as a cache's data.mdb: a reader gets to the end of whatever it is, and so does LMDB when it
 * writes to what the page checker accepts. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/store/cache.h"
#include "common/store/cache_pages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], file[96];

static void read_all(void)
{
    Cache *c = NULL;
    CacheTxn *t = NULL;
    if (cache_open(&c, dir, CACHE_READ, NULL) < 0)
        return; /* no cache */
    if (cache_begin(&t, c, NULL) < 0)
        abort();
    const char *id;
    json_t *facts;
    ClipSummary summary;
    ClipKeys keys;
    CacheCursor *clips = NULL, *listed = NULL, *named = NULL;
    while (cache_next_clip(t, &clips, &id, &facts, NULL) != 0)
        json_decref(facts);
    while (cache_next_clip_summary(t, &listed, &id, &summary, NULL) != 0)
        continue;
    while (cache_next_clip_keys(t, &named, &id, &keys, NULL) != 0)
        continue;
    for (int db = CACHE_LATENTS; db <= CACHE_TOKENS; db++) {
        CacheCursor *cursor = NULL;
        Digest key;
        RecordView v;
        while (cache_next_record(t, (CacheDb)db, &cursor, &key, &v, 1, NULL) != 0)
            if (cache_look_record(t, (CacheDb)db, &key, &v, NULL) == 1 && v.tensor.data)
                abort();
    }
    cache_end(&t);
    cache_close(&c);
}

static void write_some(void)
{
    Cache *c = NULL;
    int32_t ids[600] = {0};
    Tensor t = tensor_of(ids, DT_I32, 1, 600);
    Digest key = {{0}};
    if (cache_open(&c, dir, CACHE_WRITE, NULL) < 0)
        return;
    int rc = cache_delete_record(c, CACHE_TOKENS, &key, NULL); /* may fail: only crashes count */
    rc |= cache_put_record(c, CACHE_TOKENS, &key, RECORD_TOKENS, &t, NULL);
    (void)rc;
    cache_close(&c);
}

static void sweep(void)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", ".lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(file, sizeof file, "%s/%s", dir, names[i]);
        unlink(file);
    }
    rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (cache_pages_check_head(data, (int64_t)size, "fuzz", NULL) < 0)
        return 0;
    int sound = 0;
    static PageFile pages;
    PageHead head;
    for (uint64_t txnid = 0; txnid < 16; txnid++)
        if (page_file_open(&pages, &head, data, (int64_t)size, txnid, "fuzz", NULL) > 0)
            sound |= cache_pages_check_trees(&pages, &head, NULL) == 0;
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/weft-fuzz-lmdb-%ld", (long)getpid());
        snprintf(file, sizeof file, "%s/data.mdb", dir);
        atexit(sweep);
    }
    Cache *c = NULL;
    if (access(dir, F_OK) < 0) { /* a cache makes its folder */
        if (cache_open(&c, dir, CACHE_WRITE, NULL) < 0)
            abort();
        cache_close(&c);
    }
    FILE *f = fopen(file, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
    read_all();
    if (sound)
        write_some();
    return 0;
}
