/* Measures with answers that are known without another program: formulas, tables and rules. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/metrics/frechet.h"
#include "common/metrics/inception_score.h"
#include "common/metrics/meter.h"
#include "common/metrics/motion.h"
#include "common/metrics/paired.h"

static Err err;

/* ---- pictures --------------------------------------------------------------------------------- */
/* Figures of a sequence of constant pictures. */
static VideoFigures constant(const int *level, int n)
{
    VideoMeter *m;
    VideoFigures f;
    uint8_t rgb[32 * 32 * 3];

    CHECK_OK(video_meter_new(&m, 32, 32, &err), &err);
    for (int k = 0; k < n; k++) {
        memset(rgb, level[k], sizeof rgb);
        CHECK_OK(video_meter_add(m, rgb, &err), &err);
    }
    CHECK_OK(video_meter_finish(m, &f, &err), &err);
    video_meter_free(&m);
    return f;
}

static void sequences_of_constant_pictures(void **state)
{
    static const struct {
        int level[8];
        double difference, flicker, second, linear;
    } row[] = {{{0, 10, 20, 30, 40, 50, 60, 70}, 10, 0.960784313725, 0, 1},
               {{100, 120, 100, 120, 100, 120, 100, 120}, 20, 0.921568627451, 40, 0.921568627451},
               {{50, 50, 50, 50, 50, 50, 50, 50}, 0, 1, 0, 1},
               {{0, 1, 4, 9, 16, 25, 36, 49}, 7, 0.972549019608, 2, 0.996078431373},
               {{0, 0, 0, 0, 200, 200, 200, 200}, 28.571428571, 0.887955182073, 66.666666667, 0.869281045752}};

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        VideoFigures f = constant(row[i].level, 8);
        check_value("difference", f.difference, row[i].difference, 1e-9, 0);
        check_value("flicker", f.flicker, row[i].flicker, 1e-12, 0);
        check_value("second difference", f.second_difference, row[i].second, 1e-9, 0);
        check_value("linear smoothness", f.smoothness_linear, row[i].linear, 1e-12, 0);
        assert_true(f.motion == 0 && f.jerk == 0 && f.dynamic == 0);
    }
}

/* Noise in squares of k x k pixels that moves by k px a frame, `frames` of them, at short side `side`. */
static VideoFigures moving_noise(int64_t side, int64_t k, int64_t px, int frames)
{
    int64_t width = side * 3 / 2, height = side;
    uint8_t *rgb = mem_calloc(width * height, 3, &err);
    VideoMeter *m;
    VideoFigures f;

    CHECK_OK(video_meter_new(&m, width, height, &err), &err);
    for (int n = 0; n < frames; n++) {
        for (int64_t y = 0; y < height; y++)
            for (int64_t x = 0; x < width; x++) {
                uint32_t s = (uint32_t)((y / k) * 7919 + x / k + 1000 - n * px) * 2654435761u;
                memset(rgb + (y * width + x) * 3, (int)((s ^ s >> 15) * 2246822519u >> 24), 3);
            }
        CHECK_OK(video_meter_add(m, rgb, &err), &err);
    }
    CHECK_OK(video_meter_finish(m, &f, &err), &err);
    video_meter_free(&m);
    mem_free(rgb);
    return f;
}

/* 30 pixels a frame at a short side of 960 are 15 at 480: they are found, as in the video of half the size. */
static void motion_of_big_videos(void **state)
{
    VideoFigures big = moving_noise(960, 2, 15, 3), small = moving_noise(480, 1, 15, 3);

    (void)state;
    check_value("motion", big.motion, 15, 0.6, 0); /* what comes in at an edge has not moved from anywhere */
    assert_true(big.motion == small.motion && big.jerk == small.jerk && big.dynamic == 1 && small.dynamic == 1);
    assert_true(big.sharpness != small.sharpness); /* of the video's own pixels */
    /* 961 lines: the last one is dropped */
    assert_true(moving_noise(962, 2, 15, 2).motion > 14);
}

