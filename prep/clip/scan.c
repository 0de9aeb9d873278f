/* The first pass: the times of all frames, damage, and what the whole source is rejected for. */
#include <string.h>
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/internal.h"

void scan_fini(Scan *s)
{
    mem_free(s->times);
    mem_free(s->damaged);
    early_fini(&s->early);
    notes_fini(&s->notes);
}

const Rational *scan_times(const Scan *s)
{
    return s->times + s->first;
}

static int push(Scan *s, const FrameMark *m, Err *err)
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

/* The frames between Source.start and Source.end. */
static void choose_part(Scan *s)
{
    while (s->first < s->n && s->from.den && rational_cmp(s->times[s->first], s->from) < 0)
        s->first++;
    int64_t end = s->n;
    while (end > s->first && s->to.den && rational_cmp(s->times[end - 1], s->to) > 0)
        end--;
    s->used = end - s->first;
}

/* Once the first window has its pictures, the frames after it are not decoded. */
static int skim(const ClipJob *job, Scan *s, FrameReader *r, Err *err)
{
    const Early *e = &s->early;
    if (s->skimmed || s->mode == SCAN_FULL || job->cfg->window != WINDOW_FIRST || e->off || e->next < job->cfg->frames)
        return 0;
    int rc = frame_reader_skim(r, err);
    s->skimmed = rc == 1 ? s->n : 0;
    s->restart_full = rc == ERR_UNSUPPORTED;
    if (rc == 0 && s->thin)
        rc = err_set(err, ERR_UNSUPPORTED, "frames that were passed over are wanted after all");
    return rc < 0 ? rc : 0;
}

/* Source.start and Source.end are on the file's clock; the frames' times count from the first frame. */
static void set_clock(Scan *s, const Source *src, Rational first_time)
{
    s->first_time = first_time;
    s->from = src->start.den ? rational_sub(src->start, first_time) : (Rational){0, 0};
    s->to = src->end.den ? rational_sub(src->end, first_time) : (Rational){0, 0};
}

/* Every frame of the source: 0, or a negative code with its cause. */
static int read_frames(const ClipJob *job, Scan *s, FrameReader *r, Err *cause)
{
    FrameMark m;
    int rc;
    while ((rc = frame_reader_next(r, &m, cause)) == 1) {
        if (m.index == 0)
            set_clock(s, job->src, frame_reader_first_time(r));
        if ((rc = push(s, &m, cause)) < 0 || (rc = early_frame(job, s, r, &m, cause)) < 0 ||
            (rc = skim(job, s, r, cause)) < 0)
            return rc;
    }
    return rc < 0 ? rc : early_end(job, &s->early, r, cause);
}

/* Both what the container counts and how long it says it is must be missed: an edit list makes the
 * first wrong, sound that goes on after the picture the second.  MP4 measures its length from the
 * first frame, Matroska from zero. */
static int is_truncated(const Scan *s, double span)
{
    int short_count = s->info.frames_hint > 0 && (double)s->n < 0.95 * (double)s->info.frames_hint;
    int short_time = s->info.duration_s > 0 && s->n > 1 && span < 0.95 * s->info.duration_s;
    return (short_count || s->info.frames_hint <= 0) && (short_time || s->info.duration_s <= 0) &&
           (short_count || short_time);
}

static int note_facts(Scan *s, Err *err)
{
    const VideoCounts *c = &s->counts;
    const Rational *aspect = &s->info.sar_refused;
    int rc = 0;
    if (c->dropped_unordered)
        rc = note_add(&s->notes, err, REASON_UNORDERED_FRAMES,
                      "frames left out, for they do not come after the one before: %" PRId64, c->dropped_unordered);
    if (rc == 0 && c->size_changes)
        rc = note_add(&s->notes, err, REASON_SIZE_CHANGES,
                      "the pictures change their size %" PRId64 " time%s; each is fitted by itself", c->size_changes,
                      str_plural(c->size_changes));
    if (rc == 0 && aspect->den)
        rc = note_add(&s->notes, err, REASON_BAD_ASPECT,
                      "the pixel aspect %" PRId64 ":%" PRId64 " does not lie between 1:4 and 4:1: 1:1 is used",
                      aspect->num, aspect->den);
    return rc;
}

/* Rejects the source for faults that concern all of it. */
static int judge(const ClipJob *job, Scan *s, Err *err)
{
    Rejection *r = &s->rejected;
    const VideoCounts *c = &s->counts;
    Err cause = {0};
    if (choose_check(s->times, s->n, &cause) < 0) {
        reject(job, r, REASON_BAD_TIMESTAMPS, "%s", cause.msg);
        return 0;
    }
    choose_part(s);
    if (s->n == 0) {
        reject(job, r, REASON_NO_FRAMES, "no frame could be decoded (%" PRId64 " packets, %" PRId64 " refused)",
               c->packets, c->refused_packets);
        return 0;
    }
    double last = rational_value(s->times[s->n - 1]), period = s->n > 1 ? last / (double)(s->n - 1) : 0;
    double span = (s->clock_s > last ? s->clock_s : last) + period;
    if (s->info.duration_shared && c->end_s > span)
        span = c->end_s; /* the file was read to the end of its longest track */
    if (is_truncated(s, span)) {
        reject(job, r, REASON_TRUNCATED,
               "%" PRId64 " frames in %.3f s were decoded; the file says %" PRId64 " frames in %.3f s", s->n, span,
               s->info.frames_hint, s->info.duration_s);
        return 0;
    }
    if (c->dropped_unordered * 20 > s->n + c->dropped_unordered) {
        reject(job, r, REASON_BAD_TIMESTAMPS, "%" PRId64 " of %" PRId64 " frames do not come after the one before",
               c->dropped_unordered, s->n + c->dropped_unordered);
        return 0;
    }
    int rc = scan_find_gaps(s, err);
    if (rc == 0)
        rc = scan_note_missing(s, span, err);
    return rc < 0 ? rc : note_facts(s, err);
}

int scan_source(const ClipJob *job, ScanMode mode, Scan *out, Err *err)
{
    Scan *s = out;
    Err cause = {0};
    FrameReader *r;
    const VideoLimits limits = clip_limits(job->cfg);
    *s = (Scan){.mode = mode};
    int rc = frame_reader_open(&r, job->path, job->src->kind, job->rate, &limits, &cause);
    if (rc < 0)
        return reject_error(job, &s->rejected, rc, &cause,
                            job->src->kind == SOURCE_FRAMES ? REASON_BAD_PICTURES : REASON_NOT_A_VIDEO, err);
    early_begin(job, &s->early);
    rc = read_frames(job, s, r, &cause);
    s->opened = 1;
    s->info = *frame_reader_info(r);
    s->counts = frame_reader_counts(r);
    frame_reader_close(&r);
    if (s->restart_full)
        return 0;
    if (s->thin && (rc < 0 || s->early.off)) {
        scan_fini(s);
        return scan_source(job, SCAN_SKIM, out, err);
    }
    return rc < 0 ? reject_error(job, &s->rejected, rc, &cause, REASON_DAMAGED, err) : judge(job, s, err);
}
