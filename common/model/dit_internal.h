/* Shared by the files of the transformer: dit_config.c (config, tables), dit.c (parameters),
 * dit_forward.c, dit_backward.c. */
#ifndef WEFT_COMMON_MODEL_DIT_INTERNAL_H
#define WEFT_COMMON_MODEL_DIT_INTERNAL_H
#include <math.h>
#include "common/model/dit.h"
#include "common/ops/ops.h"

#define TRY(call)         \
    do {                  \
        int rc_ = (call); \
        if (rc_ < 0)      \
            return rc_;   \
    } while (0)

#define DIT_QK_EPS 1e-6 /* LayerNorm of queries and keys: fixed in diffusers, not in the config */

typedef struct Affine {
    Param *w, *b;
    /* NULL, or a Linear's adapter (dit_lora.h): A [rank,in], and B transposed, [rank,out], so that the
     * product which adds to an input's gradient adds B (A x) to y as well */
    Param *lora_a, *lora_bt;
} Affine; /* a Linear or a LayerNorm */

typedef struct DitBlock {
    Affine mod1, norm1, norm_q, norm_k, to_q, to_k, to_v, to_out, mod2, norm2, ff1, ff2;
} DitBlock;
enum { DIT_BLOCK_AFFINES = sizeof(DitBlock) / sizeof(Affine) };

struct Dit {
    Backend *be;
    DitConfig c;
    ParamSet params;
    ParamSet adapters; /* empty without LoRA; with it `params` have no gradients */
    double lora_scale; /* of B (A x) */
    void *merged;      /* weights that adapters were merged into, on the back end; or NULL */
    Affine patch, text, time1, time2, norm_final, norm_out, mod_out, proj_out;
    DitBlock *block;       /* [layers] */
    const DitReuse *reuse; /* NULL: none */
    float *host;
    int64_t host_n;      /* staging for values computed on the host: time vectors, position codes */
    Tensor codes;        /* position codes on the back end, of the size codes_of; data NULL: none yet */
    int64_t codes_of[3]; /* frames, rows, columns */
};

/* Sizes of one call. */
typedef struct DitShape {
    int64_t B, F, rows, cols, Nv /* video tokens */, S /* text + video tokens */, D;
} DitShape;

/* The time path: vec [B,D] -> linear -> l1 -> silu -> s1 -> linear -> emb -> silu -> semb [B,Te]. */
typedef struct DitTime {
    Tensor vec, l1, s1, emb, semb;
} DitTime;

/* Everything a block computes, in order; tensors of width D unless noted.  Backward wants each in a
 * place of its own; a plain forward lets them share (dit_block_lean). */
typedef struct DitBlockSave {
    Tensor x_in;
    Tensor mod1 /* [B,6D] */, h1, q_raw, k_raw, q, k, v, o, lse /* [B,heads,S] */, y1, x_mid;
    Tensor mod2, h2, f /* [B,S,4D] */, g /* [B,S,4D] */, y2;
    int have_attention; /* o and lse hold the result already */
} DitBlockSave;

/* The head: rows of video tokens, after norm_final, shift and scale, after norm_out.  Kept for
 * backward; one place for inference. */
typedef struct DitHead {
    Tensor x_video, n_final, mod_out /* [B,2D] */, n_out;
} DitHead;

struct DitTape {
    Recompute policy;
    DitShape shape;
    Tensor latents, text; /* the caller's */
    DitTime time;
    DitBlockSave *block; /* [layers]; what the policy does not keep has data NULL */
    DitHead head;
};

/* The position table of one frame, [rows*cols, D]. */
void dit_position_frame(const DitConfig *c, int64_t frame, int64_t rows, int64_t cols, float *out);
WEFT_MUST_CHECK int dit_shape(const Dit *d, const Tensor *v, const Tensor *latents, const Tensor *text,
                              const int64_t *timestep, DitShape *out, Err *err);
/* s->x_in, and x_mid where the caller wants it elsewhere, are set; with own = 1 the rest gets
 * places of its own from `work` (except o and lse when they are set already), with own = 0 places
 * that are reused as soon as they may be (forward only). */
WEFT_MUST_CHECK int dit_block_take(const Dit *d, Arena *work, const DitShape *z, DitBlockSave *s, int own, Err *err);
/* Block i without its last residual add: s->y2 is the feed-forward's output, x_out = x_mid +
 * gate*y2 is left to the caller. */
WEFT_MUST_CHECK int dit_block_forward(const Dit *d, Arena *work, int64_t i, const Tensor *semb, DitBlockSave *s,
                                      Err *err);

/* dit.c: the table of parameters without values; and, after the adapters' table was finished, each
 * linear layer's adapter. */
WEFT_MUST_CHECK int dit_table(Dit **out, Backend *be, const DitConfig *c, Err *err);
WEFT_MUST_CHECK int dit_bind_adapters(Dit *d, Err *err);

/* dit_linear.c: a linear layer with its adapter, and whether anything of a layer is trained.  In the
 * backward pass gx may be NULL: then only gradients of trained parameters are computed. */
WEFT_MUST_CHECK int dit_linear(const Dit *d, Arena *work, const Tensor *y, const Tensor *x, const Affine *a, Err *err);
WEFT_MUST_CHECK int dit_linear_backward(const Dit *d, Arena *work, const Tensor *gx, const Tensor *gy, const Tensor *x,
                                        const Affine *a, int add, Err *err);
int dit_trains(const Affine *a, int n);

/* tokens [B,S,D] as [B,S,heads,head_dim]: where queries and keys are normalised. */
static inline Tensor dit_heads(const Dit *d, const Tensor *t)
{
    return tensor_as(t, 4, t->dim[0], t->dim[1], d->c.heads, d->c.head_dim);
}
static inline AttnParams dit_attention_params(const Dit *d)
{
    return (AttnParams){d->c.heads, 1.0 / sqrt((double)d->c.head_dim), NULL, 0};
}
#endif
