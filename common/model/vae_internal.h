/* Shared by vae.c (config, weights), vae_pass.c (one chunk through a network) and vae_run.c
 * (chunks, tiles, host memory). */
#ifndef WEFT_COMMON_MODEL_VAE_INTERNAL_H
#define WEFT_COMMON_MODEL_VAE_INTERNAL_H
#include "common/model/vae.h"
#include "common/ops/ops.h"

enum { VAE_BLOCKS_MAX = 8, VAE_LAYERS_MAX = 16, VAE_PIXEL_CHUNK = 8, VAE_LATENT_CHUNK = 2 };

/* A causal 3x3x3 convolution.  cache: the last two frames of its padded input; memory of the
 * running tile. */
typedef struct VaeConv {
    const Param *w, *b;
    Tensor cache;
} VaeConv;

/* GroupNorm; in the decoder conditioned on the latent: scale = conv_y(z), shift = conv_b(z). NULL
 * members: plain. */
typedef struct VaeNorm {
    const Param *w, *b, *scale_w, *scale_b, *shift_w, *shift_b;
    double eps;
} VaeNorm;

typedef struct VaeRes {
    VaeNorm norm1, norm2;
    VaeConv conv1, conv2;
    const Param *shortcut_w, *shortcut_b; /* NULL: the identity */
    int64_t ci, co;
} VaeRes;

typedef struct VaeStage { /* residual blocks, then the change of resolution, if any */
    VaeRes res[VAE_LAYERS_MAX + 1];
    int64_t n_res;
    const Param *resample_w, *resample_b; /* 2-D convolution, or NULL */
    int time;                             /* time is halved (doubled) too */
} VaeStage;

typedef struct VaeNet {
    int decoder;
    int64_t in_channels, out_channels, first_channels; /* first_channels: what conv_in gives */
    VaeConv conv_in, conv_out;
    VaeStage stage[VAE_BLOCKS_MAX + 1]; /* in the order of execution */
    int64_t n_stages;
    VaeNorm norm_out;
} VaeNet;

struct Vae {
    VaeConfig c;
    Backend *be;
    ParamSet ps;
    int whole_clip;
    VaeNet enc, dec;
    float *staging; /* host: a chunk's pixels or latents, kept for the next clip */
    int64_t staging_room;
};

/* vae.c */
int64_t vae_scale(const VaeConfig *c); /* pixels a latent along an edge: 8 */

/* vae_pass.c, which vae_run.c uses */
int64_t vae_stage_frames(const VaeStage *s, int decoder, int64_t T); /* frames after the stage */
int64_t vae_net_frames(const VaeNet *n, int64_t T);                  /* frames after the network */
/* Memory of the causal caches for inputs of H x W, from `work`. */
WEFT_MUST_CHECK int vae_caches_take(Vae *v, VaeNet *net, Arena *work, int64_t H, int64_t W, Err *err);
/* out <- in, one chunk.  first: the caches are still empty; last: they need not be filled any more. */
WEFT_MUST_CHECK int vae_pass(Vae *v, VaeNet *net, Arena *work, const Tensor *out, const Tensor *in, int first, int last,
                             Err *err);
#endif
