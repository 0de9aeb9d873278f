/* Watches a run's steps: those that were skipped because something was not finite, and losses that grow
 * far above their start.
 *
 * The loss is smoothed by an exponential mean (a step weighs 0.9 times the next) of the steps that were
 * not skipped; its start is that mean after GUARD_START of them.  Until then its start is the first loss,
 * and it may grow a hundred times as far: a step's timesteps alone make losses differ twentyfold.  What it needs
 * to go on is in a checkpoint's state.json, so a resumed run stops where an undisturbed one does. */
#ifndef WEFT_TRAIN_GUARD_H
#define WEFT_TRAIN_GUARD_H
#include "train/job.h"

enum { GUARD_START = 10 };

typedef struct Guard {
    int64_t max_nonfinite; /* stop after this many skipped steps in a row */
    double max_loss_ratio; /* stop when the smoothed loss is this many times its start; 0: never */
    int64_t skipped, in_row;
    int64_t seen; /* steps that were not skipped */
    double sum, weight, start;
} Guard;

/* From the recipe, and from RUN/checkpoint-STEP unless step is 0. */
WEFT_MUST_CHECK int guard_open(Guard *g, const Job *j, const char *run, int64_t step, Err *err);
/* Adds "guard" to a checkpoint's state. */
WEFT_MUST_CHECK int guard_save(const Guard *g, json_t *state, Err *err);
/* Step s->step is done.  losses[i]: of the pass that begins with sample i of the step (all ranks').  Warns
 * when it was skipped.  ERR_LIMIT, naming the step's samples with their timesteps and the first tensor
 * that is not finite, when training must stop: the same at every rank. */
WEFT_MUST_CHECK int guard_step(Guard *g, const Job *j, const TrainState *s, const double *losses, double loss,
                               double norm, Err *err);
#endif
