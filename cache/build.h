/* weft-cache build: encodes the clips and captions of a prepared dataset that a cache lacks. */
#ifndef WEFT_CACHE_BUILD_H
#define WEFT_CACHE_BUILD_H
#include <stdio.h>
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "common/ops/backend.h"
#include "common/store/cache.h"

typedef struct BuildParams {
    const char *prepared, *out, *model; /* folders */
    const Recipe *recipe;
    Backend *be;
    int64_t shard, shards;
    int dry_run, diff; /* print a plan (cache/diff.h: what would change and why) and stop */
    CacheMode mode;    /* CACHE_WRITE or CACHE_WRITE_ANYWHERE */
    const Log *log;
    FILE *results;
} BuildParams;

/* The end state depends on the dataset, the recipe and the weights alone: an interrupted run, run
 * again, gives the same records.
 * Returns 0, 3 when some clips were rejected (their reasons are in meta "rejected"), or a negative
 * code. */
WEFT_MUST_CHECK int cache_build(const BuildParams *params, Err *err);
#endif
