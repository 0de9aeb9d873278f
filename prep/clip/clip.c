/* A source from its bytes to its records. */
#include "prep/clip/clip.h"

#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "prep/clip/internal.h"

static int job_open(ClipJob *job, const PrepConfig *cfg, const char *root, const Source *s, const char *out_dir,
                    Err *err)
{
    *job = (ClipJob){.cfg = cfg,
                     .src = s,
                     .out_dir = out_dir,
                     .path = path_join(root, s->path, err),
                     .rate = s->rate.den ? s->rate : (Rational){cfg->frames_fps, 1}};
    return job->path ? 0 : ERR_NOMEM;
}

static void job_close(ClipJob *job)
{
    mem_free(job->path);
}

/* What became of a source. */
typedef struct Outcome {
    json_t *records;  /* one object a window, or one for the source as a whole */
    int restart_full; /* the records are incomplete: scan again with SCAN_FULL */
} Outcome;

static int add_record(const ClipJob *job, const ClipResult *r, Outcome *out, Err *err)
{
    json_t *record;
    int rc = clip_json(job, r, &record, err);
    if (rc == 0 && json_array_append_new(out->records, record) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for clip '%s'", r->id);
    return rc;
}

/* A source that is rejected as a whole: one record. */
static int add_whole(const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan, Outcome *out,
                     Err *err)
{
    ClipResult r;
    result_begin(&r, job, id, scan, plan);
    int rc = result_captions(&r, job, 0, 0, err);
    if (rc == 0)
        rc = result_contact(&r, job, err);
    if (rc == 0)
        rc = add_record(job, &r, out, err);
    result_fini(&r);
    return rc;
}

static int add_windows(const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan,
                       Outcome *out, Err *err)
{
    int rc = 0;
    for (int64_t k = 0; k < plan->windows && rc == 0 && !out->restart_full; k++) {
        ClipResult r;
        rc = make_window(job, id, scan, plan, k, &r, err);
        out->restart_full = r.restart_full;
        if (rc == 0 && !r.restart_full)
            rc = add_record(job, &r, out, err);
        result_fini(&r);
    }
    return rc;
}

/* Every step for a source that could be read. */
static int process(const ClipJob *job, const ClipIdentity *id, ScanMode mode, Outcome *out, Err *err)
{
    WindowPlan plan = {0};
    Scan scan;
    int rc = scan_source(job, mode, &scan, err);
    out->restart_full = scan.restart_full;
    if (rc == 0 && !scan.restart_full) {
        if (is_rejected(&scan.rejected))
            rc = add_whole(job, id, &scan, NULL, out, err);
        else if ((rc = plan_windows(job, &scan, &plan, err)) == 0)
            rc = is_rejected(&plan.rejected) ? add_whole(job, id, &scan, &plan, out, err)
                                             : add_windows(job, id, &scan, &plan, out, err);
    }
    plan_fini(&plan);
    scan_fini(&scan);
    return rc;
}

/* Passes over what no frame of the clip needs (scan_source goes back to skimming by itself); a source for which
 * skimming is not exact is scanned in full. */
static int process_until_exact(const ClipJob *job, const ClipIdentity *id, Outcome *out, Err *err)
{
    int rc = process(job, id, job->cfg->decode_all ? SCAN_FULL : SCAN_THIN, out, err);
    if (rc == 0 && out->restart_full) {
        json_array_clear(out->records);
        rc = process(job, id, SCAN_FULL, out, err);
    }
    return rc;
}

static int make_records(const ClipJob *job, const ClipIdentity *id, json_t **out, Err *err)
{
    Outcome o = {.records = json_array()};
    if (!o.records)
        return err_set(err, ERR_NOMEM, "out of memory for clip '%s'", job->src->id);
    int rc = is_rejected(&id->rejected) ? add_whole(job, id, NULL, NULL, &o, err)
                                        : process_until_exact(job, id, &o, err);
    if (rc == 0)
        *out = o.records;
    else
        json_decref(o.records);
    return rc;
}

int clip_process(const PrepConfig *cfg, const char *root, const Source *s, const json_t *prior, const char *out_dir,
                 json_t **out, Err *err)
{
    ClipJob job;
    ClipIdentity id;
    *out = NULL;
    int rc = job_open(&job, cfg, root, s, out_dir, err);
    if (rc == 0)
        rc = clip_identify(&job, &id, err);
    if (rc == 0 && out_dir && !is_rejected(&id.rejected))
        rc = clip_reuse(&job, &id, prior, out, err);
    if (rc == 0 && !*out)
        rc = make_records(&job, &id, out, err);
    job_close(&job);
    return rc;
}

int clip_failed(const PrepConfig *cfg, const Source *s, const char *code, const char *text, json_t **out, Err *err)
{
    ClipJob job;
    ClipIdentity id = {.size = -1};
    *out = NULL;
    int rc = job_open(&job, cfg, "", s, NULL, err);
    if (rc == 0)
        rc = clip_key(&job, "", id.key, err);
    if (rc == 0) {
        reject(&job, &id.rejected, reason_find(code), "%s", text);
        rc = make_records(&job, &id, out, err);
    }
    job_close(&job);
    return rc;
}
