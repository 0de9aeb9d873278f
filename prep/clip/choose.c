#include "prep/clip/choose.h"

typedef __int128 Wide;

int choose_check(const Rational *times, int64_t n, Err *err)
{
    const int64_t limit = (int64_t)1 << 61;
    for (int64_t i = 0; i < n; i++) {
        if (times[i].den < 1 || times[i].den > INT32_MAX || times[i].num >= limit || times[i].num <= -limit)
            return err_set(err, ERR_FORMAT, "frame %" PRId64 ": time %" PRId64 "/%" PRId64 " s is out of range", i,
                           times[i].num, times[i].den);
        if (i && rational_cmp(times[i - 1], times[i]) >= 0)
            return err_set(err, ERR_FORMAT, "frame %" PRId64 ": time %.6f s does not come after %.6f s", i,
                           rational_value(times[i]), rational_value(times[i - 1]));
    }
    return 0;
}

int64_t choose_points(const Rational *times, int64_t n, int64_t fps)
{
    if (n == 0)
        return 0;
    Rational d = rational_sub(times[n - 1], times[0]);
    Wide points = (2 * (Wide)d.num * fps + d.den) / (2 * (Wide)d.den) + 1;
    return points > INT32_MAX ? INT32_MAX : (int64_t)points;
}

int choose_past_middle(int64_t point, int64_t fps, Rational origin, Rational a, Rational b)
{
    /* 2*point/fps > (a - origin) + (b - origin) */
    Rational ra = rational_sub(a, origin), rb = rational_sub(b, origin);
    Wide num, den;
    if (ra.den == rb.den) {
        num = (Wide)ra.num + rb.num;
        den = ra.den;
    } else {
        num = (Wide)ra.num * rb.den + (Wide)rb.num * ra.den;
        den = (Wide)ra.den * rb.den;
    }
    return 2 * (Wide)point * den > num * fps;
}

void choose_frames(const Rational *times, int64_t n, int64_t fps, int64_t start, int64_t count, Pick *picks)
{
    int64_t j = 0;
    for (int64_t k = 0; k < count; k++) {
        int64_t point = start + k;
        while (j + 1 < n && choose_past_middle(point, fps, times[0], times[j], times[j + 1]))
            j++;
        Rational at = rational_sub(times[j], times[0]);
        Wide late = (Wide)at.num * fps - (Wide)point * at.den;
        picks[k] = (Pick){j, times[j], (double)late / (double)((Wide)at.den * fps)};
    }
}

int64_t choose_windows(int64_t points, int64_t frames, int64_t stride, int64_t count, int64_t *starts)
{
    int64_t room = points - frames, n = 0;
    for (int64_t j = 0; j < count; j++) {
        int64_t at = stride ? j * stride : count > 1 ? (2 * j * room + count - 1) / (2 * (count - 1)) : room / 2;
        at = at > room ? room : at;
        if (n == 0 || at > starts[n - 1])
            starts[n++] = at;
    }
    return n;
}
