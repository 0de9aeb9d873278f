/* Any bytes as a list of videos (paths, objects, an index), as votes and as a key: refused with a sentence, or
 * videos whose names are UTF-8, or counts that add up. */
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "infer/compare.h"
#include "tests/fuzz/temporary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key[] =
    "{\"format\": 1, \"study\": \"0123456789abcdef\", \"seed\": 1, \"models\": [\"a\", \"b\"], "
    "\"pairs\": [{\"pair\": \"0001\", \"prompt\": \"x\", \"left\": 0, \"right\": 1, \"catch\": "
    "false}, {\"pair\": \"0002\", \"prompt\": \"y\", \"left\": 1, \"right\": 1, \"catch\": true}]}";
static const char votes[] = "{\"format\": 1, \"study\": \"0123456789abcdef\", \"voter\": \"v\", \"votes\": {\"0001\": "
                            "\"left\", \"0002\": \"tie\"}}";

static void check_error(int rc, const Err *err)
{
    if (rc < 0 && (rc != err->code || !err->msg[0]))
        abort();
}

static void as_list(const char *name, const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(name, data, size);
    VideoList v;
    Err err = {0};
    int rc = videos_read(&v, &(StrList){&path, 1}, "videos", &err);
    check_error(rc, &err);
    for (int64_t i = 0; rc == 0 && i < v.n; i++)
        if (!v.item[i].path || !v.item[i].id || v.item[i].seed < -1)
            abort();
    videos_fini(&v);
}

static void as_votes(const char *vote_file, const char *key_file)
{
    static FILE *null;
    static char *out;
    Err err = {0};
    if (!null && !(null = fopen("/dev/null", "w")))
        abort();
    if (!out && !(out = path_dir(vote_file, &err)))
        abort();
    check_error(votes_count(&(StrList){&vote_file, 1}, &(StrList){&key_file, 1}, out, 1, null, &err), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"list.txt", "list.jsonl", "index.json"};
    for (int i = 0; i < 3; i++)
        as_list(names[i], data, size);
    const char *given = fuzz_file("given.json", data, size);
    char first[4096];
    snprintf(first, sizeof first, "%s", given);
    as_votes(first, fuzz_file("key.json", (const uint8_t *)key, sizeof key - 1));
    as_votes(fuzz_file("votes.json", (const uint8_t *)votes, sizeof votes - 1), first);
    return 0;
}
