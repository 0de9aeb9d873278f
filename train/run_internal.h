/* Between run.c, run_log.c and run_save.c: one run while it goes on. */
#ifndef WEFT_TRAIN_RUN_INTERNAL_H
#define WEFT_TRAIN_RUN_INTERNAL_H
#include <stdio.h>

#include "common/base/file.h"
#include "common/base/progress.h"
#include "train/curve.h"
#include "train/feed.h"
#include "train/guard.h"
#include "train/heldout.h"
#include "train/run.h"
#include "train/samples.h"

typedef struct Run {
    Job *job;
    const char *out;
    DirLock lock;
    Dit *dit;
    TrainState state;
    Arena *work;
    Feed *feed;
    HeldOut *held_out;
    Samples *samples;
    Curve *curve;
    Guard guard;
    FILE *log; /* of rank 0, as the folder's other files */
    Progress *progress;
    struct {
        int interim, may_fail;
    } saving;                /* of the next checkpoint: save_here */
    double *losses;          /* of a step's passes: together_step */
    int64_t first;           /* steps that were done before */
    double begin_s, spent_s; /* when the first step began; seconds in steps since then */
} Run;

/* One step's numbers for the log. */
typedef struct StepFacts {
    int64_t epoch, samples;
    double loss, norm, lr, data_s, start_s;
    int stop; /* the signal that asked a rank to stop */
} StepFacts;

/* Loss or gradient was not finite: such numbers have no place in JSON. */
int run_skipped(const StepFacts *f);
/* Rank 0 has the folder, and what is written there. */
int run_is_first(const Run *r);
/* The step's line in log.jsonl, in TensorBoard and on the live line. */
WEFT_MUST_CHECK int run_log_step(Run *r, const StepFacts *f, Err *err);

/* A checkpoint, by all ranks together; r->saving says why.  Refused where a weight is not finite. */
WEFT_MUST_CHECK int run_save(Run *r, Err *err);
/* RUN/final, unless it is that of this step already; by all ranks together. */
WEFT_MUST_CHECK int run_finish(Run *r, Err *err);
/* Measures the held-out loss and makes samples where they are due; a resumed run does here what it was
 * stopped before. */
WEFT_MUST_CHECK int run_validate(Run *r, Err *err);
/* The page; without it a run is no worse. */
void run_show(const Run *r);
#endif
