/* The first window's pictures from the first pass.  Which frame stands for an output frame is known
 * when the one after it is: so the frame before is held, and converted when some output frame turns
 * out to be nearest to it. */
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

static int start(Work *w, const VideoInfo *v, const FrameMark *m, Err *err)
{
    const PrepConfig *c = w->cfg;
    Early *e = &w->early;
    int hdr;
    int64_t bytes;
    if (clip_plan(c, w->src->crop, v, &e->fit, &hdr) || mem_mul(c->width * c->height * 3, c->frames, &bytes) < 0 ||
        bytes > EARLY_BYTES_MAX) {
        e->off = 1;
        return 0;
    }
    e->rgb = mem_alloc_aligned(bytes, err);
    e->index = mem_calloc(c->frames, sizeof *e->index, err);
    e->origin = m->time;
    return e->rgb && e->index ? 0 : ERR_NOMEM;
}

/* The held frame stands for output frame e->next.  A frame that cannot be converted ends it: the
 * second pass will tell. */
static int take(Work *w, FrameReader *r, Err *err)
{
    Early *e = &w->early;
    const PrepConfig *c = w->cfg;
    Err cause = {0};
    if (e->n == 0 || e->index[e->n - 1] != e->last_index) {
        int rc = frame_reader_held_rgb(r, &e->fit, e->rgb + e->n * c->width * c->height * 3, &cause);
        if (rc == ERR_NOMEM)
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

int early_frame(Work *w, FrameReader *r, const FrameMark *m, Err *err)
{
    Early *e = &w->early;
    const Source *s = w->src;
    int rc = 0;
    if (e->off || e->next == w->cfg->frames || (s->start.den && rational_cmp(m->time, s->start) < 0))
        return 0;
    if (s->end.den && rational_cmp(m->time, s->end) > 0)
        return e->rgb ? early_end(w, r, err) : 0;
    Rational one = m->time;
    if (choose_check(&one, 1, NULL) < 0) {
        early_fini(e);
        return 0;
    }
    if (!e->rgb) {
        if ((rc = start(w, frame_reader_info(r), m, err)) < 0 || e->off)
            return rc;
    } else {
        while (rc == 0 && !e->off && e->next < w->cfg->frames &&
               !choose_past_middle(e->next, w->cfg->fps, e->origin, e->last, m->time))
            rc = take(w, r, err);
        if (rc < 0 || e->off || e->next == w->cfg->frames)
            return rc;
    }
    e->last = m->time;
    e->last_index = m->index;
    return frame_reader_hold(r, err);
}

int early_end(Work *w, FrameReader *r, Err *err)
{
    Early *e = &w->early;
    if (e->off || !e->rgb || e->next == w->cfg->frames)
        return 0;
    const Rational times[2] = {e->origin, e->last};
    int64_t points = rational_cmp(e->origin, e->last) ? choose_points(times, 2, w->cfg->fps) : 1;
    int rc = 0;
    while (rc == 0 && !e->off && e->next < w->cfg->frames && e->next < points)
        rc = take(w, r, err);
    if (rc == 0 && !e->off)
        e->next = w->cfg->frames; /* nothing more is taken */
    return rc;
}
