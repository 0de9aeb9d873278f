/* Opening and closing a reader: limits, the stream, its decoder. */
#include <libavutil/avstring.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* ---- time limit ------------------------------------------------------------------------------ */
static double seconds_since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

void reader_clock_enter(VideoReader *r)
{
    clock_gettime(CLOCK_MONOTONIC, &r->entered);
}

void reader_clock_leave(VideoReader *r)
{
    r->spent_s += seconds_since(&r->entered);
}

int reader_over_time(void *reader)
{
    const VideoReader *r = reader;
    return r->spent_s + seconds_since(&r->entered) > r->limits.max_seconds;
}

/* ---- opening --------------------------------------------------------------------------------- */
/* The decoders that run on files from strangers, by FFmpeg's names: those of cameras, phones, screens,
 * shops and archives.  Others, of games and old programs mostly, are seldom looked after. */
static const char decoders[] =
    "h264,hevc,vvc,mpeg1video,mpeg2video,mpegvideo,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,h261,h263,h263i,h263p,flv,"
    "vp6,vp6a,vp6f,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,libaom-av1,libgav1,theora,vp3,wmv1,wmv2,wmv3,vc1,rv10,rv20,"
    "rv30,rv40,mjpeg,mjpegb,jpeg2000,libopenjpeg,png,apng,gif,ffv1,huffyuv,ffvhuff,utvideo,magicyuv,prores,dnxhd,cfhd,"
    "dvvideo,rawvideo,v210,qtrle,rle,svq1,svq3,cinepak,hap";

/* avformat_find_stream_info decodes a little of every stream, so the limit on pixels is given to those
 * decoders too. */
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
        if (av >= 0)
            av = av_dict_set(&options[i], "codec_whitelist", decoders, 0);
    }
    if (av >= 0)
        av = avformat_find_stream_info(r->fmt, n ? options : NULL);
    for (unsigned i = 0; i < n; i++)
        av_dict_free(&options[i]);
    mem_free(options);
    int rc = source_check(r, err);
    if (rc < 0)
        return rc;
    if (av < 0)
        return err_av(err, ERR_FORMAT, av, "'%s': its streams cannot be read", r->path);
    return 0;
}

/* WebM's transparency is a second stream in side data of the packets: FFmpeg's own decoders of VP8 and
 * VP9 leave it out, libvpx's do not. */
static void alpha_decoder(const AVStream *st, const AVCodec **codec)
{
    const AVDictionaryEntry *mode = av_dict_get(st->metadata, "alpha_mode", NULL, 0);
    enum AVCodecID id = st->codecpar->codec_id;
    if (!mode || strcmp(mode->value, "1") != 0 || (id != AV_CODEC_ID_VP8 && id != AV_CODEC_ID_VP9))
        return;
    const AVCodec *other = avcodec_find_decoder_by_name(id == AV_CODEC_ID_VP8 ? "libvpx" : "libvpx-vp9");
    if (other)
        *codec = other;
}

