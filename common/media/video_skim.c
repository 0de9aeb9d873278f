/* Frames that are not decoded: their times come from the packets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* The longest step from one frame to the next that video_thin bears, in periods: room for rounded times. */
#define EVEN_STEP 1.1

/* Whether the packet says when its one frame is shown. */
static int has_frame_time(const AVPacket *p)
{
    return p->pts != AV_NOPTS_VALUE && p->size > 0 && !(p->flags & (AV_PKT_FLAG_CORRUPT | AV_PKT_FLAG_DISCARD));
}

/* A packet whose picture comes before the first one that the decoder gives: it needs frames that the file
 * does not have.  Most decoders leave such pictures out themselves (from FFmpeg 8 on, HEVC's too). */
static void left_out(VideoReader *r)
{
    r->unmatched = 1;
    if (!r->damaged && r->counts.refused_packets == 0)
        r->counts.before_key++;
}

static int earliest(const int64_t *pts, int n)
{
    int first = 0;
    for (int i = 1; i < n; i++)
        if (pts[i] < pts[first])
            first = i;
    return first;
}

static void forget_first(VideoReader *r)
{
    r->sent[earliest(r->sent, r->n_sent)] = r->sent[r->n_sent - 1];
    r->n_sent--;
    left_out(r);
}

/* From one timestamp to another, in output frames. */
static double points_between(const VideoReader *r, int64_t from, int64_t to)
{
    return ((double)to - (double)from) * rational_value(r->info.time_base) * r->thin_fps;
}

/* Whether this time lies too far from every point for its frame to be the nearest. */
static int is_between(const VideoReader *r, int64_t pts)
{
    double at = points_between(r, r->thin_from, pts);
    return r->thin_fps > 0 && fabs(at - round(at)) > EVEN_STEP / 2 * r->thin_period;
}

/* Whether an H.264 packet is slices of a frame that no other refers to (nal_ref_idc 0), and nothing else that
 * another may need.  The packet is a row of units, each after its length. */
static int is_disposable(const VideoReader *r)
{
    enum { SLICE = 1, SEI = 6, DELIMITER = 9, FILLER = 12 };
    const AVCodecParameters *par = r->stream->codecpar;
    const uint8_t *at = r->packet->data, *end = at + r->packet->size;
    int width = par->extradata_size > 4 && par->extradata[0] == 1 ? (par->extradata[4] & 3) + 1 : 0, slices = 0;
    while (width && end - at > width) {
        int64_t size = 0;
        for (int i = 0; i < width; i++)
            size = size << 8 | *at++;
        if (size < 1 || size > end - at)
            return 0;
        int kind = *at & 31, refers = *at & 0x60;
        if (kind == SLICE && !refers)
            slices++;
        else if (kind != SEI && kind != DELIMITER && kind != FILLER)
            return 0;
        at += size;
    }
    return slices && at == end;
}

int skim_sent(VideoReader *r)
{
    const AVPacket *p = r->packet;
    if (r->leading && p->flags & AV_PKT_FLAG_KEY)
        r->leading = 0;
    if (!has_frame_time(p)) {
        r->unmatched = 1;
    } else if (r->leading && p->pts < r->given_pts) {
        left_out(r);
    } else if (r->n_passed < MEDIA_SENT_MAX && is_between(r, p->pts) && is_disposable(r)) {
        r->passed[r->n_passed++] = p->pts;
        return 1;
    } else {
        if (r->n_sent == MEDIA_SENT_MAX && r->given)
            r->unmatched = 1;
        else if (r->n_sent == MEDIA_SENT_MAX)
            forget_first(r);
        if (r->n_sent < MEDIA_SENT_MAX)
            r->sent[r->n_sent++] = p->pts;
    }
    return 0;
}

void skim_given(VideoReader *r)
{
    if (r->given)
        return;
    r->given = r->leading = 1;
    r->given_pts = r->frame->best_effort_timestamp;
    if (r->given_pts == AV_NOPTS_VALUE)
        r->leading = 0;
    for (int i = r->n_sent - 1; i >= 0 && r->leading; i--)
        if (r->sent[i] < r->given_pts) {
            r->sent[i] = r->sent[--r->n_sent];
            left_out(r);
        }
}

/* Finds the packet whose time the decoded frame has. */
void skim_received(VideoReader *r)
{
    int i = 0;
    while (i < r->n_sent && r->sent[i] != r->frame->best_effort_timestamp)
        i++;
    if (i == r->n_sent)
        r->unmatched = 1;
    else
        r->sent[i] = r->sent[--r->n_sent];
}

