/* Motion by block matching on luma: how far blocks of 16x16 pixels move from frame to frame, and how well
 * a frame between two others follows from their motion.
 *
 * Blocks start at multiples of 16 from the top left; those at the right and lower edge may be smaller.
 * Around a picture the pixels of its edge go on, so that a block may leave it.  Vectors are in half pixels.
 * The cost of a vector is the sum of absolute differences; one that is not zero costs half a level for each
 * pixel of the block, as in H.263's test model, and 4 for each pixel of |dx| + |dy|: where nothing can be
 * told apart, as on a plain wall, blocks stand still. */
#ifndef WEFT_COMMON_METRICS_MOTION_H
#define WEFT_COMMON_METRICS_MOTION_H
#include <stdint.h>
#include "common/base/err.h"

enum { MOTION_BLOCK = 16, MOTION_RANGE = 24 /* pixels each way, between two frames */ };

typedef struct MotionVector {
    int16_t dx, dy; /* half pixels */
} MotionVector;

/* Number of blocks of a picture. */
int64_t motion_blocks(int64_t width, int64_t height);

/* v [motion_blocks]: the block at p of frame a is found at p + v/2 of frame b.  All vectors of whole pixels
 * within MOTION_RANGE are tried, square by square from the middle outwards, then the eight half-pixel
 * neighbours of the best (bilinear, rounded half up); of equal costs the first tried wins. */
WEFT_MUST_CHECK int motion_search(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height, MotionVector *v,
                                  Err *err);

typedef struct MotionFrame {
    const uint8_t *rgb, *luma; /* [height,width,3], [height,width] */
} MotionFrame;
/* The frame half-way between two, predicted from both: for each of its blocks the vector u, up to
 * MOTION_RANGE/2 pixels each way, for which block p - u/2 of `before` and block p + u/2 of `after` are most
 * alike, then the mean of these two blocks of the pictures, rounded half up.  out [height,width,3]. */
WEFT_MUST_CHECK int motion_predict(const MotionFrame *before, const MotionFrame *after, int64_t width, int64_t height,
                                   uint8_t *out, Err *err);

/* Of a set of vectors, in pixels: the mean length, and the mean of the longest 5 % (one at least). */
WEFT_MUST_CHECK int motion_lengths(const MotionVector *v, int64_t n, double *mean, double *top, Err *err);
/* Mean length of a - b in pixels. */
double motion_change(const MotionVector *a, const MotionVector *b, int64_t n);
#endif
