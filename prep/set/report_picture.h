/* Thumbnails inside the report's pages. */
#ifndef WEFT_PREP_SET_REPORT_PICTURE_H
#define WEFT_PREP_SET_REPORT_PICTURE_H
#include <stdio.h>
#include "common/base/err.h"

/* The thumbnail dir/name (NULL: none) as an <img> with its bytes, or a box that says there is none. */
WEFT_MUST_CHECK int report_picture(const char *dir, const char *name, FILE *out, Err *err);
#endif
