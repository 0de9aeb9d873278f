/* The token ids of a prepared dataset against the model that will encode them. */
#ifndef WEFT_CACHE_TOKENS_H
#define WEFT_CACHE_TOKENS_H
#include "cache/encoding.h"
#include "cache/prepared.h"

/* Refuses ids that the tokeniser in MODEL would not give, and ids that its text encoder does not know. */
WEFT_MUST_CHECK int tokens_check(Prepared *p, const Encoding *e, const char *model, Err *err);
#endif
