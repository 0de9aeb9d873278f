/* JSON Schema validation against the very files in schemas/, which are compiled into the programs.
 *
 * The subset our schemas use (schema_open refuses anything else): type (also as an array),
 * properties, required, additionalProperties (boolean or schema), items, enum, const, minimum,
 * maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, minItems, maxItems, minLength,
 * maxLength, pattern (PCRE2), oneOf, anyOf, $ref into #/$defs, title, description, default,
 * examples, $schema, $id.  Stricter than the standard in one point: 1.0 is no "integer". */
#ifndef WEFT_COMMON_BASE_SCHEMA_H
#define WEFT_COMMON_BASE_SCHEMA_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"

typedef struct Schema Schema;

/* `name` is a file of schemas/ without ".schema.json": "recipe", "manifest", "dataset", ...
 * ERR_NOTFOUND otherwise. */
WEFT_MUST_CHECK int schema_open(Schema **out, const char *name, Err *err);
/* From schema text; `name` stands in messages. */
WEFT_MUST_CHECK int schema_open_text(Schema **out, const char *text, const char *name, Err *err);
void schema_close(Schema **s);
/* 0, or ERR_FORMAT naming where ("clip.num_frames"), what was expected and what was found.  An
 * unknown key names the nearest known one.  `what` stands in front of the message. */
WEFT_MUST_CHECK int schema_validate(const Schema *s, const json_t *value, const char *what, Err *err);
/* One value by one node of the schema; `place` is its name in the message ("training.batch_size"). */
WEFT_MUST_CHECK int schema_validate_at(const Schema *s, const json_t *node, const char *place, const json_t *value,
                                       Err *err);
/* open + validate + close. */
WEFT_MUST_CHECK int schema_check(const char *name, const json_t *value, const char *what, Err *err);
/* The schema as JSON, borrowed. */
const json_t *schema_json(const Schema *s);
/* An embedded text file by its path relative to the repository ("schemas/x.schema.json",
 * "common/presets/demo.json"), or NULL. */
const char *embedded_file(const char *path);
/* The path of the i-th embedded file (0, 1, ...), NULL after the last. */
const char *embedded_path(int64_t i);
#endif
