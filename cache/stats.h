/* weft-cache stats. */
#ifndef WEFT_CACHE_STATS_H
#define WEFT_CACHE_STATS_H
#include <stdio.h>
#include "common/base/err.h"

/* Prints what the cache holds: clips by split, category and size, captions, bytes by kind of record, and
 * mean and standard deviation of the latents in each channel, scaled as training sees them (of moments:
 * of the means; and the mean of the posterior's standard deviations).  Reads each record once. */
WEFT_MUST_CHECK int cache_stats(const char *dir, int json, FILE *out, Err *err);
#endif
