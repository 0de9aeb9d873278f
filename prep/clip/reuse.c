/* Uses the results of an earlier run for the same source again where they are still valid. */
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"
#include "prep/line.h"

/* Verdicts that depend on the machine, or on more than the key covers, are made again. */
static int stands(const ManifestLine *line)
{
    return !line->rejected || (line->reason < REASON_COUNT && !reason_is_redone(line->reason));
}

/* 1 when the dataset holds the file (of this size unless negative). */
static int same_file(const ClipJob *job, const char *name, int64_t size, Err *err)
{
    char *file = path_join(job->out_dir, name, err);
    if (!file)
        return ERR_NOMEM;
    int64_t have = file_exists(file) ? file_size(file, NULL) : -1;
    mem_free(file);
    return have >= 0 && (size < 0 || have == size);
}

/* 1 when the line has this key, its verdict is still valid and its files exist. */
static int is_good(const ClipJob *job, const ClipIdentity *id, const ManifestLine *line, Err *err)
{
    if (!line->key || strcmp(line->key, id->key) != 0 || !stands(line))
        return 0;
    int rc = line->has_clip ? same_file(job, line->clip.file, line->clip.size, err) : 1;
    return rc == 1 && line->contact ? same_file(job, line->contact, -1, err) : rc;
}

/* The captions of the line's window; the window is not known for a source rejected as a whole. */
static int window_captions(const ClipJob *job, const ManifestLine *line, ClipResult *r, Err *err)
{
    double start_s = 0, end_s = 0;
    if (line->placed) {
        start_s = rational_value(line->window.start_time);
        if (job->src->segments_us)
            start_s += rational_value(line->probe.first_time);
        end_s = start_s + (double)(job->cfg->frames - 1) / (double)job->cfg->fps;
    }
    return result_captions(r, job, start_s, end_s, err);
}

/* The line as a record of this run: its pixels' results, with captions and notes made anew. */
static int take_over(const ClipJob *job, const ClipIdentity *id, const json_t *prior, const ManifestLine *line,
                     json_t **out, Err *err)
{
    /* near_duplicate is decided anew when the whole set is known (prep/set/duplicates.h) */
    int was_rejected = line->rejected && line->reason != REASON_NEAR_DUPLICATE;
    ClipResult r;
    result_begin(&r, job, id, NULL, NULL);
    snprintf(r.id, sizeof r.id, "%s", line->id);
    if (was_rejected)
        reject(job, &r.rejected, line->reason, "%s", line->reason_text);
    int rc = window_captions(job, line, &r, err);
    if (rc == 0)
        rc = clip_json(job, &r, out, err);
    if (rc == 0 &&
        (rc = line_copy_results(*out, prior, was_rejected, was_rejected || !is_rejected(&r.rejected), err)) < 0) {
        json_decref(*out);
        *out = NULL;
    }
    result_fini(&r);
    return rc;
}

int clip_reuse(const ClipJob *job, const ClipIdentity *id, const json_t *prior, json_t **out, Err *err)
{
    size_t n = json_array_size(prior);
    *out = NULL;
    if (n == 0)
        return 0;
    json_t *records = json_array();
    int rc = records ? 1 : err_set(err, ERR_NOMEM, "out of memory for clip '%s'", job->src->id);
    for (size_t i = 0; i < n && rc == 1; i++) {
        const json_t *one = json_array_get(prior, i);
        ManifestLine line;
        json_t *record = NULL;
        line_read(&line, one);
        rc = (line.placed ? line.window.count : 1) == (int64_t)n ? is_good(job, id, &line, err) : 0;
        if (rc != 1)
            break;
        if ((rc = take_over(job, id, one, &line, &record, err)) == 0)
            rc = json_array_append_new(records, record) < 0
                     ? err_set(err, ERR_NOMEM, "out of memory for clip '%s'", job->src->id)
                     : 1;
    }
    if (rc == 1)
        *out = records;
    else
        json_decref(records);
    return rc < 0 ? rc : 0;
}
