#include "common/media/rational.h"

typedef __int128 Wide;

static Wide wide_gcd(Wide a, Wide b)
{
    if (a < 0)
        a = -a;
    while (b) {
        Wide t = a % b;
        a = b;
        b = t;
    }
    return a;
}

int rational_make(Wide n, Wide d, Rational *out)
{
    Wide g = wide_gcd(n, d);
    if (g > 1)
        n /= g, d /= g;
    if (n > INT64_MAX || n < -INT64_MAX || d > INT64_MAX)
        return 0;
    *out = (Rational){(int64_t)n, (int64_t)d};
    return 1;
}

int rational_add(Rational a, Rational b, Rational *out)
{
    int64_t g = (int64_t)wide_gcd(a.den, b.den); /* both denominators < 2^31, so the sum fits 128 bits */
    return rational_make((Wide)a.num * (b.den / g) + (Wide)b.num * (a.den / g), (Wide)a.den * (b.den / g), out);
}

Rational rational_sub(Rational a, Rational b)
{
    Wide num = (Wide)a.num * b.den - (Wide)b.num * a.den, den = (Wide)a.den * b.den, g = wide_gcd(num, den);
    if (g == 0)
        g = 1;
    return (Rational){(int64_t)(num / g), (int64_t)(den / g)};
}

int rational_cmp(Rational a, Rational b)
{
    Wide l = (Wide)a.num * b.den, r = (Wide)b.num * a.den;
    return (l > r) - (l < r);
}

double rational_value(Rational r)
{
    return r.den ? (double)r.num / (double)r.den : 0;
}
