/* verify --deep: encodes clips again and compares bits. */
#ifndef WEFT_CACHE_VERIFY_DEEP_H
#define WEFT_CACHE_VERIFY_DEEP_H
#include "cache/verify.h"
#include "cache/view.h"

/* Prints a line for each record that comes out otherwise and counts it in *differing. */
WEFT_MUST_CHECK int verify_deep(const VerifyParams *params, View *view, int64_t *differing, Err *err);
#endif
