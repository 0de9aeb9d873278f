/* Distances between rows of numbers, as of latents: which one is nearest?
 *
 * A distance is sqrt(mean (a - b)^2) over the row's values: 0 for equal rows, and independent of how long they
 * are.  Results are the same bits for any number of threads. */
#ifndef WEFT_COMMON_METRICS_NEAREST_H
#define WEFT_COMMON_METRICS_NEAREST_H
#include <stdint.h>

enum { NEAREST_TILE = 8 /* rows that one call may compare with */ };

/* out [queries][rows] <- the distance of query q to row r, each of n >= 1 values.  rows <= NEAREST_TILE. */
void nearest_distances(double *out, const float *const *query, int64_t queries, const float *const *row, int64_t rows,
                       int64_t n, int threads);
#endif
