/* Packets in, decoded frames out, and which of them are damaged. */
#include <libavutil/crc.h>
#include "common/media/media_internal.h"

enum { MAX_DRAIN_ERRORS = 64 };

static void mark_damage(VideoReader *r, int64_t pts)
{
    r->damaged = 1;
    if (pts != AV_NOPTS_VALUE && (r->damaged_pts == AV_NOPTS_VALUE || pts > r->damaged_pts))
        r->damaged_pts = pts;
}

static int is_key(const AVFrame *f)
{
#ifdef AV_FRAME_FLAG_KEY /* FFmpeg 6.1 */
    return (f->flags & AV_FRAME_FLAG_KEY) != 0;
#else
    return f->key_frame;
#endif
}

/* Decoders that conceal missing references without a word: when a stream begins between key frames,
 * what they show before the first one is not what was filmed.  Those of H.264, MPEG-1, MPEG-2, VP8, VP9
 * and AV1 leave such frames out or flag them. */
static int conceals_silently(enum AVCodecID codec)
{
    const AVCodecDescriptor *d = avcodec_descriptor_get(codec);
    switch (codec) {
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO:
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1: return 0;
    default: return d && !(d->props & AV_CODEC_PROP_INTRA_ONLY);
    }
}

/* Whether the frame comes before the stream's first key frame and needs one. */
static int is_before_key(VideoReader *r)
{
    const AVFrame *f = r->frame;
    int refers = f->pict_type != AV_PICTURE_TYPE_NONE && f->pict_type != AV_PICTURE_TYPE_I &&
                 f->pict_type != AV_PICTURE_TYPE_SI;
    if (!r->decoded++)
        r->before_key = refers && !is_key(f) && conceals_silently(r->stream->codecpar->codec_id);
    if (is_key(f))
        r->before_key = 0;
    return r->before_key;
}

/* Damage lasts from the broken frame to the next clean key frame with a later time.  (A key frame that was
 * already in the decoder when a packet was refused does not end it.) */
static void judge_frame(VideoReader *r)
{
    const AVFrame *f = r->frame;
    int64_t pts = f->best_effort_timestamp;
    if (f->decode_error_flags || f->flags & AV_FRAME_FLAG_CORRUPT) {
        mark_damage(r, pts);
    } else if (r->damaged && is_key(f) &&
               (pts == AV_NOPTS_VALUE || r->damaged_pts == AV_NOPTS_VALUE || pts > r->damaged_pts)) {
        r->damaged = 0;
        r->damaged_pts = AV_NOPTS_VALUE;
    }
    r->frame_damaged = r->damaged;
}

/* Whether an FFV1 (version 3) packet is whole.  When the CRC of a slice is wrong, the decoder shows that
 * slice of the picture before and reports it only in its log, so we check the CRCs.  A packet is a row of
 * slices; each ends in its size (24 bits) and, when the stream has CRCs, in a status byte and a CRC with
 * which the sum over the slice is zero. */
static int ffv1_slices_tile(const uint8_t *data, int64_t size, int64_t trailer, int check)
{
    while (size > 0) {
        if (size < trailer)
            return 0;
        const uint8_t *end = data + size - trailer;
        int64_t slice = (end[0] << 16 | end[1] << 8 | end[2]) + trailer;
        if (slice > size)
            return 0;
        if (check && av_crc(av_crc_get_table(AV_CRC_32_IEEE), 0, data + size - slice, (size_t)slice) != 0)
            return 0;
        size -= slice;
    }
    return 1;
}

static int ffv1_whole(const VideoReader *r)
{
    const AVCodecParameters *par = r->stream->codecpar;
    /* versions 0 and 1 have nothing to check */
    if (par->codec_id != AV_CODEC_ID_FFV1 || par->extradata_size == 0)
        return 1;
    return ffv1_slices_tile(r->packet->data, r->packet->size, 8, 1) ||
           ffv1_slices_tile(r->packet->data, r->packet->size, 3, 0);
}

