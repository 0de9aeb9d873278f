/* weft-cache build: a prepared dataset into a cache, computing only what is not there. */
#ifndef WEFT_CACHE_BUILD_H
#define WEFT_CACHE_BUILD_H
#include <stdio.h>
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "common/ops/backend.h"

typedef struct BuildParams {
    const char *prepared, *out, *model; /* folders */
    const Recipe *recipe;
    Backend *be;
    int64_t shard, shards;
    int dry_run, quiet;
    const Log *log;
    FILE *results;
} BuildParams;

/* The end state depends on the dataset, the recipe and the weights alone: an interrupted run, run
 * again, gives the same records.
 * Returns 0, 3 when some clips were rejected (their reasons are in meta "rejected"), or a negative
 * code. */
int build(const BuildParams *params, Err *err);
#endif
