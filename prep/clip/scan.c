/* The first pass and the verdict on it. */
#include <math.h>
#include <string.h>
#include "common/base/mem.h"
#include "prep/picture/bars.h"
#include "prep/clip/internal.h"
#include "prep/clip/source_facts.h"

static int scan_push(Scan *s, const FrameMark *m, Err *err)
{
    if (s->n == s->cap) {
        int64_t cap = s->cap ? s->cap * 2 : 512;
        Rational *times = mem_realloc(s->times, cap, sizeof *times, err);
        if (!times)
            return ERR_NOMEM;
        s->times = times;
        uint8_t *damaged = mem_realloc(s->damaged, cap, 1, err);
        if (!damaged)
            return ERR_NOMEM;
        s->damaged = damaged;
        s->cap = cap;
    }
    s->times[s->n] = m->time;
    s->damaged[s->n++] = (uint8_t)m->damaged;
    s->assumed += m->assumed;
    s->clock_s = m->clock_s;
    return 0;
}

/* The frames within the asked-for part of the source. */
static void choose_part(Scan *s, const Source *src)
{
    while (s->first < s->n && src->start.den && rational_cmp(s->times[s->first], src->start) < 0)
        s->first++;
    int64_t end = s->n;
    while (end > s->first && src->end.den && rational_cmp(s->times[end - 1], src->end) > 0)
        end--;
    s->used = end - s->first;
}

/* When the first window has its pictures, what follows is only read: 0, negative. */
static int scan_skim(Work *w, FrameReader *r, Err *err)
{
    const Early *e = &w->early;
    if (w->scan.skimmed || w->cfg->decode_all || w->cfg->window != WINDOW_FIRST || e->off || e->next < w->cfg->frames)
        return 0;
    int rc = frame_reader_skim(r, err);
    w->scan.skimmed = rc == 1 ? w->scan.n : 0;
    w->again = rc == ERR_UNSUPPORTED;
    return rc < 0 ? rc : 0;
}

int clip_scan(Work *w, Err *err)
{
    Scan *s = &w->scan;
    Err cause = {0};
    FrameReader *r;
    const VideoLimits limits = clip_limits(w->cfg);
    FrameMark m;
    int rc = frame_reader_open(&r, w->path, w->src->kind, w->rate, &limits, &cause);
    if (rc < 0)
        return clip_reject_error(w, err, rc, &cause,
                                 w->src->kind == SOURCE_FRAMES ? REASON_BAD_PICTURES : REASON_NOT_A_VIDEO);
    w->early.off = w->early.off || w->src->kind == SOURCE_FRAMES;
    while ((rc = frame_reader_next(r, &m, &cause)) == 1 && scan_push(s, &m, &cause) == 0 &&
           early_frame(w, r, &m, &cause) == 0 && scan_skim(w, r, &cause) == 0) {
    }
    if (rc == 0)
        rc = early_end(w, r, &cause);
    s->info = *frame_reader_info(r);
    s->counts = frame_reader_counts(r);
    frame_reader_close(&r);
    if (w->again)
        return 1;
    if (rc == 1)
        rc = cause.code;
    int put = clip_put(w, "probe", clip_probe_json(s), err);
    if (put < 0)
        return put;
    if (rc < 0)
        return clip_reject_error(w, err, rc, &cause, REASON_DAMAGED);
    if (choose_check(s->times, s->n, &cause) < 0)
        return clip_reject(w, err, REASON_BAD_TIMESTAMPS, "%s", cause.msg);
    choose_part(s, w->src);
    return 0;
}

/* Both what the container counts and how long it says it is must be missed: an edit list makes the
 * first wrong, sound that goes on after the picture the second.  MP4 measures its length from the
 * first frame, Matroska from zero. */
