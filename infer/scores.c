#include "infer/scores.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/csv.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static const int64_t TABLE_MAX = 1 << 28; /* bytes */

/* Where the videos of a list are: their real paths -> places. */
typedef struct Reading {
    Scores *scores;
    json_t *places[2];
    int64_t videos[2];
    const char *table;
    int64_t column[SCORES_MAX]; /* of the table: the score that it holds */
    int64_t columns, line, matched;
} Reading;

static int bad(const Reading *r, Err *err, const char *what, const char *which)
{
    return err_set(err, ERR_FORMAT, "'%s' line %" PRId64 ": %s%s%s%s", r->table, r->line, what, which ? " '" : "",
                   which ? which : "", which ? "'" : "");
}

/* The path without links and dots, or as it is where there is no such file; mem_free. */
static char *real_path(const char *path, Err *err)
{
    char *real = realpath(path, NULL), *copy = mem_strdup(real ? real : path, err);
    free(real);
    return copy;
}

static int list_places(json_t **out, const VideoList *v, Err *err)
{
    int rc = (*out = json_object()) ? 0 : err_set(err, ERR_NOMEM, "no memory for the list of videos");
    for (int64_t i = 0; i < v->n && rc == 0; i++) {
        char *path = real_path(v->item[i].path, err);
        if (!path || json_object_set_new(*out, path, json_integer(i)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the list of videos, or '%s' is not UTF-8", v->item[i].path);
        mem_free(path);
    }
    return rc;
}

static int add_score(Reading *r, const char *name, Err *err)
{
    Scores *s = r->scores;
    Score *new = &s->item[s->n];
    for (int side = 0; side < 2; side++) {
        if (!(new->value[side] = mem_calloc(r->videos[side] + 1, sizeof(double), err)))
            return ERR_NOMEM;
        for (int64_t i = 0; i < r->videos[side]; i++)
            new->value[side][i] = NAN;
    }
    snprintf(new->name, sizeof new->name, "%s", name);
    new->chance = NAN;
    s->n++;
    return 0;
}

/* A name is a word, so that it can stand in other tables, too. */
static int is_word(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("_-.", s[i]))
            return 0;
    return n > 0 && n <= SCORE_NAME_MAX;
}

static int read_header(Reading *r, const json_t *row, Err *err)
{
    const Scores *s = r->scores;
    size_t n = json_array_size(row);
    if (strcmp(json_string_value(json_array_get(row, 0)), "video") != 0)
        return bad(r, err, "the first column is expected to be 'video', found",
                   json_string_value(json_array_get(row, 0)));
    if (n < 2)
        return bad(r, err, "no column holds a score", NULL);
    for (size_t i = 1; i < n; i++) {
        const char *name = json_string_value(json_array_get(row, i));
        int64_t k = 0;
        int rc = 0;
        if (!is_word(name))
            return bad(r, err, "a score's name has at most 40 letters, digits and '_-.', found", name);
        while (k < s->n && strcmp(s->item[k].name, name) != 0)
            k++;
        for (int64_t before = 0; before < r->columns; before++)
            if (r->column[before] == k)
                return bad(r, err, "two columns are called", name);
        if (k == SCORES_MAX)
            return bad(r, err, "more than 32 scores; the first too many is", name);
        if (k == s->n && (rc = add_score(r, name, err)) < 0)
            return rc;
        r->column[r->columns++] = k;
    }
    return 0;
}

/* NAN for an empty field. */
static int read_number(const Reading *r, const char *text, double *out, Err *err)
{
    char *end;
    *out = NAN;
    if (!*text)
        return 0;
    errno = 0;
    *out = strtod(text, &end);
    return *end || !isfinite(*out) || isspace((unsigned char)*text) ? bad(r, err, "a score is a number, found", text)
                                                                    : 0;
}

static int put_score(const Reading *r, double *to, double value, const char *video, Err *err)
{
    if (isnan(value))
        return 0;
    if (!isnan(*to))
        return bad(r, err, "a score was given before to", video);
    *to = value;
    return 0;
}

/* Where a line's video is in the lists: a place or -1. */
static int find_video(const Reading *r, const char *video, int64_t place[2], Err *err)
{
    char *folder = path_dir(r->table, err),
         *path = folder ? path_join(*video == '/' ? NULL : folder, video, err) : NULL,
         *real = path ? real_path(path, err) : NULL;
    for (int side = 0; side < 2 && real; side++) {
        const json_t *at = json_object_get(r->places[side], real);
        place[side] = at ? (int64_t)json_integer_value(at) : -1;
    }
    int rc = real ? 0 : ERR_NOMEM;
    mem_free(folder);
    mem_free(path);
    mem_free(real);
    return rc;
}

static int read_row(Reading *r, const json_t *row, Err *err)
{
    const char *video = json_string_value(json_array_get(row, 0));
    int64_t place[2] = {-1, -1};
    int chance = strcmp(video, "chance") == 0;
    if ((int64_t)json_array_size(row) != r->columns + 1)
        return bad(r, err, "not as many fields as the first line has", NULL);
    int rc = chance ? 0 : find_video(r, video, place, err);
    for (int64_t i = 0; i < r->columns && rc == 0; i++) {
        Score *s = &r->scores->item[r->column[i]];
        double value;
        rc = read_number(r, json_string_value(json_array_get(row, (size_t)i + 1)), &value, err);
        if (rc == 0 && chance && !isnan(value) && !isnan(s->chance) && s->chance != value)
            rc = bad(r, err, "another table gives another chance of", s->name);
        if (rc == 0 && chance && !isnan(value))
            s->chance = value;
        for (int side = 0; side < 2 && rc == 0; side++)
            if (place[side] >= 0)
                rc = put_score(r, &s->value[side][place[side]], value, video, err);
    }
    int known = place[0] >= 0 || place[1] >= 0;
    r->matched += known;
    r->scores->unknown += !known && !chance;
    return rc;
}

static int read_table(Reading *r, const char *table, Err *err)
{
    char *text = NULL;
    int64_t size = 0, at = 0, lines = 0;
    json_t *row = NULL;
    int rc = file_read(table, TABLE_MAX, &text, &size, err), more = 0;
    r->table = table;
    r->columns = 0;
    while (rc == 0) {
        r->line = lines + 1;
        if ((more = csv_row(text, size, &at, &lines, &row, table, err)) <= 0)
            break;
        rc = r->columns ? read_row(r, row, err) : read_header(r, row, err);
        json_decref(row);
    }
    if (rc == 0 && more == 0 && !r->columns)
        rc = bad(r, err, "the table is empty", NULL);
    mem_free(text);
    return rc < 0 ? rc : more;
}

int scores_read(Scores *out, const StrList *tables, const VideoList side[2], const Log *log, Err *err)
{
    Reading r = {.scores = out, .videos = {side[0].n, side[1].n}};
    *out = (Scores){0};
    int rc = (out->item = mem_calloc(SCORES_MAX, sizeof *out->item, err)) ? 0 : ERR_NOMEM;
    for (int k = 0; k < 2 && rc == 0; k++)
        rc = list_places(&r.places[k], &side[k], err);
    for (int64_t i = 0; i < tables->n && rc == 0; i++)
        rc = read_table(&r, tables->item[i], err);
    if (rc == 0 && !r.matched)
        rc = err_set(err, ERR_USAGE,
                     "'%s' scores none of these videos; its paths are relative to its folder, as in '%s'",
                     tables->item[0], side[0].n ? side[0].item[0].path : "");
    if (rc == 0 && out->unknown)
        log_warn(log, "%" PRId64 " line%s of --scores: the video is in neither run", out->unknown,
                 str_plural(out->unknown));
    for (int k = 0; k < 2; k++)
        json_decref(r.places[k]);
    return rc;
}

void scores_fini(Scores *s)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int side = 0; side < 2; side++)
            mem_free(s->item[i].value[side]);
    mem_free(s->item);
    *s = (Scores){0};
}
