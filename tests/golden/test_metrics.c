/* The measures of common/metrics against scikit-image, scipy and numpy (tests/golden/make_metrics.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "common/base/bootstrap.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/metrics/frechet.h"
#include "common/metrics/inception_score.h"
#include "common/metrics/meter.h"
#include "common/metrics/paired.h"

static Err err;
static json_t *golden;

static double draw(uint32_t *state)
{
    *state = 1664525u * *state + 1013904223u;
    return (double)(*state >> 8) / 0x1p24;
}

/* As `smooth` of the script: [frames,h,w,3]; mem_free. */
static uint8_t *make_video(uint32_t seed, int64_t w, int64_t h, int64_t frames)
{
    uint8_t *rgb = mem_calloc(frames * h * w * 3, 1, &err);
    uint32_t state = seed;

    for (int64_t i = 0; i < frames * h * w * 3; i++) {
        int64_t c = i % 3, x = i / 3 % w, y = i / 3 / w % h, t = i / 3 / w / h;
        int64_t base = 3 * (x + (2 + seed % 2) * t) * (c + 1) + 5 * (y - t) + (x / 9 + y / 7) % 3 * 40;
        rgb[i] = (uint8_t)((double)(((base % 256) + 256) % 256) * 0.8 + draw(&state) * 40);
    }
    return rgb;
}

static int64_t whole(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    assert_true(json_is_number(v));
    return json_number_value(v);
}

/* 1e-12: two orders of summing a million doubles. */
static void ssim_is_scikit_images(void **state)
{
    const json_t *c;
    size_t i;

    (void)state;
    json_array_foreach (json_object_get(golden, "ssim"), i, c) {
        int64_t w = whole(c, "width"), h = whole(c, "height"), n = w * h * 3;
        uint8_t *v = make_video((uint32_t)whole(c, "seed"), w, h, 2);
        double got[3];
        for (int threads = 1; threads <= 3; threads++)
            CHECK_OK(image_ssim(v, v + n, w, h, 3, 255, threads, &got[threads - 1], &err), &err);
        check_value("SSIM", got[0], number(c, "ssim"), 1e-12, 0);
        assert_true(got[0] == got[1] && got[1] == got[2]);
        check_value("PSNR", image_psnr(image_mse(v, v + n, n)), number(c, "psnr"), 1e-12, 0);
        CHECK_OK(image_ssim(v, v, w, h, 3, 255, 1, got, &err), &err);
        assert_true(got[0] == 1);
        mem_free(v);
    }
}

static void figures_are_numpys(void **state)
{
    const json_t *c;
    size_t i;

    (void)state;
    json_array_foreach (json_object_get(golden, "videos"), i, c) {
        int64_t w = whole(c, "width"), h = whole(c, "height"), n = whole(c, "frames");
        uint8_t *v = make_video((uint32_t)whole(c, "seed"), w, h, n);
        const json_t *want = json_object_get(c, "figures");
        VideoMeter *m;
        VideoFigures f;
        CHECK_OK(video_meter_new(&m, w, h, &err), &err);
        for (int64_t k = 0; k < n; k++)
            CHECK_OK(video_meter_add(m, v + k * w * h * 3, &err), &err);
        CHECK_OK(video_meter_finish(m, &f, &err), &err);
        video_meter_free(&m);
        assert_int_equal(f.frames, n);
        assert_int_equal(f.ssim_min_at, whole(want, "ssim_min_at"));
        for (const FigureKind *kind = figure_kinds; kind->name; kind++)
            check_value(kind->name, figure_value(&f, kind), number(want, kind->name), 1e-12, 1e-12);
        mem_free(v);
    }
}

static double *features(uint32_t seed, int64_t n, int64_t d, double scale, double offset)
{
    double *x = mem_calloc(n * d, sizeof *x, &err);

    for (int64_t i = 0; i < n * d; i++)
        x[i] = draw(&seed) * scale + offset;
    return x;
}

static void distances_are_scipys(void **state)
{
    const json_t *c;
    size_t i;

    (void)state;
    json_array_foreach (json_object_get(golden, "frechet"), i, c) {
        int64_t n1 = whole(c, "n1"), n2 = whole(c, "n2"), d = whole(c, "d");
        double *x = features((uint32_t)n1, n1, d, 1, 0), *y = features((uint32_t)n2, n2, d, 0.5, 0.25);
        double one, two, back;
        CHECK_OK(frechet_by_singular_values(x, n1, y, n2, d, &one, &err), &err);
        CHECK_OK(frechet_by_roots(x, n1, y, n2, d, &two, &err), &err);
        check_value("by singular values", one, number(c, "distance"), 0, 1e-9);
        check_value("by roots", two, number(c, "distance"), 0, 1e-9);
        CHECK_OK(frechet_distance(y, n2, x, n1, d, &back, &err), &err);
        check_value("the other way round", back, one, 0, 1e-10);
        mem_free(x);
        mem_free(y);
    }
}

/* numpy's are central differences: right to about 1e-8. */
static void check_changes(const char *what, const double *got, const json_t *want, int64_t n)
{
    double sum = 0, most = 0;

    assert_int_equal(json_array_size(want), n);
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(json_number_value(json_array_get(want, (size_t)i))));
    for (int64_t i = 0; i < n; i++) {
        check_value(what, got[i], json_number_value(json_array_get(want, (size_t)i)), 1e-7 * most, 0);
        sum += got[i];
    }
    check_value("sum of influences", sum, 0, 1e-12 * most * (double)n, 0);
}

