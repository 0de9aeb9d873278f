/* A clip as an object of metadata: its file under file_name, video_path, path or video, its caption
 * under text, caption, prompt or cap. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/layout/metadata.h"
#include "prep/layout/metadata_internal.h"

const char *const metadata_path_keys[] = {"file_name", "video_path", "path", "video", NULL};
const char *const metadata_caption_keys[] = {"text", "caption", "prompt", "cap", NULL};
const char *const metadata_attribute_keys[] = {"fabric", "pattern", "style",  "color",
                                               "sleeve", "length",  "motion", NULL};
const char *const metadata_other_keys[] = {"id",     "category", "split",      "fps",      "start_s", "end_s",
                                           "sha256", "crop",     "attributes", "segments", "cut",     NULL};

int metadata_is_one_of(const char *key, const char *const *keys)
{
    for (; *keys; keys++)
        if (strcmp(key, *keys) == 0)
            return 1;
    return 0;
}

const char *metadata_kind_of(const json_t *v)
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
                       metadata_kind_of(v));
    size_t i;
    const json_t *item;
    json_array_foreach (v, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_FORMAT, "%s: '%s' item %zu is %s, expected a string", where, key, i,
                           metadata_kind_of(item));
        int rc = source_add_caption(s, json_string_value(item), (int64_t)json_string_length(item), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int read_captions(Source *s, const json_t *o, const char *where, Err *err)
{
    const char *found = NULL;
    for (int i = 0; metadata_caption_keys[i]; i++) {
        const json_t *v = json_object_get(o, metadata_caption_keys[i]);
        if (!v)
            continue;
        if (found)
            return err_set(err, ERR_FORMAT, "%s: a caption under '%s' and under '%s'", where, found,
                           metadata_caption_keys[i]);
        found = metadata_caption_keys[i];
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
        return err_set(err, ERR_FORMAT, "%s: '%s' is given twice with different values: by itself and in 'attributes'",
                       where, key);
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
        if (metadata_is_one_of(key, metadata_attribute_keys)) {
            rc = put_attribute(s, key, v, where, err);
        } else if (!metadata_is_one_of(key, metadata_other_keys) && !metadata_is_one_of(key, metadata_path_keys) &&
                   !metadata_is_one_of(key, metadata_caption_keys)) {
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
    for (int i = 0; metadata_path_keys[i]; i++)
        if (json_object_get(o, metadata_path_keys[i])) {
            if (key)
                return err_set(err, ERR_FORMAT, "%s: a file under '%s' and under '%s'", where, key,
                               metadata_path_keys[i]);
            key = metadata_path_keys[i];
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
