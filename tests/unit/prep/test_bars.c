/* Black bars burnt into the picture: found where they are, left alone where there are none, and
 * gone from the prepared clip. */
#include <stdlib.h>
#include "unit/clip_maker.h"
#include "common/base/str.h"
#include "prep/picture/bars.h"
#include "unit/prep_run.h"

enum { W = 96, H = 144, FRAMES = 49 };

static uint32_t noise(uint32_t *s)
{
    return (*s = *s * 1664525u + 1013904223u) >> 8;
}

/* ---- the meter alone ------------------------------------------------------------------------- */
enum { PW = 100, PH = 80 };

static void paint(uint8_t *rgb, int x0, int y0, int x1, int y1, int low, int high, uint32_t *seed)
{
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            memset(rgb + (y * PW + x) * 3, low + (int)(noise(seed) % (uint32_t)(high - low + 1)), 3);
}

static void look(const char *what, void (*draw)(uint8_t *rgb, int k, uint32_t *seed), const int64_t want[4],
                 int want_wider)
{
    static uint8_t rgb[PW * PH * 3];
    uint32_t seed = (uint32_t)check_seed();
    Err err = {0};
    BarMeter *m;
    int64_t bars[4];
    int wider;
    CHECK_OK(bar_meter_open(&m, PW, PH, &err), &err);
    for (int k = 0; k < 20; k++) {
        draw(rgb, k, &seed);
        bar_meter_add(m, rgb);
    }
    bar_meter_find(m, bars, &wider);
    bar_meter_close(&m);
    if (memcmp(bars, want, sizeof bars) || wider != want_wider)
        fail_msg("%s: %lld %lld %lld %lld, wider %d", what, (long long)bars[0], (long long)bars[1], (long long)bars[2],
                 (long long)bars[3], wider);
}

static void draw_window(uint8_t *rgb, int k, uint32_t *seed)
{
    paint(rgb, 0, 0, PW, PH, 0, 23, seed); /* as dark as a bar may be */
    if (k != 3)                            /* one black picture in twenty changes nothing */
        paint(rgb, 10, 8, PW - 10, PH - 8, 20, 200, seed);
}

/* The bars above and below are lit in some pictures: in a tenth of them they still are bars. */
static void draw_flashes(uint8_t *rgb, int k, uint32_t *seed)
{
    draw_window(rgb, 0, seed);
    if (k < 2)
        paint(rgb, 10, 0, PW - 10, 4, 24, 24, seed), paint(rgb, 10, 76, PW - 10, PH, 24, 24, seed);
}

static void draw_more_flashes(uint8_t *rgb, int k, uint32_t *seed)
{
    draw_flashes(rgb, k < 3 ? 0 : 3, seed);
}

static void draw_night(uint8_t *rgb, int k, uint32_t *seed)
{
    (void)k;
    paint(rgb, 0, 0, PW, PH, 0, 20, seed);
}

static void draw_spotlight(uint8_t *rgb, int k, uint32_t *seed)
{
    draw_night(rgb, k, seed);
    for (int y = 12; y < 70; y++) { /* a figure, a head narrower than its body, that walks from side to side */
        int half = y < 24 ? 4 : 9, x = 40 + k % 20;
        paint(rgb, x - half, y, x + half, y + 1, 60, 220, seed);
    }
}

static void draw_wide(uint8_t *rgb, int k, uint32_t *seed)
{
    draw_night(rgb, k, seed);
    paint(rgb, 30, 0, PW - 30, PH, 60, 200, seed);
}

static void draw_uneven(uint8_t *rgb, int k, uint32_t *seed)
{
    draw_night(rgb, k, seed);
    paint(rgb, 8, 9, PW - 9, PH, 60, 200, seed); /* below there is no bar */
}

static void what_is_a_bar(void **state)
{
    (void)state;
    look("window", draw_window, (const int64_t[]){10, 10, 8, 8}, 0);
    look("flashes", draw_flashes, (const int64_t[]){10, 10, 8, 8}, 0);
    look("more flashes", draw_more_flashes, (const int64_t[]){10, 10, 0, 0}, 0);
    look("night", draw_night, (const int64_t[]){0, 0, 0, 0}, 0);
    look("spotlight", draw_spotlight, (const int64_t[]){0, 0, 0, 0}, 0);
    look("wide", draw_wide, (const int64_t[]){14, 14, 0, 0}, 1);
    look("uneven", draw_uneven, (const int64_t[]){10, 10, 0, 0}, 0);
}

