/* Frames that are not decoded: their times come from the packets. */
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

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

static void forget_first(VideoReader *r)
{
    int first = 0;
    for (int i = 1; i < r->n_sent; i++)
        if (r->sent[i] < r->sent[first])
            first = i;
    r->sent[first] = r->sent[--r->n_sent];
    left_out(r);
}

void skim_sent(VideoReader *r)
{
    const AVPacket *p = r->packet;
    if (r->leading && p->flags & AV_PKT_FLAG_KEY)
        r->leading = 0;
    if (!has_frame_time(p)) {
        r->unmatched = 1;
    } else if (r->leading && p->pts < r->given_pts) {
        left_out(r);
    } else {
        if (r->n_sent == MEDIA_SENT_MAX && r->given)
            r->unmatched = 1;
        else if (r->n_sent == MEDIA_SENT_MAX)
            forget_first(r);
        if (r->n_sent < MEDIA_SENT_MAX)
            r->sent[r->n_sent++] = p->pts;
    }
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

static int can_skim(const VideoReader *r)
{
    enum AVCodecID codec = r->stream->codecpar->codec_id;
    const char *format = r->fmt->iformat->name;
    const VideoCounts *c = &r->counts;
    if ((codec != AV_CODEC_ID_H264 && codec != AV_CODEC_ID_HEVC) ||
        (!strstr(format, "mp4") && !strstr(format, "matroska")))
        return 0;
    return !r->unmatched && !r->draining && !r->first_waiting && !r->ahead && !r->damaged && c->damaged_frames == 0 &&
           c->refused_packets == 0 && c->dropped_unordered == 0 &&
           r->n_sent <= r->dec->has_b_frames + r->dec->thread_count;
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
    if (rc == 0 && r->n_sent == 0)
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
