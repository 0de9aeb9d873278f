/* A set of content keys. */
#ifndef WEFT_CACHE_KEYSET_H
#define WEFT_CACHE_KEYSET_H
#include <stdint.h>
#include "common/base/hash.h"

/* Zero-initialise.  Add all keys, then sort once, then ask. */
typedef struct KeySet {
    Digest *key;
    int64_t n, room;
} KeySet;
WEFT_MUST_CHECK int keyset_add(KeySet *s, const Digest *key, Err *err);
/* The same for 64 hex digits. */
WEFT_MUST_CHECK int keyset_add_hex(KeySet *s, const char *hex, Err *err);
/* Sorts, and removes duplicates. */
void keyset_sort(KeySet *s);
/* Index of the key, or -1. */
int64_t keyset_find(const KeySet *s, const Digest *key);
void keyset_fini(KeySet *s);
#endif
