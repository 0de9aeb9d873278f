/* From an 8-bit picture to CLIP's input, with Pillow's bicubic to the bit. */
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/model/clip.h"

enum { PRECISION = 22 }; /* bits behind the point of Pillow's integer weights */

/* One axis of the resampling: output o is the sum over i < n[o] of weight[o*most + i] * in[first[o]
 * + i]. */
typedef struct Taps {
    int32_t *weight;
    int64_t *first, *n, most;
} Taps;

static double cubic(double t)
{
    const double a = -0.5;
    t = fabs(t);
    if (t < 1)
        return ((a + 2) * t - (a + 3)) * t * t + 1;
    return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

static void taps_fini(Taps *t)
{
    mem_free(t->weight);
    mem_free(t->first);
    mem_free(t->n);
}

static int taps_init(Taps *t, int64_t in, int64_t out, Err *err)
{
    double scale = (double)in / (double)out, widen = scale < 1 ? 1 : scale, support = 2 * widen;
    t->most = (int64_t)ceil(support) * 2 + 1;
    int64_t cells = 0;
    if (mem_mul(out, t->most, &cells) < 0)
        return err_set(err, ERR_LIMIT, "resizing %" PRId64 " to %" PRId64 " samples is too large", in, out);
    double *w = mem_calloc(t->most, sizeof *w, err);
    t->weight = mem_calloc(cells, sizeof *t->weight, err);
    t->first = mem_calloc(out, sizeof *t->first, err);
    t->n = mem_calloc(out, sizeof *t->n, err);
    if (!w || !t->weight || !t->first || !t->n) {
        mem_free(w);
        return ERR_NOMEM;
    }
    for (int64_t o = 0; o < out; o++) {
        double centre = ((double)o + 0.5) * scale, sum = 0;
        int64_t first = (int64_t)(centre - support + 0.5), last = (int64_t)(centre + support + 0.5);
        first = first < 0 ? 0 : first;
        last = last > in ? in : last;
        for (int64_t i = first; i < last; i++)
            sum += w[i - first] = cubic(((double)i - centre + 0.5) * (1.0 / widen));
        for (int64_t i = first; i < last; i++) {
            double v = (sum != 0 ? w[i - first] / sum : w[i - first]) * (1 << PRECISION);
            t->weight[o * t->most + i - first] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        t->first[o] = first;
        t->n[o] = last - first;
    }
    mem_free(w);
    return 0;
}

/* Resamples the middle axis: out [A,O,C] <- in [A,I,C]. */
static void resample(uint8_t *out, const uint8_t *in, const Taps *t, int64_t A, int64_t O, int64_t I, int64_t C)
{
    for (int64_t a = 0; a < A; a++)
        for (int64_t o = 0; o < O; o++) {
            const int32_t *w = t->weight + o * t->most;
            const uint8_t *from = in + (a * I + t->first[o]) * C;
            for (int64_t c = 0; c < C; c++) {
                int64_t sum = 1 << (PRECISION - 1);
                for (int64_t i = 0; i < t->n[o]; i++)
                    sum += (int64_t)from[i * C + c] * w[i];
                sum = sum < 0 ? 0 : sum >> PRECISION;
                out[(a * O + o) * C + c] = (uint8_t)(sum > 255 ? 255 : sum);
            }
        }
}

int pil_bicubic(uint8_t *out, int64_t out_h, int64_t out_w, const uint8_t *in, int64_t in_h, int64_t in_w,
                int64_t channels, Err *err)
{
    const int64_t most = 1 << 16;
    Taps rows = {0}, cols = {0};
    uint8_t *mid = NULL;
    int rc = 0;
    if (out_h < 1 || out_w < 1 || in_h < 1 || in_w < 1 || channels < 1 || out_h > most || out_w > most || in_h > most ||
        in_w > most || channels > 256)
        return err_set(err, ERR_USAGE,
                       "bicubic from %" PRId64 "x%" PRId64 " to %" PRId64 "x%" PRId64 " with %" PRId64
                       " channels is not possible",
                       in_w, in_h, out_w, out_h, channels);
    if (in_w != out_w) {
        if ((rc = taps_init(&cols, in_w, out_w, err)))
            goto fail;
        if (!(mid = mem_calloc(in_h * out_w, channels, err))) {
            rc = ERR_NOMEM;
            goto fail;
        }
        resample(mid, in, &cols, in_h, out_w, in_w, channels);
        in = mid;
    }
    if (in_h != out_h) {
        if ((rc = taps_init(&rows, in_h, out_h, err)))
            goto fail;
        resample(out, in, &rows, 1, out_h, in_h, out_w * channels);
    } else {
        memcpy(out, in, (size_t)(out_h * out_w * channels));
    }
fail:
    mem_free(mid);
    taps_fini(&rows);
    taps_fini(&cols);
    return rc;
}

int clip_preprocess(float *out, const uint8_t *rgb, int64_t H, int64_t W, int64_t S, Err *err)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    if (H < 1 || W < 1 || S < 1 || H > 1 << 16 || W > 1 << 16 || S > 1 << 12)
        return err_set(err, ERR_USAGE,
                       "CLIP: a picture of %" PRId64 "x%" PRId64 " (width x height) for an input of %" PRId64, W, H, S);
    int64_t h = H <= W ? S : S * H / W, w = H <= W ? S * W / H : S; /* the longer edge is truncated, not rounded */
    int64_t top = (h - S) / 2, left = (w - S) / 2;
    uint8_t *small = mem_calloc(h * w, 3, err);
    int rc = small ? pil_bicubic(small, h, w, rgb, H, W, 3, err) : ERR_NOMEM;
    for (int64_t c = 0; c < 3 && !rc; c++)
        for (int64_t y = 0; y < S; y++)
            for (int64_t x = 0; x < S; x++) {
                float v = (float)(small[((top + y) * w + left + x) * 3 + c] * (1.0 / 255));
                out[(c * S + y) * S + x] = (v - mean[c]) / std[c];
            }
    mem_free(small);
    return rc;
}
