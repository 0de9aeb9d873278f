/* Sources as people have them: photographs that lie on their side, many tracks, strange optional facts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "unit/remake.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

/* ---- photographs ----------------------------------------------------------------------------- */
enum { PHOTO_W = 480, PHOTO_H = 320 };

/* Four quadrants of grey, 40 90 / 140 190, with noise round their middles so that the file is large. */
static void draw_photo(AVFrame *f, int k, const void *user)
{
    (void)k;
    (void)user;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            int grey = 40 + 50 * (x >= f->width / 2) + 100 * (y >= f->height / 2);
            int edge = abs(y % (f->height / 2) - f->height / 4) > 40;
            f->data[0][y * f->linesize[0] + x] = (uint8_t)(grey + (edge ? (x * 31 + y * 17) % 40 : 0));
        }
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * f->height / 2));
}

static void make_photo(const char *path)
{
    Clip c = {.container = "mjpeg",
              .codec = "mjpeg",
              .options = "qmin=2:qmax=2:strict=-1",
              .format = AV_PIX_FMT_YUVJ420P,
              .width = PHOTO_W,
              .height = PHOTO_H,
              .time_base = {1, 25},
              .frames = 1,
              .range = AVCOL_RANGE_JPEG,
              .draw = draw_photo};
    make_clip(path, &c);
}

/* The photograph with an Exif segment right behind its first marker; orientation 0: none. */
static void write_photo(const char *path, const char *plain, int orientation)
{
    uint8_t exif[36] = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1,
                        /* tag 0x0112, a 16-bit number, one of them */
                        0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, (uint8_t)orientation, 0, 0, 0, 0, 0, 0};
    Err err = {0};
    char *bytes = NULL;
    int64_t size;
    CHECK_OK(file_read(plain, 1 << 24, &bytes, &size, &err), &err);
    assert_true(size > 20000);
    char *all = malloc((size_t)size + sizeof exif);
    size_t n = orientation ? sizeof exif : 0;
    memcpy(all, bytes, 2);
    memcpy(all + 2, exif, n);
    memcpy(all + 2 + n, bytes + 2, (size_t)size - 2);
    CHECK_OK(file_write_atomic(path, all, size + (int64_t)n, &err), &err);
    free(all);
    mem_free(bytes);
}

static void photographs_stand_upright(void **state)
{
    (void)state;
    /* Where the stored quadrant (right, low) is shown: right' and low' as 0 or 1 xor one of the two. */
    static const struct {
        int swapped, flip_x, flip_y;
    } cases[9] = {{0, 0, 0}, {0, 0, 0}, {0, 1, 0}, {0, 1, 1}, {0, 0, 1}, {1, 0, 0}, {1, 1, 0}, {1, 1, 1}, {1, 0, 1}};
    /* the name decides nothing; the library would take 001.jpg for a sequence of files */
    static const char *const names[] = {"001.jpg", "frame_000001.jpeg", "photo.png", "photo"};
    make_photo(check_tmp_path("plain.mjpeg"));
    for (int orientation = 0; orientation <= 8; orientation++) {
        Err err = {0};
        const char *path = check_tmp_path(names[orientation % 4]);
        uint8_t *rgb = NULL;
        int64_t w, h;
        write_photo(path, check_tmp_path("plain.mjpeg"), orientation);
        CHECK_OK(picture_read(path, &rgb, &w, &h, &err), &err);
        int turned = cases[orientation].swapped;
        assert_true(w == (turned ? PHOTO_H : PHOTO_W) && h == (turned ? PHOTO_W : PHOTO_H));
        for (int low = 0; low < 2; low++)
            for (int right = 0; right < 2; right++) {
                int x = (turned ? low : right) ^ cases[orientation].flip_x;
                int y = (turned ? right : low) ^ cases[orientation].flip_y;
                int got = rgb[((h / 4 + y * h / 2) * w + w / 4 + x * w / 2) * 3], want = 40 + 50 * right + 100 * low;
                if (abs(got - want) > 2)
                    fail_msg("%s, orientation %d: quadrant %d,%d is %d, expected %d", names[orientation % 4],
                             orientation, x, y, got, want);
            }
        mem_free(rgb);
    }
}

