/* The 3-D causal VAE (diffusers AutoencoderKLCogVideoX): encode to posterior moments, decode to
 * pixels.
 * Chunking (8 frames, 2 latents) is part of the result and follows diffusers >= 0.31. One clip at a
 * time. */
#ifndef WEFT_COMMON_MODEL_VAE_H
#define WEFT_COMMON_MODEL_VAE_H
#include <jansson.h>
#include "common/model/params.h"
#include "common/ops/arena.h"

typedef struct VaeConfig {
    int64_t in_channels, out_channels, latent_channels, n_blocks, block_channels[8], layers_per_block, groups;
    int64_t temporal_ratio;              /* 4 */
    int64_t sample_height, sample_width; /* tile sizes come from these */
    double norm_eps, scaling_factor;
    int invert_scale_latents;
} VaeConfig;

typedef struct VaeTiling { /* sizes of input tiles; vae_tiling_default gives diffusers' */
    int enabled;
    int64_t pixel_height, pixel_width, latent_height, latent_width; /* tile sizes */
    double overlap_height, overlap_width;                           /* 1/6, 1/5 */
} VaeTiling;

typedef struct Vae Vae;
WEFT_MUST_CHECK int vae_config_parse(VaeConfig *out, const json_t *json, const char *where, Err *err);
json_t *vae_config_json(const VaeConfig *c, Err *err);
VaeTiling vae_tiling_default(const VaeConfig *c, int enabled);
/* Whether clips of H x W pixels can be encoded and decoded with these tiles: ERR_USAGE with the
 * sample sizes that would fit where the tiles leave gaps.  Costs nothing; call it before any work. */
WEFT_MUST_CHECK int vae_tiling_check(const VaeConfig *c, const VaeTiling *tiling, int64_t H, int64_t W, Err *err);

/* What a VAE is opened for.  All of its file is checked, but only these weights are brought to the back end: in
 * float32 369 MB of CogVideoX-2B's encoder, 493 MB of its decoder. */
typedef enum VaeUse { VAE_ENCODES = 1, VAE_DECODES = 2, VAE_BOTH = 3 } VaeUse;
/* FOLDER holds config.json and diffusion_pytorch_model.safetensors. On the plan back end no weight
 * is read. */
WEFT_MUST_CHECK int vae_open(Vae **out, Backend *be, const char *folder, VaeUse use, Err *err);
/* Whether the folder's weights have the names, shapes and types that the config asks for.  Reads
 * headers only, so that a run can check before its first second of work. */
WEFT_MUST_CHECK int vae_check_weights(const VaeConfig *c, const char *folder, const Log *log, Err *err);
/* Bytes of `be` that vae_open takes for the weights; reads headers only. */
WEFT_MUST_CHECK int vae_plan_weights(Backend *be, const char *folder, VaeUse use, int64_t *bytes, Err *err);
WEFT_MUST_CHECK int vae_new_filled(Vae **out, Backend *be, const VaeConfig *c, Err *err);
void vae_close(Vae **v);
const VaeConfig *vae_config(const Vae *v);
ParamSet *vae_params(Vae *v);
WEFT_MUST_CHECK int vae_save(Vae *v, const char *folder, DType dtype, Err *err);

/* Latent frames for T pixel frames (whole-clip rule of chunked encoding) and pixel frames for L
 * latents. */
int64_t vae_latent_frames(const VaeConfig *c, int64_t frames);
int64_t vae_pixel_frames(const VaeConfig *c, int64_t latents);

/* moments [L,H/8,W/8,2*latent] (mean, then logvar, raw) <- pixels [T,H,W,3] in [-1,1].
 * Pixels are given and moments received in *host* float32 memory (a clip is far larger than one
 * chunk).  ERR_USAGE for a VAE that was opened to decode alone, as decoding for the other. */
WEFT_MUST_CHECK int vae_encode(Vae *v, Arena *work, const VaeTiling *tiling, float *moments, const float *pixels,
                               int64_t T, int64_t H, int64_t W, Err *err);
/* The same from 8-bit RGB frames: x/127.5 - 1. */
WEFT_MUST_CHECK int vae_encode_rgb(Vae *v, Arena *work, const VaeTiling *tiling, float *moments, const uint8_t *rgb,
                                   int64_t T, int64_t H, int64_t W, Err *err);
/* pixels [T,8h,8w,3] (not clamped) <- z [L,h,w,C], already divided by the scaling factor. Host
 * memory.  ERR_FORMAT for a pixel that is not finite. */
WEFT_MUST_CHECK int vae_decode(Vae *v, Arena *work, const VaeTiling *tiling, float *pixels, const float *z, int64_t L,
                               int64_t h, int64_t w, Err *err);
/* Encode the whole clip in one piece (diffusers <= 0.30.3): for the golden test that tells the two
 * apart. chunked 0. */
void vae_set_chunked(Vae *v, int chunked);
/* Bytes of working memory that encode (decode) of this size needs on `be`'s kind of back end, by
 * running it on the plan back end; weights not included. */
WEFT_MUST_CHECK int vae_plan_encode(const VaeConfig *c, DType act, const VaeTiling *tiling, int64_t T, int64_t H,
                                    int64_t W, int64_t *bytes, Err *err);
WEFT_MUST_CHECK int vae_plan_decode(const VaeConfig *c, DType act, const VaeTiling *tiling, int64_t L, int64_t h,
                                    int64_t w, int64_t *bytes, Err *err);
/* uint8 from decoded pixels as the pipeline does: clamp(0.5x+0.5,0,1)*255, round half to even. */
void pixels_to_rgb(uint8_t *rgb, const float *pixels, int64_t n);
#endif
