/* The Inception Score, without the network.  All in double precision. */
#ifndef WEFT_COMMON_METRICS_INCEPTION_SCORE_H
#define WEFT_COMMON_METRICS_INCEPTION_SCORE_H
#include <stdint.h>
#include "common/base/err.h"

/* Inception Score (Salimans et al. 2016) of logits [n,classes]: exp of the mean KL divergence of softmax(row)
 * to the split's mean, over `splits` contiguous parts [i n/splits, (i+1) n/splits); *mean and population
 * standard deviation *std over the parts.  ERR_USAGE for fewer rows than splits. */
WEFT_MUST_CHECK int inception_score(const double *logits, int64_t n, int64_t classes, int64_t splits, double *mean,
                                    double *std, Err *err);

/* p[k] += weight softmax(row)[k]. */
void inception_add_softmax(double *p, const double *row, int64_t classes, double weight);
/* The score of one part, p [n,classes] being distributions.  change [n], or NULL: each row's influence as in
 * frechet_influence (frechet.h), here score (KL divergence of the row - mean of them). */
WEFT_MUST_CHECK int inception_score_part(const double *p, int64_t n, int64_t classes, double *score, double *change,
                                         Err *err);
#endif
