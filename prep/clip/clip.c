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
                     .rate = s->rate.den ? s->rate : (Rational){cfg->frames_fps, 1},
                     .decode_all = cfg->decode_all};
    return job->path ? 0 : ERR_NOMEM;
}

static void job_close(ClipJob *job)
{
    mem_free(job->path);
}

static int add_record(const ClipJob *job, const ClipResult *r, json_t *records, Err *err)
{
    json_t *record;
    int rc = clip_json(job, r, &record, err);
    if (rc == 0 && json_array_append_new(records, record) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for clip '%s'", r->id);
    return rc;
}

/* A source that is rejected as a whole: one record. */
static int add_whole(const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan,
                     json_t *records, Err *err)
{
    ClipResult r;
    result_begin(&r, job, id, scan, plan);
    int rc = result_captions(&r, job, 0, 0, err);
    if (rc == 0)
        rc = result_contact(&r, job, err);
    if (rc == 0)
        rc = add_record(job, &r, records, err);
    result_fini(&r);
    return rc;
}

/* 0, 1 when it must start over (restart_full), negative. */
static int add_windows(const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan,
                       json_t *records, Err *err)
{
    int rc = 0;
    for (int64_t k = 0; k < plan->windows && rc == 0; k++) {
        ClipResult r;
        rc = make_window(job, id, scan, plan, k, &r, err);
        if (rc == 0)
            rc = r.restart_full ? 1 : add_record(job, &r, records, err);
        result_fini(&r);
    }
    return rc;
}

/* Every step for a source that could be read: 0, 1 when it must start over (restart_full), negative. */
static int process(const ClipJob *job, const ClipIdentity *id, json_t *records, Err *err)
{
    WindowPlan plan = {0};
    Scan scan;
    int rc = scan_source(job, &scan, err);
    if (rc == 0 && scan.restart_full)
        rc = 1;
    else if (rc == 0 && is_rejected(&scan.rejected))
        rc = add_whole(job, id, &scan, NULL, records, err);
    else if (rc == 0 && (rc = plan_windows(job, &scan, &plan, err)) == 0)
        rc = is_rejected(&plan.rejected) ? add_whole(job, id, &scan, &plan, records, err)
                                         : add_windows(job, id, &scan, &plan, records, err);
    plan_fini(&plan);
    scan_fini(&scan);
    return rc;
}

static int make_records(ClipJob *job, const ClipIdentity *id, json_t **out, Err *err)
{
    json_t *records = json_array();
    if (!records)
        return err_set(err, ERR_NOMEM, "out of memory for clip '%s'", job->src->id);
    int rc = is_rejected(&id->rejected) ? add_whole(job, id, NULL, NULL, records, err) : process(job, id, records, err);
    if (rc == 1) { /* restart_full */
        job->decode_all = 1;
        json_array_clear(records);
        rc = process(job, id, records, err);
    }
    if (rc == 0)
        *out = records;
    else
        json_decref(records);
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
