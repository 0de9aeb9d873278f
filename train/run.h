/* The training loop: data, gradient, update, log, checkpoints, resume. */
#ifndef WEFT_TRAIN_RUN_H
#define WEFT_TRAIN_RUN_H
#include <stdio.h>

#include "train/job.h"

/* Trains into the folder `out` until the job's last step, from its newest undamaged checkpoint or from
 * the start: 0, or 1 when a signal stopped it: then the step was finished and a checkpoint saved.
 * ERR_INTERRUPTED where that could not be saved.  j->reached: steps that are done. */
WEFT_MUST_CHECK int train_run(Job *j, const char *out, Err *err);
/* For --dry-run: checks all that train_run checks before its first step, and prints on `to` where it
 * would start and what it would write.  Writes nothing. */
WEFT_MUST_CHECK int train_preview(Job *j, const char *out, FILE *to, Err *err);
#endif
