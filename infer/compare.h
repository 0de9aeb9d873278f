/* `weft-infer compare`: two sample runs of the same prompts and seeds, measured alike and set side by side.  BASE and
 * TUNED are runs, or models that are sampled first, into OUT/base and OUT/tuned.
 *
 * Writes OUT/pairs.csv (a line a pair), with CLIP OUT/clip_scores.csv, OUT/report.html (links to the videos
 * where they lie) and OUT/quality_comparison.json (schemas/comparison).  With --blind last also OUT/key.json
 * (schemas/blind-key), which says what was on which side, and OUT/blind/ (a page to vote on, with copies of the
 * videos).  With --votes it counts votes instead: OUT/votes.json (schemas/votes-result).
 */
#ifndef WEFT_INFER_COMPARE_H
#define WEFT_INFER_COMPARE_H
#include <stdio.h>
#include "infer/copies.h"
#include "infer/sample.h"
#include "infer/scores.h"

typedef struct CompareOptions {
    CommonOptions common; /* first */
    const char *out, *run, *train_clips;
    StrList references, scores, votes, key;
    NetworkOptions networks;
    CopyOptions copies;
    SampleOptions sampling; /* of BASE and TUNED that are models: prompts alone; keys are in `common` */
    int blind;
} CompareOptions;
extern const Opt compare_opts[];

/* The exit status (0, or 3 when a video could not be measured) or a negative code. */
WEFT_MUST_CHECK int compare_run(const CompareOptions *o, const StrList *sides, const Log *log, FILE *results, Err *err);

/* ---- compare_sample.c: models as BASE and TUNED ---- */
typedef struct Side {
    char *videos; /* what is compared: the argument, or the folder that a model is sampled into */
    int sampled;
    SampleOptions how;
    const char *lora;
    char *latents; /* where the samples' are kept; NULL: nowhere */
    json_t *made;  /* the paths of its samples; NULL before sides_sample */
} Side;

typedef struct Sides {
    Side side[2];
    const char *out;
    CopyOptions copies; /* with the latents and the model that are known */
    const char **latents;
} Sides;
/* Finds out what the arguments are.  A pipeline folder (or a hub id that was downloaded) is a model; a transformer's
 * folder or checkpoint, and an adapter (FILE[:SCALE]), are used on o->copies.model, else on BASE, else on the
 * recipe's; all else is videos.  ERR_USAGE for models without prompts, and prompts without models.  The arguments
 * and *o must outlive it; *s must stay where it is; sides_close also after a failure. */
WEFT_MUST_CHECK int sides_open(Sides *s, const CompareOptions *o, const StrList *arguments, Err *err);
void sides_close(Sides *s);
int sides_sampled(const Sides *s); /* whether there is a model */
/* What `sample --dry-run` checks, of both models; with dry_run what it prints goes to `results`. */
WEFT_MUST_CHECK int sides_check(const Sides *s, int dry_run, const Log *log, FILE *results, Err *err);
/* ERR_USAGE when none of the videos is of a prompt and seed that the models are to be given. */
WEFT_MUST_CHECK int sides_match_prompts(const CompareOptions *o, const VideoList *videos, uint64_t seed, Err *err);
/* Makes the videos that are missing; the same command goes on where it was stopped. */
WEFT_MUST_CHECK int sides_sample(Sides *s, const Log *log, Err *err);
/* The videos of a side: of a sampled folder those of this run's prompts, though others may lie there. */
WEFT_MUST_CHECK int sides_videos(const Sides *s, int k, VideoList *out, Err *err);

/* ---- compare_pairs.c: which videos belong together ---- */
typedef struct Pair {
    int64_t at[2];  /* in the two lists of videos */
    int64_t prompt; /* pairs of one prompt have the same number, from 0 */
} Pair;

typedef struct Comparison {
    const char *name[2];   /* the arguments: "samples/base" */
    const char *videos[2]; /* these, or the folders that they were sampled into */
    const char *run;       /* the tuned model's training run; NULL: not known */
    const char *clips;     /* folder with the training clips as ID.mp4; NULL: none */
    Evaluation side[2];    /* base, tuned */
    Pair *pair;
    int64_t n, prompts;
    int64_t alone[2];             /* videos without a partner */
    const Evaluation *references; /* NULL: none */
    const Networks *networks;     /* NULL: none */
    const Scores *scores;         /* of the two lists of videos; n 0: none */
    Copies *copies;               /* NULL: not checked */
} Comparison;
extern const char *const side_names[2]; /* "base", "tuned" */

/* Matches videos of one prompt and seed; where a side's video has no prompt or seed, by id.  ERR_USAGE for two
 * videos of one prompt and seed in one run, and when nothing matches.  The lists' order decides the pairs'. */
WEFT_MUST_CHECK int pairs_match(const VideoList side[2], Pair **out, int64_t *n, int64_t *prompts, Err *err);
/* The prompt or, where it is not known, the id. */
const char *pair_title(const Comparison *c, int64_t i);
const char *pair_category(const Comparison *c, int64_t i); /* NULL: none */

/* ---- compare_change.c ---- */
/* One figure over the prompts of which both sides have it; a prompt's seeds are averaged first. */
typedef struct Change {
    int64_t n; /* prompts */
    Summary side[2];
    double difference, low, high; /* tuned - base: mean, 95 % bootstrap over prompts */
    double p;                     /* paired_p_value */
} Change;
enum { CHANGE_COLOURS = -1, CHANGE_NETWORK = 1000 /* + a NetFigure */, CHANGE_SCORE = 2000 /* + a score */ };
/* kind: a place in figure_kinds or one of these.  category NULL: all pairs. */
WEFT_MUST_CHECK int change_of(Change *out, const Comparison *c, int kind, const char *category, uint64_t seed,
                              Err *err);
/* quality_comparison.json. */
WEFT_MUST_CHECK int comparison_json(const Comparison *c, uint64_t seed, json_t **out, Err *err);
WEFT_MUST_CHECK int comparison_write_csv(const Comparison *c, const char *path, Err *err);
WEFT_MUST_CHECK int comparison_write_clip_scores(const Comparison *c, const char *path, Err *err);

/* ---- compare_page.c ---- */
/* The report in `folder`, from what quality_comparison.json holds. */
WEFT_MUST_CHECK int comparison_write_page(const Comparison *c, const char *folder, const json_t *report, Err *err);

/* ---- blind.c ---- */
/* Refuses a folder that has such a page already. */
WEFT_MUST_CHECK int blind_check(const char *folder, Err *err);
/* The page appears, whole, as folder/blind.  Videos are read under the recipe's limits, by `jobs` processes. */
WEFT_MUST_CHECK int blind_write(const Comparison *c, const char *folder, uint64_t seed, const Recipe *recipe,
                                int64_t jobs, Err *err);

/* ---- votes.c ---- */
/* Counts the votes of all files by the keys; writes folder/votes.json. */
WEFT_MUST_CHECK int votes_count(const StrList *votes, const StrList *keys, const char *folder, uint64_t seed,
                                FILE *results, Err *err);
#endif
