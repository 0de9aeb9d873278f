/* What a run shows of itself while it goes on: the numbers that a step's line in log.jsonl has besides the
 * step's own, the same numbers in TensorBoard's event files (RUN/tensorboard), and the live line. */
#ifndef WEFT_TRAIN_CURVE_H
#define WEFT_TRAIN_CURVE_H
#include "common/base/jsonw.h"
#include "common/base/progress.h"
#include "train/job.h"

typedef struct Curve Curve;

/* Goes on after step `step`: reads RUN/log.jsonl, which has been cut back to it. */
WEFT_MUST_CHECK int curve_open(Curve **out, const Job *job, const char *run, int64_t step, Err *err);
void curve_close(Curve **c);

/* Writes "loss_smoothed" into a step's line: the mean of the lines' losses, each with 0.95 times the
 * weight of the next one (an exponential moving average without its start's bias, as TensorBoard
 * smooths). */
void curve_smoothed(Curve *c, JsonWriter *w, double loss);
/* Writes into the line's "time": samples_per_second, data_share (of the step's seconds, in waiting for
 * data), flops (a second, job_sample_operations), mfu (its share of the card's peak, where that is known)
 * and eta (seconds to the run's end at the pace since this process began).  step: the one just done. */
void curve_pace(const Curve *c, JsonWriter *w, int64_t step, int64_t samples, double seconds, double data_s);
/* A loss as people read it: four decimals, or three digits where it is very small or very large. */
const char *curve_loss(double x, char out[32]);
/* Shows a step's line: its numbers in TensorBoard ("train/loss", "time/forward"), and on the live line.  Keeps
 * a reference to the line, and `progress` until the next step. */
void curve_step(Curve *c, json_t *line, Progress *progress);
/* Shows a line of held_out.jsonl in TensorBoard, and its losses on the live line of the latest step. */
void curve_held_out(Curve *c, const json_t *line);
/* Shows a PNG file, of these extents, in TensorBoard. */
void curve_picture(Curve *c, int64_t step, const char *tag, const char *path, int64_t width, int64_t height);
#endif
