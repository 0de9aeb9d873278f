/* File names from texts. */
#ifndef WEFT_COMMON_TEXT_SLUG_H
#define WEFT_COMMON_TEXT_SLUG_H
#include "common/base/err.h"

enum { SLUG_BYTES = 60 }; /* at most, without the digits that mark a slug as cut */

/* Letters, marks and numbers of `text` (UTF-8), in lower case, all else as single hyphens between
 * them: "A red dress!" -> "a-red-dress".  Cut after a whole word where it would be longer than
 * SLUG_BYTES; then, and where nothing is left, "-" and the first 8 hexadecimal digits of the text's
 * SHA-256 follow, so that long texts which begin alike have names of their own.  mem_free. */
WEFT_MUST_CHECK char *slug_of(const char *text, Err *err);
#endif
