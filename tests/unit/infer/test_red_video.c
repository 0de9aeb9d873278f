/* The colours of what we write: eight saturated patches as H.264, decoded by libav alone (as PyAV does) and
 * by the whole chain frames, MP4, evaluate. */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "infer/evaluate.h"

enum { W = 160, H = 96, SIDE = 40, N = 6, PATCHES = 8 };

static const uint8_t patch[PATCHES][3] = {{255, 0, 0},   {0, 255, 0},   {0, 0, 255},     {255, 255, 0},
                                          {0, 255, 255}, {255, 0, 255}, {255, 255, 255}, {0, 0, 0}};
static Err err;

static void draw(uint8_t *rgb)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            memcpy(rgb + (y * W + x) * 3, patch[y / (H / 2) * 4 + x / SIDE], 3);
}

static void write_video(const char *path, VideoCodec codec)
{
    static uint8_t rgb[W * H * 3];
    VideoWriter *w = NULL;
    VideoWriterParams p = {.codec = codec, .width = W, .height = H, .rate = {8, 1}};

    draw(rgb);
    CHECK_OK(video_create(&w, path, &p, &err), &err);
    for (int k = 0; k < N; k++)
        CHECK_OK(video_write(w, rgb, &err), &err);
    CHECK_OK(video_finish(&w, &err), &err);
}

/* The middle of each patch of a frame, within three levels. */
static void check_patches(const uint8_t *rgb, int64_t stride)
{
    for (int i = 0; i < PATCHES; i++) {
        const uint8_t *p = rgb + (i / 4 * (H / 2) + H / 4) * stride + (i % 4 * SIDE + SIDE / 2) * 3;
        for (int c = 0; c < 3; c++)
            if (abs(p[c] - patch[i][c]) > 3)
                fail_msg("patch %d: %d %d %d, expected %d %d %d", i, p[0], p[1], p[2], patch[i][0], patch[i][1],
                         patch[i][2]);
    }
}

/* FFmpeg's own conversion, told nothing but what the decoded frame says of itself. */
static void frame_to_rgb(const AVFrame *f, uint8_t *rgb)
{
    struct SwsContext *sws = sws_getContext(f->width, f->height, f->format, f->width, f->height, AV_PIX_FMT_RGB24,
                                            SWS_BICUBIC, NULL, NULL, NULL);
    int stride[4] = {W * 3};
    uint8_t *to[4] = {rgb};

    assert_non_null(sws);
    assert_int_equal(f->colorspace, AVCOL_SPC_BT709);
    assert_int_equal(f->color_range, AVCOL_RANGE_MPEG);
    assert_int_equal(f->color_primaries, AVCOL_PRI_BT709);
    assert_true(sws_setColorspaceDetails(sws, sws_getCoefficients(SWS_CS_ITU709), 0, sws_getCoefficients(SWS_CS_ITU709),
                                         1, 0, 1 << 16, 1 << 16) >= 0);
    assert_int_equal(sws_scale(sws, (const uint8_t *const *)f->data, f->linesize, 0, H, to, stride), H);
    sws_freeContext(sws);
}

static void libav_sees_the_colours(void **state)
{
    const char *path = check_tmp_path("red.mp4");
    AVFormatContext *file = NULL;
    AVPacket *packet = av_packet_alloc();
    AVFrame *f = av_frame_alloc();
    static uint8_t rgb[W * H * 3];
    int frames = 0;

    (void)state;
    write_video(path, VIDEO_H264);
    assert_int_equal(avformat_open_input(&file, path, NULL, NULL), 0);
    assert_true(avformat_find_stream_info(file, NULL) >= 0);
    AVCodecContext *c = avcodec_alloc_context3(avcodec_find_decoder(file->streams[0]->codecpar->codec_id));
    assert_true(avcodec_parameters_to_context(c, file->streams[0]->codecpar) >= 0);
    assert_int_equal(avcodec_open2(c, NULL, NULL), 0);
    for (int end = 0; !end;) {
        end = av_read_frame(file, packet) < 0;
        assert_int_equal(avcodec_send_packet(c, end ? NULL : packet), 0);
        av_packet_unref(packet);
        while (avcodec_receive_frame(c, f) == 0) {
            frame_to_rgb(f, rgb);
            check_patches(rgb, W * 3);
            frames++;
        }
    }
    assert_int_equal(frames, N);
    avcodec_free_context(&c);
    av_frame_free(&f);
    av_packet_free(&packet);
    avformat_close_input(&file);
}

static void we_see_the_colours(void **state)
{
    uint8_t *rgb;
    int64_t n, w, h;

    (void)state;
    CHECK_OK(video_read_rgb(check_tmp_path("red.mp4"), N, W, H, &rgb, &n, &w, &h, &err), &err);
    for (int k = 0; k < N; k++)
        check_patches(rgb + k * W * H * 3, W * 3);
    mem_free(rgb);
}

/* The lossless original as reference: all colours but those along the patches' edges fall into the same bins. */
static void the_whole_chain(void **state)
{
    const char *red = check_tmp_path("red.mp4"), *lossless = check_tmp_path("red.mkv"), *out = check_tmp_path("out");
    EvaluateOptions o = {.common = {.quiet = 1, .seed = -1, .jobs = 1}, .out = out, .references = {&lossless, 1}};
    FILE *results = tmpfile();
    json_t *report = NULL;

    (void)state;
    write_video(lossless, VIDEO_FFV1);
    assert_non_null(results);
    CHECK_OK(evaluate_run(&o, &(StrList){&red, 1}, NULL, results, &err), &err);
    fclose(results);
    char *path = path_join(out, "metrics.json", &err);
    CHECK_OK(json_read_file(&report, path, &err), &err);
    const json_t *figures = json_object_get(report, "figures");
    double colours = json_number_value(json_object_get(json_object_get(figures, "colours"), "value"));
    if (!(colours < 0.25)) /* swapped or unconverted colours: above 0.7 */
        fail_msg("colour distance %g", colours);
    assert_true(json_number_value(json_object_get(json_object_get(figures, "motion"), "value")) == 0);
    assert_true(json_number_value(json_object_get(json_object_get(figures, "ssim"), "value")) > 0.999);
    json_decref(report);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(libav_sees_the_colours), cmocka_unit_test(we_see_the_colours),
                                       cmocka_unit_test(the_whole_chain)};
    return check_run_live("red video", tests);
}
