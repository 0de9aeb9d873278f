/* The parts of a pipeline folder, put together for sampling: tokeniser, text encoder, transformer,
 * VAE, noise schedule.
 *
 *   pipeline_open(&p, be, model, checkpoint, &settings, log, err);
 *   pipeline_encode_text(p, "a red dress", embeds, err);
 *   denoising_init(&d, p, err);
 *   pipeline_denoise(p, embeds, negative, seed, &d, NULL, err);   // d.latents [F,h,w,C], host
 *   pipeline_decode(p, d.latents, rgb, NULL, err);
 *   denoising_fini(&d);
 */
#ifndef WEFT_INFER_PIPELINE_H
#define WEFT_INFER_PIPELINE_H
#include <jansson.h>
#include "common/base/recipe.h"
#include "common/model/schedule.h"
#include "common/ops/backend.h"

typedef struct SampleSettings {
    int64_t width, height; /* pixels; multiples of 16 */
    int64_t num_frames;    /* written */
    int64_t model_frames;  /* computed: num_frames, or one more which is dropped */
    int64_t latent_frames;
    double fps;
    SamplerKind sampler;
    int64_t steps;
    double guidance;
    int dynamic_guidance, tiling;
} SampleSettings;
/* From the recipe's sampling section; checks sizes and frame counts. */
int sample_settings(SampleSettings *out, const Recipe *recipe, Err *err);

typedef struct PipelineSizes {
    int64_t text_len, text_dim, latent_channels, latent_height, latent_width;
} PipelineSizes;
/* working memory, weights apart */
typedef struct PipelineMemory {
    int64_t text_bytes, denoise_bytes, decode_bytes;
} PipelineMemory;

typedef struct Pipeline Pipeline;
/* model: a diffusers pipeline folder.  checkpoint: NULL, or a folder that holds transformer/ (a
 * weft-train checkpoint or final/) or is itself a transformer folder.  No component is loaded
 * before it is needed, the text encoder only while it is. */
int pipeline_open(Pipeline **out, Backend *be, const char *model, const char *checkpoint, const SampleSettings *s,
                  const Log *log, Err *err);
void pipeline_close(Pipeline **p);
PipelineSizes pipeline_sizes(const Pipeline *p);
/* That all parts fit each other and this request: names, shapes and types of all weights, the
 * tokeniser, the sampler's steps, the VAE's tiles.  Nothing large is read. */
int pipeline_check_parts(Pipeline *p, Err *err);
/* Working memory of each phase, found by running it on the plan back end. */
int pipeline_plan(Pipeline *p, PipelineMemory *out, Err *err);
/* {"transformer": digest, ..., "configs": digest} of the weights and of all config files in use.
 * New reference; reads every weight file once. */
int pipeline_weights(Pipeline *p, json_t **out, Err *err);

/* embeds [text_len, text_dim].  *cut: content tokens that did not fit. */
int pipeline_encode_text(Pipeline *p, const char *text, float *embeds, int64_t *cut, Err *err);
/* The words that did not fit.  *out is the caller's to mem_free; "" when all fit. */
int pipeline_cut_text(Pipeline *p, const char *text, char **out, Err *err);
/* Frees the text encoder's memory. */
void pipeline_drop_text_encoder(Pipeline *p);
/* The state of one sample between two denoising steps, in host memory. */
typedef struct Denoising {
    int64_t step;   /* steps done; 0: nothing yet, and the rest means nothing */
    int64_t draws;  /* latents' worth of noise drawn so far */
    float *latents; /* [F,h,w,C] */
    float *older;   /* [F,h,w,C]: DPM's x0 of the step before, when has_older */
    int has_older;
} Denoising;
int denoising_init(Denoising *d, const Pipeline *p, Err *err);
void denoising_fini(Denoising *d); /* also after a failed denoising_init */

typedef struct StepHooks {
    void *user;
    void (*on_step)(void *user, int64_t step); /* or NULL */
    /* or NULL; called between two steps, at most every keep_every_s seconds, with the state so far */
    int (*keep)(void *user, const Denoising *d, Err *err);
    double keep_every_s;
} StepHooks;
/* All steps from d->step on; at step 0 from torch-compatible noise of `seed`.  ERR_INTERRUPTED (the
 * back end's `stop` asked for it): *d is the state after the last whole step; given again, it goes
 * on to the same bits.  hooks may be NULL. */
int pipeline_denoise(Pipeline *p, const float *embeds, const float *negative, uint64_t seed, Denoising *d,
                     const StepHooks *hooks, Err *err);
/* rgb [num_frames,height,width,3]; pixels (not clamped, [model_frames,..]) may be wanted by tests:
 * NULL otherwise. */
int pipeline_decode(Pipeline *p, const float *latents, uint8_t *rgb, float *pixels, Err *err);
#endif
