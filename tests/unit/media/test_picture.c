/* Geometry and colour: the planned rules, the eight orientations, pixel aspect, fields, and patches
 * within one level. */
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* The first frame of a clip at a size. */
static void first_frame(const char *path, int64_t w, int64_t h, FitMode mode, uint8_t *rgb, VideoInfo *info)
{
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    CHECK_OK(video_open(&r, path, NULL, &err), &err);
    if (info)
        *info = *video_info(r);
    FitPlan plan = fit_plan(video_info(r), w, h, mode, 0.5, 0.5);
    assert_int_equal(video_next(r, &f, &err), 1);
    CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
    video_close(&r);
}

static void plans_follow_the_integer_rules(void **state)
{
    (void)state;
    /* Source size; cover: scaled size, offset; pad: scaled size, bars before. From the table of the
     * dataset reference. */
    static const struct {
        int w, h, cw, ch, cx, cy, pw, ph, px, py;
        double lost; /* per cent, as in the table; below 0: not in it */
    } cases[] = {
        {480, 720, 480, 720, 0, 0, 480, 720, 0, 0, 0},        {288, 432, 480, 720, 0, 0, 480, 720, 0, 0, 0},
        {720, 940, 551, 720, 35, 0, 480, 627, 0, 46, 12.9},   {720, 960, 540, 720, 30, 0, 480, 640, 0, 40, 11.1},
        {576, 720, 576, 720, 48, 0, 480, 600, 0, 60, 16.7},   {256, 512, 480, 960, 0, 120, 360, 720, 60, 0, 25},
        {1080, 1920, 480, 853, 0, 66, 405, 720, 37, 0, 15.6}, {768, 432, 1280, 720, 400, 0, 480, 270, 0, 225, 62.5},
        {1, 1, 720, 720, 120, 0, 480, 480, 0, 120, -1},       {1, 4096, 480, 1966080, 0, 982680, 1, 720, 239, 0, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        VideoInfo info = {.display_width = cases[i].w, .display_height = cases[i].h};
        FitPlan c = fit_plan(&info, 480, 720, FIT_COVER, 0.5, 0.5), p = fit_plan(&info, 480, 720, FIT_PAD, 0.5, 0.5);
        if (c.scaled_width != cases[i].cw || c.scaled_height != cases[i].ch || c.crop_x != cases[i].cx ||
            c.crop_y != cases[i].cy)
            fail_msg("cover %dx%d: %dx%d at %d,%d", cases[i].w, cases[i].h, (int)c.scaled_width, (int)c.scaled_height,
                     (int)c.crop_x, (int)c.crop_y);
        if (cases[i].lost >= 0)
            check_value("lost", 100 * c.lost, cases[i].lost, 0.05, 0);
        if (p.scaled_width != cases[i].pw || p.scaled_height != cases[i].ph || p.crop_x != -cases[i].px ||
            p.crop_y != -cases[i].py)
            fail_msg("pad %dx%d: %dx%d at %d,%d", cases[i].w, cases[i].h, (int)p.scaled_width, (int)p.scaled_height,
                     (int)p.crop_x, (int)p.crop_y);
    }
    VideoInfo info = {.display_width = 256, .display_height = 512};
    FitPlan top = fit_plan(&info, 480, 720, FIT_COVER, 0.5, 0), low = fit_plan(&info, 480, 720, FIT_COVER, 0.5, 1);
    assert_int_equal(top.crop_y, 0);
    assert_int_equal(low.crop_y, 240);
    check_value("lost", top.lost, 0.25, 1e-12, 0);
    FitPlan all = fit_plan(&info, 480, 720, FIT_STRETCH, 0.5, 0.5);
    assert_true(all.scaled_width == 480 && all.scaled_height == 720 && all.lost == 0);
}

/* ---- colour ---------------------------------------------------------------------------------- */
enum { PATCH = 32, PATCHES = 12 };
static const double patches[PATCHES][3] = {{255, 255, 255}, {0, 0, 0},      {255, 0, 0},     {0, 255, 0},
                                           {0, 0, 255},     {219, 219, 16}, {126, 126, 126}, {224, 172, 105},
                                           {0, 0, 122},     {17, 180, 201}, {250, 3, 130},   {60, 61, 59}};

typedef struct ColourCase {
    double kr, kb;
    int full, depth;
} ColourCase;

static void to_yuv(const ColourCase *c, const double *rgb, int yuv[3])
{
    double y = c->kr * rgb[0] + (1 - c->kr - c->kb) * rgb[1] + c->kb * rgb[2];
    double cb = (rgb[2] - y) / (2 * (1 - c->kb)), cr = (rgb[0] - y) / (2 * (1 - c->kr));
    double scale = (1 << (c->depth - 8)), top = (1 << c->depth) - 1;
    if (c->full) {
        yuv[0] = (int)lround(y / 255 * top);
        yuv[1] = (int)lround(fmin(cb / 255 * top + 128 * scale, top));
        yuv[2] = (int)lround(fmin(cr / 255 * top + 128 * scale, top));
    } else {
        yuv[0] = (int)lround(scale * (16 + 219 * y / 255));
        yuv[1] = (int)lround(scale * (128 + 224 * cb / 255));
        yuv[2] = (int)lround(scale * (128 + 224 * cr / 255));
    }
}

/* What the quantised samples mean, in double. */
static void to_rgb(const ColourCase *c, const int yuv[3], double *rgb)
{
    double scale = (1 << (c->depth - 8)), top = (1 << c->depth) - 1;
    double y = c->full ? yuv[0] / top : (yuv[0] / scale - 16) / 219;
    double cb = c->full ? (yuv[1] - 128 * scale) / top : (yuv[1] / scale - 128) / 224;
    double cr = c->full ? (yuv[2] - 128 * scale) / top : (yuv[2] / scale - 128) / 224;
    double r = y + 2 * (1 - c->kr) * cr, b = y + 2 * (1 - c->kb) * cb,
           g = (y - c->kr * r - c->kb * b) / (1 - c->kr - c->kb);
    rgb[0] = fmin(fmax(255 * r, 0), 255);
    rgb[1] = fmin(fmax(255 * g, 0), 255);
    rgb[2] = fmin(fmax(255 * b, 0), 255);
}

static void draw_patches(AVFrame *f, int k, const void *user)
{
    (void)k;
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    for (int plane = 0; plane < 3; plane++) {
        int sx = plane ? d->log2_chroma_w : 0, sy = plane ? d->log2_chroma_h : 0;
        for (int y = 0; y < f->height >> sy; y++)
            for (int x = 0; x < f->width >> sx; x++) {
                int yuv[3];
                to_yuv(user, patches[(x << sx) / PATCH], yuv);
                uint8_t *row = f->data[plane] + y * f->linesize[plane];
                if (d->comp[0].depth > 8)
                    ((uint16_t *)(void *)row)[x] = (uint16_t)yuv[plane];
                else
                    row[x] = (uint8_t)yuv[plane];
            }
    }
}

static void patches_within_one_level(void **state)
{
    (void)state;
    static const struct {
        enum AVColorSpace space;
        double kr, kb;
        const char *used;
    } spaces[] = {{AVCOL_SPC_SMPTE170M, 0.299, 0.114, "bt601"},
                  {AVCOL_SPC_BT470BG, 0.299, 0.114, "bt601"},
                  {AVCOL_SPC_BT709, 0.2126, 0.0722, "bt709"},
                  {AVCOL_SPC_BT2020_NCL, 0.2627, 0.0593, "bt2020nc"},
                  {AVCOL_SPC_SMPTE240M, 0.212, 0.087, "smpte240m"}};
    static const enum AVPixelFormat formats[] = {AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV422P, AV_PIX_FMT_YUV444P,
                                                 AV_PIX_FMT_YUV420P10, AV_PIX_FMT_YUV444P10};
    const char *path = check_tmp_path("patches.mkv");
    static uint8_t rgb[PATCH * PATCHES * 2 * PATCH * 2 * 3];
    double worst = 0;
    for (size_t s = 0; s < sizeof spaces / sizeof *spaces; s++)
        for (size_t p = 0; p < sizeof formats / sizeof *formats; p++)
            for (int full = 0; full < 2; full++)
                for (int zoom = 1; zoom <= 2; zoom++) {
                    ColourCase c = {spaces[s].kr, spaces[s].kb, full, av_pix_fmt_desc_get(formats[p])->comp[0].depth};
                    Clip clip = {.container = "matroska",
                                 .codec = "ffv1",
                                 .options = "level=3",
                                 .format = formats[p],
                                 .width = PATCH * PATCHES,
                                 .height = PATCH,
                                 .time_base = {1, 25},
                                 .frames = 1,
                                 .space = spaces[s].space,
                                 .range = full ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG,
                                 .draw = draw_patches,
                                 .user = &c};
                    make_clip(path, &clip);
                    VideoInfo info;
                    int64_t w = PATCH * PATCHES * zoom, h = PATCH * zoom;
                    first_frame(path, w, h, FIT_STRETCH, rgb, &info);
                    assert_string_equal(info.matrix_used, spaces[s].used);
                    assert_string_equal(info.range_used, full ? "full" : "limited");
                    assert_int_equal(info.guessed, 0);
                    for (int i = 0; i < PATCHES; i++) {
                        int yuv[3];
                        double want[3];
                        to_yuv(&c, patches[i], yuv);
                        to_rgb(&c, yuv, want);
                        const uint8_t *got = rgb + (h / 2 * w + (int64_t)(i * PATCH + PATCH / 2) * zoom) * 3;
                        for (int k = 0; k < 3; k++) {
                            double e = fabs(got[k] - want[k]);
                            if (e > worst)
                                worst = e;
                            if (e > 1)
                                fail_msg("%s %s %s x%d: patch %d channel %d is %d, expected %.2f", spaces[s].used,
                                         av_get_pix_fmt_name(formats[p]), info.range_used, zoom, i, k, got[k], want[k]);
                        }
                    }
                }
    print_message("# worst patch error %.3f levels\n", worst);
}

static void untagged_colour_is_guessed_by_the_rule(void **state)
{
    (void)state;
    static const struct {
        enum AVPixelFormat fmt;
        enum AVCodecID codec;
        int w, h;
        enum AVColorSpace space;
        enum AVColorRange range;
        const char *name;
        int full, guessed;
    } cases[] = {
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_H264, 720, 960, AVCOL_SPC_UNSPECIFIED, 0, "bt709", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_H264, 1280, 544, AVCOL_SPC_UNSPECIFIED, 0, "bt709", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_H264, 480, 720, AVCOL_SPC_UNSPECIFIED, 0, "bt709", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_H264, 720, 480, AVCOL_SPC_UNSPECIFIED, 0, "bt601", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_H264, 720, 576, AVCOL_SPC_UNSPECIFIED, 0, "bt601", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_H264, 288, 432, AVCOL_SPC_UNSPECIFIED, 0, "bt601", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_VP9, 800, 600, AVCOL_SPC_UNSPECIFIED, 0, "bt709", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_MPEG4, 800, 600, AVCOL_SPC_UNSPECIFIED, 0, "bt601", 0, 1},
        {AV_PIX_FMT_YUVJ420P, AV_CODEC_ID_MJPEG, 1920, 1080, AVCOL_SPC_UNSPECIFIED, 0, "bt601", 1, 0},
        {AV_PIX_FMT_YUVJ420P, AV_CODEC_ID_H264, 640, 480, AVCOL_SPC_UNSPECIFIED, 0, "bt601", 1, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_HEVC, 128, 128, AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, "bt709", 0, 0},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_HEVC, 128, 128, AVCOL_SPC_BT709, 0, "bt709", 0, 1},
        {AV_PIX_FMT_YUV420P, AV_CODEC_ID_HEVC, 128, 128, AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_MPEG, "bt601", 0, 1},
        {AV_PIX_FMT_BGRA, AV_CODEC_ID_GIF, 480, 270, AVCOL_SPC_UNSPECIFIED, 0, "rgb", 1, 0},
        {AV_PIX_FMT_PAL8, AV_CODEC_ID_PNG, 480, 270, AVCOL_SPC_UNSPECIFIED, 0, "rgb", 1, 0},
        {AV_PIX_FMT_GBRP, AV_CODEC_ID_VP9, 480, 270, AVCOL_SPC_RGB, AVCOL_RANGE_JPEG, "rgb", 1, 0},
        {AV_PIX_FMT_GRAY8, AV_CODEC_ID_PNG, 480, 270, AVCOL_SPC_UNSPECIFIED, 0, "grey", 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ColourRule r = colour_rule(cases[i].fmt, cases[i].codec, cases[i].w, cases[i].h, cases[i].space,
                                   cases[i].range);
        if (strcmp(r.name, cases[i].name) || r.full != cases[i].full || r.guessed != cases[i].guessed)
            fail_msg("case %d: %s full %d guessed %d", (int)i, r.name, r.full, r.guessed);
    }
    assert_true(
        colour_rule(AV_PIX_FMT_YUV420P, AV_CODEC_ID_HEVC, 128, 128, AVCOL_SPC_YCGCO, AVCOL_RANGE_MPEG).unsupported);
}

