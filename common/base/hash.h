/* xxh3-64 for checksums and keys inside our own files; SHA-256 where a user would compare it, and
 * wherever two different things must never meet under one name (content keys). */
#ifndef WEFT_COMMON_BASE_HASH_H
#define WEFT_COMMON_BASE_HASH_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

uint64_t hash_xxh3(const void *bytes, int64_t size);
uint64_t hash_xxh3_seeded(const void *bytes, int64_t size, uint64_t seed);

typedef struct Sha256 {
    void *impl;
} Sha256; /* zero-initialise */
typedef struct Digest {
    uint8_t byte[32];
} Digest;

WEFT_MUST_CHECK int sha256_init(Sha256 *s, Err *err);
void sha256_update(Sha256 *s, const void *bytes, int64_t size);
/* Finishes and frees; s may be initialised again. */
void sha256_final(Sha256 *s, Digest *out);
void sha256_fini(Sha256 *s);
WEFT_MUST_CHECK int sha256_bytes(const void *bytes, int64_t size, Digest *out, Err *err);
WEFT_MUST_CHECK int sha256_file(const char *path, Digest *out, Err *err);
/* Of what is left to read of an open file; path: its name in messages. */
WEFT_MUST_CHECK int sha256_stream(FILE *f, const char *path, Digest *out, Err *err);
void digest_hex(const Digest *d, char out[65]);
/* The same three, straight to 64 hex digits: for JSON and messages, where the bytes are not needed. */
void sha256_final_hex(Sha256 *s, char out[65]);
WEFT_MUST_CHECK int sha256_hex(const void *bytes, int64_t size, char out[65], Err *err);
WEFT_MUST_CHECK int sha256_file_hex(const char *path, char out[65], Err *err);
/* 64 hex digits; ERR_FORMAT otherwise. */
WEFT_MUST_CHECK int digest_parse(const char *hex, Digest *out, Err *err);
#endif
