/* A training run: its recipe, back end, base model, caches and number of steps. */
#ifndef WEFT_TRAIN_JOB_H
#define WEFT_TRAIN_JOB_H
#include "common/base/args.h"
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "common/model/denoise.h"
#include "common/model/dit_lora.h"
#include "train/draws.h"
#include "train/prompts.h"
#include "train/step.h"

typedef struct TrainOptions {
    CommonOptions common; /* must be first: OPTS_COMMON's offsets start at 0 */
    StrList cache;
    const char *out, *model;
    const char *fit, *by; /* plan: memory and time to find settings for, or NULL */
    int64_t ranks;        /* plan for so many processes; 0: those of the job */
    int64_t limit;        /* clips to train on; 0: all */
} TrainOptions;

/* Seconds that a run will need (forecast.h); all zero: not known. */
typedef struct Forecast {
    double pass, update; /* of a gradient of Job.pass samples, and of an optimiser's update */
    double forward;      /* of the held-out loss of one sample */
    double step, all;    /* of a whole step; of the run from the step where it starts, without checkpoints */
} Forecast;

typedef struct Job {
    Recipe *recipe;
    Ranks *ranks; /* borrowed, set before job_open; NULL: one process */
    StderrLog log;
    Backend *be;
    const char *base;               /* pipeline folder that final/ is completed from */
    const char *start;              /* pipeline or checkpoint folder whose transformer training starts from */
    char *found_base, *found_start; /* owned: what base and start point to */
    char *memory;                   /* folder in which digests of weights are remembered: beside the first cache */
    DitConfig dit;                  /* of `start` */
    Schedule schedule;
    Dataset *data;
    Draws draws;
    json_t *identity; /* identity.h; made by train_run, NULL before */
    TrainConfig c;
    int how;                  /* DitLoad flags: element types of weights and gradients */
    DitLora lora;             /* rank 0: all weights are trained */
    const char **lora_target; /* owned: the array that lora.target is */
    const char *lora_weights; /* adapter that training goes on from, or NULL */
    uint64_t seed;
    int64_t batch, accumulate;  /* samples a forward pass, passes a step, in one process */
    int64_t pass;               /* most samples of a forward pass of a rank */
    int64_t epochs, max_steps;  /* max_steps -1: epochs decide */
    int64_t epoch_steps, steps; /* optimiser steps in an epoch, in all */
    int64_t reached;            /* steps that are done; set by train_run */
    int64_t checkpoint_every, keep, log_every;
    struct {
        int64_t clips, timesteps, every; /* every -1: before the first step and after the last only */
    } validation;
    Prompts prompts; /* sampled while training goes on */
    struct {
        SamplerKind kind;
        int64_t steps, every; /* every -1: before the first step and after the last only */
        double guidance, fps;
        int dynamic, tiling, decode; /* decode: frames, where the base model has a VAE */
    } sampling;
    int link;                 /* final/ links the base model's files */
    int plan;                 /* set before job_open: only plans, so no device is opened */
    int64_t parameters, flat; /* trained parameters; elements of an arena that holds them */
    int64_t frozen_bytes;     /* LoRA: memory of the weights that stay as they are; 0 where they are mapped */
    /* what the optimiser's state takes in memory, and in a checkpoint */
    int64_t optimizer_bytes, optimizer_file_bytes;
    int64_t ema_bytes; /* memory of the averaged weights */
    double planned;    /* bytes of memory, set by job_print */
    Forecast forecast; /* on this job's device, set by plan_print */
} Job;

/* *j must be zero-initialised but for `plan` and `ranks`.  Refuses settings that the back end cannot honour. */
WEFT_MUST_CHECK int job_open(Job *j, const TrainOptions *o, Err *err);
void job_close(Job *j);
/* Opens what is trained: the weights of the folder `transformer`, and with LoRA adapters on them, which
 * hold lora_weights, if any, where `fresh`. */
WEFT_MUST_CHECK int job_open_dit(const Job *j, const char *transformer, int fresh, Dit **out, Err *err);
/* Bytes of working memory of the largest forward and backward pass under a recomputation policy, found
 * by running it on the plan back end. */
WEFT_MUST_CHECK int job_plan_work(const Job *j, Recompute policy, int64_t *bytes, Err *err);
/* Prints steps, parameters, memory by policy and estimated operations on `out`. */
WEFT_MUST_CHECK int job_print(Job *j, FILE *out, Err *err);
/* Logs, after a run, how much memory the back end used, and how much job_print planned. */
void job_log_memory(const Job *j);
/* "51.9 MB": a number with its unit, in `out`. */
const char *job_si(double v, const char *unit, char out[32]);
/* Operations that one sample's gradient asks for: three forward passes' worth of the blocks' products and
 * attention, whatever is recomputed (the count of "model FLOPs utilisation", Chowdhery et al. 2022). */
double job_sample_operations(const Job *j);
/* How many clips the held-out loss is measured on. */
int64_t job_held_out(const Job *j);
/* The samples of step k (from 0): [*first, *last) of its epoch's order. */
void job_step_range(const Job *j, int64_t step, int64_t *epoch, int64_t *first, int64_t *last);
/* This rank's part of [*first, *last). */
void job_share_range(const Job *j, int64_t *first, int64_t *last);
#endif
