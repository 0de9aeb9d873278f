/* A clip as an object of metadata: its file under file_name, video_path, path or video, its caption
 * under text, caption, prompt or cap; and the files such objects come in: JSON lines, a JSON list,
 * CSV. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/layout/layout.h"
#include "prep/layout/csv.h"
#include "common/base/lines.h"

enum { METADATA_BYTES_MAX = 1 << 28 };

static const char *const path_keys[] = {"file_name", "video_path", "path", "video", NULL};
static const char *const caption_keys[] = {"text", "caption", "prompt", "cap", NULL};
static const char *const attribute_keys[] = {"fabric", "pattern", "style", "color", "sleeve", "length", "motion", NULL};
static const char *const plain_keys[] = {"id",     "category", "split",      "fps",      "start_s", "end_s",
                                         "sha256", "crop",     "attributes", "segments", "cut",     NULL};

static int is_one_of(const char *key, const char *const *keys)
{
    for (; *keys; keys++)
        if (strcmp(key, *keys) == 0)
            return 1;
    return 0;
}

static const char *kind_of(const json_t *v)
{
    return json_is_object(v)   ? "an object"
           : json_is_array(v)  ? "an array"
           : json_is_string(v) ? "a string"
           : json_is_number(v) ? "a number"
           : json_is_null(v)   ? "null"
                               : "true or false";
}

static int add_caption(Source *s, const json_t *v, const char *key, const char *where, Err *err)
{
    if (json_is_string(v))
        return source_add_caption(s, json_string_value(v), (int64_t)json_string_length(v), err);
    if (!json_is_array(v))
        return err_set(err, ERR_FORMAT, "%s: '%s' is %s, expected a string or an array of strings", where, key,
                       kind_of(v));
    size_t i;
    const json_t *item;
    json_array_foreach (v, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_FORMAT, "%s: '%s' item %zu is %s, expected a string", where, key, i, kind_of(item));
        int rc = source_add_caption(s, json_string_value(item), (int64_t)json_string_length(item), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_captions(Source *s, const json_t *o, const char *where, Err *err)
{
    const char *found = NULL;
    for (int i = 0; caption_keys[i]; i++) {
        const json_t *v = json_object_get(o, caption_keys[i]);
        if (!v)
            continue;
        if (found)
            return err_set(err, ERR_FORMAT, "%s: a caption under '%s' and under '%s'", where, found, caption_keys[i]);
        found = caption_keys[i];
        int rc = json_is_null(v) ? 0 : add_caption(s, v, found, where, err);
        if (rc < 0)
            return rc;
    }
    return found || s->n_segments
               ? 0
               : err_set(err, ERR_FORMAT, "%s: no caption: none of 'text', 'caption', 'prompt', 'cap'", where);
}

/* A string, or an array of strings. */
static int put_attribute(Source *s, const char *key, json_t *v, const char *where, Err *err)
{
    if (json_is_null(v))
        return 0;
    int good = json_is_string(v) || json_is_array(v);
    size_t i;
    json_t *item;
    json_array_foreach (v, i, item)
        good = good && json_is_string(item);
    if (!good)
        return err_set(err, ERR_FORMAT, "%s: attribute '%s' is neither a string nor an array of strings", where, key);
    if (!s->attributes)
        s->attributes = json_object();
    const json_t *before = json_object_get(s->attributes, key);
    if (before && !json_equal(before, v))
        return err_set(err, ERR_FORMAT,
                       "%s: '%s' stands there twice with different values, by itself and in 'attributes'", where, key);
    return json_object_set(s->attributes, key, v) < 0 ? err_set(err, ERR_NOMEM, "%s: out of memory", where) : 0;
}

