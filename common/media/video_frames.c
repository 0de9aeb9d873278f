/* Frames in order of time, each at its exact time. */
#include "common/media/media_internal.h"

/* (pts - first) * time_base + n / rate; 0 when it does not fit. */
static int exact_time(const VideoReader *r, int64_t pts, int64_t n, Rational *out)
{
    Rational tb = r->info.time_base, rate = r->assumed_rate, a, b;
    return rational_make(((__int128)pts - r->first_pts) * tb.num, tb.den, &a) &&
           rational_make((__int128)n * rate.den, rate.num, &b) && rational_add(a, b, out);
}

/* Fills pts and time of the frame with this timestamp.  1: report the frame, 0: drop it, because its time
 * is not later than that of the frame before; negative: an error. */
static int place_in_time(VideoReader *r, int64_t pts, VideoFrame *out, Err *err)
{
    out->pts_assumed = pts == AV_NOPTS_VALUE;
    int64_t anchor = pts, after = 0;
    if (out->pts_assumed) { /* the last timestamp of the file plus frames at the declared rate */
        anchor = r->anchor_pts != AV_NOPTS_VALUE ? r->anchor_pts : 0;
        after = r->have_first ? r->since_anchor + 1 : 0;
        AVRational frame_time = {(int)r->assumed_rate.den, (int)r->assumed_rate.num};
        __int128 at = (__int128)anchor + av_rescale_q(after, frame_time, r->stream->time_base);
        if (at > INT64_MAX || at <= INT64_MIN)
            return err_set(err, ERR_FORMAT, "'%s': frame %" PRId64 ": its time is out of range", r->path, r->index);
        pts = (int64_t)at;
    }
    if (r->have_first && pts <= r->last_pts)
        return 0;
    if (!r->have_first)
        r->first_pts = pts;
    r->have_first = 1;
    if (!exact_time(r, anchor, after, &out->time))
        return err_set(err, ERR_FORMAT, "'%s': frame %" PRId64 ": its timestamp %" PRId64 " is out of range", r->path,
                       r->index, pts);
    r->anchor_pts = anchor;
    r->since_anchor = after;
    r->last_pts = out->pts = pts;
    return 1;
}

/* The timestamp of the next frame: 1, 0 at the end, negative.  *decoded: it is r->frame. */
static int next_time(VideoReader *r, int64_t *pts, int *decoded, Err *err)
{
    int rc;
    *decoded = 0;
    if (r->ahead) {
        r->frame_damaged = 0;
        if (r->at_ahead == r->n_ahead)
            return 0;
        *pts = r->ahead[r->at_ahead++];
        return 1;
    }
    if (r->waiting) {
        r->waiting = 0;
        rc = r->waiting_rc;
        if (rc < 0)
            return err_set(err, rc, "%s", r->waiting_err.msg);
    } else {
        rc = reader_decode(r, err);
    }
    if (rc == 1)
        *pts = r->frame->best_effort_timestamp != AV_NOPTS_VALUE ? r->frame->best_effort_timestamp : r->frame->pts;
    if (rc >= 0 && skim_passed(r, rc ? *pts : INT64_MAX, pts)) {
        r->waiting = 1;
        r->waiting_rc = rc;
        return 1;
    }
    *decoded = rc == 1;
    return rc;
}

/* Counts facts that are known only once a picture is decoded (transparency, fields, ...). */
static int look_at(VideoReader *r, Err *err)
{
    int transparent = alpha_find(r->frame, err);
    if (transparent < 0)
        return transparent;
    r->counts.decoded_frames++;
    r->counts.transparent_frames += transparent;
    if (frame_field(r, r->frame)) {
        r->counts.interlaced_frames++;
        r->counts.combed_frames += frame_is_combed(r->frame);
    }
    return 0;
}

static int next_frame(VideoReader *r, VideoFrame *out, Err *err)
{
    for (;;) {
        int64_t pts = 0;
        int decoded, rc = next_time(r, &pts, &decoded, err);
        if (rc <= 0)
            return rc;
        if (r->counts.frames + r->counts.dropped_unordered >= r->limits.max_frames)
            return err_set(err, ERR_LIMIT, "'%s': more than %" PRId64 " frames", r->path, r->limits.max_frames);
        rc = place_in_time(r, pts, out, err);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            r->counts.dropped_unordered++;
            continue;
        }
        out->index = r->index++;
        out->damaged = r->frame_damaged;
        out->av = decoded ? r->frame : NULL;
        r->counts.frames++;
        r->counts.damaged_frames += r->frame_damaged;
        if (out->av && (rc = look_at(r, err)) < 0)
            return rc;
        if (out->av) {
            r->counts.size_changes += r->width && (r->frame->width != r->width || r->frame->height != r->height);
            r->width = r->frame->width;
            r->height = r->frame->height;
        }
        return 1;
    }
}

int video_next(VideoReader *r, VideoFrame *out, Err *err)
{
    *out = (VideoFrame){0};
    reader_clock_enter(r);
    int64_t before = r->last_pts;
    int rc = next_frame(r, out, err);
    if (rc >= 0 && skim_check(r, before, err) < 0)
        rc = ERR_UNSUPPORTED;
    reader_clock_leave(r);
    return rc;
}

int video_hold(VideoReader *r, const VideoFrame *f, VideoFrame *held, Err *err)
{
    av_frame_unref(r->held);
    *held = *f;
    if (!f->av)
        return 0;
    int av = av_frame_ref(r->held, f->av);
    if (av < 0)
        return err_av(err, ERR_NOMEM, av, "'%s': no memory to keep a frame", r->path);
    held->av = r->held;
    return 0;
}
