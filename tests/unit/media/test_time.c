/* Which frames come out, when, and which of them are damaged: clips whose frames carry their number
 * as a bar code. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "unit/clip_maker.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

enum { W = 128, H = 32 };

static const Clip number_clip = {.container = "mp4",
                                 .codec = "libx264",
                                 .options = "crf=18:preset=ultrafast:threads=1",
                                 .format = AV_PIX_FMT_YUV420P,
                                 .width = W,
                                 .height = H,
                                 .time_base = {1, 25},
                                 .frames = 40,
                                 .b_frames = 3,
                                 .draw = draw_number};

/* Reads the clip: frame i must show number first + i, at exactly (pts[i]-pts[0]) * tb (pts NULL:
 * i). Returns the frames. */
static int64_t check_numbers(const char *path, const int64_t *pts, AVRational tb, int assumed, VideoCounts *counts)
{
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    static uint8_t rgb[W * H * 3];
    CHECK_OK(video_open(&r, path, NULL, &err), &err);
    FitPlan plan = fit_plan(video_info(r), W, H, FIT_STRETCH, 0, 0);
    int64_t n = 0, last = INT64_MIN;
    int rc;
    while ((rc = video_next(r, &f, &err)) == 1) {
        CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
        int shown = read_number(rgb, W, H);
        if (shown != n)
            fail_msg("%s: frame %d shows number %d", path, (int)n, shown);
        __int128 want = (__int128)(pts ? pts[n] - pts[0] : n) * tb.num;
        if (want * f.time.den != (__int128)f.time.num * tb.den)
            fail_msg("%s: frame %d at %lld/%lld", path, (int)n, (long long)f.time.num, (long long)f.time.den);
        assert_int_equal(f.index, n);
        assert_int_equal(f.pts_assumed, assumed);
        assert_true(f.pts > last);
        assert_false(f.damaged);
        last = f.pts;
        n++;
    }
    CHECK_OK(rc, &err);
    if (counts)
        *counts = video_counts(r);
    assert_int_equal(video_next(r, &f, &err), 0); /* the end stays the end */
    video_close(&r);
    return n;
}

static void every_rate_keeps_exact_times(void **state)
{
    (void)state;
    static const AVRational frame_times[] = {{1001, 24000}, {1, 24}, {1, 25}, {1001, 30000}, {1, 30}, {1, 50}, {1, 60}};
    const char *path = check_tmp_path("rate.mp4");
    for (size_t i = 0; i < sizeof frame_times / sizeof *frame_times; i++)
        for (int b_frames = 0; b_frames <= 3; b_frames += 3) {
            Clip c = number_clip;
            c.time_base = frame_times[i];
            c.b_frames = b_frames;
            make_clip(path, &c);
            assert_int_equal(check_numbers(path, NULL, c.time_base, 0, NULL), c.frames);
        }
}

static void variable_rate_and_offset(void **state)
{
    (void)state;
    int64_t pts[40];
    for (int i = 0; i < 40; i++)
        pts[i] = 123457 + 3003 * i + (i * i * 7) % 1500 + (i > 20 ? 90000 : 0);
    static const char *const containers[] = {"mp4", "mpegts"};
    for (int i = 0; i < 2; i++) {
        Clip c = number_clip;
        c.container = containers[i];
        c.time_base = (AVRational){1, 90000};
        c.pts = pts;
        make_clip(check_tmp_path("vfr"), &c);
        assert_int_equal(check_numbers(check_tmp_path("vfr"), pts, c.time_base, 0, NULL), 40);
    }
    for (int i = 0; i < 40; i++)
        pts[i] = 500 + 40 * i + i % 3;
    Clip c = number_clip;
    c.container = "matroska";
    c.time_base = (AVRational){1, 1000};
    c.pts = pts;
    make_clip(check_tmp_path("vfr"), &c);
    assert_int_equal(check_numbers(check_tmp_path("vfr"), pts, c.time_base, 0, NULL), 40);
}

static void missing_times_are_assumed_and_said_so(void **state)
{
    (void)state;
    Clip c = number_clip;
    c.container = "h264"; /* a bare stream has no timestamps */
    c.time_base = (AVRational){1, 24};
    make_clip(check_tmp_path("raw.h264"), &c);
    assert_int_equal(check_numbers(check_tmp_path("raw.h264"), NULL, c.time_base, 1, NULL), 40);
}

