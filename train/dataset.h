/* What training reads: one or several caches as one list of samples, and the draws that belong to each sample.
 *
 * Samples are sorted by clip id, so that neither the number of caches nor their order matters.  Every draw (order of an epoch,
 * posterior, noise, timestep, which caption) is keyed by (seed, epoch, sample): it depends on nothing else. */
#ifndef WEFT_TRAIN_DATASET_H
#define WEFT_TRAIN_DATASET_H
#include "common/store/cache.h"
#include "train/step.h"

typedef struct Sample {
    char *id;
    int64_t cache;             /* which one holds it */
    Digest latents, *text;     /* content keys; one text for each caption */
    int64_t n_text;
} Sample;

typedef struct Dataset {
    Cache **cache; int64_t n_cache;
    Sample *sample; int64_t n;
    int64_t F, h, w, C;        /* latents [F,h,w,C], the same for all samples */
    int64_t text_len, text_dim;
    double scale;              /* the VAE's scaling factor: latents = posterior draw * scale */
    char vae[65];              /* digest of the VAE's weights that made the latents */
    char digest[65];           /* of ids and content keys: the same digest, the same data */
    float *host[3];            /* staging: moments, draws, text */
} Dataset;

/* Opens the caches and checks every sample's records (their headers) against the transformer's config.  Clips of another split than
 * "train" are left out.  Refuses: no cache or no sample, caches of different VAEs, an id in two caches, latents of several shapes, records that are
 * missing. */
int dataset_open(Dataset **out, const char *const *dirs, int64_t n_dirs, const DitConfig *c, Err *err);
void dataset_close(Dataset **d);
/* order[0..n): the samples of an epoch, shuffled. */
void dataset_order(const Dataset *d, uint64_t seed, int64_t epoch, int64_t *order);
/* Fills a batch of n samples: tensors from `work`, timesteps [n] below n_train into `timestep` (kept by reference). */
int dataset_batch(Dataset *d, Backend *be, Arena *work, uint64_t seed, int64_t epoch, const int64_t *sample, int64_t n, int64_t n_train,
                  TrainBatch *out, int64_t *timestep, Err *err);
#endif
