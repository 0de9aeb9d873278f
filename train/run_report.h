/* RUN/report.html: a run's curves, held-out loss, use of time and samples as one page that loads nothing. */
#ifndef WEFT_TRAIN_RUN_REPORT_H
#define WEFT_TRAIN_RUN_REPORT_H
#include <jansson.h>
#include <stdio.h>

#include "common/base/err.h"

/* What a run has written about itself so far. */
typedef struct RunFacts {
    json_t *run;        /* run.json */
    json_t *prediction; /* prediction.json; NULL before the run's end */
    /* lines of log.jsonl, held_out.jsonl and samples.jsonl; empty where there are none */
    json_t *steps, *held_out, *samples;
} RunFacts;

/* Reads and writes it, whether the run has ended or goes on; the same lines give the same bytes.
 * ERR_NOTFOUND when `run` is no run's folder. */
WEFT_MUST_CHECK int run_report_write(const char *run, Err *err);
/* The page alone (run_report_html.c). */
WEFT_MUST_CHECK int run_report_html(const char *run, const RunFacts *facts, FILE *out, Err *err);
#endif