static void hdr_is_refused_on_use(void **state)
{
    (void)state;
    static const enum AVColorTransferCharacteristic curves[] = {AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67};
    for (int i = 0; i < 2; i++) {
        Clip clip = {.container = "matroska",
                     .codec = "ffv1",
                     .format = AV_PIX_FMT_YUV420P10,
                     .width = 64,
                     .height = 32,
                     .time_base = {1, 25},
                     .frames = 1,
                     .space = AVCOL_SPC_BT2020_NCL,
                     .range = AVCOL_RANGE_MPEG,
                     .transfer = curves[i],
                     .draw = draw_patches,
                     .user = &(ColourCase){0.2627, 0.0593, 0, 10}};
        make_clip(check_tmp_path("hdr.mkv"), &clip);
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        uint8_t rgb[64 * 32 * 3];
        CHECK_OK(video_open(&r, check_tmp_path("hdr.mkv"), NULL, &err), &err);
        assert_string_equal(video_info(r)->transfer, av_color_transfer_name(curves[i]));
        FitPlan plan = fit_plan(video_info(r), 64, 32, FIT_STRETCH, 0, 0);
        assert_int_equal(video_next(r, &f, &err), 1);
        CHECK_FAILS(video_to_rgb(r, &f, &plan, rgb, &err), ERR_UNSUPPORTED, "HDR", &err);
        video_close(&r);
    }
}

