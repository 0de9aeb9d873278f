/* What is drawn for each sample of a step: which samples an epoch has and in what order, caption,
 * timestep, noise.
 *
 * Every draw is keyed by (seed, purpose, epoch, entry) and depends on nothing else: not on threads,
 * ranks or the step that a run is resumed at.  An epoch has as many entries as there are samples.
 * Without category weights each sample is one of them.  With them, sample i has weight w_i and appears
 * floor or ceil of n w_i / sum(w) times: as often as evenly spaced points (systematic sampling, Madow
 * and Madow 1944) fall on its part of the line, their start drawn for each epoch.
 *
 * Timesteps are uniform in 0 .. n_train-1, or floor(n_train sigmoid(mean + std z)) with z standard
 * normal: the logit-normal density of Esser et al. 2024 (Stable Diffusion 3, section 3.1); a larger mean
 * gives noisier samples. */
#ifndef WEFT_TRAIN_DRAWS_H
#define WEFT_TRAIN_DRAWS_H
#include "common/base/recipe.h"
#include "train/dataset.h"

typedef struct Draws {
    uint64_t seed;
    double caption_dropout; /* share of entries that get the unconditional embedding */
    int logit_normal;
    double logit_mean, logit_std;
    double *weight; /* of each sample, at least 0; NULL: all alike */
    double weights; /* their sum */
} Draws;

/* From the recipe's training.* keys.  ERR_USAGE for a category that no clip has, and where all weights
 * are 0; ERR_NOTFOUND when captions are dropped and a cache has no unconditional embedding.
 * *out must be zeros; draws_close is needed after a failure too. */
WEFT_MUST_CHECK int draws_open(Draws *out, const Recipe *recipe, const Dataset *d, Err *err);
void draws_close(Draws *r);
/* Fills entry[0..n) for an epoch, shuffled.  Entry e is sample e % n; those of one sample differ in
 * e / n and have draws of their own. */
WEFT_MUST_CHECK int draws_order(const Draws *r, const Dataset *d, int64_t epoch, int64_t *entry, Err *err);
SampleDraws draws_of(const Draws *r, const Dataset *d, int64_t epoch, int64_t entry, int64_t n_train);
#endif
