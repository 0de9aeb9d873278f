/* Shared by copies.c (clips, sizes, the search), copies_latents.c (latents of clips and samples) and
 * copies_report.c (what is written). */
#ifndef WEFT_INFER_COPIES_INTERNAL_H
#define WEFT_INFER_COPIES_INTERNAL_H
#include "common/model/latent_colour.h"
#include "common/model/vae.h"
#include "common/store/cache.h"
#include "common/store/safetensors.h"
#include "infer/copies.h"

/* Of a clip: its pixels and its latents. */
typedef struct CopySize {
    int64_t frames, height, width, F, h, w;
} CopySize;

typedef struct TrainClip {
    char *id;
    Digest latents; /* the record's key */
    CopySize size;
} TrainClip;

/* Where a sample's latents come from. */
typedef struct CopySource {
    const SafeEntry *kept; /* NULL: the video is encoded */
    int compared;
    Closest closest;
} CopySource;

typedef struct CopySide {
    CopySource *source;
    int64_t n;
    const Evaluation *e; /* set by copies_run */
} CopySide;

struct Copies {
    const CopyOptions *o; /* borrowed, as the next two */
    const Log *log;
    const Recipe *recipe;
    Cache *cache;
    int64_t channels;
    double scale; /* of the VAE's latents */
    char vae[65]; /* digest of its weights */
    int tiled;    /* the clips were encoded in tiles */
    int has_colour;
    LatentColour colour;
    TrainClip *clip; /* once a size is chosen, those of that size first: n_same of them, by id */
    int64_t n, room, n_same;
    CopySize size; /* of all that is compared; F 0: not yet chosen */
    SafeTensors **kept;
    CopySide side[COPY_SIDES];
    double *training; /* n_training distances of training clips to their nearest other, ascending */
    int64_t n_training;
    /* encoding */
    int threads;
    Backend *be;
    char *vae_folder;
    Vae *vae_net;
    Arena *work;
    VaeTiling tiling;
    uint8_t *shared; /* [frames,height,width,3], which the process that decodes writes */
    const char *decoding;
    float *moments;
};

int64_t copies_values(const Copies *c); /* of one clip's latents */

/* ---- copies_latents.c ---- */
/* Opens --latents and looks at the model's VAE. */
WEFT_MUST_CHECK int copies_open_sources(Copies *c, const char *device, int64_t jobs, Err *err);
void copies_close_sources(Copies *c);
/* Finds the latents of a video in --latents, and says of what size it is where its record or they tell (*known). */
WEFT_MUST_CHECK int copies_find_source(Copies *c, const VideoItem *v, CopySource *s, CopySize *size, int *known,
                                       Err *err);
/* out [copies_values] <- latents of a training clip, as the transformer sees them. */
WEFT_MUST_CHECK int copies_load_clip(Copies *c, int64_t clip, float *out, Err *err);
/* The same of a sample. */
WEFT_MUST_CHECK int copies_load_sample(Copies *c, const VideoItem *v, const CopySource *s, float *out, Err *err);
#endif