/* ---- orientation ----------------------------------------------------------------------------- */
/* Four quadrants of luma: 60 110 / 160 210, so that every one of the eight orientations differs. */
static void draw_quadrants(AVFrame *f, int k, const void *user)
{
    (void)k;
    (void)user;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++)
            f->data[0][y * f->linesize[0] + x] = (uint8_t)(60 + (x >= f->width / 2) * 50 + (y >= f->height / 2) * 100);
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * f->height / 2));
}

static const Clip quadrants = {.container = "mp4",
                               .codec = "libx264",
                               .options = "qp=1:threads=1",
                               .format = AV_PIX_FMT_YUV420P,
                               .width = 96,
                               .height = 64,
                               .time_base = {1, 25},
                               .frames = 2,
                               .space = AVCOL_SPC_BT709,
                               .range = AVCOL_RANGE_MPEG,
                               .draw = draw_quadrants};

static void check_quadrant(const uint8_t *rgb, int64_t w, int64_t h, int right, int low, int want_luma,
                           const char *what)
{
    int got = rgb[((h / 4 + low * h / 2) * w + w / 4 + right * w / 2) * 3 + 1];
    double want = (want_luma - 16) * 255.0 / 219;
    if (fabs(got - want) > 3)
        fail_msg("%s: quadrant %d,%d is %d, expected %.1f", what, right, low, got, want);
}

