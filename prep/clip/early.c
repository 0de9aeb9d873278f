/* The first window's pictures, made during the first pass.  Whether frame A is nearest to output
 * frame k is known only once the next frame B is seen; A is kept one step and converted if it is. */
#include <string.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"

enum { EARLY_BYTES_MAX = 1 << 29 };

void early_fini(Early *e)
{
    mem_free_aligned(e->rgb);
    mem_free(e->index);
    e->rgb = NULL;
    e->index = NULL;
    e->n = 0;
    e->off = 1;
}

void early_begin(const ClipJob *job, Early *e)
{
    const WindowPolicy window = job->cfg->window;
    *e = (Early){.off = window == WINDOW_MIDDLE || window == WINDOW_UNIFORM || job->cfg->trim_bars || !job->out_dir ||
                        job->src->kind == SOURCE_FRAMES};
}

static int start(const ClipJob *job, Scan *s, FrameReader *r, const FrameMark *m, Err *err)
{
    Early *e = &s->early;
    const PrepConfig *c = job->cfg;
    Rejection unfit = {0};
    int64_t bytes;
    fit_judge(job, frame_reader_info(r), job->src->crop, &e->fit, &unfit);
    if (is_rejected(&unfit) || mem_mul(c->width * c->height * 3, c->frames, &bytes) < 0 || bytes > EARLY_BYTES_MAX) {
        e->off = 1;
        return 0;
    }
    e->rgb = mem_alloc_aligned(bytes, err);
    e->index = mem_calloc(c->frames, sizeof *e->index, err);
    e->origin = m->time;
    s->thin = s->mode == SCAN_THIN && c->window == WINDOW_FIRST && frame_reader_thin(r, c->fps);
    return e->rgb && e->index ? 0 : ERR_NOMEM;
}

/* The held frame is shown for output frame e->next.  If it cannot be converted, no early pictures
 * are made; the second pass finds out what is wrong. */
static int take(const ClipJob *job, Early *e, FrameReader *r, Err *err)
{
    const PrepConfig *c = job->cfg;
    Err cause = {0};
    if (e->n == 0 || e->index[e->n - 1] != e->last_index) {
        int rc = frame_reader_held_rgb(r, &e->fit, e->rgb + e->n * c->width * c->height * 3, &cause);
        if (rc == ERR_NOMEM || rc == ERR_USAGE) /* ERR_USAGE: it was passed over, the scan ends here */
            return err_set(err, rc, "%s", cause.msg);
        if (rc < 0) {
            early_fini(e);
            return 0;
        }
        e->index[e->n++] = e->last_index;
    }
    e->next++;
    return 0;
}

int early_frame(const ClipJob *job, Scan *s, FrameReader *r, const FrameMark *m, Err *err)
{
    Early *e = &s->early;
    int rc = 0;
    if (e->off || e->next == job->cfg->frames || (s->from.den && rational_cmp(m->time, s->from) < 0))
        return 0;
    if (s->to.den && rational_cmp(m->time, s->to) > 0)
        return e->rgb ? early_end(job, e, r, err) : 0;
    Rational one = m->time;
    if (choose_check(&one, 1, NULL) < 0) {
        early_fini(e);
        return 0;
    }
    if (!e->rgb) {
        if ((rc = start(job, s, r, m, err)) < 0 || e->off)
            return rc;
    } else {
        while (rc == 0 && !e->off && e->next < job->cfg->frames &&
               !choose_past_middle(e->next, job->cfg->fps, e->origin, e->last, m->time))
            rc = take(job, e, r, err);
        if (rc < 0 || e->off || e->next == job->cfg->frames)
            return rc;
    }
    e->last = m->time;
    e->last_index = m->index;
    return frame_reader_hold(r, err);
}

int early_end(const ClipJob *job, Early *e, FrameReader *r, Err *err)
{
    if (e->off || !e->rgb || e->next == job->cfg->frames)
        return 0;
    const Rational times[2] = {e->origin, e->last};
    int64_t points = rational_cmp(e->origin, e->last) ? choose_points(times, 2, job->cfg->fps) : 1;
    int rc = 0;
    while (rc == 0 && !e->off && e->next < job->cfg->frames && e->next < points)
        rc = take(job, e, r, err);
    if (rc == 0 && !e->off)
        e->next = job->cfg->frames; /* no more pictures are wanted */
    return rc;
}