static int choose_stream(VideoReader *r, const AVCodec **codec, Err *err)
{
    int index = av_find_best_stream(r->fmt, AVMEDIA_TYPE_VIDEO, -1, -1, codec, 0);
    if (index == AVERROR_DECODER_NOT_FOUND)
        return err_set(err, ERR_UNSUPPORTED, "'%s': this FFmpeg has no decoder for its video", r->path);
    if (index < 0 || r->fmt->streams[index]->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return err_set(err, ERR_FORMAT, "'%s' has no video stream (%u streams of other kinds)", r->path,
                       r->fmt->nb_streams);
    if (!av_match_list((*codec)->name, decoders, ','))
        return err_set(err, ERR_UNSUPPORTED,
                       "'%s': its video is %s, which is not decoded from files of others (convert it, to H.264 for "
                       "instance)",
                       r->path, (*codec)->name);
    r->stream = r->fmt->streams[index];
    alpha_decoder(r->stream, codec);
    const AVCodecParameters *par = r->stream->codecpar;
    if (par->width <= 0 || par->height <= 0)
        return err_set(err, ERR_FORMAT, "'%s': its frame size is unknown", r->path);
    if ((int64_t)par->width * par->height > r->limits.max_pixels)
        return err_set(err, ERR_LIMIT, "'%s': frames of %dx%d, the limit is %" PRId64 " pixels", r->path, par->width,
                       par->height, r->limits.max_pixels);
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

/* The earliest start of the file's video and sound tracks, exactly: fmt->start_time is rounded. */
static Rational clock_start(const AVFormatContext *fmt)
{
    Rational first = {0, 1};
    int have = 0;
    for (unsigned i = 0; i < fmt->nb_streams; i++) {
        const AVStream *st = fmt->streams[i];
        enum AVMediaType type = st->codecpar->codec_type;
        Rational at;
        if ((type != AVMEDIA_TYPE_VIDEO && type != AVMEDIA_TYPE_AUDIO) || st->start_time == AV_NOPTS_VALUE ||
            st->disposition & AV_DISPOSITION_ATTACHED_PIC ||
            !rational_make((__int128)st->start_time * st->time_base.num, st->time_base.den, &at))
            continue;
        first = !have || rational_cmp(at, first) < 0 ? at : first;
        have = 1;
    }
    return first;
}

static int open_reader(VideoReader **out, const char *path, ByteSource source, const VideoLimits *limits, Err *err)
{
    *out = NULL;
    av_quiet();
    VideoReader *r = mem_calloc(1, sizeof *r, err);
    if (!r)
        return ERR_NOMEM;
    const AVCodec *codec = NULL;
    int rc = ERR_NOMEM;
    r->source = source;
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
    reader_clock_enter(r);
    if (!(r->path = mem_strdup(path, err)))
        goto fail;
    if ((rc = source_open(r, err)) < 0)
        goto fail;
    if ((rc = ebml_check(r, err)) < 0 || (rc = source_check(r, err)) < 0)
        goto fail;
    if ((rc = probe_streams(r, err)) < 0)
        goto fail;
    if ((rc = choose_stream(r, &codec, err)) < 0)
        goto fail;
    if ((rc = open_decoder(r, codec, err)) < 0)
        goto fail;
    facts_read(&r->info, r->fmt, r->stream, r->dec, NULL);
    for (unsigned i = 0; i < r->fmt->nb_streams && !r->info.duration_shared; i++)
        if (r->fmt->streams[i] != r->stream)
            r->fmt->streams[i]->discard = AVDISCARD_ALL;
    /* Pixel format, colour tags, interlacing and orientation may stand only in the first frame. */
    r->waiting_rc = reader_decode(r, &r->waiting_err);
    if (r->waiting_rc == ERR_IO || r->waiting_rc == ERR_NOMEM) {
        rc = err_set(err, r->waiting_rc, "%s", r->waiting_err.msg);
        goto fail;
    }
    r->waiting = 1;
    facts_read(&r->info, r->fmt, r->stream, r->dec, r->waiting_rc == 1 ? r->frame : NULL);
    r->info.clock_start = clock_start(r->fmt);
    AVRational rate = av_guess_frame_rate(r->fmt, r->stream, r->waiting_rc == 1 ? r->frame : NULL);
    r->assumed_rate = rate.num > 0 && rate.den > 0 ? (Rational){rate.num, rate.den} : (Rational){30, 1};
    reader_clock_leave(r);
    *out = r;
    return 0;
fail:
    video_close(&r);
    return rc;
}

int video_open(VideoReader **out, const char *path, const VideoLimits *limits, Err *err)
{
    return open_reader(out, path, (ByteSource){.fd = -1}, limits, err);
}

int video_open_memory(VideoReader **out, const uint8_t *data, int64_t size, const VideoLimits *limits, Err *err)
{
    *out = NULL;
    if (size <= 0)
        return err_set(err, ERR_FORMAT, "a video of 0 bytes");
    return open_reader(out, "memory", (ByteSource){.data = data, .size = size, .fd = -1}, limits, err);
}

void video_close(VideoReader **reader)
{
    VideoReader *r = *reader;
    if (!r)
        return;
    scaler_fini(&r->scaler);
    scaler_fini(&r->cover);
    av_frame_free(&r->frame);
    av_frame_free(&r->held);
    av_frame_free(&r->part);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->dec);
    avformat_close_input(&r->fmt);
    source_close(r);
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
