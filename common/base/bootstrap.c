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

/* Of all resamples' figures, which are freed. */
static void take_interval(double *figure, double *low, double *high)
{
    sort_ascending(figure, BOOTSTRAP_RESAMPLES);
    *low = percentile(figure, BOOTSTRAP_RESAMPLES, 0.025);
    *high = percentile(figure, BOOTSTRAP_RESAMPLES, 0.975);
    mem_free(figure);
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
    take_interval(mean, low, high);
    return 0;
}

int bootstrap_influence(double value, const double *a, int64_t n1, const double *b, int64_t n2, uint64_t seed,
                        double *low, double *high, Err *err)
{
    if (n1 < 2 || n2 == 1)
        return err_set(err, ERR_USAGE, "a bootstrap of %" PRId64 " and %" PRId64 " items, expected at least 2", n1, n2);
    double *figure = mem_calloc(BOOTSTRAP_RESAMPLES, sizeof *figure, err);
    if (!figure)
        return ERR_NOMEM;
    Philox p = philox_stream(seed, RNG_BOOTSTRAP, 2, 0);
    for (int64_t r = 0; r < BOOTSTRAP_RESAMPLES; r++) {
        uint64_t at = (uint64_t)(r * (n1 + n2));
        figure[r] = value;
        for (int64_t i = 0; i < n1; i++)
            figure[r] += a[philox_below(&p, at++, (uint64_t)n1)];
        for (int64_t i = 0; i < n2; i++)
            figure[r] += b[philox_below(&p, at++, (uint64_t)n2)];
    }
    take_interval(figure, low, high);
    return 0;
}
