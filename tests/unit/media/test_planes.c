/* Pictures that are scaled into planes have the RGB that swscale makes in triples, to the bit. */
#include <libavutil/pixdesc.h>
#include <stdlib.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/media/media_internal.h"

/* Every sample at random; alpha opaque. */
static void draw_noise(AVFrame *f, int k, const void *user)
{
    (void)user;
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    Philox p = philox_stream(check_seed(), RNG_TEST, (uint64_t)k, (uint64_t)f->format);
    uint64_t at = 0;
    for (int c = 0; c < d->nb_components; c++) {
        int low = c == 1 || c == 2, depth = d->comp[c].depth;
        int w = low ? AV_CEIL_RSHIFT(f->width, d->log2_chroma_w) : f->width;
        int h = low ? AV_CEIL_RSHIFT(f->height, d->log2_chroma_h) : f->height;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                uint32_t v = c == 3 ? (1u << depth) - 1 : philox_u32(&p, at++) >> (32 - depth);
                uint8_t *row = f->data[d->comp[c].plane] + y * f->linesize[d->comp[c].plane];
                if (depth > 8)
                    ((uint16_t *)(void *)row)[x] = (uint16_t)v;
                else
                    row[x * d->comp[c].step + d->comp[c].offset] = (uint8_t)v;
            }
    }
}

/* The picture as RGB24 without a detour. */
static void triples(const AVFrame *f, const ColourRule *rule, int width, int height, uint8_t *rgb)
{
    Err err = {0};
    Scaler s = {0};
    ScaleJob job = {f->width, f->height, f->format, width, height, AV_PIX_FMT_RGB24, rule->space, rule->full, 1, 0};
    CHECK_OK(scaler_prepare(&s, &job, &err), &err);
    CHECK_OK(scaler_room(&s, width, height, &err), &err);
    uint8_t *to[4] = {s.rgb};
    int stride[4] = {s.rgb_stride};
    assert_int_equal(sws_scale(s.sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, to, stride), height);
    for (int y = 0; y < height; y++)
        memcpy(rgb + (ptrdiff_t)y * width * 3, s.rgb + (ptrdiff_t)y * s.rgb_stride, (size_t)width * 3);
    scaler_fini(&s);
}

static void compare(enum AVPixelFormat format, int full, int w, int h, int to_w, int to_h)
{
    Clip clip = {.container = "matroska",
                 .codec = "ffv1",
                 .format = format,
                 .width = w,
                 .height = h,
                 .time_base = {1, 25},
                 .frames = 1,
                 .space = AVCOL_SPC_BT709,
                 .range = full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG,
                 .draw = draw_noise};
    const char *path = check_tmp_path("planes.mkv");
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    make_clip(path, &clip);
    CHECK_OK(video_open(&r, path, NULL, &err), &err);
    assert_int_equal(video_next(r, &f, &err), 1);
    const AVFrame *av = f.av;
    assert_int_equal(av->format, format);
    ColourRule rule = colour_rule(format, AV_CODEC_ID_FFV1, w, h, AVCOL_SPC_BT709, clip.range);
    uint8_t *got = calloc((size_t)to_w * (size_t)to_h, 3), *want = calloc((size_t)to_w * (size_t)to_h, 3);
    FitPlan plan = fit_plan(video_info(r), to_w, to_h, FIT_STRETCH, 0.5, 0.5);
    CHECK_OK(video_to_rgb(r, &f, &plan, got, &err), &err);
    triples(av, &rule, to_w, to_h, want);
    for (int i = 0; i < to_w * to_h * 3; i++)
        if (got[i] != want[i])
            fail_msg("%s of %dx%d at %dx%d, %s range: sample %d is %d, expected %d", av_get_pix_fmt_name(format), w, h,
                     to_w, to_h, full ? "full" : "limited", i, got[i], want[i]);
    free(got);
    free(want);
    video_close(&r);
}

static void planes_and_triples_agree(void **state)
{
    (void)state;
    static const enum AVPixelFormat formats[] = {
        AV_PIX_FMT_YUV420P,   AV_PIX_FMT_YUV422P,   AV_PIX_FMT_YUV444P,  AV_PIX_FMT_YUV440P,   AV_PIX_FMT_YUV411P,
        AV_PIX_FMT_YUV410P,   AV_PIX_FMT_YUVA420P,  AV_PIX_FMT_YUVA444P, AV_PIX_FMT_YUV420P10, AV_PIX_FMT_YUV422P10,
        AV_PIX_FMT_YUV444P12, AV_PIX_FMT_YUV420P16, AV_PIX_FMT_GRAY8,    AV_PIX_FMT_YUV444P16};
    static const int from[][2] = {{1, 1},   {4, 3},   {16, 16}, {15, 90},  {33, 47},  {63, 64},
                                  {64, 63}, {64, 64}, {65, 67}, {96, 144}, {130, 258}};
    static const int to[][2] = {{16, 16}, {48, 72}, {97, 64}, {161, 31}};
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(formats[k]);
        for (size_t i = 0; i < sizeof from / sizeof *from; i++)
            for (size_t j = 0; j <= sizeof to / sizeof *to; j++) { /* last: its own size */
                const int *size = j < sizeof to / sizeof *to ? to[j] : from[i];
                compare(formats[k], 0, from[i][0], from[i][1], size[0], size[1]);
                if (d->comp[0].depth == 8)
                    compare(formats[k], 1, from[i][0], from[i][1], size[0], size[1]);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planes_and_triples_agree)};
    return check_run_live("media: planes and triples", tests);
}
