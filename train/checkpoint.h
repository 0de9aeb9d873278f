/* Checkpoints: folders that diffusers opens, plus what an exact resume needs.
 *
 *   RUN/checkpoint-N/transformer/{config.json, diffusion_pytorch_model.safetensors}   in the
 *   precision that was computed in
 *   RUN/checkpoint-N/weft_state/optimizer.safetensors    float32: "m.NAME", "v.NAME" of AdamW;
 *   "master.NAME", the exact weights, where
 *                                                        the transformer's are rounded (bf16)
 *   RUN/checkpoint-N/weft_state/state.json                                            written last
 *   (schemas/train-state)
 *   RUN/final/                                                                        a whole
 *   pipeline folder
 *
 * Each is made under a temporary name and renamed when whole, so that a killed run leaves either
 * the folder or a leftover that the next run sweeps away. */
#ifndef WEFT_TRAIN_CHECKPOINT_H
#define WEFT_TRAIN_CHECKPOINT_H
#include "train/step.h"

/* Writes checkpoint-N (N = s->step) with `state`, an object that becomes state.json. */
int checkpoint_save(const char *run, const TrainState *s, const json_t *state, Err *err);
/* The newest whole checkpoint: its step and state (new reference), or *step = 0 when there is none.
 * One that is torn is named in a warning and passed over. */
int checkpoint_newest(const char *run, const Log *log, int64_t *step, json_t **state, Err *err);
/* The folder RUN/checkpoint-STEP; mem_free. */
char *checkpoint_folder(const char *run, int64_t step, Err *err);
/* Moments and step from RUN/checkpoint-STEP; the transformer was opened from its folder already. */
int checkpoint_load_optimizer(const char *run, int64_t step, TrainState *s, Err *err);
/* Removes the oldest checkpoints until `keep` are left (keep < 1: all stay). */
int checkpoint_prune(const char *run, int64_t keep, Err *err);

/* RUN/final: the transformer, and every other part of the pipeline folder `base` (copies).  A base
 * without model_index.json gives a folder with the transformer alone, and a warning. */
int final_save(const char *run, const char *base, const TrainState *s, const json_t *state, const Log *log, Err *err);
/* 1 when RUN/final was made at this step and every file of it is as it was written, else 0. */
int final_is_at(const char *run, int64_t step, Err *err);
#endif
