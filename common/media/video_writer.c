/* Encodes: FFV1 in Matroska for clips that must be read back bit for bit, H.264 in MP4 for people to
 * watch, GIF and WebP for pages that take no video.  The same frames give the same bytes: no dates, no
 * random ids, one encoder thread. */
#include <libavutil/opt.h>
#include <string.h>
#include "common/base/clones.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

struct VideoWriter {
    VideoCodec codec;
    AtomicFile *file;
    AVFormatContext *fmt;
    AVCodecContext *enc;
    AVStream *stream; /* borrowed from fmt */
    AVPacket *packet;
    AVFrame *frame;
    Scaler scaler;
    char *path;
    int64_t frames;
};

/* By VideoCodec. */
static const struct {
    const char *encoder, *container, *name;
    int64_t most; /* pixels a side */
    enum AVPixelFormat format;
} formats[] = {
    [VIDEO_FFV1] = {"ffv1", "matroska", "FFV1", 16384, AV_PIX_FMT_0RGB32 /* FFV1's reversible RGB */},
    [VIDEO_H264] = {"libx264", "mp4", "H.264", 16384, AV_PIX_FMT_YUV420P},
    [VIDEO_GIF] = {"gif", "gif", "GIF", 16384, AV_PIX_FMT_RGB8},
    [VIDEO_WEBP] = {"libwebp_anim", "webp", "animated WebP", 16383, AV_PIX_FMT_YUV420P},
};

int video_codec_check(VideoCodec codec, Err *err)
{
    if (avcodec_find_encoder_by_name(formats[codec].encoder))
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "this FFmpeg cannot write %s: it was built without the encoder %s",
                   formats[codec].name, formats[codec].encoder);
}

static int check_params(const char *path, const VideoWriterParams *p, Err *err)
{
    int64_t most = formats[p->codec].most;
    if (p->width < 1 || p->height < 1 || p->width > most || p->height > most)
        return err_set(err, ERR_USAGE, "'%s': frames of %" PRId64 "x%" PRId64 ", expected 1 to %" PRId64 " a side",
                       path, p->width, p->height, most);
    /* the library's own decoder gets such frames wrong */
    if (p->codec == VIDEO_FFV1 && (p->width < 16 || p->height < 16))
        return err_set(err, ERR_USAGE, "'%s': FFV1 frames of %" PRId64 "x%" PRId64 ", expected 16 or more a side", path,
                       p->width, p->height);
    if (p->codec == VIDEO_H264 && (p->width % 2 || p->height % 2))
        return err_set(err, ERR_USAGE, "'%s': H.264 frames of %" PRId64 "x%" PRId64 ", expected even sides", path,
                       p->width, p->height);
    if (p->rate.num < 1 || p->rate.den < 1 || p->rate.num > 1000000 || p->rate.den > 1000000)
        return err_set(err, ERR_USAGE, "'%s': %" PRId64 "/%" PRId64 " frames per second, expected a positive rate",
                       path, p->rate.num, p->rate.den);
    if (p->crf < 0 || p->crf > 51)
        return err_set(err, ERR_USAGE, "'%s': crf %" PRId64 ", expected 1 to 51", path, p->crf);
    return 0;
}

static int encoder_options(AVCodecContext *c, const VideoWriterParams *p, AVDictionary **options)
{
    int av = 0;
    switch (p->codec) {
    case VIDEO_FFV1:
        c->level = 3;
        c->gop_size = 1; /* every frame stands alone: damage stays within it */
        c->slices = 4;
        return av_dict_set(options, "slicecrc", "1", 0);
    case VIDEO_GIF: return 0;
    case VIDEO_WEBP: return av_dict_set(options, "quality", "90", 0);
    case VIDEO_H264: break;
    }
    av = av_dict_set_int(options, "crf", p->crf ? p->crf : 17, 0);
    if (av >= 0)
        av = av_dict_set(options, "preset", p->fast ? "superfast" : "medium", 0);
    /* libx264's macroblock tree reads uninitialised memory at small sizes with AVX-512: the bytes would
     * differ by run. */
    return av >= 0 ? av_dict_set(options, "x264-params", "mbtree=0", 0) : av;
}

