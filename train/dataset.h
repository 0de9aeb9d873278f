/* One or several caches as one list of samples, and each sample's random draws.
 *
 * Samples are sorted by clip id, so neither the number of caches nor their order matters.  Draws:
 * draws.h. */
#ifndef WEFT_TRAIN_DATASET_H
#define WEFT_TRAIN_DATASET_H
#include "common/base/rng.h"
#include "common/store/cache.h"
#include "train/step.h"

typedef struct Sample {
    char *id, *category;   /* category: NULL where the clip has none */
    int64_t cache;         /* index of the cache that holds it */
    Digest latents, *text; /* content keys; one text for each caption */
    int64_t n_text;
} Sample;

typedef struct Dataset {
    Cache **cache;
    int64_t n_cache;
    Sample *sample; /* split train, sorted by id */
    int64_t n;
    Sample *held_out; /* split val, sorted by id: never trained on */
    int64_t n_held_out;
    int64_t F, h, w, C; /* latents [F,h,w,C], the same for all samples */
    int64_t text_len, text_dim;
    double scale;       /* the VAE's scaling factor: latents = posterior draw * scale */
    json_t *vae, *text; /* meta 'vae' and 'text' of the first cache: what made its records */
    Digest *empty;      /* of each cache: key of the embedding of the empty prompt */
    char digest[65];    /* over ids and content keys: equal digests mean equal data */
} Dataset;

/* Opens the caches and checks every sample's records (their headers) against the transformer's
 * config.  Clips of another split than "train" and "val" are left out.  Refuses: no cache or no sample,
 * unfinished caches, missing shards, caches of different encoders, an id in two caches, latents of
 * several shapes, records that are missing. */
WEFT_MUST_CHECK int dataset_open(Dataset **out, const char *const *dirs, int64_t n_dirs, const DitConfig *c, Err *err);
void dataset_close(Dataset **d);
/* Keeps the first n samples in the order of their ids, and no others; n beyond their number is no
 * error. */
WEFT_MUST_CHECK int dataset_limit(Dataset *d, int64_t n, Err *err);

/* The records and draws of one pass, in host memory: made once, filled many times. */
typedef struct HostBatch {
    int64_t n, room;     /* how many samples it has, and can have */
    int64_t *sample;     /* their numbers */
    RecordKind *kind;    /* of the latents' record: RECORD_MOMENTS or RECORD_SAMPLE */
    float *moments;      /* [F,h,w,2C] a sample; a stored sample fills the first half, scaled already */
    float *draw, *noise; /* [F,h,w,C] a sample: standard normal draws for the posterior and for diffusion */
    float *text;         /* [text_len, text_dim] a sample */
    int64_t *timestep;
} HostBatch;

/* *b must be zero-initialised; call batch_free after a failure too. */
WEFT_MUST_CHECK int batch_new(HostBatch *b, const Dataset *d, int64_t room, Err *err);
void batch_free(HostBatch *b);
/* Reads n entries of an epoch (draws.h) with their draws, timesteps below n_train.  Any thread, one at a
 * time. */
struct Draws;
WEFT_MUST_CHECK int batch_read(const Dataset *d, const struct Draws *draws, HostBatch *b, int64_t epoch,
                               const int64_t *entry, int64_t n, int64_t n_train, Err *err);
/* Reads one sample with these draws into a batch of one: number `caption` of its captions, or the empty
 * prompt, and the streams of the posterior's and of the diffusion's noise. */
enum { SAMPLE_NO_CAPTION = -1 };
typedef struct SampleDraws {
    Philox posterior, noise;
    int64_t caption, timestep;
} SampleDraws;
WEFT_MUST_CHECK int batch_read_one(const Dataset *d, HostBatch *b, const Sample *s, const SampleDraws *draws, Err *err);
/* Copies the batch to the back end, into tensors from `work`; out->timestep points into *b. */
WEFT_MUST_CHECK int batch_put(const Dataset *d, const HostBatch *b, Backend *be, Arena *work, TrainBatch *out,
                              Err *err);
#endif
