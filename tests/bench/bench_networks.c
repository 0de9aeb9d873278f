/* What the networks of evaluate cost, with weights that are filled: CLIP ViT-L/14 a picture, Inception v3 a
 * picture (in batches of 6), I3D a clip of 16 frames.  Processor time, on one thread unless said otherwise.
 *
 *   build/release/tests/bench/bench_networks [THREADS] [SECONDS] [clip|inception|i3d|products]      default 1 2, all
 *
 * products: those of a picture's 24 layers in CLIP, by BLAS alone on one thread, each by one call.
 * tests/bench/networks.sh compares with torch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/model/clip.h"
#include "common/model/i3d.h"
#include "common/model/inception.h"
#include "common/ops/cpu/cpu.h"
#include "common/ops/ops.h"
#include "tests/golden/named_weights.h"

static Err err;
static Backend *cpu, *plan;
static double seconds;

static void must(int rc)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_networks: %s\n", err.msg);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *noise(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    uint32_t s = 1;
    if (!x)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((s = 1664525u * s + 1013904223u) >> 8) / 8388608.0f - 1;
    return x;
}

typedef struct Task {
    const char *name;
    int64_t items; /* a run */
    int (*run)(void *net, Arena *work, const float *in, float *out);
    void *net, *shape;
    int64_t inputs;
} Task;

static void measure(const Task *t)
{
    Arena *counted, *work;
    float *in = noise(t->inputs), *out = malloc(6 * 2048 * sizeof *out);
    int64_t n = 0;
    must(arena_new(&counted, plan, 0, t->name, &err));
    must(t->run(t->shape, counted, in, out));
    must(arena_new(&work, cpu, arena_high(counted), t->name, &err));
    must(t->run(t->net, work, in, out)); /* the first touches the weights */
    double start = now(), spent;
    do {
        must(t->run(t->net, work, in, out));
        n += t->items;
    } while ((spent = now() - start) < seconds);
    printf("weft  %-10s %8.1f ms, %d thread%s\n", t->name, 1000 * spent / (double)n, (int)cpu->threads,
           cpu->threads == 1 ? "" : "s");
    arena_free(&counted);
    arena_free(&work);
    free(in);
    free(out);
}

/* Weights of every layer are read anew, as CLIP does: 1.2 GB a picture. */
static void measure_products(void)
{
    enum { N = 257, D = 1024, WIDE = 4096, LAYERS = 24 };
    static const struct {
        int64_t out, in, times;
    } each[] = {{D, D, 4}, {WIDE, D, 1}, {D, WIDE, 1}}; /* q, k, v and out; fc1; fc2 */
    const int64_t layer = 4 * D * D + 2 * D * WIDE;
    float *w = noise(LAYERS * layer), *x = noise(N * WIDE), *y = noise(N * WIDE);
    int64_t pictures = 0;
    double start = now(), spent;
    do {
        const float *at = w;
        for (int l = 0; l < LAYERS; l++)
            for (int k = 0; k < 3; k++)
                for (int64_t i = 0; i < each[k].times; i++, at += each[k].out * each[k].in)
                    cpu_sgemm(0, 1, N, each[k].out, each[k].in, 1, x, each[k].in, at, each[k].in, 0, y, each[k].out);
        pictures++;
    } while ((spent = now() - start) < seconds);
    printf("sgemm %-10s %8.1f ms, %.1f GFLOP/s\n", "products", 1000 * spent / (double)pictures,
           2e-9 * N * LAYERS * (double)layer * (double)pictures / spent);
    free(w);
    free(x);
    free(y);
}

static int run_clip(void *net, Arena *work, const float *in, float *out)
{
    return clip_image(net, work, out, NULL, NULL, in, &err);
}

static int run_inception(void *net, Arena *work, const float *in, float *out)
{
    return inception_run(net, work, out, NULL, NULL, in, 6, &err);
}

static int run_i3d(void *net, Arena *work, const float *in, float *out)
{
    return i3d_run(net, work, out, in, 16, &err);
}

static const char *file_of(const ParamSet *ps)
{
    static const char path[] = "/tmp/weft-bench-networks.safetensors";
    NamedFile f = named_file(ps);
    must(safetensors_write(path, f.source, f.n, NULL, &err));
    named_file_free(&f);
    return path;
}

int main(int argc, char **argv)
{
    const char *only = argc > 3 ? argv[3] : "";
    static const ClipConfig vit = {
        .text = {.hidden = 64, .intermediate = 64, .layers = 1, .heads = 1, .act = ACT_QUICK_GELU, .eps = 1e-5},
        .vision = {.hidden = 1024, .intermediate = 4096, .layers = 24, .heads = 16, .act = ACT_QUICK_GELU, .eps = 1e-5},
        .vocab = 16,
        .positions = 8,
        .eos_id = 2,
        .projection = 768,
        .image_size = 224,
        .patch = 14};
    seconds = argc > 2 ? atof(argv[2]) : 2;
    must(backend_open(&cpu, "cpu", argc > 1 ? atoi(argv[1]) : 1, NULL, &err));
    must(backend_open(&plan, "plan", 1, NULL, &err));
    if (!*only || !strcmp(only, "clip")) {
        Clip *net, *shape;
        must(clip_new_filled(&net, cpu, &vit, &err));
        must(clip_new_filled(&shape, plan, &vit, &err));
        measure(&(Task){"clip", 1, run_clip, net, shape, 3 * 224 * 224});
        clip_close(&net);
        clip_close(&shape);
    }
    if (!*only || !strcmp(only, "products"))
        measure_products();
    if (!*only || !strcmp(only, "inception")) {
        Inception *net, *shape;
        must(inception_open(&shape, plan, NULL, &err));
        must(inception_open(&net, cpu, file_of(inception_params(shape)), &err));
        measure(&(Task){"inception", 6, run_inception, net, shape, 6 * 299 * 299 * 3});
        inception_close(&net);
        inception_close(&shape);
    }
    if (!*only || !strcmp(only, "i3d")) {
        I3d *net, *shape;
        must(i3d_open(&shape, plan, NULL, 0, &err));
        must(i3d_open(&net, cpu, file_of(i3d_params(shape)), 0, &err));
        measure(&(Task){"i3d", 1, run_i3d, net, shape, 16 * 224 * 224 * 3});
        i3d_close(&net);
        i3d_close(&shape);
    }
    remove("/tmp/weft-bench-networks.safetensors");
    backend_close(&cpu);
    backend_close(&plan);
    return 0;
}
