/* Real videos from the reference data, against the numbers of its SOURCE.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/media/video.h"
#include "prep/ingest.h"

enum { FRAMES = 48, WIDTH = 480, HEIGHT = 720 };

/* SOURCE.md: picks of the first nine outputs; mean R G B, luma spread and median change of 48
 * outputs. */
static const struct {
    const char *name;
    int picks[9];
    double mean[3], luma_std, change;
} want[] = {
    {"ubc_like_720x960_30fps", {0, 4, 7, 11, 15, 19, 22, 26, 30}, {116.8, 98.7, 84.1}, 67.1, 2.26},
    {"walk_01_grey_dress_in", {0, 1, 2, 4, 5, 6, 7, 9, 10}, {128.7, 115.3, 105.3}, 57.4, 1.94},
};

static char *at(const char *root, const char *name)
{
    return check_path(root, name);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_pixels(const char *name, const uint8_t *rgb, size_t which)
{
    const int64_t pixels = (int64_t)WIDTH * HEIGHT;
    double spread = 0, change[FRAMES - 1];
    /* the table's means are running sums in float32, several levels off the true mean: summed alike
     * here */
    float running[3] = {0};
    for (int64_t f = 0; f < FRAMES; f++) {
        const uint8_t *p = rgb + f * pixels * 3;
        double sum = 0, squares = 0, moved = 0;
        for (int64_t i = 0; i < pixels; i++) {
            double y = 0.2126 * p[3 * i] + 0.7152 * p[3 * i + 1] + 0.0722 * p[3 * i + 2];
            sum += y;
            squares += y * y;
            for (int c = 0; c < 3; c++)
                running[c] += p[3 * i + c];
        }
        spread += sqrt(squares / (double)pixels - sum / (double)pixels * (sum / (double)pixels)) / FRAMES;
        for (int64_t i = 0; f && i < pixels * 3; i++)
            moved += abs(p[i] - p[i - pixels * 3]);
        if (f)
            change[f - 1] = moved / (double)(pixels * 3);
    }
    for (int c = 0; c < 3; c++)
        check_value(name, running[c] / (float)(pixels * FRAMES), want[which].mean[c], 0.5, 0);
    check_value("luma spread", spread, want[which].luma_std, 0.5, 0);
    qsort(change, FRAMES - 1, sizeof *change, by_value);
    check_value("median change", change[FRAMES / 2 - 1], want[which].change, 0.01, 0.05);
}

static void portrait(void **state)
{
    Err err = {0};
    char *root = check_tmp_path("portrait"), *out = check_tmp_path("portrait-out"), line[256];
    (void)state;
    CHECK_OK(dir_make(root, &err), &err);
    FILE *f = fopen(at(root, "metadata.jsonl"), "w");
    for (size_t i = 0; i < 3; i++) {
        const char *name = i < 2 ? want[i].name : "walk_04_black_jacket_out";
        snprintf(line, sizeof line, "data/videos/portrait/%s.mp4", name);
        char *from = realpath(check_need_shared(line), NULL);
        snprintf(line, sizeof line, "%s.mp4", name);
        assert_int_equal(symlink(from, at(root, line)), 0);
        free(from);
        fprintf(f, "{\"file_name\": \"%s.mp4\", \"text\": \"A person walks.\"}\n", name);
    }
    fclose(f);
    Recipe *recipe;
    CHECK_OK(recipe_open(&recipe, &(CommonOptions){.seed = -1}, &err), &err);
    FILE *null = fopen("/dev/null", "w");
    IngestParams p = {
        .source = root, .out = out, .recipe = recipe, .jobs = 2, .shards = 1, .follow_links = 1, .results = null};
    int rc = prep_ingest(&p, &err);
    CHECK_OK(rc, &err);
    assert_int_equal(rc, 3);
    fclose(null);
    recipe_close(&recipe);

    char *text;
    int64_t size;
    CHECK_OK(file_read(at(out, "manifest.jsonl"), 1 << 24, &text, &size, &err), &err);
    size_t i = 0;
    for (char *row = strtok(text, "\n"); row; row = strtok(NULL, "\n"), i++) {
        json_t *o;
        CHECK_OK(json_parse(&o, row, (int64_t)strlen(row), "line", &err), &err);
        if (i == 2) {
            assert_string_equal(json_string_value(json_object_get(json_object_get(o, "reason"), "code")), "too_short");
        } else {
            for (size_t k = 0; k < 9; k++) {
                const json_t *entry = json_array_get(json_object_get(o, "ledger"), k);
                assert_int_equal(json_integer_value(json_object_get(entry, "index")), want[i].picks[k]);
            }
            uint8_t *rgb;
            int64_t n, width, height;
            char *clip = at(out, json_string_value(json_object_get(json_object_get(o, "clip"), "file")));
            CHECK_OK(video_read_rgb(clip, FRAMES + 1, WIDTH, HEIGHT, &rgb, &n, &width, &height, &err), &err);
            check_pixels(want[i].name, rgb, i);
            mem_free(rgb);
        }
        json_decref(o);
    }
    assert_int_equal(i, 3);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(portrait)};
    return check_run_live("prep real", tests);
}
