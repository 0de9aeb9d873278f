/* Only decoders on a list run on files of others. */
#include "unit/clip_maker.h"
#include "common/media/media_internal.h"

static int open_clip(const char *container, const char *codec, Err *err)
{
    Clip c = {.container = container,
              .codec = codec,
              .format = AV_PIX_FMT_YUV420P,
              .width = 64,
              .height = 48,
              .time_base = {1, 25},
              .frames = 30,
              .draw = draw_number};
    VideoReader *r = NULL;
    make_clip(check_tmp_path(codec), &c);
    int rc = video_open(&r, check_tmp_path(codec), NULL, err);
    video_close(&r);
    return rc;
}

static void what_is_on_the_list(void **state)
{
    Err err = {0};
    (void)state;
    CHECK_OK(open_clip("avi", "mpeg4", &err), &err);
    CHECK_OK(open_clip("mpegts", "mpeg2video", &err), &err);
    CHECK_FAILS(open_clip("avi", "asv1", &err), ERR_UNSUPPORTED, "its video is asv1, which is not decoded", &err);
    CHECK_FAILS(open_clip("matroska", "snow", &err), ERR_UNSUPPORTED, "its video is snow", &err);
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_on_the_list)};
    return check_run_live("media: decoders", tests);
}
