/* What the recipe's author says of the run (section `expected`), against what the run really does. */
#ifndef WEFT_TRAIN_EXPECTED_H
#define WEFT_TRAIN_EXPECTED_H
#include "train/job.h"

/* Compares effective_batch_size, training_videos and total_steps with an opened job, and shows both
 * numbers where they differ: ERR_USAGE, or a warning for a number written as "~2400".  Fewer clips than
 * training_videos are a warning, too: weft-prep rejects some videos and gives others to validation. */
WEFT_MUST_CHECK int expected_check(const Job *j, Err *err);

/* "62 minutes" in seconds, "~76GB" in bytes; -1 for NULL.  The schema has checked their form. */
double expected_seconds(const char *text);
double expected_bytes(const char *text);
#endif
