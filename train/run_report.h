/* RUN/report.html: a run's curves, held-out loss, use of time and samples as one page that loads nothing. */
#ifndef WEFT_TRAIN_RUN_REPORT_H
#define WEFT_TRAIN_RUN_REPORT_H
#include <jansson.h>
#include <stdio.h>

#include "common/base/err.h"

/* What a run has written about itself so far. */
typedef struct RunFacts {
    json_t *run;              /* run.json */
    json_t *steps, *held_out; /* lines of log.jsonl and held_out.jsonl; empty where there are none */
} RunFacts;

/* Reads and writes it, whether the run has ended or goes on; the same lines give the same bytes.
 * ERR_NOTFOUND when `run` is no run's folder. */
WEFT_MUST_CHECK int run_report_write(const char *run, Err *err);
/* The page alone (run_report_html.c). */
WEFT_MUST_CHECK int run_report_html(const RunFacts *facts, FILE *out, Err *err);
#endif
