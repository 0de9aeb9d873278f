/* What export and import share: latents channels last (as the cache has them) and channels first (as
 * diffusers does), and a record's checksum. */
#ifndef WEFT_CACHE_EXPORT_LAYOUT_H
#define WEFT_CACHE_EXPORT_LAYOUT_H
#include "common/store/cache.h"

/* out [C,F,h,w] <- in [F,h,w,C], elements of any size; out->data has room, its shape is set here. */
void channels_first(Tensor *out, const Tensor *in);
/* out [F,h,w,C] <- in [C,F,h,w]. */
void channels_last(Tensor *out, const Tensor *in);
/* 16 hex digits: the checksum that this record has under the key (64 hex digits). */
WEFT_MUST_CHECK int export_checksum(char hex[17], RecordKind kind, const Tensor *t, const char *key, Err *err);
#endif
