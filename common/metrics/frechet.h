/* Distances between two sets of feature rows, and the Inception Score: what FID, FVD, KID and IS are made
 * of, without the networks.  All in double precision; LAPACK does the linear algebra.
 *
 * x [n1,d] and y [n2,d] are rows of features, one a video or picture. */
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

/* Kernel distance (Binkowski et al. 2018): the unbiased estimate of MMD^2 with kernel (x.y/d + 1)^3.  At
 * least two rows each; may be negative. */
WEFT_MUST_CHECK int kernel_distance(const double *x, int64_t n1, const double *y, int64_t n2, int64_t d, double *out,
                                    Err *err);

/* Inception Score (Salimans et al. 2016) of logits [n,classes]: exp of the mean KL divergence of softmax(row)
 * to the split's mean, over `splits` contiguous parts [i n/splits, (i+1) n/splits); *mean and population
 * standard deviation *std over the parts.  ERR_USAGE for fewer rows than splits. */
WEFT_MUST_CHECK int inception_score(const double *logits, int64_t n, int64_t classes, int64_t splits, double *mean,
                                    double *std, Err *err);
#endif