/* A frozen video: SSIM says 1, motion says 0, PSNR has nothing to say. */
static void frozen_and_single(void **state)
{
    const int level[3] = {9, 9, 9};
    VideoFigures f = constant(level, 3);

    (void)state;
    assert_true(f.ssim == 1 && f.ssim_min == 1 && f.smoothness == 1 && f.motion == 0);
    assert_true(isnan(f.psnr) && isnan(f.psnr_pooled) && f.equal_pairs == 2);
    f = constant(level, 1);
    assert_int_equal(f.frames, 1);
    assert_int_equal(f.ssim_min_at, -1);
    for (const FigureKind *kind = figure_kinds; kind->name; kind++)
        assert_true(isnan(figure_value(&f, kind)) == (strcmp(kind->name, "sharpness") != 0));
    f = constant(level, 2);
    assert_true(f.ssim == 1 && isnan(f.smoothness) && isnan(f.jerk));
}

/* Greys of `../shared/reference/metrics.md`, 11.3: 64 x 48. */
static void published_pairs(void **state)
{
    static const struct {
        int one, two;
        double mse, ssim;
    } row[] = {
        {0, 1, 1184.50065104, 0.814653616123}, {0, 2, 97.2692057292, 0.991723919635},  {3, 4, 96.5625, 0.991130149753},
        {0, 3, 11400.0729167, 0.381841813623}, {0, 5, 22026.3333333, -0.320814477647}, {0, 0, 0, 1},
        {6, 7, 100, 0.995476444092},           {8, 9, 65025, 9.99900009999e-05}};
    static uint8_t p[10][48 * 64];

    (void)state;
    for (int y = 0; y < 48; y++)
        for (int x = 0; x < 64; x++) {
            int i = y * 64 + x, a = (3 * x + 5 * y) % 256, r = (int)nearbyint(255.0 * x / 63);
            p[0][i] = (uint8_t)a;
            p[1][i] = (uint8_t)((a + (7 * x + 3 * y) % 11) % 256);
            p[2][i] = (uint8_t)(a + 10 < 255 ? a + 10 : 255);
            p[3][i] = (uint8_t)r;
            p[4][i] = (uint8_t)(r + 10 < 255 ? r + 10 : 255);
            p[5][i] = (uint8_t)(255 - a);
            p[6][i] = 100, p[7][i] = 110, p[8][i] = 0, p[9][i] = 255;
        }
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        double got;
        CHECK_OK(image_ssim(p[row[i].one], p[row[i].two], 64, 48, 1, 255, 1, &got, &err), &err);
        check_value("SSIM", got, row[i].ssim, 1e-12, 0);
        check_value("MSE", image_mse(p[row[i].one], p[row[i].two], 64 * 48), row[i].mse, 0, 1e-11);
    }
    double got;
    CHECK_FAILS(image_ssim(p[0], p[1], 10, 48, 1, 255, 1, &got, &err), ERR_USAGE, "10x48", &err);
    check_value("PSNR", image_psnr(65025), 0, 0, 0);
    assert_true(isinf(image_psnr(0)));
}

/* A textured picture, moved by a few pixels a frame. */
static uint8_t texture(int64_t x, int64_t y)
{
    uint32_t s = (uint32_t)(x / 2 * 7919 + y / 2 * 104729 + 17);
    s ^= s >> 7;
    s *= 0x9e3779b1u;
    return (uint8_t)(s >> 24);
}

static void motion_is_found(void **state)
{
    enum { W = 96, H = 80, N = 6 };
    static uint8_t rgb[W * H * 3];
    VideoMeter *m;
    VideoFigures f;

    (void)state;
    CHECK_OK(video_meter_new(&m, W, H, &err), &err);
    for (int64_t k = 0; k < N; k++) {
        for (int64_t y = 0; y < H; y++)
            for (int64_t x = 0; x < W; x++)
                memset(rgb + (y * W + x) * 3, texture(x + 1000 - 3 * k, y + 1000 + 2 * k), 3);
        CHECK_OK(video_meter_add(m, rgb, &err), &err);
    }
    CHECK_OK(video_meter_finish(m, &f, &err), &err);
    video_meter_free(&m);
    /* 3 right, 2 up; of blocks that leave the picture the rest is found */
    check_value("motion at the picture's own size", f.motion * 80 / 480, sqrt(13), 0.6, 0);
    assert_true(f.dynamic == 1); /* 6/256 of 80 pixels is 1.9 */
    assert_true(f.smoothness > f.smoothness_linear + 0.1);
}

