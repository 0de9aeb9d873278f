/* Makes the small videos that the fuzz target `video` starts from: the containers and codecs of real
 * folders, a few frames of 32x48 each.
 *
 *   build/release/tests/tools/video_corpus tests/fuzz/corpus/video */
#include <stdio.h>
#include <libavutil/pixdesc.h>
#include "unit/clip_maker.h"
#include "unit/remake.h"

static void draw_shapes(AVFrame *f, int k, const void *user)
{
    (void)user;
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    for (int p = 0; p < 4 && f->data[p]; p++) {
        int sub = p == 1 || p == 2, h = sub ? AV_CEIL_RSHIFT(f->height, d->log2_chroma_h) : f->height;
        int bytes = f->linesize[p] < 4096 ? f->linesize[p] : 4096;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < bytes; x++)
                f->data[p][y * f->linesize[p] + x] = (uint8_t)(d->comp[0].depth > 8 && x % 2 ? 1
                                                                                             : 60 + x + 3 * y + 5 * k);
    }
}

static const struct {
    const char *name, *container, *codec, *options;
    enum AVPixelFormat format;
} files[] = {
    {"h264.mkv", "matroska", "libx264", "crf=30:preset=ultrafast", AV_PIX_FMT_YUV420P},
    {"h264_10.mp4", "mp4", "libx264", "crf=30:preset=ultrafast", AV_PIX_FMT_YUV420P10},
    {"hevc.mkv", "matroska", "libx265", "crf=34:preset=ultrafast:x265-params=log-level=none", AV_PIX_FMT_YUV420P10},
    {"av1.mkv", "matroska", "libaom-av1", "crf=40:cpu-used=8:usage=realtime", AV_PIX_FMT_YUV420P},
    {"vp9_alpha.webm", "webm", "libvpx-vp9", "crf=40:b=0:auto-alt-ref=0:deadline=realtime:cpu-used=8",
     AV_PIX_FMT_YUVA420P},
    {"vp8_alpha.webm", "webm", "libvpx", "crf=40:auto-alt-ref=0:deadline=realtime:cpu-used=8", AV_PIX_FMT_YUVA420P},
    {"prores.mov", "mov", "prores_ks", "profile=proxy", AV_PIX_FMT_YUV422P10},
    {"alpha.mov", "mov", "png", NULL, AV_PIX_FMT_RGBA},
    {"wmv2.asf", "asf", "wmv2", NULL, AV_PIX_FMT_YUV420P},
    {"mpeg4.m4v", "m4v", "mpeg4", NULL, AV_PIX_FMT_YUV420P},
    {"mpeg4.mkv", "matroska", "mpeg4", NULL, AV_PIX_FMT_YUV420P},
    {"mpeg2.mxf", "mxf", "mpeg2video", NULL, AV_PIX_FMT_YUV420P},
    {"photos.mjpeg", "mjpeg", "mjpeg", "strict=-1", AV_PIX_FMT_YUVJ420P},
    {"raw.hevc", "hevc", "libx265", "crf=34:preset=ultrafast:x265-params=log-level=none", AV_PIX_FMT_YUV420P},
    {"raw.obu", "obu", "libaom-av1", "crf=40:cpu-used=8:usage=realtime", AV_PIX_FMT_YUV420P},
};

int main(int argc, char **argv)
{
    char path[4096], whole[4096];
    if (argc != 2) {
        fprintf(stderr, "usage: video_corpus FOLDER\n");
        return 2;
    }
    av_log_set_level(AV_LOG_QUIET);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        Clip c = {.container = files[i].container,
                  .codec = files[i].codec,
                  .options = files[i].options,
                  .format = files[i].format,
                  .width = 32,
                  .height = 48,
                  .time_base = {1, 25},
                  .frames = 4,
                  .range = files[i].format == AV_PIX_FMT_YUVJ420P ? AVCOL_RANGE_JPEG : AVCOL_RANGE_UNSPECIFIED,
                  .draw = draw_shapes};
        if (!avcodec_find_encoder_by_name(c.codec) || !av_guess_format(c.container, NULL, NULL)) {
            printf("%s: this FFmpeg cannot write it\n", files[i].name);
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", argv[1], files[i].name);
        make_clip(path, &c);
    }
    /* two tracks, Dolby Vision, and a beginning between key frames */
    snprintf(whole, sizeof whole, "%s/h264.mkv", argv[1]);
    snprintf(path, sizeof path, "%s/sound.mkv", argv[1]);
    remake(whole, path, &(Remake){.container = "matroska", .sounds = 1, .sound_s = 0.3});
    snprintf(path, sizeof path, "%s/dolby.mp4", argv[1]);
    remake(whole, path, &(Remake){.container = "mp4", .dolby_profile = 5});
    snprintf(whole, sizeof whole, "%s/mpeg4.mkv", argv[1]);
    snprintf(path, sizeof path, "%s/inside.mkv", argv[1]);
    remake(whole, path, &(Remake){.container = "matroska", .drop = 1});
    return 0;
}
