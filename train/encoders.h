/* Which encoders made a cache's values, and whether they are the base model's. */
#ifndef WEFT_TRAIN_ENCODERS_H
#define WEFT_TRAIN_ENCODERS_H
#include "common/base/log.h"
#include "train/dataset.h"

/* Keeps the cache's meta 'vae' and 'text' in *d when it is the first; refuses (ERR_USAGE) another
 * VAE, text encoder or tokeniser (weights or config) than the first cache's, dirs[0]. */
int encoders_read(Dataset *d, CacheTxn *t, const char *const *dirs, int64_t cache, Err *err);
/* Refuses (ERR_USAGE) a base model whose VAE, text encoder or tokeniser is not the one that made
 * the caches: final/ would ship it.
 * Reads their weights once, for the digest.  A part the base model does not have is not compared,
 * and the log says so. */
int encoders_check(const Dataset *d, const char *cache, const char *base, const Log *log, Err *err);
#endif
