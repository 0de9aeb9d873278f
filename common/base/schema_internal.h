/* Private to schema.c (which reads a schema) and schema_validate.c (which applies it). */
#ifndef WEFT_COMMON_BASE_SCHEMA_INTERNAL_H
#define WEFT_COMMON_BASE_SCHEMA_INTERNAL_H
#include "common/base/schema.h"
#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

typedef struct Pattern {
    const json_t *text; /* the schema's own string */
    pcre2_code *code;
} Pattern;

struct Schema {
    json_t *root;
    Pattern *patterns;
    int64_t n_patterns;
};

/* The node, or what its $ref points to; NULL when that leads nowhere. */
const json_t *schema_resolve(const Schema *s, const json_t *node);
#endif