static int read_attributes(Source *s, json_t *o, const char *where, Err *err)
{
    const char *key;
    json_t *v, *group = json_object_get(o, "attributes");
    if (group && !json_is_object(group))
        return err_set(err, ERR_FORMAT, "%s: 'attributes' is not an object", where);
    json_object_foreach (group, key, v) {
        int rc = put_attribute(s, key, v, where, err);
        if (rc < 0)
            return rc;
    }
    json_object_foreach (o, key, v) {
        int rc = 0;
        if (is_one_of(key, attribute_keys)) {
            rc = put_attribute(s, key, v, where, err);
        } else if (!is_one_of(key, plain_keys) && !is_one_of(key, path_keys) && !is_one_of(key, caption_keys)) {
            if (!s->extra)
                s->extra = json_object();
            if (json_object_set(s->extra, key, v) < 0)
                rc = err_set(err, ERR_NOMEM, "%s: out of memory", where);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A rate from a number people write: 30, 29.97, 23.976, 12.5. */
static Rational rate_from(double fps)
{
    double whole = nearbyint(fps);
    if (fabs(fps - whole) < 1e-9)
        return (Rational){(int64_t)whole, 1};
    if (fabs(fps * 1001 / 1000 - nearbyint(fps * 1001 / 1000)) < 2e-3)
        return (Rational){(int64_t)nearbyint(fps * 1001 / 1000) * 1000, 1001};
    return (Rational){(int64_t)nearbyint(fps * 1000), 1000};
}

static int read_times(Source *s, const json_t *o, const char *where, Err *err)
{
    double fps, start, end;
    int rc;
    if ((rc = json_get_num_or(o, "fps", where, 0, &fps, err)) < 0 ||
        (rc = json_get_num_or(o, "start_s", where, 0, &start, err)) < 0 ||
        (rc = json_get_num_or(o, "end_s", where, -1, &end, err)) < 0)
        return rc;
    if (json_is_number(json_object_get(o, "fps"))) {
        if (!(fps >= 0.1 && fps <= 1000))
            return err_set(err, ERR_FORMAT, "%s: 'fps' is %g, expected 0.1 to 1000", where, fps);
        s->rate = rate_from(fps);
    }
    if (!(start >= 0 && start <= 1e6))
        return err_set(err, ERR_FORMAT, "%s: 'start_s' is %g, expected seconds from 0 on", where, start);
    if (json_is_number(json_object_get(o, "end_s")) && !(end > start && end <= 1e6))
        return err_set(err, ERR_FORMAT,
                       "%s: 'end_s' is %g, expected seconds after 'start_s' %g; without it the part goes on to the end",
                       where, end, start);
    if (start > 0)
        s->start = (Rational){(int64_t)nearbyint(start * 1e6), 1000000};
    if (end > 0)
        s->end = (Rational){(int64_t)nearbyint(end * 1e6), 1000000};
    return 0;
}

/* Four whole numbers; *given: they are there. */
static int read_numbers(const json_t *o, const char *key, size_t want, int64_t *out, int *given, const char *where,
                        Err *err)
{
    const json_t *v = json_object_get(o, key);
    *given = v && !json_is_null(v);
    if (*given && json_array_size(v) != want)
        return err_set(err, ERR_FORMAT, "%s: '%s' is not an array of %zu numbers", where, key, want);
    for (size_t i = 0; *given && i < want; i++) {
        const json_t *item = json_array_get(v, i);
        double x = json_number_value(item);
        if (!json_is_number(item) || !(x >= 0 && x <= 1e6) || x != nearbyint(x))
            return err_set(err, ERR_FORMAT, "%s: '%s' item %zu is not a whole number of 0 to 1000000", where, key, i);
        out[i] = (int64_t)x;
    }
    return 0;
}

/* crop is [x, y, width, height]; where the caption stands under "cap" (Open-Sora-Plan) it is [x0,
 * x1, y0, y1], and cut are the first and last frame at fps. */
static int read_part(Source *s, const json_t *o, const char *where, Err *err)
{
    int64_t c[4], cut[2];
    int given, plan = json_object_get(o, "cap") != NULL, rc = read_numbers(o, "crop", 4, c, &given, where, err);
    if (rc < 0)
        return rc;
    if (given) {
        const int64_t crop[4] = {c[0], plan ? c[2] : c[1], plan ? c[1] - c[0] : c[2], plan ? c[3] - c[2] : c[3]};
        if (crop[2] < 1 || crop[3] < 1)
            return err_set(err, ERR_FORMAT, "%s: 'crop' has no area", where);
        memcpy(s->crop, crop, sizeof crop);
    }
    if ((rc = read_numbers(o, "cut", 2, cut, &given, where, err)) < 0 || !given)
        return rc;
    if (!s->rate.den || cut[1] <= cut[0])
        return err_set(err, ERR_FORMAT, "%s: 'cut' wants an end after its start, and 'fps'", where);
    s->start = (Rational){cut[0] * s->rate.den, s->rate.num};
    s->end = (Rational){cut[1] * s->rate.den, s->rate.num};
    return 0;
}

static int read_segment(Source *s, const json_t *g, size_t i, const char *where, Err *err)
{
    const char *text, *unit;
    char place[384];
    double start, end;
    int rc;
    snprintf(place, sizeof place, "%.300s: 'segments' item %zu", where, i);
    if (!json_is_object(g))
        return err_set(err, ERR_FORMAT, "%s is not an object", place);
    if (json_object_get(g, "label"))
        return err_set(err, ERR_UNSUPPORTED, "%s has a 'label'; only a 'text' is read here", place);
    if ((rc = json_get_num(g, "start", place, &start, err)) < 0 ||
        (rc = json_get_num(g, "end", place, &end, err)) < 0 || (rc = json_get_str(g, "text", place, &text, err)) < 0 ||
        (rc = json_get_str_or(g, "unit", place, "frame", &unit, err)) < 0)
        return rc;
    int us = strcmp(unit, "s") == 0;
    if (!us && strcmp(unit, "frame") != 0)
        return err_set(err, ERR_FORMAT, "%s: 'unit' is '%s', expected frame or s", place, unit);
    if (!(start >= 0 && end >= start && end <= 1e8) || (!us && (start != nearbyint(start) || end != nearbyint(end))))
        return err_set(err, ERR_FORMAT, "%s: %g to %g is no part of a video", place, start, end);
    if (s->n_segments && s->segments_us != us)
        return err_set(err, ERR_FORMAT, "%s: its 'unit' is '%s', others of the clip have '%s'; one for all is expected",
                       place, unit, us ? "frame" : "s");
    s->segments_us = us;
    double scale = us ? 1e6 : 1;
    return source_add_segment(s, (int64_t)nearbyint(start * scale), (int64_t)nearbyint(end * scale), text,
                              (int64_t)strlen(text), err);
}

static int read_segments(Source *s, const json_t *o, const char *where, Err *err)
{
    const json_t *list = json_object_get(o, "segments"), *g;
    size_t i;
    if (list && !json_is_array(list) && !json_is_null(list))
        return err_set(err, ERR_FORMAT, "%s: 'segments' is not an array", where);
    json_array_foreach (list, i, g) {
        int rc = read_segment(s, g, i, where, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_names(Source *s, const json_t *o, const char *where, Err *err)
{
    const char *path, *id, *category, *split, *sha, *key = NULL;
    int rc;
    for (int i = 0; path_keys[i]; i++)
        if (json_object_get(o, path_keys[i])) {
            if (key)
                return err_set(err, ERR_FORMAT, "%s: a file under '%s' and under '%s'", where, key, path_keys[i]);
            key = path_keys[i];
        }
    if (!key)
        return err_set(err, ERR_FORMAT, "%s: no file: none of 'file_name', 'video_path', 'path', 'video'", where);
    if ((rc = json_get_str(o, key, where, &path, err)) < 0 ||
        (rc = json_get_str_or(o, "id", where, NULL, &id, err)) < 0 ||
        (rc = json_get_str_or(o, "category", where, NULL, &category, err)) < 0 ||
        (rc = json_get_str_or(o, "split", where, "train", &split, err)) < 0 ||
        (rc = json_get_str_or(o, "sha256", where, NULL, &sha, err)) < 0)
        return rc;
    if (path_check_relative(path, err) < 0)
        return err_wrap(err, ERR_FORMAT, "%s: '%s'", where, key);
    s->split = source_split(split);
    s->split_given = json_object_get(o, "split") != NULL;
    s->id_given = id != NULL;
    if (!s->split)
        return err_set(err, ERR_FORMAT,
                       "%s: 'split' is '%s', expected train, val (also valid, validation, dev, eval) or test", where,
                       split);
    Digest digest;
    if (sha && digest_parse(sha, &digest, err) < 0)
        return err_wrap(err, ERR_FORMAT, "%s: 'sha256'", where);
    s->path = mem_strdup(path, err);
    if (s->path)
        source_path_clean(s->path);
    s->id = id ? mem_strdup(id, err) : s->path ? source_id_from_path(s->path, err) : NULL;
    s->category = category && *category ? mem_strdup(category, err) : NULL;
    if (sha && (s->expect_sha256 = mem_calloc(65, 1, err)))
        digest_hex(&digest, s->expect_sha256);
    if (!s->path || !s->id || (category && *category && !s->category) || (sha && !s->expect_sha256))
        return ERR_NOMEM;
    return source_id_check(s->id, err) < 0 ? err_wrap(err, ERR_FORMAT, "%s", where) : 0;
}

int metadata_add(SourceList *l, json_t *o, const char *where, Err *err)
{
    Source *s;
    if (!json_is_object(o))
        return err_set(err, ERR_FORMAT, "%s: not a JSON object", where);
    int rc = source_list_add(l, &s, err);
    if (rc == 0 && !(s->where = mem_strdup(where, err)))
        rc = ERR_NOMEM;
    if (rc < 0 || (rc = read_names(s, o, where, err)) < 0 || (rc = read_segments(s, o, where, err)) < 0 ||
        (rc = read_captions(s, o, where, err)) < 0 || (rc = read_attributes(s, o, where, err)) < 0 ||
        (rc = read_times(s, o, where, err)) < 0)
        return rc;
    return read_part(s, o, where, err);
}

int metadata_parse_line(SourceList *l, const char *text, int64_t size, const char *where, Err *err)
{
    int64_t blank = 0;
    while (blank < size && strchr(" \t\r", text[blank]) && text[blank])
        blank++;
    if (blank == size)
        return 0;
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        size -= 3;
    }
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
                     kind_of(list));
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

/* A field of CSV as the value it stands for; *out NULL: an empty one, as if it were not there. */
static int csv_value(const char *key, const char *text, json_t **out, const char *where, Err *err)
{
    static const char *const json_keys[] = {"segments", "crop", "cut", "attributes", NULL};
    char *end;
    *out = NULL;
    if (!*text && !is_one_of(key, caption_keys))
        return 0;
    if (is_one_of(key, json_keys)) {
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
    const char *const *const known[] = {path_keys, caption_keys, attribute_keys, plain_keys};
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
            means = means || is_one_of(small, known[k]);
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
        snprintf(where, sizeof where, "%.256s line %lld", name, (long long)line + 1);
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

/* ---- the files ------------------------------------------------------------------------------- */
int metadata_read_file(const char *root, const char *name, SourceList *out, Err *err)
{
    char *path = path_join(root, name, err), *text = NULL;
    int64_t size;
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && str_ends_with(name, ".jsonl")) {
        rc = lines_read(path, LINE_BYTES_MAX, line_of, &(Lines){out, name}, err);
    } else if (rc == 0 && (rc = file_read(path, METADATA_BYTES_MAX, &text, &size, err)) == 0) {
        rc = str_ends_with(name, ".csv") ? metadata_parse_csv(out, text, size, name, err)
                                         : metadata_parse_list(out, text, size, name, err);
    }
    mem_free(text);
    mem_free(path);
    return rc;
}

/* The only one of metadata.jsonl, .json, .csv: 1, 0 for none, ERR_USAGE for several. */
static int find_metadata(const char *root, const char **name, Err *err)
{
    static const char *const names[] = {"metadata.jsonl", "metadata.json", "metadata.csv"};
    *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(root, names[i], err);
        if (!path)
            return ERR_NOMEM;
        int found = file_exists(path);
        mem_free(path);
        if (found && *name)
            return err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", root, *name, names[i]);
        if (found)
            *name = names[i];
    }
    return *name != NULL;
}

/* Folders that may have a metadata file of their own, whose paths begin there. */
static const char *const split_folders[] = {"train", "val", "valid", "validation", "dev", "eval", "test"};
enum { SPLIT_FOLDERS = sizeof split_folders / sizeof *split_folders };
/* [0]: the root's; then those of split_folders; NULL none */
typedef struct Metadata {
    char *file[1 + SPLIT_FOLDERS];
    int n;
} Metadata;

static void metadata_fini(Metadata *m)
{
    for (int i = 0; i <= SPLIT_FOLDERS; i++)
        mem_free(m->file[i]);
}

/* All metadata files; the root's and a split's together are ERR_USAGE. */
static int find_all_metadata(const char *root, Metadata *m, Err *err)
{
    int rc = 0;
    *m = (Metadata){0};
    for (int i = 0; i <= SPLIT_FOLDERS && rc >= 0; i++) {
        const char *name, *folder = i ? split_folders[i - 1] : "";
        char *path = path_join(root, folder, err);
        rc = path ? find_metadata(path, &name, err) : ERR_NOMEM;
        mem_free(path);
        if (rc != 1)
            continue;
        m->n++;
        if (!(m->file[i] = path_join(folder, name, err)))
            rc = ERR_NOMEM;
        else if (i && m->file[0])
            rc = err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", root, m->file[0], m->file[i]);
    }
    return rc < 0 ? rc : m->n > 0;
}

static int metadata_detect(const char *root, char *why, size_t size, Err *err)
{
    Metadata m;
    int found = find_all_metadata(root, &m, err);
    size_t n = found == 1 ? (size_t)snprintf(why, size, "it holds ") : 0;
    for (int i = 0, told = 0; i <= SPLIT_FOLDERS && found == 1 && n < size; i++)
        if (m.file[i])
            n += (size_t)snprintf(why + n, size - n, "%s%s", told++ ? ", " : "", m.file[i]);
    metadata_fini(&m);
    return found;
}

/* A split's own metadata: paths begin in its folder, which says the split of what does not say so
 * itself. */
static int read_split(const char *root, const char *folder, const char *file, SourceList *out, Err *err)
{
    int64_t before = out->n;
    int rc = metadata_read_file(root, file, out, err);
    for (int64_t i = before; i < out->n && rc == 0; i++) {
        Source *s = &out->item[i];
        char *path = path_join(folder, s->path, err),
             *id = path && !s->id_given ? source_id_from_path(path, err) : NULL;
        if (!path || (!s->id_given && !id)) {
            mem_free(path);
            return ERR_NOMEM;
        }
        mem_free(s->path);
        s->path = path;
        if (id) {
            mem_free(s->id);
            s->id = id;
        }
        s->split = s->split_given ? s->split : source_split(folder);
    }
    return rc;
}

static int metadata_read(const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    Metadata m;
    (void)seed;
    (void)log;
    int rc = find_all_metadata(root, &m, err);
    if (rc == 0)
        rc = err_set(err, ERR_NOTFOUND,
                     "'%s' holds no metadata.jsonl, metadata.json or metadata.csv, nor do train/, val/ or test/ in it",
                     root);
    for (int i = 0; i <= SPLIT_FOLDERS && rc >= 0; i++)
        if (m.file[i])
            rc = i ? read_split(root, split_folders[i - 1], m.file[i], out, err)
                   : metadata_read_file(root, m.file[i], out, err);
    metadata_fini(&m);
    return rc < 0 ? rc : 0;
}

const Layout layout_metadata = {
    "metadata",
    "metadata.jsonl, .json or .csv with file_name and text, caption or prompt, here or in train/, val/, test/",
    metadata_detect, metadata_read};

/* ---- a table of another name ----------------------------------------------------------------- */
/* The only file at the root that ends in .jsonl, .csv or .json, is no sign of another layout and
 * names files: 1 or 0. */
static int find_table(const char *root, char *name, size_t size, Err *err)
{
    char **names;
    int64_t n;
    int count = 0, rc = dir_list(root, &names, &n, err);
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < n && rc == 0; i++) {
        const char *f = names[i];
        static const char *const others[] = {"captions.json", "captions_app.json", "caption_motion_template.json",
                                             "categories.json", NULL};
        if (strncmp(f, "metadata.", 9) == 0 || is_one_of(f, others) || strlen(f) >= size ||
            !(str_ends_with(f, ".jsonl") || str_ends_with(f, ".csv") || str_ends_with(f, ".json")))
            continue;
        char *path = path_join(root, f, err), head[4096] = "";
        FILE *file = path ? fopen(path, "rbe") : NULL;
        size_t got = file ? fread(head, 1, sizeof head - 1, file) : 0;
        head[got] = 0;
        if (file)
            fclose(file);
        if (!path)
            rc = ERR_NOMEM;
        mem_free(path);
        int names_files = 0;
        if (str_ends_with(f, ".csv"))
            head[strcspn(head, "\r\n")] = 0; /* the header */
        for (int k = 0; path_keys[k]; k++)
            names_files = names_files || strcasestr(head, path_keys[k]);
        if (names_files && count++ == 0)
            snprintf(name, size, "%s", f);
        else if (names_files)
            rc = err_set(err, ERR_USAGE, "'%s' holds %s and %s: keep one of them", root, name, f);
    }
    dir_list_free(&names, n);
    return rc < 0 ? rc : count;
}

static int table_detect(const char *root, char *why, size_t size, Err *err)
{
    char name[256];
    int found = find_table(root, name, sizeof name, err);
    if (found == 1)
        snprintf(why, size, "it holds %s, which names files", name);
    return found;
}

static int table_read(const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    char name[256];
    (void)seed;
    (void)log;
    int found = find_table(root, name, sizeof name, err);
    if (found == 0)
        return err_set(err, ERR_NOTFOUND, "'%s' holds no .jsonl, .csv or .json file that names files", root);
    return found < 0 ? found : metadata_read_file(root, name, out, err);
}

const Layout layout_table = {"table", "one file of JSON lines, CSV or a JSON list, with video_path or path and caption",
                             table_detect, table_read};