static int open_encoder(VideoWriter *w, const VideoWriterParams *p, Err *err)
{
    const char *name = formats[p->codec].encoder;
    int is_yuv = formats[p->codec].format == AV_PIX_FMT_YUV420P, rc = video_codec_check(p->codec, err);
    if (rc < 0)
        return err_wrap(err, rc, "'%s'", w->path);
    const AVCodec *codec = avcodec_find_encoder_by_name(name);
    w->enc = avcodec_alloc_context3(codec);
    if (!w->enc)
        return err_set(err, ERR_NOMEM, "'%s': no memory for the encoder", w->path);
    AVCodecContext *c = w->enc;
    c->width = (int)p->width;
    c->height = (int)p->height;
    c->framerate = (AVRational){(int)p->rate.num, (int)p->rate.den};
    c->time_base = av_inv_q(c->framerate);
    c->sample_aspect_ratio = (AVRational){1, 1};
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (w->fmt->oformat->flags & AVFMT_GLOBALHEADER)
        c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    c->pix_fmt = formats[p->codec].format;
    c->color_range = is_yuv ? AVCOL_RANGE_MPEG : AVCOL_RANGE_JPEG;
    /* WebP has no place for tags: its readers expect BT.601 */
    c->colorspace = p->codec == VIDEO_WEBP ? AVCOL_SPC_SMPTE170M : is_yuv ? AVCOL_SPC_BT709 : AVCOL_SPC_RGB;
    if (p->codec == VIDEO_H264)
        c->chroma_sample_location = AVCHROMA_LOC_LEFT;
    c->color_primaries = AVCOL_PRI_BT709;
    c->color_trc = AVCOL_TRC_BT709;
    AVDictionary *options = NULL;
    int av = encoder_options(c, p, &options);
    if (av >= 0)
        av = avcodec_open2(c, codec, &options);
    av_dict_free(&options);
    if (av < 0)
        return err_av(err, ERR_UNSUPPORTED, av, "'%s': the %s encoder refuses %dx%d", w->path, name, c->width,
                      c->height);
    return 0;
}

static int open_output(VideoWriter *w, const VideoWriterParams *p, Err *err)
{
    char *url = mem_printf(err, "file:%s", atomic_path(w->file));
    if (!url)
        return ERR_NOMEM;
    int av = avformat_alloc_output_context2(&w->fmt, NULL, formats[p->codec].container, url);
    mem_free(url);
    if (av < 0)
        return err_av(err, ERR_UNSUPPORTED, av, "'%s': no such container", w->path);
    w->fmt->flags |= AVFMT_FLAG_BITEXACT; /* no dates, no random UIDs, no library versions */
    for (const char *const *m = p->metadata; m && m[0] && m[1]; m += 2)
        if (av_dict_set(&w->fmt->metadata, m[0], m[1], 0) < 0)
            return err_set(err, ERR_NOMEM, "'%s': no memory for metadata", w->path);
    int rc = open_encoder(w, p, err);
    if (rc < 0)
        return rc;
    w->stream = avformat_new_stream(w->fmt, NULL);
    if (!w->stream)
        return err_set(err, ERR_NOMEM, "'%s': no memory for a stream", w->path);
    w->stream->time_base = w->enc->time_base;
    w->stream->avg_frame_rate = w->enc->framerate;
    w->stream->sample_aspect_ratio = w->enc->sample_aspect_ratio;
    av = avcodec_parameters_from_context(w->stream->codecpar, w->enc);
    if (av >= 0)
        av = avio_open(&w->fmt->pb, w->fmt->url, AVIO_FLAG_WRITE);
    AVDictionary *options = NULL;
    if (av >= 0 && p->codec == VIDEO_H264)
        av = av_dict_set(&options, "movflags", "+faststart+use_metadata_tags", 0);
    if (av >= 0 && (p->codec == VIDEO_GIF || p->codec == VIDEO_WEBP))
        av = av_dict_set(&options, "loop", "0", 0); /* without end */
    if (av >= 0)
        av = avformat_write_header(w->fmt, &options);
    av_dict_free(&options);
    if (av < 0)
        return err_av(err, ERR_IO, av, "'%s': cannot start the file", w->path);
    return 0;
}

int video_create(VideoWriter **out, const char *path, const VideoWriterParams *p, Err *err)
{
    *out = NULL;
    int rc = check_params(path, p, err);
    if (rc < 0)
        return rc;
    av_quiet();
    VideoWriter *w = mem_calloc(1, sizeof *w, err);
    if (!w)
        return ERR_NOMEM;
    w->codec = p->codec;
    rc = ERR_NOMEM;
    if (!(w->path = mem_strdup(path, err)))
        goto fail;
    if ((rc = atomic_open(&w->file, path, err)) < 0)
        goto fail;
    if ((rc = open_output(w, p, err)) < 0)
        goto fail;
    w->packet = av_packet_alloc();
    w->frame = av_frame_alloc();
    rc = ERR_NOMEM;
    if (w->packet && w->frame) {
        w->frame->format = w->enc->pix_fmt;
        w->frame->width = w->enc->width;
        w->frame->height = w->enc->height;
        w->frame->colorspace = w->enc->colorspace;
        w->frame->color_range = w->enc->color_range;
        w->frame->color_primaries = w->enc->color_primaries;
        w->frame->color_trc = w->enc->color_trc;
        rc = av_frame_get_buffer(w->frame, 0) < 0 ? ERR_NOMEM : 0;
    }
    if (rc < 0) {
        err_set(err, rc, "'%s': no memory for a frame", path);
        goto fail;
    }
    *out = w;
    return 0;
fail:
    video_abort(&w);
    return rc;
}

