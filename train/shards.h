/* Whether caches that hold parts of a dataset hold all of them. */
#ifndef WEFT_TRAIN_SHARDS_H
#define WEFT_TRAIN_SHARDS_H
#include <jansson.h>
#include <stdint.h>

#include "common/base/err.h"

/* What a cache's meta 'dataset' says of its part. */
typedef struct ShardFact {
    char dataset[65]; /* SHA-256 of the manifest; "" when the cache does not say */
    int64_t index, count;
} ShardFact;

WEFT_MUST_CHECK int shard_read(ShardFact *out, const json_t *dataset, Err *err);
/* Refuses (ERR_USAGE), naming what is missing, unless of every dataset all parts are there; dirs[i]
 * is the folder that fact[i] came from.  Training on some of the parts would go unnoticed. */
WEFT_MUST_CHECK int shards_check(const ShardFact *fact, const char *const *dirs, int64_t n, Err *err);
#endif