static void a_plain_wall_stands_still(void **state)
{
    enum { W = 64, H = 64 };
    static uint8_t a[W * H], b[W * H];
    MotionVector v[16];
    uint32_t s = 5;

    (void)state;
    for (int i = 0; i < W * H; i++) {
        s = 1664525u * s + 1013904223u;
        a[i] = (uint8_t)(250 + (s >> 30));
        b[i] = (uint8_t)(250 + (s >> 28) % 4);
    }
    assert_int_equal(motion_blocks(W, H), 16);
    CHECK_OK(motion_search(a, b, W, H, v, &err), &err);
    for (int i = 0; i < 16; i++)
        assert_true(v[i].dx == 0 && v[i].dy == 0);
}

static void pictures_of_any_size(void **state)
{
    static const int64_t size[][2] = {{1, 1}, {1, 40}, {17, 3}, {33, 31}, {16, 16}};

    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        int64_t w = size[i][0], h = size[i][1];
        uint8_t *rgb = check_guarded(w * h * 3);
        VideoMeter *m;
        VideoFigures f;
        CHECK_OK(video_meter_new(&m, w, h, &err), &err);
        for (int k = 0; k < 4; k++) {
            for (int64_t j = 0; j < w * h * 3; j++)
                rgb[j] = (uint8_t)(j * 7 + k * 31);
            CHECK_OK(video_meter_add(m, rgb, &err), &err);
        }
        CHECK_OK(video_meter_finish(m, &f, &err), &err);
        assert_true(isnan(f.ssim) == (w < 11 || h < 11));
        assert_true(isfinite(f.motion) && isfinite(f.smoothness));
        check_guards(rgb);
        check_guarded_free(rgb);
        video_meter_free(&m);
    }
}

static void colours_apart(void **state)
{
    double p[COLOUR_BINS] = {0}, q[COLOUR_BINS] = {0};
    const uint8_t rgb[] = {255, 0, 0, 255, 0, 0, 0, 0, 255};

    (void)state;
    image_colours(rgb, 2, p);
    image_colours(rgb + 6, 1, q);
    assert_true(p[7 * 64] == 2 && q[7] == 1);
    check_value("disjoint", image_colour_distance(p, q), 1, 1e-15, 0);
    assert_true(image_colour_distance(p, p) == 0);
    q[7 * 64] = 1; /* half as red */
    check_value("half", image_colour_distance(p, q), sqrt(1 - sqrt(0.5)), 1e-15, 0);
}

/* ---- distances -------------------------------------------------------------------------------- */
static double *lcg(uint32_t s, int64_t n, double scale, double offset)
{
    double *x = mem_calloc(n, sizeof *x, &err);

    for (int64_t i = 0; i < n; i++) {
        s = 1664525u * s + 1013904223u;
        x[i] = (double)(s >> 8) / 0x1p24 * scale + offset;
    }
    return x;
}

static void frechet_of_known_sets(void **state)
{
    static const double squares[] = {0, 0, 2, 0, 0, 2, 2, 2}, other[] = {1, 1, 3, 1, 1, 5, 5, 3, 0, 0};
    static const double e123[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}, e432[] = {0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0};
    double got, same;
    double *x, *y;

    (void)state;
    CHECK_OK(frechet_distance(squares, 4, other, 5, 2, &got, &err), &err);
    check_value("a square", got, 3.5026888717234446, 0, 1e-12);
    CHECK_OK(frechet_distance(e123, 3, e432, 3, 4, &got, &err), &err); /* singular covariances */
    check_value("unit vectors", got, 8.0 / 9, 0, 1e-12);
    x = lcg(1, 64 * 8, 1, 0), y = lcg(2, 64 * 8, 0.5, 0.25);
    CHECK_OK(frechet_by_roots(x, 64, y, 64, 8, &got, &err), &err);
    check_value("64 x 8 by roots", got, 0.20374484012549787, 0, 1e-10);
    CHECK_OK(frechet_by_singular_values(x, 64, y, 64, 8, &got, &err), &err);
    check_value("64 x 8 by singular values", got, 0.20374484012549787, 0, 1e-10);
    CHECK_OK(kernel_distance(x, 64, y, 64, 8, &got, &err), &err);
    check_value("kernel distance", got, 0.0038707109058240, 1e-12, 0);
    CHECK_OK(frechet_distance(x, 64, x, 64, 8, &same, &err), &err);
    check_value("to itself", same, 0, 1e-6, 0);
    mem_free(x);
    mem_free(y);
    x = lcg(1, 160, 1, 0), y = lcg(2, 160, 1, 0);
    CHECK_OK(frechet_distance(x, 10, y, 10, 16, &got, &err), &err);
    check_value("fewer rows than features", got, 1.3254907980523536, 0, 1e-12);
    CHECK_FAILS(frechet_distance(x, 1, y, 10, 16, &got, &err), ERR_USAGE, "2 or more", &err);
    x[3] = NAN;
    CHECK_FAILS(frechet_by_singular_values(x, 10, y, 10, 16, &got, &err), ERR_FORMAT, "finite", &err);
    mem_free(x);
    mem_free(y);
}

