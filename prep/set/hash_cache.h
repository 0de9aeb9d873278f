/* Remembers the hashes of sources, so that a run over a large set need not read unchanged files
 * again, and the folder they were found in.
 *
 * Kept in OUT/.sources, which is no part of the dataset: it changes no byte of the manifest, and a
 * file that is missing, torn or of another program only costs the hashing.  A source counts as
 * unchanged while device, inode, size, mtime and ctime (nanoseconds) of its file, or of each
 * numbered picture of its folder, are what they were; a program that writes new bytes and restores
 * the old mtime still changes the ctime.  A file that was changed within two seconds before it was
 * hashed is not kept: it could change once more within the same tick of the file system's clock. */
#ifndef WEFT_PREP_SET_HASH_CACHE_H
#define WEFT_PREP_SET_HASH_CACHE_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/hash.h"
#include "prep/layout/source.h"

typedef struct HashCache {
    char *place;  /* real path of the source folder, NULL: not known */
    json_t *hash; /* Source.path -> what was found, as text; never NULL after hash_cache_load */
} HashCache;

/* Reads the file of an earlier run in this folder; empty when it is missing or its checksum is
 * wrong. */
WEFT_MUST_CHECK int hash_cache_load(HashCache *out, const char *out_dir, Err *err);
/* Atomically. */
WEFT_MUST_CHECK int hash_cache_save(const HashCache *s, const char *out_dir, Err *err);
/* Removes the file: a dataset that is not made from one folder has none. */
WEFT_MUST_CHECK int hash_cache_remove(const char *out_dir, Err *err);
void hash_cache_fini(HashCache *s);

typedef struct Identity {
    int64_t size; /* bytes, of all pictures of a folder */
    Digest sha256;
    char entry[256]; /* for HashCache.hash; "": it may not be kept */
    int hashed;      /* the bytes were read */
} Identity;
/* As source_hash, from `hash` (borrowed, NULL: nothing is known) where the source at `path`, known
 * as `name`, is unchanged. */
WEFT_MUST_CHECK int hash_cache_identify(const json_t *hash, const char *name, const char *path, SourceKind kind,
                                        Identity *out, Err *err);
/* Bytes of a source as source_hash counts them, without reading them; negative when it does not
 * exist. */
int64_t hash_cache_size(const char *path, SourceKind kind);
#endif