/* ---- whole clips ----------------------------------------------------------------------------- */
typedef struct Film {
    const char *id;
    int width, height, x, y; /* stored; bars of x columns and y rows a side, stored too */
    int dark;                /* the picture is a spot in the dark */
    int32_t turn[9];
    AVRational sar;
    const char *crop; /* of the metadata */
    int64_t bars[4], part[4];
} Film;

/* Luma 16 and compression's noise in the bars, a bright drifting texture inside. */
static void draw(AVFrame *f, int k, const void *user)
{
    const Film *film = user;
    uint32_t seed = (uint32_t)k;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            int inside = x >= film->x && x < f->width - film->x && y >= film->y && y < f->height - film->y;
            int spot = (x - f->width / 2) * (x - f->width / 2) + (y - f->height / 2) * (y - f->height / 2) < 400;
            int bright = inside && (!film->dark || spot) ? 120 + (x * 5 + y * 3 + k * 2) % 80 : 16;
            f->data[0][y * f->linesize[0] + x] = (uint8_t)(bright + (int)(noise(&seed) % 7));
        }
    for (int p = 1; p < 3; p++)
        memset(f->data[p], 128, (size_t)(f->linesize[p] * ((f->height + 1) / 2)));
}

static int darkest_border(const uint8_t *rgb)
{
    int low = 255;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            if ((x == 0 || y == 0 || x == W - 1 || y == H - 1) && rgb[(y * W + x) * 3 + 1] < low)
                low = rgb[(y * W + x) * 3 + 1];
    return low;
}

static int same_four(const json_t *list, const int64_t want[4])
{
    for (size_t i = 0; i < 4; i++)
        if (json_integer_value(json_array_get(list, i)) != want[i])
            return 0;
    return 1;
}

