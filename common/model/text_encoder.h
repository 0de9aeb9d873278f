/* The text encoder of a pipeline folder: T5 (t5.h) or the text tower of CLIP (clip.h).  What the
 * transformer is given is the encoder's last hidden state after its final norm, of all tokens with
 * padding, without a mask: MODEL.md 5.1 and 5.5. */
#ifndef WEFT_COMMON_MODEL_TEXT_ENCODER_H
#define WEFT_COMMON_MODEL_TEXT_ENCODER_H
#include "common/base/text_kind.h"
#include "common/model/clip.h"
#include "common/model/t5.h"

typedef struct TextConfig {
    TextKind kind; /* TEXT_T5 or TEXT_CLIP: the one of the two below that counts */
    T5Config t5;
    ClipConfig clip; /* of the text tower alone */
} TextConfig;

/* The kind is the config's model_type ("t5", "clip_text_model", "clip"), or, without one, what its
 * other keys tell. ERR_UNSUPPORTED for another encoder. */
WEFT_MUST_CHECK int text_config_parse(TextConfig *out, const json_t *json, const char *where, Err *err);
WEFT_MUST_CHECK int text_config_read(TextConfig *out, const char *folder, Err *err); /* FOLDER/config.json */
json_t *text_config_json(const TextConfig *c, Err *err);
/* The kind that such a JSON is of (a cache keeps it). */
TextKind text_config_kind(const json_t *json);
int64_t text_config_width(const TextConfig *c); /* values of a token's vector */
int64_t text_config_inner(const TextConfig *c); /* values inside the feed-forward layers */
int64_t text_config_vocab(const TextConfig *c);
/* Multiplications and additions for a text of n tokens; bytes that an open encoder keeps beside its
 * weights and the working memory once it has encoded one. */
double text_config_operations(const TextConfig *c, int64_t n);
int64_t text_config_kept(const TextConfig *c, int64_t n);
/* ERR_USAGE where the encoder has not that many positions. */
WEFT_MUST_CHECK int text_config_check_length(const TextConfig *c, int64_t n, const char *where, Err *err);
/* As t5_check_weights: reads headers only. */
WEFT_MUST_CHECK int text_check_weights(const TextConfig *c, const char *folder, const Log *log, Err *err);
/* *bytes: working memory of text_encode for n tokens. */
WEFT_MUST_CHECK int text_plan(const TextConfig *c, DType act, int64_t n, int64_t *bytes, Err *err);

typedef struct TextEncoder TextEncoder;
/* c: text_config_read of this folder. */
WEFT_MUST_CHECK int text_encoder_open(TextEncoder **out, Backend *be, const TextConfig *c, const char *folder,
                                      Err *err);
void text_encoder_close(TextEncoder **t);
/* hidden [n,width] (host float32) <- ids [n]. */
WEFT_MUST_CHECK int text_encode(TextEncoder *t, Arena *work, float *hidden, const int32_t *ids, int64_t n, Err *err);
/* hidden [count,n,width] <- ids of `count` texts: the same values, T5's weights read once
 * (t5_encode_many). */
WEFT_MUST_CHECK int text_encode_many(TextEncoder *t, Arena *work, float *hidden, const int32_t *const *ids,
                                     int64_t count, int64_t n, Err *err);
#endif