static void frechet_of_known_moments(void **state)
{
    const double one = 1, four = 4, zero = 0, three = 3, m1[] = {1, 2, 3}, d1[] = {1, 0, 0, 0, 4, 0, 0, 0, 9},
                 m0[] = {0, 0, 0}, d2[] = {4, 0, 0, 0, 1, 0, 0, 0, 16}, a[] = {1, -1}, sa[] = {2, 1, 1, 2},
                 b[] = {0, 2}, sb[] = {3, -1, -1, 1};
    double got;

    (void)state;
    CHECK_OK(frechet_of_moments(&zero, &one, &three, &four, 1, &got, &err), &err);
    check_value("one dimension", got, 10, 0, 1e-14);
    CHECK_OK(frechet_of_moments(m1, d1, m0, d2, 3, &got, &err), &err);
    check_value("diagonal", got, 17, 0, 1e-14);
    CHECK_OK(frechet_of_moments(a, sa, b, sb, 2, &got, &err), &err);
    check_value("18 - 2 sqrt(6 + 2 sqrt 6)", got, 11.397279504456861, 0, 1e-13);
    const double nothing = NAN; /* what is no number is never the distance of equal sets */
    CHECK_OK(frechet_of_moments(&nothing, &one, &three, &four, 1, &got, &err), &err);
    assert_true(isnan(got));
}

/* The table of the bias of d^2 for 400 standard normals, 4.5 of the reference: 79.0 at 1,024 and 39.7 at 2,048. */
static void infinitely_many(void **state)
{
    const int64_t n[3] = {1024, 2048, 4096};
    const double bias[2] = {79.0, 39.7}, line[3] = {5 + 100 / 1024.0, 5 + 100 / 2048.0, 5 + 100 / 4096.0};

    (void)state;
    check_value("of two", frechet_infinite(n, bias, 2), 0.4, 1e-9, 0);
    check_value("of a line", frechet_infinite(n, line, 3), 5, 1e-12, 0);
}

static void inception_scores(void **state)
{
    static const double p[] = {.7, .2, .1, .1, .8, .1, .2, .2, .6, .25, .25, .5},
                        logits[] = {2, 0, -1, 0, 3, 1, 1, 1, 1, -1, 0, 2};
    double log_p[12], uniform[12] = {0};
    double mean, std;

    (void)state;
    for (int i = 0; i < 12; i++)
        log_p[i] = log(p[i]);
    CHECK_OK(inception_score(log_p, 4, 3, 1, &mean, &std, &err), &err);
    check_value("of shares", mean, 1.2698406188274363, 0, 1e-13);
    assert_true(std == 0);
    CHECK_OK(inception_score(log_p, 4, 3, 2, &mean, &std, &err), &err);
    check_value("in two parts", mean, 1.1273983921249728, 0, 1e-13);
    check_value("their deviation", std, 0.1223261818708693, 0, 1e-12);
    CHECK_OK(inception_score(logits, 4, 3, 1, &mean, &std, &err), &err);
    check_value("of logits", mean, 1.5369220861342776, 0, 1e-13);
    CHECK_OK(inception_score(logits, 4, 3, 2, &mean, &std, &err), &err);
    check_value("of logits in two parts", mean, (1.4742478879643348 + 1.1612976423146595) / 2, 0, 1e-13);
    CHECK_OK(inception_score(uniform, 4, 3, 2, &mean, &std, &err), &err);
    check_value("of uniform rows", mean, 1, 0, 1e-15);
    CHECK_FAILS(inception_score(logits, 4, 3, 10, &mean, &std, &err), ERR_USAGE, "4 pictures in 10 parts", &err);
}