static int judge_whole(Work *w, Err *err)
{
    const Scan *s = &w->scan;
    double last = rational_value(s->times[s->n - 1]), period = s->n > 1 ? last / (double)(s->n - 1) : 0;
    double span = (s->clock_s > last ? s->clock_s : last) + period;
    if (s->info.duration_shared && s->counts.end_s > span)
        span = s->counts.end_s; /* the file was read to the end of its longest track */
    int short_count = s->info.frames_hint > 0 && (double)s->n < 0.95 * (double)s->info.frames_hint;
    int short_time = s->info.duration_s > 0 && s->n > 1 && span < 0.95 * s->info.duration_s;
    if ((short_count || s->info.frames_hint <= 0) && (short_time || s->info.duration_s <= 0) &&
        (short_count || short_time))
        return clip_reject(w, err, REASON_TRUNCATED,
                           "%lld frames in %.3f s were decoded; the file says %lld frames in %.3f s", (long long)s->n,
                           span, (long long)s->info.frames_hint, s->info.duration_s);
    if (s->counts.dropped_unordered * 20 > s->n + s->counts.dropped_unordered)
        return clip_reject(w, err, REASON_BAD_TIMESTAMPS, "%lld of %lld frames do not come after the one before",
                           (long long)s->counts.dropped_unordered, (long long)(s->n + s->counts.dropped_unordered));
    int rc = 0;
    if (s->counts.dropped_unordered)
        rc = clip_warn(w, err, REASON_UNORDERED_FRAMES,
                       "%lld frames do not come after the one before and were left out",
                       (long long)s->counts.dropped_unordered);
    if (rc == 0 && s->counts.size_changes)
        rc = clip_warn(w, err, REASON_SIZE_CHANGES,
                       "the pictures change their size %lld times; each is fitted by itself",
                       (long long)s->counts.size_changes);
    if (rc == 0 && s->info.sar_refused.den)
        rc = clip_warn(w, err, REASON_BAD_ASPECT,
                       "the pixel aspect %lld:%lld does not lie between 1:4 and 4:1: taken as 1:1",
                       (long long)s->info.sar_refused.num, (long long)s->info.sar_refused.den);
    return rc;
}

static void part_size(const int64_t part[4], const VideoInfo *v, int64_t *width, int64_t *height)
{
    *width = part[2] ? part[2] : v->display_width;
    *height = part[2] ? part[3] : v->display_height;
}

static int part_fits(const int64_t part[4], const VideoInfo *v)
{
    return !part[2] || (part[0] + part[2] <= v->display_width && part[1] + part[3] <= v->display_height);
}

int clip_plan(const PrepConfig *c, const int64_t part[4], const VideoInfo *v, FitPlan *plan, int *hdr)
{
    int64_t width, height;
    part_size(part, v, &width, &height);
    SourceNote why;
    *hdr = v->hdr != VIDEO_SDR;
    *plan = fit_plan_part(v, part, c->width, c->height, c->fit, c->bias_x, c->bias_y);
    plan->deinterlace = c->deinterlace;
    plan->tone_map = *hdr;
    memcpy(plan->background, c->background, sizeof plan->background);
    return source_colours_refused(v, c->hdr_convert, &why) || !part_fits(part, v) ||
           (width < height ? width : height) < c->min_side || plan->lost > c->max_lost;
}

/* Looks at a few whole frames of the used part of the source and takes their bars off w->part.  A
 * frame that cannot be had is not looked
 * at: what it means for the clip is judged elsewhere. */
static int trim_bars(Work *w, Err *err)
{
    enum { LOOKS = 24 };
    const Scan *s = &w->scan;
    const VideoLimits limits = clip_limits(w->cfg);
    int64_t width, height, looks = s->used < LOOKS ? s->used : LOOKS, look = 0;
    FrameReader *r = NULL;
    FrameMark mark;
    BarMeter *meter = NULL;
    Err cause = {0};
    int wider;
    part_size(w->part, &s->info, &width, &height);
    FitPlan whole = fit_plan_part(&s->info, w->part, width, height, FIT_STRETCH, 0.5, 0.5);
    whole.deinterlace = DEINTERLACE_NEVER;
    whole.tone_map = w->fit.tone_map;
    memcpy(whole.background, w->fit.background, sizeof whole.background);
    uint8_t *rgb = mem_calloc(width * height, 3, err);
    int rc = rgb ? bar_meter_open(&meter, width, height, err) : ERR_NOMEM;
    int got = rc < 0 ? rc : frame_reader_open(&r, w->path, w->src->kind, w->rate, &limits, &cause);
    while (got >= 0 && look < looks && (got = frame_reader_next(r, &mark, &cause)) == 1) {
        if (mark.index < s->first + (2 * look + 1) * s->used / (2 * looks) || mark.damaged)
            continue;
        look++;
        if ((got = frame_reader_rgb(r, &whole, rgb, &cause)) >= 0)
            bar_meter_add(meter, rgb);
    }
    frame_reader_close(&r);
    if (rc == 0 && (cause.code == ERR_NOMEM || cause.code == ERR_INTERRUPTED))
        rc = err_set(err, cause.code, "%s", cause.msg);
    if (rc == 0)
        bar_meter_find(meter, w->bars, &wider);
    if (rc == 0 && (w->bars[0] || w->bars[2])) {
        const int64_t *b = w->bars,
                      part[4] = {w->part[0] + b[0], w->part[1] + b[2], width - b[0] - b[1], height - b[2] - b[3]};
        memcpy(w->part, part, sizeof part);
        rc = clip_warn(w, err, REASON_BARS_TRIMMED,
                       "black bars are cut away: left %lld, right %lld, top %lld, bottom %lld pixels%s",
                       (long long)b[0], (long long)b[1], (long long)b[2], (long long)b[3],
                       wider ? "; they are wider than the 15 % of a side that may be cut" : "");
    }
    bar_meter_close(&meter);
    mem_free(rgb);
    return rc;
}

