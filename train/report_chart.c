#include <inttypes.h>
#include <math.h>

#include "common/base/html.h"
#include "train/report_chart.h"

enum { WIDTH = 400, HEIGHT = 210, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 22, COLUMNS = 400 };

/* ---- axes ------------------------------------------------------------------------------------ */

typedef struct Axis {
    double low, high, tick;
} Axis;

/* Includes low and high, with ticks at 1, 2 or 5 times a power of ten, six at most. */
static Axis axis_of(double low, double high)
{
    /* values that differ in their last bits are one: a tick smaller than these would never reach the next */
    int flat = high - low <= 1e-9 * fmax(fabs(high), fabs(low));
    double span = !flat ? high - low : fabs(high) > 0 ? fabs(high) : 1, tick = pow(10, floor(log10(span / 5)));

    while (span / tick > 6)
        tick *= span / tick > 15 ? 5 : 2;
    if (flat) {
        low -= span / 2;
        high += span / 2;
    }
    return (Axis){low, high, tick};
}

static double at_x(const Axis *a, double x)
{
    return LEFT + (x - a->low) / (a->high - a->low) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const Axis *a, double y)
{
    return HEIGHT - BOTTOM - (y - a->low) / (a->high - a->low) * (HEIGHT - TOP - BOTTOM);
}

static void begin(FILE *out, const char *title)
{
    fputs("<figure><figcaption>", out);
    html_text(out, title);
    fputs("</figcaption>", out);
}

static void begin_plot(FILE *out, const char *title, const Axis *y)
{
    fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\"><title>", WIDTH, HEIGHT);
    html_text(out, title);
    fputs("</title>", out);
    for (double v = ceil(y->low / y->tick - 1e-9) * y->tick; v <= y->high + 1e-9 * y->tick; v += y->tick)
        fprintf(out,
                "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.4g</text>",
                LEFT, WIDTH - RIGHT, at_y(y, v), at_y(y, v), LEFT - 5, at_y(y, v) + 4,
                fabs(v) < 1e-9 * y->tick ? 0 : v);
}

