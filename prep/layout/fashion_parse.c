/* The file formats of Fashion-Text2Video as its loaders read them (github yumingj/Text2Performer,
 * data/). */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/str.h"
#include "prep/layout/fashion.h"
#include "common/base/lines.h"

enum { LABEL_NO_MOTION = 22, SEGMENT_MIN = 8 /* end - start */, SENTENCE_MAX = 4096 };

static int blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

/* The next run of non-blanks in [*at, end); 0 when there is none. */
static int64_t field(const char **at, const char *end, const char **out)
{
    while (*at < end && blank(**at))
        (*at)++;
    *out = *at;
    while (*at < end && !blank(**at))
        (*at)++;
    return *at - *out;
}

/* A whole decimal number of at most nine digits. */
static int number(const char *text, int64_t n, int64_t *out)
{
    *out = 0;
    for (int64_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9' || n > 9)
            return 0;
        *out = *out * 10 + (text[i] - '0');
    }
    return n > 0;
}

static int add_count(FrameCounts *out, const char *video, int64_t n, int64_t frames, Err *err)
{
    if (out->n == out->cap) {
        int64_t cap = out->cap ? out->cap * 2 : 64;
        FrameCount *grown = mem_realloc(out->item, cap, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        out->item = grown;
        out->cap = cap;
    }
    char *name = mem_strndup(video, n, err);
    if (!name)
        return ERR_NOMEM;
    out->item[out->n++] = (FrameCount){name, frames};
    return 0;
}

int fashion_parse_counts(FrameCounts *out, const char *text, int64_t size, const char *where, Err *err)
{
    const char *line, *video, *count;
    int64_t at = 0, n, row = 0, frames;
    while (lines_next(text, size, &at, &line, &n)) {
        row++;
        const char *p = line;
        int64_t video_n = field(&p, line + n, &video), count_n = field(&p, line + n, &count);
        if (video_n == 0)
            continue;
        if (!number(count, count_n, &frames))
            return err_set(err, ERR_FORMAT, "%s line %" PRId64 ": expected '<video> <frame count>'", where, row);
        if (video_n > SOURCE_ID_MAX || memchr(video, 0, (size_t)video_n) || !str_is_utf8(video, video_n))
            return err_set(err, ERR_FORMAT,
                           "%s line %" PRId64 ": the video's name is not UTF-8 text of at most %d bytes", where, row,
                           SOURCE_ID_MAX);
        int rc = add_count(out, video, video_n, frames, err);
        if (rc == 0 && path_check_relative(out->item[out->n - 1].video, err) < 0)
            return err_wrap(err, ERR_FORMAT, "%s line %" PRId64, where, row);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void fashion_counts_fini(FrameCounts *c)
{
    for (int64_t i = 0; i < c->n; i++)
        mem_free(c->item[i].video);
    mem_free(c->item);
    *c = (FrameCounts){0};
}

/* A random string of an array under `key`, or NULL. */
static const char *one_of(const json_t *templates, const char *key, const Philox *draw, uint64_t index)
{
    const json_t *list = json_object_get(templates, key);
    if (json_is_string(list))
        return json_string_value(list);
    size_t n = json_array_size(list);
    return n ? json_string_value(json_array_get(list, (size_t)philox_below(draw, index, n))) : NULL;
}

/* Lower case, then a capital at the start of each sentence. */
static void sentence_case(char *text)
{
    int start = 1;
    for (char *p = text; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
        if (start && isalpha((unsigned char)*p))
            *p = (char)toupper((unsigned char)*p);
        if (!isspace((unsigned char)*p))
            start = *p == '.' || *p == '!' || *p == '?';
    }
}

int fashion_motion_text(const json_t *templates, int64_t label, uint64_t seed, const char *id, int64_t start,
                        char **out, Err *err)
{
    static const char mark[] = "<Gender>";
    char key[24];
    snprintf(key, sizeof key, "%" PRId64, label);
    *out = NULL;
    Philox draw = philox_stream(seed, RNG_CAPTION, 0, hash_xxh3(id, (int64_t)strlen(id)));
    const char *text = label == LABEL_NO_MOTION ? NULL : one_of(templates, key, &draw, 2 * (uint64_t)start);
    if (!text)
        return 0;
    const char *who = one_of(templates, "gender", &draw, 2 * (uint64_t)start + 1);
    Str s = {0};
    int rc = str_append(&s, "", err);
    for (const char *at; rc == 0 && s.len < SENTENCE_MAX && (at = strstr(text, mark)); text = at + sizeof mark - 1)
        if ((rc = str_append_n(&s, text, at - text, err)) == 0)
            rc = str_append(&s, who ? who : "the person", err);
    if (rc == 0)
        rc = str_append(&s, text, err);
    if (rc < 0) {
        str_fini(&s);
        return rc;
    }
    sentence_case(s.data);
    *out = s.data;
    return 0;
}

static int add_label(Source *s, const char *rest, int64_t n, int64_t start, int64_t end, const json_t *templates,
                     uint64_t seed, Err *err)
{
    int64_t label;
    char *text;
    while (n && blank(rest[n - 1]))
        n--;
    if (!number(rest, n, &label))
        return source_reject(s, REASON_BAD_SEGMENTS, err, "a motion label is '%.*s', expected a number",
                             n > 40 ? 40 : (int)n, rest);
    int rc = fashion_motion_text(templates, label, seed, s->id, start, &text, err);
    if (rc == 0 && !text && label != LABEL_NO_MOTION)
        rc = source_warn(s, REASON_UNKNOWN_LABEL, err, "motion label %" PRId64 " has no template", label);
    if (text)
        rc = source_add_segment(s, start, end, text, (int64_t)strlen(text), err);
    mem_free(text);
    return rc;
}

int fashion_parse_segments(Source *s, const char *text, int64_t size, const json_t *templates, uint64_t seed,
                           const char *where, Err *err)
{
    const char *line, *a, *b;
    int64_t at = 0, n, row = 0, start, end;
    int rc = 0;
    while (rc == 0 && lines_next(text, size, &at, &line, &n)) {
        row++;
        const char *p = line, *stop = line + n;
        int64_t a_n = field(&p, stop, &a), b_n = field(&p, stop, &b);
        if (a_n == 0)
            continue;
        if (!number(a, a_n, &start) || !number(b, b_n, &end) || end < start)
            return source_reject(s, REASON_BAD_SEGMENTS, err,
                                 "%s line %" PRId64 ": expected '<start> <end> <label or text>'", where, row);
        if (end - start < SEGMENT_MIN)
            continue;
        while (p < stop && blank(*p))
            p++;
        rc = templates ? add_label(s, p, stop - p, start, end, templates, seed, err)
                       : source_add_segment(s, start, end, p, stop - p, err);
    }
    return rc;
}

/* The first run of eleven letters, digits, '+' and '-' that ends in S: the ID of a UBC clip. */
static const char *clip_id(const char *name)
{
    for (const char *p = name; *p;) {
        size_t n = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-");
        if (n == 11 && p[10] == 'S')
            return p;
        p += n ? n : 1;
    }
    return NULL;
}

json_t *fashion_lookup(const json_t *object, const char *video)
{
    json_t *v = json_object_get(object, video);
    size_t n = strlen(video);
    char name[SOURCE_ID_MAX + 8];
    if (v || n > SOURCE_ID_MAX)
        return v;
    if (n > 4 && strcmp(video + n - 4, ".mp4") == 0)
        snprintf(name, sizeof name, "%.*s", (int)(n - 4), video);
    else
        snprintf(name, sizeof name, "%s.mp4", video);
    if ((v = json_object_get(object, name)))
        return v;
    const char *want = clip_id(video), *key, *have;
    json_object_foreach ((json_t *)object, key, v)
        if (want && (have = clip_id(key)) && memcmp(want, have, 11) == 0)
            return v;
    return NULL;
}
