#include "prep/layout/source.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

int source_list_add(SourceList *l, Source **out, Err *err)
{
    if (l->n == l->cap) {
        int64_t cap = l->cap ? l->cap * 2 : 64;
        Source *item = mem_realloc(l->item, cap, sizeof *item, err);
        if (!item)
            return ERR_NOMEM;
        l->item = item;
        l->cap = cap;
    }
    *out = &l->item[l->n++];
    memset(*out, 0, sizeof **out);
    (*out)->split = "train";
    return 0;
}

static void source_fini(Source *s)
{
    for (int64_t i = 0; i < s->n_segments; i++)
        mem_free(s->segments[i].text);
    captions_free(&s->captions, s->n_captions);
    mem_free(s->segments);
    mem_free(s->id);
    mem_free(s->path);
    mem_free(s->where);
    mem_free(s->category);
    mem_free(s->expect_sha256);
    mem_free(s->reject_code);
    mem_free(s->reject_text);
    json_decref(s->attributes);
    json_decref(s->extra);
    json_decref(s->warnings);
}

void source_list_fini(SourceList *l)
{
    for (int64_t i = 0; i < l->n; i++)
        source_fini(&l->item[i]);
    mem_free(l->item);
    *l = (SourceList){0};
}

int source_id_check(const char *id, Err *err)
{
    size_t n = strlen(id);
    if (n == 0)
        return err_set(err, ERR_FORMAT, "an empty id");
    if (n > SOURCE_ID_MAX)
        return err_set(err, ERR_FORMAT, "id '%.40s...' has %zu bytes, at most %d are allowed", id, n, SOURCE_ID_MAX);
    if (!str_is_utf8(id, (int64_t)n))
        return err_set(err, ERR_FORMAT, "an id is not UTF-8");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)id[i] < 0x20 || id[i] == 0x7f)
            return err_set(err, ERR_FORMAT, "an id has the control character 0x%02x at byte %zu", (unsigned char)id[i],
                           i);
    if (strchr(id, '/') || strstr(id, ".."))
        return err_set(err, ERR_FORMAT, "id '%s' has '/' or '..' in it; it names a file of the dataset", id);
    if (id[0] == '.')
        return err_set(err, ERR_FORMAT, "id '%s' begins with '.'", id);
    return 0;
}

/* Given ids first, then by path: the first keeps its id. */
static int by_id(const void *a, const void *b)
{
    const Source *x = *(const Source *const *)a, *y = *(const Source *const *)b;
    int c = strcmp(x->id, y->id);
    c = c ? c : y->id_given - x->id_given;
    c = c ? c : strcmp(x->path, y->path);
    return c ? c : (x > y) - (x < y);
}

static const char *place(const Source *s)
{
    return s->where ? s->where : s->path;
}

/* The id cut to fit, followed by a hash of the path; frees the id it is given. */
static char *marked_id(char *id, const char *path, Err *err)
{
    int64_t n = (int64_t)strlen(id), most = SOURCE_ID_MAX - 20;
    n = n < most ? n : most;
    while (n > 0 && ((unsigned char)id[n] & 0xc0) == 0x80)
        n--;
    char *marked = mem_printf(err, "%.*s-%08x", (int)n, id, (unsigned)hash_xxh3(path, (int64_t)strlen(path)));
    mem_free(id);
    return marked;
}

static int make_unique(Source *s, const Source *other, Err *err)
{
    if (s->id_given && other->id_given)
        return err_set(err, ERR_FORMAT, "id '%s' is used twice: by %s and by %s", s->id, place(other), place(s));
    if (strcmp(s->path, other->path) == 0)
        return err_set(err, ERR_FORMAT, "'%s' is used twice, by %s and by %s: give each an \"id\" of its own", s->path,
                       place(other), place(s));
    int rc = source_warn(s, REASON_ID_CHANGED, err, "'%s' would have the id '%s' too", other->path, s->id);
    if (rc == 0 && !(s->id = marked_id(s->id, s->path, err)))
        rc = ERR_NOMEM;
    return rc;
}