enum { W = 128, H = 32 };
static const Clip numbers = {.container = "matroska",
                             .codec = "mpeg4",
                             .options = "qmin=2:qmax=2:flags=+cgop:sc_threshold=1000000000",
                             .format = AV_PIX_FMT_YUV420P,
                             .width = W,
                             .height = H,
                             .time_base = {1, 25},
                             .frames = 40,
                             .gop = 12,
                             .draw = draw_number};

/* ---- streams that begin between key frames --------------------------------------------------- */
static void the_first_picture_is_a_whole_one(void **state)
{
    (void)state;
    static const struct {
        const char *container, *codec, *options;
        int silent; /* its decoder conceals what is missing; the others leave it out themselves */
    } kinds[] = {
        {"mpegts", "libx265", "x265-params=keyint=12\\:min-keyint=12\\:scenecut=0\\:bframes=0\\:log-level=none", 1},
        {"matroska", "mpeg4", "qmin=2:qmax=2", 1},
        {"flv", "flv", "qmin=2:qmax=2", 1},
        {"asf", "wmv2", "qmin=2:qmax=2", 1},
        {"matroska", "libx264", "crf=18:preset=ultrafast:x264-params=keyint=12\\:scenecut=0", 0},
        {"mpegts", "mpeg2video", "qmin=2:qmax=2", 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!avcodec_find_encoder_by_name(kinds[i].codec)) {
            print_message("# no encoder %s\n", kinds[i].codec);
            continue;
        }
        Clip c = numbers;
        c.container = kinds[i].container;
        c.codec = kinds[i].codec;
        c.options = kinds[i].options;
        make_clip(check_tmp_path("whole"), &c);
        remake(check_tmp_path("whole"), check_tmp_path("inside"), &(Remake){.container = c.container, .drop = 5});
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        static uint8_t rgb[W * H * 3];
        CHECK_OK(video_open(&r, check_tmp_path("inside"), NULL, &err), &err);
        FitPlan plan = fit_plan(video_info(r), W, H, FIT_STRETCH, 0, 0);
        int rc, want = 12;
        while ((rc = video_next(r, &f, &err)) == 1) {
            CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
            int shown = read_number(rgb, W, H);
            if (f.damaged && !kinds[i].silent)
                continue; /* it says so itself */
            if (shown != want || f.damaged)
                fail_msg("%s: picture %d shows %d%s, expected %d", kinds[i].codec, (int)f.index, shown,
                         f.damaged ? ", damaged" : "", want);
            want++;
        }
        CHECK_OK(rc, &err);
        assert_int_equal(want, 40);
        /* left out by us or by the decoder: MPEG-4, FLV1, WMV2 and, before FFmpeg 8, HEVC give them, invented */
        assert_int_equal(video_counts(r).before_key, 7);
        video_close(&r);
    }
}

