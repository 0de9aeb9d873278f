/* bench_forecast: what measuring a run's rate takes before it starts, for a transformer of
 * CogVideoX-2B's sizes on 13 x 60 x 90 latents, and for smaller ones: seconds by the clock, processor
 * seconds, and the prediction. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/progress.h"
#include "train/forecast.h"
#include "train/job_internal.h"
#include "dit_2b.h"

static double processor_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int measure(const char *name, const DitConfig *c, int64_t F, int64_t h, int64_t w, Err *err)
{
    Dataset data = {
        .n = 480, .F = F, .h = h, .w = w, .C = c->in_channels, .text_len = c->text_len, .text_dim = c->text_dim};
    Job j = {.data = &data,
             .dit = *c,
             .batch = 1,
             .pass = 1,
             .accumulate = 1,
             .epochs = 1,
             .epoch_steps = 480,
             .steps = 480};
    Backend *be = NULL;
    char a[32], b[32];
    Forecast f;
    double start, used;
    int rc = schedule_init_default(&j.schedule, err);

    j.how = DIT_TRAIN;
    j.c.policy = RECOMPUTE_BLOCK;
    j.c.optimizer = (OptimizerConfig){.kind = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
    j.c.rate = (Rate){.kind = RATE_CONSTANT, .peak = 1e-5};
    if (rc == 0)
        rc = backend_open(&be, "cpu", 0, NULL, err);
    j.be = be;
    start = time_now_s();
    used = processor_s();
    if (rc == 0)
        rc = forecast_measure(&f, &j, 0, be, err);
    if (rc == 0)
        printf("| %s | %.2f | %.2f | %s a step | %s |\n", name, time_now_s() - start, processor_s() - used,
               time_duration(f.step, a), time_duration(f.all, b));
    schedule_fini(&j.schedule);
    backend_close(&be);
    return rc;
}

int main(void)
{
    DitConfig c = DIT_2B(30);
    Err err = {0};
    int rc;

    puts("| transformer | s | processor s | prediction | 480 steps |\n|---|---|---|---|---|");
    rc = measure("2B, 13x90x60", &c, 13, 90, 60, &err);
    if (rc == 0)
        rc = measure("2B, 1x12x8", &c, 1, 12, 8, &err);
    c.heads = 8;
    c.layers = 8;
    if (rc == 0)
        rc = measure("8 heads, 8 blocks, 3x30x20", &c, 3, 30, 20, &err);
    if (rc < 0)
        fprintf(stderr, "bench_forecast: %s\n", err.msg);
    return rc < 0;
}