static void frames_that_go_back_are_dropped_and_counted(void **state)
{
    (void)state;
    static const int64_t pts[] = {0, 40, 80, 80, 120, 160};
    Clip c = {.container = "matroska",
              .codec = "ffv1",
              .format = AV_PIX_FMT_YUV420P,
              .width = W,
              .height = H,
              .time_base = {1, 1000},
              .pts = pts,
              .frames = 6,
              .draw = draw_number};
    make_clip(check_tmp_path("back.mkv"), &c);
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    CHECK_OK(video_open(&r, check_tmp_path("back.mkv"), NULL, &err), &err);
    int rc, n = 0;
    while ((rc = video_next(r, &f, &err)) == 1) {
        assert_int_equal(f.index, n);
        assert_int_equal(f.pts, 40 * n);
        n++;
    }
    CHECK_OK(rc, &err);
    assert_int_equal(n, 5);
    assert_int_equal(video_counts(r).dropped_unordered, 1);
    video_close(&r);
}

static void damage_lasts_until_the_next_key_frame(void **state)
{
    (void)state;
    for (int b_frames = 0; b_frames <= 2; b_frames += 2) {
        Clip c = number_clip;
        c.frames = 48;
        c.b_frames = b_frames;
        c.options = "crf=18:preset=ultrafast:threads=1:x264-params=keyint=12\\:scenecut=0\\:open-gop=0";
        c.corrupt_packet = 15;
        make_clip(check_tmp_path("damaged.mp4"), &c);
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        CHECK_OK(video_open(&r, check_tmp_path("damaged.mp4"), NULL, &err), &err);
        int rc, marked = 0;
        static uint8_t rgb[W * H * 3];
        FitPlan plan = fit_plan(video_info(r), W, H, FIT_STRETCH, 0, 0);
        while ((rc = video_next(r, &f, &err)) == 1) {
            int64_t k = f.pts * 25 * video_info(r)->time_base.num / video_info(r)->time_base.den;
            CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
            if (!f.damaged)
                assert_int_equal(read_number(rgb, W, H), k); /* what is called whole is whole */
            if (k < 12 - b_frames || k >= 24)
                assert_false(f.damaged);
            if (k >= 20 && k < 24)
                assert_true(f.damaged);
            marked += f.damaged;
        }
        CHECK_OK(rc, &err);
        VideoCounts counts = video_counts(r);
        assert_int_equal(counts.packets, 48);
        assert_int_equal(counts.damaged_frames, marked);
        assert_true(marked >= 8 && marked <= 12);
        video_close(&r);
    }
}

static void write_text(const char *path, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_atomic(path, text, (int64_t)strlen(text), &err), &err);
}

static void what_is_no_video_is_refused(void **state)
{
    (void)state;
    Err err = {0};
    VideoReader *r = NULL;
    CHECK_FAILS(video_open(&r, check_tmp_path("absent.mp4"), NULL, &err), ERR_NOTFOUND, "absent.mp4", &err);
    write_text(check_tmp_path("zero.mp4"), "");
    CHECK_FAILS(video_open(&r, check_tmp_path("zero.mp4"), NULL, &err), ERR_FORMAT, "0 bytes", &err);
    write_text(check_tmp_path("page.mp4"), "<html><body>404 Not Found</body></html>\n");
    CHECK_FAILS(video_open(&r, check_tmp_path("page.mp4"), NULL, &err), ERR_FORMAT, "page.mp4", &err);
    write_text(check_tmp_path("notes.mp4"), "A red dress with long sleeves.\nA blue coat.\n");
    CHECK_FAILS(video_open(&r, check_tmp_path("notes.mp4"), NULL, &err), ERR_FORMAT, "notes.mp4", &err);
    CHECK_FAILS(video_open(&r, check_tmp(), NULL, &err), ERR_FORMAT, "not a regular file", &err);
    assert_int_equal(mkfifo(check_tmp_path("pipe.mp4"), 0600), 0);
    CHECK_FAILS(video_open(&r, check_tmp_path("pipe.mp4"), NULL, &err), ERR_FORMAT, "not a regular file", &err);
    CHECK_FAILS(video_open(&r, "concat:a.mp4|b.mp4", NULL, &err), ERR_NOTFOUND, "concat:", &err);
    assert_null(r);
}

