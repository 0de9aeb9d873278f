/* metadata.jsonl: one object a line, file_name and a caption under text, caption or prompt (the Hugging Face video folder). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/layout.h"
#include "prep/layout_lines.h"

static const char *const caption_keys[] = {"text", "caption", "prompt", NULL};
static const char *const attribute_keys[] = {"fabric", "pattern", "style", "color", "sleeve", "length", "motion", NULL};
static const char *const plain_keys[] = {"file_name", "id", "category", "split", "fps", "start_s", "end_s", "attributes", "sha256", NULL};

static int is_one_of(const char *key, const char *const *keys)
{
    for (; *keys; keys++)
        if (strcmp(key, *keys) == 0)
            return 1;
    return 0;
}

static int add_caption(Source *s, const json_t *v, const char *key, const char *where, Err *err)
{
    if (json_is_string(v))
        return source_add_caption(s, json_string_value(v), (int64_t)json_string_length(v), err);
    if (!json_is_array(v))
        return err_set(err, ERR_FORMAT, "%s: '%s' is neither a string nor an array of strings", where, key);
    size_t i;
    const json_t *item;
    json_array_foreach (v, i, item) {
        if (!json_is_string(item))
            return err_set(err, ERR_FORMAT, "%s: '%s' item %zu is not a string", where, key, i);
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
    return found ? 0 : err_set(err, ERR_FORMAT, "%s: no caption: none of 'text', 'caption', 'prompt'", where);
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
        } else if (!is_one_of(key, plain_keys) && !is_one_of(key, caption_keys)) {
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
    if ((rc = json_get_num_or(o, "fps", where, 0, &fps, err)) < 0 || (rc = json_get_num_or(o, "start_s", where, 0, &start, err)) < 0 ||
        (rc = json_get_num_or(o, "end_s", where, -1, &end, err)) < 0)
        return rc;
    if (json_is_number(json_object_get(o, "fps"))) {
        if (!(fps >= 0.1 && fps <= 1000))
            return err_set(err, ERR_FORMAT, "%s: 'fps' is %g, expected 0.1 to 1000", where, fps);
        s->rate = rate_from(fps);
    }
    if (!(start >= 0 && start <= 1e6) || !(end == -1 || (end > start && end <= 1e6)))
        return err_set(err, ERR_FORMAT, "%s: 'start_s' %g and 'end_s' %g are not a part of a video", where, start, end);
    if (start > 0)
        s->start = (Rational){(int64_t)nearbyint(start * 1e6), 1000000};
    if (end > 0)
        s->end = (Rational){(int64_t)nearbyint(end * 1e6), 1000000};
    return 0;
}

static int read_names(Source *s, const json_t *o, const char *where, Err *err)
{
    const char *path, *id, *category, *split, *sha;
    int rc;
    if ((rc = json_get_str(o, "file_name", where, &path, err)) < 0 || (rc = json_get_str_or(o, "id", where, NULL, &id, err)) < 0 ||
        (rc = json_get_str_or(o, "category", where, NULL, &category, err)) < 0 ||
        (rc = json_get_str_or(o, "split", where, "train", &split, err)) < 0 ||
        (rc = json_get_str_or(o, "sha256", where, NULL, &sha, err)) < 0)
        return rc;
    if ((rc = path_check_relative(path, err)) < 0)
        return err_wrap(err, rc, "%s: 'file_name'", where);
    s->split = source_split(split);
    if (!s->split)
        return err_set(err, ERR_FORMAT, "%s: 'split' is '%s', expected train, val or test", where, split);
    Digest digest;
    if (sha && digest_parse(sha, &digest, err) < 0)
        return err_wrap(err, ERR_FORMAT, "%s: 'sha256'", where);
    s->path = mem_strdup(path, err);
    s->id = id ? mem_strdup(id, err) : source_id_from_path(path, err);
    s->category = category && *category ? mem_strdup(category, err) : NULL;
    if (sha && (s->expect_sha256 = mem_calloc(65, 1, err)))
        digest_hex(&digest, s->expect_sha256);
    if (!s->path || !s->id || (category && *category && !s->category) || (sha && !s->expect_sha256))
        return ERR_NOMEM;
    return source_id_check(s->id, err) < 0 ? err_wrap(err, ERR_FORMAT, "%s", where) : 0;
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
    Source *s;
    int rc = json_parse(&o, text, size, where, err);
    if (rc < 0)
        return rc;
    if (!json_is_object(o))
        rc = err_set(err, ERR_FORMAT, "%s: not a JSON object", where);
    else if (json_object_get(o, "crop") || json_object_get(o, "segments"))
        rc = err_set(err, ERR_UNSUPPORTED, "%s: '%s' is not read in metadata.jsonl", where,
                     json_object_get(o, "crop") ? "crop" : "segments");
    else
        rc = source_list_add(l, &s, err);
    if (rc == 0 && !(s->where = mem_strdup(where, err)))
        rc = ERR_NOMEM;
    if (rc < 0 || (rc = read_names(s, o, where, err)) < 0 || (rc = read_captions(s, o, where, err)) < 0 ||
        (rc = read_attributes(s, o, where, err)) < 0)
        goto out;
    rc = read_times(s, o, where, err);
out:
    json_decref(o);
    return rc;
}

static int line_of(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    return metadata_parse_line(user, text, size, where, err);
}

static int metadata_detect(const char *root, char *why, size_t size, Err *err)
{
    char *path = path_join(root, "metadata.jsonl", err);
    if (!path)
        return ERR_NOMEM;
    int found = file_exists(path);
    mem_free(path);
    snprintf(why, size, "it holds metadata.jsonl");
    return found;
}

static int metadata_read(const char *root, uint64_t seed, SourceList *out, const Log *log, Err *err)
{
    (void)seed;
    (void)log;
    char *path = path_join(root, "metadata.jsonl", err);
    int rc = path ? lines_read(path, LINE_BYTES_MAX, line_of, out, err) : ERR_NOMEM;
    mem_free(path);
    return rc;
}

const Layout layout_metadata = {"metadata", "metadata.jsonl with file_name and text, caption or prompt", metadata_detect, metadata_read};
