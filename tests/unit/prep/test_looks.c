/* How clips look to people: products in other colours are not the same clip, a camera's flash is not a
 * new shot. */
#include <stdlib.h>
#include "unit/prep_run.h"

enum { W = 96, H = 144, FRAMES = 60 };

static void write_film(const char *path, void (*draw)(uint8_t *rgb, int k, const void *user), const void *user, int crf)
{
    static uint8_t rgb[W * H * 3];
    Err err = {0};
    VideoWriter *w;
    VideoWriterParams p = {.codec = VIDEO_H264, .width = W, .height = H, .rate = {8, 1}, .crf = crf};
    CHECK_OK(video_create(&w, path, &p, &err), &err);
    for (int k = 0; k < FRAMES; k++) {
        draw(rgb, k, user);
        CHECK_OK(video_write(w, rgb, &err), &err);
    }
    CHECK_OK(video_finish(&w, &err), &err);
}

static void fill(uint8_t *rgb, int x0, int y0, int x1, int y1, const uint8_t colour[3])
{
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            memcpy(rgb + (y * W + x) * 3, colour, 3);
}

/* A bag of a twentieth of the picture that glides over a white table. */
static void draw_bag(uint8_t *rgb, int k, const void *user)
{
    static const uint8_t table[3] = {228, 228, 228}, shadow[3] = {200, 200, 200}, metal[3] = {150, 140, 90};
    int x = 30 + k / 6;
    fill(rgb, 0, 0, W, H, table);
    fill(rgb, x, 88, x + 28, 91, shadow);
    fill(rgb, x, 64, x + 28, 88, user);
    fill(rgb, x + 12, 70, x + 16, 74, metal);
}

static void colours_of_a_product(void **state)
{
    static const struct {
        const char *name;
        uint8_t rgb[3];
    } bags[] = {{"black", {40, 40, 40}},
                {"blue", {50, 80, 170}},
                {"brown", {110, 75, 50}},
                {"green", {40, 110, 60}},
                {"red", {170, 40, 40}}};
    static const char *const sets[] = {
        "quality.mode=reject", "quality.duplicates=reject", "clip.width=96",         "clip.height=144",
        "clip.min_side=16",    "quality.blur_reject=0",     "quality.dark_reject=0", NULL};
    char *root = run_folder("bags"), name[64];
    (void)state;
    for (size_t i = 0; i < sizeof bags / sizeof *bags; i++) {
        snprintf(name, sizeof name, "%s.mp4", bags[i].name);
        write_film(run_path(root, name), draw_bag, bags[i].rgb, 17);
        run_caption(root, bags[i].name);
    }
    write_film(run_path(root, "red_again.mp4"), draw_bag, bags[4].rgb, 30);
    run_caption(root, "red_again");
    json_t *lines = run_ingest(root, check_tmp_path("bags.out"), 1, sets);
    for (size_t i = 0; i < sizeof bags / sizeof *bags; i++)
        assert_string_equal(run_reason(run_line(lines, bags[i].name)), "");
    assert_string_equal(run_reason(run_line(lines, "red_again")), "near_duplicate");
    json_decref(lines);
}

typedef struct Scene {
    int flash, flashes; /* the first lit frame, and how many */
    int cut;            /* from this frame on another scene */
} Scene;

/* Stripes that drift; another scene has other stripes in other colours. */
static void draw_scene(uint8_t *rgb, int k, const void *user)
{
    const Scene *s = user;
    int other = s->cut && k >= s->cut, lit = k >= s->flash && k < s->flash + s->flashes;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int v = other ? ((y + k) / 30 % 2 ? 150 : 60) : ((x + k / 4) / 30 % 2 ? 90 : 30);
            uint8_t *p = rgb + (y * W + x) * 3;
            p[0] = (uint8_t)(lit ? 200 + v / 8 : other ? v / 3 : v);
            p[1] = (uint8_t)(lit ? 200 + v / 8 : other ? v : v / 2 + 20);
            p[2] = (uint8_t)(lit ? 200 + v / 8 : v / 2);
        }
}

static void flashes_and_cuts(void **state)
{
    static const struct {
        const char *name, *want;
        Scene scene;
    } cases[] = {{"still", "", {0, 0, 0}},         {"flash", "", {16, 1, 0}},
                 {"flashes", "", {16, 2, 0}},      {"light", "scene_cut", {16, 5, 0}}, /* a lamp that stays on longer */
                 {"cut", "scene_cut", {0, 0, 20}}, {"flash_then_cut", "scene_cut", {16, 2, 18}}};
    static const char *const sets[] = {
        "quality.mode=reject", "quality.scene_cut=reject", "clip.width=96",         "clip.height=144",
        "clip.min_side=16",    "quality.blur_reject=0",    "quality.dark_reject=0", NULL};
    char *root = run_folder("flashes"), name[64];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(name, sizeof name, "%s.mp4", cases[i].name);
        write_film(run_path(root, name), draw_scene, &cases[i].scene, 17);
        run_caption(root, cases[i].name);
    }
    json_t *lines = run_ingest(root, check_tmp_path("flashes.out"), 1, sets);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(run_reason(run_line(lines, cases[i].name)), cases[i].want) != 0)
            fail_msg("%s: '%s', expected '%s'", cases[i].name, run_reason(run_line(lines, cases[i].name)),
                     cases[i].want);
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(colours_of_a_product), cmocka_unit_test(flashes_and_cuts)};
    return check_run_live("prep looks", tests);
}
