/* How much of the picture the subject takes up: drawn scenes of known shares, and the reference
 * videos where people come and go. */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>
#include "prep/picture/visible.h"
#include "unit/prep_run.h"

enum { W = 96, H = 144, N = 49 };

static uint32_t noise(uint32_t *s)
{
    return (*s = *s * 1664525u + 1013904223u) >> 8;
}

typedef struct Scene {
    const char *name;
    int studio;    /* a white wall, or a room with a floor, a door and a table */
    int figure[N]; /* left edge of a figure of 24 x 96 pixels; -1: it is not there */
} Scene;

static void draw(const Scene *s, int k, uint8_t *rgb, uint32_t *seed)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int c[3] = {243, 242, 240}, left = s->figure[k];
            if (!s->studio) {
                int floor = y > 100, door = x > 60 && x<84, table = x> 20 && x < 40 && y > 90;
                c[0] = floor ? 130 + y % 12 * 4 : door ? 120 : 180;
                c[1] = floor ? 80 : door ? 110 : 178;
                c[2] = floor ? 30 : door ? 90 : 170;
                if (table)
                    c[0] = c[1] = c[2] = 230;
            }
            if (left >= 0 && x >= left && x < left + 24 && y >= 30 && y < 126) {
                int head = y < 50;
                c[0] = head ? 90 : 40 + y % 8 * 3, c[1] = head ? 60 : 44, c[2] = head ? 40 : 70;
            }
            for (int i = 0; i < 3; i++)
                rgb[(y * W + x) * 3 + i] = (uint8_t)(c[i] + (int)(noise(seed) % 9) - 4);
        }
}

static const double share_of_figure = 24.0 * 96 / (W * H);

static void check_scene(const Scene *s, VisibleMethod method)
{
    static uint8_t rgb[W * H * 3];
    uint32_t seed = (uint32_t)check_seed();
    double share[N];
    Err err = {0};
    Visible *v;
    CHECK_OK(visible_open(&v, W, H, N, &err), &err);
    for (int k = 0; k < N; k++) {
        if (k && s->figure[k] == s->figure[k - 1] && k % 5 == 0) { /* the same source frame again */
            visible_repeat(v);
            continue;
        }
        draw(s, k, rgb, &seed);
        visible_add(v, rgb);
    }
    assert_int_equal(visible_find(v, share), method);
    visible_close(&v);
    for (int k = 0; k < N; k++) {
        double want = s->figure[k] < 0 ? 0 : share_of_figure;
        if (share[k] < want - 0.02 || share[k] > want + 0.02)
            fail_msg("%s: picture %d: %.3f, expected %.3f", s->name, k, share[k], want);
    }
}

static void drawn_scenes(void **state)
{
    static Scene s;
    (void)state;
    s = (Scene){.name = "studio, standing", .studio = 1};
    for (int k = 0; k < N; k++)
        s.figure[k] = 36;
    check_scene(&s, VISIBLE_PLAIN);
    s.name = "studio, leaving";
    for (int k = 30; k < N; k++)
        s.figure[k] = -1;
    check_scene(&s, VISIBLE_PLAIN);
    /* most of the time: what is there most often is the figure */
    s = (Scene){.name = "room, coming and standing still"};
    for (int k = 0; k < N; k++)
        s.figure[k] = k < 6 ? -1 : k < 14 ? 4 * (k - 6) : 30;
    check_scene(&s, VISIBLE_MOVING);
    s.name = "room, standing still and leaving";
    for (int k = 0; k < N; k++)
        s.figure[k] = k < 36 ? 30 : k < 44 ? 30 + 5 * (k - 36) : -1;
    check_scene(&s, VISIBLE_MOVING);
    s.name = "room, walking through";
    for (int k = 0; k < N; k++)
        s.figure[k] = k < 5 || k > 40 ? -1 : 2 * (k - 5);
    check_scene(&s, VISIBLE_MOVING);
    for (int studio = 0; studio < 2; studio++) {
        s = (Scene){.name = "nobody", .studio = studio};
        for (int k = 0; k < N; k++)
            s.figure[k] = -1;
        check_scene(&s, studio ? VISIBLE_PLAIN : VISIBLE_MOVING);
    }
    s.name = "room, never moving"; /* cannot be detected: it is part of the room */
    double share[N];
    static uint8_t rgb[W * H * 3];
    uint32_t seed = 1;
    Err err = {0};
    Visible *v;
    s.studio = 0;
    CHECK_OK(visible_open(&v, W, H, N, &err), &err);
    for (int k = 0; k < N; k++) {
        s.figure[k] = 30;
        draw(&s, k, rgb, &seed);
        visible_add(v, rgb);
    }
    assert_int_equal(visible_find(v, share), VISIBLE_MOVING);
    assert_true(share[0] == 0 && share[N - 1] == 0);
    visible_close(&v);
}

