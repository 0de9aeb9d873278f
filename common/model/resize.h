/* From 8-bit pictures to the inputs of the metrics' networks: the four resizes that are all called
 * bilinear or bicubic, and the scales of values.  Sums in double, rounded to float once. */
#ifndef WEFT_COMMON_MODEL_RESIZE_H
#define WEFT_COMMON_MODEL_RESIZE_H
#include <stdint.h>
#include "common/base/err.h"

typedef enum ResizeKind {
    RESIZE_TF1,        /* TensorFlow 1's bilinear: output i reads at i*in/out (float32), no half pixel, no antialiasing:
                          the original IS, FID and FVD, torch-fidelity */
    RESIZE_HALF_PIXEL, /* torch's bilinear, align_corners False: (i + 0.5) in/out - 0.5: pytorch-fid */
    RESIZE_TRIANGLE,   /* the same, widened when shrinking: Pillow's BILINEAR */
    RESIZE_BICUBIC     /* Pillow's BICUBIC (a = -0.5, widened) on floats: clean-fid */
} ResizeKind;

typedef enum ScaleKind {
    SCALE_NONE,      /* 0..255 */
    SCALE_INCEPTION, /* (x - 128)/128: TensorFlow's Inception, torch-fidelity, clean-fid */
    SCALE_SIGNED     /* 2x/255 - 1: I3D, pytorch-fid */
} ScaleKind;

/* One axis: output o is the sum over i < n[o] of weight[o*most + i] times input first[o] + i. */
typedef struct ResizeTaps {
    double *weight;
    int64_t *first, *n, most, out;
} ResizeTaps;
/* in, out >= 1.  resize_taps_fini in every case. */
WEFT_MUST_CHECK int resize_taps(ResizeTaps *t, ResizeKind kind, int64_t in, int64_t out, Err *err);
void resize_taps_fini(ResizeTaps *t);

/* out [h,w,3] <- rgb [H,W,3], stretched to that size and scaled. */
WEFT_MUST_CHECK int resize_scaled(float *out, int64_t h, int64_t w, const uint8_t *rgb, int64_t H, int64_t W,
                                  ResizeKind kind, ScaleKind scale, Err *err);
#endif
