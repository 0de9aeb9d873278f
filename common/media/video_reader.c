/* Opening and decoding: the send/receive/drain loop, limits, damage, exact times. */
#include <errno.h>
#include <libavutil/crc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* Containers read as they are; formats that follow references to other files or addresses are not
 * among them. */
static const char formats[] =
    "mov,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,mxf,rm,dv,gif,ivf,h264,hevc,obu,m4v,mpegvideo,mjpeg,yuv4mpegpipe,"
    "png_pipe,jpeg_pipe";
enum { MAX_STREAMS = 16, MAX_DRAIN_ERRORS = 64, MEMORY_BUFFER = 1 << 15 };

/* ---- time limit ------------------------------------------------------------------------------ */
static double seconds_since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

static void clock_enter(VideoReader *r)
{
    clock_gettime(CLOCK_MONOTONIC, &r->entered);
}

static void clock_leave(VideoReader *r)
{
    r->spent_s += seconds_since(&r->entered);
}

int reader_over_time(void *reader)
{
    const VideoReader *r = reader;
    return r->spent_s + seconds_since(&r->entered) > r->limits.max_seconds;
}

/* ---- bytes in memory ------------------------------------------------------------------------- */
static int memory_read(void *opaque, uint8_t *buf, int size)
{
    MemorySource *m = opaque;
    int64_t n = m->size - m->at < size ? m->size - m->at : size;
    if (n <= 0)
        return AVERROR_EOF;
    memcpy(buf, m->data + m->at, (size_t)n);
    m->at += n;
    return (int)n;
}

static int64_t memory_seek(void *opaque, int64_t offset, int whence)
{
    MemorySource *m = opaque;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE)
        return m->size;
    int64_t base = whence == SEEK_CUR ? m->at : whence == SEEK_END ? m->size : 0;
    if (offset < -base || offset > m->size - base)
        return AVERROR(EINVAL);
    return m->at = base + offset;
}

