/* Figures of a clip's pictures, and the verdict whether they are good enough for training.
 *
 *   Meter *m;  meter_open(&m, width, height, limits.black_level, err);
 *   for each output frame k: meter_add(m, rgb, &frame[k]);   meter_close(&m);
 *   quality_judge(frame, n, &limits, &verdict, err);
 *
 * Pictures are RGB, [height,width,3].  Luma y = 0.2126 R + 0.7152 G + 0.0722 B, 0..255, exact in
 * integers of 1/10000.  Figures are facts; limits are the recipe's section `quality`; the verdict
 * follows from the two alone, so that it can be drawn anew from the figures that the manifest
 * keeps. */
#ifndef WEFT_PREP_PICTURE_QUALITY_H
#define WEFT_PREP_PICTURE_QUALITY_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/recipe.h"
#include "prep/picture/visible.h"
#include "prep/reason.h"

typedef struct FrameFigures {
    double rgb[3];    /* means */
    double luma, std; /* mean and standard deviation of y */
    /* variance of the 4-neighbour Laplacian of y, border mirrored without repeating the edge */
    double laplacian;
    double black;  /* share of pixels with y < black_level */
    double change; /* mean |difference| of RGB to the frame before; 0 for the first */
    /* of both frames' colour histograms, 3 x 32 bins; 1 for the first and when neither varies */
    double correlation;
    uint64_t dhash;
    /* share that differs from the background; visible_find (prep/picture/visible.h) sets it once all
     * pictures are known, not meter_add */
    double visible;
} FrameFigures;

typedef struct Meter Meter;
/* width, height: 2..65536. */
WEFT_MUST_CHECK int meter_open(Meter **out, int64_t width, int64_t height, double black_level, Err *err);
void meter_add(Meter *m, const uint8_t *rgb, FrameFigures *out);
void meter_close(Meter **m);

/* 64-bit difference hash of luma: exact area average to 9 columns x 8 rows, bit = right > left,
 * row-major, first comparison is the most significant bit.  The plain form; meter_add gives the
 * same bits from its rows. */
uint64_t picture_dhash(const uint8_t *rgb, int64_t width, int64_t height);
/* Area average to out [to_height,to_width,3]; 1 <= to_width <= width, the same for heights. */
void picture_shrink(const uint8_t *rgb, int64_t width, int64_t height, uint8_t *out, int64_t to_width,
                    int64_t to_height);

/* What to do about a clip in which something is found. */
typedef enum OnFound {
    FOUND_IGNORE,
    FOUND_REJECT,
    FOUND_MOVE /* choose another window, if there is a clean one */,
    FOUND_WARN
} OnFound;
typedef struct QualityLimits {
    int warn_only;
    double blur_reject, blur_warn, noise_warn, dark_reject, dark_warn, bright_warn, bright_reject, flat_reject;
    double black_level, black_share, frozen_change, frozen_reject, frozen_warn, motion_warn;
    double cut_change, cut_ratio, cut_correlation, enlarge_warn, duplicate_colour, visible_reject, visible_warn;
    int64_t frozen_run, duplicate_bits;
    OnFound black_frames, scene_cut, duplicates;
} QualityLimits;
void quality_limits(QualityLimits *out, const Recipe *recipe);

/* QUALITY_DARK, QUALITY_BRIGHT, ...: the quality rows of prep/reasons.def, in the order in which
 * one is named as the reason. */
typedef enum QualityCode {
#define REASON(...)
#define QUALITY_REASON(id, ...) QUALITY_##id,
#include "prep/reasons.def"
    QUALITY_CODES
} QualityCode;
Reason quality_reason(QualityCode c);

typedef struct Verdict {
    double mean_rgb[3], luma, std, sharpness, texture, change_min, change_median, change_max, change_mean, frozen,
        correlation, enlarged;
    double visible_min, visible_median;
    VisibleMethod visible_method;                /* the caller sets this and the next two after quality_judge */
    int visible_found;                           /* something differs from the background: */
    double visible_rgb[3];                       /* its mean colour */
    int64_t black, cuts, first_black, first_cut; /* first_*: output frame, -1 when there is none */
    unsigned reject, warn;                       /* bits 1 << QualityCode */
} Verdict;
/* enlarged: output pixels per source pixel. */
WEFT_MUST_CHECK int quality_judge(const FrameFigures *f, int64_t n, double enlarged, const QualityLimits *l,
                                  Verdict *out, Err *err);
/* A sentence with the figure and its limit. */
void quality_sentence(const Verdict *v, QualityCode code, const QualityLimits *l, int rejected, char *text,
                      size_t size);
/* The manifest's `quality`; NULL without memory. */
json_t *quality_json(const FrameFigures *f, int64_t n, const Verdict *v, const QualityLimits *l, int64_t duplicates,
                     int moved);

/* The window of `count` frames without a scene cut, a black frame (each when its limit says so) or
 * a frame of bad[n] that begins nearest to `wanted`, the earlier of two; -1 when there is none. */
WEFT_MUST_CHECK int quality_clean_window(const FrameFigures *f, const uint8_t *bad, int64_t n, int64_t count,
                                         int64_t wanted, const QualityLimits *l, int64_t *start, Err *err);
#endif
