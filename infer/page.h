/* Parts that the pages of evaluate and compare share.  Both stand alone: no file, font or script from
 * elsewhere. */
#ifndef WEFT_INFER_PAGE_H
#define WEFT_INFER_PAGE_H
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

/* From <!doctype> to <body>.  A page may load nothing from elsewhere; with `script` (else NULL) it may run that
 * one text, which page_end writes, and show videos that lie beside it. */
WEFT_MUST_CHECK int page_begin(FILE *out, const char *title, const char *script, Err *err);
void page_end(FILE *out, const char *script);

/* The path from the page's folder to a file as a URL, for src="...": relative, with every special byte escaped.
 * Both must exist. */
WEFT_MUST_CHECK int page_link(FILE *out, const char *folder, const char *file, Err *err);

/* <span><b>value</b> what</span>, of a summary. */
void page_fact(FILE *out, int64_t value, const char *one, const char *many);
/* A number of six significant digits, "–" for NAN. */
void page_number(FILE *out, double x);
/* <td> with it. */
void page_cell(FILE *out, double x);

typedef struct PageDot {
    double x, y;
    const char *label; /* borrowed; shown on hovering */
} PageDot;
/* "How the figures are made": a line a member of two objects of texts (either may be NULL), and the seed. */
void page_protocol(FILE *out, const json_t *own, const json_t *networks, int64_t seed);
/* A cloud of dots with axes from 0 (or the least) to the most; those that are not finite are left out. */
void page_scatter(FILE *out, const char *title, const char *x_name, const char *y_name, const PageDot *dot, int64_t n);

typedef struct PageBar {
    const char *label;      /* borrowed */
    double value[2];        /* of the two sides; NAN: none */
    double low[2], high[2]; /* their intervals; NAN: none */
} PageBar;
/* Groups of two horizontal bars. */
void page_bars(FILE *out, const char *title, const char *const side[2], const PageBar *bar, int64_t n);
#endif
