/* Remembers the hashes of sources, so that a run over a large set need not read unchanged files
 * again, and the folder they were found in.
 *
 * Kept in OUT/.sources, which is no part of the dataset: it changes no byte of the manifest, and a
 * file that is missing, torn or of another program only costs the hashing.  prep/clip/source_hash.h
 * says when an entry still holds. */
#ifndef WEFT_PREP_SET_HASH_CACHE_H
#define WEFT_PREP_SET_HASH_CACHE_H
#include <jansson.h>
#include "common/base/err.h"

typedef struct HashCache {
    char *place;  /* real path of the source folder, NULL: not known */
    json_t *hash; /* Source.path -> SourceIdentity.entry; never NULL after hash_cache_load */
} HashCache;

/* Reads the file of an earlier run in this folder; empty when it is missing or its checksum is
 * wrong. */
WEFT_MUST_CHECK int hash_cache_load(HashCache *out, const char *out_dir, Err *err);
/* Atomically. */
WEFT_MUST_CHECK int hash_cache_save(const HashCache *s, const char *out_dir, Err *err);
/* Removes the file: a dataset that is not made from one folder has none. */
WEFT_MUST_CHECK int hash_cache_remove(const char *out_dir, Err *err);
void hash_cache_fini(HashCache *s);
#endif
