/* Measuring a list of videos: each is decoded once, in a process of its own with the recipe's limits
 * (common/base/worker.h), and one that cannot be read costs nothing but itself. */
#ifndef WEFT_INFER_MEASURE_H
#define WEFT_INFER_MEASURE_H
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "common/metrics/meter.h"
#include "infer/networks.h"
#include "infer/videos.h"

typedef struct Measured {
    int done; /* 0: not reached, 1: figures, 2: rejected */
    /* rejected: "unreadable", "damaged", "cut_short", "hdr", "too_large", "worker_crash", "timeout", "memory" */
    char code[24];
    char *why;      /* rejected: a sentence; mem_free */
    double fps;     /* frames a second by the file's own times; 0 of one frame */
    double colours; /* colour distance (image.h) to the references' mean histogram; NAN without them */
    VideoFigures f;
} Measured;

typedef struct Measuring {
    const VideoList *videos;
    const Recipe *recipe; /* section limits */
    int64_t jobs;         /* processes */
    const Log *log;
    const char *what;        /* "videos", for the progress line */
    const double *reference; /* [COLOUR_BINS], or NULL */
    double *histogram;       /* [COLOUR_BINS] zeros that the videos' are added to (in 2^-32ths), or NULL */
    NetFeatures *features;   /* [videos->n] that the networks' are put into, or NULL */
    Measured *out;           /* [videos->n], zeroed by the caller */
    int64_t measured, rejected, single_frame; /* counted here */
} Measuring;

/* ERR_INTERRUPTED when a signal asked to stop. */
WEFT_MUST_CHECK int measure_videos(Measuring *m, Err *err);
/* The mean histogram [COLOUR_BINS] out of the sums. */
void histogram_normalise(double *histogram);
void measured_free(Measured **out, int64_t n);
/* text [size]: `why` as a sentence that names the video. */
void measured_why(char *text, size_t size, const char *path, const char *why);
#endif
