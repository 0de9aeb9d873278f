#include "common/metrics/nearest.h"

#include <math.h>

enum { LANES = 16, RUN = 256 /* values summed in float before they go into a double */, CHUNK = 4096 };

/* sum (a - b)^2 of n values.  Lanes of a run are added in the order of their numbers: the same with any vectors. */
static double squares(const float *restrict a, const float *restrict b, int64_t n)
{
    double sum = 0;
    int64_t i = 0;
    for (; i + RUN <= n; i += RUN) {
        float lane[LANES] = {0};
        for (int64_t k = 0; k < RUN; k += LANES)
            for (int64_t j = 0; j < LANES; j++) {
                float d = a[i + k + j] - b[i + k + j];
                lane[j] += d * d;
            }
        for (int64_t j = 0; j < LANES; j++)
            sum += (double)lane[j];
    }
    for (; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

/* A piece of the query stays in the processor's cache while all rows are compared with it. */
void nearest_distances(double *out, const float *const *query, int64_t queries, const float *const *row, int64_t rows,
                       int64_t n, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t q = 0; q < queries; q++) {
        double sum[NEAREST_TILE] = {0};
        for (int64_t at = 0; at < n; at += CHUNK)
            for (int64_t r = 0; r < rows; r++)
                sum[r] += squares(query[q] + at, row[r] + at, n - at < CHUNK ? n - at : CHUNK);
        for (int64_t r = 0; r < rows; r++)
            out[q * rows + r] = sqrt(sum[r] / (double)n);
    }
}
