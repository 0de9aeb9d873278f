/* Whole clips and single pictures as RGB, PNG, and container metadata. */
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

enum { MAX_RGB_BYTES_LOG2 = 33 }; /* more than 8 GiB in one block is not a clip */

/* The stored size, upright; the pixel aspect is not applied. */
static FitPlan natural_plan(const VideoInfo *info)
{
    int turned = info->rotation % 180 != 0;
    int64_t w = turned ? info->height : info->width, h = turned ? info->width : info->height;
    return (FitPlan){.mode = FIT_STRETCH,
                     .width = w,
                     .height = h,
                     .scaled_width = w,
                     .scaled_height = h,
                     .background = {255, 255, 255}};
}

static int grow(uint8_t **rgb, int64_t *room, int64_t frames, int64_t frame_bytes, const char *path, Err *err)
{
    if (frames <= *room)
        return 0;
    int64_t want = *room ? *room * 2 : 64, bytes;
    if (mem_mul(want, frame_bytes, &bytes) < 0 || bytes > (int64_t)1 << MAX_RGB_BYTES_LOG2)
        return err_set(err, ERR_LIMIT, "'%s': over %" PRId64 " frames of %" PRId64 " bytes do not fit one block", path,
                       *room, frame_bytes);
    uint8_t *more = mem_realloc(*rgb, want, frame_bytes, err);
    if (!more)
        return ERR_NOMEM;
    *rgb = more;
    *room = want;
    return 0;
}

int video_read_rgb(const char *path, int64_t expect_frames, int64_t expect_width, int64_t expect_height, uint8_t **rgb,
                   int64_t *n, int64_t *width, int64_t *height, Err *err)
{
    *rgb = NULL;
    VideoReader *r = NULL;
    VideoFrame f;
    uint8_t *all = NULL;
    int64_t count = 0, room = 0;
    int rc = video_open(&r, path, NULL, err);
    if (rc < 0)
        return rc;
    const VideoInfo *info = video_info(r);
    FitPlan plan = natural_plan(info);
    int64_t bytes = plan.width * plan.height * 3;
    if ((expect_width && plan.width != expect_width) || (expect_height && plan.height != expect_height)) {
        rc = err_set(err, ERR_FORMAT, "'%s': frames of %" PRId64 "x%" PRId64 ", expected %" PRId64 "x%" PRId64, path,
                     plan.width, plan.height, expect_width, expect_height);
        goto fail;
    }
    while ((rc = video_next(r, &f, err)) == 1) {
        const AVFrame *av = f.av;
        if (f.damaged)
            rc = err_set(err, ERR_FORMAT, "'%s': frame %" PRId64 " is damaged", path, count);
        else if (av->width != info->width || av->height != info->height)
            rc = err_set(err, ERR_FORMAT, "'%s': frame %" PRId64 " is %dx%d, the first was %" PRId64 "x%" PRId64, path,
                         count, av->width, av->height, info->width, info->height);
        else if (expect_frames && count >= expect_frames)
            rc = err_set(err, ERR_FORMAT, "'%s': more than %" PRId64 " frames", path, expect_frames);
        if (rc < 0)
            goto fail;
        if ((rc = grow(&all, &room, count + 1, bytes, path, err)) < 0)
            goto fail;
        if ((rc = video_to_rgb(r, &f, &plan, all + count * bytes, err)) < 0)
            goto fail;
        count++;
    }
    if (rc < 0)
        goto fail;
    VideoCounts counts = video_counts(r);
    if (counts.refused_packets)
        rc = err_set(err, ERR_FORMAT, "'%s': %" PRId64 " of %" PRId64 " packets are damaged", path,
                     counts.refused_packets, counts.packets);
    else if (count == 0 || (expect_frames && count != expect_frames))
        rc = err_set(err, ERR_FORMAT, "'%s': %" PRId64 " frames, expected %" PRId64, path, count,
                     (expect_frames ? expect_frames : 1));
    if (rc < 0)
        goto fail;
    *rgb = all;
    *n = count;
    *width = plan.width;
    *height = plan.height;
    video_close(&r);
    return 0;
fail:
    mem_free(all);
    video_close(&r);
    return rc;
}

