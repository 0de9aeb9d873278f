/* Exposure and white-balance evening: the gains against the definition, the prepared clip against
 * the gains, and nothing when off. */
#include <math.h>
#include <stdlib.h>
#include "unit/clip_maker.h"
#include "prep/picture/evening.h"
#include "unit/prep_run.h"

enum { W = 96, H = 144, FRAMES = 49, PIXELS = W * H };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double clamp(double x, double low, double high)
{
    return fmin(fmax(x, low), high);
}

typedef struct Gains {
    double white[3], exposure;
} Gains;

/* docs/video.md 6 once more, in floating point over sorted pixels. */
static Gains by_definition(const uint8_t *rgb, int64_t n, double strength, double target)
{
    double sum[3] = {0}, *luma = malloc((size_t)n * sizeof *luma);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *p = rgb + 3 * i;
        double y = (0.2126 * p[0] + 0.7152 * p[1] + 0.0722 * p[2]) / 255;
        if (y <= 0.05 || y >= 0.95 || (p[0] >= 0.92 * 255 && p[1] >= 0.92 * 255 && p[2] >= 0.92 * 255))
            continue;
        luma[count++] = y;
        for (int c = 0; c < 3; c++)
            sum[c] += p[c];
    }
    qsort(luma, (size_t)count, sizeof *luma, by_value);
    Gains g = {.exposure = clamp(target / luma[(count - 1) / 2], 0.7, 1.4)};
    for (int c = 0; c < 3; c++)
        g.white[c] = 1 + strength * (clamp((sum[0] + sum[1] + sum[2]) / 3 / sum[c], 0.8, 1.25) - 1);
    free(luma);
    return g;
}

static void gains_by_definition(void **state)
{
    enum { N = 5000 };
    static uint8_t rgb[N * 3], even[N * 3];
    static const double tint[4][3] = {{1, 0.9, 0.7}, {0.4, 0.5, 1}, {1, 1, 1}, {0.2, 0.1, 0.12}};
    uint32_t seed = (uint32_t)check_seed();
    (void)state;
    for (int t = 0; t < 4; t++)
        for (int strength = 0; strength <= 2; strength++) {
            Evening e = {0};
            for (int i = 0; i < N * 3; i++)
                rgb[i] = (uint8_t)(((seed = seed * 1664525u + 1013904223u) >> 24) * tint[t][i % 3]);
            for (int i = 0; i < N * 3 / 4; i++) /* a quarter is a white wall, and some of it coloured */
                rgb[i] = (uint8_t)(i % 300 == 0 ? 200 : 235 + i % 21);
            for (int i = 0; i < 10; i++)
                evening_add(&e, rgb + i * N / 10 * 3, N / 10);
            evening_find(&e, 1, 1, strength / 2.0, 0.5);
            Gains g = by_definition(rgb, N, strength / 2.0, 0.5);
            for (int c = 0; c < 3; c++)
                check_value("white", e.white[c], g.white[c], 1e-12, 0);
            check_value("exposure", e.exposure, g.exposure, 0, 1e-3); /* luma is kept to a tenth of a level */
            memcpy(even, rgb, sizeof rgb);
            evening_apply(&e, even, N);
            for (int i = 0; i < N * 3; i++)
                if (fabs(even[i] - fmin(rgb[i] * e.white[i % 3] * e.exposure, 255)) > 0.5 + 1e-9)
                    fail_msg("value %d with gain %g x %g became %d", rgb[i], e.white[i % 3], e.exposure, even[i]);
        }
    Evening white = {0}, neither = {0};
    memset(rgb, 250, sizeof rgb);
    for (int i = 0; i < 49; i++) /* of 5000 pixels: too few to go by */
        memcpy(rgb + 3 * i, (const uint8_t[]){90, 40, 30}, 3);
    evening_add(&white, rgb, N);
    evening_find(&white, 1, 1, 1, 0.5);
    assert_true(white.exposure == 1 && white.white[0] == 1 && white.white[1] == 1 && white.white[2] == 1);
    for (int i = 0; i < N * 3; i++)
        rgb[i] = (uint8_t)(i % 3 * 60 + 20);
    evening_add(&neither, rgb, N);
    evening_find(&neither, 0, 0, 1, 0.5);
    memcpy(even, rgb, sizeof rgb);
    evening_apply(&neither, even, N);
    assert_memory_equal(even, rgb, sizeof rgb);
}

