/* A set of digests, numbered in the order in which they came. */
#ifndef WEFT_COMMON_BASE_KEYSET_H
#define WEFT_COMMON_BASE_KEYSET_H
#include <stdint.h>
#include "common/base/hash.h"

/* Of a digest its first half is kept, which still tells any two apart: 21 to 40 bytes a key in all.
 * Zero-initialise. */
typedef struct KeySet {
    struct KeyHalf {
        uint64_t word[2];
    } * key;        /* [room] */
    uint32_t *slot; /* [slots], a power of two: the number of a key and 1, or 0 */
    int64_t n, room, slots;
} KeySet;
/* No effect when it is there. */
WEFT_MUST_CHECK int keyset_add(KeySet *s, const Digest *key, Err *err);
/* The same for 64 hex digits. */
WEFT_MUST_CHECK int keyset_add_hex(KeySet *s, const char *hex, Err *err);
/* Number of the key, or -1. */
int64_t keyset_find(const KeySet *s, const Digest *key);
void keyset_fini(KeySet *s);
#endif
