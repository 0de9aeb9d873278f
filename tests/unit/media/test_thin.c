/* Frames that video_thin passes over: those no other frame refers to and no point is nearest to.  All others
 * are decoded to the same pixels, and every time is told. */
#include <math.h>
#include "unit/clip_maker.h"
#include "common/media/video.h"

enum { REFUSED = -1, GIVEN_UP = -2, W = 64, H = 96, FRAMES = 150 };

static void draw(AVFrame *f, int k, const void *user)
{
    draw_number(f, 0x5500 + k, user);
}

static void check_same_pixels(VideoReader *const r[2], const VideoFrame f[2])
{
    static uint8_t rgb[2][W * H * 3];
    Err err = {0};
    for (int i = 0; i < 2; i++) {
        FitPlan plan = fit_plan(video_info(r[i]), W, H, FIT_STRETCH, 0.5, 0.5);
        CHECK_OK(video_to_rgb(r[i], &f[i], &plan, rgb[i], &err), &err);
    }
    assert_memory_equal(rgb[0], rgb[1], sizeof rgb[0]);
}

/* How many frames are passed over when points of 1 / fps s are counted from frame `from`. */
static int passed(const char *path, int from, int64_t fps)
{
    VideoReader *r[2];
    VideoFrame f[2];
    Err err = {0};
    int rc[2], n = 0, thin = 0;
    double origin = 0;
    for (int i = 0; i < 2; i++)
        CHECK_OK(video_open(&r[i], path, NULL, &err), &err);
    for (;;) {
        for (int i = 0; i < 2; i++)
            rc[i] = video_next(r[i], &f[i], &err);
        if (rc[0] != 1)
            break;
        assert_int_equal(rc[1], 1);
        assert_int_equal(f[0].index, f[1].index);
        assert_int_equal(f[0].pts, f[1].pts);
        double at = (rational_value(f[0].time) - origin) * (double)fps;
        assert_int_equal(f[0].damaged, 0);
        if (f[0].av)
            check_same_pixels(r, f);
        else
            assert_true(thin && fabs(at - round(at)) > (double)fps / 24 / 2);
        n += !f[0].av;
        if (f[0].index == from) {
            origin = rational_value(f[0].time);
            if (!(thin = video_thin(r[0], fps)))
                n = REFUSED;
        }
        if (!thin && n == REFUSED)
            break;
    }
    if (rc[0] < 0) {
        assert_int_equal(rc[0], ERR_UNSUPPORTED);
        n = GIVEN_UP;
    } else if (thin) {
        assert_int_equal(rc[1], 0);
        assert_int_equal(video_counts(r[0]).frames, video_counts(r[1]).frames);
        assert_int_equal(video_counts(r[0]).packets, video_counts(r[1]).packets);
        assert_int_equal(video_counts(r[0]).decoded_frames + n, video_counts(r[1]).decoded_frames);
    }
    video_close(&r[0]);
    video_close(&r[1]);
    return n;
}

static int64_t uneven[FRAMES], late[FRAMES];

static void kinds_of_video(void **state)
{
    static const char b[] = "preset=fast:b_strategy=0:sc_threshold=0";
    const struct {
        const char *container, *codec, *options;
        int b_frames;
        const int64_t *pts;
        AVRational time_base;
        enum AVFieldOrder fields;
        int corrupt, fps, least, most;
    } cases[] = {
        /* of four frames two B frames are no one's reference, and one of three is the nearest to a point of 8 */
        {"mp4", "libx264", b, 3, NULL, {1, 24}, 0, 0, 8, FRAMES / 3 - 5, FRAMES / 3 + 5},
        {"matroska", "libx264", b, 3, NULL, {1, 24}, 0, 0, 8, FRAMES / 3 - 5, FRAMES / 3 + 5},
        {"mp4", "libx264", b, 3, late, {1, 24}, 0, 0, 8, FRAMES / 3 - 5, FRAMES / 3 + 5},
        {"mp4", "libx264", b, 3, NULL, {1, 24}, 0, 0, 5, FRAMES / 4, FRAMES / 2},
        {"mp4", "libx264", b, 3, NULL, {1, 24}, 0, 0, 12, FRAMES / 3, FRAMES / 2},
        {"mp4", "libx264", b, 3, NULL, {1, 24}, 0, 0, 23, REFUSED, REFUSED}, /* every frame is near one */
        {"mp4", "libx264", b, 0, NULL, {1, 24}, 0, 0, 8, 0, 0},              /* each is a reference */
        {"mp4", "libx264", b, 3, uneven, {1, 48}, 0, 0, 8, GIVEN_UP, GIVEN_UP},
        /* packet 33 is a P frame; packet 32 a B frame that is passed over, and its damage with it */
        {"mp4", "libx264", b, 3, NULL, {1, 24}, 0, 33, 8, GIVEN_UP, GIVEN_UP},
        {"mp4", "libx264", b, 3, NULL, {1, 24}, 0, 32, 8, FRAMES / 3 - 5, FRAMES / 3 + 5},
        {"mp4", "libx264", b, 3, NULL, {1, 24}, AV_FIELD_TT, 0, 8, REFUSED, REFUSED},
        {"mpegts", "libx264", b, 3, NULL, {1, 24}, 0, 0, 8, REFUSED, REFUSED},
        {"mp4", "mpeg4", NULL, 2, NULL, {1, 24}, 0, 0, 8, REFUSED, REFUSED},
    };
    (void)state;
    for (int i = 0; i < FRAMES; i++) {
        uneven[i] = 2 * i + (i >= 100); /* one step is half as long again; 24 a second on the whole */
        late[i] = i + 77;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Clip c = {.container = cases[i].container,
                        .codec = cases[i].codec,
                        .options = cases[i].options,
                        .format = AV_PIX_FMT_YUV420P,
                        .width = W,
                        .height = H,
                        .time_base = cases[i].time_base,
                        .pts = cases[i].pts,
                        .frames = FRAMES,
                        .gop = 48,
                        .b_frames = cases[i].b_frames,
                        .field_order = cases[i].fields,
                        .corrupt_packet = cases[i].corrupt,
                        .draw = draw};
        const char *path = check_tmp_path("clip");
        make_clip(path, &c);
        for (int from = 0; from < 30; from += 24) {
            int n = passed(path, from, cases[i].fps);
            int all = n > 0 ? n + from / 3 : n; /* as if counted from frame 0 */
            if (all < cases[i].least || all > cases[i].most)
                fail_msg("case %zu from frame %d: %d passed over", i, from, n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds_of_video)};
    av_log_set_level(AV_LOG_QUIET);
    return check_run_live("media thin", tests);
}