static void what_points_elsewhere_is_refused(void **state)
{
    (void)state;
    make_clip(check_tmp_path("real.mp4"), &number_clip);
    static const char list[] = "ffconcat version 1.0\nfile 'real.mp4'\n";
    static const char playlist[] = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nreal.mp4\n#EXT-X-ENDLIST\n";
    static const char session[] =
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n";
    const char *const texts[] = {list, playlist, session};
    for (int i = 0; i < 3; i++) {
        Err err = {0};
        VideoReader *r = NULL;
        write_text(check_tmp_path("list.mp4"), texts[i]);
        CHECK_FAILS(video_open(&r, check_tmp_path("list.mp4"), NULL, &err), ERR_FORMAT, "list.mp4", &err);
    }
}

static void draw_silence(AVFrame *f, int k, const void *user)
{
    (void)k;
    (void)user;
    memset(f->data[0], 0, (size_t)f->linesize[0]);
}

static void make_audio(const char *path)
{
    AVFormatContext *fmt = NULL;
    assert_true(avformat_alloc_output_context2(&fmt, NULL, "matroska", path) >= 0);
    AVStream *st = avformat_new_stream(fmt, NULL);
    AVCodecParameters *p = st->codecpar;
    p->codec_type = AVMEDIA_TYPE_AUDIO;
    p->codec_id = AV_CODEC_ID_PCM_S16LE;
    p->sample_rate = 8000;
    av_channel_layout_default(&p->ch_layout, 1);
    p->bits_per_coded_sample = 16;
    st->time_base = (AVRational){1, 8000};
    assert_true(avio_open(&fmt->pb, path, AVIO_FLAG_WRITE) >= 0);
    assert_true(avformat_write_header(fmt, NULL) >= 0);
    AVPacket *pkt = av_packet_alloc();
    assert_true(av_new_packet(pkt, 16000) >= 0);
    memset(pkt->data, 0, 16000);
    pkt->pts = pkt->dts = 0;
    assert_true(av_write_frame(fmt, pkt) >= 0);
    assert_true(av_write_trailer(fmt) >= 0);
    av_packet_free(&pkt);
    avio_closep(&fmt->pb);
    avformat_free_context(fmt);
}

static void odd_but_honest_files(void **state)
{
    (void)state;
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    make_audio(check_tmp_path("sound.mkv"));
    CHECK_FAILS(video_open(&r, check_tmp_path("sound.mkv"), NULL, &err), ERR_FORMAT, "no video stream", &err);

    Clip dot = {.container = "mp4",
                .codec = "libx264",
                .options = "qp=0:threads=1",
                .format = AV_PIX_FMT_YUV444P,
                .width = 1,
                .height = 1,
                .time_base = {1, 1},
                .frames = 3,
                .draw = draw_silence};
    make_clip(check_tmp_path("-dot-.mp4"), &dot); /* 1x1, and a name that starts with a dash */
    CHECK_OK(video_open(&r, check_tmp_path("-dot-.mp4"), NULL, &err), &err);
    assert_true(video_info(r)->width == 1 && video_info(r)->height == 1);
    uint8_t rgb[8 * 8 * 3];
    FitPlan plan = fit_plan(video_info(r), 8, 8, FIT_COVER, 0.5, 0.5);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(video_next(r, &f, &err), 1);
        CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
    }
    assert_int_equal(video_next(r, &f, &err), 0);
    video_close(&r);
}

static void truncated_files(void **state)
{
    (void)state;
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    char *bytes = NULL;
    int64_t size;
    make_clip(check_tmp_path("whole.mp4"), &number_clip); /* its index is at the end */
    CHECK_OK(file_read(check_tmp_path("whole.mp4"), 1 << 24, &bytes, &size, &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("cut.mp4"), bytes, size * 4 / 5, &err), &err);
    CHECK_FAILS(video_open(&r, check_tmp_path("cut.mp4"), NULL, &err), ERR_FORMAT, "cut.mp4", &err);
    mem_free(bytes);

    uint8_t *rgb = calloc(20, 64 * 64 * 3); /* Weft's own MP4s have it in front */
    for (int i = 0; i < 20 * 64 * 64 * 3; i++)
        rgb[i] = (uint8_t)((i / 7) ^ (i / 911));
    VideoWriter *w = NULL;
    VideoWriterParams p = {.codec = VIDEO_H264, .width = 64, .height = 64, .rate = {8, 1}};
    CHECK_OK(video_create(&w, check_tmp_path("front.mp4"), &p, &err), &err);
    for (int k = 0; k < 20; k++)
        CHECK_OK(video_write(w, rgb + k * 64 * 64 * 3, &err), &err);
    CHECK_OK(video_finish(&w, &err), &err);
    free(rgb);
    CHECK_OK(file_read(check_tmp_path("front.mp4"), 1 << 24, &bytes, &size, &err), &err);
    CHECK_OK(file_write_atomic(check_tmp_path("cut.mp4"), bytes, size * 3 / 5, &err), &err);
    mem_free(bytes);
    CHECK_OK(video_open(&r, check_tmp_path("cut.mp4"), NULL, &err), &err);
    assert_int_equal(video_info(r)->frames_hint, 20);
    int rc, n = 0;
    while ((rc = video_next(r, &f, &err)) == 1)
        n++;
    CHECK_OK(rc, &err);
    assert_true(n >= 5 && n <= 15);
    video_close(&r);
}