/* The distances of ../shared/data/golden/metrics.json. */
static void shared_moments(void **state)
{
    json_t *o = NULL, *c;
    size_t i;

    (void)state;
    CHECK_OK(json_read_file(&o, check_need_shared("data/golden/metrics.json"), &err), &err);
    json_array_foreach (json_object_get(o, "frechet"), i, c) {
        const json_t *m[2] = {json_object_get(c, "mu1"), json_object_get(c, "mu2")},
                     *s[2] = {json_object_get(c, "S1"), json_object_get(c, "S2")};
        double mean[2][4], cov[2][16], got;
        size_t d = json_array_size(m[0]);
        if (!d || d > 4)
            continue;
        for (int k = 0; k < 2; k++)
            for (size_t j = 0; j < d; j++) {
                mean[k][j] = json_number_value(json_array_get(m[k], j));
                for (size_t l = 0; l < d; l++)
                    cov[k][j * d + l] = json_number_value(json_array_get(json_array_get(s[k], j), l));
            }
        CHECK_OK(frechet_of_moments(mean[0], cov[0], mean[1], cov[1], (int64_t)d, &got, &err), &err);
        check_value("a shared distance", got, json_number_value(json_object_get(c, "d")), 0, 1e-12);
    }
    json_decref(o);
}

/* ---- pairs ------------------------------------------------------------------------------------ */
static void votes_needed(void **state)
{
    (void)state;
    assert_int_equal(paired_votes_needed(0.82), 17);
    assert_int_equal(paired_votes_needed(0.65), 85);
    assert_int_equal(paired_votes_needed(0.60), 194);
    assert_int_equal(paired_votes_needed(0.55), 783);
}

static void paired_and_ranked(void **state)
{
    const double d[] = {1, 1, 1, 1, 1}, none[] = {0, 0}, two[] = {0, 9, 1, 0}, never[] = {0, 5, 0, 0},
                 apart[] = {0, 1, 0, 1, 0, 0, 0, 0, 0};
    double p, s[3];

    (void)state;
    CHECK_OK(paired_p_value(d, 5, 1, &p, &err), &err);
    check_value("five of five", p, 2.0 / 32, 0, 1e-15);
    CHECK_OK(paired_p_value(d, 1, 1, &p, &err), &err);
    assert_true(p == 1);
    CHECK_OK(paired_p_value(none, 2, 1, &p, &err), &err);
    assert_true(p == 1);
    CHECK_FAILS(paired_p_value(d, 0, 1, &p, &err), ERR_USAGE, "no differences", &err);
    CHECK_OK(bradley_terry(two, 2, s, &err), &err);
    check_value("nine of ten", s[0], 0.9, 1e-10, 0);
    CHECK_OK(bradley_terry(never, 2, s, &err), &err);
    assert_true(s[0] > 0.999 && s[1] < 0.001);
    CHECK_FAILS(bradley_terry(apart, 3, s, &err), ERR_USAGE, "do not compare all 3 models", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_of_constant_pictures),
        cmocka_unit_test(motion_of_big_videos),
        cmocka_unit_test(frozen_and_single),
        cmocka_unit_test(published_pairs),
        cmocka_unit_test(motion_is_found),
        cmocka_unit_test(a_plain_wall_stands_still),
        cmocka_unit_test(pictures_of_any_size),
        cmocka_unit_test(colours_apart),
        cmocka_unit_test(frechet_of_known_sets),
        cmocka_unit_test(frechet_of_known_moments),
        cmocka_unit_test(inception_scores),
        cmocka_unit_test(infinitely_many),
        cmocka_unit_test(shared_moments),
        cmocka_unit_test(votes_needed),
        cmocka_unit_test(paired_and_ranked),
    };
    return check_run_live("metrics, known answers", tests);
}
