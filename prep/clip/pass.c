/* The chosen frames of a source as pixels, one after another: measured, hashed and written. */
#include <string.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"

int pass_open(Pass *p, const ClipJob *job, const Scan *scan, const FitPlan *fit, const Pick *picks, int64_t n, Err *err)
{
    const PrepConfig *c = job->cfg;
    *p = (Pass){.job = job, .scan = scan, .fit = fit, .picks = picks, .n = n, .bytes = c->width * c->height * 3};
    p->rgb = mem_alloc_aligned(p->bytes, err);
    p->figures = mem_calloc(n, sizeof *p->figures, err);
    if (!p->rgb || !p->figures)
        return ERR_NOMEM;
    int rc = meter_open(&p->meter, c->width, c->height, c->quality.black_level, err);
    return rc < 0 ? rc : sha256_init(&p->sha, err);
}

void pass_close(Pass *p)
{
    video_abort(&p->out);
    contact_close(&p->contact);
    visible_close(&p->visible);
    meter_close(&p->meter);
    sha256_fini(&p->sha);
    mem_free_aligned(p->rgb);
    mem_free(p->figures);
}

/* Output frame p->k is this picture; repeated: the one before was, too. */
static int use_once(Pass *p, const uint8_t *rgb, int repeated, Err *err)
{
    FrameFigures *f = &p->figures[p->k];
    if (repeated) {
        *f = f[-1];
        f->change = 0;
        f->correlation = 1;
    } else {
        meter_add(p->meter, rgb, f);
    }
    if (p->visible && repeated)
        visible_repeat(p->visible);
    else if (p->visible)
        visible_add(p->visible, rgb);
    p->duplicates += repeated;
    if (p->contact)
        contact_add(p->contact, p->k, p->n, rgb, p->job->cfg->width, p->job->cfg->height);
    if (!p->out)
        return 0;
    sha256_update(&p->sha, rgb, p->bytes);
    return video_write(p->out, rgb, err);
}

/* The picture is shown for every output frame that chose source frame `index`. */
static int use_frame(Pass *p, const uint8_t *rgb, int64_t index, Err *err)
{
    int rc = 0;
    if (p->measured)
        evening_add(p->measured, rgb, p->bytes / 3);
    if (p->even) {
        if (rgb != p->rgb)
            memcpy(p->rgb, rgb, (size_t)p->bytes);
        evening_apply(p->even, p->rgb, p->bytes / 3);
        rgb = p->rgb;
    }
    for (int repeated = 0; p->k < p->n && p->picks[p->k].index == index && rc == 0; p->k++, repeated = 1)
        if (!p->measured)
            rc = use_once(p, rgb, repeated, err);
    return rc;
}

/* Uses the pictures of the first pass: 1 when they are those of this window, 0 when not, negative
 * error. */
static int run_early(Pass *p, Err *err)
{
    const Early *e = &p->scan->early;
    int64_t frames = 0;
    for (int64_t k = 0; k < p->n; k++) {
        frames += k > 0 && p->picks[k].index != p->picks[k - 1].index;
        if (frames >= e->n || e->index[frames] != p->picks[k].index)
            return 0;
    }
    for (int64_t i = 0; i <= frames; i++) {
        int rc = use_frame(p, e->rgb + i * p->bytes, e->index[i], err);
        if (rc < 0)
            return rc;
    }
    return 1;
}

/* Decodes the source.  *cause: a fault of the source; a negative return: the run cannot go on. */
static int run_source(Pass *p, Err *cause, Err *err)
{
    const ClipJob *job = p->job;
    const VideoLimits limits = clip_limits(job->cfg);
    FrameReader *r;
    FrameMark mark;
    int got = frame_reader_open(&r, job->path, job->src->kind, job->rate, &limits, cause), rc = 0;
    while (got >= 0 && rc == 0 && p->k < p->n && (got = frame_reader_next(r, &mark, cause)) == 1) {
        if (mark.index != p->picks[p->k].index)
            continue;
        if ((got = frame_reader_rgb(r, p->fit, p->rgb, cause)) >= 0)
            rc = use_frame(p, p->rgb, mark.index, err);
    }
    frame_reader_close(&r);
    return rc;
}

int pass_run(Pass *p, Err *err)
{
    Err cause = {0};
    int rc = run_early(p, err);
    if (rc)
        return rc < 0 ? rc : 0;
    rc = run_source(p, &cause, err);
    if (rc < 0)
        return rc;
    if (cause.code)
        return reject_error(p->job, &p->rejected, cause.code, &cause, REASON_DAMAGED, err);
    if (p->k < p->n)
        reject(p->job, &p->rejected, REASON_CHANGED, "the source changed while it was read: frame %" PRId64 " is gone",
               p->picks[p->k].index);
    return 0;
}