/* A yellowish, dark picture before a white wall, brighter from frame to frame. */
static void draw(AVFrame *f, int k, const void *user)
{
    (void)user;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            uint8_t *p = f->data[0] + y * f->linesize[0] + 4 * x; /* B G R 0 */
            int v = 40 + k + (x * 7 + y * 3) % 50, wall = x < 24;
            p[0] = (uint8_t)(wall ? 252 : v / 2), p[1] = (uint8_t)(wall ? 252 : v),
            p[2] = (uint8_t)(wall ? 252 : v + 10), p[3] = 0;
        }
}

static Gains recorded(const json_t *line)
{
    const json_t *e = json_object_get(line, "evening"), *white = json_object_get(e, "white");
    Gains g = {.exposure = json_real_value(json_object_get(e, "exposure"))};
    for (size_t c = 0; c < 3; c++)
        g.white[c] = json_real_value(json_array_get(white, c));
    return g;
}

static void clips_are_what_the_gains_say(void **state)
{
    /* pictures of the first pass, and of a second */
    static const char *const windows[] = {"clip.window=first", "clip.window=middle"};
    char *root = run_folder("even"), *out = check_tmp_path("even-out");
    (void)state;
    Clip clip = {.container = "matroska",
                 .codec = "ffv1",
                 .options = "level=3",
                 .format = AV_PIX_FMT_BGR0,
                 .width = W,
                 .height = H,
                 .time_base = {1, 8},
                 .frames = 80,
                 .draw = draw};
    make_clip(run_path(root, "a.mkv"), &clip);
    run_caption(root, "a");
    for (int i = 0; i < 2; i++) {
        json_t *off = run_ingest(root, out, 1, (const char *const[]){windows[i], NULL});
        assert_true(json_is_null(json_object_get(run_line(off, "a"), "evening")));
        uint8_t *before = run_pixels(out, run_line(off, "a"), FRAMES, W, H);
        Gains want = by_definition(before, (int64_t)FRAMES * PIXELS, 0.5, 0.5);
        const char *before_sha = json_string_value(
            json_object_get(json_object_get(run_line(off, "a"), "clip"), "pixels_sha256"));
        static const char *const modes[] = {"clip.evening=both", "clip.evening=white", "clip.evening=exposure"};
        for (int mode = 0; mode < 3; mode++) {
            json_t *on = run_ingest(root, out, 2, (const char *const[]){windows[i], modes[mode], NULL});
            const json_t *line = run_line(on, "a");
            uint8_t *after = run_pixels(out, line, FRAMES, W, H);
            Gains g = recorded(line);
            double sum = 0;
            for (int c = 0; c < 3; c++)
                check_value("white", g.white[c], mode == 2 ? 1 : want.white[c], 1e-12, 0);
            check_value("exposure", g.exposure, mode == 1 ? 1 : want.exposure, 0, 1e-3);
            assert_true(mode == 2 || (g.white[2] > 1.1 && g.white[0] < 0.95));
            for (int64_t k = 0; k < (int64_t)FRAMES * PIXELS * 3; k++) { /* one gain for the whole clip */
                double to = fmin(before[k] * g.white[k % 3] * g.exposure, 255);
                if (fabs(after[k] - to) > 0.5 + 1e-9)
                    fail_msg("value %d became %d, expected %.2f", before[k], after[k], to);
                sum += after[k] * (const double[]){0.2126, 0.7152, 0.0722}[k % 3];
            }
            /* Figures are of what is written. */
            check_value("mean luma", json_real_value(json_object_get(json_object_get(line, "quality"), "mean_luma")),
                        sum / ((double)FRAMES * PIXELS), 1e-6, 0);
            mem_free(after);
            json_decref(on);
        }
        /* off: the same bytes as before */
        json_t *again = run_ingest(root, out, 2, (const char *const[]){windows[i], NULL});
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(run_line(again, "a"), "clip"), "pixels_sha256")),
            before_sha);
        json_decref(again);
        json_decref(off);
        mem_free(before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gains_by_definition),
                                       cmocka_unit_test(clips_are_what_the_gains_say)};
    av_log_set_level(AV_LOG_QUIET); /* of the encoder that makes the clips */
    return check_run_live("prep evening", tests);
}
