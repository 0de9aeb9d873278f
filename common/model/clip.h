/* CLIP text and vision towers (transformers CLIPModel) and its image preprocessing:
 * MODEL.md 5.5. */
#ifndef WEFT_COMMON_MODEL_CLIP_H
#define WEFT_COMMON_MODEL_CLIP_H
#include <jansson.h>
#include "common/model/params.h"
#include "common/ops/arena.h"

/* act: an ActKind; layers 0 (vision alone): there is no such tower, and no projections */
typedef struct ClipTower {
    int64_t hidden, intermediate, layers, heads, act;
    double eps;
} ClipTower;
typedef struct ClipConfig {
    ClipTower text, vision;
    int64_t vocab, positions, eos_id, projection, image_size, patch;
} ClipConfig;
typedef struct Clip Clip;
WEFT_MUST_CHECK int clip_config_parse(ClipConfig *out, const json_t *json, const char *where, Err *err);
/* The weights of a CLIPModel's folder, of which clip_open takes the values: as safetensors_open_folder finds them
 * ("model"), or, where there are none, pytorch_model.bin. */
WEFT_MUST_CHECK int clip_open_weights(SafeTensors **out, const char *folder, const Log *log, Err *err);
WEFT_MUST_CHECK int clip_open(Clip **out, Backend *be, const char *folder, Err *err);
WEFT_MUST_CHECK int clip_new_filled(Clip **out, Backend *be, const ClipConfig *c, Err *err);
void clip_close(Clip **c);
const ClipConfig *clip_config(const Clip *c);
ParamSet *clip_params(Clip *c);

/* The text tower alone, as a pipeline folder's text_encoder/ holds it (transformers'
 * CLIPTextModel): its config.json, or one of a whole CLIP, whose text_config is read then.  Weights
 * are found with their names of transformers 4 ("text_model.encoder...") and of 5 ("encoder...");
 * the other parts of a whole CLIP are left alone.  clip_text gives its hidden states; embed and
 * pooled stay as they are, since it has no projection. */
WEFT_MUST_CHECK int clip_text_config_parse(ClipConfig *out, const json_t *json, const char *where, Err *err);
json_t *clip_text_config_json(const ClipConfig *c, Err *err);
WEFT_MUST_CHECK int clip_text_open(Clip **out, Backend *be, const char *folder, Err *err);
/* Whether the folder's weights have the names, shapes and types that the config asks for; headers
 * only. */
WEFT_MUST_CHECK int clip_text_check_weights(const ClipConfig *c, const char *folder, const Log *log, Err *err);
/* Makes the folder: config.json, model.safetensors. */
WEFT_MUST_CHECK int clip_text_save(Clip *c, const char *folder, DType dtype, Err *err);
/* *bytes: working memory of clip_text for n tokens. */
WEFT_MUST_CHECK int clip_text_plan(const ClipConfig *c, DType act, int64_t n, int64_t *bytes, Err *err);

/* embed [projection], not normalised; hidden [n,hidden] (last_hidden_state, after final_layer_norm)
 * and pooled may be NULL. Host. */
WEFT_MUST_CHECK int clip_text(Clip *c, Arena *work, float *embed, float *hidden, float *pooled, const int32_t *ids,
                              int64_t n, Err *err);
/* pixels [3,S,S] preprocessed.  hidden [1+patches,hidden] (not normalised), pooled may be NULL.
 * Host. */
WEFT_MUST_CHECK int clip_image(Clip *c, Arena *work, float *embed, float *hidden, float *pooled, const float *pixels,
                               Err *err);
/* RGB8 [H,W,3] -> [3,S,S]: shorter edge to S with Pillow's bicubic (bit-exact), centre crop, 1/255,
 * mean and std. */
WEFT_MUST_CHECK int clip_preprocess(float *out, const uint8_t *rgb, int64_t H, int64_t W, int64_t S, Err *err);
/* The same of the whole picture: first padded to a square with CLIP's mean colour (122, 116, 104), as
 * LLaVA's expand2square does it. */
WEFT_MUST_CHECK int clip_preprocess_square(float *out, const uint8_t *rgb, int64_t H, int64_t W, int64_t S, Err *err);
/* Pillow's bicubic (a = -0.5, antialiased) on interleaved 8-bit channels, bit-exact. */
WEFT_MUST_CHECK int pil_bicubic(uint8_t *out, int64_t out_h, int64_t out_w, const uint8_t *in, int64_t in_h,
                                int64_t in_w, int64_t channels, Err *err);
#endif
