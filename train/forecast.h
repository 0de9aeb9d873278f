/* How long a run will take: measured on this device, or calculated from a card's data sheet. */
#ifndef WEFT_TRAIN_FORECAST_H
#define WEFT_TRAIN_FORECAST_H
#include "common/ops/card.h"
#include "train/job.h"

/* Sets f->step and f->all from the other members, for the run from step `done` on. */
void forecast_sum_up(Forecast *f, const Job *j, int64_t done);
/* Runs gradients of one of the model's blocks, and of two, on `be` (its own: what it allocates is counted),
 * and extrapolates.  Latents whose gradient would take long are replaced by smaller ones, and when
 * half of FORECAST_SECONDS is used nothing new is begun but what cannot be left out: with a block of
 * CogVideoX-2B making its weights and one update. */
enum { FORECAST_SECONDS = 2 };
WEFT_MUST_CHECK int forecast_measure(Forecast *out, const Job *j, int64_t done, Backend *be, Err *err);
/* From FLOPs, bytes and the shares of a card's peaks that kernels are held to reach. */
void forecast_card(Forecast *out, const Job *j, int64_t done, const Card *card);
#endif