int source_list_settle(SourceList *l, Err *err)
{
    for (int64_t i = 0; i < l->n; i++)
        if (source_id_check(l->item[i].id, err) < 0)
            return err_wrap(err, ERR_FORMAT, "%s", place(&l->item[i]));
    Source **order = mem_calloc(l->n, sizeof *order, err);
    if (!order)
        return ERR_NOMEM;
    int rc = 0, changed = 1;
    for (int pass = 0; rc == 0 && changed && pass < 3; pass++) { /* a mark might make an id that another file has */
        changed = 0;
        for (int64_t i = 0; i < l->n; i++)
            order[i] = &l->item[i];
        if (l->n)
            qsort(order, (size_t)l->n, sizeof *order, by_id);
        for (int64_t i = 1, first = 0; i < l->n && rc == 0; i++) {
            if (strcmp(order[first]->id, order[i]->id) != 0) {
                first = i;
                continue;
            }
            rc = make_unique(order[i], order[first], err);
            changed = 1;
        }
    }
    if (rc == 0 && changed)
        rc = err_set(err, ERR_FORMAT,
                     "ids made from these paths cannot be made unique; give the files an \"id\" in metadata.jsonl");
    mem_free(order);
    return rc;
}

void source_list_keep(SourceList *l, const uint8_t *keep)
{
    int64_t n = 0;
    for (int64_t i = 0; i < l->n; i++)
        if (keep[i])
            l->item[n++] = l->item[i];
        else
            source_fini(&l->item[i]);
    l->n = n;
}

static void add_text(Sha256 *sha, const char *text)
{
    if (text)
        sha256_update(sha, text, (int64_t)strlen(text) + 1);
    else
        sha256_update(sha, "\1", 2); /* marks an absent value: texts never begin with a control character */
}

static void add_number(Sha256 *sha, int64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, v);
    add_text(sha, text);
}

static int add_json(Sha256 *sha, const json_t *v, Err *err)
{
    char *text = v ? json_canonical(v, err) : NULL;
    add_text(sha, text);
    int rc = v && !text ? ERR_NOMEM : 0;
    mem_free(text);
    return rc;
}

static int add_source(Sha256 *sha, const Source *s, Err *err)
{
    const Rational times[] = {s->rate, s->start, s->end};
    const char *const texts[] = {s->id, s->path, s->category, s->expect_sha256, s->split, s->reject_code};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add_text(sha, texts[i]);
    add_number(sha, s->n_captions);
    for (int64_t i = 0; i < s->n_captions; i++)
        add_text(sha, s->captions[i]);
    add_number(sha, s->n_segments);
    for (int64_t i = 0; i < s->n_segments; i++) {
        add_number(sha, s->segments[i].start);
        add_number(sha, s->segments[i].end);
        add_text(sha, s->segments[i].text);
    }
    add_number(sha, s->segments_us);
    for (int i = 0; i < 3; i++) {
        add_number(sha, times[i].num);
        add_number(sha, times[i].den);
    }
    for (int i = 0; i < 4; i++)
        add_number(sha, s->crop[i]);
    int rc = add_json(sha, s->attributes, err);
    return rc < 0 ? rc : add_json(sha, s->extra, err);
}

int source_list_sha256(const SourceList *l, char hex[65], Err *err)
{
    Sha256 sha = {0};
    int rc = sha256_init(&sha, err);
    for (int64_t i = 0; i < l->n && rc == 0; i++)
        rc = add_source(&sha, &l->item[i], err);
    if (rc == 0)
        sha256_final_hex(&sha, hex);
    sha256_fini(&sha);
    return rc;
}

