/* Parts of our HTML pages.  Everything that comes from files is escaped; pictures are data: URIs; a page
 * loads nothing and runs nothing. */
#ifndef WEFT_COMMON_BASE_HTML_H
#define WEFT_COMMON_BASE_HTML_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

/* Forbids a page everything but its own styles and the pictures and videos inside it. */
#define HTML_POLICY                                                                                          \
    "<meta http-equiv=\"Content-Security-Policy\"\n content=\"default-src 'none'; img-src data:; style-src " \
    "'unsafe-inline'\">\n"
/* The same for a page that shows pictures and videos which lie beside it. */
#define HTML_POLICY_FILES                                                                                           \
    "<meta http-equiv=\"Content-Security-Policy\"\n content=\"default-src 'none'; img-src 'self' data:; media-src " \
    "'self'; style-src 'unsafe-inline'\">\n"

/* Text, escaped; NULL writes nothing.  What would turn the page's reading direction around is shown as
 * \u202E. */
void html_text(FILE *out, const char *s);
/* Text in an element of its own direction: a right-to-left caption turns nothing else around. */
void html_bdi(FILE *out, const char *s);
/* n bytes as base64. */
void html_base64(FILE *out, const void *bytes, int64_t n);
/* The PNG `path` as an <img> with its bytes: 1, or 0 and nothing written where it cannot be read, is no
 * PNG of at most 16 MiB, or is a link; ERR_NOMEM. */
WEFT_MUST_CHECK int html_png(FILE *out, const char *path, const char *alt, Err *err);
/* The recipe's sections (a NULL-terminated list) as tables, folded away on screens; NULL writes nothing. */
WEFT_MUST_CHECK int html_recipe(FILE *out, const json_t *recipe, const char *const *sections, Err *err);
#endif
