/* `weft-infer sample`: prompts in, videos out.  For each ID, which is [CATEGORY/]NAME (prompts.h), in
 * this order: ID.mp4, ID/NNNN.png when asked for, and last ID.json, which marks the sample as whole.  The same command
 * given again makes what is missing: finished samples are left alone, one that was stopped
 * (ID.partial.safetensors) goes on from its last step, and one that was made differently is never
 * overwritten unasked. */
#ifndef WEFT_INFER_SAMPLE_H
#define WEFT_INFER_SAMPLE_H
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/log.h"
#include "common/base/str.h"

typedef struct SampleOptions {
    CommonOptions common; /* first */
    const char *model, *checkpoint, *prompts, *from_cache, *split, *out, *latents_out, *offload;
    StrList prompt, lora;
    double guidance_share;
    int64_t reuse_every;
    int64_t videos_per_prompt, limit, preview_every;
    int save_frames, gif, webp, overwrite;
} SampleOptions;

extern const Opt sample_opts[];

typedef struct SampleReport {
    Str text; /* results: the videos' paths, a line each; with --dry-run the plan */
    int64_t made, reused;
} SampleReport;
/* The report is the caller's: str_fini(&report->text), also on failure. */
WEFT_MUST_CHECK int sample_run(const SampleOptions *o, const Log *log, SampleReport *report, Err *err);
#endif
