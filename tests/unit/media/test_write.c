/* What common/media writes comes back: FFV1 to the bit and to the byte, H.264 with its tags, PNG. */
#include <libavformat/avformat.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/media/media_internal.h"

/* n frames of noise over a moving ramp: every byte value, nothing a lossy coder keeps. */
static uint8_t *noise_clip(int64_t n, int64_t w, int64_t h)
{
    uint8_t *rgb = malloc((size_t)(n * w * h * 3));
    assert_non_null(rgb);
    Philox p = philox_stream(check_seed(), RNG_TEST, 0, (uint64_t)(w * h));
    for (int64_t i = 0; i < n * w * h * 3; i++)
        rgb[i] = (uint8_t)(philox_u32(&p, (uint64_t)i) & (i % 7 ? 31 : 255)) + (uint8_t)(i / 5);
    return rgb;
}

/* A smooth moving picture: what a lossy coder keeps well. */
static uint8_t *smooth_clip(int64_t n, int64_t w, int64_t h)
{
    uint8_t *rgb = malloc((size_t)(n * w * h * 3));
    assert_non_null(rgb);
    for (int64_t k = 0; k < n; k++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++) {
                uint8_t *p = rgb + ((k * h + y) * w + x) * 3;
                double s = sin(0.05 * (double)(x + 2 * k)), c = cos(0.04 * (double)(y - k));
                p[0] = (uint8_t)lround(128 + 60 * s);
                p[1] = (uint8_t)lround(128 + 60 * c);
                p[2] = (uint8_t)lround(128 + 40 * s * c);
            }
    return rgb;
}

static void write_clip(const char *path, const VideoWriterParams *p, const uint8_t *rgb, int64_t n)
{
    Err err = {0};
    VideoWriter *w = NULL;
    CHECK_OK(video_create(&w, path, p, &err), &err);
    for (int64_t k = 0; k < n; k++)
        CHECK_OK(video_write(w, rgb + k * p->width * p->height * 3, &err), &err);
    CHECK_OK(video_finish(&w, &err), &err);
    assert_null(w);
}

static void ffv1_keeps_every_bit(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{48, 72, 13}, {480, 720, 2}, {37, 53, 3},
                                       {16, 16, 1},  {17, 211, 2},  {16, 31, 5}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t w = sizes[i][0], h = sizes[i][1], n = sizes[i][2], got_n, got_w, got_h;
        uint8_t *rgb = noise_clip(n, w, h), *got = NULL;
        const char *path = check_tmp_path("ffv1.mkv");
        VideoWriterParams p = {.codec = VIDEO_FFV1, .width = w, .height = h, .rate = {8, 1}};
        write_clip(path, &p, rgb, n);
        Err err = {0};
        CHECK_OK(video_read_rgb(path, n, w, h, &got, &got_n, &got_w, &got_h, &err), &err);
        assert_int_equal(got_n, n);
        assert_int_equal(got_w, w);
        assert_int_equal(got_h, h);
        assert_memory_equal(got, rgb, (size_t)(n * w * h * 3));
        mem_free(got);
        CHECK_FAILS(video_read_rgb(path, n + 1, 0, 0, &got, &got_n, &got_w, &got_h, &err), ERR_FORMAT, "expected",
                    &err);
        CHECK_FAILS(video_read_rgb(path, 0, w + 1, 0, &got, &got_n, &got_w, &got_h, &err), ERR_FORMAT, "expected",
                    &err);
        if (n > 1)
            CHECK_FAILS(video_read_rgb(path, n - 1, 0, 0, &got, &got_n, &got_w, &got_h, &err), ERR_FORMAT, "more than",
                        &err);
        free(rgb);
    }
}