/* Pictures of 1 x 1 cells and of more than 48 x 72 which no cell size divides. */
static void any_size(void **state)
{
    static const int64_t sizes[][2] = {{1, 1}, {16, 16}, {47, 73}, {101, 211}};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Err err = {0};
        Visible *v;
        double share[2];
        int64_t w = sizes[i][0], h = sizes[i][1];
        uint8_t *rgb = mem_calloc(w * h, 3, &err);
        CHECK_OK(visible_open(&v, w, h, 2, &err), &err);
        memset(rgb, 200, (size_t)(w * h * 3));
        visible_add(v, rgb);
        visible_add(v, rgb);
        assert_int_equal(visible_find(v, share), VISIBLE_PLAIN);
        assert_true(share[0] == 0 && share[1] == 0);
        visible_close(&v);
        mem_free(rgb);
    }
}

/* Whether somebody is there in the first and in the last picture, as one sees in the videos. */
static void people_come_and_go(void **state)
{
    static const struct {
        const char *file;
        int first, last, empty;
    } want[] = {
        {"portrait/walk_01_grey_dress_in.mp4", 0, 1, 0},
        {"portrait/walk_05_black_top_in.mp4", 0, 1, 0},
        {"portrait/walk_06_black_top_out.mp4", 1, 0, 0},
        {"portrait/walk_10_grey_sweater_out.mp4", 1, 0, 0},
        {"odd/vfr_gap.mkv", 0, 1, 0},                      /* frames are shown several times */
        {"real/one-by-one-person-detection.mp4", 0, 0, 1}, /* its first six seconds are an empty corridor */
    };
    char *root = run_folder("people"), *out = check_tmp_path("people-out"), name[64], from[PATH_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        snprintf(name, sizeof name, "data/videos/%s", want[i].file);
        assert_non_null(realpath(check_need_shared(name), from));
        snprintf(name, sizeof name, "v%zu%s", i, strrchr(want[i].file, '.'));
        assert_int_equal(symlink(from, run_path(root, name)), 0);
        snprintf(name, sizeof name, "v%zu", i);
        run_caption(root, name);
    }
    json_t *lines = run_ingest(
        root, out, 2,
        (const char *const[]){"clip.max_lost=1", "quality.visible_reject=0.02", "clip.allow_vfr=true", NULL});
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        snprintf(name, sizeof name, "v%zu", i);
        const json_t *line = run_line(lines, name), *quality = json_object_get(line, "quality");
        const json_t *visible = json_object_get(quality, "visible");
        const json_t *series = json_object_get(json_object_get(quality, "frames"), "visible");
        double first = json_real_value(json_array_get(series, 0)), last = json_real_value(json_array_get(series, 48));
        print_message("# %s: first %.3f, last %.3f, least %.3f, median %.3f\n", want[i].file, first, last,
                      json_real_value(json_object_get(visible, "min")),
                      json_real_value(json_object_get(visible, "median")));
        assert_string_equal(json_string_value(json_object_get(visible, "method")), "moving");
        assert_true(want[i].first ? first > 0.2 : first < 0.03);
        assert_true(want[i].last ? last > 0.2 : last < 0.03);
        assert_int_equal(run_warned(line, "little_visible"), want[i].empty); /* quality.mode=warn */
        assert_true(want[i].empty || json_real_value(json_object_get(visible, "median")) > 0.2);
    }
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(drawn_scenes), cmocka_unit_test(any_size),
                                       cmocka_unit_test(people_come_and_go)};
    return check_run_live("prep visible", tests);
}
