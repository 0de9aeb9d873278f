/* What a run writes down about itself, and whether it may go on from what an earlier one wrote. */
#ifndef WEFT_TRAIN_RESUME_H
#define WEFT_TRAIN_RESUME_H
#include "train/job.h"

/* RUN/run.json (schemas/train-run) and a checkpoint's state.json (schemas/train-state). New
 * references. */
json_t *resume_run_json(const Job *j, int64_t parameters, Err *err);
json_t *resume_state_json(const Job *j, int64_t step, Err *err);
/* Refuses (ERR_USAGE) to go on with another recipe, base model or cache, naming all that changed.
 * How long to train, what to keep and how to spend memory may change: num_epochs, max_steps,
 * checkpointing_steps, checkpoints_total_limit, log_every, gradient_checkpointing, recompute. */
int resume_check(const Job *j, const json_t *stored, int64_t step, Err *err);
/* Cuts log.jsonl behind `step`: lines of later steps, and a torn last line. */
int resume_cut_log(const char *path, int64_t step, Err *err);
#endif
