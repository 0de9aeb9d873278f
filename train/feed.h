/* Reading ahead: while the back end computes, a thread reads the next passes' records and draws into
 * host memory.
 *
 * The contents of a pass depend on the step's number alone (dataset.h), so a resumed run opens its
 * feed at its step and gets the same passes. */
#ifndef WEFT_TRAIN_FEED_H
#define WEFT_TRAIN_FEED_H
#include "train/job.h"

typedef struct Feed Feed;

/* Feeds steps `step` to the job's last.  The job must not change until feed_close. */
WEFT_MUST_CHECK int feed_open(Feed **out, const Job *job, int64_t step, Err *err);
/* The next pass, valid until the next call.  An error while reading a pass is returned in that pass's
 * turn.  After the last pass: ERR_USAGE. */
WEFT_MUST_CHECK int feed_next(Feed *f, const HostBatch **out, Err *err);
void feed_close(Feed **f);
#endif
