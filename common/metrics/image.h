/* Measures of single pictures and of pairs, in double precision.
 *
 * A picture is rgb [height,width,3], 8 bits a sample, full range.  A luma plane is [height,width], 8 bits.
 * Results are the same bits for any number of threads. */
#ifndef WEFT_COMMON_METRICS_IMAGE_H
#define WEFT_COMMON_METRICS_IMAGE_H
#include <stdint.h>
#include "common/base/err.h"

enum {
    SSIM_WINDOW = 11,  /* the smallest side a picture may have */
    COLOUR_LEVELS = 8, /* bins an axis of the colour histogram */
    COLOUR_BINS = COLOUR_LEVELS * COLOUR_LEVELS * COLOUR_LEVELS
};

/* Structural similarity (Wang et al. 2004) of a and b [height,width,channels]: Gaussian window of 11x11
 * with sigma 1.5, population variances, C1 = (0.01 range)^2, C2 = (0.03 range)^2, only windows that lie
 * inside the picture, the mean over pixels and channels.  That is scikit-image's structural_similarity with
 * gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=range.
 * -1 to 1; 1 for equal pictures.  ERR_USAGE when a side has fewer than 11 pixels. */
WEFT_MUST_CHECK int image_ssim(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height, int64_t channels,
                               double range, int threads, double *out, Err *err);

/* Mean squared and mean absolute difference of n samples. */
double image_mse(const uint8_t *a, const uint8_t *b, int64_t n);
double image_mae(const uint8_t *a, const uint8_t *b, int64_t n);
/* Peak signal-to-noise ratio in dB, 10 log10(255^2 / mse); INFINITY for mse 0. */
double image_psnr(double mse);

/* BT.709's weights on the values as they are stored: round(0.2126 R + 0.7152 G + 0.0722 B). */
void image_luma(const uint8_t *rgb, int64_t pixels, uint8_t *luma);
/* Variance of the luma's Laplacian (4 neighbours; pixels with all of them), as scipy.ndimage.laplace gives
 * inside the picture.  0 for a picture without such pixels. */
double image_sharpness(const uint8_t *luma, int64_t width, int64_t height);

/* Adds each pixel to its bin of counts [COLOUR_BINS]: (R/32, G/32, B/32), red slowest. */
void image_colours(const uint8_t *rgb, int64_t pixels, double *counts);
/* Hellinger distance of two histograms with any sums above 0:
 * sqrt(sum (sqrt p - sqrt q)^2 / 2) of the normalised ones, 0 for equal to 1 for disjoint. */
double image_colour_distance(const double *p, const double *q);
#endif
