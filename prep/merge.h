/* `weft-prep merge`: the shards of one set (ingest --shard K/N) become the dataset that one run
 * over all of it would have made. */
#ifndef WEFT_PREP_MERGE_H
#define WEFT_PREP_MERGE_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/log.h"

typedef struct MergeParams {
    const char *const *shards; /* [n] folders */
    int64_t n;
    const char *out;
    int64_t jobs; /* processes that check clips; 0: none */
    int dry_run;
    int replace; /* overwrite a dataset in `out` that was made from other sources */
    const Log *log;
    FILE *results; /* the counts */
} MergeParams;

/* Writes to `out` the same bytes as ingest without --shard: lines in source order, look-alikes
 * decided over the whole set.  Clips are checked against their lines' pixel hashes, then
 * hard-linked, or copied where that cannot be; the shards are only read.  A merge that was
 * interrupted goes on when run again.
 * Fails (ERR_USAGE, ERR_FORMAT, ERR_NOTFOUND) unless the folders are all shards of one set, each
 * finished and given once; and when `out` holds a dataset of which less than half of the clips come
 * from the same sources.
 * 0 all accepted, 3 some rejected, negative: nothing is marked finished. */
WEFT_MUST_CHECK int prep_merge(const MergeParams *p, Err *err);
#endif