static void legend(FILE *out, const char *name, int colour, int faint)
{
    fprintf(out, "<span><i class=\"c%d%s\"></i>", colour, faint ? " faint" : "");
    html_text(out, name);
    fputs("</span>", out);
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* The lowest and highest point of each column of the picture, in the order in which they come. */
static void draw_dense(FILE *out, const Series *s, const Axis *x, const Axis *y)
{
    for (int64_t i = 0, c = 0; i < s->n; c++) {
        int64_t end = (c + 1) * s->n / COLUMNS, low = i, high = i;
        for (int64_t k = i; k < end; k++) {
            low = s->y[k] < s->y[low] ? k : low;
            high = s->y[k] > s->y[high] ? k : high;
        }
        if (end > i) {
            int64_t first = low < high ? low : high, second = low < high ? high : low;
            fprintf(out, "%.1f,%.1f %.1f,%.1f ", at_x(x, s->x[first]), at_y(y, s->y[first]), at_x(x, s->x[second]),
                    at_y(y, s->y[second]));
            i = end;
        }
    }
}

static void draw_line(FILE *out, const Series *s, const Axis *x, const Axis *y)
{
    fprintf(out, "<polyline class=\"c%d%s\" points=\"", s->colour, s->faint ? " faint" : "");
    if (s->n > 2 * COLUMNS)
        draw_dense(out, s, x, y);
    else
        for (int64_t i = 0; i < s->n; i++)
            fprintf(out, "%.1f,%.1f ", at_x(x, s->x[i]), at_y(y, s->y[i]));
    fputs("\"/>", out);
    for (int64_t i = 0; s->dots && i < s->n; i++)
        fprintf(out, "<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>step %.0f: %.5g</title></circle>",
                s->colour, at_x(x, s->x[i]), at_y(y, s->y[i]), s->x[i], s->y[i]);
}

/* The extent of all series; 0 when there is no point. */
static int extent(const Series *s, int n, Axis *x, Axis *y)
{
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;

    for (int k = 0; k < n; k++)
        for (int64_t i = 0; i < s[k].n; i++) {
            x0 = fmin(x0, s[k].x[i]);
            x1 = fmax(x1, s[k].x[i]);
            y0 = fmin(y0, s[k].y[i]);
            y1 = fmax(y1, s[k].y[i]);
        }
    if (x0 > x1)
        return 0;
    *x = (Axis){.low = x0, .high = x1 > x0 ? x1 : x0 + 1};
    *y = (Axis){.low = y0, .high = y1};
    return 1;
}

void chart_lines(FILE *out, const char *title, const Series *s, int n, int from_zero)
{
    Axis x, y;

    if (!extent(s, n, &x, &y))
        return;
    y = axis_of(from_zero ? fmin(0, y.low) : y.low, y.high);
    begin(out, title);
    begin_plot(out, title, &y);
    for (int k = 0; k < n; k++)
        if (s[k].n > 0)
            draw_line(out, &s[k], &x, &y);
    fprintf(out,
            "<text x=\"%d\" y=\"%d\">step %.0f</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.0f</text></svg>",
            LEFT, HEIGHT - 6, x.low, WIDTH - RIGHT, HEIGHT - 6, x.high);
    if (n > 1) {
        fputs("<p class=\"legend\">", out);
        for (int k = 0; k < n; k++)
            if (s[k].n > 0)
                legend(out, s[k].name, s[k].colour, s[k].faint);
        fputs("</p>", out);
    }
    fputs("</figure>\n", out);
}

/* ---- bars ------------------------------------------------------------------------------------ */

static void draw_bar(FILE *out, const Axis *y, double x, double width, double value, int colour)
{
    if (isfinite(value))
        fprintf(out,
                "<rect class=\"c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%.5g</title></rect>",
                colour, x, at_y(y, value), width, at_y(y, 0) - at_y(y, value), value);
}

void chart_pairs(FILE *out, const char *title, const char *const label[2], const double *before, const double *after,
                 int n, const char *first, const char *last)
{
    double high = 0, slot = (double)(WIDTH - LEFT - RIGHT) / n;
    Axis y;

    for (int i = 0; i < n; i++)
        high = fmax(high, fmax(before[i], after[i])); /* fmax ignores NAN */
    y = axis_of(0, high);
    begin(out, title);
    begin_plot(out, title, &y);
    for (int i = 0; i < n; i++) {
        draw_bar(out, &y, LEFT + slot * (i + 0.1), slot * 0.4, before[i], 3);
        draw_bar(out, &y, LEFT + slot * (i + 0.5), slot * 0.4, after[i], 1);
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\">", LEFT, HEIGHT - 6);
    html_text(out, first);
    fprintf(out, "</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">", WIDTH - RIGHT, HEIGHT - 6);
    html_text(out, last);
    fputs("</text></svg><p class=\"legend\">", out);
    legend(out, label[0], 3, 0);
    legend(out, label[1], 1, 0);
    fputs("</p></figure>\n", out);
}

void chart_parts(FILE *out, const char *title, const Part *part, int n)
{
    enum { TALL = 26 };
    double all = 0, x = 0;

    for (int i = 0; i < n; i++)
        all += part[i].value;
    if (!(all > 0))
        return;
    begin(out, title);
    fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" class=\"bar\"><title>", WIDTH, TALL);
    html_text(out, title);
    fputs("</title>", out);
    for (int i = 0; i < n; i++) {
        double wide = part[i].value / all * WIDTH;
        fprintf(out, "<rect class=\"c%d\" x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"%d\"/>", i, x, wide, TALL);
        x += wide;
    }
    fputs("</svg><p class=\"legend\">", out);
    for (int i = 0; i < n; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s %.3g s (%.0f %%)", part[i].name, part[i].value, 100 * part[i].value / all);
        legend(out, name, i, 0);
    }
    fputs("</p></figure>\n", out);
}
