#include "common/base/schema.h"
#include <stdio.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema_internal.h"

/* ---- what is compiled in (the Makefile makes the table) -------------------------------------- */

extern const struct Embedded {
    const char *path, *text;
} weft_embedded[];

const char *embedded_file(const char *path)
{
    for (const struct Embedded *e = weft_embedded; e->path; e++) {
        if (strcmp(e->path, path) == 0)
            return e->text;
    }
    return NULL;
}

const char *embedded_path(int64_t i)
{
    for (const struct Embedded *e = weft_embedded; e->path && i >= 0; e++, i--) {
        if (i == 0)
            return e->path;
    }
    return NULL;
}

/* ---- the schema itself ----------------------------------------------------------------------- */

const json_t *schema_resolve(const Schema *s, const json_t *node)
{
    const char *ref = json_string_value(json_object_get(node, "$ref"));
    if (!ref)
        return node;
    if (strncmp(ref, "#/$defs/", 8) != 0)
        return NULL;
    return json_object_get(json_object_get(s->root, "$defs"), ref + 8);
}

static int add_pattern(Schema *s, const json_t *text, Err *err)
{
    int code;
    size_t at;
    if (!json_is_string(text))
        return err_set(err, ERR_FORMAT, "schema: a pattern is a string");
    Pattern *more = mem_realloc(s->patterns, s->n_patterns + 1, sizeof *more, err);
    if (!more)
        return ERR_NOMEM;
    s->patterns = more;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)json_string_value(text), PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code,
                                         &at, NULL);
    if (!compiled)
        return err_set(err, ERR_FORMAT, "schema: pattern '%s': error %d at %zu", json_string_value(text), code, at);
    s->patterns[s->n_patterns++] = (Pattern){text, compiled};
    return 0;
}

static int check_self(Schema *s, const json_t *node, int depth, Err *err);

static int check_members(Schema *s, const json_t *map, int depth, Err *err)
{
    const char *key;
    json_t *member;
    int rc = json_is_object(map) ? 0 : err_set(err, ERR_FORMAT, "schema: properties and $defs are objects");
    json_object_foreach ((json_t *)map, key, member) {
        if (rc == 0)
            rc = check_self(s, member, depth, err);
    }
    return rc;
}

/* Refuses keywords that the validator does not know: a rule that is not enforced must not look as
 * if it were. */
static int check_self(Schema *s, const json_t *node, int depth, Err *err)
{
    static const char *const plain[] = {
        "type",
        "required",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "title",
        "description",
        "default",
        "examples",
        "$schema",
        "$id",
        NULL,
    };
    const char *key;
    json_t *v;
    int rc = 0;
    if (json_is_boolean(node))
        return 0;
    if (!json_is_object(node))
        return err_set(err, ERR_FORMAT, "schema: a schema is an object or a boolean");
    if (depth > 64)
        return err_set(err, ERR_LIMIT, "schema: nested deeper than 64");
    json_object_foreach ((json_t *)node, key, v) {
        int known = 0;
        for (const char *const *p = plain; *p; p++)
            known |= strcmp(*p, key) == 0;
        if (known)
            continue;
        if (strcmp(key, "properties") == 0 || strcmp(key, "$defs") == 0) {
            rc = check_members(s, v, depth + 1, err);
        } else if (strcmp(key, "items") == 0 || strcmp(key, "additionalProperties") == 0) {
            rc = check_self(s, v, depth + 1, err);
        } else if (strcmp(key, "oneOf") == 0 || strcmp(key, "anyOf") == 0) {
            for (size_t i = 0; i < json_array_size(v) && rc == 0; i++)
                rc = check_self(s, json_array_get(v, i), depth + 1, err);
        } else if (strcmp(key, "pattern") == 0) {
            rc = add_pattern(s, v, err);
        } else if (strcmp(key, "$ref") == 0) {
            const json_t *target = schema_resolve(s, node);
            if (target && !json_object_get(target, "$ref"))
                continue;
            rc = err_set(err, ERR_FORMAT, "schema: $ref '%s' leads nowhere",
                         json_is_string(v) ? json_string_value(v) : "?");
        } else {
            rc = err_set(err, ERR_FORMAT, "schema: keyword '%s' is not supported", key);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

int schema_open(Schema **out, const char *name, Err *err)
{
    *out = NULL;
    char *path = mem_printf(err, "schemas/%s.schema.json", name);
    if (!path)
        return ERR_NOMEM;
    const char *text = embedded_file(path);
    int rc = text ? schema_open_text(out, text, path, err) : err_set(err, ERR_NOTFOUND, "no schema named '%s'", name);
    mem_free(path);
    return rc;
}

int schema_open_text(Schema **out, const char *text, const char *name, Err *err)
{
    *out = NULL;
    Schema *s = mem_calloc(1, sizeof *s, err);
    if (!s)
        return ERR_NOMEM;
    int rc = json_parse(&s->root, text, (int64_t)strlen(text), name, err);
    if (rc == 0)
        rc = check_self(s, s->root, 0, err);
    if (rc < 0) {
        schema_close(&s);
        return err_wrap(err, rc, "%s", name);
    }
    *out = s;
    return 0;
}

void schema_close(Schema **s)
{
    if (!*s)
        return;
    for (int64_t i = 0; i < (*s)->n_patterns; i++)
        pcre2_code_free((*s)->patterns[i].code);
    mem_free((*s)->patterns);
    json_decref((*s)->root);
    mem_free(*s);
    *s = NULL;
}

const json_t *schema_json(const Schema *s)
{
    return s->root;
}
