/* The clips of the reference data: what their description says each must give. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "check.h"
#include "common/base/mem.h"
#include "common/media/video.h"

/* No codec: must not open. */
static const struct Facts {
    const char *path, *codec, *format;
    int width, height, display_width, display_height, rate_num, rate_den, rotation, frames;
} files[] = {
    {"portrait/ubc_like_720x960_30fps.mp4", "h264", "yuv420p", 720, 960, 720, 960, 30, 1, 0, 350},
    {"portrait/walk_01_grey_dress_in.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"portrait/walk_02_grey_dress_out.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 70},
    {"portrait/walk_03_black_jacket_in.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"portrait/walk_04_black_jacket_out.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 44},
    {"portrait/walk_05_black_top_in.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"portrait/walk_06_black_top_out.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 70},
    {"portrait/walk_07_black_tee_in.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"portrait/walk_08_black_tee_out.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 68},
    {"portrait/walk_09_grey_sweater_in.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"portrait/walk_10_grey_sweater_out.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 66},
    {"portrait/walk_11_grey_shirt_in.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 70},
    {"portrait/walk_12_grey_shirt_out.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 70},
    {"real/asl_student.mkv", "h264", "yuvj420p", 640, 480, 640, 480, 30, 1, 0, 52},
    {"real/asl_walk.mkv", "h264", "yuvj420p", 640, 480, 640, 480, 30, 1, 0, 89},
    {"real/bigbuckbunny.mp4", "h264", "yuv420p", 1280, 720, 1280, 720, 25, 1, 0, 132},
    {"real/bottle-detection.mp4", "h264", "yuv420p", 640, 360, 640, 360, 179, 6, 0, 1189},
    {"real/cogvideox_1.mp4", "h264", "yuv420p", 720, 480, 720, 480, 8, 1, 0, 49},
    {"real/cogvideox_2.mp4", "h264", "yuv420p", 720, 480, 720, 480, 8, 1, 0, 49},
    {"real/cogvideox_4.mp4", "h264", "yuv420p", 720, 480, 720, 480, 8, 1, 0, 49},
    {"real/cogvideox_kitten.mp4", "h264", "yuv420p", 720, 480, 720, 480, 8, 1, 0, 49},
    {"real/hiker.mp4", "h264", "yuv420p", 720, 480, 720, 480, 8, 1, 0, 49},
    {"real/hiker_tiny.mp4", "h264", "yuv420p", 368, 240, 368, 240, 8, 1, 0, 49},
    {"real/one-by-one-person-detection.mp4", "h264", "yuv420p", 768, 432, 768, 432, 10, 1, 0, 1394},
    {"real/people-detection.gif", "gif", "bgra", 480, 270, 480, 270, 145, 12, 0, 23},
    {"codec/av1_video.mkv", "av1", "yuv420p", 640, 360, 640, 360, 25, 1, 0, 125},
    {"codec/bbb_vp8_no_nbframes.webm", "vp8", "yuv420p", 1280, 720, 1280, 720, 24, 1, 0, 24},
    {"codec/bt709_full_range.mp4", "h264", "yuvj420p", 1280, 720, 1280, 720, 30, 1, 0, 30},
    {"codec/h264_10bits.mp4", "h264", "yuv420p10le", 200, 200, 200, 200, 30, 1, 0, 30},
    {"codec/h265_10bits.mp4", "hevc", "yuv420p10le", 200, 200, 200, 200, 30, 1, 0, 30},
    {"codec/h265_video.mp4", "hevc", "yuv420p", 128, 128, 128, 128, 10, 1, 0, 10},
    {"codec/nasa_13013.mp4", "h264", "yuv420p", 480, 270, 480, 270, 30000, 1001, 0, 390},
    {"codec/vp9_720p_30fps.webm", "vp9", "yuv420p", 1280, 720, 1280, 720, 30, 1, 0, 453},
    {"codec/vp9_alpha.webm", "vp9", "yuva420p", 200, 200, 200, 200, 30, 1, 0, 150},
    {"odd/-video-with-dash-.mp4", "h264", "yuv444p", 1, 1, 1, 1, 1, 1, 0, 5},
    {"odd/audio_only.mp4", "", "", 0, 0, 0, 0, 0, 0, 0, 0},
    {"odd/bframes_start_200ms.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"odd/bitflips.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"odd/black_lead_1500ms.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 91},
    {"odd/corrupted_nal.mp4", "h264", "yuv420p", 1280, 720, 1280, 720, 10, 1, 0, 49},
    {"odd/edit_list_discard.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 63},
    {"odd/frozen_after_2s.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 70},
    {"odd/html_error.mp4", "", "", 0, 0, 0, 0, 0, 0, 0, 0},
    {"odd/interlaced_tff.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"odd/no_duration_dark.webm", "vp9", "yuv420p", 1280, 720, 1280, 720, 15000, 1001, 0, 74},
    {"odd/odd_dims_yuv444.mp4", "h264", "yuv444p", 287, 431, 287, 431, 10, 1, 0, 12},
    {"odd/png_renamed.mp4", "png", "rgb24", 288, 432, 288, 432, 25, 1, 0, 1},
    {"odd/portrait_stored_sideways.mp4", "h264", "yuv420p", 432, 288, 288, 432, 10, 1, 90, 76},
    {"odd/pq_bt2020_10bit.mp4", "hevc", "yuv420p10le", 288, 432, 288, 432, 10, 1, 0, 20},
    {"odd/resolution_change.h264", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 40},
    {"odd/rotate_0.mov", "h264", "yuv420p", 568, 320, 568, 320, 30, 1, 0, 3},
    {"odd/rotate_180.mov", "h264", "yuv420p", 568, 320, 568, 320, 30, 1, 180, 3},
    {"odd/rotate_270.mov", "h264", "yuv420p", 568, 320, 320, 568, 30, 1, 270, 3},
    {"odd/rotate_90.mov", "h264", "yuv420p", 568, 320, 320, 568, 30, 1, 90, 3},
    {"odd/sar_4_3.mp4", "h264", "yuv420p", 216, 432, 288, 432, 10, 1, 0, 76},
    {"odd/scene_cut_at_40.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 80},
    {"odd/short_12_frames.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 12},
    {"odd/single_frame.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 1},
    {"odd/smpte_25fps_1080p.mp4", "h264", "yuv420p", 1920, 1080, 1920, 1080, 25, 1, 0, 251},
    {"odd/start_offset.ts", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 76},
    {"odd/tagged_bt709.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 20},
    {"odd/tagged_bt709_full.mp4", "h264", "yuvj420p", 288, 432, 288, 432, 10, 1, 0, 20},
    {"odd/tagged_smpte170m.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 20},
    {"odd/truncated_moov_first.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 27},
    {"odd/truncated_no_moov.mp4", "", "", 0, 0, 0, 0, 0, 0, 0, 0},
    {"odd/unordered_pts.mov", "h264", "yuv420p", 50, 50, 50, 50, 32, 1, 0, 4},
    {"odd/untagged_bt709_content.mp4", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 20},
    {"odd/vfr_gap.mkv", "h264", "yuv420p", 288, 432, 288, 432, 10, 1, 0, 59},
    {"odd/zero_bytes.mp4", "", "", 0, 0, 0, 0, 0, 0, 0, 0},
};

static void check_file(const char *root, const struct Facts *want)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", root, want->path);
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    int rc = video_open(&r, path, NULL, &err);
    if (!want->codec[0]) {
        if (rc != ERR_FORMAT || !strstr(err.msg, want->path))
            fail_msg("%s: code %d '%s', expected a refusal", want->path, rc, err.msg);
        return;
    }
    CHECK_OK(rc, &err);
    const VideoInfo *i = video_info(r);
    if (strcmp(i->codec, want->codec) || strcmp(i->pixel_format, want->format) || i->width != want->width ||
        i->height != want->height)
        fail_msg("%s: %s %s %dx%d", want->path, i->codec, i->pixel_format, (int)i->width, (int)i->height);
    if (i->display_width != want->display_width || i->display_height != want->display_height ||
        i->rotation != want->rotation || i->flip)
        fail_msg("%s: shown %dx%d, rotation %d", want->path, (int)i->display_width, (int)i->display_height,
                 i->rotation);
    if (i->avg_rate.num * want->rate_den != i->avg_rate.den * want->rate_num)
        fail_msg("%s: rate %d/%d", want->path, (int)i->avg_rate.num, (int)i->avg_rate.den);
    while ((rc = video_next(r, &f, &err)) == 1) {
        if (f.index == 0 && f.time.num != 0)
            fail_msg("%s: starts at %lld/%lld", want->path, (long long)f.time.num, (long long)f.time.den);
    }
    CHECK_OK(rc, &err);
    VideoCounts c = video_counts(r);
    if (c.frames != want->frames || c.dropped_unordered)
        fail_msg("%s: %d frames", want->path, (int)c.frames);
    video_close(&r);
}

static void every_file_gives_what_its_description_says(void **state)
{
    (void)state;
    const char *root = check_need_shared("data/videos");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        check_file(root, &files[i]);
}

/* Counts of trouble, per file: refused packets, first and number of damaged frames, assumed
 * timestamps, vfr, interlaced. */
static void trouble_is_counted(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int refused, min_damaged, assumed, vfr, interlaced, hint;
    } cases[] = {{"odd/bitflips.mp4", 0, 15, 0, 0, 0, 76},
                 {"odd/corrupted_nal.mp4", 1, 1, 0, 0, 0, 50},
                 {"odd/truncated_moov_first.mp4", 1, 0, 0, 0, 0, 76},
                 {"odd/resolution_change.h264", 0, 0, 40, 0, 0, 0},
                 {"odd/interlaced_tff.mp4", 0, 0, 0, 0, 1, 76},
                 {"real/people-detection.gif", 0, 0, 0, 1, 0, 23},
                 {"odd/edit_list_discard.mp4", 0, 0, 0, 0, 0, 76},
                 {"real/asl_walk.mkv", 0, 0, 0, 0, 0, 0}};
    const char *root = check_need_shared("data/videos");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", root, cases[i].path);
        Err err = {0};
        VideoReader *r = NULL;
        VideoFrame f;
        int rc, assumed = 0;
        CHECK_OK(video_open(&r, path, NULL, &err), &err);
        while ((rc = video_next(r, &f, &err)) == 1)
            assumed += f.pts_assumed;
        CHECK_OK(rc, &err);
        VideoCounts c = video_counts(r);
        const VideoInfo *info = video_info(r);
        if (c.refused_packets != cases[i].refused || c.damaged_frames < cases[i].min_damaged ||
            assumed != cases[i].assumed || info->vfr != cases[i].vfr || info->interlaced != cases[i].interlaced ||
            info->frames_hint != cases[i].hint)
            fail_msg("%s: refused %d damaged %d assumed %d vfr %d interlaced %d hint %d", cases[i].path,
                     (int)c.refused_packets, (int)c.damaged_frames, assumed, info->vfr, info->interlaced,
                     (int)info->frames_hint);
        video_close(&r);
    }
}

/* Mean RGB of the first frame at its own size. */
static void first_mean(const char *root, const char *name, double mean[3])
{
    char path[4096];
    snprintf(path, sizeof path, "%s/odd/%s.mp4", root, name);
    uint8_t *rgb = NULL;
    int64_t n, w, h;
    Err err = {0};
    CHECK_OK(video_read_rgb(path, 20, 288, 432, &rgb, &n, &w, &h, &err), &err);
    mean[0] = mean[1] = mean[2] = 0;
    for (int64_t i = 0; i < w * h * 3; i++)
        mean[i % 3] += rgb[i] / (double)(w * h);
    mem_free(rgb);
}

static void tagged_colour_comes_out_right(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double mean[3];
    } cases[] = {{"tagged_bt709", {121.95, 107.73, 104.69}},
                 {"tagged_smpte170m", {121.91, 107.70, 104.68}},
                 {"tagged_bt709_full", {121.87, 107.74, 104.72}},
                 {"untagged_bt709_content", {120.68, 106.56, 104.93}}};
    const char *root = check_need_shared("data/videos");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double mean[3];
        first_mean(root, cases[i].name, mean);
        for (int k = 0; k < 3; k++)
            if (fabs(mean[k] - cases[i].mean[k]) > 0.05)
                fail_msg("%s: channel %d is %.2f", cases[i].name, k, mean[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_gives_what_its_description_says),
        cmocka_unit_test(trouble_is_counted),
        cmocka_unit_test(tagged_colour_comes_out_right),
    };
    return check_run_live("media: the reference clips", tests);
}
