/* weft-cache merge: shards or caches into one. */
#ifndef WEFT_CACHE_MERGE_H
#define WEFT_CACHE_MERGE_H
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/log.h"
#include "common/store/cache.h"

typedef struct MergeParams {
    StrList sources; /* finished caches */
    const char *out; /* a new cache, or one that a stopped merge of the same sources left */
    CacheMode mode;  /* CACHE_WRITE or CACHE_WRITE_ANYWHERE */
    const Log *log;
    FILE *results;
} MergeParams;

/* The sources must agree in VAE, text encoder and stored type; of a dataset's shards all must be given.
 * The same key with other bytes, or the same clip with another entry, is ERR_FORMAT.  Every record is
 * checked on the way.  A stopped merge, run again, goes on; the end state depends on the sources alone.
 * What was rejected in a source and is a clip of none stays rejected. */
WEFT_MUST_CHECK int cache_merge(const MergeParams *params, Err *err);
#endif
