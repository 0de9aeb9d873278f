/* Uses the results of an earlier run for the same source again where they are still valid. */
#include <stdio.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"

static Reason note_reason(const json_t *note)
{
    return reason_find(json_string_value(json_object_get(note, "code")));
}

/* Verdicts that depend on the machine, or on more than the key covers, are made again. */
static int stands(const json_t *reason)
{
    Reason r = note_reason(reason);
    return r < REASON_COUNT && !reason_is_redone(r);
}

/* 1 when the dataset holds the file (of this size unless NULL). */
static int same_file(const ClipJob *job, const json_t *name, const json_t *size, Err *err)
{
    char *file = path_join(job->out_dir, json_string_value(name), err);
    if (!file)
        return ERR_NOMEM;
    int64_t have = file_exists(file) ? file_size(file, NULL) : -1;
    mem_free(file);
    return have >= 0 && (!size || have == json_integer_value(size));
}

/* 1 when the line has this key, its verdict is still valid and its files exist. */
static int is_good(const ClipJob *job, const ClipIdentity *id, const json_t *line, Err *err)
{
    const json_t *key = json_object_get(line, "key"), *clip = json_object_get(line, "clip"),
                 *reason = json_object_get(line, "reason"), *contact = json_object_get(line, "contact");
    if (!json_is_string(key) || strcmp(json_string_value(key), id->key) != 0 ||
        (json_is_object(reason) && !stands(reason)))
        return 0;
    int rc = json_is_object(clip) ? same_file(job, json_object_get(clip, "file"), json_object_get(clip, "size"), err)
                                  : 1;
    return rc == 1 && json_is_string(contact) ? same_file(job, contact, NULL, err) : rc;
}

static double rational_of(const json_t *pair)
{
    return rational_value(
        (Rational){json_integer_value(json_array_get(pair, 0)), json_integer_value(json_array_get(pair, 1))});
}

/* The captions of the line's window; the window is not known for a source rejected as a whole. */
static int line_captions(const ClipJob *job, const json_t *line, ClipResult *r, Err *err)
{
    const json_t *window = json_object_get(line, "window"), *probe = json_object_get(line, "probe");
    double start_s = 0, end_s = 0;
    if (json_is_object(window)) {
        start_s = rational_of(json_object_get(window, "start_time"));
        if (job->src->segments_us)
            start_s += rational_of(json_object_get(probe, "first_time"));
        end_s = start_s + (double)(job->cfg->frames - 1) / (double)job->cfg->fps;
    }
    return result_captions(r, job, start_s, end_s, err);
}

/* Notes about the pixels stay, before those that this run made. */
static int put_notes(json_t *record, const json_t *line)
{
    json_t *kept = json_array(), *note;
    size_t i;
    int bad = !kept;
    json_array_foreach (json_object_get(line, "warnings"), i, note) {
        Reason r = note_reason(note);
        if (r < REASON_COUNT && reason_is_about_pixels(r))
            bad = bad || json_array_append_new(kept, json_deep_copy(note)) < 0;
    }
    bad = bad || json_array_extend(kept, json_object_get(record, "warnings")) < 0;
    return bad | (json_object_set_new(record, "warnings", kept) < 0);
}

/* Copies the line's results into the record of this run. */
static int put_results(json_t *record, const json_t *line, int was_rejected, int is_rejected_now)
{
    static const char *const members[] = {"probe",   "window",  "geometry", "ledger", "timing",
                                          "evening", "quality", "contact",  "clip"};
    int bad = 0;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *value = json_object_get(line, members[i]);
        if (value && !(is_rejected_now && strcmp(members[i], "clip") == 0))
            bad |= json_object_set_new(record, members[i], json_deep_copy(value)) < 0;
    }
    if (was_rejected)
        bad |= json_object_set_new(record, "decision", json_string("reject")) < 0 ||
               json_object_set_new(record, "reason", json_deep_copy(json_object_get(line, "reason"))) < 0;
    return bad | put_notes(record, line);
}

/* The line as a record of this run: its pixels' results, with captions and notes made anew. */
static int take_over(const ClipJob *job, const ClipIdentity *id, const json_t *line, json_t **out, Err *err)
{
    const json_t *reason = json_object_get(line, "reason");
    /* near_duplicate is decided anew when the whole set is known (prep/set/duplicates.h) */
    int was_rejected = json_is_object(reason) && note_reason(reason) != REASON_NEAR_DUPLICATE;
    ClipResult r;
    result_begin(&r, job, id, NULL, NULL);
    snprintf(r.id, sizeof r.id, "%s", json_string_value(json_object_get(line, "id")));
    if (was_rejected)
        reject(job, &r.rejected, note_reason(reason), "%s", json_string_value(json_object_get(reason, "text")));
    int rc = line_captions(job, line, &r, err);
    if (rc == 0)
        rc = clip_json(job, &r, out, err);
    if (rc == 0 && put_results(*out, line, was_rejected, !was_rejected && is_rejected(&r.rejected))) {
        json_decref(*out);
        *out = NULL;
        rc = err_set(err, ERR_NOMEM, "out of memory for clip '%s'", r.id);
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
        const json_t *line = json_array_get(prior, i), *window = json_object_get(line, "window");
        int64_t count = json_is_object(window) ? json_integer_value(json_object_get(window, "count")) : 1;
        json_t *record = NULL;
        rc = count == (int64_t)n ? is_good(job, id, line, err) : 0;
        if (rc != 1)
            break;
        if ((rc = take_over(job, id, line, &record, err)) == 0)
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