static int open_memory_io(VideoReader *r, Err *err)
{
    unsigned char *buffer = av_malloc(MEMORY_BUFFER);
    if (!buffer)
        return err_set(err, ERR_NOMEM, "no memory to read a video");
    r->memory_io = avio_alloc_context(buffer, MEMORY_BUFFER, 0, &r->memory, memory_read, NULL, memory_seek);
    if (!r->memory_io) {
        av_free(buffer);
        return err_set(err, ERR_NOMEM, "no memory to read a video");
    }
    r->fmt->pb = r->memory_io;
    return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */
static int check_file(const char *path, Err *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(err, errno, "cannot open '%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_FORMAT, "'%s' is not a regular file", path);
    if (st.st_size == 0)
        return err_set(err, ERR_FORMAT, "'%s' is empty (0 bytes), expected a video", path);
    return 0;
}

static int open_container(VideoReader *r, Err *err)
{
    int rc = 0;
    AVDictionary *options = NULL;
    char *url = NULL;
    r->fmt = avformat_alloc_context();
    if (!r->fmt)
        return err_set(err, ERR_NOMEM, "no memory to open '%s'", r->path);
    r->fmt->interrupt_callback = (AVIOInterruptCB){reader_over_time, r};
    if (r->memory.data) {
        rc = open_memory_io(r, err);
    } else {
        rc = check_file(r->path, err);
        url = mem_printf(err, "file:%s", r->path); /* a name such as "concat:a" or "http:x" stays a name */
        if (rc == 0 && !url)
            rc = ERR_NOMEM;
    }
    if (rc < 0)
        goto done;
    if (av_dict_set(&options, "format_whitelist", formats, 0) < 0 ||
        av_dict_set(&options, "protocol_whitelist", "file", 0) < 0 ||
        av_dict_set_int(&options, "max_streams", MAX_STREAMS, 0) < 0) {
        rc = err_set(err, ERR_NOMEM, "no memory to open '%s'", r->path);
        goto done;
    }
    int av = avformat_open_input(&r->fmt, url, NULL, &options); /* frees fmt and sets it NULL on failure */
    if (av < 0)
        rc = err_av(err, ERR_FORMAT, av, "'%s' cannot be opened as a video", r->path);
done:
    av_dict_free(&options);
    mem_free(url);
    return rc;
}

/* avformat_find_stream_info decodes a little of every stream: the frame limit must hold there too. */
static int probe_streams(VideoReader *r, Err *err)
{
    unsigned n = r->fmt->nb_streams;
    AVDictionary **options = mem_calloc(n ? n : 1, sizeof *options, err);
    if (!options)
        return ERR_NOMEM;
    int av = 0;
    for (unsigned i = 0; i < n && av >= 0; i++) {
        av = av_dict_set_int(&options[i], "max_pixels", r->limits.max_pixels, 0);
        if (av >= 0)
            av = av_dict_set(&options[i], "threads", "1", 0);
    }
    if (av >= 0)
        av = avformat_find_stream_info(r->fmt, n ? options : NULL);
    for (unsigned i = 0; i < n; i++)
        av_dict_free(&options[i]);
    mem_free(options);
    if (av < 0)
        return err_av(err, ERR_FORMAT, av, "'%s': cannot find out its streams", r->path);
    return 0;
}

static int choose_stream(VideoReader *r, const AVCodec **codec, Err *err)
{
    int index = av_find_best_stream(r->fmt, AVMEDIA_TYPE_VIDEO, -1, -1, codec, 0);
    if (index == AVERROR_DECODER_NOT_FOUND)
        return err_set(err, ERR_UNSUPPORTED, "'%s': this FFmpeg has no decoder for its video", r->path);
    if (index < 0 || r->fmt->streams[index]->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return err_set(err, ERR_FORMAT, "'%s' has no video stream (%u streams of other kinds)", r->path,
                       r->fmt->nb_streams);
    r->stream = r->fmt->streams[index];
    for (unsigned i = 0; i < r->fmt->nb_streams; i++)
        if ((int)i != index)
            r->fmt->streams[i]->discard = AVDISCARD_ALL;
    const AVCodecParameters *par = r->stream->codecpar;
    if (par->width <= 0 || par->height <= 0)
        return err_set(err, ERR_FORMAT, "'%s': its frame size cannot be found out", r->path);
    if ((int64_t)par->width * par->height > r->limits.max_pixels)
        return err_set(err, ERR_LIMIT, "'%s': frames of %dx%d, the limit is %lld pixels", r->path, par->width,
                       par->height, (long long)r->limits.max_pixels);
    return 0;
}

static int open_decoder(VideoReader *r, const AVCodec *codec, Err *err)
{
    r->dec = avcodec_alloc_context3(codec);
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    r->held = av_frame_alloc();
    r->part = av_frame_alloc();
    if (!r->dec || !r->packet || !r->frame || !r->held || !r->part)
        return err_set(err, ERR_NOMEM, "no memory to decode '%s'", r->path);
    int av = avcodec_parameters_to_context(r->dec, r->stream->codecpar);
    if (av >= 0) {
        r->dec->pkt_timebase = r->stream->time_base;
        r->dec->thread_count = r->limits.threads;
        r->dec->max_pixels = r->limits.max_pixels;
        r->dec->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
        av = avcodec_open2(r->dec, codec, NULL);
    }
    if (av < 0)
        return err_av(err, ERR_FORMAT, av, "'%s': its %s decoder cannot start", r->path, codec->name);
    return 0;
}

static int decode_next(VideoReader *r, Err *err);

static int open_reader(VideoReader **out, const char *path, MemorySource memory, const VideoLimits *limits, Err *err)
{
    *out = NULL;
    av_quiet();
    VideoReader *r = mem_calloc(1, sizeof *r, err);
    if (!r)
        return ERR_NOMEM;
    const AVCodec *codec = NULL;
    int rc = ERR_NOMEM;
    r->memory = memory;
    r->limits = limits ? *limits : (VideoLimits){0};
    if (r->limits.max_pixels <= 0)
        r->limits.max_pixels = 4096 * 4096;
    if (r->limits.max_frames <= 0)
        r->limits.max_frames = 100000;
    if (r->limits.max_seconds <= 0)
        r->limits.max_seconds = 120;
    if (r->limits.threads <= 0)
        r->limits.threads = 1;
    r->damaged_pts = r->anchor_pts = AV_NOPTS_VALUE;
    clock_enter(r);
    if (!(r->path = mem_strdup(path, err)))
        goto fail;
    if ((rc = open_container(r, err)) < 0)
        goto fail;
    if ((rc = ebml_check(r, err)) < 0)
        goto fail;
    if ((rc = probe_streams(r, err)) < 0)
        goto fail;
    if ((rc = choose_stream(r, &codec, err)) < 0)
        goto fail;
    if ((rc = open_decoder(r, codec, err)) < 0)
        goto fail;
    /* The first frame knows best: true format, colour tags, interlacing, orientation in the
     * bitstream. */
    r->first_rc = decode_next(r, &r->first_err);
    r->first_waiting = 1;
    if ((rc = facts_read(&r->info, r->fmt, r->stream, r->dec, r->first_rc == 1 ? r->frame : NULL, err)) < 0) {
        err_wrap(err, rc, "'%s'", r->path);
        goto fail;
    }
    AVRational rate = av_guess_frame_rate(r->fmt, r->stream, r->first_rc == 1 ? r->frame : NULL);
    r->assumed_rate = rate.num > 0 && rate.den > 0 ? (Rational){rate.num, rate.den} : (Rational){30, 1};
    clock_leave(r);
    *out = r;
    return 0;
fail:
    video_close(&r);
    return rc;
}

int video_open(VideoReader **out, const char *path, const VideoLimits *limits, Err *err)
{
    return open_reader(out, path, (MemorySource){0}, limits, err);
}

int video_open_memory(VideoReader **out, const uint8_t *data, int64_t size, const VideoLimits *limits, Err *err)
{
    *out = NULL;
    if (size <= 0)
        return err_set(err, ERR_FORMAT, "a video of 0 bytes");
    return open_reader(out, "memory", (MemorySource){data, size, 0}, limits, err);
}

void video_close(VideoReader **reader)
{
    VideoReader *r = *reader;
    if (!r)
        return;
    scaler_fini(&r->scaler);
    av_frame_free(&r->frame);
    av_frame_free(&r->held);
    av_frame_free(&r->part);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->dec);
    avformat_close_input(&r->fmt);
    if (r->memory_io)
        av_freep(&r->memory_io->buffer);
    avio_context_free(&r->memory_io);
    mem_free(r->ahead);
    mem_free(r->bad.range);
    mem_free(r->path);
    mem_free(r);
    *reader = NULL;
}

const VideoInfo *video_info(const VideoReader *r)
{
    return &r->info;
}

VideoCounts video_counts(const VideoReader *r)
{
    return r->counts;
}

/* ---- decoding -------------------------------------------------------------------------------- */
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

/* Damage lasts from the broken frame to the next clean key frame that is later than it: a key frame
 * that was already waiting in the decoder when a packet was refused proves nothing. */
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

/* Whether an FFV1 (version 3) packet is whole.  The decoder hides a failed slice CRC behind the
 * last picture's slice and says so only in its log, so the CRCs are checked here.  A packet is
 * slices back to back, each ending in its size (24 bits) and, when the stream has CRCs, a status
 * byte and a CRC that makes the sum over all of it zero. */
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

/* ---- frames told by their packets ------------------------------------------------------------ */
static int tells_a_frame(const AVPacket *p)
{
    return p->pts != AV_NOPTS_VALUE && p->size > 0 && !(p->flags & (AV_PKT_FLAG_CORRUPT | AV_PKT_FLAG_DISCARD));
}

static void note_sent(VideoReader *r)
{
    if (!tells_a_frame(r->packet) || r->n_sent == MEDIA_SENT_MAX)
        r->untold = 1;
    else
        r->sent[r->n_sent++] = r->packet->pts;
}

/* The frame that came out is that of one packet. */
static void note_received(VideoReader *r)
{
    int i = 0;
    while (i < r->n_sent && r->sent[i] != r->frame->best_effort_timestamp)
        i++;
    if (i == r->n_sent)
        r->untold = 1;
    else
        r->sent[i] = r->sent[--r->n_sent];
}

/* As av_read_frame; what lies in bytes of a wrong checksum is marked corrupt. */
static int next_packet(VideoReader *r)
{
    int av = av_read_frame(r->fmt, r->packet);
    if (av >= 0 && ebml_bad(r, r->packet->pos))
        r->packet->flags |= AV_PKT_FLAG_CORRUPT;
    return av;
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
    return !r->untold && !r->draining && !r->first_waiting && !r->ahead && !r->damaged && c->damaged_frames == 0 &&
           c->refused_packets == 0 && c->dropped_unordered == 0 &&
           r->n_sent <= r->dec->has_b_frames + r->dec->thread_count;
}

/* All packets up to the end; ERR_UNSUPPORTED when one does not tell a frame. */
static int read_ahead(VideoReader *r, Err *err)
{
    int av, rc = 0;
    while (rc == 0 && (av = next_packet(r)) >= 0) {
        if (r->packet->stream_index == r->stream->index) {
            r->counts.packets++;
            rc = tells_a_frame(r->packet) ? add_ahead(r, r->packet->pts, err)
                                          : err_set(err, ERR_UNSUPPORTED, "'%s': packet %lld tells no frame", r->path,
                                                    (long long)r->counts.packets);
        }
        av_packet_unref(r->packet);
    }
    if (rc == 0 && (av == AVERROR_EXIT || av == AVERROR(ENOMEM)))
        return err_av(err, ERR_FORMAT, av, "'%s': reading", r->path);
    if (rc == 0 && (av != AVERROR_EOF || (r->fmt->pb && r->fmt->pb->error < 0)))
        return err_set(err, ERR_UNSUPPORTED, "'%s': reading stopped after %lld packets", r->path,
                       (long long)r->counts.packets);
    return rc;
}

int video_skim(VideoReader *r, Err *err)
{
    if (!can_skim(r))
        return 0;
    clock_enter(r);
    int rc = 0;
    for (int i = 0; i < r->n_sent && rc == 0; i++)
        rc = add_ahead(r, r->sent[i], err);
    if (rc == 0 && r->n_sent == 0)
        rc = add_ahead(r, r->last_pts, err), r->n_ahead = 0; /* ahead is there, and empty */
    if (rc == 0)
        rc = read_ahead(r, err);
    clock_leave(r);
    if (rc < 0)
        return rc;
    qsort(r->ahead, (size_t)r->n_ahead, sizeof *r->ahead, by_time);
    for (int64_t i = 0; i < r->n_ahead; i++)
        if (r->ahead[i] <= (i ? r->ahead[i - 1] : r->last_pts))
            return err_set(err, ERR_UNSUPPORTED, "'%s': two packets tell the same time %lld", r->path,
                           (long long)r->ahead[i]);
    return 1;
}

/* Sends the next packet of our stream, or the end.  A refused packet is counted, not an error. */
static int feed(VideoReader *r, Err *err)
{
    av_quiet();
    int av = next_packet(r);
    if (av == AVERROR_EXIT || av == AVERROR(ENOMEM))
        return err_av(err, ERR_FORMAT, av, "'%s': reading", r->path);
    if (av < 0) {
        if (av == AVERROR_EOF && r->fmt->pb && r->fmt->pb->error < 0)
            av = r->fmt->pb->error;
        r->read_rc = av == AVERROR_EOF ? 0 : av; /* told after the frames that are still to come */
        r->draining = 1;
        av = avcodec_send_packet(r->dec, NULL);
        return av < 0 && av != AVERROR_EOF ? err_av(err, ERR_FORMAT, av, "'%s': ending the decoder", r->path) : 0;
    }
    if (r->packet->stream_index == r->stream->index) {
        int64_t pts = r->packet->pts != AV_NOPTS_VALUE ? r->packet->pts : r->packet->dts;
        r->counts.packets++;
        if (r->packet->flags & AV_PKT_FLAG_CORRUPT || !ffv1_whole(r))
            mark_damage(r, pts);
        note_sent(r);
        av = avcodec_send_packet(r->dec, r->packet);
        if (av < 0) {
            r->counts.refused_packets++;
            mark_damage(r, pts);
        }
    }
    av_packet_unref(r->packet);
    return av == AVERROR(ENOMEM) ? err_av(err, ERR_NOMEM, av, "'%s': decoding", r->path) : 0;
}

/* The next raw frame into r->frame: 1, 0 at the end, negative. */
static int decode_next(VideoReader *r, Err *err)
{
    for (;;) {
        if (reader_over_time(r))
            return err_set(err, ERR_LIMIT, "'%s': decoding took longer than its limit of %g s", r->path,
                           r->limits.max_seconds);
        int av = avcodec_receive_frame(r->dec, r->frame);
        if (av >= 0) {
            judge_frame(r);
            note_received(r);
            return 1;
        }
        if (av == AVERROR(ENOMEM))
            return err_av(err, ERR_NOMEM, av, "'%s': decoding", r->path);
        if (av == AVERROR_EOF || r->drain_errors > MAX_DRAIN_ERRORS) {
            return r->read_rc ? err_av(err, ERR_FORMAT, r->read_rc, "'%s': reading stopped after %lld packets", r->path,
                                       (long long)r->counts.packets)
                              : 0;
        }
        if (av != AVERROR(EAGAIN)) { /* a packet taken earlier turns out bad */
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

/* ---- exact times ----------------------------------------------------------------------------- */
static int64_t gcd64(int64_t a, int64_t b)
{
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a < 0 ? -a : a;
}

/* n/d in lowest terms; 0 when it does not fit. */
static int reduce(__int128 n, __int128 d, Rational *out)
{
    __int128 a = n < 0 ? -n : n, b = d;
    while (b) {
        __int128 t = a % b;
        a = b;
        b = t;
    }
    if (a > 1)
        n /= a, d /= a;
    if (n > INT64_MAX || n < -INT64_MAX || d > INT64_MAX)
        return 0;
    *out = (Rational){(int64_t)n, (int64_t)d};
    return 1;
}

/* (pts - first) * time_base + n / rate; 0 when it does not fit. */
static int exact_time(const VideoReader *r, int64_t pts, int64_t n, Rational *out)
{
    Rational tb = r->info.time_base, rate = r->assumed_rate, a, b;
    if (!reduce(((__int128)pts - r->first_pts) * tb.num, tb.den, &a) || !reduce((__int128)n * rate.den, rate.num, &b))
        return 0;
    int64_t g = gcd64(a.den, b.den); /* both denominators < 2^31, so the sum fits 128 bits */
    return reduce((__int128)a.num * (b.den / g) + (__int128)b.num * (a.den / g), (__int128)a.den * (b.den / g), out);
}

/* Fills pts and time of the frame with this timestamp.  1 to hand it out, 0 to drop it (time does
 * not increase), negative. */
static int place_in_time(VideoReader *r, int64_t pts, VideoFrame *out, Err *err)
{
    out->pts_assumed = pts == AV_NOPTS_VALUE;
    int64_t anchor = pts, after = 0;
    if (out->pts_assumed) { /* counted on at the declared rate from the last timestamp the file gave */
        anchor = r->anchor_pts != AV_NOPTS_VALUE ? r->anchor_pts : 0;
        after = r->have_first ? r->since_anchor + 1 : 0;
        AVRational frame_time = {(int)r->assumed_rate.den, (int)r->assumed_rate.num};
        __int128 at = (__int128)anchor + av_rescale_q(after, frame_time, r->stream->time_base);
        if (at > INT64_MAX || at <= INT64_MIN)
            return err_set(err, ERR_FORMAT, "'%s': frame %lld: its time is out of range", r->path, (long long)r->index);
        pts = (int64_t)at;
    }
    if (r->have_first && pts <= r->last_pts)
        return 0;
    if (!r->have_first)
        r->first_pts = pts;
    r->have_first = 1;
    if (!exact_time(r, anchor, after, &out->time))
        return err_set(err, ERR_FORMAT, "'%s': frame %lld: its timestamp %lld is out of range", r->path,
                       (long long)r->index, (long long)pts);
    r->anchor_pts = anchor;
    r->since_anchor = after;
    r->last_pts = out->pts = pts;
    return 1;
}

/* The timestamp of the next frame: 1, 0 at the end, negative. */
static int next_time(VideoReader *r, int64_t *pts, Err *err)
{
    int rc;
    if (r->ahead) {
        r->frame_damaged = 0;
        if (r->at_ahead == r->n_ahead)
            return 0;
        *pts = r->ahead[r->at_ahead++];
        return 1;
    }
    if (r->first_waiting) {
        r->first_waiting = 0;
        rc = r->first_rc;
        if (rc < 0)
            return err_set(err, rc, "%s", r->first_err.msg);
    } else {
        rc = decode_next(r, err);
    }
    if (rc == 1)
        *pts = r->frame->best_effort_timestamp != AV_NOPTS_VALUE ? r->frame->best_effort_timestamp : r->frame->pts;
    return rc;
}

static int next_frame(VideoReader *r, VideoFrame *out, Err *err)
{
    for (;;) {
        int64_t pts = 0;
        int rc = next_time(r, &pts, err);
        if (rc <= 0)
            return rc;
        if (r->counts.frames + r->counts.dropped_unordered >= r->limits.max_frames)
            return err_set(err, ERR_LIMIT, "'%s': more than %lld frames", r->path, (long long)r->limits.max_frames);
        rc = place_in_time(r, pts, out, err);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            r->counts.dropped_unordered++;
            continue;
        }
        out->index = r->index++;
        out->damaged = r->frame_damaged;
        out->av = r->ahead ? NULL : r->frame;
        r->counts.frames++;
        r->counts.damaged_frames += r->frame_damaged;
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
    clock_enter(r);
    int rc = next_frame(r, out, err);
    clock_leave(r);
    return rc;
}

int video_hold(VideoReader *r, const VideoFrame *f, VideoFrame *held, Err *err)
{
    av_frame_unref(r->held);
    if (!f->av)
        return err_set(err, ERR_USAGE, "'%s': frame %lld was not decoded", r->path, (long long)f->index);
    int av = av_frame_ref(r->held, f->av);
    if (av < 0)
        return err_av(err, ERR_NOMEM, av, "'%s': no memory to keep a frame", r->path);
    *held = *f;
    held->av = r->held;
    return 0;
}
