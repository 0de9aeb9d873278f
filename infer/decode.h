/* `weft-infer decode`: kept latents into videos, with a model's VAE alone. */
#ifndef WEFT_INFER_DECODE_H
#define WEFT_INFER_DECODE_H
#include "common/base/args.h"
#include "common/base/log.h"
#include "common/base/str.h"

typedef struct DecodeOptions {
    CommonOptions common; /* first */
    const char *model, *out;
    int overwrite;
} DecodeOptions;

extern const Opt decode_opts[];

/* Each tensor [1,F,C,h,w] (as the transformer has them, in diffusers' order) of the safetensors `files`:
 * of --latents-out under its own name, of a file with one tensor "latents" (a run's samples, a sample
 * that was stopped) under the file's.  Writes OUT/NAME.mp4 with as many frames as sampling.num_frames
 * says where that fits, else all.  A video that was made of the same latents in the same way is kept;
 * another one is ERR_USAGE without --overwrite.  *text (the caller's, also on failure): a path a line,
 * or with --dry-run what would be done. */
WEFT_MUST_CHECK int decode_run(const DecodeOptions *o, const StrList *files, const Log *log, Str *text, Err *err);
#endif