static void same_frames_same_bytes(void **state)
{
    (void)state;
    static const char *const metadata[] = {"prompt", "a red dress", "seed", "7", NULL};
    uint8_t *rgb = smooth_clip(9, 64, 96);
    for (int codec = VIDEO_FFV1; codec <= VIDEO_H264; codec++) {
        VideoWriterParams p = {
            .codec = (VideoCodec)codec, .width = 64, .height = 96, .rate = {8, 1}, .metadata = metadata};
        char *a = NULL, *b = NULL;
        int64_t na, nb;
        Err err = {0};
        write_clip(check_tmp_path("one"), &p, rgb, 9);
        write_clip(check_tmp_path("two"), &p, rgb, 9);
        CHECK_OK(file_read(check_tmp_path("one"), 1 << 24, &a, &na, &err), &err);
        CHECK_OK(file_read(check_tmp_path("two"), 1 << 24, &b, &nb, &err), &err);
        assert_int_equal(na, nb);
        assert_memory_equal(a, b, (size_t)na);
        mem_free(a);
        mem_free(b);
    }
    free(rgb);
}

/* One flipped bit anywhere in the pictures must be noticed: FFV1's slices carry CRCs. */
static void a_flipped_bit_is_noticed(void **state)
{
    (void)state;
    uint8_t *rgb = noise_clip(4, 64, 64), *got = NULL;
    VideoWriterParams p = {.codec = VIDEO_FFV1, .width = 64, .height = 64, .rate = {8, 1}};
    const char *path = check_tmp_path("flip.mkv");
    write_clip(path, &p, rgb, 4);
    char *bytes = NULL;
    int64_t size, n, w, h;
    Err err = {0};
    CHECK_OK(file_read(path, 1 << 24, &bytes, &size, &err), &err);
    /* well inside the frames: 4 * 64 * 64 noisy pixels are all of the file but its ends */
    for (int i = 0; i < 24; i++) {
        int64_t at = size / 8 + (size * 3 / 4) * i / 24;
        bytes[at] ^= (char)(1 << i % 8);
        CHECK_OK(file_write_atomic(path, bytes, size, &err), &err);
        bytes[at] ^= (char)(1 << i % 8);
        int rc = video_read_rgb(path, 4, 64, 64, &got, &n, &w, &h, &err);
        if (rc == 0)
            fail_msg("bit %d of byte %lld of %lld flipped, and nobody noticed", i % 8, (long long)at, (long long)size);
        err_clear(&err);
    }
    mem_free(bytes);
    free(rgb);
}

static void h264_is_tagged_timed_and_described(void **state)
{
    (void)state;
    static const char *const metadata[] = {
        "prompt", "A \"red\" dress;\nlong = sleeves \xC3\xA9", "seed", "18446744073709551615", "weft_model", "demo",
        NULL};
    enum { N = 48, W = 96, H = 144 };
    uint8_t *rgb = smooth_clip(N, W, H), *got = NULL;
    VideoWriterParams p = {.codec = VIDEO_H264, .width = W, .height = H, .rate = {8, 1}, .metadata = metadata};
    const char *path = check_tmp_path("out.mp4");
    write_clip(path, &p, rgb, N);
    Err err = {0};
    VideoReader *r = NULL;
    CHECK_OK(video_open(&r, path, NULL, &err), &err);
    const VideoInfo *info = video_info(r);
    assert_string_equal(info->codec, "h264");
    assert_string_equal(info->pixel_format, "yuv420p");
    assert_string_equal(info->matrix, "bt709");
    assert_string_equal(info->range, "tv");
    assert_string_equal(info->transfer, "bt709");
    assert_string_equal(info->primaries, "bt709");
    assert_int_equal(info->guessed, 0);
    assert_int_equal(info->frames_hint, N);
    assert_true(info->avg_rate.num == 8 && info->avg_rate.den == 1 && !info->vfr);
    check_value("duration", info->duration_s, 6, 0, 0);
    VideoFrame f;
    int rc;
    int64_t k = 0;
    while ((rc = video_next(r, &f, &err)) == 1) {
        assert_true(f.time.num * 8 == k * f.time.den);
        k++;
    }
    CHECK_OK(rc, &err);
    assert_int_equal(k, N);
    video_close(&r);
    for (int i = 0; metadata[i]; i += 2) {
        char *value = video_metadata(path, metadata[i], &err);
        assert_string_equal(value, metadata[i + 1]);
        mem_free(value);
    }
    assert_null(video_metadata(path, "absent", &err));
    assert_int_equal(err.code, 0);
    int64_t n, w, h;
    CHECK_OK(video_read_rgb(path, N, W, H, &got, &n, &w, &h, &err), &err);
    double sum = 0;
    for (int64_t i = 0; i < N * W * H * 3; i++)
        sum += abs(got[i] - rgb[i]);
    check_value("mean error of crf 17 on a smooth picture", sum / (N * W * H * 3), 0, 2.0, 0);
    mem_free(got);
    free(rgb);
}

