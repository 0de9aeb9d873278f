/* JSON on top of jansson: errors as Err, typed getters with a path in the message, canonical text.
 * A `json_t *` returned by a function here is a new reference unless it says "borrowed". */
#ifndef WEFT_COMMON_BASE_JSON_H
#define WEFT_COMMON_BASE_JSON_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

/* Parses text; a byte order mark in front is left out.  Refused: duplicate keys, NUL in strings, numbers
 * that json_number_vanishes.  `name` stands in messages: "name:line:column: ...". */
WEFT_MUST_CHECK int json_parse(json_t **out, const char *text, int64_t size, const char *name, Err *err);
/* The object's members of these names (NULL-terminated) alone, "clip.file" for a member of a member
 * (which is there whole where it is no object): the rest is stepped over, ten times as fast as it
 * would be parsed, and without finding all that is wrong in it.  Text that is not one object is
 * parsed as above. */
WEFT_MUST_CHECK int json_parse_members(json_t **out, const char *text, int64_t size, const char *const *names,
                                       const char *name, Err *err);
WEFT_MUST_CHECK int json_read_file(json_t **out, const char *path, Err *err);
WEFT_MUST_CHECK int json_read_members(json_t **out, const char *path, const char *const *names, Err *err);
/* Compact or indented (indent > 0) text; keys in insertion order; mem_free. */
WEFT_MUST_CHECK char *json_text(const json_t *v, int indent, Err *err);
/* Whether the text is a number other than zero that a double cannot tell from zero, such as 1e-400. */
int json_number_vanishes(const char *text);
/* Sorted keys, no blanks, reals with 17 digits: the form that is hashed. mem_free. */
WEFT_MUST_CHECK char *json_canonical(const json_t *v, Err *err);
WEFT_MUST_CHECK int json_write_file(const json_t *v, const char *path, Err *err); /* atomic, indented, final newline */
/* A line of JSONL. */
WEFT_MUST_CHECK int json_write_line(const json_t *v, FILE *f, Err *err);

/* Typed access to an object's member; `where` names the object in messages
 * ("transformer/config.json").
 * _or versions give the default when the key is absent or null; a wrong type is an error in both. */
WEFT_MUST_CHECK int json_get_int(const json_t *o, const char *key, const char *where, int64_t *out, Err *err);
WEFT_MUST_CHECK int json_get_int_or(const json_t *o, const char *key, const char *where, int64_t dflt, int64_t *out,
                                    Err *err);
WEFT_MUST_CHECK int json_get_num(const json_t *o, const char *key, const char *where, double *out, Err *err);
WEFT_MUST_CHECK int json_get_num_or(const json_t *o, const char *key, const char *where, double dflt, double *out,
                                    Err *err);
WEFT_MUST_CHECK int json_get_bool_or(const json_t *o, const char *key, const char *where, int dflt, int *out, Err *err);
/* Borrowed from o. */
WEFT_MUST_CHECK int json_get_str(const json_t *o, const char *key, const char *where, const char **out, Err *err);
WEFT_MUST_CHECK int json_get_str_or(const json_t *o, const char *key, const char *where, const char *dflt,
                                    const char **out, Err *err);
#endif
