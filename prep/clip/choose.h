/* Which source frame is shown as which output frame.
 *
 * Output k of a window that starts at grid point s wants the time origin + (s + k)/fps; it gets the
 * frame nearest to it, ties to the earlier frame.  Times are exact rationals and are compared as
 * 128-bit cross products: no floating point, no frame counter times rate (which variable rates,
 * dropped frames and edit lists all break). */
#ifndef WEFT_PREP_CLIP_CHOOSE_H
#define WEFT_PREP_CLIP_CHOOSE_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/media/rational.h"

typedef struct Pick {
    int64_t index;  /* into times */
    Rational time;  /* times[index] */
    double error_s; /* time minus wanted time */
} Pick;

/* times[n]: strictly increasing, seconds, denominators 1..2^31-1, numerators below 2^61 in size.
 * ERR_FORMAT otherwise. */
WEFT_MUST_CHECK int choose_check(const Rational *times, int64_t n, Err *err);
/* Grid points a source has: floor(fps * (last - first) + 1/2) + 1; 0 for n = 0. */
int64_t choose_points(const Rational *times, int64_t n, int64_t fps);
/* picks[count] for the grid points start, start+1, ...  The origin is times[0].  Needs start +
 * count <= choose_points. */
void choose_frames(const Rational *times, int64_t n, int64_t fps, int64_t start, int64_t count, Pick *picks);
/* Where windows of `frames` begin, increasing, in starts[count]; returns how many (points >=
 * frames).  A stride leads from one to the next, the last is right-aligned; with stride 0 they are
 * spread evenly. */
int64_t choose_windows(int64_t points, int64_t frames, int64_t stride, int64_t count, int64_t *starts);
/* Whether grid point `point` after origin lies nearer to b than to a, a < b. */
int choose_past_middle(int64_t point, int64_t fps, Rational origin, Rational a, Rational b);
#endif
