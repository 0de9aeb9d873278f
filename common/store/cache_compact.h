/* Rewrites a cache's file without its free pages. */
#ifndef WEFT_COMMON_STORE_CACHE_COMPACT_H
#define WEFT_COMMON_STORE_CACHE_COMPACT_H
#include <stdint.h>
#include "common/store/cache.h"

/* The new file takes the old one's place when it is whole and synced: a killed run leaves the old one.
 * It needs room for a second copy.  ERR_LIMIT when another process has the cache open, for LMDB's lock
 * file counts the old file's states.  *before, *after: bytes of data.mdb. */
WEFT_MUST_CHECK int cache_compact(const char *dir, CacheMode mode, int64_t *before, int64_t *after, Err *err);
#endif
