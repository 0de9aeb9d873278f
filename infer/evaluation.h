/* What was measured on a set of videos, put together: figures with intervals, for evaluate and compare. */
#ifndef WEFT_INFER_EVALUATION_H
#define WEFT_INFER_EVALUATION_H
#include <jansson.h>
#include "infer/measure.h"

enum {
    FIGURES_MAX = 24,
    FEW_VIDEOS = 10 /* below this, a bootstrap interval of a mean is rough, and is said to be */
};
/* Without references: videos that move less are marked near-static (pixels a frame at a short side of 480). */
#define NEAR_STATIC_MOTION 0.25

/* One figure over the videos that have it. */
typedef struct Summary {
    int64_t n;
    double mean, std;   /* sample standard deviation; NAN below 2 */
    double low, high;   /* 95 %: bootstrap_mean over videos; NAN below 2 */
    double least, most; /* NAN for none */
} Summary;
/* Of x[0..n), of which those that are not finite are left out; x is used as room. */
WEFT_MUST_CHECK int summary_of(Summary *out, double *x, int64_t n, uint64_t seed, Err *err);
/* As an object's members: value, std, low, high, least, most, n, and a note where n is small. */
WEFT_MUST_CHECK json_t *summary_json(const Summary *s, Err *err);

typedef struct Evaluation {
    VideoList videos;
    Measured *measured; /* [videos.n] */
    int64_t n_measured, n_rejected, n_single;
    Summary figure[FIGURES_MAX]; /* as figure_kinds */
    Summary colours;             /* colour distance to the references */
    double near_static;          /* motion below this is near-static */
    int64_t n_near_static, n_frozen;
    NetFeatures *features; /* NULL without networks */
    Summary network[NET_FIGURES];
} Evaluation;

/* Measures v (taken over in every case) and sums up, with networks where they are not NULL.  reference: an
 * evaluation to compare colours and motion with, and the histogram of its videos; both NULL without.
 * histogram: see Measuring.  ERR_FORMAT when not one video could be measured. */
WEFT_MUST_CHECK int evaluation_run(Evaluation *e, VideoList *v, const Evaluation *reference,
                                   const double *reference_histogram, double *histogram, Networks *networks,
                                   const Recipe *recipe, int64_t jobs, const char *what, const Log *log, Err *err);
void evaluation_fini(Evaluation *e);
/* Whether a measured video hardly moves. */
int evaluation_near_static(const Evaluation *e, int64_t i);

/* {"protocol": ..., } texts that say how the figures are made. */
WEFT_MUST_CHECK json_t *evaluation_protocol(const Evaluation *e, int references, Err *err);
/* [{"video", "code", "why"}, ...] */
WEFT_MUST_CHECK json_t *evaluation_rejected(const Evaluation *e, Err *err);
/* metrics.csv: one line a video, those of `e` in their order. */
WEFT_MUST_CHECK int evaluation_write_csv(const Evaluation *e, const char *path, Err *err);
/* clip_scores.csv: the same with CLIP's figures; e->features must not be NULL. */
WEFT_MUST_CHECK int evaluation_write_clip_scores(const Evaluation *e, const char *path, Err *err);
#endif
