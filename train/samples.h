/* Samples of validation.prompts from the weights as training changes them: before the first step, every
 * validation.sample_every steps and after the last, with the settings of 'sampling', the clips' size, and
 * the same noise each time (torch's, from seed + the prompt's number), so that what changes is the weights.
 *
 * RUN/samples/step-S-N.safetensors holds the latents, tensor "latents" [1,F,C,h,w]; step-S-N.png a few of
 * their frames through the cache's map of colours (common/model/latent_colour.h), where it has one.
 * RUN/samples.jsonl has a line each (schemas/train-samples); a resume cuts it back and makes what is
 * missing, to the same bytes. */
#ifndef WEFT_TRAIN_SAMPLES_H
#define WEFT_TRAIN_SAMPLES_H
#include "train/curve.h"
#include "train/job.h"

typedef struct Samples Samples;

WEFT_MUST_CHECK int samples_open(Samples **out, const Job *job, const char *run, int64_t step, Err *err);
void samples_close(Samples **s);
/* Whether the weights after `step` steps are to be sampled and were not, or not all prompts of them. */
int samples_due(const Samples *s, int64_t step);
/* Makes what is due, and shows it in TensorBoard.  Returns 0 without all of it when the program was asked
 * to stop. */
WEFT_MUST_CHECK int samples_renew(Samples *s, TrainState *state, Curve *curve, Err *err);

/* What sampling takes of the back end's memory besides working memory; and that it can be done. */
int64_t samples_bytes(const Job *j);
WEFT_MUST_CHECK int samples_check(const Job *j, Err *err);
/* The loop's parameters with this transformer. */
DenoiseParams samples_params(const Job *j, Backend *be, Dit *dit, Arena *work);
#endif
