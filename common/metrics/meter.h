/* Figures of one video, measured frame by frame with the memory of three frames.
 *
 *   video_meter_new(&m, width, height, err);
 *   each frame:  video_meter_add(m, rgb, err);
 *   video_meter_finish(m, &figures, err);  video_meter_free(&m);
 *
 * Pairs are consecutive frames.  Every pixel of every frame counts, at the video's own size, but for motion,
 * dynamic and jerk of videos whose short side is 960 pixels or more: these are searched in the means of k x k pixels,
 * k = short side / 480 (whole).  They are told at a short side of 480, and a search that reaches 24 pixels would find
 * less of the motion, the larger the video. */
#ifndef WEFT_COMMON_METRICS_METER_H
#define WEFT_COMMON_METRICS_METER_H
#include <stddef.h>
#include "common/metrics/image.h"

typedef struct VideoFigures {
    int64_t frames, width, height;
    /* NAN where the video has too few frames (or, SSIM, sides under 11 pixels). */
    double ssim, ssim_min, ssim_p5; /* SSIM of pairs: mean, least, 5th percentile */
    int64_t ssim_min_at;            /* the least is between this frame and the next; -1 */
    double psnr, psnr_pooled;       /* dB: mean over the pairs that differ; of the mean squared error of all pairs */
    int64_t equal_pairs;            /* of which PSNR is infinite: not in the mean */
    double difference;              /* mean absolute difference of pairs, 0 to 255 */
    double flicker;                 /* (255 - difference)/255, VBench's temporal flickering without its static filter */
    double second_difference;       /* mean |f[k+1] - 2 f[k] + f[k-1]|, 0 to 510 */
    /* (255 - mean absolute difference)/255 of frames 1, 3, 5, ... to what the frames before and after predict:
     * their mean, and by block motion (motion_predict) */
    double smoothness_linear, smoothness;
    double motion;        /* mean block vector of pairs, pixels a frame, scaled to a short side of 480 */
    double dynamic;       /* share of pairs whose longest 5 % of vectors are 6/256 of the short side or longer */
    double jerk;          /* mean |change of a block's vector| / (motion + 1), at the same scale */
    double sharpness;     /* mean over frames of sharpness (image.h) */
    double colour_change; /* colour distance (image.h) of the first frame to the last */
} VideoFigures;

typedef struct FigureKind {
    const char *name, *unit, *what; /* what: a sentence for people */
    size_t offset;                  /* of a double in VideoFigures */
    int better;                     /* 1 higher, -1 lower, 0 neither is */
    int saturates;                  /* a frozen video has the best value */
} FigureKind;
/* In the order of reports; name NULL ends it. */
extern const FigureKind figure_kinds[];
double figure_value(const VideoFigures *f, const FigureKind *kind);

typedef struct VideoMeter VideoMeter;
WEFT_MUST_CHECK int video_meter_new(VideoMeter **out, int64_t width, int64_t height, Err *err);
WEFT_MUST_CHECK int video_meter_add(VideoMeter *m, const uint8_t *rgb, Err *err);
/* Of the frames so far, one at least (ERR_USAGE). */
WEFT_MUST_CHECK int video_meter_finish(const VideoMeter *m, VideoFigures *out, Err *err);
/* The colour histogram of all frames so far, [COLOUR_BINS] shares that sum to 1; borrowed counts are divided. */
void video_meter_colours(const VideoMeter *m, double *shares);
void video_meter_free(VideoMeter **m);
#endif
