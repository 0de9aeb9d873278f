/* Shared by pipeline.c (open, text), pipeline_denoise.c, pipeline_decode.c and pipeline_weights.c. */
#ifndef WEFT_INFER_PIPELINE_INTERNAL_H
#define WEFT_INFER_PIPELINE_INTERNAL_H
#include "common/model/dit_lora.h"
#include "common/model/text_encoder.h"
#include "common/model/vae.h"
#include "common/text/tokenizer.h"
#include "infer/pipeline.h"

struct Pipeline {
    Backend *be;
    const Log *log;
    SampleSettings s; /* as opened: for plans */
    int64_t steps;    /* of the next sample: s.steps, or pipeline_set_steps' */
    double guidance;
    int exact;
    char *tokenizer_dir, *text_dir, *dit_dir, *vae_dir, *scheduler_dir;
    DitConfig dit_config;
    VaeConfig vae_config;
    TextConfig text_config;
    Schedule schedule;
    Tokenizer *tokenizer;
    TextEncoder *text;
    Arena *text_arena;
    LoraUse *lora; /* n_lora of them, owned */
    int64_t n_lora;
    Dit *dit;
    Arena *dit_arena;
    Vae *vae;
    Arena *vae_arena;
};

WEFT_MUST_CHECK int pipeline_open_tokenizer(Pipeline *p, Err *err); /* nothing when it is open */
/* The transformer with its adapters. */
WEFT_MUST_CHECK int pipeline_open_dit(const Pipeline *p, Dit **out, Backend *be, Err *err);
void pipeline_drop_dit(Pipeline *p);
void pipeline_drop_vae(Pipeline *p);
/* Memory that the VAE holds goes, as far as settings.offload says. */
void pipeline_before_denoising(Pipeline *p);
/* Working memory of the denoising loop, of one text and of decoding. */
WEFT_MUST_CHECK int pipeline_plan_denoise(Pipeline *p, int64_t *bytes, Err *err);
WEFT_MUST_CHECK int pipeline_plan_text(Pipeline *p, int64_t *bytes, Err *err);
WEFT_MUST_CHECK int pipeline_plan_decode(Pipeline *p, int64_t *bytes, Err *err);
#endif
