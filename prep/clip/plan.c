/* Where the windows of a scanned source begin, and how its pictures are fitted. */
#include <string.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"
#include "prep/clip/source_facts.h"

void plan_fini(WindowPlan *p)
{
    mem_free(p->starts);
    notes_fini(&p->notes);
}

static int plan_fit(const ClipJob *job, const Scan *scan, WindowPlan *p, Err *err)
{
    const VideoInfo *v = &scan->info;
    memcpy(p->part, job->src->crop, sizeof p->part);
    int rc = job->cfg->trim_bars ? fit_trim_bars(job, scan, p, err) : 0;
    if (rc < 0)
        return rc;
    fit_judge(job, v, p->part, &p->fit, &p->rejected);
    if (is_rejected(&p->rejected))
        return 0;
    p->fitted = 1;
    SourceNote notes[SOURCE_NOTES_MAX];
    int n = source_notes(v, &scan->counts, job->cfg->background_name, notes);
    for (int i = 0; i < n && rc == 0; i++)
        rc = note_add(&p->notes, err, notes[i].reason, "%s", notes[i].text);
    return rc;
}

/* Whether the used part holds a window, and how many of its frames would be held. */
static void plan_length(const ClipJob *job, const Scan *s, WindowPlan *p)
{
    const PrepConfig *c = job->cfg;
    const Rational *times = scan_times(s);
    if (s->used == 0) {
        reject(job, &p->rejected, REASON_TOO_SHORT, "no frame lies between start_s and end_s");
        return;
    }
    p->points = choose_points(times, s->used, c->fps);
    int64_t missing = c->frames - p->points;
    p->held = missing > 0 ? missing : 0;
    if (missing <= 0) /* each window's rate is judged on its own frames */
        return;
    window_judge_rate(job, times, s->used, &p->rejected);
    if (!is_rejected(&p->rejected) && (!c->hold || missing > c->max_hold))
        reject(job, &p->rejected, REASON_TOO_SHORT,
               "%" PRId64 " frames in %.3f s give %" PRId64 " of the %" PRId64 " frames at %" PRId64 " fps%s", s->used,
               rational_value(rational_sub(times[s->used - 1], times[0])), p->points, c->frames, c->fps,
               c->hold ? "; clip.max_hold allows no more" : "");
}

static int plan_starts(const ClipJob *job, WindowPlan *p, Err *err)
{
    const PrepConfig *c = job->cfg;
    int64_t stride = c->window == WINDOW_CHUNKS ? c->frames : c->window == WINDOW_SLIDE ? c->window_stride : 0;
    int64_t count = c->window <= WINDOW_MIDDLE || p->held ? 1 : c->window_count;
    p->starts = mem_calloc(count, sizeof *p->starts, err);
    if (!p->starts)
        return ERR_NOMEM;
    p->windows = 1;
    if (c->window != WINDOW_FIRST && !p->held)
        p->windows = choose_windows(p->points, c->frames, stride, count, p->starts);
    int64_t all = stride && !p->held ? (p->points - c->frames + stride - 1) / stride + 1 : p->windows;
    if (p->windows < all)
        return note_add(&p->notes, err, REASON_WINDOWS_LEFT,
                        "%" PRId64 " of the %" PRId64 " windows are used (clip.window_count)", p->windows, all);
    return 0;
}

int plan_windows(const ClipJob *job, const Scan *scan, WindowPlan *out, Err *err)
{
    *out = (WindowPlan){0};
    int rc = plan_fit(job, scan, out, err);
    if (rc < 0 || is_rejected(&out->rejected))
        return rc;
    plan_length(job, scan, out);
    return is_rejected(&out->rejected) ? 0 : plan_starts(job, out, err);
}
