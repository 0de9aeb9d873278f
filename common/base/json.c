#include "common/base/json.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define JSON_FILE_MAX ((int64_t)1 << 30)

static int err_json(Err *err, const json_error_t *e, const char *name)
{
    /* jansson says nothing when its own allocation fails */
    if (!e->text[0] || json_error_code(e) == json_error_out_of_memory) {
        return err_set(err, ERR_NOMEM, "out of memory: reading '%s'", name);
    }
    /* jansson speaks of its own flags */
    const char *text = json_error_code(e) == json_error_null_character ? "\\u0000 in a text" : e->text;
    return err_set(err, ERR_FORMAT, "%s:%d:%d: %s", name, e->line, e->column, text);
}

/* Whether a number of n bytes vanishes; only one with a long exponent, or very long, can. */
static int vanishes(const char *number, int64_t n, Err *err)
{
    int64_t mantissa = 0;
    while (mantissa < n && number[mantissa] != 'e' && number[mantissa] != 'E')
        mantissa++;
    if (n - mantissa < (int64_t)strlen("e-300") && n < 300)
        return 0;
    char *text = mem_strndup(number, n, err);
    int rc = text ? json_number_vanishes(text) : ERR_NOMEM;
    mem_free(text);
    return rc;
}

/* Refuses a number that jansson reads as 0 without a word.  The text is JSON. */
static int check_numbers(const char *text, int64_t size, const char *name, Err *err)
{
    const char *line = text, *end = text + size;
    int number = 1, quoted = 0, rc = 0;
    for (const char *at = text; at < end; at++) {
        if (*at == '"') {
            quoted = !quoted;
        } else if (quoted) {
            at += *at == '\\';
        } else if (*at == '\n') {
            line = at + 1;
            number++;
        } else if (*at >= '0' && *at <= '9') {
            const char *begin = at;
            while (at + 1 < end && memchr("0123456789.eE+-", at[1], 15))
                at++;
            if ((rc = vanishes(begin, at + 1 - begin, err)) < 0)
                return rc;
            if (rc > 0)
                return err_set(err, ERR_FORMAT, "%s:%d:%d: the number %.*s is too small to be told from 0", name,
                               number, (int)(begin - line) + 1, (int)(at + 1 - begin < 40 ? at + 1 - begin : 40),
                               begin);
        }
    }
    return 0;
}

int json_parse(json_t **out, const char *text, int64_t size, const char *name, Err *err)
{
    json_error_t e;
    int64_t mark = str_mark_size(text, size);
    *out = json_loadb(text + mark, (size_t)(size - mark), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    int rc = *out ? check_numbers(text + mark, size - mark, name, err) : err_json(err, &e, name);
    if (rc < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

int json_read_members(json_t **out, const char *path, const char *const *names, Err *err)
{
    char *text = NULL;
    int64_t size = 0;
    *out = NULL;
    int rc = file_read(path, JSON_FILE_MAX, &text, &size, err);
    if (rc == 0)
        rc = names ? json_parse_members(out, text, size, names, path, err) : json_parse(out, text, size, path, err);
    mem_free(text);
    return rc;
}

int json_read_file(json_t **out, const char *path, Err *err)
{
    return json_read_members(out, path, NULL, err);
}

/* ---- writing: our own walk, since jansson's form of reals (17 digits always) is unkind to people ---- */

typedef struct Style {
    int indent; /* 0: one line */
    int canonical;
} Style;

static int write_value(Str *s, const json_t *v, const Style *style, int depth, Err *err);

/* The fewest digits that read back as the same double (canonical: always 17), and always as a real. */
static int write_real(Str *s, double x, const Style *style, Err *err)
{
    char text[64];
    for (int digits = style->canonical ? 17 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    int rc = str_append(s, text, err);
    return rc == 0 && !strpbrk(text, ".e") ? str_append(s, ".0", err) : rc;
}

/* As printf does, in a tenth of its time: keys of a cache hold thousands. */
static int write_integer(Str *s, json_int_t x, Err *err)
{
    char text[24], *at = text + sizeof text;
    uint64_t left = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (x < 0)
        *--at = '-';
    return str_append_n(s, at, text + sizeof text - at, err);
}

static int write_string(Str *s, const char *text, size_t n, Err *err)
{
    int rc = str_append(s, "\"", err);
    size_t start = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        const char *plain = "\"\\\b\f\n\r\t", *escaped = "\"\\bfnrt", *at = c ? strchr(plain, c) : NULL;
        rc = str_append_n(s, text + start, (int64_t)(i - start), err);
        if (rc == 0)
            rc = at ? str_printf(s, err, "\\%c", escaped[at - plain]) : str_printf(s, err, "\\u%04x", c);
        start = i + 1;
    }
    if (rc == 0)
        rc = str_append_n(s, text + start, (int64_t)(n - start), err);
    return rc < 0 ? rc : str_append(s, "\"", err);
}

static int write_break(Str *s, const Style *style, int depth, Err *err)
{
    return style->indent ? str_printf(s, err, "\n%*s", depth * style->indent, "") : 0;
}

typedef struct Member {
    const char *key;
    const json_t *value;
} Member;

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const Member *)a)->key, ((const Member *)b)->key);
}

