/* Exposure and white-balance evening of one clip: two gains, measured over its pictures and the
 * same for all of them, so that nothing flickers.
 *
 *   Evening e = {0};  for each picture: evening_add(&e, rgb, pixels);
 *   evening_find(&e, white, exposure, strength, target);   evening_apply(&e, rgb, pixels);
 *
 * Pixels with luma between 5 and 95 % count, but for those whose three channels all lie within 8 %
 * of white (a studio's background).
 * White balance is grey-world: gain of a channel = mean of all channels / its mean, within
 * 0.8..1.25, mixed with 1 by the strength.
 * Exposure: target / median luma of those pixels, within 0.7..1.4.  Sums are whole numbers: the
 * same gains everywhere. */
#ifndef WEFT_PREP_PICTURE_EVENING_H
#define WEFT_PREP_PICTURE_EVENING_H
#include <jansson.h>
#include <stdint.h>

enum { EVENING_BINS = 2551 /* of luma, a tenth of a level each */ };

typedef struct Evening {
    int64_t pixels, counted, sum[3], luma[EVENING_BINS];
    double white[3], exposure, median; /* found; median 0..1 */
    uint8_t table[3][256];
} Evening;

/* rgb [n,3] */
void evening_add(Evening *e, const uint8_t *rgb, int64_t n);
/* The gains; 1 where not asked for, and when less than 1 % of the pixels count.
 * strength, target: 0..1. */
void evening_find(Evening *e, int white, int exposure, double strength, double target);
/* value * white * exposure, rounded, at most 255 */
void evening_apply(const Evening *e, uint8_t *rgb, int64_t n);
/* The manifest's `evening`; NULL without memory. */
json_t *evening_json(const Evening *e);
#endif
