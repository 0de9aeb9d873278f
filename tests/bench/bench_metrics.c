/* What measuring a pair of frames costs: SSIM, block motion, and all figures of a video.
 *
 *   build/release/tests/bench/bench_metrics [THREADS] [SECONDS] [WIDTH HEIGHT]     default 1 1 480 720
 *
 * tests/bench/ssim.sh compares the first line with scikit-image. */
#include <stdio.h>
#include <stdlib.h>
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/metrics/meter.h"
#include "common/metrics/motion.h"

enum { FRAMES = 6 };

static void die(const Err *err)
{
    fprintf(stderr, "bench_metrics: %s\n", err->msg);
    exit(1);
}

/* The pictures of ssim.py: a moving ramp with noise. */
static void draw(uint8_t *rgb, int64_t w, int64_t h, int64_t t)
{
    uint32_t s = (uint32_t)t;
    for (int64_t i = 0; i < w * h * 3; i++) {
        s = 1664525u * s + 1013904223u;
        rgb[i] = (uint8_t)(((i / 3 % w + 2 * t) * 200 / w) + (s >> 28));
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double seconds = argc > 2 ? atof(argv[2]) : 1, value = 0, sum = 0, start, spent;
    int64_t w = argc > 4 ? atoi(argv[3]) : 480, h = argc > 4 ? atoi(argv[4]) : 720, n;
    uint8_t *rgb[FRAMES];
    Err err = {0};
    VideoMeter *m;
    for (int i = 0; i < FRAMES; i++) {
        if (!(rgb[i] = mem_calloc(w * h * 3, 1, &err)))
            die(&err);
        draw(rgb[i], w, h, i);
    }
    n = 0;
    start = time_now_s();
    do {
        if (image_ssim(rgb[n % FRAMES], rgb[(n + 1) % FRAMES], w, h, 3, 255, threads, &value, &err) < 0)
            die(&err);
        if (n++ < FRAMES)
            sum += value;
    } while ((spent = time_now_s() - start) < seconds || n < FRAMES);
    printf("ssim          %8.2f ms a pair of %dx%d, %d thread%s (mean %.12f)\n", 1000 * spent / (double)n, (int)w,
           (int)h, threads, threads == 1 ? "" : "s", sum / FRAMES);
    if (video_meter_new(&m, w, h, &err) < 0)
        die(&err);
    n = 0;
    start = time_now_s();
    do {
        if (video_meter_add(m, rgb[n++ % FRAMES], &err) < 0)
            die(&err);
    } while ((spent = time_now_s() - start) < seconds || n < FRAMES);
    printf("all figures   %8.2f ms a frame\n", 1000 * spent / (double)n);
    video_meter_free(&m);
    for (int i = 0; i < FRAMES; i++)
        mem_free(rgb[i]);
    return 0;
}
