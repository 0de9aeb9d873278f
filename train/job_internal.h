/* Between job.c and job_plan.c. */
#ifndef WEFT_TRAIN_JOB_INTERNAL_H
#define WEFT_TRAIN_JOB_INTERNAL_H
#include "train/job.h"

/* Sets j->parameters, j->flat and the optimiser's bytes from j->dit. */
WEFT_MUST_CHECK int job_count_parameters(Job *j, Err *err);
#endif