int source_is_video_name(const char *name, int64_t *stem)
{
    static const char *const ext[] = {".mp4",  ".mov",  ".mkv",  ".webm", ".avi", ".m4v",  ".gif",  ".ts",
                                      ".h264", ".mpg",  ".mpeg", ".mpg4", ".m1v", ".m2v",  ".m2ts", ".mts",
                                      ".flv",  ".f4v",  ".ogv",  ".3gp",  ".3g2", ".vob",  ".wmv",  ".asf",
                                      ".mxf",  ".y4m",  ".264",  ".h265", ".265", ".hevc", ".ivf",  ".mjpeg",
                                      ".mjpg", ".divx", ".rm",   ".rmvb", ".qt",  ".dv",   ".av1",  ".obu"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ext / sizeof *ext; i++) {
        size_t e = strlen(ext[i]);
        if (n > e && strcasecmp(name + n - e, ext[i]) == 0) {
            if (stem)
                *stem = (int64_t)(n - e);
            return 1;
        }
    }
    return 0;
}

void source_path_clean(char *path)
{
    char *to = path;
    for (const char *at = path; *at;) {
        if (at == path || at[-1] == '/') {
            if (at[0] == '.' && at[1] == '/') {
                at += 2;
                continue;
            }
            if (at[0] == '/' && at != path) {
                at++;
                continue;
            }
        }
        *to++ = *at++;
    }
    *to = 0;
}

char *source_id_from_path(const char *path, Err *err)
{
    int64_t n = (int64_t)strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *id = mem_strndup(path, n, err);
    if (!id)
        return NULL;
    if (source_is_video_name(id, &n))
        id[n] = 0;
    for (char *p = id; *p; p++)
        if (*p == '/' || *p == '#' || (unsigned char)*p < 0x20 || *p == 0x7f ||
            (*p == '.' && (p == id || p[-1] == '.')))
            *p = '_';
    return strlen(id) > SOURCE_ID_MAX - 20 ? marked_id(id, path, err) : id;
}

const char *source_split(const char *name)
{
    static const char *const names[][2] = {{"train", "train"}, {"val", "val"},  {"valid", "val"}, {"validation", "val"},
                                           {"dev", "val"},     {"eval", "val"}, {"test", "test"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(name, names[i][0]) == 0)
            return names[i][1];
    return NULL;
}

static char *format(Err *err, const char *fmt, va_list ap)
{
    char text[ERR_MSG_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    return mem_strdup(text, err);
}

int source_reject(Source *s, Reason reason, Err *err, const char *fmt, ...)
{
    if (s->reject_code)
        return 0;
    va_list ap;
    va_start(ap, fmt);
    s->reject_text = format(err, fmt, ap);
    va_end(ap);
    s->reject_code = s->reject_text ? mem_strdup(reason_code(reason), err) : NULL;
    return s->reject_code ? 0 : ERR_NOMEM;
}

json_t *note_new(Reason reason, const char *text, Err *err)
{
    /* A sentence may quote bytes of a file name that is no UTF-8: json_string refuses those, so
     * they become '?'. */
    char *copy = mem_strdup(text, err);
    json_t *note = NULL;
    if (copy) {
        if (!str_is_utf8(copy, (int64_t)strlen(copy)))
            for (char *p = copy; *p; p++)
                if ((unsigned char)*p >= 0x80)
                    *p = '?';
        note = json_pack("{s:s, s:s}", "code", reason_code(reason), "text", copy);
        if (!note)
            err_set(err, ERR_NOMEM, "out of memory for a note");
    }
    mem_free(copy);
    return note;
}

int source_warn(Source *s, Reason reason, Err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = format(err, fmt, ap);
    va_end(ap);
    if (!text)
        return ERR_NOMEM;
    if (!s->warnings)
        s->warnings = json_array();
    json_t *note = note_new(reason, text, err);
    mem_free(text);
    if (!note || json_array_append_new(s->warnings, note) < 0)
        return err_set(err, ERR_NOMEM, "out of memory for a warning");
    return 0;
}
