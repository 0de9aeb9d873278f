/* A training run, resolved: recipe, back end, base model, caches, and how many steps that makes. */
#ifndef WEFT_TRAIN_JOB_H
#define WEFT_TRAIN_JOB_H
#include "common/base/args.h"
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "train/dataset.h"
#include "train/step.h"

typedef struct TrainOptions {
    CommonOptions common; /* first: OPTS_COMMON's offsets */
    StrList cache;
    const char *out, *model;
} TrainOptions;

typedef struct Job {
    Recipe *recipe;
    StderrLog log;
    Backend *be;
    const char *base;               /* pipeline folder that final/ is completed from */
    const char *start;              /* pipeline or checkpoint folder whose transformer training starts from */
    char *found_base, *found_start; /* owned: what base and start point to */
    DitConfig dit;                  /* of `start` */
    Schedule schedule;
    Dataset *data;
    json_t *identity; /* identity.h; made by train_run, NULL before */
    TrainConfig c;
    int how; /* DitLoad: for training, and how weights and gradients are kept */
    uint64_t seed;
    int64_t batch, accumulate;  /* samples a forward pass (no more than there are), passes a step */
    int64_t epochs, max_steps;  /* max_steps -1: epochs decide */
    int64_t epoch_steps, steps; /* optimiser steps in an epoch, in all */
    int64_t checkpoint_every, keep, log_every;
    int plan;                 /* set before job_open: nothing will be computed, so no device is needed */
    int64_t parameters, flat; /* how many are trained, and elements of a flat arena of them */
    double planned;           /* bytes of memory, set by job_print */
} Job;

/* Zero-initialised *j but for `plan`.  What the back end cannot do is refused here. */
int job_open(Job *j, const TrainOptions *o, Err *err);
void job_close(Job *j);
/* Bytes of working memory of the largest forward and backward pass under a policy, found on the
 * plan back end. */
int job_plan_work(const Job *j, Recompute policy, int64_t *bytes, Err *err);
/* What a run needs and does, on `out`: steps, parameters, memory by policy, estimated operations. */
int job_print(Job *j, FILE *out, Err *err);
/* Says on the log, after a run, how much memory the back end has given, and how much of what
 * job_print said is left. */
void job_log_memory(const Job *j);
/* "51.9 MB": a number with its unit, in `out`. */
const char *job_si(double v, const char *unit, char out[32]);
/* Samples of step k (from 0) within its epoch: [*first, *last) of the epoch's order. */
void job_step_range(const Job *j, int64_t step, int64_t *epoch, int64_t *first, int64_t *last);
#endif
