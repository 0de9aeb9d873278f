#include "common/base/bootstrap.h"
#include <math.h>
#include <stdlib.h>
#include "common/base/mem.h"
#include "common/base/rng.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_ascending(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
}

double percentile(const double *sorted, int64_t n, double share)
{
    double at = share * (double)(n - 1);
    int64_t k = (int64_t)floor(at);
    return k + 1 < n ? sorted[k] + (at - (double)k) * (sorted[k + 1] - sorted[k]) : sorted[n - 1];
}

int bootstrap_mean(const double *x, int64_t n, uint64_t seed, double *low, double *high, Err *err)
{
    if (n < 2)
        return err_set(err, ERR_USAGE, "a bootstrap of %" PRId64 " values, expected at least 2", n);
    double *mean = mem_calloc(BOOTSTRAP_RESAMPLES, sizeof *mean, err);
    if (!mean)
        return ERR_NOMEM;
    Philox p = philox_stream(seed, RNG_BOOTSTRAP, 0, 0);
    for (int64_t r = 0; r < BOOTSTRAP_RESAMPLES; r++) {
        for (int64_t i = 0; i < n; i++)
            mean[r] += x[philox_below(&p, (uint64_t)(r * n + i), (uint64_t)n)];
        mean[r] /= (double)n;
    }
    sort_ascending(mean, BOOTSTRAP_RESAMPLES);
    *low = percentile(mean, BOOTSTRAP_RESAMPLES, 0.025);
    *high = percentile(mean, BOOTSTRAP_RESAMPLES, 0.975);
    mem_free(mean);
    return 0;
}
