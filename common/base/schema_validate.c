/* Judging a value by a schema, and saying what is wrong with it. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema_internal.h"
#include "common/base/str.h"

/* Where in the value we are, innermost first; key NULL: an array element. */
typedef struct Place {
    const struct Place *up;
    const char *key;
    size_t index;
} Place;

typedef struct Check {
    const Schema *schema;
    Err *err;
} Check;

static int write_place(Str *s, const Place *p, Err *err)
{
    if (!p)
        return 0;
    int rc = write_place(s, p->up, err);
    if (rc < 0)
        return rc;
    return p->key ? str_printf(s, err, "%s%s", s->len ? "." : "", p->key) : str_printf(s, err, "[%zu]", p->index);
}

/* A value as messages show it. */
static int short_text(const json_t *v, char *out, size_t size, Err *err)
{
    if (json_is_object(v) || json_is_array(v)) {
        snprintf(out, size, "%s", json_is_object(v) ? "an object" : "an array");
        return 0;
    }
    char *text = json_text(v, 0, err);
    if (!text)
        return ERR_NOMEM;
    snprintf(out, size, "%s", text);
    mem_free(text);
    return 0;
}

/* "'place': expected ..., found ..." */
static int wrong(const Check *c, const Place *place, const json_t *found, const char *expected)
{
    char found_text[80];
    Str where = {0};
    int rc = short_text(found, found_text, sizeof found_text, c->err);
    if (rc == 0)
        rc = write_place(&where, place, c->err);
    if (rc == 0 && where.len)
        rc = err_set(c->err, ERR_FORMAT, "'%s': expected %s, found %s", where.data, expected, found_text);
    else if (rc == 0)
        rc = err_set(c->err, ERR_FORMAT, "expected %s, found %s", expected, found_text);
    str_fini(&where);
    return rc;
}

static int wrong_number(const Check *c, const Place *place, const json_t *found, const char *relation, double bound)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%s %.16g", relation, bound);
    return wrong(c, place, found, expected);
}

static int has_type(const json_t *v, const char *type)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return strcmp(type, "object") == 0;
    case JSON_ARRAY: return strcmp(type, "array") == 0;
    case JSON_STRING: return strcmp(type, "string") == 0;
    case JSON_INTEGER: return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case JSON_REAL: return strcmp(type, "number") == 0;
    case JSON_TRUE:
    case JSON_FALSE: return strcmp(type, "boolean") == 0;
    default: return strcmp(type, "null") == 0;
    }
}

static int type_fits(const json_t *type, const json_t *v)
{
    if (!type)
        return 1;
    if (json_is_string(type))
        return has_type(v, json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++) {
        if (has_type(v, json_string_value(json_array_get(type, i))))
            return 1;
    }
    return 0;
}

/* A number in quotes, where a number is wanted. */
static int is_quoted_number(const json_t *type, const json_t *v)
{
    json_t *number = NULL;
    int is_number = 0;
    if (json_is_string(v) && json_string_length(v) < 64)
        number = json_loads(json_string_value(v), JSON_DECODE_ANY, NULL);
    if (number)
        is_number = json_is_number(number) && type_fits(type, number);
    json_decref(number);
    return is_number;
}

/* A text, where a list or an object is wanted: how one is written. */
static const char *example(const json_t *type, const json_t *v)
{
    const char *name = json_is_string(v) ? json_string_value(type) : NULL;
    if (name && strcmp(name, "array") == 0)
        return " such as [\"a\", \"b\"]";
    return name && strcmp(name, "object") == 0 ? " such as {\"a\": 1}" : "";
}

