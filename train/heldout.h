/* The held-out loss: the training loss on clips of split val, which are never trained on, at items
 * (clip, timestep, noise) that stay the same through the whole run.
 *
 * Why fixed items, and paired: a step's training loss depends more on the timesteps it drew than on the
 * weights.  The same items before and after differ by the weights alone, and the mean of the clips'
 * differences has an interval that a few clips make small (common/base/bootstrap.h: percentile bootstrap
 * over clips, 95 %).
 *
 * Which items: the validation.clips clips whose draw is smallest, and for each of them one timestep in
 * each of validation.timesteps equal parts of the noise schedule.  Every draw is keyed by the seed and the
 * SHA-256 of the clip's id, so that other clips in the cache change no draw.  A posterior stored as moments
 * is drawn from, as in training; number k % captions of the clip's captions belongs to timestep k.
 *
 * RUN/held_out.jsonl has a line a measurement (schemas/train-held-out): before the first step, every
 * validation.every steps, after the last.  A resume cuts it back to its checkpoint like log.jsonl, and
 * measures what is missing: a killed and resumed run ends with the same lines, but for "time". */
#ifndef WEFT_TRAIN_HELDOUT_H
#define WEFT_TRAIN_HELDOUT_H
#include <jansson.h>

#include "train/job.h"

typedef struct HeldOut HeldOut;

/* Chooses the items and reads the lines that RUN/held_out.jsonl has up to `step`; later ones are cut off.
 * ERR_USAGE when they hold other items than this job's recipe and cache give.  Without clips of split val,
 * or with validation.clips 0, nothing will be due. */
WEFT_MUST_CHECK int heldout_open(HeldOut **out, const Job *job, const char *run, int64_t step, Err *err);
void heldout_close(HeldOut **h);
/* Whether the weights after `step` steps are to be measured by the recipe, and whether they are still to be. */
int heldout_scheduled(const Job *j, int64_t step);
int heldout_due(const HeldOut *h, int64_t step);
/* Measures the weights of s: 1.  0: the program was asked to stop, or the loss is not finite (a warning
 * says so). */
WEFT_MUST_CHECK int heldout_measure(HeldOut *h, TrainState *s, Err *err);
/* The same, after heldout_measure, while the averaged weights are in the weights' place
 * (train_lend_average). */
WEFT_MUST_CHECK int heldout_measure_average(HeldOut *h, TrainState *s, Err *err);
/* Appends the line of what was measured to RUN/held_out.jsonl and gives it in *line (a new reference). */
WEFT_MUST_CHECK int heldout_write(HeldOut *h, int64_t step, json_t **line, Err *err);
/* The latest line's losses, of the weights and, where it has one, of the averaged weights (NAN: none); 0
 * when there is no line yet. */
int heldout_latest(const HeldOut *h, double *loss, double *average);

/* "0.1234 (-0.0021, 95 % -0.0040 to -0.0003)": the loss of a line or of its "ema", and its change since
 * step 0. */
const char *heldout_text(const json_t *line, char out[128]);
#endif
