/* weft-cache gc: drops what nothing reaches. */
#ifndef WEFT_CACHE_GC_H
#define WEFT_CACHE_GC_H
#include <stdio.h>
#include "common/base/args.h"
#include "common/store/cache.h"

typedef struct GcParams {
    const char *dir;
    StrList keep;         /* prepared datasets; none: every clip of the cache is kept */
    int dry_run, compact; /* compact: rewrite the file without its free pages */
    CacheMode mode;       /* CACHE_WRITE or CACHE_WRITE_ANYWHERE */
    FILE *out;
} GcParams;

/* Drops the entries of clips that no dataset in `keep` has with these pixels, then the records that no
 * entry names, and prints how many bytes each kind gives back.  Entries go in one commit, so that the
 * cache is finished before and after; records that no entry names do no harm.  No other writer comes in
 * between (a dry run only reads).  ERR_USAGE, and nothing dropped, when no clip of the cache is in `keep`.
 * compact needs the cache alone: ERR_LIMIT when it is open elsewhere. */
WEFT_MUST_CHECK int cache_gc(const GcParams *params, Err *err);
#endif
