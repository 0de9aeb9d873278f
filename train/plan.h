/* What weft-train predicts before a run, and afterwards the comparison. */
#ifndef WEFT_TRAIN_PLAN_H
#define WEFT_TRAIN_PLAN_H
#include <stdio.h>

#include "common/base/jsonw.h"
#include "train/job.h"

/* Prints steps, memory, operations (job_print), time, and what the recipe's author says of them; logs a
 * warning for each setting that the user would regret.  The time is measured on the device that the
 * options name, where it computes in the recipe's precision (then j->forecast is set); else it is
 * calculated for the card that the recipe names, or for an A100 and an H100. */
WEFT_MUST_CHECK int plan_print(Job *j, const TrainOptions *o, FILE *out, Err *err);
/* Prints settings as a recipe that fit the memory ("24G") and the time ("8h"; either may be NULL), after
 * plan_print: fit.h says how they are found. */
WEFT_MUST_CHECK int plan_fit(const Job *j, const char *memory, const char *time, FILE *out, Err *err);
/* The line of what the run will write, for a plan without an output folder. */
WEFT_MUST_CHECK int plan_print_disk(const Job *j, FILE *out, Err *err);
/* Writes the members memory_bytes, step_seconds and run_seconds of schemas/train-prediction; arguments as for
 * plan_compare. */
void plan_write_pairs(JsonWriter *w, const Job *j, int64_t first, double step_s, double run_s);
/* Logs memory and time as planned and as they were, and writes both into RUN/prediction.json
 * (schemas/train-prediction).  step_s: mean of the steps done since step `first`; run_s: of the whole
 * process since then. */
WEFT_MUST_CHECK int plan_compare(const Job *j, const char *run, int64_t first, double step_s, double run_s, Err *err);
#endif