char *video_metadata(const char *path, const char *key, Err *err)
{
    VideoReader *r = NULL;
    if (video_open(&r, path, NULL, err) < 0)
        return NULL;
    /* case is ignored, because Matroska stores keys in capitals */
    const AVDictionaryEntry *e = av_dict_get(r->fmt->metadata, key, NULL, 0);
    if (!e)
        e = av_dict_get(r->stream->metadata, key, NULL, 0);
    char *value = e ? mem_strdup(e->value, err) : NULL;
    video_close(&r);
    return value;
}

int picture_read(const char *path, uint8_t **rgb, int64_t *width, int64_t *height, Err *err)
{
    *rgb = NULL;
    VideoReader *r = NULL;
    VideoFrame f;
    uint8_t *pixels = NULL;
    int rc = video_open(&r, path, NULL, err);
    if (rc < 0)
        return rc;
    FitPlan plan = natural_plan(video_info(r));
    rc = video_next(r, &f, err);
    if (rc == 0 || (rc == 1 && f.damaged))
        rc = err_set(err, ERR_FORMAT, "'%s': the picture is damaged", path);
    if (rc < 0)
        goto fail;
    rc = ERR_NOMEM;
    if (!(pixels = mem_calloc(plan.width * plan.height, 3, err)))
        goto fail;
    if ((rc = video_to_rgb(r, &f, &plan, pixels, err)) < 0)
        goto fail;
    *rgb = pixels;
    *width = plan.width;
    *height = plan.height;
    video_close(&r);
    return 0;
fail:
    mem_free(pixels);
    video_close(&r);
    return rc;
}

static int encode_png(AVCodecContext *enc, AVFrame *frame, AVPacket *packet, const uint8_t *rgb, int64_t width,
                      int64_t height)
{
    enc->width = frame->width = (int)width;
    enc->height = frame->height = (int)height;
    enc->pix_fmt = AV_PIX_FMT_RGB24;
    frame->format = AV_PIX_FMT_RGB24;
    enc->time_base = (AVRational){1, 1};
    enc->thread_count = 1;
    enc->flags |= AV_CODEC_FLAG_BITEXACT;
    int av = avcodec_open2(enc, NULL, NULL);
    if (av >= 0)
        av = av_frame_get_buffer(frame, 0);
    if (av < 0)
        return av;
    for (int64_t y = 0; y < height; y++)
        memcpy(frame->data[0] + y * frame->linesize[0], rgb + y * width * 3, (size_t)(width * 3));
    av = avcodec_send_frame(enc, frame);
    if (av >= 0)
        av = avcodec_send_frame(enc, NULL);
    if (av >= 0)
        av = avcodec_receive_packet(enc, packet);
    return av;
}

int picture_write_png(const char *path, const uint8_t *rgb, int64_t width, int64_t height, Err *err)
{
    if (width < 1 || height < 1 || width > 65535 || height > 65535)
        return err_set(err, ERR_USAGE, "'%s': a picture of %" PRId64 "x%" PRId64 ", expected 1 to 65535 a side", path,
                       width, height);
    av_quiet();
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (!codec)
        return err_set(err, ERR_UNSUPPORTED, "'%s': this FFmpeg has no PNG encoder", path);
    AVCodecContext *enc = avcodec_alloc_context3(codec);
    AVFrame *frame = av_frame_alloc();
    AVPacket *packet = av_packet_alloc();
    int rc, av = enc && frame && packet ? encode_png(enc, frame, packet, rgb, width, height) : AVERROR(ENOMEM);
    if (av < 0)
        rc = err_av(err, ERR_IO, av, "'%s': cannot make a PNG of %" PRId64 "x%" PRId64, path, width, height);
    else
        rc = file_write_atomic(path, packet->data, packet->size, err);
    av_packet_free(&packet);
    av_frame_free(&frame);
    avcodec_free_context(&enc);
    return rc;
}
