/* The CogVideoX transformer (diffusers CogVideoXTransformer3DModel, 2B family): forward, backward,
 * recomputation.
 * The maths with its pitfalls is in MODEL.md.
 *
 * Latents are [B,F,h,w,C] channels-last here; diffusers has [B,F,C,h,w]: convert with
 * latents_from_torch / latents_to_torch (latents.h).  Text is [B,S,text_dim] with exactly
 * max_text_seq_length rows. */
#ifndef WEFT_COMMON_MODEL_DIT_H
#define WEFT_COMMON_MODEL_DIT_H
#include <jansson.h>
#include "common/model/params.h"
#include "common/ops/arena.h"

typedef struct DitConfig {
    int64_t heads, head_dim, layers, in_channels, out_channels, patch, time_dim, text_dim, text_len;
    int64_t sample_width, sample_height, sample_frames, temporal_ratio; /* latent units for width and height */
    double spatial_scale, temporal_scale, norm_eps;
    int flip_sin_to_cos;
    double freq_shift;
} DitConfig;

typedef struct Dit Dit;

/* Reads and checks transformer/config.json's values; refuses variants not covered (rotary,
 * patch_size_t, learned positions). */
WEFT_MUST_CHECK int dit_config_parse(DitConfig *out, const json_t *json, const char *where, Err *err);
/* The config as diffusers writes it ("_class_name", ...). New reference. */
json_t *dit_config_json(const DitConfig *c, Err *err);

/* How a model is opened; the last two, added to DIT_TRAIN, keep one of its flat arenas as BF16. */
typedef enum DitLoad {
    DIT_MAPPED = 0,     /* inference */
    DIT_TRAIN = 1,      /* flat fp32 values and gradients */
    DIT_BF16_GRADS = 2, /* half the gradients' memory; each addition to them rounds */
    DIT_BF16_VALUES = 4 /* no fp32 masters: op_adamw rounds stochastically */
} DitLoad;
/* FOLDER holds config.json and diffusion_pytorch_model.safetensors (or an index). On the plan back
 * end no weight is read. */
WEFT_MUST_CHECK int dit_open(Dit **out, Backend *be, const char *folder, DitLoad how, Err *err);
/* Whether the folder's weights have the names, shapes and types that the config asks for.  Reads
 * headers only, so that a run can check before its first second of work. */
WEFT_MUST_CHECK int dit_check_weights(const DitConfig *c, const char *folder, const Log *log, Err *err);
/* A model of this config with filler weights (params_fill) in flat arenas, with gradients when
 * `how` has DIT_TRAIN. */
WEFT_MUST_CHECK int dit_new_filled(Dit **out, Backend *be, const DitConfig *c, int how, Err *err);
void dit_close(Dit **d);
const DitConfig *dit_config(const Dit *d);
ParamSet *dit_params(Dit *d);
/* The parameters that training updates: what gradients, moments, norms and checkpoints are of. */
ParamSet *dit_trainable(Dit *d);
/* FOLDER/config.json + diffusion_pytorch_model.safetensors, as diffusers names them; atomic each. */
WEFT_MUST_CHECK int dit_save(Dit *d, const char *folder, DType dtype, Err *err);

/* v [B,F,h,w,C] = model(latents, text, t).  timestep: host array of B.  Everything else comes from
 * `work`, but for the position codes (F32, as large as two bf16 token streams): made in the first
 * call of a size and kept by the model, or before it by dit_prepare. */
WEFT_MUST_CHECK int dit_prepare(Dit *d, int64_t F, int64_t h, int64_t w, Err *err);
WEFT_MUST_CHECK int dit_forward(Dit *d, Arena *work, const Tensor *v, const Tensor *latents, const Tensor *text,
                                const int64_t *timestep, Err *err);

/* For inference that may lose precision: what blocks [first, last) add to the tokens is kept from one pass
 * and added in later ones, instead of running these blocks. */
typedef struct DitReuse {
    int64_t first, last;
    Tensor kept; /* [B,S,D], the activations' type, S = text_len + F (h/patch) (w/patch) */
    int use;     /* 0: run the blocks and write `kept`; 1: add it */
} DitReuse;
/* For the dit_forward calls from here on; borrowed.  NULL: all blocks are run, as at first. */
void dit_set_reuse(Dit *d, const DitReuse *r);

/* Training: what forward keeps for backward.  Gradients are bit-identical under all policies. */
typedef enum Recompute {
    RECOMPUTE_NONE,
    RECOMPUTE_BLOCK,
    RECOMPUTE_BLOCK_ATTENTION /* keep attention output and log-sum-exp */
} Recompute;
typedef struct DitTape DitTape;
/* Forward that records on a new tape inside `work` (which must stay unreset until backward is
 * done). */
WEFT_MUST_CHECK int dit_forward_train(Dit *d, Arena *work, DitTape **tape, Recompute policy, const Tensor *v,
                                      const Tensor *latents, const Tensor *text, const int64_t *timestep, Err *err);
/* Adds every parameter's gradient, last block first; after each block `on_block(user,
 * first_param_name_prefix)` may start its reduction (NULL: none).  Frees *tape. */
WEFT_MUST_CHECK int dit_backward(Dit *d, Arena *work, DitTape **tape, const Tensor *grad_v,
                                 void (*on_block)(void *user, int64_t block), void *user, Err *err);
void dit_tape_free(DitTape **tape);
/* Between the two: 1 and the first block whose input is not finite (all layers: the last one's output),
 * or 0. */
WEFT_MUST_CHECK int dit_find_nonfinite(const Dit *d, const DitTape *tape, int64_t *block, Err *err);

/* The fp32 time vector [dim] (MODEL.md 3.1) and position table [F*rows*cols, D] (MODEL.md 3.2), host
 * arrays; tests use them too. */
void dit_time_vector(const DitConfig *c, int64_t t, float *out);
void dit_position_table(const DitConfig *c, int64_t frames, int64_t rows, int64_t cols, float *out);
#endif
