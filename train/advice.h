/* Settings that a user would regret when the run is over. */
#ifndef WEFT_TRAIN_ADVICE_H
#define WEFT_TRAIN_ADVICE_H
#include "train/job.h"

/* Logs a warning for each: a warm-up that is longer than the run, checkpoints that never come, fewer clips
 * than a step asks for, a learning rate that the optimiser does not bear. */
void advice_log(const Job *j);
#endif
