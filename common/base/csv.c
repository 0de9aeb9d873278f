#include "common/base/csv.h"

#include <string.h>
#include "common/base/str.h"

typedef struct Csv {
    const char *text;
    int64_t size, at, line; /* line: of the byte at `at`, from 0 */
    const char *name;
} Csv;

static int bad(const Csv *c, Err *err, const char *what)
{
    return err_set(err, ERR_FORMAT, "%s line %" PRId64 ": %s", c->name, c->line + 1, what);
}

static int quoted(Csv *c, Str *field, Err *err)
{
    int64_t first = c->line;
    for (c->at++; c->at < c->size; c->at++) {
        char b = c->text[c->at];
        if (b == '"' && c->at + 1 < c->size && c->text[c->at + 1] == '"') {
            c->at++;
        } else if (b == '"') {
            c->at++;
            return c->at < c->size && !strchr(",\r\n", c->text[c->at]) ? bad(c, err, "text after a closing quote") : 0;
        }
        c->line += b == '\n';
        int rc = str_append_n(field, &b, 1, err);
        if (rc < 0)
            return rc;
    }
    c->line = first;
    return bad(c, err, "a quote is never closed");
}

static int bare(Csv *c, Str *field, Err *err)
{
    int64_t from = c->at;
    while (c->at < c->size && c->text[c->at] != ',' && c->text[c->at] != '\n') {
        if (c->text[c->at] == 0)
            return bad(c, err, "a NUL byte; is it UTF-16? UTF-8 is expected");
        if (c->text[c->at] == '"')
            return bad(c, err, "a quote inside a field that does not begin with one");
        c->at++;
    }
    int64_t n = c->at - from;
    if (n && (c->at == c->size || c->text[c->at] == '\n') && c->text[c->at - 1] == '\r')
        n--;
    return str_append_n(field, c->text + from, n, err);
}

/* One field; *more: a comma follows it. */
static int field(Csv *c, json_t *row, int *more, Err *err)
{
    Str text = {0};
    int rc = c->at < c->size && c->text[c->at] == '"' ? quoted(c, &text, err) : bare(c, &text, err);
    if (rc == 0) {
        json_t *v = json_stringn(text.data ? text.data : "", (size_t)text.len);
        if (!v || json_array_append_new(row, v) < 0)
            rc = bad(c, err, "a field is not UTF-8");
        else if (text.len && memchr(text.data, 0, (size_t)text.len))
            rc = bad(c, err, "a NUL byte");
    }
    *more = rc == 0 && c->at < c->size && c->text[c->at] == ',';
    c->at += *more;
    str_fini(&text);
    return rc;
}

int csv_row(const char *text, int64_t size, int64_t *at, int64_t *line, json_t **row, const char *name, Err *err)
{
    Csv c = {text, size, *at, *line, name};
    int more = 1, rc = 0;
    *row = NULL;
    if (c.at == 0)
        c.at = str_mark_size(text, size);
    while (c.at < size && (text[c.at] == '\n' || (text[c.at] == '\r' && c.at + 1 < size && text[c.at + 1] == '\n'))) {
        c.line += text[c.at] == '\n';
        c.at++;
    }
    if (c.at >= size)
        return 0;
    json_t *fields = json_array();
    if (!fields)
        return err_set(err, ERR_NOMEM, "%s: out of memory", name);
    while (more && rc == 0)
        rc = field(&c, fields, &more, err);
    if (rc == 0 && c.at < size && text[c.at] == '\r')
        c.at++;
    if (rc == 0 && c.at < size && text[c.at] != '\n')
        rc = bad(&c, err, "a carriage return inside a line");
    if (rc < 0) {
        json_decref(fields);
        return rc;
    }
    if (c.at < size) {
        c.at++;
        c.line++;
    }
    *at = c.at;
    *line = c.line;
    *row = fields;
    return 1;
}
