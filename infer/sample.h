/* `weft-infer sample`: prompts in, videos out.  For each prompt ID, in this order: ID.mp4, ID/NNNN.png when asked for, and last
 * ID.json, which marks it whole.  Run again after an interruption, finished ones are left alone; one that was made differently is
 * never overwritten unasked. */
#ifndef WEFT_INFER_SAMPLE_H
#define WEFT_INFER_SAMPLE_H
#include "common/base/args.h"

typedef struct SampleOptions {
    CommonOptions common; /* first */
    const char *model, *checkpoint, *prompts, *out, *latents_out;
    StrList prompt;
    int save_frames, overwrite;
} SampleOptions;

extern const Opt sample_opts[];
/* A Command's run: exit status, or a negative code. */
int sample_command(void *options, const StrList *positional, Err *err);
#endif
