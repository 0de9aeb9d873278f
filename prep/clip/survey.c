/* Whether a window's times are good enough, and where in the source another window is clean. */
#include <math.h>
#include <string.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"

void window_judge_rate(const ClipJob *job, const Rational *times, int64_t n, Rejection *r)
{
    if (n < 2)
        return;
    double rate = (double)(n - 1) / rational_value(rational_sub(times[n - 1], times[0]));
    if (rate < job->cfg->min_fps)
        reject(job, r, REASON_LOW_RATE, "%.3f frames a second; at least %g are wanted (clip.min_fps)", rate,
               job->cfg->min_fps);
}

int64_t window_judge_times(const ClipJob *job, const Pick *picks, int64_t n, Rejection *r)
{
    const Pick *worst = picks;
    int64_t frames = picks[n - 1].index - picks[0].index;
    if (job->cfg->allow_vfr)
        return -1;
    for (int64_t k = 0; k < n; k++)
        if (fabs(picks[k].error_s) > fabs(worst->error_s))
            worst = &picks[k];
    double span = rational_value(rational_sub(picks[n - 1].time, picks[0].time));
    double limit = 1.0 / 16 + (frames ? span / (double)frames / 2 : 0), time = rational_value(worst->time);
    if (fabs(worst->error_s) <= limit)
        return -1;
    reject(job, r, REASON_UNEVEN_TIMES,
           "output frame %" PRId64 " is to show %.3f s, the nearest source frame is at %.3f s; %.3f s may lie between "
           "(clip.allow_vfr takes such clips)",
           (int64_t)(worst - picks), time - worst->error_s, time, limit);
    return worst - picks;
}

/* A source frame further away than this is too far in every window whose rate is high enough. */
static double furthest(const PrepConfig *c)
{
    return c->allow_vfr || c->min_fps <= 0 ? INFINITY : 1.0 / 16 + 0.5 / c->min_fps;
}

/* The output frame from which a window at `start` is bad for its times; -1: its times are good. */
static int64_t bad_time(const ClipJob *job, const Scan *s, const Pick *picks, int64_t start)
{
    const Pick *first = picks + start;
    int64_t n = job->cfg->frames;
    Rejection why = {0};
    window_judge_rate(job, s->times + first->index, first[n - 1].index - first->index + 1, &why);
    if (is_rejected(&why))
        return start;
    int64_t worst = window_judge_times(job, first, n, &why);
    return worst < 0 ? -1 : start + worst;
}

/* The clean window with good times that is nearest to the result's. */
static int find(const ClipJob *job, const ClipResult *r, const Pass *p, uint8_t *bad, int64_t *start, Err *err)
{
    for (;;) {
        int rc = quality_clean_window(p->figures, bad, p->n, job->cfg->frames, r->start, &job->cfg->quality, start,
                                      err);
        int64_t at = rc < 0 || *start < 0 ? -1 : bad_time(job, r->scan, p->picks, *start);
        if (at < 0)
            return rc;
        bad[at] = 1;
    }
}

int window_survey(const ClipJob *job, ClipResult *r, int64_t *start, Err *err)
{
    const Scan *s = r->scan;
    Pass p = {0};
    int64_t n = r->plan->points;
    Pick *picks = mem_calloc(n, sizeof *picks, err);
    uint8_t *bad = mem_calloc(n, 1, err);
    int rc = picks && bad ? 0 : ERR_NOMEM;
    *start = -1;
    if (rc == 0) {
        choose_frames(scan_times(s), s->used, job->cfg->fps, 0, n, picks);
        for (int64_t k = 0; k < n; k++) {
            picks[k].index += s->first;
            bad[k] = s->damaged[picks[k].index] || fabs(picks[k].error_s) > furthest(job->cfg);
        }
        rc = pass_open(&p, job, s, &r->plan->fit, picks, n, err);
    }
    if (rc == 0 && (rc = pass_run(&p, err)) == 0) {
        r->rejected = p.rejected;
        if (!is_rejected(&r->rejected))
            rc = find(job, r, &p, bad, start, err);
    }
    pass_close(&p);
    mem_free(picks);
    mem_free(bad);
    return rc;
}