/* "a or b or c" of an array of JSON values or type names. */
static int wrong_choice(const Check *c, const Place *place, const json_t *v, const json_t *choices)
{
    Str s = {0};
    int rc = str_append(&s, json_is_string(choices) ? json_string_value(choices) : "", c->err);
    for (size_t i = 0; i < json_array_size(choices) && rc == 0; i++) {
        char text[80];
        rc = short_text(json_array_get(choices, i), text, sizeof text, c->err);
        if (rc == 0)
            rc = str_printf(&s, c->err, "%s%s", i ? " or " : "", text);
    }
    if (rc == 0 && is_quoted_number(choices, v))
        rc = str_append(&s, " without quotes", c->err);
    if (rc == 0)
        rc = str_append(&s, example(choices, v), c->err);
    if (rc == 0)
        rc = wrong(c, place, v, s.data);
    str_fini(&s);
    return rc;
}

/* "text such as a or b" where the schema has examples, else the pattern. */
static int wrong_text(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    const json_t *examples = json_object_get(node, "examples"), *one;
    Str s = {0};
    size_t i;
    int rc = json_array_size(examples)
                 ? str_append(&s, "text such as", c->err)
                 : str_printf(&s, c->err, "text that matches %s", json_string_value(json_object_get(node, "pattern")));
    json_array_foreach (examples, i, one)
        if (rc == 0)
            rc = str_printf(&s, c->err, "%s \"%s\"", i ? " or" : "", json_string_value(one));
    if (rc == 0)
        rc = wrong(c, place, v, s.data);
    str_fini(&s);
    return rc;
}

/* Exactly: long double holds every int64_t, while as a double 2^53 + 1 would be 2^53. */
static long double exact(const json_t *v)
{
    return json_is_integer(v) ? (long double)json_integer_value(v) : (long double)json_real_value(v);
}

/* Of reals by their quotient as a double: neither 0.0075 nor 0.0001 is exactly a binary fraction, but
 * their quotient rounds to 75. */
static int is_multiple(const json_t *v, const json_t *of)
{
    double quotient = json_number_value(v) / json_number_value(of);
    if (json_is_integer(v) && json_is_integer(of))
        return fmodl(exact(v), exact(of)) == 0;
    return isfinite(quotient) && quotient == floor(quotient);
}

static int wrong_multiple(const Check *c, const Place *place, const json_t *v, const json_t *of)
{
    char expected[128];
    double step = json_number_value(of), below = floor(json_number_value(v) / step) * step;
    snprintf(expected, sizeof expected, "a multiple of %.16g (the nearest are %.16g and %.16g)", step, below,
             below + step);
    return wrong(c, place, v, expected);
}

static int check_number(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    const json_t *bound;
    long double x = exact(v);
    if ((bound = json_object_get(node, "minimum")) && !(x >= exact(bound)))
        return wrong_number(c, place, v, "at least", json_number_value(bound));
    if ((bound = json_object_get(node, "maximum")) && !(x <= exact(bound)))
        return wrong_number(c, place, v, "at most", json_number_value(bound));
    if ((bound = json_object_get(node, "exclusiveMinimum")) && !(x > exact(bound)))
        return wrong_number(c, place, v, "more than", json_number_value(bound));
    if ((bound = json_object_get(node, "exclusiveMaximum")) && !(x < exact(bound)))
        return wrong_number(c, place, v, "less than", json_number_value(bound));
    if ((bound = json_object_get(node, "multipleOf")) && !is_multiple(v, bound))
        return wrong_multiple(c, place, v, bound);
    return 0;
}

