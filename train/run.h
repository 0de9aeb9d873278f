/* The training loop: data, gradient, update, log, checkpoint; and going on where an earlier run
 * stopped. */
#ifndef WEFT_TRAIN_RUN_H
#define WEFT_TRAIN_RUN_H
#include "train/job.h"

/* Trains into the folder `out` until the job's last step, from the newest whole checkpoint there or
 * from the start.  Asked to stop (SIGINT, SIGTERM): a checkpoint of the step just done, then
 * ERR_INTERRUPTED. */
int train_run(Job *j, const char *out, Err *err);
#endif
