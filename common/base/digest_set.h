/* A set of SHA-256 digests, at most 86 bytes each: which of many texts were seen. */
#ifndef WEFT_COMMON_BASE_DIGEST_SET_H
#define WEFT_COMMON_BASE_DIGEST_SET_H
#include "common/base/hash.h"

/* Zero-initialise. */
typedef struct DigestSet {
    Digest *slot; /* one of zeros is empty */
    int64_t n, slots;
    int zeros; /* whether the digest of zeros is in the set */
} DigestSet;

/* 1 when it was not in the set, 0 when it was, ERR_NOMEM. */
WEFT_MUST_CHECK int digest_set_add(DigestSet *s, const Digest *d, Err *err);
void digest_set_fini(DigestSet *s);
#endif