/* HEVC: pictures that are shown before the key frame they follow in the file (RASL), at the file's beginning. */
static void leading_pictures_are_counted(void **state)
{
    (void)state;
    if (!avcodec_find_encoder_by_name("libx265"))
        check_skip("no libx265");
    Clip c = numbers;
    c.container = "matroska";
    c.codec = "libx265";
    c.options =
        "x265-params=keyint=12\\:min-keyint=12\\:scenecut=0\\:open-gop=1\\:bframes=2\\:b-adapt=0\\:log-level=none";
    make_clip(check_tmp_path("open"), &c);
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    static uint8_t rgb[W * H * 3];
    int lost = 0;
    for (int drop = 10; drop < 16; drop++) { /* one of them leaves the second key frame at the beginning */
        remake(check_tmp_path("open"), check_tmp_path("lead"), &(Remake){.container = "matroska", .drop = drop});
        CHECK_OK(video_open(&r, check_tmp_path("lead"), NULL, &err), &err);
        FitPlan plan = fit_plan(video_info(r), W, H, FIT_STRETCH, 0, 0);
        int rc, first = -1, n = 0;
        for (; (rc = video_next(r, &f, &err)) == 1; n++) {
            CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
            int shown = read_number(rgb, W, H);
            first = n ? first : shown;
            if (shown != first + n)
                fail_msg("%d packets less: picture %d shows %d, the first %d", drop, n, shown, first);
        }
        CHECK_OK(rc, &err);
        print_message("# %d packets less: first %d, %d pictures, %d left out\n", drop, first, n,
                      (int)video_counts(r).before_key);
        assert_int_equal(first + n, 40);
        assert_int_equal(n + video_counts(r).before_key, 40 - drop);
        lost += video_counts(r).before_key > 0;
        video_close(&r);
    }
    assert_true(lost > 3);
}

/* ---- lengths --------------------------------------------------------------------------------- */
static void the_length_is_the_pictures_own(void **state)
{
    (void)state;
    make_clip(check_tmp_path("short"), &numbers);
    static const struct {
        const char *container;
        double own; /* the track's length where the container has it; 0: it has only that of the longest */
    } kinds[] = {{"matroska", 1.6}, {"asf", 0}, {"avi", 1.6}, {"mov", 1.6}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        const char *path = check_tmp_path("long");
        remake(check_tmp_path("short"), path, &(Remake){.container = kinds[i].container, .sounds = 1, .sound_s = 4});
        CHECK_OK(video_open(&r, path, NULL, &err), &err);
        const VideoInfo *v = video_info(r);
        assert_int_equal(v->duration_shared, kinds[i].own == 0);
        if (kinds[i].own > 0)
            check_value(kinds[i].container, v->duration_s, kinds[i].own, 0.05, 0);
        int rc, n = 0;
        while ((rc = video_next(r, &f, &err)) == 1)
            n++;
        CHECK_OK(rc, &err);
        assert_int_equal(n, 40);
        if (v->duration_shared) { /* the file was read to its end, and that is what it promised */
            assert_true(v->duration_s > 3.9);
            assert_true(video_counts(r).end_s > 0.95 * v->duration_s);
        }
        video_close(&r);
    }
}

static void many_tracks(void **state)
{
    (void)state;
    Err err = {0};
    VideoReader *r = NULL;
    make_clip(check_tmp_path("short"), &numbers);
    for (int sounds = 16; sounds <= 300; sounds += 284) {
        remake(check_tmp_path("short"), check_tmp_path("many"),
               &(Remake){.container = "matroska", .sounds = sounds, .sound_s = 0.1});
        if (sounds == 16) {
            CHECK_OK(video_open(&r, check_tmp_path("many"), NULL, &err), &err);
            video_close(&r);
        } else {
            CHECK_FAILS(video_open(&r, check_tmp_path("many"), NULL, &err), ERR_LIMIT, "more than 256 streams", &err);
        }
    }
}

/* ---- optional facts -------------------------------------------------------------------------- */
static void a_strange_matrix_turns_nothing(void **state)
{
    (void)state;
    static const int32_t matrices[][9] = {{0}, {46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30}};
    for (int i = 0; i < 2; i++) {
        Err err = {0};
        VideoReader *r = NULL;
        Clip c = numbers;
        c.container = "mp4";
        c.matrix = matrices[i];
        make_clip(check_tmp_path("matrix.mp4"), &c);
        CHECK_OK(video_open(&r, check_tmp_path("matrix.mp4"), NULL, &err), &err);
        const VideoInfo *v = video_info(r);
        assert_int_equal(v->matrix_refused, 1);
        assert_true(v->rotation == 0 && v->flip == 0 && v->display_width == W && v->display_height == H);
        video_close(&r);
    }
}

