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

/* The options for what is sampled, for a table whose structure has these members at `at` (nothing, or "sampling."),
 * and those for how, which are recipe keys. */
#define OPTS_PROMPTS(structure, at)                                                                                   \
    OPTION(structure, at prompt, OPT_LIST, "prompt", "TEXT", "what to show; may be repeated", .short_name = 'p'),     \
        OPTION(structure, at prompts, OPT_STR, "prompts", "FILE",                                                     \
               "one prompt a line, or .jsonl: an object a line with prompt and id, category, seed, steps, guidance, " \
               "negative_prompt"),                                                                                    \
        OPTION(structure, at from_cache, OPT_STR, "from-cache", "DIR",                                                \
               "take the captions of this cache as prompts, and their embeddings: no text encoder is loaded"),        \
        OPTION(structure, at split, OPT_ENUM, "split", NULL, "with --from-cache: clips of this split only",           \
               .choices = "train|val|test"),                                                                          \
        OPTION(structure, at limit, OPT_INT, "limit", "N", "with --from-cache: the first N clips by id", .min = 1,    \
               .max = 1e9),                                                                                           \
        OPTION(structure, at videos_per_prompt, OPT_INT, "videos-per-prompt", "N",                                    \
               "videos of each prompt, with seeds one after another", .min = 1, .max = 10000, .dflt = "1")
#define OPTS_SAMPLING                                                                                                 \
    OPTION_KEY("negative-prompt", "TEXT", "sampling.negative_prompt", "what guidance steers away from"),              \
        OPTION_KEY("steps", "N", "sampling.num_inference_steps", "denoising steps"),                                  \
        OPTION_KEY("guidance", "X", "sampling.guidance_scale",                                                        \
                   "classifier-free guidance; 1 or less: none, at half the time"),                                    \
        OPTION_KEY("dynamic-cfg", NULL, "sampling.use_dynamic_cfg",                                                   \
                   "let guidance rise along a cosine over the steps"),                                                \
        OPTION_KEY("scheduler", NULL, "sampling.scheduler", "how a step is taken", .choices = "ddim|dpm"),            \
        OPTION_KEY("num-frames", "N", "sampling.num_frames",                                                          \
                   "frames of a video: 8N+1, or 8N (of which one more is made)"),                                     \
        OPTION_KEY("width", "PIXELS", "sampling.width", "a multiple of 16"),                                          \
        OPTION_KEY("height", "PIXELS", "sampling.height", "a multiple of 16"),                                        \
        OPTION_KEY("fps", "N", "sampling.fps", "frames a second of the file; changes no frame"),                      \
        OPTION_KEY(                                                                                                   \
            "vae-tiling", NULL, "sampling.vae_tiling",                                                                \
            "decode in overlapping tiles: less memory, slightly other pixels at the seams; needless where --dry-run " \
            "shows that the VAE fits")

typedef struct SampleReport {
    Str text; /* results: the videos' paths, a line each; with --dry-run the plan */
    int64_t made, reused;
} SampleReport;
/* The report is the caller's: str_fini(&report->text), also on failure. */
WEFT_MUST_CHECK int sample_run(const SampleOptions *o, const Log *log, SampleReport *report, Err *err);
#endif