static int add_ahead(VideoReader *r, int64_t pts, Err *err)
{
    if (r->n_ahead == r->cap_ahead) {
        int64_t cap = r->cap_ahead ? 2 * r->cap_ahead : 256, *ahead = mem_realloc(r->ahead, cap, sizeof *ahead, err);
        if (!ahead)
            return ERR_NOMEM;
        r->ahead = ahead;
        r->cap_ahead = cap;
    }
    r->ahead[r->n_ahead++] = pts;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Whether packets say when their frames are shown, and each frame so far matched one. */
static int is_regular(const VideoReader *r)
{
    const char *format = r->fmt->iformat->name;
    const VideoCounts *c = &r->counts;
    return (strstr(format, "mp4") || strstr(format, "matroska")) && r->have_first && !r->unmatched && !r->damaged &&
           c->damaged_frames == 0 && c->refused_packets == 0 && c->dropped_unordered == 0;
}

static int can_skim(const VideoReader *r)
{
    enum AVCodecID codec = r->stream->codecpar->codec_id;
    return (codec == AV_CODEC_ID_H264 || codec == AV_CODEC_ID_HEVC) && is_regular(r) && !r->draining && !r->ahead &&
           r->n_sent <= r->dec->has_b_frames + r->dec->thread_count;
}

static int can_thin(const VideoReader *r)
{
    const VideoInfo *v = &r->info;
    return r->stream->codecpar->codec_id == AV_CODEC_ID_H264 && is_regular(r) && !v->vfr && !v->interlaced &&
           r->counts.interlaced_frames == 0 && r->dec->has_b_frames == r->thin_delay;
}

int video_thin(VideoReader *r, int64_t fps)
{
    double period = (double)fps / rational_value(r->info.avg_rate);
    r->thin_delay = r->dec->has_b_frames;
    if (!can_thin(r) || !(period * EVEN_STEP < 1))
        return 0;
    r->thin_fps = (double)fps;
    r->thin_period = period;
    r->thin_from = r->last_pts;
    return 1;
}

int skim_passed(VideoReader *r, int64_t before, int64_t *pts)
{
    int first = earliest(r->passed, r->n_passed);
    if (r->n_passed == 0 || r->passed[first] >= before)
        return 0;
    *pts = r->passed[first];
    r->passed[first] = r->passed[--r->n_passed];
    return 1;
}

int skim_check(const VideoReader *r, int64_t before, Err *err)
{
    if (!r->thin_fps || (can_thin(r) && points_between(r, before, r->last_pts) <= EVEN_STEP * r->thin_period))
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "'%s': frame %" PRId64 " shows that none may be passed over", r->path,
                   r->index);
}

/* All packets up to the end; ERR_UNSUPPORTED when one does not say when its frame is shown. */
static int read_ahead(VideoReader *r, Err *err)
{
    int av, rc = 0;
    while (rc == 0 && (av = reader_packet(r)) >= 0) {
        if ((rc = source_check(r, err)) == 0 && r->packet->stream_index == r->stream->index) {
            r->counts.packets++;
            rc = has_frame_time(r->packet)
                     ? add_ahead(r, r->packet->pts, err)
                     : err_set(err, ERR_UNSUPPORTED, "'%s': packet %" PRId64 " does not say when its frame is shown",
                               r->path, r->counts.packets);
        }
        av_packet_unref(r->packet);
    }
    if (rc == 0)
        rc = source_check(r, err);
    if (rc == 0 && (av == AVERROR_EXIT || av == AVERROR(ENOMEM)))
        return err_av(err, ERR_FORMAT, av, "'%s': reading", r->path);
    if (rc == 0 && (av != AVERROR_EOF || (r->fmt->pb && r->fmt->pb->error < 0)))
        return err_set(err, ERR_UNSUPPORTED, "'%s': reading stopped after %" PRId64 " packets", r->path,
                       r->counts.packets);
    return rc;
}

int video_skim(VideoReader *r, Err *err)
{
    if (!can_skim(r))
        return 0;
    av_quiet();
    reader_clock_enter(r);
    int rc = 0;
    for (int i = 0; i < r->n_sent && rc == 0; i++)
        rc = add_ahead(r, r->sent[i], err);
    for (int i = 0; i < r->n_passed && rc == 0; i++)
        rc = add_ahead(r, r->passed[i], err);
    if (rc == 0 && r->waiting)
        rc = add_ahead(r, r->frame->best_effort_timestamp, err);
    if (rc == 0 && r->n_ahead == 0)
        rc = add_ahead(r, r->last_pts, err), r->n_ahead = 0; /* allocates r->ahead, and leaves it empty */
    if (rc == 0)
        rc = read_ahead(r, err);
    reader_clock_leave(r);
    if (rc < 0)
        return rc;
    qsort(r->ahead, (size_t)r->n_ahead, sizeof *r->ahead, by_time);
    for (int64_t i = 0; i < r->n_ahead; i++)
        if (r->ahead[i] <= (i ? r->ahead[i - 1] : r->last_pts))
            return err_set(err, ERR_UNSUPPORTED, "'%s': two packets have the same time %" PRId64, r->path, r->ahead[i]);
    return 1;
}