static void dolby_vision_for_its_own_players(void **state)
{
    (void)state;
    static const struct {
        int profile, compatibility;
        VideoHdr hdr;
    } cases[] = {{5, 0, VIDEO_HDR_DOLBY}, {10, 0, VIDEO_HDR_DOLBY}, {8, 2, VIDEO_SDR}};
    Clip c = numbers;
    c.container = "mp4";
    c.codec = "libx264";
    c.options = "crf=18:preset=ultrafast";
    make_clip(check_tmp_path("plain.mp4"), &c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        static uint8_t rgb[W * H * 3];
        remake(check_tmp_path("plain.mp4"), check_tmp_path("dolby.mp4"),
               &(Remake){.container = "mp4",
                         .dolby_profile = cases[i].profile,
                         .dolby_compatibility = cases[i].compatibility});
        CHECK_OK(video_open(&r, check_tmp_path("dolby.mp4"), NULL, &err), &err);
        assert_int_equal(video_info(r)->dolby_profile, cases[i].profile);
        assert_int_equal(video_info(r)->hdr, cases[i].hdr);
        FitPlan plan = fit_plan(video_info(r), W, H, FIT_STRETCH, 0, 0);
        plan.tone_map = 1; /* not even then */
        assert_int_equal(video_next(r, &f, &err), 1);
        int rc = video_to_rgb(r, &f, &plan, rgb, &err);
        if (cases[i].hdr == VIDEO_HDR_DOLBY)
            CHECK_FAILS(rc, ERR_UNSUPPORTED, "Dolby Vision", &err);
        else
            CHECK_OK(rc, &err);
        video_close(&r);
    }
}

/* ---- fields ---------------------------------------------------------------------------------- */
/* White and black rows: what one field shows is white. */
static void draw_rows(AVFrame *f, int k, const void *user)
{
    (void)k;
    (void)user;
    for (int y = 0; y < f->height; y++)
        memset(f->data[0] + y * f->linesize[0], y % 2 ? 16 : 235, (size_t)f->width);
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * f->height / 2));
}

static void append_file(const char *path, const char *part, int truncate)
{
    Err err = {0};
    char *bytes;
    int64_t size;
    CHECK_OK(file_read(part, 1 << 24, &bytes, &size, &err), &err);
    FILE *f = fopen(path, truncate ? "wb" : "ab");
    assert_int_equal(fwrite(bytes, 1, (size_t)size, f), (size_t)size);
    fclose(f);
    mem_free(bytes);
}

static void each_frame_has_its_own_fields(void **state)
{
    (void)state;
    enum { SIDE = 64 };
    for (int part = 0; part < 2; part++) {
        Clip c = {.container = "mpeg2video",
                  .codec = "mpeg2video",
                  .options = "qmin=1:qmax=1",
                  .format = AV_PIX_FMT_YUV420P,
                  .width = SIDE,
                  .height = SIDE,
                  .time_base = {1, 25},
                  .frames = 10,
                  .space = AVCOL_SPC_BT709,
                  .range = AVCOL_RANGE_MPEG,
                  .field_order = part ? AV_FIELD_TT : AV_FIELD_PROGRESSIVE,
                  .draw = draw_rows};
        make_clip(check_tmp_path("part.m2v"), &c);
        append_file(check_tmp_path("hybrid.m2v"), check_tmp_path("part.m2v"), !part);
    }
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    static uint8_t rgb[SIDE * SIDE * 3];
    CHECK_OK(video_open(&r, check_tmp_path("hybrid.m2v"), NULL, &err), &err);
    FitPlan plan = fit_plan(video_info(r), SIDE, SIDE, FIT_STRETCH, 0, 0);
    int rc, n = 0;
    for (; (rc = video_next(r, &f, &err)) == 1; n++) {
        CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
        for (int y = 8; y < SIDE - 8; y++) { /* all rows of the first ten, one field of the others */
            int got = rgb[(y * SIDE + SIDE / 2) * 3], want = n < 10 && y % 2 ? 0 : 255;
            if (abs(got - want) > 40)
                fail_msg("picture %d, row %d is %d, expected %d", n, y, got, want);
        }
    }
    CHECK_OK(rc, &err);
    assert_int_equal(n, 20);
    assert_int_equal(video_counts(r).interlaced_frames, 10);
    assert_int_equal(video_counts(r).combed_frames, 10);
    video_close(&r);
}

