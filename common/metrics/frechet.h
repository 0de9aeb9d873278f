/* Distances between two sets of feature rows: what FID, FVD, KID and KVD are made of, without the networks.
 * All in double precision; LAPACK does the linear algebra.
 *
 * x [n1,d] and y [n2,d] are rows of features, one a video or picture.  A Frechet distance of equal sets is 0, never the
 * little less that rounding may leave. */
#ifndef WEFT_COMMON_METRICS_FRECHET_H
#define WEFT_COMMON_METRICS_FRECHET_H
#include <stdint.h>
#include "common/base/err.h"

/* |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2 with covariances of n - 1 (Heusel et al. 2017), by the
 * cheaper of the two routes below.  At least two rows each (ERR_USAGE). */
WEFT_MUST_CHECK int frechet_distance(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                                     Err *err);
/* tr (S1 S2)^1/2 as the sum of the singular values of A'B, A and B being the centred rows / sqrt(n - 1) as
 * columns: exact for singular covariances too, n1 x n2 numbers of memory. */
WEFT_MUST_CHECK int frechet_by_singular_values(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d,
                                               double *out, Err *err);
/* Over the d x d covariances, for many rows: tr (R S2 R)^1/2 with R = S1^1/2. */
WEFT_MUST_CHECK int frechet_by_roots(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                                     Err *err);
/* The same from means [d] and covariances [d,d]. */
WEFT_MUST_CHECK int frechet_of_moments(const double *mean1, const double *cov1, const double *mean2, const double *cov2,
                                       int64_t d, double *out, Err *err);

/* The distance and each row's influence on it (the infinitesimal jackknife; Efron and Tibshirani 1993, chapter 21):
 * when row i counts w_i times instead of once, the weights of a set summing to its number of rows, the distance
 * grows, to first order, by the sum of w_i change_i / n.  change1 [n1], change2 [n2]; each sums to 0. */
WEFT_MUST_CHECK int frechet_influence(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                                      double *change1, double *change2, Err *err);

/* A distance falls with the number of rows; between infinitely many it is estimated (Chong and Forsyth 2020) as the
 * least-squares line value = a + b/n through its values for `count` numbers n, two different ones at least, at
 * 1/n = 0: a.  The line is straight where n is several times the number of features. */
double frechet_infinite(const int64_t *n, const double *value, int64_t count);

/* Kernel distance (Binkowski et al. 2018): the unbiased estimate of MMD^2 with kernel (x.y/d + 1)^3.  At
 * least two rows each; may be negative. */
WEFT_MUST_CHECK int kernel_distance(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                                    Err *err);
#endif
