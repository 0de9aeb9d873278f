/* What the ranks of a run settle between them: the start, each step's loss and whether to stop, and
 * who answers for the parts of a checkpoint. */
#ifndef WEFT_TRAIN_TOGETHER_H
#define WEFT_TRAIN_TOGETHER_H
#include "train/job.h"

/* After rank 0 chose checkpoint *step (0: none) of the run folder `out`: all ranks learn it, and whether
 * they have the same program, recipe, model, caches, device and checkpoint.  The other ranks make
 * their j->identity here. */
WEFT_MUST_CHECK int together_start(Job *j, const char *out, int64_t *step, Err *err);

/* A step's losses: loss[i] is weight x loss of the pass that begins with sample i of the step, zero
 * where none begins or another rank has it.  Afterwards *sum is the step's loss at every rank, added in
 * the samples' order, and *stop (before: the signal that asked this rank to stop, or 0) is that of any rank
 * that was asked.  loss has n + TOGETHER_EXTRA elements. */
enum { TOGETHER_EXTRA = 2 };
WEFT_MUST_CHECK int together_step(const Share *s, double *loss, int64_t n, double *sum, int *stop, Err *err);

/* After a step that was skipped: every rank's s->bad becomes that of the first rank which has one. */
WEFT_MUST_CHECK int together_bad(TrainState *s, Err *err);

/* Saving: rank 0 asks the owner of each part that it has not itself; the others serve until rank 0
 * dismisses them, which it does whether saving worked or not. */
WEFT_MUST_CHECK int together_fetch(const TrainState *s, int64_t i, const OptimizerPart *part, void *room, Err *err);
WEFT_MUST_CHECK int together_serve(const TrainState *s, Err *err);
WEFT_MUST_CHECK int together_dismiss(const TrainState *s, Err *err);
#endif