static int64_t count_characters(const char *s)
{
    int64_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static int check_string(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    const json_t *bound;
    int64_t n = count_characters(json_string_value(v));
    if ((bound = json_object_get(node, "minLength")) && n < json_integer_value(bound))
        return wrong_number(c, place, v, "a string of characters: at least", json_number_value(bound));
    if ((bound = json_object_get(node, "maxLength")) && n > json_integer_value(bound))
        return wrong_number(c, place, v, "a string of characters: at most", json_number_value(bound));
    const json_t *pattern = json_object_get(node, "pattern");
    for (int64_t i = 0; pattern && i < c->schema->n_patterns; i++) {
        if (c->schema->patterns[i].text != pattern)
            continue;
        pcre2_match_data *match = pcre2_match_data_create(1, NULL);
        if (!match)
            return err_set(c->err, ERR_NOMEM, "out of memory: matching a pattern");
        int rc = pcre2_match(c->schema->patterns[i].code, (PCRE2_SPTR)json_string_value(v), json_string_length(v), 0, 0,
                             match, NULL);
        pcre2_match_data_free(match);
        if (rc < 0)
            return wrong_text(c, node, v, place);
    }
    return 0;
}

static int validate(const Check *c, const json_t *node, const json_t *v, const Place *place);

static int wrong_length(const Check *c, const Place *place, size_t n, const char *relation, const json_t *bound)
{
    json_t *found = json_integer((json_int_t)n);
    char expected[64];
    snprintf(expected, sizeof expected, "%s %" JSON_INTEGER_FORMAT " element%s", relation, json_integer_value(bound),
             str_plural(json_integer_value(bound)));
    int rc = found ? wrong(c, place, found, expected) : err_set(c->err, ERR_NOMEM, "no memory to check a list");
    json_decref(found);
    return rc;
}

static int check_array(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    const json_t *bound, *items = json_object_get(node, "items");
    size_t n = json_array_size(v);
    if ((bound = json_object_get(node, "minItems")) && (json_int_t)n < json_integer_value(bound))
        return wrong_length(c, place, n, "at least", bound);
    if ((bound = json_object_get(node, "maxItems")) && (json_int_t)n > json_integer_value(bound))
        return wrong_length(c, place, n, "at most", bound);
    for (size_t i = 0; items && i < n; i++) {
        int rc = validate(c, items, json_array_get(v, i), &(Place){place, NULL, i});
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int unknown_key(const Check *c, const json_t *properties, const char *key, const Place *place)
{
    Str where = {0}, there = {0};
    const char *name;
    json_t *member;
    const char **names = mem_calloc((int64_t)json_object_size(properties) + 1, sizeof *names, c->err);
    if (!names)
        return ERR_NOMEM;
    int64_t n = 0;
    json_object_foreach ((json_t *)properties, name, member)
        names[n++] = name;
    const char *near = str_nearest(key, names);
    int rc = write_place(&where, &(Place){place, key, 0}, c->err);
    if (rc == 0 && near)
        rc = write_place(&there, &(Place){place, near, 0}, c->err);
    if (rc == 0 && near)
        rc = err_set(c->err, ERR_FORMAT, "unknown key '%s'; did you mean '%s'?", where.data, there.data);
    else if (rc == 0)
        rc = err_set(c->err, ERR_FORMAT, "unknown key '%s'", where.data);
    str_fini(&there);
    str_fini(&where);
    mem_free(names);
    return rc;
}

static int missing_key(const Check *c, const char *key, const Place *place)
{
    Str where = {0};
    int rc = write_place(&where, &(Place){place, key, 0}, c->err);
    if (rc == 0)
        rc = err_set(c->err, ERR_FORMAT, "key '%s' is missing", where.data);
    str_fini(&where);
    return rc;
}

static int check_object(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    const json_t *properties = json_object_get(node, "properties"),
                 *rest = json_object_get(node, "additionalProperties");
    const json_t *required = json_object_get(node, "required");
    const char *key;
    json_t *member;
    /* Unknown keys first: a misspelt key is also a missing one, and its spelling is the better
     * news. */
    json_object_foreach ((json_t *)v, key, member) {
        if (!json_object_get(properties, key) && json_is_false(rest))
            return unknown_key(c, properties, key, place);
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!json_object_get(v, name))
            return missing_key(c, name, place);
    }
    json_object_foreach ((json_t *)v, key, member) {
        const json_t *rule = json_object_get(properties, key);
        if (!rule)
            rule = rest;
        int rc = rule ? validate(c, rule, member, &(Place){place, key, 0}) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* anyOf and oneOf.  When nothing fits, the message is that of the first branch whose type fits: the
 * one that was meant. */
static int check_branches(const Check *c, const json_t *branches, int one, const json_t *v, const Place *place)
{
    int fits = 0;
    Err *meant = mem_calloc(2, sizeof *meant, c->err); /* [0] the message to keep, [1] this branch's */
    if (!meant)
        return ERR_NOMEM;
    int rc = 0;
    for (size_t i = 0; i < json_array_size(branches) && rc != ERR_NOMEM; i++) {
        const json_t *branch = json_array_get(branches, i), *target = schema_resolve(c->schema, branch);
        err_clear(&meant[1]);
        rc = validate(&(Check){c->schema, &meant[1]}, branch, v, place);
        fits += rc == 0;
        if (rc < 0 && type_fits(json_object_get(target, "type"), v) && !meant[0].msg[0])
            meant[0] = meant[1];
    }
    if (rc == ERR_NOMEM)
        err_set(c->err, rc, "%s", meant[1].msg);
    else if (fits == 1 || (fits && !one))
        rc = 0;
    else if (fits)
        rc = wrong(c, place, v, "exactly one of the allowed forms to fit");
    else if (meant[0].msg[0])
        rc = err_set(c->err, ERR_FORMAT, "%s", meant[0].msg);
    else
        rc = wrong(c, place, v, "one of the allowed forms");
    mem_free(meant);
    return rc;
}

static int check_choices(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    const json_t *choices = json_object_get(node, "enum"), *only = json_object_get(node, "const");
    if (only && !json_equal(only, v)) {
        char expected[80];
        int rc = short_text(only, expected, sizeof expected, c->err);
        return rc < 0 ? rc : wrong(c, place, v, expected);
    }
    for (size_t i = 0; i < json_array_size(choices); i++) {
        if (json_equal(json_array_get(choices, i), v))
            return 0;
    }
    return choices ? wrong_choice(c, place, v, choices) : 0;
}

static int validate(const Check *c, const json_t *node, const json_t *v, const Place *place)
{
    if (json_is_true(node))
        return 0;
    if (json_is_false(node))
        return wrong(c, place, v, "nothing");
    const json_t *target = schema_resolve(c->schema, node);
    int rc = 0;
    if (target != node)
        rc = validate(c, target, v, place);
    const json_t *type = json_object_get(node, "type"), *any = json_object_get(node, "anyOf"),
                 *one = json_object_get(node, "oneOf");
    if (rc == 0 && !type_fits(type, v))
        rc = wrong_choice(c, place, v, type);
    if (rc == 0)
        rc = check_choices(c, node, v, place);
    if (rc == 0 && any)
        rc = check_branches(c, any, 0, v, place);
    if (rc == 0 && one)
        rc = check_branches(c, one, 1, v, place);
    if (rc < 0)
        return rc;
    switch (json_typeof(v)) {
    case JSON_OBJECT: return check_object(c, node, v, place);
    case JSON_ARRAY: return check_array(c, node, v, place);
    case JSON_STRING: return check_string(c, node, v, place);
    case JSON_INTEGER:
    case JSON_REAL: return check_number(c, node, v, place);
    default: return 0;
    }
}

int schema_validate(const Schema *s, const json_t *value, const char *what, Err *err)
{
    int rc = validate(&(Check){s, err}, s->root, value, NULL);
    return rc < 0 ? err_wrap(err, rc, "%s", what) : 0;
}

int schema_validate_at(const Schema *s, const json_t *node, const char *place, const json_t *value, Err *err)
{
    return validate(&(Check){s, err}, node, value, &(Place){NULL, place, 0});
}

int schema_check(const char *name, const json_t *value, const char *what, Err *err)
{
    Schema *s;
    int rc = schema_open(&s, name, err);
    if (rc < 0)
        return rc;
    rc = schema_validate(s, value, what, err);
    schema_close(&s);
    return rc;
}