static void all_eight_orientations(void **state)
{
    (void)state;
    static const struct {
        int a, b, c, d, rotation, flip;
    } cases[] = {
        {1, 0, 0, 1, 0, 0},  {0, 1, -1, 0, 90, 0}, {-1, 0, 0, -1, 180, 0}, {0, -1, 1, 0, 270, 0},
        {-1, 0, 0, 1, 0, 1}, {0, 1, 1, 0, 90, 1},  {1, 0, 0, -1, 180, 1},  {0, -1, -1, 0, 270, 1},
    };
    static uint8_t rgb[96 * 96 * 3];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int a = cases[i].a, b = cases[i].b, c = cases[i].c, d = cases[i].d;
        int32_t matrix[9] = {a * 65536, b * 65536, 0, c * 65536, d * 65536, 0, 0, 0, 1 << 30};
        Clip clip = quadrants;
        clip.matrix = matrix;
        make_clip(check_tmp_path("turn.mp4"), &clip);
        for (int pass = 0; pass < 2; pass++) { /* upright size as it is, then squeezed into a square with bars */
            VideoInfo info;
            int turned = b != 0;
            int64_t w = turned ? 64 : 96, h = turned ? 96 : 64;
            first_frame(check_tmp_path("turn.mp4"), pass ? 96 : w, pass ? 96 : h, FIT_PAD, rgb, &info);
            assert_true(info.display_width == w && info.display_height == h);
            char what[64];
            snprintf(what, sizeof what, "matrix %d %d %d %d (rotation %d flip %d)", a, b, c, d, info.rotation,
                     info.flip);
            if (cases[i].rotation % 180 == info.rotation % 180 && cases[i].flip == 0)
                assert_int_equal(info.rotation, cases[i].rotation);
            assert_int_equal(info.flip, cases[i].flip);
            for (int low = 0; low < 2; low++)
                for (int right = 0; right < 2; right++) { /* the quadrant (p,q) goes where the matrix sends it */
                    int p = 2 * right - 1, q = 2 * low - 1;
                    int to_right = (a * p + c * q + 1) / 2, to_low = (b * p + d * q + 1) / 2;
                    check_quadrant(rgb, pass ? 96 : w, pass ? 96 : h, to_right, to_low, 60 + right * 50 + low * 100,
                                   what);
                }
        }
    }
    Err err = {0};
    int rotation, flip;
    int32_t tilted[9] = {46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30}, nothing[9] = {0};
    CHECK_FAILS(display_matrix_read(tilted, &rotation, &flip, &err), ERR_UNSUPPORTED, "45.0 degrees", &err);
    CHECK_FAILS(display_matrix_read(nothing, &rotation, &flip, &err), ERR_FORMAT, "singular", &err);
}

