#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "common/base/json.h"
#include "common/base/recipe.h"

/* An alias is the same node again, so a few lines can stand for billions of nodes, or for a node
 * that holds itself. */
#define YAML_DEPTH_MAX 64
#define YAML_NODES_MAX 100000

typedef struct Reader {
    yaml_document_t document;
    const char *name;
    int64_t nodes;
    Err *err;
} Reader;

static int bad(const Reader *r, const yaml_node_t *node, const char *what)
{
    return err_set(r->err, ERR_FORMAT, "%s:%zu:%zu: %s", r->name, node->start_mark.line + 1,
                   node->start_mark.column + 1, what);
}

static int is_one_of(const char *s, const char *const *names)
{
    for (; *names; names++) {
        if (strcmp(s, *names) == 0)
            return 1;
    }
    return 0;
}

/* [-+]?[0-9]+, 0o[0-7]+, 0x[0-9a-fA-F]+ of the core schema; 0 when it is none of these. */
static int integer_base(const char *s)
{
    const char *digits = "0123456789";
    int base = 10;
    if (s[0] == '0' && (s[1] == 'o' || s[1] == 'x')) {
        base = s[1] == 'o' ? 8 : 16;
        digits = s[1] == 'o' ? "01234567" : "0123456789abcdefABCDEF";
        s += 2;
    } else if (*s == '-' || *s == '+') {
        s++;
    }
    return *s && s[strspn(s, digits)] == 0 ? base : 0;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static int is_float(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, "0123456789"), part = 0;
    s += whole;
    if (*s == '.') {
        part = strspn(s + 1, "0123456789");
        s += 1 + part;
    }
    if (whole + part == 0)
        return 0;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        size_t exponent = strspn(s, "0123456789");
        if (!exponent)
            return 0;
        s += exponent;
    }
    return *s == 0;
}

static int plain_value(const Reader *r, const yaml_node_t *node, const char *s, json_t **out)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    static const char *const not_finite[] = {
        ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN", NULL,
    };
    int base = integer_base(s);
    if (is_one_of(s, not_finite))
        return bad(r, node, "a number must be finite");
    if (is_one_of(s, nulls)) {
        *out = json_null();
    } else if (is_one_of(s, trues)) {
        *out = json_true();
    } else if (is_one_of(s, falses)) {
        *out = json_false();
    } else if (base) {
        errno = 0;
        long long x = strtoll(base == 10 ? s : s + 2, NULL, base);
        if (errno == ERANGE)
            return bad(r, node, "a whole number must fit 64 bits");
        *out = json_integer(x);
    } else if (is_float(s)) {
        double x = strtod(s, NULL);
        if (x - x != 0)
            return bad(r, node, "a number must be finite");
        if (json_number_vanishes(s))
            return bad(r, node, "a number is too small to be told from 0");
        *out = json_real(x);
    } else {
        *out = json_string(s);
    }
    return 0;
}

static int convert(Reader *r, int index, int depth, json_t **out);

static int convert_mapping(Reader *r, const yaml_node_t *node, int depth, json_t *object)
{
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, p->key);
        if (!key || key->type != YAML_SCALAR_NODE)
            return bad(r, node, "a key must be a plain name");
        const char *name = (const char *)key->data.scalar.value;
        if (strlen(name) != key->data.scalar.length)
            return bad(r, key, "a key must not contain a NUL");
        if (json_object_get(object, name))
            return bad(r, key, "a key is given twice");
        json_t *value = NULL;
        int rc = convert(r, p->value, depth + 1, &value);
        if (rc < 0)
            return rc;
        if (json_object_set_new(object, name, value) < 0)
            return err_set(r->err, ERR_NOMEM, "out of memory: reading '%s'", r->name);
    }
    return 0;
}

static int convert_sequence(Reader *r, const yaml_node_t *node, int depth, json_t *array)
{
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        json_t *value = NULL;
        int rc = convert(r, *i, depth + 1, &value);
        if (rc < 0)
            return rc;
        if (json_array_append_new(array, value) < 0)
            return err_set(r->err, ERR_NOMEM, "out of memory: reading '%s'", r->name);
    }
    return 0;
}

static int convert_scalar(Reader *r, const yaml_node_t *node, json_t **out)
{
    const char *s = (const char *)node->data.scalar.value;
    if (strlen(s) != node->data.scalar.length)
        return bad(r, node, "text must not contain a NUL");
    if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return plain_value(r, node, s, out);
    *out = json_string(s);
    return 0;
}

static int convert(Reader *r, int index, int depth, json_t **out)
{
    static const char *const tags[] = {YAML_STR_TAG, YAML_MAP_TAG, YAML_SEQ_TAG, NULL};
    const yaml_node_t *node = yaml_document_get_node(&r->document, index);
    int rc = 0;
    *out = NULL;
    if (depth > YAML_DEPTH_MAX)
        return bad(r, node, "nested deeper than 64");
    if (++r->nodes > YAML_NODES_MAX)
        return bad(r, node, "more than 100000 values");
    if (node->tag && !is_one_of((const char *)node->tag, tags))
        return bad(r, node, "explicit types (!!) are not supported");
    if (node->type == YAML_SCALAR_NODE) {
        rc = convert_scalar(r, node, out);
    } else if (node->type == YAML_MAPPING_NODE) {
        *out = json_object();
        if (*out)
            rc = convert_mapping(r, node, depth, *out);
    } else {
        *out = json_array();
        if (*out)
            rc = convert_sequence(r, node, depth, *out);
    }
    if (rc == 0 && !*out)
        rc = err_set(r->err, ERR_NOMEM, "out of memory: reading '%s'", r->name);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

static int err_yaml(const yaml_parser_t *p, const char *name, Err *err)
{
    if (p->error == YAML_MEMORY_ERROR)
        return err_set(err, ERR_NOMEM, "out of memory: reading '%s'", name);
    return err_set(err, ERR_FORMAT, "%s:%zu:%zu: %s", name, p->problem_mark.line + 1, p->problem_mark.column + 1,
                   p->problem ? p->problem : "not YAML");
}

/* A stream holds one document, or none, which reads as null. */
static int read_stream(yaml_parser_t *parser, const char *name, json_t **out, Err *err)
{
    Reader r = {.name = name, .err = err};
    if (!yaml_parser_load(parser, &r.document))
        return err_yaml(parser, name, err);
    int rc = 0, empty = !yaml_document_get_root_node(&r.document);
    if (empty)
        *out = json_null();
    else
        rc = convert(&r, 1, 0, out);
    yaml_document_delete(&r.document);
    if (rc < 0 || empty)
        return rc;
    if (!yaml_parser_load(parser, &r.document)) {
        rc = err_yaml(parser, name, err);
    } else {
        if (yaml_document_get_root_node(&r.document))
            rc = err_set(err, ERR_FORMAT, "%s: more than one YAML document", name);
        yaml_document_delete(&r.document);
    }
    return rc;
}

int yaml_parse(json_t **out, const char *text, int64_t size, const char *name, Err *err)
{
    yaml_parser_t parser;
    *out = NULL;
    if (!yaml_parser_initialize(&parser))
        return err_set(err, ERR_NOMEM, "out of memory: reading '%s'", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, (size_t)size);
    int rc = read_stream(&parser, name, out, err);
    yaml_parser_delete(&parser);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}
