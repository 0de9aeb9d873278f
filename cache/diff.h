/* weft-cache diff: what a build would do, and why. */
#ifndef WEFT_CACHE_DIFF_H
#define WEFT_CACHE_DIFF_H
#include "cache/build_internal.h"

/* Prints a line for each clip that `build` would add, make again, rewrite the entry of, or drop, with the
 * reason, and a line of totals.  b: everything up to the keys, and the cache (NULL where there is none). */
WEFT_MUST_CHECK int build_diff(Build *b, Err *err);
#endif