static void pixel_aspect_is_honoured(void **state)
{
    (void)state;
    static const struct {
        AVRational sar;
        int rotated, w, h;
    } cases[] = {
        {{4, 3}, 0, 128, 64}, {{1, 2}, 0, 48, 64}, {{4, 3}, 1, 64, 128}, {{5, 1}, 0, 96, 64}, {{0, 1}, 0, 96, 64}};
    static const int32_t quarter[9] = {0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Clip clip = quadrants;
        clip.sar = cases[i].sar;
        if (cases[i].rotated)
            clip.matrix = quarter;
        make_clip(check_tmp_path("sar.mp4"), &clip);
        VideoInfo info;
        static uint8_t rgb[128 * 128 * 3];
        first_frame(check_tmp_path("sar.mp4"), cases[i].w, cases[i].h, FIT_COVER, rgb, &info);
        if (info.display_width != cases[i].w || info.display_height != cases[i].h)
            fail_msg("case %d: shown as %dx%d", (int)i, (int)info.display_width, (int)info.display_height);
    }
}

static void draw_fields(AVFrame *f, int k, const void *user)
{
    (void)k;
    (void)user;
    for (int y = 0; y < f->height; y++)
        memset(f->data[0] + y * f->linesize[0], y % 2 ? 16 : 235, (size_t)f->width);
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * f->height / 2));
}