/* ---- transparency ---------------------------------------------------------------------------- */
/* The left half is green under alpha 0, the right half opaque red; a palette's entries 0 and 1. */
static void draw_cut_out(AVFrame *f, int k, const void *user)
{
    (void)user;
    (void)k;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            int right = x >= f->width / 2;
            switch (f->format) {
            case AV_PIX_FMT_ARGB: {
                const uint8_t argb[4] = {(uint8_t)(right * 255), (uint8_t)(right * 255), (uint8_t)(!right * 192), 0};
                memcpy(f->data[0] + y * f->linesize[0] + 4 * x, argb, 4);
                break;
            }
            case AV_PIX_FMT_RGBA: {
                const uint8_t rgba[4] = {(uint8_t)(right * 255), (uint8_t)(!right * 192), 0, (uint8_t)(right * 255)};
                memcpy(f->data[0] + y * f->linesize[0] + 4 * x, rgba, 4);
                break;
            }
            case AV_PIX_FMT_PAL8: {
                const uint32_t palette[2] = {0x0000C000, 0xFFFF0000};
                f->data[0][y * f->linesize[0] + x] = (uint8_t)right;
                memcpy(f->data[1], palette, sizeof palette);
                break;
            }
            default: { /* YUVA, BT.709 limited: green 134, 66, 48 and red 63, 102, 240 */
                static const int green[4] = {134, 66, 48, 0}, red[4] = {63, 102, 240, 255};
                int deep = f->format == AV_PIX_FMT_YUVA444P10, sub = !deep;
                for (int p = 0; p < 4; p++) {
                    int v = right ? red[p] : green[p], half = sub && (p == 1 || p == 2);
                    if (deep)
                        ((uint16_t *)(void *)(f->data[p] + y * f->linesize[p]))[x] = (uint16_t)(p == 3 ? v * 1023 / 255
                                                                                                       : 4 * v);
                    else if (!half || (x % 2 == 0 && y % 2 == 0))
                        f->data[p][(y >> half) * f->linesize[p] + (x >> half)] = (uint8_t)v;
                }
            }
            }
        }
}

