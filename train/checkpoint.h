/* Checkpoints: folders that diffusers opens, plus what an exact resume needs.
 *
 *   RUN/checkpoint-N/transformer/{config.json, diffusion_pytorch_model.safetensors}
 *       the weights, in the type that operations read
 *   RUN/checkpoint-N/pytorch_lora_weights.safetensors
 *       instead of them with LoRA
 *   RUN/checkpoint-N/transformer_ema/{config.json, diffusion_pytorch_model.safetensors}
 *       with training.ema: the averaged weights, float32
 *   RUN/checkpoint-N/lora_ema/pytorch_lora_weights.safetensors
 *       with both: the averaged adapter
 *   RUN/checkpoint-N/weft_state/optimizer.safetensors
 *       the optimiser's state (optimizer.h: "m.NAME" and "v.NAME" of AdamW, float32); where the
 *       transformer's file is bf16 also "master.NAME", the exact weights
 *       (with LoRA always); with LoRA and training.ema "ema.NAME", the exact averages
 *   RUN/checkpoint-N/weft_state/state.json
 *       written last (schemas/train-state): lists all other files with their SHA-256
 *   RUN/final/
 *       a complete pipeline folder; with LoRA the adapter alone, as diffusers' load_lora_weights wants it
 *
 * Each folder is written under a temporary name and renamed when it is complete.  A killed run
 * leaves a complete folder or a temporary one, which the next run removes. */
#ifndef WEFT_TRAIN_CHECKPOINT_H
#define WEFT_TRAIN_CHECKPOINT_H
#include "train/step.h"

/* Writes checkpoint-N (N = s->step) with `state`, an object that becomes state.json.  After a
 * failure nothing of it is left.  Rank 0 alone calls it, while the others serve (together.h). */
WEFT_MUST_CHECK int checkpoint_save(const char *run, const TrainState *s, const json_t *state, Err *err);
/* Part i of what a resume needs besides the transformer's file: the optimiser's state, then the exact
 * weights.  A part that another rank keeps has n = 0. */
OptimizerPart checkpoint_part(const TrainState *s, int64_t i);
/* The folder RUN/checkpoint-STEP; mem_free. */
char *checkpoint_folder(const char *run, int64_t step, Err *err);
/* The optimiser's state and the step from RUN/checkpoint-STEP; the transformer was opened from its folder already. */
WEFT_MUST_CHECK int checkpoint_load_optimizer(const char *run, int64_t step, TrainState *s, Err *err);
/* RUN/final: the transformer, and every other part of the pipeline folder `base`, as links where `link` is
 * set (pipeline.h).  A base without model_index.json gives a folder with the transformer alone. */
WEFT_MUST_CHECK int final_save(const char *run, const char *base, int link, const TrainState *s, const json_t *state,
                               Err *err);

/* ---- checkpoint_find.c ---- */

/* The newest undamaged checkpoint: its step and state (new reference), or *step = 0 when `run` has no
 * checkpoint.  A damaged one (a file is missing or has other bytes) is named in a warning and the one
 * before it is looked at; when all are damaged: ERR_FORMAT.  A checkpoint that cannot be read, or was
 * written by a newer version, is an error: as a damaged one it would be overwritten. */
WEFT_MUST_CHECK int checkpoint_newest(const char *run, const Log *log, int64_t *step, json_t **state, Err *err);
/* Tidies up after checkpoint `step` was saved or the run was resumed from it.  Removes older checkpoints that were
 * saved because the run was asked to stop (state.json: "interim").  With keep >= 1 removes also
 * damaged checkpoints and all but the newest `keep` up to `step`.  Never removes checkpoint `step`,
 * nor one that cannot be read. */
WEFT_MUST_CHECK int checkpoint_prune(const char *run, int64_t step, int64_t keep, Err *err);
/* How many checkpoint folders there are; a run folder that does not exist has none. */
WEFT_MUST_CHECK int checkpoint_count(const char *run, int64_t *n, Err *err);
/* 1 when RUN/final was made at this step and every file of it is as it was written, 0 when it is
 * absent or damaged, negative when it cannot be read. */
WEFT_MUST_CHECK int final_is_at(const char *run, int64_t step, Err *err);
#endif