/* Packets the encoder has ready go to the file. */
static int write_packets(VideoWriter *w, Err *err)
{
    for (;;) {
        int av = avcodec_receive_packet(w->enc, w->packet);
        if (av == AVERROR(EAGAIN) || av == AVERROR_EOF)
            return 0;
        if (av >= 0) {
            /* the last frame must be shown as long as the others */
            if (w->packet->duration <= 0)
                w->packet->duration = 1;
            av_packet_rescale_ts(w->packet, w->enc->time_base, w->stream->time_base);
            w->packet->stream_index = w->stream->index;
            av = av_interleaved_write_frame(w->fmt, w->packet);
        }
        if (av < 0)
            return err_av(err, ERR_IO, av, "'%s': writing frame %" PRId64, w->path, w->frames);
    }
}

WEFT_CLONES static void fill_row32(const uint8_t *restrict rgb, int64_t n, uint32_t *restrict out)
{
    for (int64_t x = 0; x < n; x++)
        out[x] = (uint32_t)rgb[3 * x] << 16 | (uint32_t)rgb[3 * x + 1] << 8 | rgb[3 * x + 2];
}

static void fill_rgb32(AVFrame *f, const uint8_t *rgb)
{
    for (int y = 0; y < f->height; y++, rgb += (ptrdiff_t)f->width * 3)
        fill_row32(rgb, f->width, (uint32_t *)(void *)(f->data[0] + (ptrdiff_t)y * f->linesize[0]));
}

static int fill_scaled(VideoWriter *w, const uint8_t *rgb, Err *err)
{
    AVFrame *f = w->frame;
    int space = w->codec == VIDEO_H264 ? SWS_CS_ITU709 : w->codec == VIDEO_WEBP ? SWS_CS_ITU601 : 0;
    ScaleJob job = {f->width, f->height, AV_PIX_FMT_RGB24, f->width, f->height, f->format, space, 1, 0, 0};
    int rc = scaler_prepare(&w->scaler, &job, err);
    if (rc < 0)
        return err_wrap(err, rc, "'%s'", w->path);
    if ((rc = scaler_room(&w->scaler, f->width, f->height, err)) < 0)
        return err_wrap(err, rc, "'%s'", w->path);
    for (int y = 0; y < f->height; y++) /* the scaler reads past a row's end, so the rows get a margin */
        memcpy(w->scaler.rgb + (ptrdiff_t)y * w->scaler.rgb_stride, rgb + (ptrdiff_t)y * f->width * 3,
               (size_t)f->width * 3);
    const uint8_t *src[4] = {w->scaler.rgb};
    int stride[4] = {w->scaler.rgb_stride};
    if (sws_scale(w->scaler.sws, src, stride, 0, f->height, f->data, f->linesize) != f->height)
        return err_set(err, ERR_FORMAT, "'%s': frame %" PRId64 " cannot be converted", w->path, w->frames);
    return 0;
}

int video_write(VideoWriter *w, const uint8_t *rgb, Err *err)
{
    av_quiet();
    int rc, av = av_frame_make_writable(w->frame);
    if (av < 0)
        return err_av(err, ERR_NOMEM, av, "'%s': frame %" PRId64, w->path, w->frames);
    if (w->codec == VIDEO_FFV1)
        fill_rgb32(w->frame, rgb);
    else if ((rc = fill_scaled(w, rgb, err)) < 0)
        return rc;
    w->frame->pts = w->frames;
    av = avcodec_send_frame(w->enc, w->frame);
    if (av < 0)
        return err_av(err, ERR_IO, av, "'%s': encoding frame %" PRId64, w->path, w->frames);
    w->frames++;
    return write_packets(w, err);
}

int video_finish(VideoWriter **writer, Err *err)
{
    VideoWriter *w = *writer;
    av_quiet();
    int rc = 0, av = avcodec_send_frame(w->enc, NULL);
    if (w->frames == 0)
        rc = err_set(err, ERR_USAGE, "'%s': a video without frames", w->path);
    else if (av < 0)
        rc = err_av(err, ERR_IO, av, "'%s': ending the encoder", w->path);
    if (rc == 0)
        rc = write_packets(w, err);
    if (rc == 0 && (av = av_write_trailer(w->fmt)) < 0)
        rc = err_av(err, ERR_IO, av, "'%s': ending the file", w->path);
    if (rc == 0 && (av = avio_closep(&w->fmt->pb)) < 0)
        rc = err_av(err, ERR_IO, av, "'%s': closing the file", w->path);
    if (rc == 0)
        rc = atomic_commit(&w->file, err);
    video_abort(writer);
    return rc;
}

void video_abort(VideoWriter **writer)
{
    VideoWriter *w = *writer;
    if (!w)
        return;
    scaler_fini(&w->scaler);
    av_frame_free(&w->frame);
    av_packet_free(&w->packet);
    avcodec_free_context(&w->enc);
    if (w->fmt)
        avio_closep(&w->fmt->pb);
    avformat_free_context(w->fmt);
    if (w->file)
        atomic_abort(&w->file);
    mem_free(w->path);
    mem_free(w);
    *writer = NULL;
}
