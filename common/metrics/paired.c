#include "common/metrics/paired.h"

#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/rng.h"

int paired_p_value(const double *d, int64_t n, uint64_t seed, double *p, Err *err)
{
    if (n < 1)
        return err_set(err, ERR_USAGE, "a paired test of no differences");
    int exact = n <= PAIRED_EXACT;
    int64_t ways = exact ? (int64_t)1 << n : PAIRED_DRAWS, as_far = 0;
    Philox stream = philox_stream(seed, RNG_BOOTSTRAP, 1, 0);
    double observed = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        observed += d[i];
        size += fabs(d[i]);
    }
    observed = fabs(observed) - 1e-13 * size; /* equal sums may differ by rounding */
    for (int64_t w = 0; w < ways; w++) {
        double sum = 0;
        uint32_t bits = 0;
        for (int64_t i = 0; i < n; i++) {
            if (exact)
                bits = (uint32_t)(w >> i);
            else if (i % 32 == 0)
                bits = philox_u32(&stream, (uint64_t)(w * ((n + 31) / 32) + i / 32));
            else
                bits >>= 1;
            sum += bits & 1 ? -d[i] : d[i];
        }
        as_far += fabs(sum) >= observed;
    }
    *p = exact ? (double)as_far / (double)ways : (double)(as_far + 1) / (double)(ways + 1);
    return 0;
}

int64_t paired_votes_needed(double rate)
{
    double root = (1.959963984540054 / 2 + 0.8416212335729143 * sqrt(rate * (1 - rate))) / (rate - 0.5);
    return (int64_t)ceil(root * root);
}

/* Whether comparisons connect all models. */
static int connected(const double *wins, int64_t k, char *seen)
{
    int64_t found = 1;
    memset(seen, 0, (size_t)k);
    seen[0] = 1;
    for (int more = 1; more;) {
        more = 0;
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; seen[i] && j < k; j++)
                if (!seen[j] && wins[i * k + j] + wins[j * k + i] > 0) {
                    seen[j] = 1;
                    found++;
                    more = 1;
                }
    }
    return found == k;
}

/* One round of the MM algorithm; returns the largest change. */
static double improve(const double *wins, int64_t k, double *s, double *next)
{
    double sum = 0, change = 0;
    for (int64_t i = 0; i < k; i++) {
        double won = 0, rest = 0;
        for (int64_t j = 0; j < k; j++) {
            double met = wins[i * k + j] + wins[j * k + i];
            if (j != i && met > 0) {
                won += wins[i * k + j];
                rest += met / (s[i] + s[j]);
            }
        }
        next[i] = won / rest;
        sum += next[i];
    }
    for (int64_t i = 0; i < k; i++) {
        change = fmax(change, fabs(next[i] / sum - s[i]));
        s[i] = fmax(next[i] / sum, 1e-300);
    }
    return change;
}

int bradley_terry(const double *wins, int64_t k, double *strength, Err *err)
{
    double *next = mem_calloc(k, sizeof *next, err);
    char *seen = mem_calloc(k, 1, err);
    int rc = next && seen ? 0 : ERR_NOMEM;
    if (rc == 0 && (k < 2 || !connected(wins, k, seen)))
        rc = err_set(err, ERR_USAGE,
                     "the votes do not compare all %" PRId64 " models with each other, not even by way "
                     "of others",
                     k);
    for (int64_t i = 0; rc == 0 && i < k; i++)
        strength[i] = 1 / (double)k;
    for (int round = 0; rc == 0 && round < 20000 && improve(wins, k, strength, next) > 1e-12; round++) {
    }
    mem_free(next);
    mem_free(seen);
    return rc;
}
