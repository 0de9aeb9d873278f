/* Two models on the same prompts: is one better, and how many pairs does it take to see it? */
#ifndef WEFT_COMMON_METRICS_PAIRED_H
#define WEFT_COMMON_METRICS_PAIRED_H
#include <stdint.h>
#include "common/base/err.h"

enum { PAIRED_EXACT = 14 /* up to so many differences, all 2^n signs are tried */, PAIRED_DRAWS = 9999 };

/* Two-sided p value of the differences d [n] having mean 0, by changing their signs (Fisher's randomisation
 * test): all 2^n ways for n <= 14, else 9,999 drawn ones of the stream (seed, RNG_BOOTSTRAP, 1, 0), the observed
 * one counted in.  As scipy.stats.permutation_test(permutation_type="samples") for a mean.  n >= 1. */
WEFT_MUST_CHECK int paired_p_value(const double *d, int64_t n, uint64_t seed, double *p, Err *err);

/* Pairs that a vote needs to find, with 80 % probability at the 5 % level, that one side is preferred when its
 * true win rate is `rate` (above 0.5, below 1), ties left out: the normal approximation of the binomial,
 * ((1.96 / 2 + 0.8416 sqrt(rate (1 - rate))) / (rate - 0.5))^2, rounded up. */
int64_t paired_votes_needed(double rate);

/* Bradley-Terry strengths of k models from wins [k,k], wins[i k + j] being how often i beat j (a tie half a win
 * for both): strength [k] sums to 1, i beats j with probability s_i / (s_i + s_j).  Hunter's MM algorithm (2004)
 * to 1e-12, or 20,000 rounds where a model that never loses has no finite answer.  ERR_USAGE for models that no
 * chain of comparisons connects. */
WEFT_MUST_CHECK int bradley_terry(const double *wins, int64_t k, double *strength, Err *err);
#endif
