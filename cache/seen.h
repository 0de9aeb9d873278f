/* Digests of files that have not changed: CACHE/.seen, a line of "name digest" a file, 64 hex digits each.  A file
 * counts as the same when its path and its stamp are (file_stamp.h), which its name is the SHA-256 of; one that
 * changed after two seconds before the run began is not remembered.  So a build which finds everything done reads no
 * clip again (nor weights, whose digests safetensors_digest_once remembers).  It is no part of the cache: without it,
 * digests are made again. */
#ifndef WEFT_CACHE_SEEN_H
#define WEFT_CACHE_SEEN_H
#include <stdio.h>
#include "common/base/hash.h"

typedef struct SeenFile {
    Digest name, sha256;
} SeenFile;

/* A line of the file as an earlier run left it. */
typedef struct SeenLine {
    uint64_t name; /* its first 8 bytes */
    uint32_t number;
    char asked; /* by this run */
} SeenLine;

typedef struct Seen {
    FILE *old;      /* of earlier runs, or NULL; replaced by seen_save, it is still this one */
    SeenLine *line; /* [known] by name */
    SeenFile *file; /* [n] of this run */
    int64_t known, n, room;
    int64_t start; /* when seen_open was called, ns */
} Seen;

/* An absent or unreadable file reads as empty. */
WEFT_MUST_CHECK int seen_open(Seen *s, const char *cache, Err *err);
/* 1 with the digest known for the file `path`, 0: none is. */
int seen_get(Seen *s, const char *path, char hex[65]);
/* Without effect when memory runs out. */
void seen_put(Seen *s, const char *path, const char *sha256);
/* Writes what this run asked for and put, atomically, unless nothing has changed; a failure is
 * harmless. */
void seen_save(const Seen *s, const char *cache);
void seen_close(Seen *s);
#endif
