/* A file under a second name: linked where the file system can, copied elsewhere. */
#ifndef WEFT_PREP_SET_PLACE_H
#define WEFT_PREP_SET_PLACE_H
#include "common/base/err.h"

/* `from` also under the name `to`, which is replaced.  1 linked, 2 copied: where the file system
 * cannot link, or not between the two; negative error. */
WEFT_MUST_CHECK int place_link_or_copy(const char *from, const char *to, Err *err);
/* 1 when both files hold the same bytes, 0 when not, negative error. */
WEFT_MUST_CHECK int place_same_bytes(const char *a, const char *b, Err *err);
#endif
