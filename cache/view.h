/* A cache that is only read, and one transaction on it: what the commands that look at a cache share. */
#ifndef WEFT_CACHE_VIEW_H
#define WEFT_CACHE_VIEW_H
#include "common/store/cache.h"

typedef struct View {
    Cache *cache;
    CacheTxn *txn;
} View;

/* Says on standard error when the cache is read without a lock.  Close it also after a failure. */
WEFT_MUST_CHECK int view_open(View *v, const char *dir, Err *err);
void view_close(View *v);
/* The record under a key in hex: 1 found, 0 absent, negative on error.  verify 0: by its header alone, with data NULL;
 * nothing is kept for the transaction. */
WEFT_MUST_CHECK int view_record(View *v, CacheDb db, const json_t *hex, int verify, RecordView *out, Err *err);
/* The same for one that must be there (ERR_FORMAT: `what` has lost it). */
WEFT_MUST_CHECK int view_need_record(View *v, CacheDb db, const json_t *hex, const char *what, RecordView *out,
                                     Err *err);
/* Calls f with each clip's entry, in the order of the ids; damage ends it. */
typedef int ClipFn(void *user, const char *id, json_t *facts, Err *err);
WEFT_MUST_CHECK int view_each_clip(View *v, ClipFn *f, void *user, Err *err);
/* A meta entry that every finished cache has.  *out is the caller's. */
WEFT_MUST_CHECK int view_meta(View *v, const char *key, json_t **out, Err *err);
#endif
