/* Writing a JSON object member by member.  The first failure sticks: every later call does nothing,
 * and jsonw_finish reports it once.
 *
 *   JsonWriter w;
 *   jsonw_begin(&w);
 *   jsonw_str(&w, "file", path);
 *   jsonw_int(&w, "size", size);
 *   jsonw_open_array(&w, "crop");
 *   for (int i = 0; i < 4; i++)
 *       jsonw_int(&w, NULL, crop[i]);    (in an array, elements have no key)
 *   jsonw_close(&w);
 *   return jsonw_finish(&w, &out, "the clip's record", err);
 *
 * Members keep the order in which they are written.  int64_t needs no cast. */
#ifndef WEFT_COMMON_BASE_JSONW_H
#define WEFT_COMMON_BASE_JSONW_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/hash.h"

enum { JSONW_DEPTH = 8 }; /* objects and arrays inside one another */

typedef struct JsonWriter {
    json_t *level[JSONW_DEPTH]; /* the value being built, and those open inside it */
    int depth;                  /* index of the innermost open one */
    int code;                   /* 0, or the first failure */
    char key[64];               /* of the member that failed */
} JsonWriter;

/* Starts an object (an array).  Always finish, also after a failure. */
void jsonw_begin(JsonWriter *w);
void jsonw_begin_array(JsonWriter *w);

void jsonw_str(JsonWriter *w, const char *key, const char *text); /* NULL writes null; must be UTF-8 */
void jsonw_int(JsonWriter *w, const char *key, int64_t x);
void jsonw_num(JsonWriter *w, const char *key, double x); /* must be finite */
void jsonw_bool(JsonWriter *w, const char *key, int x);
void jsonw_null(JsonWriter *w, const char *key);
void jsonw_ints(JsonWriter *w, const char *key, const int64_t *x, int64_t n); /* an array */
void jsonw_hex(JsonWriter *w, const char *key, const Digest *digest);         /* 64 hex digits */
/* Takes over `value` in every case; NULL counts as out of memory. */
void jsonw_take(JsonWriter *w, const char *key, json_t *value);
/* Shares `value`, which stays the caller's too. */
void jsonw_share(JsonWriter *w, const char *key, const json_t *value);

/* What follows, up to jsonw_close, goes into a new object (array) under `key`. */
void jsonw_open(JsonWriter *w, const char *key);
void jsonw_open_array(JsonWriter *w, const char *key);
void jsonw_close(JsonWriter *w);

/* Ends the writing: 0 and *out (a new reference), or *out NULL and ERR_NOMEM, or ERR_FORMAT for a
 * text that is not UTF-8 or a number that is not finite.  `what` names the object in the message. */
WEFT_MUST_CHECK int jsonw_finish(JsonWriter *w, json_t **out, const char *what, Err *err);
#endif
