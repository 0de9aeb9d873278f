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

/* The 95 % interval of a statistic of n1 items of one sample and n2 of another (0 and NULL: none) that has the
 * value `value`, and to first order grows by the sum of a[i] and b[j] over the items that a resample holds: the same
 * percentiles of value + the sum over n1 draws of a + the sum over n2 draws of b.  a and b are influence values over
 * the sample's size (Efron and Tibshirani, chapter 21) and sum to 0.  For statistics that are biased by the number of
 * different items, of which a resample holds 63 %, and for those that take long.  Stream (seed, RNG_BOOTSTRAP, 2, 0),
 * draw r*(n1 + n2) + i. */
WEFT_MUST_CHECK int bootstrap_influence(double value, const double *a, int64_t n1, const double *b, int64_t n2,
                                        uint64_t seed, double *low, double *high, Err *err);
#endif
