/* `weft-infer evaluate`: videos in, figures out.  Writes OUT/metrics.csv (a line a video), with
 * CLIP OUT/clip_scores.csv, with a cache OUT/closest_clips.csv, OUT/evaluate.html (a page that stands alone) and
 * last OUT/metrics.json (schemas/metrics).  Nothing is written before everything is measured. */
#ifndef WEFT_INFER_EVALUATE_H
#define WEFT_INFER_EVALUATE_H
#include <stdio.h>
#include "infer/copies.h"

typedef struct EvaluateOptions {
    CommonOptions common; /* first */
    const char *out, *prompts;
    StrList references;
    NetworkOptions networks;
    CopyOptions copies;
} EvaluateOptions;
extern const Opt evaluate_opts[];

/* The exit status: 0, or 3 when a video or reference could not be measured or a network's weights could not be
 * used; or a negative code.  The summary
 * goes to `results`. */
WEFT_MUST_CHECK int evaluate_run(const EvaluateOptions *o, const StrList *videos, const Log *log, FILE *results,
                                 Err *err);

/* ---- evaluate_page.c ---- */
/* What evaluate found. */
typedef struct Measurements {
    const Evaluation *videos, *references; /* references NULL: none */
    const Networks *networks;              /* NULL: none */
    Copies *copies;                        /* NULL: not checked */
} Measurements;
extern const char *const measured_names[2]; /* of the copy check's one side: "videos" */
/* report: what metrics.json holds. */
WEFT_MUST_CHECK int evaluate_write_page(const char *path, const Measurements *m, const json_t *report, Err *err);
#endif
