/* Percentile bootstrap of a mean (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
 * 13), as scipy.stats.bootstrap(method="percentile") computes it from the same draws. */
#ifndef WEFT_COMMON_BASE_BOOTSTRAP_H
#define WEFT_COMMON_BASE_BOOTSTRAP_H
#include <stdint.h>
#include "common/base/err.h"

void sort_ascending(double *x, int64_t n);
/* Of n >= 1 sorted values the one that `share` (0 to 1) of them lie below, interpolated linearly between the
 * two nearest by their ranks (numpy.percentile's default). */
double percentile(const double *sorted, int64_t n, double share);

enum { BOOTSTRAP_RESAMPLES = 9999 }; /* scipy's default */

/* The 95 % interval of the mean of x[0..n), n >= 2.  Resample r is the mean of n values drawn with
 * replacement, the i-th being x[philox_below(stream, r*n + i, n)] of the stream (seed, RNG_BOOTSTRAP, 0,
 * 0); *low and *high are the 2.5 and 97.5 percentiles of the 9,999 means, interpolated linearly. */
WEFT_MUST_CHECK int bootstrap_mean(const double *x, int64_t n, uint64_t seed, double *low, double *high, Err *err);
#endif
