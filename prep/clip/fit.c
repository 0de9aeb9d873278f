/* How a source's picture becomes the clip's: which part, how large, with or without black bars. */
#include <string.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"
#include "prep/clip/source_facts.h"
#include "prep/picture/bars.h"

static void part_size(const int64_t part[4], const VideoInfo *v, int64_t *width, int64_t *height)
{
    *width = part[2] ? part[2] : v->display_width;
    *height = part[2] ? part[3] : v->display_height;
}

static int part_fits(const int64_t part[4], const VideoInfo *v)
{
    return !part[2] || (part[0] + part[2] <= v->display_width && part[1] + part[3] <= v->display_height);
}

/* Colours that cannot be read, and a crop outside the picture: no bars are looked for then. */
static void judge_facts(const ClipJob *job, const VideoInfo *v, const int64_t part[4], Rejection *r)
{
    SourceNote why;
    if (source_colours_refused(v, job->cfg->hdr_convert, &why))
        reject(job, r, why.reason, "%s", why.text);
    else if (!part_fits(part, v))
        reject(job, r, REASON_BAD_CROP,
               "the crop %" PRId64 "x%" PRId64 " at %" PRId64 ", %" PRId64 " does not lie in the picture of %" PRId64
               "x%" PRId64,
               part[2], part[3], part[0], part[1], v->display_width, v->display_height);
}

void fit_judge(const ClipJob *job, const VideoInfo *v, const int64_t part[4], FitPlan *fit, Rejection *rejected)
{
    const PrepConfig *c = job->cfg;
    int64_t width, height;
    part_size(part, v, &width, &height);
    *fit = fit_plan_part(v, part, c->width, c->height, c->fit, c->bias_x, c->bias_y);
    fit->deinterlace = c->deinterlace;
    fit->tone_map = v->hdr != VIDEO_SDR;
    memcpy(fit->background, c->background, sizeof fit->background);
    judge_facts(job, v, part, rejected);
    if (is_rejected(rejected))
        return;
    if ((width < height ? width : height) < c->min_side)
        reject(job, rejected, REASON_TOO_SMALL,
               "%" PRId64 "x%" PRId64 "; the shorter side must have %" PRId64 " pixels (clip.min_side)", width, height,
               c->min_side);
    else if (fit->lost > c->max_lost)
        reject(job, rejected, REASON_CROP_TOO_LARGE,
               "%" PRId64 "x%" PRId64 " to %" PRId64 "x%" PRId64
               " would cut away %.1f %% of an axis; clip.max_lost allows %.1f %% "
               "(clip.fit=pad keeps all)",
               width, height, c->width, c->height, 100 * fit->lost, 100 * c->max_lost);
}

/* ---- black bars ------------------------------------------------------------------------------ */
/* Shows the meter a few whole frames of the used part.  A frame that cannot be decoded is left
 * out: the window's own pass judges whether the clip is damaged. */
static int look_at_frames(const ClipJob *job, const Scan *s, const FitPlan *whole, BarMeter *meter, uint8_t *rgb,
                          Err *err)
{
    enum { LOOKS = 24 };
    const VideoLimits limits = clip_limits(job->cfg);
    int64_t looks = s->used < LOOKS ? s->used : LOOKS, look = 0;
    FrameReader *r = NULL;
    FrameMark mark;
    Err cause = {0};
    int got = frame_reader_open(&r, job->path, job->src->kind, job->rate, &limits, &cause);
    while (got >= 0 && look < looks && (got = frame_reader_next(r, &mark, &cause)) == 1) {
        if (mark.index < s->first + (2 * look + 1) * s->used / (2 * looks) || mark.damaged)
            continue;
        look++;
        if ((got = frame_reader_rgb(r, whole, rgb, &cause)) >= 0)
            bar_meter_add(meter, rgb);
    }
    frame_reader_close(&r);
    if (cause.code == ERR_NOMEM || cause.code == ERR_INTERRUPTED)
        return err_set(err, cause.code, "%s", cause.msg);
    return 0;
}

static int cut_bars(WindowPlan *p, int64_t width, int64_t height, int wider, Err *err)
{
    const int64_t *b = p->bars;
    const int64_t part[4] = {p->part[0] + b[0], p->part[1] + b[2], width - b[0] - b[1], height - b[2] - b[3]};
    memcpy(p->part, part, sizeof part);
    return note_add(&p->notes, err, REASON_BARS_TRIMMED,
                    "black bars are cut away: left %" PRId64 ", right %" PRId64 ", top %" PRId64 ", bottom %" PRId64
                    " pixels%s",
                    b[0], b[1], b[2], b[3], wider ? "; they are wider than the 15 % of a side that may be cut" : "");
}

int fit_trim_bars(const ClipJob *job, const Scan *scan, WindowPlan *p, Err *err)
{
    const VideoInfo *v = &scan->info;
    int64_t width, height;
    BarMeter *meter = NULL;
    Rejection unread = {0};
    int wider;
    judge_facts(job, v, p->part, &unread);
    if (is_rejected(&unread) || scan->used == 0)
        return 0;
    part_size(p->part, v, &width, &height);
    FitPlan whole = fit_plan_part(v, p->part, width, height, FIT_STRETCH, 0.5, 0.5);
    whole.deinterlace = DEINTERLACE_NEVER;
    whole.tone_map = v->hdr != VIDEO_SDR;
    memcpy(whole.background, job->cfg->background, sizeof whole.background);
    uint8_t *rgb = mem_calloc(width * height, 3, err);
    int rc = rgb ? bar_meter_open(&meter, width, height, err) : ERR_NOMEM;
    if (rc == 0)
        rc = look_at_frames(job, scan, &whole, meter, rgb, err);
    if (rc == 0) {
        bar_meter_find(meter, p->bars, &wider);
        if (p->bars[0] || p->bars[2])
            rc = cut_bars(p, width, height, wider, err);
    }
    bar_meter_close(&meter);
    mem_free(rgb);
    return rc;
}
