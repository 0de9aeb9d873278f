/* One optimiser step of fine-tuning, without reading data: noise, forward, backward, update.
 *
 *   train_init(&s, be, dit, &schedule, &config, err);
 *   s.work = arena;
 *   train_begin(&s, samples);
 *   train_gradient(&s, &batch, weight, &loss, err);   once for each pass; a step's weights add up to 1
 *   train_gather(&s, err);
 *   train_update(&s, &norm, &lr, err);
 *
 * loss = mean over samples of mean over elements of (model(x_t, text, t) - v)^2, where
 * x_t = sqrt(a) x0 + sqrt(1-a) noise and v = sqrt(a) noise - sqrt(1-a) x0.  diffusers' trainers write
 * the same as an error of x0 weighted by 1/(1-a). */
#ifndef WEFT_TRAIN_STEP_H
#define WEFT_TRAIN_STEP_H
#include "common/model/dit.h"
#include "common/model/schedule.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "train/rate.h"
#include "train/share.h"

typedef struct TrainConfig {
    Rate rate;
    OptimizerConfig optimizer;
    EmaConfig ema;
    double max_grad_norm; /* 0: no clipping */
    Recompute policy;
    ShareConfig share; /* zeros: one process */
} TrainConfig;

typedef struct TrainState {
    Backend *be;
    Dit *dit;                 /* borrowed; opened with DIT_TRAIN */
    const Schedule *schedule; /* borrowed */
    TrainConfig c;
    Share share;
    Optimizer optimizer; /* of this share's parameters */
    Ema ema;             /* the same */
    Arena *work;         /* borrowed; set by the caller (job_plan_work says how large) */
    int64_t step;        /* steps done, skipped ones included */
    int64_t skipped;     /* steps whose gradient was not finite: nothing was updated */
    char bad[256];       /* of the last one: the first tensor that is not finite, in words; "" when unknown */
    struct {
        double forward, backward, optimizer;
        double exchange, waited; /* exchange: summing over ranks, beside the rest; waited: for that, and for weights */
    } seconds;                   /* spent so far; the caller sets them to zero */
} TrainState;

/* The data of one forward pass.  Latents, noise, target velocity and loss are F32 on every back end;
 * the model's input and output have the activations' type. */
typedef struct TrainBatch {
    Tensor x0;               /* [B,F,h,w,C] F32, scaled latents */
    Tensor noise;            /* like x0 */
    Tensor text;             /* [B,S,text_dim] in the back end's activation type */
    const int64_t *timestep; /* host, B */
} TrainBatch;

/* Starts with zero moments at step 0. */
WEFT_MUST_CHECK int train_init(TrainState *s, Backend *be, Dit *dit, const Schedule *schedule, const TrainConfig *c,
                               Err *err);
void train_fini(TrainState *s);
/* A step of so many samples begins, of which share.h says this rank's part. */
void train_begin(TrainState *s, int64_t samples);
/* Adds weight * gradient of the batch's loss to the gradients.  A loss that is not finite gives gradients
 * that are not, and sets s->bad. */
WEFT_MUST_CHECK int train_gradient(TrainState *s, const TrainBatch *batch, double weight, double *loss, Err *err);
/* The batch's loss, without gradients. */
WEFT_MUST_CHECK int train_loss(TrainState *s, const TrainBatch *batch, double *loss, Err *err);
/* Between steps, all ranks together: the averaged weights take the weights' place (and train_loss is that of
 * the average), until they are returned. */
WEFT_MUST_CHECK int train_lend_average(TrainState *s, Err *err);
WEFT_MUST_CHECK int train_return_average(TrainState *s, Err *err);
/* Waits until the passes' gradients are summed, over all ranks too. */
WEFT_MUST_CHECK int train_gather(TrainState *s, Err *err);
/* Clips to the global norm, lets the optimiser update, zeroes the gradients.  *norm is the norm before
 * clipping, *lr the rate used.  A norm that is not finite: the step is skipped, with parameters and
 * moments untouched; it does not count for the optimiser (Adam's k) but for the learning rate. */
WEFT_MUST_CHECK int train_update(TrainState *s, double *norm, double *lr, Err *err);
/* A step of one batch. */
WEFT_MUST_CHECK int train_step(TrainState *s, const TrainBatch *batch, double *loss, double *norm, double *lr,
                               Err *err);
#endif
