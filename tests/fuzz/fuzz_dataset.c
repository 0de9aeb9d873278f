/* A prepared dataset's own files, as weft-prep reads them again.  The first byte chooses who reads:
 * `report` (dataset.json, manifest.jsonl, tokens.jsonl), an `ingest` that goes on (manifest.jsonl,
 * journal.jsonl, .sources), or `merge` (dataset.json and manifest.jsonl of two shards).  The rest are the contents,
 * apart by NUL bytes.  The manifest's hash in dataset.json is made right, so that lines are read. */
#include <string.h>
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/clip/clip.h"
#include "prep/merge.h"
#include "prep/set/hash_cache.h"
#include "prep/set/record.h"
#include "prep/set/report.h"
#include "tests/fuzz/temporary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REPORT, RESUME, MERGE, READERS, PIECES = 4 };

typedef struct Piece {
    const char *text;
    size_t size;
} Piece;

static Piece next_piece(const uint8_t *data, size_t size, size_t *at)
{
    const uint8_t *from = data + (*at < size ? *at : size), *end = memchr(from, 0, size - (size_t)(from - data));
    Piece p = {(const char *)from, end ? (size_t)(end - from) : size - (size_t)(from - data)};
    *at += p.size + 1;
    return p;
}

/* dataset.json with the manifest's true hash. */
static void put_index(const char *name, Piece index, Piece manifest)
{
    char hex[65];
    Err err = {0};
    json_t *o = NULL;
    if (json_parse(&o, index.text, (int64_t)index.size, "dataset.json", &err) < 0 || !json_is_object(o)) {
        fuzz_file(name, index.text, index.size);
        json_decref(o);
        return;
    }
    json_t *tool = json_object_get(o, "tool"), *of = json_object_get(o, "manifest");
    if (sha256_hex(manifest.text, (int64_t)manifest.size, hex, &err) < 0)
        abort();
    if (json_is_object(tool)) /* the corpus outlives revisions */
        json_object_set_new(tool, "revision", json_integer(PREP_REVISION));
    if (json_is_object(of))
        json_object_set_new(of, "sha256", json_string(hex));
    char *text = json_text(o, 0, &err);
    if (!text)
        abort();
    fuzz_file(name, text, strlen(text));
    mem_free(text);
    json_decref(o);
}

static void check(int rc, const Err *err)
{
    if (rc < 0 && (err->code != rc || !err->msg[0]))
        abort(); /* a refusal has a sentence */
}

static void read_report(FILE *nowhere)
{
    Err err = {0};
    check(prep_report(fuzz_folder(), nowhere, &err), &err);
}

static void read_resume(void)
{
    Err err = {0};
    json_t *prior = NULL, *line;
    const char *id;
    HashCache hashes = {0};
    int rc = records_load(fuzz_folder(), &prior, &err);
    check(rc, &err);
    json_object_foreach (prior, id, line)
        if (strcmp(json_string_value(json_object_get(line, "id")), id) != 0)
            abort();
    json_decref(prior);
    err_clear(&err);
    rc = hash_cache_load(&hashes, fuzz_folder(), &err);
    check(rc, &err);
    if (rc == 0 && !hashes.hash)
        abort();
    hash_cache_fini(&hashes);
}

static void read_merge(FILE *nowhere)
{
    char shards[2][160], out[160];
    Err err = {0};
    for (int i = 0; i < 2; i++)
        snprintf(shards[i], sizeof shards[i], "%s/%d", fuzz_folder(), i);
    snprintf(out, sizeof out, "%s/out", fuzz_folder());
    const char *const list[] = {shards[0], shards[1]};
    const MergeParams p = {.shards = list, .n = 2, .out = out, .dry_run = 1, .results = nowhere};
    check(prep_merge(&p, &err), &err);
    if (file_exists(out))
        abort(); /* a dry run writes nothing */
}

static void put_all(int reader, const Piece piece[PIECES])
{
    static const char *const names[READERS][PIECES] = {
        {"dataset.json", "manifest.jsonl", "tokens.jsonl", NULL},
        {"manifest.jsonl", "journal.jsonl", ".sources", NULL},
        {"0/dataset.json", "0/manifest.jsonl", "1/dataset.json", "1/manifest.jsonl"}};
    for (int i = 0; i < PIECES && names[reader][i]; i++)
        if (strstr(names[reader][i], "dataset.json"))
            put_index(names[reader][i], piece[i], piece[i + 1]);
        else
            fuzz_file(names[reader][i], piece[i].text, piece[i].size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    char path[160];
    size_t at = 1;
    if (size < 2 || size > 1 << 20)
        return 0;
    if (!nowhere && !(nowhere = fopen("/dev/null", "w")))
        abort();
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%d", fuzz_folder(), i);
        if (dir_make(path, NULL) < 0)
            abort();
    }
    const int reader = data[0] % READERS;
    Piece piece[PIECES];
    for (int i = 0; i < PIECES; i++)
        piece[i] = next_piece(data, size, &at);
    put_all(reader, piece);
    if (reader == REPORT)
        read_report(nowhere);
    else if (reader == RESUME)
        read_resume();
    else
        read_merge(nowhere);
    return 0;
}