static void influences_are_numpys(void **state)
{
    const json_t *c;
    size_t i;

    (void)state;
    json_array_foreach (json_object_get(golden, "influence"), i, c) {
        int64_t n1 = whole(c, "n1"), n2 = whole(c, "n2"), d = whole(c, "d");
        double *x = features((uint32_t)n1, n1, d, 1, 0), *y = features((uint32_t)n2, n2, d, 0.5, 0.25);
        double one, two, change1[40], change2[33];
        for (int64_t k = 0; k < n1 + n2 && whole(c, "dead"); k++)
            *(k < n1 ? &x[k * d] : &y[(k - n1) * d]) = 0;
        CHECK_OK(frechet_influence(x, n1, y, n2, d, &one, change1, change2, &err), &err);
        check_changes("a row's influence", change1, json_object_get(c, "x"), n1);
        check_changes("a reference's influence", change2, json_object_get(c, "y"), n2);
        CHECK_OK(frechet_distance(x, n1, y, n2, d, &two, &err), &err);
        check_value("the distance itself", one, two, 0, 1e-12);
        mem_free(x);
        mem_free(y);
    }
    const json_t *s = json_object_get(golden, "score");
    int64_t n = whole(s, "n"), classes = whole(s, "classes");
    double *p = features((uint32_t)whole(s, "seed"), n, classes, 1, 0.01), score, change[12];
    for (int64_t k = 0; k < n; k++) {
        double sum = 0;
        for (int64_t j = 0; j < classes; j++)
            sum += p[k * classes + j];
        for (int64_t j = 0; j < classes; j++)
            p[k * classes + j] /= sum;
    }
    CHECK_OK(inception_score_part(p, n, classes, &score, change, &err), &err);
    check_value("a score", score, number(s, "value"), 0, 1e-13);
    check_changes("influence on a score", change, json_object_get(s, "change"), n);
    mem_free(p);
}

/* The interval of a sum of two samples' influences: 1.96 of its standard deviations each way, within four standard
 * errors of a percentile of 9,999 normal draws (sqrt(0.025 0.975 / 9999) over the density there). */
static void interval_of_influences(void **state)
{
    const json_t *want = json_object_get(golden, "influence_interval");
    double *x = features(5, 30, 1, 1, 0), y[20], mean = 0, first = 0, low, high, std = number(want, "std");

    (void)state;
    for (int i = 0; i < 30; i++) {
        mean += x[i] / 30;
        first += i < 20 ? x[i] / 20 : 0;
    }
    for (int i = 0; i < 30; i++) {
        if (i < 20)
            y[i] = x[i] - first;
        x[i] -= mean;
    }
    CHECK_OK(bootstrap_influence(number(want, "value"), x, 30, y, 20, 7, &low, &high, &err), &err);
    double four = 4 * std * sqrt(0.025 * 0.975 / BOOTSTRAP_RESAMPLES) / 0.0584;
    check_value("low", low, 3 - 1.96 * std, four, 0);
    check_value("high", high, 3 + 1.96 * std, four, 0);
    CHECK_FAILS(bootstrap_influence(3, x, 1, y, 20, 7, &low, &high, &err), ERR_USAGE, "at least 2", &err);
    mem_free(x);
}

static void tests_are_scipys(void **state)
{
    const json_t *c;
    double d[60], p;
    size_t i;

    (void)state;
    json_array_foreach (json_object_get(golden, "paired"), i, c) {
        int64_t n = whole(c, "n");
        uint32_t s = (uint32_t)(100 + n);
        for (int64_t k = 0; k < n; k++)
            d[k] = draw(&s) - 0.4;
        CHECK_OK(paired_p_value(d, n, 1, &p, &err), &err);
        check_value("exact p", p, number(c, "p"), 1e-12, 0);
    }
    uint32_t s = 200;
    for (int k = 0; k < 60; k++)
        d[k] = draw(&s) - 0.42;
    CHECK_OK(paired_p_value(d, 60, 1, &p, &err), &err);
    double want = number(json_object_get(golden, "paired_large"), "p");
    check_value("drawn p", p, want, 4 * sqrt(want * (1 - want) / PAIRED_DRAWS), 0); /* four standard errors */
}

static void strengths_are_scipys(void **state)
{
    const json_t *c;
    size_t i;

    (void)state;
    json_array_foreach (json_object_get(golden, "bradley_terry"), i, c) {
        int64_t k = whole(c, "k");
        uint32_t s = (uint32_t)whole(c, "seed");
        double wins[25], strength[5];
        for (int64_t j = 0; j < k * k; j++)
            wins[j] = floor(draw(&s) * 9 + 1);
        CHECK_OK(bradley_terry(wins, k, strength, &err), &err);
        for (int64_t j = 0; j < k; j++) /* 1e-6: where scipy's optimiser stops */
            check_value("a strength", strength[j],
                        json_number_value(json_array_get(json_object_get(c, "strength"), (size_t)j)), 1e-6, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ssim_is_scikit_images),  cmocka_unit_test(figures_are_numpys),
        cmocka_unit_test(distances_are_scipys),   cmocka_unit_test(tests_are_scipys),
        cmocka_unit_test(strengths_are_scipys),   cmocka_unit_test(influences_are_numpys),
        cmocka_unit_test(interval_of_influences),
    };
    int failed;

    if (json_read_file(&golden, check_repo_path("tests/golden/metrics.json"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    failed = check_run("metrics", tests);
    json_decref(golden);
    return failed;
}
