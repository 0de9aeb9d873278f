/* `weft-train merge`: LoRA adapters into the weights, as a pipeline folder that needs no adapter. */
#ifndef WEFT_TRAIN_MERGE_H
#define WEFT_TRAIN_MERGE_H
#include "common/base/args.h"

typedef struct MergeOptions {
    CommonOptions common; /* must be first */
    const char *model, *out;
    StrList lora; /* FILE[:SCALE] */
} MergeOptions;

/* Writes OUT: the transformer of the pipeline folder `model` with W + the sum of scale * B A, computed in
 * float32 and rounded to the type of the model's file, and copies of the other parts.  OUT appears when it
 * is complete; an OUT that exists is refused.  With --dry-run only checks. */
WEFT_MUST_CHECK int merge_run(const MergeOptions *o, Err *err);
#endif
