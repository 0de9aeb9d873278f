/* Pictures of latents without a VAE: the linear map from a latent's channels to the mean colour of the
 * pixels that it stands for, fitted by least squares to clips whose pixels and latents are both at hand.
 * Rough (a pixel stands for 8 x 8, blurred over the frames of a latent), and made in a moment.
 *
 * Pixels of a latent: rows and columns evenly; of 1 + r (F - 1) frames (r = 4), frame 0 for latent 0
 * and r frames for each further one, as the causal VAE has it; of r F frames, r each.
 *
 * With X the latents and a column of ones, Y the mean colours in 0..1: (X'X + k I) W = X'Y, where k is a
 * millionth of the mean of X'X's diagonal, so that equal pixels have a solution too. */
#ifndef WEFT_COMMON_MODEL_LATENT_COLOUR_H
#define WEFT_COMMON_MODEL_LATENT_COLOUR_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"

enum { LATENT_COLOUR_CHANNELS = 64 }; /* at most */

typedef struct LatentColour {
    int64_t channels;
    double weight[LATENT_COLOUR_CHANNELS + 1][3]; /* the last row is the constant */
    double explained; /* share of the colours' variance that the map explains where it was fitted */
} LatentColour;

typedef struct ColourFit {
    int64_t channels, n;
    double xx[LATENT_COLOUR_CHANNELS + 1][LATENT_COLOUR_CHANNELS + 1], xy[LATENT_COLOUR_CHANNELS + 1][3];
    double y[3], yy;
} ColourFit;

typedef struct ColourClip {
    const float *latents;   /* [F,h,w,C]: means or draws, not scaled */
    int64_t stride;         /* floats from one position to the next: C, or 2C where log-variances follow */
    int64_t F, h, w, ratio; /* frames a latent stands for: 4 */
    const uint8_t *rgb;     /* [frames,height,width,3] */
    int64_t frames, height, width;
} ColourClip;

/* ERR_UNSUPPORTED for more channels than LATENT_COLOUR_CHANNELS. */
WEFT_MUST_CHECK int colour_fit_begin(ColourFit *f, int64_t channels, Err *err);
/* Adds a clip; ERR_USAGE when its frames, height or width do not fit the latents'. */
WEFT_MUST_CHECK int colour_fit_add(ColourFit *f, const ColourClip *c, Err *err);
/* Needs at least one clip. */
WEFT_MUST_CHECK int colour_fit_end(const ColourFit *f, LatentColour *out, Err *err);

/* rgb [n,3] <- latents [n,C], times `scale` first: 1/scaling_factor for what the transformer sees. */
void latent_colour_apply(const LatentColour *m, uint8_t *rgb, const float *latents, int64_t n, double scale);

/* {"weights": [[r,g,b], ...], "explained"}: of a cache's meta entry "colour".  New reference; back. */
WEFT_MUST_CHECK int latent_colour_json(const LatentColour *m, json_t **out, Err *err);
WEFT_MUST_CHECK int latent_colour_parse(LatentColour *out, const json_t *json, const char *where, Err *err);
#endif
