/* What a prepared dataset is, for people: PREPARED/report.html (one file, nothing from outside) and PREPARED/report.json (the same
 * content, schemas/report.schema.json).  The page is drawn from the JSON and thumbs/ alone; both are the same bytes for the same
 * dataset. */
#ifndef WEFT_PREP_REPORT_H
#define WEFT_PREP_REPORT_H
#include <jansson.h>
#include <stdio.h>
#include "common/base/err.h"

/* dataset: dataset.json's content, whose manifest lies in dir already.  tokens: count those of tokens.jsonl, if it is there. */
int report_write(const char *dir, const json_t *dataset, int tokens, Err *err);
/* `weft-prep report`: of a finished dataset, with the tokens counted if `tokenize` has run. */
int report(const char *dir, FILE *results, Err *err);
/* The page from report.json's content; pictures are read from dir, and left out where they are missing. */
int report_html(const char *dir, const json_t *content, FILE *out, Err *err);
#endif
