/* run.json and state.json: what a run writes about itself, and whether a resume fits what an earlier
 * run wrote. */
#ifndef WEFT_TRAIN_RESUME_H
#define WEFT_TRAIN_RESUME_H
#include "train/job.h"

/* RUN/run.json (schemas/train-run) and a checkpoint's state.json (schemas/train-state).  New
 * references.  interim: the checkpoint is saved because the run was asked to stop, and goes when the
 * next one is saved. */
WEFT_MUST_CHECK int resume_run_json(const Job *j, int64_t parameters, json_t **out, Err *err);
/* Adds to run.json, until the run goes on, why it failed after `step`. */
WEFT_MUST_CHECK int resume_add_stopped(json_t *run, int64_t step, const char *reason, Err *err);
WEFT_MUST_CHECK int resume_state_json(const Job *j, int64_t step, int interim, json_t **out, Err *err);
/* Refuses (ERR_USAGE) to go on with another recipe, seed, cache, noise schedule or starting weights,
 * naming all that changed.  How long to train, what to keep, how to spend memory and where folders
 * lie may change: num_epochs, max_steps, checkpointing_steps, checkpoints_total_limit, log_every,
 * gradient_checkpointing, recompute, base_model, pretrained_weights, lora_weights,
 * max_nonfinite, max_loss_ratio.  Warns of another device or
 * build, which change the last bits. */
WEFT_MUST_CHECK int resume_check(const Job *j, const json_t *stored, int64_t step, Err *err);
/* Removes the lines of later steps than `step`, and an incomplete last line, from log.jsonl. */
WEFT_MUST_CHECK int resume_cut_log(const char *path, int64_t step, Err *err);
#endif
