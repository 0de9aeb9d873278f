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
#include "common/base/text_kind.h"
#include "common/model/denoise.h"
#include "common/model/lora.h"
#include "common/ops/backend.h"

/* Which parts hold memory at the same time; no choice changes a bit.
 *   auto    the text encoder goes when its texts are encoded; on the host the transformer and the VAE take
 *           turns with their working memory (weights are mapped files); on a device they stay, unless
 *           memory is too small for both
 *   never   every part stays, once it is needed
 *   always  one part at a time, weights included: they are read again for each sample */
typedef enum Offload { OFFLOAD_AUTO, OFFLOAD_NEVER, OFFLOAD_ALWAYS } Offload;

typedef struct SampleSettings {
    int64_t width, height; /* pixels; multiples of 16 */
    int64_t num_frames;    /* of the video file */
    int64_t model_frames;  /* what the model computes: num_frames, or one more, which is dropped */
    int64_t latent_frames;
    double fps;
    SamplerKind sampler;
    int64_t steps;
    double guidance;
    int dynamic_guidance, tiling;
    int64_t reuse_every;   /* 0 or as in DenoiseParams; these two are not of the recipe */
    double guidance_share; /* 0: all steps are guided, else the share of them that is, the first ones */
    Offload offload;       /* not of the recipe */
    int no_text;           /* embeddings come from elsewhere: tokeniser and text encoder are not looked for */
    TextKind text_encoder; /* what the recipe wants in the model folder */
} SampleSettings;
/* From the recipe's sampling section; checks sizes and frame counts. */
WEFT_MUST_CHECK int sample_settings(SampleSettings *out, const Recipe *recipe, Err *err);

typedef struct PipelineSizes {
    int64_t text_len, text_dim, latent_channels, latent_height, latent_width;
    int64_t heads, head_dim, layers, tokens; /* of the transformer; tokens: of the text and of all patches */
} PipelineSizes;
/* Bytes: working memory, and weights as they are stored, or in the device's type. */
typedef struct PipelineMemory {
    int64_t text_bytes, denoise_bytes, decode_bytes;
    int64_t frame_bytes; /* a video's frames, in the host's memory while the VAE decodes them */
    int64_t text_weights, dit_weights, vae_weights;
} PipelineMemory;

typedef struct Pipeline Pipeline;
/* model: a diffusers pipeline folder.  checkpoint: NULL, or a folder that holds transformer/ (a
 * weft-train checkpoint or final/) or is itself a transformer folder.  Each component is loaded
 * when it is first needed; pipeline_drop_text_encoder unloads the text encoder. */
WEFT_MUST_CHECK int pipeline_open(Pipeline **out, Backend *be, const char *model, const char *checkpoint,
                                  const SampleSettings *s, const Log *log, Err *err);
void pipeline_close(Pipeline **p);
/* Adapters (copied) on the transformer from here on, before it is first needed; n may be 0. */
WEFT_MUST_CHECK int pipeline_set_loras(Pipeline *p, const LoraUse *use, int64_t n, Err *err);
PipelineSizes pipeline_sizes(const Pipeline *p);
/* Checks that all parts fit each other and this request: names, shapes and types of all weights,
 * the tokeniser, the sampler's steps, the VAE's tiles; and that there is memory for each phase, taken alone.  Reads
 * headers and configs only. */
WEFT_MUST_CHECK int pipeline_check_parts(Pipeline *p, Err *err);
/* Working memory of each phase, found by running it on the plan back end, and the weights. */
WEFT_MUST_CHECK int pipeline_plan(Pipeline *p, PipelineMemory *out, Err *err);
/* {"transformer": digest, ..., "configs": digest} of the weights and of all config files in use; with
 * adapters also "loras": [{"sha256", "scale"}, ...].
 * Without text encoder and tokeniser where the settings have no_text.
 * New reference; reads every weight file once, and MEMORY/.weights remembers their digests (NULL: nothing
 * does). */
WEFT_MUST_CHECK int pipeline_weights(Pipeline *p, const char *memory, json_t **out, Err *err);

/* embeds [text_len, text_dim].  *cut: how many of the text's tokens did not fit. */
WEFT_MUST_CHECK int pipeline_encode_text(Pipeline *p, const char *text, float *embeds, int64_t *cut, Err *err);
/* The words that did not fit; "" when all fit.  The caller frees *out with mem_free. */
WEFT_MUST_CHECK int pipeline_cut_text(Pipeline *p, const char *text, char **out, Err *err);
/* Frees the text encoder's memory; the second unless it is to stay. */
void pipeline_drop_text_encoder(Pipeline *p);
void pipeline_texts_done(Pipeline *p);
/* For one sample; denoising_fini frees it, also after a failure. */
WEFT_MUST_CHECK int denoising_init(Denoising *d, const Pipeline *p, Err *err);
/* Steps and guidance of the samples from here on, instead of pipeline_open's settings.  Guidance above 1
 * needs settings with guidance above 1: they say how much memory is taken. */
void pipeline_set_steps(Pipeline *p, int64_t steps, double guidance);
/* The samples from here on are exact, or as fast as the settings have it. */
void pipeline_set_exact(Pipeline *p, int exact);
/* Whether the noise schedule has that many steps: to be asked before any work. */
WEFT_MUST_CHECK int pipeline_check_steps(const Pipeline *p, int64_t steps, Err *err);
/* denoise_run (denoise.h) with the pipeline's transformer. */
WEFT_MUST_CHECK int pipeline_denoise(Pipeline *p, const float *embeds, const float *negative, uint64_t seed,
                                     Denoising *d, const StepHooks *hooks, Err *err);
/* rgb [num_frames,height,width,3].  pixels [model_frames,height,width,3], not clamped: for tests;
 * NULL elsewhere. */
WEFT_MUST_CHECK int pipeline_decode(Pipeline *p, const float *latents, uint8_t *rgb, float *pixels, Err *err);
/* rgb [height,width,3]: the latent frame in the middle, decoded alone; also between two denoising steps. */
WEFT_MUST_CHECK int pipeline_decode_still(Pipeline *p, const float *latents, uint8_t *rgb, Err *err);
#endif
