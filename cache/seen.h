/* Digests of files that have not changed: CACHE/.seen, one JSON object.  A file counts as the same when
 * its path and its stamp are (file_stamp.h); one that changed after two seconds before the run began
 * is not remembered.  So a build which finds everything done reads no clip again (nor weights, whose digests
 * safetensors_digest_once remembers).  It is no part of the cache: without it, digests are made again. */
#ifndef WEFT_CACHE_SEEN_H
#define WEFT_CACHE_SEEN_H
#include <jansson.h>
#include "common/base/err.h"

typedef struct Seen {
    json_t *before, *now; /* what is it -> digest; now: of this run */
    int64_t start;        /* when seen_open was called, ns */
} Seen;

/* An absent or unreadable file reads as empty. */
WEFT_MUST_CHECK int seen_open(Seen *s, const char *cache, Err *err);
/* The digest (64 hex digits) known for the file `path` as `what` ("file"), or NULL. */
const char *seen_get(Seen *s, const char *what, const char *path);
/* Without effect when memory runs out. */
void seen_put(Seen *s, const char *what, const char *path, const char *sha256);
/* Writes what this run asked for and put, atomically, unless nothing has changed; a failure is
 * harmless. */
void seen_save(const Seen *s, const char *cache);
void seen_close(Seen *s);
#endif
