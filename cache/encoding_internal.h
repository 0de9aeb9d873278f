/* What encoding.c and encoding_key.c share. */
#ifndef WEFT_CACHE_ENCODING_INTERNAL_H
#define WEFT_CACHE_ENCODING_INTERNAL_H
#include "cache/encoding.h"
#include "common/base/jsonw.h"

/* Makes e->text_parts and e->latents_parts (anew), when all else is known. */
WEFT_MUST_CHECK int encoding_write_parts(Encoding *e, Err *err);
/* The member "tiling"; null without tiles. */
void encoding_write_tiling(JsonWriter *w, const Encoding *e);
#endif