static int write_object(Str *s, const json_t *v, const Style *style, int depth, Err *err)
{
    int64_t n = (int64_t)json_object_size(v), i = 0;
    if (n == 0)
        return str_append(s, "{}", err);
    Member *members = mem_calloc(n, sizeof *members, err);
    if (!members)
        return ERR_NOMEM;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)v, key, value)
        members[i++] = (Member){key, value};
    if (style->canonical)
        qsort(members, (size_t)n, sizeof *members, compare_keys);
    int rc = str_append(s, "{", err);
    for (i = 0; i < n && rc == 0; i++) {
        if (i)
            rc = str_append(s, ",", err);
        if (rc == 0)
            rc = write_break(s, style, depth + 1, err);
        if (rc == 0)
            rc = write_string(s, members[i].key, strlen(members[i].key), err);
        if (rc == 0)
            rc = str_append(s, style->indent ? ": " : ":", err);
        if (rc == 0)
            rc = write_value(s, members[i].value, style, depth + 1, err);
    }
    mem_free(members);
    if (rc == 0)
        rc = write_break(s, style, depth, err);
    return rc < 0 ? rc : str_append(s, "}", err);
}

static int write_array(Str *s, const json_t *v, const Style *style, int depth, Err *err)
{
    size_t n = json_array_size(v);
    int nested = 0; /* arrays of scalars stay on one line */
    for (size_t i = 0; i < n; i++)
        nested |= json_is_object(json_array_get(v, i)) || json_is_array(json_array_get(v, i));
    int rc = str_append(s, "[", err);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (i)
            rc = str_append(s, style->indent && !nested ? ", " : ",", err);
        if (rc == 0 && nested)
            rc = write_break(s, style, depth + 1, err);
        if (rc == 0)
            rc = write_value(s, json_array_get(v, i), style, depth + 1, err);
    }
    if (rc == 0 && nested)
        rc = write_break(s, style, depth, err);
    return rc < 0 ? rc : str_append(s, "]", err);
}

static int write_value(Str *s, const json_t *v, const Style *style, int depth, Err *err)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return write_object(s, v, style, depth, err);
    case JSON_ARRAY: return write_array(s, v, style, depth, err);
    case JSON_STRING: return write_string(s, json_string_value(v), json_string_length(v), err);
    case JSON_INTEGER: return write_integer(s, json_integer_value(v), err);
    case JSON_REAL: return write_real(s, json_real_value(v), style, err);
    case JSON_TRUE: return str_append(s, "true", err);
    case JSON_FALSE: return str_append(s, "false", err);
    default: return str_append(s, "null", err);
    }
}

static char *text_of(const json_t *v, Style style, Err *err)
{
    Str s = {0};
    if (write_value(&s, v, &style, 0, err) < 0)
        str_fini(&s);
    return s.data;
}

char *json_text(const json_t *v, int indent, Err *err)
{
    return text_of(v, (Style){.indent = indent}, err);
}

char *json_canonical(const json_t *v, Err *err)
{
    return text_of(v, (Style){.canonical = 1}, err);
}

int json_write_file(const json_t *v, const char *path, Err *err)
{
    Str s = {0};
    Style style = {.indent = 2};
    int rc = write_value(&s, v, &style, 0, err);
    if (rc == 0)
        rc = str_append(&s, "\n", err);
    if (rc < 0)
        rc = err_wrap(err, rc, "writing '%s'", path);
    else
        rc = file_write_atomic(path, s.data, s.len, err); /* names the path itself */
    str_fini(&s);
    return rc;
}

int json_write_line(const json_t *v, FILE *f, Err *err)
{
    Str s = {0};
    int rc = write_value(&s, v, &(Style){0}, 0, err);
    if (rc == 0)
        rc = str_append(&s, "\n", err);
    if (rc == 0 && fwrite(s.data, 1, (size_t)s.len, f) != (size_t)s.len)
        rc = err_set(err, ERR_IO, "writing a JSON line failed");
    str_fini(&s);
    return rc;
}

/* ---- typed members --------------------------------------------------------------------------- */

static const char *type_name(const json_t *v)
{
    if (!v)
        return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static int wrong(Err *err, const char *where, const char *key, const char *expected, const json_t *found)
{
    return err_set(err, ERR_FORMAT, "%s: '%s': expected %s, found %s", where, key, expected, type_name(found));
}

/* The member, or NULL when it is absent or null. */
static const json_t *member_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

int json_get_int(const json_t *o, const char *key, const char *where, int64_t *out, Err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v))
        return wrong(err, where, key, "an integer", v);
    *out = json_integer_value(v);
    return 0;
}

int json_get_int_or(const json_t *o, const char *key, const char *where, int64_t dflt, int64_t *out, Err *err)
{
    *out = dflt;
    return member_of(o, key) ? json_get_int(o, key, where, out, err) : 0;
}

int json_get_num(const json_t *o, const char *key, const char *where, double *out, Err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        return wrong(err, where, key, "a number", v);
    *out = json_number_value(v);
    return 0;
}

int json_get_num_or(const json_t *o, const char *key, const char *where, double dflt, double *out, Err *err)
{
    *out = dflt;
    return member_of(o, key) ? json_get_num(o, key, where, out, err) : 0;
}

int json_get_bool_or(const json_t *o, const char *key, const char *where, int dflt, int *out, Err *err)
{
    const json_t *v = member_of(o, key);
    *out = dflt;
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return wrong(err, where, key, "true or false", v);
    *out = json_is_true(v);
    return 0;
}

int json_get_str(const json_t *o, const char *key, const char *where, const char **out, Err *err)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v))
        return wrong(err, where, key, "a string", v);
    *out = json_string_value(v);
    return 0;
}

int json_get_str_or(const json_t *o, const char *key, const char *where, const char *dflt, const char **out, Err *err)
{
    *out = dflt;
    return member_of(o, key) ? json_get_str(o, key, where, out, err) : 0;
}

int json_number_vanishes(const char *text)
{
    char *end;
    double x = strtod(text, &end);
    size_t mantissa = strcspn(text, "eE");
    return end != text && *end == 0 && x == 0 && strcspn(text, "123456789") < mantissa;
}
