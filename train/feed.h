/* Reading ahead: a thread of its own keeps the next passes' records and draws ready in host memory
 * while the back end computes.
 *
 * The passes come in the order of the steps, and what is in them depends on the step alone
 * (dataset.h), so a run that goes on from a checkpoint opens its feed there and gets the same
 * passes. */
#ifndef WEFT_TRAIN_FEED_H
#define WEFT_TRAIN_FEED_H
#include "train/job.h"

typedef struct Feed Feed;

/* From step `step` of the job to its last.  The job must stay as it is until feed_close. */
int feed_open(Feed **out, const Job *job, int64_t step, Err *err);
/* The next pass; valid until the next call.  What went wrong while reading it is said here, in its
 * turn.  After the last pass:
 * ERR_USAGE. */
int feed_next(Feed *f, const HostBatch **out, Err *err);
void feed_close(Feed **f);
#endif
