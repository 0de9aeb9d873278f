/* From an 8-bit picture to CLIP's input, with Pillow's bicubic to the bit. */
#include <string.h>

#include "common/base/mem.h"
#include "common/model/clip.h"
#include "common/model/resize.h"

enum { PRECISION = 22 }; /* bits behind the point of Pillow's integer weights */

/* One axis of the resampling, with its weights as Pillow's integers. */
typedef struct Taps {
    ResizeTaps exact;
    int32_t *weight;
} Taps;

static void taps_fini(Taps *t)
{
    mem_free(t->weight);
    resize_taps_fini(&t->exact);
}

static int taps_init(Taps *t, int64_t in, int64_t out, Err *err)
{
    int rc = resize_taps(&t->exact, RESIZE_BICUBIC, in, out, err);
    if (rc)
        return rc;
    int64_t n = out * t->exact.most;
    if (!(t->weight = mem_calloc(n, sizeof *t->weight, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        double v = t->exact.weight[i] * (1 << PRECISION);
        t->weight[i] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
    return 0;
}

/* Resamples the middle axis: out [A,O,C] <- in [A,I,C]. */
static void resample(uint8_t *out, const uint8_t *in, const Taps *t, int64_t A, int64_t O, int64_t I, int64_t C)
{
    for (int64_t a = 0; a < A; a++)
        for (int64_t o = 0; o < O; o++) {
            const int32_t *w = t->weight + o * t->exact.most;
            const uint8_t *from = in + (a * I + t->exact.first[o]) * C;
            for (int64_t c = 0; c < C; c++) {
                int64_t sum = 1 << (PRECISION - 1);
                for (int64_t i = 0; i < t->exact.n[o]; i++)
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

int clip_preprocess_square(float *out, const uint8_t *rgb, int64_t H, int64_t W, int64_t S, Err *err)
{
    static const uint8_t mean[3] = {122, 116, 104};
    if (H < 1 || W < 1 || H > 1 << 16 || W > 1 << 16)
        return err_set(err, ERR_USAGE, "CLIP: a picture of %" PRId64 "x%" PRId64 " (width x height)", W, H);
    int64_t side = H > W ? H : W, top = (side - H) / 2, left = (side - W) / 2;
    uint8_t *square = mem_calloc(side * side, 3, err);
    if (!square)
        return ERR_NOMEM;
    for (int64_t i = 0; i < side * side * 3; i++)
        square[i] = mean[i % 3];
    for (int64_t y = 0; y < H; y++)
        memcpy(square + ((top + y) * side + left) * 3, rgb + y * W * 3, (size_t)W * 3);
    int rc = clip_preprocess(out, square, side, side, S, err);
    mem_free(square);
    return rc;
}
