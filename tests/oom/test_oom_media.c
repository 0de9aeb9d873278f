/* Video and pictures with the first allocation failing, then the second, and so on; then with
 * FFmpeg's own large blocks refused. */
#include <libavutil/mem.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

enum { W = 32, H = 48, N = 3 };
static uint8_t frame[W * H * 3];
static const char *mkv, *mp4, *png;

static int write_clip(VideoCodec codec, const char *path, Err *err)
{
    static const char *const metadata[] = {"prompt", "a coat", NULL};
    VideoWriterParams p = {.codec = codec, .width = W, .height = H, .rate = {8, 1}, .metadata = metadata};
    VideoWriter *w = NULL;
    int rc = video_create(&w, path, &p, err);
    for (int k = 0; k < N && rc == 0; k++)
        rc = video_write(w, frame, err);
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    return rc;
}

static int write_ffv1(Err *err)
{
    return write_clip(VIDEO_FFV1, mkv, err);
}

static int write_h264(Err *err)
{
    return write_clip(VIDEO_H264, mp4, err);
}

static int read_whole(Err *err)
{
    uint8_t *rgb = NULL;
    int64_t n, w, h;
    int rc = video_read_rgb(mkv, N, W, H, &rgb, &n, &w, &h, err);
    if ((rc == 0) != (rgb != NULL))
        fail_msg("video_read_rgb: %d and %p", rc, (void *)rgb);
    mem_free(rgb);
    return rc;
}

static int read_scaled(Err *err)
{
    VideoReader *r = NULL;
    VideoFrame f;
    uint8_t rgb[20 * 20 * 3];
    int rc = video_open(&r, mp4, NULL, err);
    if (rc < 0)
        return rc;
    FitPlan plan = fit_plan(video_info(r), 20, 20, FIT_PAD, 0.5, 0.5);
    while ((rc = video_next(r, &f, err)) == 1)
        if ((rc = video_to_rgb(r, &f, &plan, rgb, err)) < 0)
            break;
    video_close(&r);
    return rc;
}

static int read_metadata(Err *err)
{
    char *value = video_metadata(mp4, "prompt", err);
    int rc = value ? 0 : err->code;
    mem_free(value);
    return rc;
}

static int write_picture(Err *err)
{
    return picture_write_png(png, frame, W, H, err);
}

static int read_picture(Err *err)
{
    uint8_t *rgb = NULL;
    int64_t w, h;
    int rc = picture_read(png, &rgb, &w, &h, err);
    mem_free(rgb);
    return rc;
}

static const struct {
    const char *name;
    int (*run)(Err *err);
} operations[] = {{"write FFV1", write_ffv1},   {"write H.264", write_h264}, {"read whole", read_whole},
                  {"read scaled", read_scaled}, {"metadata", read_metadata}, {"write PNG", write_picture},
                  {"read PNG", read_picture}};
enum { OPERATIONS = sizeof operations / sizeof *operations };

static void prepare(void)
{
    for (int i = 0; i < W * H * 3; i++)
        frame[i] = (uint8_t)(i * 7);
    mkv = check_tmp_path("a.mkv");
    mp4 = check_tmp_path("a.mp4");
    png = check_tmp_path("a.png");
    for (int i = 0; i < OPERATIONS; i++) {
        Err err = {0};
        CHECK_OK(operations[i].run(&err), &err);
    }
}

static void our_allocations_one_by_one(void **state)
{
    (void)state;
    prepare();
    for (int i = 0; i < OPERATIONS; i++)
        for (int n = 1;; n++) {
            Err err = {0};
            mem_fail_after(n);
            int rc = operations[i].run(&err), failed = mem_failed();
            mem_fail_after(0);
            if (failed && (rc != ERR_NOMEM || !err.msg[0]))
                fail_msg("%s, allocation %d: %d '%s'", operations[i].name, n, rc, err.msg);
            if (failed)
                continue;
            CHECK_OK(rc, &err);
            break;
        }
}

static void large_blocks_of_the_library(void **state)
{
    (void)state;
    prepare();
    int refused = 0;
    for (int i = 0; i < OPERATIONS; i++)
        for (size_t limit = 1 << 22; limit >= 512; limit = limit * 3 / 4) {
            Err err = {0};
            av_max_alloc(limit);
            int rc = operations[i].run(&err);
            av_max_alloc(INT_MAX);
            if (rc < 0 && (rc != err.code || !err.msg[0]))
                fail_msg("%s, blocks of %zu: %d '%s'", operations[i].name, limit, rc, err.msg);
            refused += rc < 0;
        }
    assert_true(refused >= 50 && refused <= 1000);
    for (int i = 0; i < OPERATIONS; i++) { /* and all is well afterwards */
        Err err = {0};
        CHECK_OK(operations[i].run(&err), &err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(our_allocations_one_by_one),
                                       cmocka_unit_test(large_blocks_of_the_library)};
    return check_run("oom: media", tests);
}