static void bars_go_from_clips(void **state)
{
#define QUARTER                                  \
    {                                            \
        0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30 \
    }
    static const Film films[] = {
        {"pillar", 160, 144, 24, 0, 0, {0}, {1, 1}, NULL, {24, 24, 0, 0}, {24, 0, 112, 144}},
        {"letter", 96, 192, 0, 24, 0, {0}, {1, 1}, NULL, {0, 0, 24, 24}, {0, 24, 96, 144}},
        {"window", 128, 192, 16, 24, 0, {0}, {1, 1}, NULL, {16, 16, 24, 24}, {16, 24, 96, 144}},
        {"wide", 200, 144, 50, 0, 0, {0}, {1, 1}, NULL, {30, 30, 0, 0}, {30, 0, 140, 144}},
        {"odd", 130, 144, 15, 0, 0, {0}, {1, 1}, NULL, {16, 16, 0, 0}, {16, 0, 98, 144}},
        {"turned", 144, 160, 0, 24, 0, QUARTER, {1, 1}, NULL, {24, 24, 0, 0}, {24, 0, 112, 144}},
        {"aspect", 120, 144, 18, 0, 0, {0}, {4, 3}, NULL, {24, 24, 0, 0}, {24, 0, 112, 144}},
        {"cropped", 160, 144, 24, 0, 0, {0}, {1, 1}, "[10, 0, 140, 144]", {14, 14, 0, 0}, {24, 0, 112, 144}},
        {"none", 96, 144, 0, 0, 0, {0}, {1, 1}, NULL, {0, 0, 0, 0}, {0}},
        {"spot", 96, 144, 0, 0, 1, {0}, {1, 1}, NULL, {0, 0, 0, 0}, {0}}};
    enum { FILMS = sizeof films / sizeof *films };
    char *root = run_folder("bars"), *out = check_tmp_path("bars-out"), *name;
    Str lines = {0};
    Err err = {0};
    (void)state;
    for (size_t i = 0; i < FILMS; i++) {
        const Film *f = &films[i];
        name = mem_printf(&err, "%s.mp4", f->id);
        Clip c = {.container = "mp4",
                  .codec = "libx264",
                  .options = "crf=30:preset=ultrafast:threads=1",
                  .format = AV_PIX_FMT_YUV420P,
                  .width = f->width,
                  .height = f->height,
                  .time_base = {1, 8},
                  .frames = FRAMES,
                  .space = AVCOL_SPC_BT709,
                  .range = AVCOL_RANGE_MPEG,
                  .sar = f->sar,
                  .matrix = f->turn[1] ? f->turn : NULL,
                  .draw = draw,
                  .user = f};
        make_clip(run_path(root, name), &c);
        CHECK_OK(str_printf(&lines, &err, "{\"file_name\": \"%s\", \"text\": \"x\"%s%s}\n", name,
                            f->crop ? ", \"crop\": " : "", f->crop ? f->crop : ""),
                 &err);
        mem_free(name);
    }
    CHECK_OK(dir_make(run_path(root, "pictures"), &err), &err);
    for (int k = 0; k < FRAMES; k++) { /* a folder of pictures is no other */
        static uint8_t rgb[160 * 144 * 3];
        uint32_t seed = (uint32_t)k;
        for (int i = 0; i < 160 * 144; i++)
            memset(rgb + i * 3,
                   i % 160 < 24 || i % 160 >= 136 ? (int)(noise(&seed) % 9) : 100 + (int)(noise(&seed) % 99), 3);
        name = mem_printf(&err, "pictures/%03d.png", k);
        CHECK_OK(picture_write_png(run_path(root, name), rgb, 160, 144, &err), &err);
        mem_free(name);
    }
    CHECK_OK(str_printf(&lines, &err, "{\"file_name\": \"pictures\", \"fps\": 8, \"text\": \"x\"}\n"), &err);
    CHECK_OK(file_write_atomic(run_path(root, "metadata.jsonl"), lines.data, lines.len, &err), &err);
    str_fini(&lines);

    json_t *r = run_ingest(root, out, 2, (const char *const[]){"clip.trim_bars=true", NULL});
    for (size_t i = 0; i <= FILMS; i++) {
        const Film *f = &films[i < FILMS ? i : 0];
        const json_t *line = run_line(r, i < FILMS ? f->id : "pictures"), *geometry = json_object_get(line, "geometry");
        assert_string_equal(run_reason(line), "");
        if (!same_four(json_object_get(geometry, "bars"), f->bars) ||
            !same_four(json_object_get(geometry, "part"), f->part))
            fail_msg("%s: %s", f->id, json_dumps(geometry, JSON_COMPACT));
        assert_int_equal(run_warned(line, "bars_trimmed"), f->bars[0] || f->bars[2]);
        uint8_t *rgb = run_pixels(out, line, FRAMES, W, H);
        if (strcmp(f->id, "wide") != 0 && !f->dark && darkest_border(rgb + 20 * W * H * 3) < 70)
            fail_msg("%s: a border pixel of %d is left of a bar", f->id, darkest_border(rgb + 20 * W * H * 3));
        mem_free(rgb);
    }
    /* Cover fits what is left, not what was there: 112 x 144 of 160 x 144. */
    const json_t *geometry = json_object_get(run_line(r, "pillar"), "geometry");
    assert_int_equal(json_integer_value(json_object_get(geometry, "scaled_width")), 112);
    assert_int_equal(json_integer_value(json_object_get(geometry, "crop_x")), 8);
    check_value("lost", json_real_value(json_object_get(geometry, "lost")), 1 - 96 / 112.0, 1e-12, 0);
    check_value("enlarged",
                json_real_value(json_object_get(json_object_get(run_line(r, "pillar"), "quality"), "enlarged")), 1,
                1e-12, 0);
    /* taken over, note and all */
    json_t *again = run_ingest(root, out, 1, (const char *const[]){"clip.trim_bars=true", NULL});
    assert_true(json_equal(r, again));
    json_decref(again);
    json_decref(r);

    r = run_ingest(root, out, 2, NULL); /* never by itself: 40 % of the width would be lost */
    assert_string_equal(run_reason(run_line(r, "pillar")), "crop_too_large");
    geometry = json_object_get(run_line(r, "letter"), "geometry");
    assert_true(json_is_null(json_object_get(geometry, "bars")) && json_is_null(json_object_get(geometry, "part")));
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_a_bar), cmocka_unit_test(bars_go_from_clips)};
    av_log_set_level(AV_LOG_QUIET); /* of the encoder that makes the clips */
    return check_run_live("prep bars", tests);
}
