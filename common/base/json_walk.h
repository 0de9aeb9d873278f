/* The members of an object and the elements of an array where they stand in a text: nothing is copied, and
 * what a value holds is not judged.  For texts of many thousand lines, of which little is read. */
#ifndef WEFT_COMMON_BASE_JSON_WALK_H
#define WEFT_COMMON_BASE_JSON_WALK_H
#include <stdint.h>

/* A part of the text. */
typedef struct JsonSpan {
    const char *at;
    int64_t size;
} JsonSpan;

typedef struct JsonWalk {
    const char *at, *end;
    char close; /* '}' or ']' */
    int begun;
} JsonWalk;

/* Into the text of an object or array, with blanks around it: 1, or 0 where it does not begin as one. */
int json_walk_begin(JsonWalk *w, JsonSpan text);
/* 1 with the next value (blanks around it may be included) and its key, without quotation marks (of an
 * element, size 0); 0 behind the last; -1 where the text is no JSON, a key is written with escapes, or
 * something follows. */
int json_walk_next(JsonWalk *w, JsonSpan *key, JsonSpan *value);

int json_span_is(JsonSpan s, const char *text);
/* 1 with what stands between the quotation marks of a string without escapes, in UTF-8; 0: any other value. */
int json_span_text(JsonSpan value, JsonSpan *out);
/* 1 with an integer of 1 to 999999999999999; 0: any other value. */
int json_span_count(JsonSpan value, int64_t *out);
/* 1 when the text is one line of JSON throughout, its strings without escapes and in UTF-8, its numbers those of
 * json_span_count and 0, and no more than 16 deep; 0: it must be parsed.  That no key stands twice is not looked at. */
int json_span_plain(JsonSpan value);
#endif