static void limits_hold(void **state)
{
    (void)state;
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    const char *path = check_tmp_path("limits.mp4");
    make_clip(path, &number_clip);
    VideoLimits few_pixels = {.max_pixels = W * H - 1}, few_frames = {.max_frames = 7}, no_time = {.max_seconds = 1e-9};
    CHECK_FAILS(video_open(&r, path, &few_pixels, &err), ERR_LIMIT, "128x32", &err);
    CHECK_OK(video_open(&r, path, &few_frames, &err), &err);
    for (int k = 0; k < 7; k++)
        assert_int_equal(video_next(r, &f, &err), 1);
    CHECK_FAILS(video_next(r, &f, &err), ERR_LIMIT, "more than 7 frames", &err);
    video_close(&r);
    CHECK_FAILS(video_open(&r, path, &no_time, &err), ERR_LIMIT, "time limit", &err);
}

static void threads_change_nothing(void **state)
{
    (void)state;
    const char *path = check_tmp_path("threads.mp4");
    make_clip(path, &number_clip);
    uint8_t *frames[2];
    for (int i = 0; i < 2; i++) {
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        VideoLimits limits = {.threads = i ? 4 : 1};
        CHECK_OK(video_open(&r, path, &limits, &err), &err);
        FitPlan plan = fit_plan(video_info(r), 60, 90, FIT_COVER, 0.5, 0.5);
        frames[i] = calloc(40, 60 * 90 * 3);
        int rc, n = 0;
        while ((rc = video_next(r, &f, &err)) == 1)
            CHECK_OK(video_to_rgb(r, &f, &plan, frames[i] + n++ * 60 * 90 * 3, &err), &err);
        CHECK_OK(rc, &err);
        assert_int_equal(n, 40);
        video_close(&r);
    }
    assert_memory_equal(frames[0], frames[1], 40 * 60 * 90 * 3);
    free(frames[0]);
    free(frames[1]);
}

/* VP8 takes any bytes for a picture: only Matroska's own checksums tell. */
static void a_wrong_checksum_is_damage(void **state)
{
    (void)state;
    Err err = {0};
    const char *path = check_tmp_path("checksum.mkv");
    Clip c = number_clip;
    c.container = "matroska";
    c.codec = "libvpx";
    c.options = "deadline=realtime:cpu-used=8";
    c.b_frames = 0;
    c.gop = 10;
    make_clip(path, &c);
    char *bytes;
    int64_t size, n = 0, damaged = 0;
    CHECK_OK(file_read(path, 1 << 24, &bytes, &size, &err), &err);
    for (int flip = 0; flip < 2; flip++) {
        VideoReader *r = NULL;
        VideoFrame f;
        int rc;
        bytes[size - size / 4] ^= (char)(flip << 3); /* in the last cluster */
        CHECK_OK(file_write_atomic(path, bytes, size, &err), &err);
        CHECK_OK(video_open(&r, path, NULL, &err), &err);
        for (n = damaged = 0; (rc = video_next(r, &f, &err)) == 1; n++)
            damaged += f.damaged;
        CHECK_OK(rc, &err);
        video_close(&r);
        assert_true(n > 0 && !flip == !damaged);
    }
    mem_free(bytes);
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rate_keeps_exact_times),
        cmocka_unit_test(variable_rate_and_offset),
        cmocka_unit_test(missing_times_are_assumed_and_said_so),
        cmocka_unit_test(frames_that_go_back_are_dropped_and_counted),
        cmocka_unit_test(damage_lasts_until_the_next_key_frame),
        cmocka_unit_test(what_is_no_video_is_refused),
        cmocka_unit_test(what_points_elsewhere_is_refused),
        cmocka_unit_test(odd_but_honest_files),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_wrong_checksum_is_damage),
        cmocka_unit_test(threads_change_nothing),
    };
    return check_run_live("media: time, damage, bad input", tests);
}