static void hidden_colours_stay_hidden(void **state)
{
    (void)state;
    static const struct {
        const char *container, *codec, *options, *decoder;
        enum AVPixelFormat format;
    } kinds[] = {
        {"mov", "qtrle", NULL, "qtrle", AV_PIX_FMT_ARGB},
        {"mov", "png", NULL, "png", AV_PIX_FMT_RGBA},
        {"mov", "png", NULL, "png", AV_PIX_FMT_PAL8},
        {"mov", "prores_ks", "profile=4444", "prores", AV_PIX_FMT_YUVA444P10},
        {"gif", "gif", NULL, "gif", AV_PIX_FMT_PAL8},
        {"webm", "libvpx-vp9", "crf=4:b=0:auto-alt-ref=0:deadline=realtime:cpu-used=8", "libvpx-vp9",
         AV_PIX_FMT_YUVA420P},
        {"webm", "libvpx", "crf=4:b=2M:auto-alt-ref=0:deadline=realtime:cpu-used=8", "libvpx", AV_PIX_FMT_YUVA420P}};
    enum { SIDE = 64 };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!avcodec_find_encoder_by_name(kinds[i].codec) || !avcodec_find_decoder_by_name(kinds[i].decoder)) {
            print_message("# no codec %s\n", kinds[i].codec);
            continue;
        }
        Clip c = {.container = kinds[i].container,
                  .codec = kinds[i].codec,
                  .options = kinds[i].options,
                  .format = kinds[i].format,
                  .width = SIDE,
                  .height = SIDE,
                  .time_base = {1, 25},
                  .frames = 3,
                  .space = kinds[i].format == AV_PIX_FMT_YUVA444P10 || kinds[i].format == AV_PIX_FMT_YUVA420P
                               ? AVCOL_SPC_BT709
                               : 0,
                  .draw = draw_cut_out};
        for (int other = 0; other < 2; other++) {
            Err err = {0};
            VideoReader *r = NULL;
            VideoFrame f;
            uint8_t rgb[32 * 32 * 3];
            make_clip(check_tmp_path("alpha"), &c);
            CHECK_OK(video_open(&r, check_tmp_path("alpha"), NULL, &err), &err);
            assert_int_equal(video_info(r)->alpha, 1);
            FitPlan plan = fit_plan(video_info(r), 32, 32, FIT_STRETCH, 0, 0);
            if (other)
                memcpy(plan.background, (const uint8_t[3]){10, 20, 200}, 3);
            assert_int_equal(video_next(r, &f, &err), 1);
            CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
            for (int x = 0; x < 32; x++) {
                const uint8_t *got = rgb + (16 * 32 + x) * 3;
                const int left[3] = {other ? 10 : 255, other ? 20 : 255, other ? 200 : 255}, right[3] = {255, 0, 0};
                for (int k = 0; k < 3 && (x < 12 || x > 19); k++) /* chroma and compression blur the edge */
                    if (abs(got[k] - (x < 16 ? left : right)[k]) > 8)
                        fail_msg("%s: column %d is %d,%d,%d", kinds[i].codec, x, got[0], got[1], got[2]);
            }
            assert_int_equal(video_counts(r).transparent_frames, 1);
            video_close(&r);
        }
    }
}

/* Metadata of a bright display without PQ tags: HDR whose tags were lost.  A dim display says nothing. */
static void bright_displays_are_hdr(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        enum AVColorTransferCharacteristic transfer;
        VideoHdr hdr;
    } cases[] = {
        {"master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)", 0, VIDEO_HDR_METADATA},
        {"master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)", AVCOL_TRC_BT709,
         VIDEO_HDR_METADATA},
        {"max-cll=1000,400", 0, VIDEO_HDR_METADATA},
        {"master-display=G(15000,30000)B(7500,3000)R(32000,16500)WP(15635,16450)L(1000000,1)", 0, VIDEO_SDR},
        {"max-cll=203,203", 0, VIDEO_SDR},
    };
    if (!avcodec_find_encoder_by_name("libx265"))
        check_skip("no libx265");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Clip c = numbers;
        char options[256];
        snprintf(options, sizeof options, "x265-params=log-level=none\\:%s", cases[i].says);
        c.codec = "libx265";
        c.options = options;
        c.frames = 2;
        c.transfer = cases[i].transfer;
        make_clip(check_tmp_path("bright"), &c);
        Err err = {0};
        VideoReader *r = NULL;
        CHECK_OK(video_open(&r, check_tmp_path("bright"), NULL, &err), &err);
        if (video_info(r)->hdr != cases[i].hdr)
            fail_msg("%s: kind %d, expected %d", cases[i].says, video_info(r)->hdr, cases[i].hdr);
        video_close(&r);
    }
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(photographs_stand_upright),
        cmocka_unit_test(the_first_picture_is_a_whole_one),
        cmocka_unit_test(leading_pictures_are_counted),
        cmocka_unit_test(the_length_is_the_pictures_own),
        cmocka_unit_test(many_tracks),
        cmocka_unit_test(a_strange_matrix_turns_nothing),
        cmocka_unit_test(dolby_vision_for_its_own_players),
        cmocka_unit_test(bright_displays_are_hdr),
        cmocka_unit_test(each_frame_has_its_own_fields),
        cmocka_unit_test(hidden_colours_stay_hidden),
    };
    return check_run_live("media: sources", tests);
}
