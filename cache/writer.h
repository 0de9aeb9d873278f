/* The last stage of a build: a thread that stores records and entries, in order, from a bounded queue. */
#ifndef WEFT_CACHE_WRITER_H
#define WEFT_CACHE_WRITER_H
#include "common/store/cache.h"

typedef struct CacheWriter CacheWriter;
/* Until writer_close nobody else may write to c.  Commits in batches of `bytes`. */
WEFT_MUST_CHECK int writer_open(CacheWriter **out, Cache *c, int64_t bytes, Err *err);
/* Each copies or takes over (facts) what it is given, waits while the queue is full, and returns the
 * writer's first error, if there was one. */
WEFT_MUST_CHECK int writer_record(CacheWriter *w, CacheDb db, const Digest *key, RecordKind kind, const Tensor *t,
                                  Err *err);
WEFT_MUST_CHECK int writer_clip(CacheWriter *w, const char *id, json_t *facts, Err *err);
WEFT_MUST_CHECK int writer_delete_clip(CacheWriter *w, const char *id, Err *err);
/* Stores and commits what was queued, ends the thread, frees *w.  *busy_s (may be NULL): how long it
 * worked. */
WEFT_MUST_CHECK int writer_finish(CacheWriter **w, double *busy_s, Err *err);
/* As writer_finish after a failure elsewhere: what was queued is stored, errors are dropped. */
void writer_close(CacheWriter **w);
double writer_busy(CacheWriter *w);
#endif
