/* The report on a prepared dataset: PREPARED/report.html (one file that loads nothing else) and
 * PREPARED/report.json (the same content, schemas/report.schema.json).  Where there is too much for
 * one page it shows the first of each kind, and report-2.html, report-3.html, ...
 * show all.  Pages are drawn from the JSON and thumbs/ alone; all are the same bytes for the same
 * dataset. */
#ifndef WEFT_PREP_SET_REPORT_H
#define WEFT_PREP_SET_REPORT_H
#include <jansson.h>
#include <stdio.h>
#include "common/base/err.h"
#include "prep/line.h"

/* dataset: dataset.json's content, whose manifest lies in dir already.  tokens: count those of
 * tokens.jsonl, if it exists. */
WEFT_MUST_CHECK int report_write(const char *dir, const json_t *dataset, int tokens, Err *err);
/* The same for who reads the manifest anyway: begin, each of its lines in order and each line of
 * tokens.jsonl by its tokens (those that were cut off included), end, which writes; close in any case.
 * dataset is borrowed until then.  report_members: what it reads of a line. */
typedef struct Report Report;
extern const char *const report_members[];
WEFT_MUST_CHECK int report_begin(Report **out, const json_t *dataset, Err *err);
WEFT_MUST_CHECK int report_add_line(Report *r, const ManifestLine *line, Err *err);
WEFT_MUST_CHECK int report_add_tokens(Report *r, int64_t tokens, Err *err);
WEFT_MUST_CHECK int report_end(Report *r, const char *dir, Err *err);
void report_close(Report **r);
/* `weft-prep report`: of a finished dataset, with the tokens counted if `tokenize` has run. */
WEFT_MUST_CHECK int prep_report(const char *dir, FILE *results, Err *err);
/* The number of pages for report.json's content, report.html included; the file name of a page,
 * counted from 1. */
int64_t report_pages(const json_t *content);
void report_page_name(int64_t page, char name[40]);
/* A page of it; pictures are read from dir one after another, and left out where they are
 * missing. */
WEFT_MUST_CHECK int report_html(const char *dir, const json_t *content, int64_t page, FILE *out, Err *err);
#endif
