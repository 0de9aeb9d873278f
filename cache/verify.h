/* weft-cache verify. */
#ifndef WEFT_CACHE_VERIFY_H
#define WEFT_CACHE_VERIFY_H
#include <stdio.h>
#include "common/base/log.h"
#include "common/ops/backend.h"

typedef struct VerifyParams {
    const char *dir;
    const char *prepared; /* NULL, or the dataset whose clips must all be there */
    const char *model;    /* folder; only with deep */
    int64_t deep;         /* how many clips to encode again, spread over the cache; 0: none */
    Backend *be;          /* with deep */
    const Log *log;
    FILE *out;
} VerifyParams;

/* Checks every page and every checksum, that all numbers are finite, that every clip's records exist
 * with the shapes that its entry states, and that the build was finished; with a prepared dataset, that
 * each of its accepted clips is there with its pixels (or among the rejected ones); with deep, that
 * encoding clips and their captions again gives the same bits.  Prints a line for each fault.  Returns 0
 * when the cache is sound, 1 when it is damaged or unfinished, negative when it cannot be read. */
WEFT_MUST_CHECK int cache_verify(const VerifyParams *params, Err *err);
#endif