/* As av_read_frame; what lies in bytes of a wrong checksum is marked corrupt. */
int reader_packet(VideoReader *r)
{
    int av = av_read_frame(r->fmt, r->packet);
    r->counts.ended_early |= av_log_early_end();
    if (av < 0)
        return av;
    const AVPacket *p = r->packet;
    if (ebml_bad(r, p->pos))
        r->packet->flags |= AV_PKT_FLAG_CORRUPT;
    if (r->info.duration_shared && p->pts != AV_NOPTS_VALUE) {
        double end = (double)(p->pts + p->duration) * av_q2d(r->fmt->streams[p->stream_index]->time_base);
        r->counts.end_s = end > r->counts.end_s ? end : r->counts.end_s;
    }
    return av;
}

/* Sends the next packet of our stream, or the end.  A refused packet is counted, not an error. */
static int feed(VideoReader *r, Err *err)
{
    av_quiet();
    int av = reader_packet(r), rc = source_check(r, err);
    if (rc < 0) {
        av_packet_unref(r->packet);
        return rc;
    }
    if (av == AVERROR_EXIT || av == AVERROR(ENOMEM))
        return err_av(err, ERR_FORMAT, av, "'%s': reading", r->path);
    if (av < 0) {
        if (av == AVERROR_EOF && r->fmt->pb && r->fmt->pb->error < 0)
            av = r->fmt->pb->error;
        r->read_rc = av == AVERROR_EOF ? 0 : av; /* returned after the frames that are still to come */
        r->draining = 1;
        av = avcodec_send_packet(r->dec, NULL);
        return av < 0 && av != AVERROR_EOF ? err_av(err, ERR_FORMAT, av, "'%s': ending the decoder", r->path) : 0;
    }
    if (r->packet->stream_index == r->stream->index) {
        int64_t pts = r->packet->pts != AV_NOPTS_VALUE ? r->packet->pts : r->packet->dts;
        r->counts.packets++;
        if (r->packet->flags & AV_PKT_FLAG_CORRUPT || !ffv1_whole(r))
            mark_damage(r, pts);
        av = skim_sent(r) ? 0 : avcodec_send_packet(r->dec, r->packet);
        if (av < 0) {
            r->counts.refused_packets++;
            mark_damage(r, pts);
        }
    }
    av_packet_unref(r->packet);
    return av == AVERROR(ENOMEM) ? err_av(err, ERR_NOMEM, av, "'%s': decoding", r->path) : 0;
}

/* An embedded profile says more than the tags beside it: from here on it is the frame's tags. */
static void apply_profile(VideoReader *r)
{
    enum AVColorPrimaries primaries;
    enum AVColorTransferCharacteristic transfer;
    if (profile_read(r->frame, r->stream, &primaries, &transfer) == PROFILE_READ) {
        r->frame->color_primaries = primaries;
        r->frame->color_trc = transfer;
    }
}

/* The next raw frame into r->frame: 1, 0 at the end, negative. */
int reader_decode(VideoReader *r, Err *err)
{
    for (;;) {
        if (reader_over_time(r))
            return err_set(err, ERR_LIMIT, "'%s': decoding took longer than its limit of %g s", r->path,
                           r->limits.max_seconds);
        int av = avcodec_receive_frame(r->dec, r->frame);
        if (av >= 0) {
            skim_received(r);
            if (is_before_key(r)) {
                r->counts.before_key++;
                continue;
            }
            judge_frame(r);
            skim_given(r);
            apply_profile(r);
            return 1;
        }
        if (av == AVERROR(ENOMEM))
            return err_av(err, ERR_NOMEM, av, "'%s': decoding", r->path);
        if (av == AVERROR_EOF || r->drain_errors > MAX_DRAIN_ERRORS) {
            return r->read_rc ? err_av(err, ERR_FORMAT, r->read_rc, "'%s': reading stopped after %" PRId64 " packets",
                                       r->path, r->counts.packets)
                              : 0;
        }
        if (av != AVERROR(EAGAIN)) { /* a packet that was accepted earlier turns out bad */
            r->counts.refused_packets++;
            mark_damage(r, AV_NOPTS_VALUE);
            if (r->draining) {
                r->drain_errors++;
                continue;
            }
        }
        int rc = feed(r, err);
        if (rc < 0)
            return rc;
    }
}
