/* Completeness of sharded caches. */
#include <inttypes.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "train/shards.h"

enum { NAMED_MAX = 12 }; /* missing shards that a message lists */

int shard_read(ShardFact *out, const json_t *dataset, Err *err)
{
    const json_t *shard = json_object_get(dataset, "shard");
    const char *manifest;
    int rc = json_get_str(dataset, "manifest_sha256", "meta 'dataset'", &manifest, err);

    if (rc == 0 && (rc = json_get_int(shard, "index", "meta 'dataset': shard", &out->index, err)) == 0)
        rc = json_get_int(shard, "count", "meta 'dataset': shard", &out->count, err);
    if (rc == 0 && (out->index < 0 || out->index >= out->count || strlen(manifest) != 64))
        rc = err_set(err, ERR_FORMAT, "meta 'dataset': shard %" PRId64 "/%" PRId64, out->index, out->count);
    if (rc == 0)
        memcpy(out->dataset, manifest, sizeof out->dataset);
    return rc;
}

static int same_dataset(const ShardFact *a, const ShardFact *b)
{
    return strcmp(a->dataset, b->dataset) == 0;
}

/* The shards of fact[first]'s dataset that no cache holds, as --shard names them: "1/3, 2/3". */
static int list_missing(const ShardFact *fact, int64_t n, int64_t first, Str *missing, int64_t *n_missing, Err *err)
{
    int rc = 0;

    *n_missing = 0;
    for (int64_t k = 0; k < fact[first].count && rc == 0; k++) {
        int64_t i = first;
        while (i < n && !(same_dataset(&fact[i], &fact[first]) && fact[i].index == k))
            i++;
        if (i == n && ++*n_missing <= NAMED_MAX)
            rc = str_printf(missing, err, "%s%" PRId64 "/%" PRId64, *n_missing > 1 ? ", " : "", k, fact[first].count);
    }
    return rc;
}

static int check_dataset(const ShardFact *fact, const char *const *dirs, int64_t n, int64_t first, Err *err)
{
    Str missing = {0};
    int64_t n_missing = 0;
    int rc = 0;

    for (int64_t i = first + 1; i < n; i++)
        if (same_dataset(&fact[i], &fact[first]) && fact[i].count != fact[first].count)
            return err_set(err, ERR_USAGE,
                           "cache '%s' is shard %" PRId64 "/%" PRId64 " of a dataset and cache '%s' is shard %" PRId64
                           "/%" PRId64 " of the same one: build all its shards with one count",
                           dirs[first], fact[first].index, fact[first].count, dirs[i], fact[i].index, fact[i].count);
    rc = list_missing(fact, n, first, &missing, &n_missing, err);
    if (rc == 0 && n_missing)
        rc = err_set(err, ERR_USAGE,
                     "cache '%s' is shard %" PRId64 "/%" PRId64 " of its dataset, and %s %s%s missing: build %s with "
                     "weft-cache build --shard, and give each with --cache",
                     dirs[first], fact[first].index, fact[first].count, n_missing == 1 ? "shard" : "shards",
                     missing.data,
                     n_missing > NAMED_MAX ? ", ... are"
                     : n_missing == 1      ? " is"
                                           : " are",
                     n_missing == 1 ? "it" : "them");
    str_fini(&missing);
    return rc;
}

int shards_check(const ShardFact *fact, const char *const *dirs, int64_t n, Err *err)
{
    int rc = 0;

    for (int64_t i = 0; i < n && rc == 0; i++) {
        int64_t k = 0;
        while (k < i && !same_dataset(&fact[k], &fact[i]))
            k++;
        if (k == i && fact[i].dataset[0]) /* a dataset's first cache */
            rc = check_dataset(fact, dirs, n, i, err);
    }
    return rc;
}