static void matroska_metadata_comes_back(void **state)
{
    (void)state;
    static const char *const metadata[] = {"source_id", "91+20mY7UJS", NULL};
    uint8_t *rgb = noise_clip(1, 16, 16);
    VideoWriterParams p = {.codec = VIDEO_FFV1, .width = 16, .height = 16, .rate = {8, 1}, .metadata = metadata};
    write_clip(check_tmp_path("m.mkv"), &p, rgb, 1);
    Err err = {0};
    char *value = video_metadata(check_tmp_path("m.mkv"), "source_id", &err);
    assert_string_equal(value, "91+20mY7UJS");
    mem_free(value);
    free(rgb);
}

static void png_keeps_every_bit(void **state)
{
    (void)state;
    uint8_t *rgb = noise_clip(1, 61, 47), *got = NULL;
    int64_t w, h;
    Err err = {0};
    const char *path = check_tmp_path("p.png");
    CHECK_OK(picture_write_png(path, rgb, 61, 47, &err), &err);
    CHECK_OK(picture_read(path, &got, &w, &h, &err), &err);
    assert_true(w == 61 && h == 47);
    assert_memory_equal(got, rgb, 61 * 47 * 3);
    mem_free(got);
    free(rgb);
}

static double mean_of(const uint8_t *rgb, int64_t n, int channel)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += rgb[i * 3 + channel];
    return sum / (double)n;
}

/* Saturated patches come back as they were meant: dithering keeps the mean colour of an area. */
static void gif_keeps_frames_and_colours(void **state)
{
    (void)state;
    static const uint8_t patch[5][3] = {{230, 20, 30}, {20, 200, 40}, {30, 40, 220}, {200, 200, 60}, {120, 120, 120}};
    const int64_t w = 64, h = 48, frame = w * h * 3;
    uint8_t *rgb = malloc((size_t)(5 * frame)), *got = NULL;
    Err err = {0};
    int64_t n, got_w, got_h;
    assert_non_null(rgb);
    for (int64_t i = 0; i < 5 * w * h; i++)
        memcpy(rgb + i * 3, patch[i / (w * h)], 3);
    VideoWriterParams p = {.codec = VIDEO_GIF, .width = w, .height = h, .rate = {8, 1}};
    write_clip(check_tmp_path("a.gif"), &p, rgb, 5);
    CHECK_OK(video_read_rgb(check_tmp_path("a.gif"), 5, w, h, &got, &n, &got_w, &got_h, &err), &err);
    for (int k = 0; k < 5; k++)
        for (int c = 0; c < 3; c++)
            check_value("mean of a patch", mean_of(got + k * frame, w * h, c), patch[k][c], 3, 0);
    mem_free(got);
    free(rgb);
}

