/* Charts as inline SVG, for report.html. */
#ifndef WEFT_TRAIN_REPORT_CHART_H
#define WEFT_TRAIN_REPORT_CHART_H
#include <stdint.h>
#include <stdio.h>

/* Numbers y over x (ascending); colour is one of the page's --c0, --c1, ... */
typedef struct Series {
    const char *name;
    const double *x, *y;
    int64_t n;
    int colour, faint, dots; /* faint: a thin line in the background; dots: a mark at each point, with its value */
} Series;

/* n lines over the steps in one chart; those without points are left out.  from_zero: the axis begins at 0. */
void chart_lines(FILE *out, const char *title, const Series *s, int n, int from_zero);
/* Pairs of bars, one a group: before[i] and after[i], NAN for none; labels below. */
void chart_pairs(FILE *out, const char *title, const char *const label[2], const double *before, const double *after,
                 int n, const char *first, const char *last);
/* One bar in parts, which need not add up to anything; names and shares stand below. */
typedef struct Part {
    const char *name;
    double value;
} Part;
void chart_parts(FILE *out, const char *title, const Part *part, int n);
#endif
