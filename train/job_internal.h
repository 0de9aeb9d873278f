/* Between job.c, job_plan.c and forecast.c. */
#ifndef WEFT_TRAIN_JOB_INTERNAL_H
#define WEFT_TRAIN_JOB_INTERNAL_H
#include "train/job.h"

/* Sets j->parameters, j->flat, j->frozen_bytes and the optimiser's bytes from j->dit. */
WEFT_MUST_CHECK int job_count_parameters(Job *j, Err *err);
/* The job's model with what training adds to it, for plans and measurements: filler weights. */
WEFT_MUST_CHECK int job_make_dit(const Job *j, Backend *be, int how, Dit **out, Err *err);
/* Sets epoch_steps, steps and what follows from them. */
WEFT_MUST_CHECK int job_count_steps(Job *j, Err *err);
/* Sets j->planned, the bytes of memory that the job needs with its policy. */
WEFT_MUST_CHECK int job_plan_memory(Job *j, Err *err);
/* Tensors for the latents, noise and text of n samples. */
WEFT_MUST_CHECK int job_take_batch(const Job *j, Arena *work, int64_t n, TrainBatch *b, Err *err);
/* Operations of one sample's forward pass: the blocks' products and their attention. */
void job_forward_operations(const Job *j, double *linear, double *attention);
/* j->lora and j->lora_weights from the recipe, after j->how and j->seed. */
WEFT_MUST_CHECK int job_read_lora(Job *j, Err *err);
#endif
