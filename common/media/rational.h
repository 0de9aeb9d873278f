/* Exact fractions, for times and frame rates. */
#ifndef WEFT_COMMON_MEDIA_RATIONAL_H
#define WEFT_COMMON_MEDIA_RATIONAL_H
#include <stdint.h>

typedef struct Rational {
    int64_t num, den; /* den 0: unknown */
} Rational;

/* n / d (d > 0) in lowest terms.  1, or 0 when it does not fit 64 bits. */
int rational_make(__int128 n, __int128 d, Rational *out);
/* a + b in lowest terms (denominators > 0, below 2^31).  1, or 0 when it does not fit. */
int rational_add(Rational a, Rational b, Rational *out);
/* a - b in lowest terms, for times of one source (multiples of one time base, so that the result
 * fits). */
Rational rational_sub(Rational a, Rational b);
/* -1, 0, 1 as a < b, a = b, a > b. */
int rational_cmp(Rational a, Rational b);
/* As a double; 0 when the denominator is 0. */
double rational_value(Rational r);
#endif