/* "RIFF....WEBPVP8X", a frame ("ANMF") for each picture, and no end to the loop; FFmpeg 5 cannot read one. */
static void webp_is_animated(void **state)
{
    (void)state;
    Err err = {0};
    char *bytes = NULL;
    int64_t size, frames = 0;
    uint8_t *rgb = smooth_clip(7, 64, 48);
    VideoWriterParams p = {.codec = VIDEO_WEBP, .width = 64, .height = 48, .rate = {8, 1}};
    if (video_codec_check(VIDEO_WEBP, NULL) < 0) {
        free(rgb);
        skip(); /* an FFmpeg without libwebp */
    }
    write_clip(check_tmp_path("a.webp"), &p, rgb, 7);
    CHECK_OK(file_read(check_tmp_path("a.webp"), 1 << 20, &bytes, &size, &err), &err);
    assert_memory_equal(bytes, "RIFF", 4);
    assert_memory_equal(bytes + 8, "WEBPVP8X", 8);
    for (int64_t i = 12; i + 4 <= size; i++) {
        frames += memcmp(bytes + i, "ANMF", 4) == 0;
        if (memcmp(bytes + i, "ANIM", 4) == 0)
            assert_true(bytes[i + 12] == 0 && bytes[i + 13] == 0);
    }
    assert_int_equal(frames, 7);
    mem_free(bytes);
    free(rgb);
    p.width = 16384;
    VideoWriter *writer = NULL;
    CHECK_FAILS(video_create(&writer, check_tmp_path("b.webp"), &p, &err), ERR_USAGE, "1 to 16383 a side", &err);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    Err err = {0};
    VideoWriter *w = NULL;
    const char *path = check_tmp_path("never.mp4");
    VideoWriterParams p = {.codec = VIDEO_H264, .width = 63, .height = 64, .rate = {8, 1}};
    CHECK_FAILS(video_create(&w, path, &p, &err), ERR_USAGE, "even", &err);
    p.width = 0;
    CHECK_FAILS(video_create(&w, path, &p, &err), ERR_USAGE, "0x64", &err);
    p.width = 64, p.rate.den = 0;
    CHECK_FAILS(video_create(&w, path, &p, &err), ERR_USAGE, "rate", &err);
    p.rate.den = 1, p.width = 15, p.codec = VIDEO_FFV1;
    CHECK_FAILS(video_create(&w, path, &p, &err), ERR_USAGE, "15x64", &err);
    p.width = 64, p.codec = VIDEO_H264;
    CHECK_FAILS(video_create(&w, check_tmp_path("no/such/folder/a.mp4"), &p, &err), ERR_NOTFOUND, "no/such/folder",
                &err);
    CHECK_OK(video_create(&w, path, &p, &err), &err);
    CHECK_FAILS(video_finish(&w, &err), ERR_USAGE, "without frames", &err);
    assert_null(w);
    assert_false(file_exists(path));
    CHECK_OK(video_create(&w, path, &p, &err), &err);
    video_abort(&w);
    char **names = NULL;
    int64_t n;
    CHECK_OK(dir_list(check_tmp(), &names, &n, &err), &err);
    for (int64_t i = 0; i < n; i++)
        assert_null(strstr(names[i], "never"));
    dir_list_free(&names, n);
    CHECK_FAILS(picture_write_png(path, (const uint8_t *)"", 0, 1, &err), ERR_USAGE, "0x1", &err);
}

/* Room for a few kilobytes only, as on a full disk: an error, and nothing left behind. */
static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 20000;
    uint8_t *rgb = noise_clip(12, 64, 64);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (int codec = VIDEO_FFV1; codec <= VIDEO_H264; codec++) {
        VideoWriterParams p = {.codec = (VideoCodec)codec, .width = 64, .height = 64, .rate = {8, 1}, .crf = 1};
        Err err = {0};
        VideoWriter *w = NULL;
        CHECK_OK(video_create(&w, check_tmp_path("full.mkv"), &p, &err), &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        int rc = 0;
        for (int k = 0; k < 12 && rc == 0; k++)
            rc = video_write(w, rgb + k * 64 * 64 * 3, &err);
        if (rc == 0)
            rc = video_finish(&w, &err);
        video_abort(&w);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        CHECK_FAILS(rc, ERR_IO, "full.mkv", &err);
        assert_false(file_exists(check_tmp_path("full.mkv")));
    }
    signal(SIGXFSZ, handler);
    free(rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ffv1_keeps_every_bit),         cmocka_unit_test(same_frames_same_bytes),
        cmocka_unit_test(a_flipped_bit_is_noticed),     cmocka_unit_test(h264_is_tagged_timed_and_described),
        cmocka_unit_test(matroska_metadata_comes_back), cmocka_unit_test(png_keeps_every_bit),
        cmocka_unit_test(gif_keeps_frames_and_colours), cmocka_unit_test(webp_is_animated),
        cmocka_unit_test(bad_requests_are_refused),     cmocka_unit_test(a_full_disk_is_an_error),
    };
    return check_run_live("media: writing", tests);
}
