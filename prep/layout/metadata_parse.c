/* The files that objects of metadata come in: JSON lines, a JSON list, CSV. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/csv.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/metadata.h"
#include "prep/layout/metadata_internal.h"

enum { METADATA_BYTES_MAX = 1 << 28 };

int metadata_parse_line(SourceList *l, const char *text, int64_t size, const char *where, Err *err)
{
    int64_t blank = 0;
    while (blank < size && strchr(" \t\r", text[blank]) && text[blank])
        blank++;
    if (blank == size)
        return 0;
    json_t *o;
    int rc = json_parse(&o, text, size, where, err);
    if (rc == 0)
        rc = metadata_add(l, o, where, err);
    json_decref(o);
    return rc;
}

int metadata_parse_list(SourceList *l, const char *text, int64_t size, const char *name, Err *err)
{
    json_t *list, *o;
    size_t i;
    int rc = json_parse(&list, text, size, name, err);
    if (rc == 0 && !json_is_array(list))
        rc = err_set(err, ERR_FORMAT,
                     "%s: it is %s, expected an array of objects; an object a line belongs into a file .jsonl", name,
                     metadata_kind_of(list));
    if (rc == 0)
        json_array_foreach (list, i, o) {
            char where[320];
            snprintf(where, sizeof where, "%.256s item %zu", name, i);
            if ((rc = metadata_add(l, o, where, err)) < 0)
                break;
        }
    json_decref(list);
    return rc;
}

/* A field of CSV as a JSON value; *out NULL: the field is empty and counts as absent. */
static int csv_value(const char *key, const char *text, json_t **out, const char *where, Err *err)
{
    static const char *const json_keys[] = {"segments", "crop", "cut", "attributes", NULL};
    char *end;
    *out = NULL;
    if (!*text && !metadata_is_one_of(key, metadata_caption_keys))
        return 0;
    if (metadata_is_one_of(key, json_keys)) {
        char place[384];
        snprintf(place, sizeof place, "%.300s: '%s' as JSON", where, key);
        return json_parse(out, text, (int64_t)strlen(text), place, err);
    }
    if (strcmp(key, "fps") == 0 || strcmp(key, "start_s") == 0 || strcmp(key, "end_s") == 0) {
        double v = strtod(text, &end);
        if (!*end && isfinite(v))
            *out = json_real(v);
    }
    *out = *out ? *out : json_string(text);
    return *out ? 0 : err_set(err, ERR_NOMEM, "%s: out of memory", where);
}

/* The header's names without the blanks around them; those that mean something in small letters. */
static int csv_header(json_t *header, const char *name, Err *err)
{
    const char *const *const known[] = {metadata_path_keys, metadata_caption_keys, metadata_attribute_keys,
                                        metadata_other_keys};
    const char *only = json_array_size(header) == 1 ? json_string_value(json_array_get(header, 0)) : "";
    if (strpbrk(only, ";\t|"))
        return err_set(
            err, ERR_FORMAT,
            "%s line 1: the header is the one field '%.100s', its names apart by %s; commas are expected (RFC 4180)",
            name, only,
            strchr(only, '\t')  ? "tabs"
            : strchr(only, ';') ? "';'"
                                : "'|'");
    for (size_t i = 0; i < json_array_size(header); i++) {
        char *key = caption_clean(json_string_value(json_array_get(header, i)),
                                  (int64_t)json_string_length(json_array_get(header, i)), err);
        char *small = key ? mem_strdup(key, err) : NULL;
        for (char *p = small; p && *p; p++)
            *p = (char)tolower((unsigned char)*p);
        int means = 0;
        for (size_t k = 0; small && k < sizeof known / sizeof *known; k++)
            means = means || metadata_is_one_of(small, known[k]);
        int rc = small && json_array_set_new(header, i, json_string(means ? small : key)) == 0 ? 0 : ERR_NOMEM;
        mem_free(small);
        mem_free(key);
        if (rc < 0)
            return err_set(err, rc, "%s: out of memory", name);
    }
    for (size_t i = 0; i < json_array_size(header); i++)
        for (size_t k = 0; k < i; k++)
            if (json_equal(json_array_get(header, i), json_array_get(header, k)))
                return err_set(err, ERR_FORMAT, "%s: the header names '%s' twice", name,
                               json_string_value(json_array_get(header, i)));
    return 1;
}

static int csv_object(const json_t *header, const json_t *row, json_t **out, const char *where, Err *err)
{
    size_t i;
    const json_t *name;
    if (json_array_size(row) != json_array_size(header))
        return err_set(err, ERR_FORMAT, "%s: %zu fields, the header has %zu", where, json_array_size(row),
                       json_array_size(header));
    json_t *o = json_object();
    json_array_foreach (header, i, name) {
        const char *key = json_string_value(name), *text = json_string_value(json_array_get(row, i));
        json_t *v;
        int rc = csv_value(key, text, &v, where, err);
        if (rc == 0 && v && json_object_set_new(o, key, v) < 0)
            rc = err_set(err, ERR_NOMEM, "%s: out of memory", where);
        if (rc < 0) {
            json_decref(o);
            return rc;
        }
    }
    *out = o;
    return 0;
}

int metadata_parse_csv(SourceList *l, const char *text, int64_t size, const char *name, Err *err)
{
    json_t *header, *row, *o = NULL;
    int64_t at = 0, line = 0;
    char where[320];
    int rc = csv_row(text, size, &at, &line, &header, name, err);
    if (rc == 0)
        return err_set(err, ERR_FORMAT, "%s: no header line", name);
    rc = rc == 1 ? csv_header(header, name, err) : rc;
    while (rc == 1) {
        snprintf(where, sizeof where, "%.256s line %" PRId64, name, line + 1);
        if ((rc = csv_row(text, size, &at, &line, &row, name, err)) != 1)
            break;
        rc = csv_object(header, row, &o, where, err);
        if (rc == 0)
            rc = metadata_add(l, o, where, err);
        json_decref(o);
        json_decref(row);
        o = NULL;
        rc = rc < 0 ? rc : 1;
    }
    json_decref(header);
    return rc;
}

/* Lines of a file that messages call by its path below the root. */
typedef struct Lines {
    SourceList *out;
    const char *name;
} Lines;

static int line_of(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    const Lines *l = user;
    char place[320];
    snprintf(place, sizeof place, "%.256s%s", l->name, where + strlen(path_base(l->name)));
    return metadata_parse_line(l->out, text, size, place, err);
}

int metadata_read_file(const LayoutInput *in, const char *name, SourceList *out, Err *err)
{
    char *text;
    int64_t size;
    if (str_ends_with(name, ".jsonl"))
        return layout_read_lines(in, name, line_of, &(Lines){out, name}, err);
    int rc = layout_read_text(in, name, METADATA_BYTES_MAX, &text, &size, err);
    if (rc == 0)
        rc = str_ends_with(name, ".csv") ? metadata_parse_csv(out, text, size, name, err)
                                         : metadata_parse_list(out, text, size, name, err);
    mem_free(text);
    return rc;
}
