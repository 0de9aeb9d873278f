/* Every allocation of an ingest run fails once: the run says so, nothing leaks, and the dataset is
 * not marked finished. */
#include <stdio.h>
#include <string.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "prep/ingest.h"

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static void put(const char *root, const char *name, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_atomic(at(root, name), text, (int64_t)strlen(text), &err), &err);
}

static void make_source(const char *root)
{
    Err err = {0};
    VideoWriter *w;
    static uint8_t rgb[32 * 48 * 3];
    CHECK_OK(dir_make(at(root, "videos"), &err), &err);
    CHECK_OK(dir_make(at(root, "action_label"), &err), &err);
    VideoWriterParams p = {.codec = VIDEO_H264, .width = 32, .height = 48, .rate = {8, 1}};
    CHECK_OK(video_create(&w, at(root, "videos/a.mp4"), &p, &err), &err);
    for (int k = 0; k < 9; k++) {
        memset(rgb, k * 20, sizeof rgb);
        CHECK_OK(video_write(w, rgb, &err), &err);
    }
    CHECK_OK(video_finish(&w, &err), &err);
    put(root, "videos/b.mp4", "no video");
    put(root, "captions_app.json", "{\"a\": [\"A dress.\"], \"b\": \"A coat.\"}");
    put(root, "caption_motion_template.json", "{\"gender\": [\"she\"], \"1\": [\"<Gender> turns.\"]}");
    put(root, "action_label/a.txt", "0 30 1\n");
    put(root, "train_frame_num.txt", "a 9\nb 1\n");
    put(root, "categories.json", "{\"a\": \"Dresses\"}");
}

static void fail_each(int64_t n_sets)
{
    static const char *sets[] = {"clip.width=32",     "clip.height=48",    "clip.min_side=16",    "clip.model_frames=9",
                                 "clip.num_frames=8", "quality.mode=warn", "clip.trim_bars=true", "clip.evening=both"};
    char *root = check_tmp_path("source"), *out = check_tmp_path("out"), *index = at(out, "dataset.json");
    Err err = {0};
    Recipe *recipe;
    FILE *null = fopen("/dev/null", "w");
    make_source(root);
    CHECK_OK(recipe_open(&recipe, &(CommonOptions){.preset = "demo", .set = {sets, n_sets}, .seed = -1}, &err), &err);
    IngestParams p = {.source = root, .out = out, .recipe = recipe, .jobs = 0, .shards = 1, .results = null};
    int64_t failures = 0;
    for (int64_t n = 1;; n++) {
        err_clear(&err);
        CHECK_OK(dir_remove(out, NULL), NULL);
        mem_fail_after(n);
        int rc = prep_ingest(&p, &err);
        int failed = mem_failed();
        mem_fail_after(0);
        if (!failed) {
            CHECK_OK(rc, &err);
            assert_int_equal(rc, 3);
            break;
        }
        failures++;
        if (rc >= 0 || err.code != ERR_NOMEM || file_exists(index))
            fail_msg("allocation %lld failed: %d '%s', dataset.json %s", (long long)n, rc, err.msg,
                     file_exists(index) ? "is there" : "is not there");
    }
    assert_true(failures > 100);
    fclose(null);
    recipe_close(&recipe);
}

static void every_allocation(void **state)
{
    (void)state;
    fail_each(6);
}

static void every_allocation_with_bars_and_evening(void **state)
{
    (void)state;
    fail_each(8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation),
                                       cmocka_unit_test(every_allocation_with_bars_and_evening)};
    return check_run("prep out of memory", tests);
}
