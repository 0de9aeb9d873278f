/* Any bytes as manifest.jsonl and tokens.jsonl (a line "--" between them), as weft-cache reads
 * them: refused with a sentence, or clips whose texts exist and whose ids fit.  dataset.json beside
 * them is right. */
#include <string.h>
#include "cache/prepared.h"
#include "common/base/hash.h"
#include "tests/fuzz/temporary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LENGTH = 8 };
#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void write_dataset(const uint8_t *manifest, size_t size)
{
    Digest d;
    char hex[65], json[1024];
    if (sha256_bytes(manifest, (int64_t)size, &d, NULL) < 0)
        abort();
    digest_hex(&d, hex);
    int n = snprintf(
        json, sizeof json,
        "{\"format\":1,\"tool\":{\"name\":\"weft-prep\",\"revision\":1},\"layout\":\"pairs\",\"shard\":null,"
        "\"counts\":{\"sources\":0,\"accepted\":0,\"rejected\":0,\"reasons\":{},\"warnings\":{},"
        "\"splits\":{},\"categories\":{}},\"recipe_sha256\":\"" HEX64 "\",\"recipe\":{},"
        "\"manifest\":{\"file\":\"manifest.jsonl\",\"lines\":1,\"sha256\":\"%s\"}}",
        hex);
    fuzz_file("dataset.json", json, (size_t)n);
}

static void check(Prepared *p)
{
    Err err = {0};
    if (p->n_text < 1 || p->form.length != LENGTH)
        abort();
    for (int64_t i = 0; i < p->n; i++) {
        PreparedClip c;
        if (prepared_clip(p, i, &c, &err) < 0)
            abort();
        if (!c.id || !c.path || !c.pixels_sha256 || strlen(c.pixels_sha256) != 64 || c.n_text < 1)
            abort();
        if (strncmp(c.path, fuzz_folder(), strlen(fuzz_folder())) != 0 || strstr(c.path, "/../"))
            abort(); /* a clip outside of the dataset */
        for (int64_t k = 0; k < c.n_text; k++)
            if (c.text[k] < 0 || c.text[k] >= p->n_text)
                abort();
        prepared_clip_fini(&c);
    }
    for (int64_t k = 0; k < p->n_text; k++) {
        PreparedText t;
        if (prepared_text(p, k, &t, &err) < 0 || t.n < 1 || t.n > LENGTH || (k == 0 && t.text[0]))
            abort();
        for (int64_t i = 0; i < t.n; i++)
            if (t.ids[i] < 0 || t.ids[i] > p->largest_id)
                abort();
        prepared_text_fini(&t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char between[] = "--\n";
    const uint8_t *cut = size ? memmem(data, size, between, 3) : NULL;
    size_t manifest = cut ? (size_t)(cut - data) : size;
    fuzz_file("manifest.jsonl", data, manifest);
    fuzz_file("tokens.jsonl", cut ? cut + 3 : data, cut ? size - manifest - 3 : 0);
    write_dataset(data, manifest);
    Prepared *p = NULL;
    Err err = {0};
    int rc = prepared_open(&p, fuzz_folder(), 0, 1, &(TextForm){TEXT_T5, LENGTH, -1, 1, 0}, &err);
    if (rc == 0)
        check(p);
    else if (rc != err.code || !err.msg[0] || p)
        abort();
    prepared_close(&p);
    return 0;
}
