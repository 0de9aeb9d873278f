#include "common/model/resize.h"

#include <math.h>

#include "common/base/mem.h"

/* Of a triangle, and of the cubic with a = -1/2; t is a distance in (widened) pixels. */
static double filter(ResizeKind kind, double t)
{
    const double a = -0.5;
    t = fabs(t);
    if (kind != RESIZE_BICUBIC)
        return t < 1 ? 1 - t : 0;
    if (t < 1)
        return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

void resize_taps_fini(ResizeTaps *t)
{
    mem_free(t->weight);
    mem_free(t->first);
    mem_free(t->n);
    *t = (ResizeTaps){0};
}

/* Two neighbours, the second no further than the last. */
static void two_taps(ResizeTaps *t, int64_t o, double at, int64_t in)
{
    int64_t first = (int64_t)at;
    first = first > in - 1 ? in - 1 : first;
    t->first[o] = first;
    t->n[o] = first + 1 < in ? 2 : 1;
    t->weight[o * t->most + 1] = t->n[o] == 2 ? at - (double)first : 0;
    t->weight[o * t->most] = 1 - t->weight[o * t->most + 1];
}

/* Pillow's: every input whose centre lies under the filter, weights that sum to one. */
static void wide_taps(ResizeTaps *t, ResizeKind kind, int64_t o, double scale, int64_t in)
{
    double widen = scale < 1 ? 1 : scale, support = (kind == RESIZE_BICUBIC ? 2 : 1) * widen, sum = 0;
    double centre = ((double)o + 0.5) * scale, *w = t->weight + o * t->most;
    int64_t first = (int64_t)(centre - support + 0.5), last = (int64_t)(centre + support + 0.5);
    first = first < 0 ? 0 : first;
    last = last > in ? in : last;
    for (int64_t i = first; i < last; i++)
        sum += w[i - first] = filter(kind, ((double)i - centre + 0.5) * (1.0 / widen));
    for (int64_t i = first; i < last && sum != 0; i++)
        w[i - first] /= sum;
    t->first[o] = first;
    t->n[o] = last - first;
}

int resize_taps(ResizeTaps *t, ResizeKind kind, int64_t in, int64_t out, Err *err)
{
    double scale = (double)in / (double)out, support = (kind == RESIZE_BICUBIC ? 2 : 1) * (scale < 1 ? 1 : scale);
    int64_t cells = 0;
    *t = (ResizeTaps){.most = (int64_t)ceil(support) * 2 + 1, .out = out};
    if (mem_mul(out, t->most, &cells) < 0)
        return err_set(err, ERR_LIMIT, "resizing %" PRId64 " to %" PRId64 " samples is too large", in, out);
    t->weight = mem_calloc(cells, sizeof *t->weight, err);
    t->first = mem_calloc(out, sizeof *t->first, err);
    t->n = mem_calloc(out, sizeof *t->n, err);
    if (!t->weight || !t->first || !t->n)
        return ERR_NOMEM;
    for (int64_t o = 0; o < out; o++) {
        double half = ((double)o + 0.5) * scale - 0.5;
        if (kind == RESIZE_TF1)
            two_taps(t, o, (double)((float)o * ((float)in / (float)out)), in);
        else if (kind == RESIZE_HALF_PIXEL)
            two_taps(t, o, half < 0 ? 0 : half, in);
        else
            wide_taps(t, kind, o, scale, in);
    }
    return 0;
}

static double scaled(double x, ScaleKind kind)
{
    return kind == SCALE_INCEPTION ? (x - 128) / 128 : kind == SCALE_SIGNED ? 2 * x / 255 - 1 : x;
}

/* middle [h,W*3] <- rows of rgb; then out <- its columns. */
static void resample(float *out, double *middle, const uint8_t *rgb, int64_t W, const ResizeTaps *rows,
                     const ResizeTaps *columns, ScaleKind scale)
{
    int64_t width = W * 3;
    for (int64_t y = 0; y < rows->out; y++, middle += width, out += columns->out * 3) {
        const double *w = rows->weight + y * rows->most;
        for (int64_t x = 0; x < width; x++) {
            double sum = 0;
            for (int64_t i = 0; i < rows->n[y]; i++)
                sum += w[i] * rgb[(rows->first[y] + i) * width + x];
            middle[x] = sum;
        }
        for (int64_t x = 0; x < columns->out * 3; x++) {
            int64_t o = x / 3;
            double sum = 0;
            for (int64_t i = 0; i < columns->n[o]; i++)
                sum += columns->weight[o * columns->most + i] * middle[(columns->first[o] + i) * 3 + x % 3];
            out[x] = (float)scaled(sum, scale);
        }
    }
}

int resize_scaled(float *out, int64_t h, int64_t w, const uint8_t *rgb, int64_t H, int64_t W, ResizeKind kind,
                  ScaleKind scale, Err *err)
{
    const int64_t most = 1 << 16;
    ResizeTaps rows = {0}, columns = {0};
    double *middle = NULL;
    if (h < 1 || w < 1 || H < 1 || W < 1 || h > most || w > most || H > most || W > most)
        return err_set(err, ERR_USAGE, "resizing %" PRId64 "x%" PRId64 " to %" PRId64 "x%" PRId64 " is not possible", W,
                       H, w, h);
    int rc = resize_taps(&rows, kind, H, h, err);
    if (!rc)
        rc = resize_taps(&columns, kind, W, w, err);
    if (!rc && !(middle = mem_calloc(h * W, 3 * sizeof *middle, err)))
        rc = ERR_NOMEM;
    if (!rc)
        resample(out, middle, rgb, W, &rows, &columns, scale);
    mem_free(middle);
    resize_taps_fini(&rows);
    resize_taps_fini(&columns);
    return rc;
}
