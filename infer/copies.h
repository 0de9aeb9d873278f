/* The copy check: has the model learned its training clips by heart?  For each sample the closest training clip
 * and how far it is, against how far the training clips are from each other.
 *
 * Distances are between latents as the transformer sees them (times the VAE's scaling factor):
 * sqrt(mean (a - b)^2) over all values.  A training clip is one of split train in a cache; of moments the mean is
 * taken.  A sample's latents are those that `weft-infer sample --latents-out` kept, found by its id and key in a
 * file of --latents; else its video is encoded by the VAE of --model, which must be the cache's.  Clips of another
 * size are left out, and counted.  Of the training clips PROBES, spread evenly over their ids, are
 * compared with all others: the distances to the nearest one are what a sample's is judged by.  A clip that the
 * model shows mirrored, shifted in time or cropped is not found.
 *
 *   copies_open(&c, &options, "cpu", jobs, recipe, log, err);
 *   copies_plan(c, side, &videos, err);          // before the videos are measured; once a side
 *   copies_run(c, evaluations, sides, err);      // afterwards
 *   copies_closest(c, side, i); copies_json(...); copies_write_csv(...); copies_page(...);
 *   copies_close(&c);
 */
#ifndef WEFT_INFER_COPIES_H
#define WEFT_INFER_COPIES_H
#include "infer/evaluation.h"

typedef struct CopyOptions {
    const char *cache; /* NULL: no copy check */
    StrList latents;
    const char *model; /* NULL: none */
} CopyOptions;

/* The options that fill it, for a table whose structure has a member `copies`. */
#define OPTS_COPIES(structure, model_help)                                                                             \
    OPTION(structure, copies.cache, OPT_STR, "train-cache", "DIR",                                                     \
           "copy check: the cache that the model was trained on; each sample's closest training clip, and how close"), \
        OPTION(structure, copies.latents, OPT_LIST, "latents", "FILE",                                                 \
               "with --train-cache: samples' latents, kept by sample --latents-out; may be repeated"),                 \
        OPTION(structure, copies.model, OPT_STR, "model", "FOLDER", model_help, .short_name = 'm')
#define COPIES_MODEL_HELP "with --train-cache: pipeline folder whose VAE encodes videos without latents in --latents"

enum { COPY_SIDES = 2, PROBES = 256 };

typedef struct Closest {
    int encoded;      /* its video was encoded; else its latents had been kept */
    int64_t clip;     /* for copies_clip_id */
    double distance;  /* to that clip */
    double share;     /* of the training clips whose nearest one lies as close or closer */
    int closer;       /* closer than 95 % of the training clips have one: copied? */
    uint8_t *picture; /* its first latents in rough colours; NULL without them */
} Closest;

typedef struct Copies Copies;
/* *out NULL where options->cache is.  Reads the cache's facts and the heads of files, no latents.  ERR_USAGE for a
 * cache with fewer than two training clips, a model whose VAE is another one, --latents without a cache. */
WEFT_MUST_CHECK int copies_open(Copies **out, const CopyOptions *o, const char *device, int64_t jobs,
                                const Recipe *recipe, const Log *log, Err *err);
void copies_close(Copies **c);
/* Finds the latents of a side's videos; ERR_USAGE for one that has none while no model encodes, of another VAE, or
 * of a size (as its record or latents say) that no training clip has. */
WEFT_MUST_CHECK int copies_plan(Copies *c, int side, const VideoList *v, Err *err);
/* Before samples are made: ERR_USAGE when no training clip is like videos of this size. */
WEFT_MUST_CHECK int copies_expect(Copies *c, int64_t frames, int64_t height, int64_t width, Err *err);
/* Compares the measured videos of both sides (or one); the evaluations must outlive c. */
WEFT_MUST_CHECK int copies_run(Copies *c, const Evaluation *const *side, int sides, Err *err);

/* NULL for a video that was not measured. */
const Closest *copies_closest(const Copies *c, int side, int64_t i);
const char *copies_clip_id(const Copies *c, int64_t clip);

/* ---- copies_report.c ---- */
/* {"cache", "training": {...}, "protocol", "sides": {NAME: {...}}, "samples": [...]} (schemas/metrics). */
WEFT_MUST_CHECK int copies_json(const Copies *c, const char *const *side_name, json_t **out, Err *err);
/* closest_clips.csv: a line a sample. */
WEFT_MUST_CHECK int copies_write_csv(const Copies *c, const char *const *side_name, const char *path, Err *err);
void copies_print(const Copies *c, const char *const *side_name, FILE *out);
/* The section of a page. */
void copies_summary_html(const Copies *c, const char *const *side_name, FILE *out);
/* A sample's closest clip with its picture; with_sample: and the sample's own beside it. */
WEFT_MUST_CHECK int copies_closest_html(Copies *c, int side, int64_t i, int with_sample, FILE *out, Err *err);
#endif
