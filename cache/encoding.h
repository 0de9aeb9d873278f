/* The two encoders, and the keys of their values: a key covers everything that shapes the value. */
#ifndef WEFT_CACHE_ENCODING_H
#define WEFT_CACHE_ENCODING_H
#include "cache/prepared.h"
#include "common/base/recipe.h"
#include "common/model/text_encoder.h"
#include "common/model/vae.h"
#include "common/store/cache.h"
#include "common/text/tokenizer.h"

typedef struct Encoding {
    Backend *be; /* borrowed */
    const Log *log;
    char *vae_dir, *text_dir;
    VaeConfig vae;
    TextConfig text;
    Tokenizer *tokenizer;
    json_t *vae_json, *text_json;
    char vae_sha256[65], text_sha256[65], tokenizer_sha256[65];
    int64_t vae_bytes, text_bytes; /* of the encoder's weights on the back end, of the text encoder's file */
    DType text_type;               /* of the text encoder's matrices, as operations read them */
    VaeTiling tiling;
    DType dtype;                      /* of stored latents and embeddings */
    RecordKind kind;                  /* RECORD_MOMENTS or RECORD_SAMPLE */
    TextForm form;                    /* of the texts' ids */
    int64_t seed;                     /* seed of the posterior draws of RECORD_SAMPLE */
    const char *dtype_name;           /* as in the recipe: "fp32", "fp16", "bf16" */
    char *text_parts, *latents_parts; /* of the content keys, without what differs from one to the next */
} Encoding;

/* Reads MODEL/vae, MODEL/text_encoder and MODEL/tokenizer: configs, and the digests of all weights
 * (which reads them, or not where MEMORY/.weights knows them: safetensors_digest_once). */
WEFT_MUST_CHECK int encoding_open(Encoding **out, Backend *be, const Recipe *recipe, const char *model,
                                  const char *memory, const Log *log, Err *err);
void encoding_close(Encoding **e);

WEFT_MUST_CHECK int encoding_text_key(const Encoding *e, const PreparedText *t, Digest *out, Err *err);
WEFT_MUST_CHECK int encoding_tokens_key(const Encoding *e, const char *text, Digest *out, Err *err);
WEFT_MUST_CHECK int encoding_latents_key(const Encoding *e, const PreparedClip *c, Digest *out, Err *err);
/* Type and shape of the record of a clip (a text); data NULL. */
Tensor encoding_latents_shape(const Encoding *e, const PreparedClip *c);
Tensor encoding_text_shape(const Encoding *e);
/* *bytes: working memory for encoding this clip (a text), without the weights. */
WEFT_MUST_CHECK int encoding_plan_clip(const Encoding *e, const PreparedClip *c, int64_t *bytes, Err *err);
WEFT_MUST_CHECK int encoding_plan_text(const Encoding *e, int64_t *bytes, Err *err);
/* The meta entries "vae", "text" (empty: the key of the empty prompt) and "encoding".  New
 * references; NULL if memory ran out. */
json_t *encoding_meta_vae(const Encoding *e);
json_t *encoding_meta_text(const Encoding *e, const Digest *empty);
json_t *encoding_meta_values(const Encoding *e);

/* An encoder holds its weights and working memory, so open only one of the two at a time. */
typedef struct Encoder Encoder;
WEFT_MUST_CHECK int encoder_open_text(Encoder **out, const Encoding *e, Err *err);
/* For clips that are no larger than `like`. */
WEFT_MUST_CHECK int encoder_open_clips(Encoder **out, const Encoding *e, const PreparedClip *like, Err *err);
void encoder_close(Encoder **p);
/* The record's tensor, owned by the encoder until the next call.  ERR_FORMAT when a value is not
 * finite or does not fit the stored type. */
WEFT_MUST_CHECK int encoder_text(Encoder *p, const PreparedText *t, Tensor *out, Err *err);
/* Texts that one pass over the weights encodes, and that a stop may lose: of T5 on a CPU as many as
 * have room in a quarter of the weights' size, 16 MiB to 1.7 GiB; else 16 at most. */
int64_t encoding_pass_texts(const Encoding *e);
/* Encodes 1 to encoding_pass_texts texts at once; then encoder_passed gives the record of text k.
 * */
WEFT_MUST_CHECK int encoder_pass(Encoder *p, const PreparedText *const *texts, int64_t n, Err *err);
WEFT_MUST_CHECK int encoder_passed(Encoder *p, int64_t k, Tensor *out, Err *err);
/* rgb [frames,height,width,3].  Its two parts: encoder_compute, then encoder_pack for the record.
 * */
WEFT_MUST_CHECK int encoder_clip(Encoder *p, const PreparedClip *c, const uint8_t *rgb, Tensor *out, Err *err);
WEFT_MUST_CHECK int encoder_compute(Encoder *p, const PreparedClip *c, const uint8_t *rgb, Err *err);
WEFT_MUST_CHECK int encoder_pack(Encoder *p, const PreparedClip *c, Tensor *out, Err *err);
#endif
