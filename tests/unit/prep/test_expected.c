/* Every file of the reference videos' four folders in one run, each ending as its SOURCE.md says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/ingest.h"

/* Of SOURCE.md: frames decoded and stored sizes, turned upright (rotate_90, rotate_270,
 * portrait_stored_sideways), shown with their pixel aspect (sar_4_3), the better of two streams
 * (nasa_13013).  The demo size with 49 frames and every crop allowed.
 * reason: "" accepted; near_duplicate: of odd, what was made of walk_05, whose own file is larger.
 * frames: decoded. */
static const struct {
    const char *file, *reason;
    int64_t frames, width, height;
} want[] = {
    {"codec/av1_video.mkv", "too_short", 125, 640, 360},
    {"codec/bbb_vp8_no_nbframes.webm", "too_short", 24, 1280, 720},
    {"codec/bt709_full_range.mp4", "too_short", 30, 1280, 720},
    {"codec/h264_10bits.mp4", "too_short", 30, 200, 200},
    {"codec/h265_10bits.mp4", "too_short", 30, 200, 200},
    {"codec/h265_video.mp4", "too_small", 10, 128, 128},
    {"codec/nasa_13013.mp4", "scene_cut", 390, 480, 270},
    {"codec/vp9_720p_30fps.webm", "scene_cut", 453, 1280, 720},
    {"codec/vp9_alpha.webm", "too_short", 150, 200, 200},
    {"odd/-video-with-dash-.mp4", "too_small", 5, 1, 1},
    {"odd/audio_only.mp4", "not_a_video", 0, 0, 0},
    {"odd/bframes_start_200ms.mp4", "near_duplicate", 76, 288, 432},
    {"odd/bitflips.mp4", "damaged", 76, 288, 432},
    {"odd/black_lead_1500ms.mp4", "near_duplicate", 91, 288, 432},
    {"odd/corrupted_nal.mp4", "too_short", 49, 1280, 720},
    {"odd/edit_list_discard.mp4", "", 63, 288, 432},
    {"odd/frozen_after_2s.mp4", "frozen", 70, 288, 432},
    {"odd/html_error.mp4", "not_a_video", 0, 0, 0},
    {"odd/interlaced_tff.mp4", "near_duplicate", 76, 288, 432},
    {"odd/no_duration_dark.webm", "too_short", 74, 1280, 720},
    {"odd/odd_dims_yuv444.mp4", "too_short", 12, 287, 431},
    {"odd/png_renamed.mp4", "too_short", 1, 288, 432},
    {"odd/portrait_stored_sideways.mp4", "near_duplicate", 76, 288, 432},
    {"odd/pq_bt2020_10bit.mp4", "hdr", 20, 288, 432},
    {"odd/resolution_change.h264", "too_short", 40, 288, 432},
    {"odd/rotate_0.mov", "too_short", 3, 568, 320},
    {"odd/rotate_180.mov", "too_short", 3, 568, 320},
    {"odd/rotate_270.mov", "too_short", 3, 320, 568},
    {"odd/rotate_90.mov", "too_short", 3, 320, 568},
    {"odd/sar_4_3.mp4", "near_duplicate", 76, 288, 432},
    {"odd/scene_cut_at_40.mp4", "scene_cut", 80, 288, 432},
    {"odd/short_12_frames.mp4", "too_short", 12, 288, 432},
    {"odd/single_frame.mp4", "too_short", 1, 288, 432},
    {"odd/smpte_25fps_1080p.mp4", "", 251, 1920, 1080},
    {"odd/start_offset.ts", "near_duplicate", 76, 288, 432},
    {"odd/tagged_bt709.mp4", "too_short", 20, 288, 432},
    {"odd/tagged_bt709_full.mp4", "too_short", 20, 288, 432},
    {"odd/tagged_smpte170m.mp4", "too_short", 20, 288, 432},
    {"odd/truncated_moov_first.mp4", "truncated", 27, 288, 432},
    {"odd/truncated_no_moov.mp4", "not_a_video", 0, 0, 0},
    {"odd/unordered_pts.mov", "too_small", 4, 50, 50},
    {"odd/untagged_bt709_content.mp4", "too_short", 20, 288, 432},
    {"odd/vfr_gap.mkv", "uneven_times", 59, 288, 432},
    {"odd/zero_bytes.mp4", "empty_file", 0, 0, 0},
    {"portrait/ubc_like_720x960_30fps.mp4", "", 350, 720, 960},
    {"portrait/walk_01_grey_dress_in.mp4", "", 76, 288, 432},
    {"portrait/walk_02_grey_dress_out.mp4", "", 70, 288, 432},
    {"portrait/walk_03_black_jacket_in.mp4", "", 76, 288, 432},
    {"portrait/walk_04_black_jacket_out.mp4", "too_short", 44, 288, 432},
    {"portrait/walk_05_black_top_in.mp4", "", 76, 288, 432},
    {"portrait/walk_06_black_top_out.mp4", "", 70, 288, 432},
    {"portrait/walk_07_black_tee_in.mp4", "", 76, 288, 432},
    {"portrait/walk_08_black_tee_out.mp4", "", 68, 288, 432},
    {"portrait/walk_09_grey_sweater_in.mp4", "", 76, 288, 432},
    {"portrait/walk_10_grey_sweater_out.mp4", "", 66, 288, 432},
    {"portrait/walk_11_grey_shirt_in.mp4", "", 70, 288, 432},
    {"portrait/walk_12_grey_shirt_out.mp4", "", 70, 288, 432},
    {"real/asl_student.mkv", "too_short", 52, 640, 480},
    {"real/asl_walk.mkv", "too_short", 89, 640, 480},
    {"real/bigbuckbunny.mp4", "too_short", 132, 1280, 720},
    {"real/bottle-detection.mp4", "", 1189, 640, 360},
    {"real/cogvideox_1.mp4", "", 49, 720, 480},
    {"real/cogvideox_2.mp4", "", 49, 720, 480},
    {"real/cogvideox_4.mp4", "", 49, 720, 480},
    {"real/cogvideox_kitten.mp4", "", 49, 720, 480},
    {"real/hiker.mp4", "", 49, 720, 480},
    {"real/hiker_tiny.mp4", "near_duplicate", 49, 368, 240},
    {"real/one-by-one-person-detection.mp4", "", 1394, 768, 432},
    {"real/people-detection.gif", "too_short", 23, 480, 270},
};
enum { FILES = sizeof want / sizeof *want };

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static void all_four_folders(void **state)
{
    static const char *const folders[] = {"odd", "codec", "real", "portrait"};
    static const char *sets[] = {"clip.width=64",           "clip.height=96",
                                 "clip.min_side=180",       "clip.allow_empty_caption=true",
                                 "clip.max_reject_ratio=1", "clip.max_lost=1"};
    char *root = check_tmp_path("all"), *out = check_tmp_path("all-out"), name[256], *text;
    Err err = {0};
    int64_t size;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "data/videos/%s", folders[i]);
        char *from = realpath(check_need_shared(name), NULL), **names;
        int64_t n;
        CHECK_OK(dir_make(at(root, folders[i]), &err), &err);
        CHECK_OK(dir_list(from, &names, &n, &err), &err);
        for (int64_t k = 0; k < n; k++) {
            if (strstr(names[k], ".txt") || strstr(names[k], ".jsonl"))
                continue;
            snprintf(name, sizeof name, "%s/%s", folders[i], names[k]);
            assert_int_equal(symlink(at(from, names[k]), at(root, name)), 0);
        }
        dir_list_free(&names, n);
        free(from);
    }
    Recipe *recipe;
    CHECK_OK(recipe_open(&recipe,
                         &(CommonOptions){.preset = "demo", .set = {sets, sizeof sets / sizeof *sets}, .seed = -1},
                         &err),
             &err);
    FILE *null = fopen("/dev/null", "w");
    IngestParams p = {
        .source = root, .out = out, .recipe = recipe, .jobs = 2, .shards = 1, .follow_links = 1, .results = null};
    int rc = prep_ingest(&p, &err);
    CHECK_OK(rc, &err);
    fclose(null);
    recipe_close(&recipe);
    CHECK_OK(file_read(at(out, "manifest.jsonl"), 1 << 26, &text, &size, &err), &err);
    int64_t seen = 0, wrong = 0;
    for (char *row = strtok(text, "\n"); row; row = strtok(NULL, "\n"), seen++) {
        json_t *o;
        CHECK_OK(json_parse(&o, row, (int64_t)strlen(row), "line", &err), &err);
        const json_t *reason = json_object_get(o, "reason"), *probe = json_object_get(o, "probe");
        const char *file = json_string_value(json_object_get(json_object_get(o, "source"), "path"));
        const char *code = json_is_object(reason) ? json_string_value(json_object_get(reason, "code")) : "";
        int64_t frames = json_is_object(probe) ? json_integer_value(json_object_get(probe, "frames")) : 0,
                w = json_is_object(probe) ? json_integer_value(json_object_get(probe, "display_width")) : 0,
                h = json_is_object(probe) ? json_integer_value(json_object_get(probe, "display_height")) : 0;
        size_t i = 0;
        while (i < FILES && strcmp(want[i].file, file) != 0)
            i++;
        if (i == FILES || strcmp(code, want[i].reason) != 0 || frames != want[i].frames || w != want[i].width ||
            h != want[i].height) {
            printf("# {\"%s\", \"%s\", %lld, %lld, %lld},\n", file, code, (long long)frames, (long long)w,
                   (long long)h);
            wrong++;
        }
        json_decref(o);
    }
    mem_free(text);
    assert_int_equal(seen, FILES);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_four_folders)};
    return check_run_live("prep expected", tests);
}