static int judge_facts(Work *w, Err *err)
{
    const PrepConfig *c = w->cfg;
    const VideoInfo *v = &w->scan.info;
    const int64_t *part = w->part;
    int64_t width, height;
    memcpy(w->part, w->src->crop, sizeof w->part);
    SourceNote notes[SOURCE_NOTES_MAX];
    int hdr, rc = clip_plan(c, part, v, &w->fit, &hdr), colours = source_colours_refused(v, c->hdr_convert, &notes[0]),
             refused = colours || !part_fits(part, v);
    if (c->trim_bars && !refused && w->scan.used) {
        int trimmed = trim_bars(w, err);
        if (trimmed < 0)
            return trimmed;
        rc = clip_plan(c, part, v, &w->fit, &hdr);
    }
    part_size(part, v, &width, &height);
    if (colours)
        return clip_reject(w, err, notes[0].reason, "%s", notes[0].text);
    if (rc && !part_fits(part, v))
        return clip_reject(w, err, REASON_BAD_CROP,
                           "the crop %lldx%lld at %lld, %lld does not lie in the picture of %lldx%lld",
                           (long long)part[2], (long long)part[3], (long long)part[0], (long long)part[1],
                           (long long)v->display_width, (long long)v->display_height);
    if (rc && (width < height ? width : height) < c->min_side)
        return clip_reject(w, err, REASON_TOO_SMALL,
                           "%lldx%lld; the shorter side must have %lld pixels (clip.min_side)", (long long)width,
                           (long long)height, (long long)c->min_side);
    if (rc)
        return clip_reject(w, err, REASON_CROP_TOO_LARGE,
                           "%lldx%lld to %lldx%lld would cut away %.1f %% of an axis; clip.max_lost allows %.1f %% "
                           "(clip.fit=pad keeps all)",
                           (long long)width, (long long)height, (long long)c->width, (long long)c->height,
                           100 * w->fit.lost, 100 * c->max_lost);
    rc = clip_put(w, "geometry", clip_geometry_json(&w->fit, c->trim_bars ? w->bars : NULL), err);
    int n = source_notes(v, &w->scan.counts, c->background_name, notes);
    for (int i = 0; i < n && rc == 0; i++)
        rc = clip_warn(w, err, notes[i].reason, "%s", notes[i].text);
    return rc;
}

static int judge_window(Work *w, Err *err)
{
    const PrepConfig *c = w->cfg;
    const Scan *s = &w->scan;
    const Rational *times = s->times + s->first;
    Rational span = rational_sub(times[s->used - 1], times[0]);
    double rate = s->used > 1 ? (double)(s->used - 1) / rational_value(span) : 0;
    if (s->used > 1 && rate < c->min_fps)
        return clip_reject(w, err, REASON_LOW_RATE, "%.3f frames a second; at least %g are wanted (clip.min_fps)", rate,
                           c->min_fps);
    w->points = choose_points(times, s->used, c->fps);
    int64_t missing = c->frames - w->points;
    if (missing > 0 && (!c->hold || missing > c->max_hold))
        return clip_reject(w, err, REASON_TOO_SHORT, "%lld frames in %.3f s give %lld of the %lld frames at %lld fps%s",
                           (long long)s->used, rational_value(span), (long long)w->points, (long long)c->frames,
                           (long long)c->fps, c->hold ? "; clip.max_hold allows no more" : "");
    w->held = missing > 0 ? missing : 0;
    int64_t stride = c->window == WINDOW_CHUNKS ? c->frames : c->window == WINDOW_SLIDE ? c->window_stride : 0;
    int64_t count = c->window <= WINDOW_MIDDLE || w->held ? 1 : c->window_count;
    w->starts = mem_calloc(count, sizeof *w->starts, err);
    if (!w->starts)
        return ERR_NOMEM;
    w->windows = 1;
    if (c->window != WINDOW_FIRST && !w->held)
        w->windows = choose_windows(w->points, c->frames, stride, count, w->starts);
    int64_t all = stride && !w->held ? (w->points - c->frames + stride - 1) / stride + 1 : w->windows;
    if (w->windows < all)
        return clip_warn(w, err, REASON_WINDOWS_LEFT, "%lld of the %lld windows are taken (clip.window_count)",
                         (long long)w->windows, (long long)all);
    return 0;
}