static void one_field_of_interlaced_material(void **state)
{
    (void)state;
    static const struct {
        enum AVFieldOrder order;
        int interlaced, level;
    } cases[] = {{AV_FIELD_TT, 1, 255}, {AV_FIELD_BB, 2, 0}};
    static uint8_t rgb[48 * 32 * 3];
    for (int i = 0; i < 2; i++) {
        Clip clip = {.container = "matroska",
                     .codec = "ffv1",
                     .format = AV_PIX_FMT_YUV420P,
                     .width = 96,
                     .height = 64,
                     .time_base = {1, 25},
                     .frames = 1,
                     .space = AVCOL_SPC_BT709,
                     .range = AVCOL_RANGE_MPEG,
                     .field_order = cases[i].order,
                     .draw = draw_fields};
        make_clip(check_tmp_path("fields.mkv"), &clip);
        VideoInfo info;
        first_frame(check_tmp_path("fields.mkv"), 48, 32, FIT_STRETCH, rgb, &info);
        assert_int_equal(info.interlaced, cases[i].interlaced);
        for (int k = 0; k < 48 * 32 * 3; k++)
            assert_true(abs((int)rgb[k] - (int)cases[i].level) <= 1);
    }
}

static void size_change_mid_stream(void **state)
{
    (void)state;
    Err err = {0};
    char *all = NULL;
    int64_t total = 0;
    static const int sizes[2][2] = {{96, 144}, {64, 64}};
    for (int i = 0; i < 2; i++) {
        Clip clip = quadrants;
        clip.container = "h264";
        clip.width = sizes[i][0];
        clip.height = sizes[i][1];
        clip.frames = 5;
        make_clip(check_tmp_path("part.h264"), &clip);
        char *bytes = NULL;
        int64_t n;
        CHECK_OK(file_read(check_tmp_path("part.h264"), 1 << 24, &bytes, &n, &err), &err);
        all = realloc(all, (size_t)(total + n));
        memcpy(all + total, bytes, (size_t)n);
        total += n;
        mem_free(bytes);
    }
    CHECK_OK(file_write_atomic(check_tmp_path("both.h264"), all, total, &err), &err);
    free(all);
    VideoReader *r = NULL;
    VideoFrame f;
    uint8_t rgb[48 * 72 * 3];
    CHECK_OK(video_open(&r, check_tmp_path("both.h264"), NULL, &err), &err);
    FitPlan plan = fit_plan(video_info(r), 48, 72, FIT_COVER, 0.5, 0.5);
    int rc, n = 0;
    while ((rc = video_next(r, &f, &err)) == 1) {
        CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
        for (int low = 0; low < 2; low++)
            for (int right = 0; right < 2; right++)
                check_quadrant(rgb, 48, 72, right, low, 60 + right * 50 + low * 100, "after a change");
        n++;
    }
    CHECK_OK(rc, &err);
    assert_int_equal(n, 10);
    video_close(&r);
    uint8_t *whole = NULL;
    int64_t got, w, h;
    CHECK_FAILS(video_read_rgb(check_tmp_path("both.h264"), 0, 0, 0, &whole, &got, &w, &h, &err), ERR_FORMAT,
                "frame 5 is 64x64", &err);
}

/* Guard bytes round the output of every odd size. */
static void nothing_is_written_outside(void **state)
{
    (void)state;
    make_clip(check_tmp_path("guard.mp4"), &quadrants);
    static const int sizes[][2] = {{1, 1}, {3, 5}, {17, 31}, {480, 1}, {1, 720}, {101, 67}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int mode = FIT_COVER; mode <= FIT_STRETCH; mode++) {
            uint8_t *rgb = check_guarded((int64_t)sizes[i][0] * sizes[i][1] * 3);
            first_frame(check_tmp_path("guard.mp4"), sizes[i][0], sizes[i][1], (FitMode)mode, rgb, NULL);
            check_guards(rgb);
            check_guarded_free(rgb);
        }
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_follow_the_integer_rules),
        cmocka_unit_test(patches_within_one_level),
        cmocka_unit_test(untagged_colour_is_guessed_by_the_rule),
        cmocka_unit_test(hdr_is_refused_on_use),
        cmocka_unit_test(all_eight_orientations),
        cmocka_unit_test(pixel_aspect_is_honoured),
        cmocka_unit_test(one_field_of_interlaced_material),
        cmocka_unit_test(size_change_mid_stream),
        cmocka_unit_test(nothing_is_written_outside),
    };
    return check_run_live("media: geometry and colour", tests);
}
