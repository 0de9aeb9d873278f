/* A file under a second name: linked where the file system can, copied elsewhere. */
#ifndef WEFT_PREP_SET_PLACE_H
#define WEFT_PREP_SET_PLACE_H
#include "common/base/err.h"

/* Gives the file `from` the second name `to`, and replaces a file of that name.  1: hard-linked; 2:
 * copied, because the file system has no links or the two names are on different ones; negative
 * error. */
WEFT_MUST_CHECK int place_link_or_copy(const char *from, const char *to, Err *err);
/* 1 when both files hold the same bytes, 0 when not, negative error. */
WEFT_MUST_CHECK int place_same_bytes(const char *a, const char *b, Err *err);
#endif