int clip_window(Work *w, int64_t start, Err *err)
{
    const PrepConfig *c = w->cfg;
    const Scan *s = &w->scan;
    const Rational *times = s->times + s->first;
    w->start = start;
    choose_frames(times, s->used, c->fps, start, c->frames - w->held, w->picks);
    for (int64_t k = 0; k < c->frames; k++) {
        Pick *p = &w->picks[k];
        if (k < c->frames - w->held)
            p->index += s->first;
        else /* the last picture again, wanted later and later */
            *p = (Pick){p[-1].index, p[-1].time, p[-1].error_s - 1.0 / (double)c->fps};
    }
    Rational time = rational_sub((Rational){start, c->fps}, rational_sub((Rational){0, 1}, times[0]));
    int rc = clip_put(w, "window",
                      json_pack("{s:I, s:I, s:I, s:o, s:I, s:I, s:I}", "index", (json_int_t)w->window, "count",
                                (json_int_t)w->windows, "start", (json_int_t)start, "start_time",
                                clip_rational_json(time), "frames", (json_int_t)c->frames, "points",
                                (json_int_t)w->points, "held", (json_int_t)w->held),
                      err);
    if (rc == 0)
        rc = clip_put(w, "ledger", clip_ledger_json(w->picks, c->frames), err);
    if (rc == 0)
        rc = clip_put(w, "timing", clip_timing_json(w->picks, c->frames - w->held), err);
    if (rc == 0 && w->held)
        rc = clip_warn(w, err, REASON_FRAMES_HELD,
                       "the last picture stands for %lld output frames more (clip.short=hold)", (long long)w->held);
    return rc;
}

double clip_time_limit(const Work *w)
{
    const Scan *s = &w->scan;
    const Rational *times = s->times + s->first;
    double span = rational_value(rational_sub(times[s->used - 1], times[0]));
    return w->cfg->allow_vfr ? INFINITY : 1.0 / 16 + (s->used > 1 ? span / (double)(s->used - 1) / 2 : 0);
}

/* A hole in the source, or a rate that comes and goes. */
static int judge_times(Work *w, Err *err)
{
    const Pick *worst = NULL;
    for (int64_t k = 0; k < w->cfg->frames - w->held; k++)
        if (!worst || fabs(w->picks[k].error_s) > fabs(worst->error_s))
            worst = &w->picks[k];
    double limit = clip_time_limit(w);
    if (fabs(worst->error_s) <= limit)
        return 0;
    return clip_reject(
        w, err, REASON_UNEVEN_TIMES,
        "output frame %lld is to show %.3f s, the nearest source frame is at %.3f s; %.3f s may lie between "
        "(clip.allow_vfr takes such clips)",
        (long long)(worst - w->picks), rational_value(worst->time) - worst->error_s, rational_value(worst->time),
        limit);
}

static int judge_damage(Work *w, Err *err)
{
    const Scan *s = &w->scan;
    int64_t in_window = 0, first = -1;
    for (int64_t k = 0; k < w->cfg->frames; k++)
        if (s->damaged[w->picks[k].index]) {
            in_window++;
            first = first < 0 ? w->picks[k].index : first;
        }
    if (in_window)
        return clip_reject(w, err, REASON_DAMAGED,
                           "%lld of the %lld chosen frames are damaged, the first is source frame %lld",
                           (long long)in_window, (long long)w->cfg->frames, (long long)first);
    if (s->counts.damaged_frames || s->counts.refused_packets)
        return clip_warn(w, err, REASON_DAMAGE_OUTSIDE,
                         "%lld damaged frames and %lld refused packets lie outside the window",
                         (long long)s->counts.damaged_frames, (long long)s->counts.refused_packets);
    return 0;
}

int clip_judge(Work *w, Err *err)
{
    int rc;
    if (w->scan.n == 0)
        return clip_reject(w, err, REASON_NO_FRAMES, "no frame could be decoded (%lld packets, %lld refused)",
                           (long long)w->scan.counts.packets, (long long)w->scan.counts.refused_packets);
    if ((rc = judge_whole(w, err)) || (rc = judge_facts(w, err)))
        return rc;
    if (w->scan.used == 0)
        return clip_reject(w, err, REASON_TOO_SHORT, "no frame lies between start_s and end_s");
    return judge_window(w, err);
}

int clip_judge_window(Work *w, Err *err)
{
    int rc = clip_window(w, w->starts[w->window], err);
    rc = rc ? rc : judge_damage(w, err);
    return rc ? rc : judge_times(w, err);
}
