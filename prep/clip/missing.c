/* Signs that frames of a source are missing, in any container: the demuxer says that the file ends
 * early; a gap in a rate that is even otherwise; fewer frames than the file says it has.  Each is
 * noted.  A file that ends early and has a gap lost packets in its middle: decoders show the frames
 * after the gap from wrong references and report no error, so that a window that reaches the gap or
 * lies behind it is rejected (make.c). */
#include <math.h>
#include <stdlib.h>
#include "common/base/mem.h"
#include "common/base/str.h"
#include "prep/clip/internal.h"

enum { GAP_FRAMES_MIN = 8 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double interval(const Scan *s, int64_t i)
{
    return rational_value(rational_sub(s->times[i + 1], s->times[i]));
}

/* A rate is even when at most one interval in 50 is neither the median (a tenth and a millisecond of
 * rounding allowed) nor longer than one and a half of it, and at most one in ten is a gap. */
static void count_gaps(Scan *s, double period)
{
    int64_t n = s->n - 1, gaps = 0, odd = 0, first = -1;
    for (int64_t i = 0; i < n; i++) {
        double d = interval(s, i);
        if (d >= 1.5 * period) {
            first = first < 0 ? i : first;
            gaps++;
        } else if (fabs(d - period) > 0.1 * period + 0.0011) {
            odd++;
        }
    }
    if (odd * 50 <= n && gaps * 10 <= n) {
        s->gaps = gaps;
        s->first_gap = first;
    }
}

int scan_find_gaps(Scan *s, Err *err)
{
    s->first_gap = -1;
    if (s->n < GAP_FRAMES_MIN)
        return 0;
    double *sorted = mem_calloc(s->n - 1, sizeof *sorted, err);
    if (!sorted)
        return ERR_NOMEM;
    for (int64_t i = 0; i + 1 < s->n; i++)
        sorted[i] = interval(s, i);
    qsort(sorted, (size_t)(s->n - 1), sizeof *sorted, by_value);
    double period = sorted[(s->n - 1) / 2];
    mem_free(sorted);
    count_gaps(s, period);
    return 0;
}

/* Whether at least two frames fewer were decoded than the file states; by its frame count and by its
 * duration, where it has both. */
static int fewer_than_said(const Scan *s, double span)
{
    const VideoInfo *v = &s->info;
    double period = s->n > 1 ? span / (double)s->n : 0;
    int fewer = v->frames_hint > 0 && s->n + 2 <= v->frames_hint;
    int shorter = v->duration_s > 0 && !v->duration_shared && s->n > 1 && span + 1.5 * period < v->duration_s;
    return (fewer || v->frames_hint <= 0) && (shorter || v->duration_s <= 0 || v->duration_shared) &&
           (fewer || shorter);
}

int scan_note_missing(Scan *s, double span, Err *err)
{
    Str text = {0};
    int rc = 0;
    if (s->counts.ended_early)
        rc = str_append(&text, "the file ends before its contents do", err);
    if (rc == 0 && s->gaps)
        rc = str_printf(&text, err, "%s%" PRId64 " gap%s in an even rate, the first of %.3f s after frame %" PRId64,
                        text.len ? "; " : "", s->gaps, str_plural(s->gaps), interval(s, s->first_gap), s->first_gap);
    if (rc == 0 && fewer_than_said(s, span))
        rc = str_printf(&text, err,
                        "%s%" PRId64 " frames in %.3f s were decoded; the file says %" PRId64 " frames in %.3f s",
                        text.len ? "; " : "", s->n, span, s->info.frames_hint, s->info.duration_s);
    if (rc == 0 && text.len)
        rc = note_add(&s->notes, err, REASON_FRAMES_MISSING, "%s", text.data);
    str_fini(&text);
    return rc;
}
