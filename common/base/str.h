/* A growing string, and the few string helpers the standard library lacks. */
#ifndef WEFT_COMMON_BASE_STR_H
#define WEFT_COMMON_BASE_STR_H
#include <stdint.h>
#include "common/base/err.h"

/* Zero-initialise to start.  data is NUL-terminated whenever it is not NULL. */
typedef struct Str {
    char *data;
    int64_t len, cap;
} Str;

WEFT_MUST_CHECK int str_append(Str *s, const char *text, Err *err);
WEFT_MUST_CHECK int str_append_n(Str *s, const void *bytes, int64_t n, Err *err);
WEFT_MUST_CHECK int str_printf(Str *s, Err *err, const char *fmt, ...) WEFT_PRINTF(3, 4);
void str_fini(Str *s);

/* 1 when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
int str_is_utf8(const char *s, int64_t n);
/* Bytes of UTF-8's byte order mark in front of the text: 3, or 0 without one. */
int64_t str_mark_size(const char *s, int64_t n);
/* Number of characters inserted, removed, replaced or swapped with their neighbour (case ignored)
 * between two names. */
int str_distance(const char *a, const char *b);
/* The nearest of `names` (NULL-terminated list) within distance max(2, len/3), 1 for three letters or
 * fewer; else the shortest that holds `name` as a part ("epochs": num_epochs), or NULL. */
const char *str_nearest(const char *name, const char *const *names);
/* The first character of text (not empty) into out; returns its bytes in text.  What could move the
 * cursor or turn the reading direction around (control characters C0, DEL and C1, line separators,
 * bidirectional marks, embeddings, overrides and isolates), and bytes that are not UTF-8, become \x1B
 * or \u202E. */
int str_escape_next(const char *text, char out[8]);
/* The same for all of text into out[size] (at least 1); newlines stay when kept.  What does not fit
 * is cut off at a whole character. */
void str_escape(char *out, int64_t size, const char *text, int keep_newlines);
int str_ends_with(const char *s, const char *suffix);
/* "" for 1, "s" for any other count: "%" PRId64 " frame%s". */
const char *str_plural(int64_t count);
#endif
