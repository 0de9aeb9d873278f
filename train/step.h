/* One optimiser step of fine-tuning, apart from where its data come from: noise in, gradient out,
 * AdamW.
 *
 *   train_init(&s, be, dit, &schedule, &config, err);  s.work = arena;
 *   for each part of the step: train_gradient(&s, &batch, weight, &loss, err);   weights of a step
 *   add up to 1 train_update(&s, &norm, &lr, err);
 *
 * loss = mean over samples of mean over elements of (model(x_t, text, t) - v)^2 with x_t =
 * sqrt(a)x0 + sqrt(1-a)noise and v = sqrt(a)noise - sqrt(1-a)x0: what the reference writes as a
 * weighted error of x0. */
#ifndef WEFT_TRAIN_STEP_H
#define WEFT_TRAIN_STEP_H
#include "common/model/dit.h"
#include "common/model/schedule.h"

typedef struct TrainConfig {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double max_grad_norm; /* 0: no clipping */
    int64_t warmup_steps; /* 0: the full rate from the first step */
    Recompute policy;
    uint64_t seed; /* of the noise that rounds weights without a master */
} TrainConfig;

typedef struct TrainState {
    Backend *be;
    Dit *dit;                 /* borrowed; opened with DIT_TRAIN */
    const Schedule *schedule; /* borrowed */
    TrainConfig c;
    Tensor m, v;  /* moments of AdamW, flat like the parameters */
    Arena *work;  /* borrowed; set by the caller (job_plan_work says how large) */
    int64_t step; /* updates done */
    struct {
        double forward, backward, optimizer;
    } seconds; /* added to; the caller zeroes */
} TrainState;

/* One forward pass's worth.  Latents, noise, the velocity aimed at and the loss are F32 on every
 * back end; what the model reads and gives has the activations' type. */
typedef struct TrainBatch {
    Tensor x0;               /* [B,F,h,w,C] F32, scaled latents */
    Tensor noise;            /* like x0 */
    Tensor text;             /* [B,S,text_dim] in the back end's activation type */
    const int64_t *timestep; /* host, B */
} TrainBatch;

/* Zero moments, step 0. */
int train_init(TrainState *s, Backend *be, Dit *dit, const Schedule *schedule, const TrainConfig *c, Err *err);
void train_fini(TrainState *s);
/* Adds weight * gradient of the batch's loss.  A loss that is not finite: ERR_LIMIT naming the
 * step. */
int train_gradient(TrainState *s, const TrainBatch *batch, double weight, double *loss, Err *err);
/* Clips to the global norm, applies AdamW, zeroes the gradients.  *norm is the norm before
 * clipping, *lr the rate used.  A norm that is not finite: ERR_LIMIT, parameters untouched. */
int train_update(TrainState *s, double *norm, double *lr, Err *err);
/* train_gradient of one batch, then train_update. */
int train_step(TrainState *s, const TrainBatch *batch, double *loss, double *norm, double *lr, Err *err);
/* Rate of update number `step` (from 0): with warm-up the very first is 0. */
double train_rate(const TrainConfig *c, int64_t step);
#endif
