/* Primaries and curves other than BT.709's, against FFmpeg's `colorspace` filter (light.h). */
#include <math.h>
#include <string.h>
#include "unit/clip_maker.h"
#include "unit/media/light.h"
#include "common/media/media_internal.h"

/* One level: half a level of rounding here, and the filter's own tables. */
static void colours_as_the_filter_makes_them(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = 0; i < LIGHT_CASES; i++) {
        uint16_t row[3 * LIGHT_COLOURS];
        for (int k = 0; k < 3 * LIGHT_COLOURS; k++)
            row[k] = (uint16_t)(light_colours[k / 3][k % 3] * 257);
        LightJob job = light_job((enum AVColorTransferCharacteristic)light_cases[i].transfer,
                                 (enum AVColorPrimaries)light_cases[i].primaries);
        assert_true(job.change);
        light_convert(&job, (uint8_t *)row, sizeof row, LIGHT_COLOURS, 1);
        const uint8_t *got = (const uint8_t *)row;
        for (int k = 0; k < 3 * LIGHT_COLOURS; k++) {
            double want = light_cases[i].rgb[k / 3][k % 3], e = fabs(got[k] - want);
            worst = e > worst ? e : worst;
            if (e > 1)
                fail_msg("primaries %d, transfer %d: colour %d channel %d is %d, expected %.2f",
                         light_cases[i].primaries, light_cases[i].transfer, k / 3, k % 3, got[k], want);
        }
    }
    print_message("# worst error %.3f levels\n", worst);
}

/* What every source so far had is handed on untouched. */
static void ordinary_tags_change_nothing(void **state)
{
    (void)state;
    static const int transfers[] = {AVCOL_TRC_UNSPECIFIED, AVCOL_TRC_BT709,        AVCOL_TRC_SMPTE170M,
                                    AVCOL_TRC_BT2020_10,   AVCOL_TRC_IEC61966_2_1, AVCOL_TRC_IEC61966_2_4};
    static const int primaries[] = {AVCOL_PRI_UNSPECIFIED, AVCOL_PRI_BT709, AVCOL_PRI_BT470BG, AVCOL_PRI_SMPTE170M,
                                    AVCOL_PRI_SMPTE240M};
    for (size_t t = 0; t < sizeof transfers / sizeof *transfers; t++)
        for (size_t p = 0; p < sizeof primaries / sizeof *primaries; p++)
            assert_false(
                light_job((enum AVColorTransferCharacteristic)transfers[t], (enum AVColorPrimaries)primaries[p])
                    .change);
}

/* A picture of sRGB's red, as Display P3 has it: 234, 51, 34; BT.709's matrix, limited range. */
static void draw_p3_red(AVFrame *f, int k, const void *user)
{
    static const int yuv[3] = {92, 102, 209};
    (void)k;
    (void)user;
    for (int p = 0; p < 3; p++)
        for (int y = 0; y < f->height; y++)
            memset(f->data[p] + y * f->linesize[p], yuv[p], (size_t)f->width);
}

static void a_phones_red_is_red(void **state)
{
    (void)state;
    static const struct {
        enum AVColorPrimaries primaries;
        uint8_t rgb[3];
    } cases[] = {{AVCOL_PRI_SMPTE432, {255, 0, 0}}, {AVCOL_PRI_BT709, {234, 51, 34}}};
    for (int i = 0; i < 2; i++) {
        Clip c = {.container = "matroska",
                  .codec = "ffv1",
                  .format = AV_PIX_FMT_YUV444P,
                  .width = 32,
                  .height = 32,
                  .time_base = {1, 25},
                  .frames = 1,
                  .space = AVCOL_SPC_BT709,
                  .range = AVCOL_RANGE_MPEG,
                  .transfer = AVCOL_TRC_IEC61966_2_1,
                  .primaries = cases[i].primaries,
                  .draw = draw_p3_red};
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        uint8_t rgb[16 * 16 * 3];
        make_clip(check_tmp_path("p3.mkv"), &c);
        CHECK_OK(video_open(&r, check_tmp_path("p3.mkv"), NULL, &err), &err);
        assert_int_equal(video_info(r)->converted, i == 0);
        FitPlan plan = fit_plan(video_info(r), 16, 16, FIT_STRETCH, 0, 0);
        assert_int_equal(video_next(r, &f, &err), 1);
        CHECK_OK(video_to_rgb(r, &f, &plan, rgb, &err), &err);
        for (int k = 0; k < 16 * 16 * 3; k++)
            if (fabs((double)rgb[k] - cases[i].rgb[k % 3]) > 2)
                fail_msg("case %d: channel %d is %d, expected %d", i, k % 3, rgb[k], cases[i].rgb[k % 3]);
        video_close(&r);
    }
}

/* BT.2020's matrix without a curve: an HDR source may have lost its tags; with a curve it has not. */
static void lost_tags_are_suspected(void **state)
{
    (void)state;
    for (int tagged = 0; tagged < 2; tagged++) {
        Clip c = {.container = "matroska",
                  .codec = "ffv1",
                  .format = AV_PIX_FMT_YUV444P,
                  .width = 32,
                  .height = 32,
                  .time_base = {1, 25},
                  .frames = 1,
                  .space = AVCOL_SPC_BT2020_NCL,
                  .transfer = tagged ? AVCOL_TRC_BT709 : AVCOL_TRC_UNSPECIFIED,
                  .draw = draw_p3_red};
        Err err = {0};
        VideoReader *r = NULL;
        make_clip(check_tmp_path("lost.mkv"), &c);
        CHECK_OK(video_open(&r, check_tmp_path("lost.mkv"), NULL, &err), &err);
        assert_int_equal(video_info(r)->hdr, VIDEO_SDR);
        assert_int_equal(video_info(r)->hdr_suspected, !tagged);
        video_close(&r);
    }
}

int main(void)
{
    av_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(colours_as_the_filter_makes_them), cmocka_unit_test(ordinary_tags_change_nothing),
        cmocka_unit_test(a_phones_red_is_red), cmocka_unit_test(lost_tags_are_suspected)};
    return check_run_live("media: light", tests);
}
