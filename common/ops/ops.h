/* The operations models are written over.
 *
 * Each op_x checks shapes and types once, for all back ends (ERR_USAGE naming the op and the
 * shapes), and calls the back end's entry.  All tensors live on the back end's memory and are
 * contiguous.  Layouts are channels-last: activations [T,H,W,C], tokens [B,S,D].  Activations (x,
 * y, gradients of activations) have type be->act, or in the elementwise ops, the linear layer,
 * posterior, diffuse and mse all F32 (small vectors kept exact on a bf16 back end); weights may be
 * F32, F16, BF16;
 * parameter gradients F32 or BF16; optimiser state, statistics and modulation vectors are F32.
 * Half storage accumulates in fp32: what is added to a BF16 gradient is summed in fp32 first and
 * rounded (to nearest) once, with what was there.
 * "y may be x" is said where in-place use is allowed; nowhere else may an output overlap an input.
 * Gradients of parameters and of modulation are always *added to* (zero them with op_fill);
 * gradients of activations are written, or added when `add` is 1. */
#ifndef WEFT_COMMON_OPS_OPS_H
#define WEFT_COMMON_OPS_OPS_H
#include "common/ops/backend.h"

/* ---- elementwise and moves ------------------------------------------------------------------- */

/* y = value, any float type. */
WEFT_MUST_CHECK int op_fill(Backend *be, const Tensor *y, float value, Err *err);
/* y = x converted to y's type; same element count. */
WEFT_MUST_CHECK int op_copy(Backend *be, const Tensor *y, const Tensor *x, Err *err);
/* y = a + b; y may be a or b. */
WEFT_MUST_CHECK int op_add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err);
/* y = sum over i < n of coef[i] * x[i], n in 1..4, any float types, accumulated in double on ref
 * and in float left to right elsewhere; y may be any x[i].  (Guidance and the scheduler steps are
 * made of this.) */
WEFT_MUST_CHECK int op_lincomb(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x,
                               Err *err);

typedef enum ActKind { ACT_NONE, ACT_SILU, ACT_GELU_TANH, ACT_GELU_ERF, ACT_QUICK_GELU, ACT_RELU } ActKind;
/* y = act(x); y may be x.  silu x*s(x); gelu_tanh 0.5x(1+tanh(sqrt(2/pi)(x+0.044715x^3)));
 * quick_gelu x*s(1.702x); relu max(x, 0), its slope at 0 is 0. */
WEFT_MUST_CHECK int op_act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err);
/* gx = gy * act'(x); gx may be gy. */
WEFT_MUST_CHECK int op_act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind,
                                    Err *err);
/* y = act(a) * b (T5's gated GELU); y may be a or b. */
WEFT_MUST_CHECK int op_act_gate(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, ActKind kind, Err *err);

/* y[n,D] = table[ids[i], :]; ids I32 [n] on the back end, each within the table (checked:
 * ERR_FORMAT). */
WEFT_MUST_CHECK int op_embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err);
/* Rows of a token sequence: y[B, y0+i, D] = x[B, x0+i, D] for i < n (concatenate and split text and
 * video). */
WEFT_MUST_CHECK int op_copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n,
                                 Err *err);
/* x[B, first+i, D] += table[i, D] (position codes; table F32). In place. */
WEFT_MUST_CHECK int op_add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err);
/* tokens [B, F*(H/p)*(W/p), C*p*p] <- latents [B,F,H,W,C]; feature = c*p*p + py*p + px; token order
 * frame, row, column.
 * unpatchify is the inverse; each is also the other's backward. */
WEFT_MUST_CHECK int op_patchify(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err);
WEFT_MUST_CHECK int op_unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err);
/* Box copy between [T,H,W,C] tensors: dst[d0.., d1.., d2.., d3..] = src[s0.., ...] over extent
 * n[4], types converted. */
WEFT_MUST_CHECK int op_copy_box(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src,
                                const int64_t s[4], const int64_t n[4], Err *err);
/* Tile seam (MODEL.md 2): along axis 1 (H) or 2 (W) of [T,H,W,C], for i < extent:
 * cur[i] = prev[Np - extent + i]*(1 - i/extent) + cur[i]*(i/extent).  cur in place. */
WEFT_MUST_CHECK int op_blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err);

/* ---- products -------------------------------------------------------------------------------- */

/* y[M,N] = x[M,K] w[N,K]^T + b[N]; b may be NULL.  Leading axes of x and y are folded into M. */
WEFT_MUST_CHECK int op_linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                              Err *err);
/* gx[M,K] = gy[M,N] w[N,K]  (+ gx when add). */
WEFT_MUST_CHECK int op_linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add,
                                         Err *err);
/* gw[N,K] += gy^T x; gb[N] += column sums of gy.  gb may be NULL; gw may be NULL. */
WEFT_MUST_CHECK int op_linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy,
                                         const Tensor *x, Err *err);

/* Attention over [B,S,heads*hd] (heads slower than hd): o = softmax(scale * q k^T + bias, causal)
 * v.
 * bias [heads,Sq,Sk] F32 or NULL.  causal: key j allowed iff j <= query i.  lse [B,heads,Sq] F32
 * receives the log-sum-exp of the scaled, biased scores; may be NULL when no backward follows.
 * Never materialises Sq x Sk (except ref). */
typedef struct AttnParams {
    int64_t heads;
    double scale;
    const Tensor *bias;
    int causal;
} AttnParams;
WEFT_MUST_CHECK int op_attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k,
                                 const Tensor *v, const AttnParams *p, Err *err);
/* Gradients from go; bias must be NULL and causal 0 (ERR_UNSUPPORTED otherwise). */
WEFT_MUST_CHECK int op_attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv,
                                          const Tensor *go, const Tensor *q, const Tensor *k, const Tensor *v,
                                          const Tensor *o, const Tensor *lse, const AttnParams *p, Err *err);

/* ---- norms ----------------------------------------------------------------------------------- */

/* Modulation of token rows: mod [B, n*D] F32, chunks of D in the order shift_v, scale_v, gate_v,
 * shift_e, scale_e, gate_e (n = 6), or shift_v, scale_v (n = 2, text_rows must be 0).  Rows <
 * text_rows of each sequence are text (chunks 3-5), the rest video (0-2).  NULL pointer to
 * Modulation: no modulation. */
typedef struct Modulation {
    const Tensor *mod;
    int64_t text_rows;
} Modulation;

/* y = (LN(x)*w + b)*(1 + scale) + shift over the last axis D of x [.., D] (with m: x is [B,S,D]);
 * biased variance; w, b may be NULL; y may be x. */
WEFT_MUST_CHECK int op_layernorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                                 double eps, const Modulation *m, Err *err);
/* Statistics are recomputed from x.  gx written or added; gw, gb [D] and gm ([B,n*D], the shift and
 * scale chunks) added to;
 * each may be NULL (gw and gb only together; gm NULL iff m NULL). */
WEFT_MUST_CHECK int op_layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb,
                                          const Tensor *gm, const Tensor *gy, const Tensor *x, const Tensor *w,
                                          const Tensor *b, double eps, const Modulation *m, int add, Err *err);
/* x[B,S,D] += gate * y (gate: chunk 2 for video rows, 5 for text rows). */
WEFT_MUST_CHECK int op_gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err);
/* gy = gate * gx; gm's gate chunks += sum over rows of gx * y.  (The gradient of x is gx itself.)
 * gm may be NULL. */
WEFT_MUST_CHECK int op_gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx,
                                         const Tensor *y, const Modulation *m, Err *err);
/* y = w * x / sqrt(mean(x^2) + eps) over the last axis; y may be x. (T5) */
WEFT_MUST_CHECK int op_rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err);

/* GroupNorm over one chunk x [T,H,W,C]: mean and biased variance over (C/groups channels x T x H x
 * W), then w, b [C], then the spatial condition if any, then act (ACT_NONE or ACT_SILU).  y may be
 * x.
 * Condition (the decoder's SpatialNorm): y = GN(x)*scale[z] + shift[z] with scale, shift [Tz,h,w,C]
 * at latent resolution and z the nearest index: rows i*h/H, columns j*w/W; time: T > 1 and odd:
 * frame 0 -> 0, t -> 1 + (t-1)(Tz-1)/(T-1); else t*Tz/T. */
typedef struct SpatialCond {
    const Tensor *scale, *shift;
} SpatialCond;
WEFT_MUST_CHECK int op_groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                                 int64_t groups, double eps, const SpatialCond *cond, ActKind act, Err *err);

/* ---- convolution and resampling -------------------------------------------------------------- */

/* y[To,Ho,Wo,Co] = conv(prefix ++ x [T,H,W,Ci]) with w [Co,kt,kh,kw,Ci] (channels-last order, see
 * op_conv_pack), b [Co].
 * Time: stride 1, no padding; prefix holds kt-1 frames [kt-1,H,W,Ci], NULL: the first frame of x
 * repeated; so To = T.
 * Space: stride, zero padding top/bottom/left/right; Ho = (H+top+bottom-kh)/stride+1.
 * `add`: y += instead of y = (the residual connection). */
typedef struct ConvParams {
    int64_t stride, top, bottom, left, right;
    int add;
} ConvParams;
WEFT_MUST_CHECK int op_conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w,
                            const Tensor *b, const ConvParams *p, Err *err);
/* Host only: dst [Co,kt,kh,kw,Ci] <- src [Co,Ci,kt,kh,kw] (same dtype). */
void op_conv_pack(const Tensor *dst, const Tensor *src);
/* Nearest x2 in space; in time when double_time: T even: every frame twice; T odd > 1: frame 0
 * once, others twice; T = 1 kept.
 * y [T',2H,2W,C]. */
WEFT_MUST_CHECK int op_upsample(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err);
/* Mean of frame pairs: T even: (0,1),(2,3)..; T odd: frame 0 kept, (1,2),(3,4)... y [T',H,W,C]. */
WEFT_MUST_CHECK int op_pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err);

/* y[To,Ho,Wo,C]: the largest value, or the mean, of each window of x [T,H,W,C].  Three axes (time, row,
 * column): window i begins at i*stride - before; To = (T + before + after - kernel)/stride + 1.  What lies
 * outside x is not there: the mean is over the values inside, of which every window has one
 * (0 <= before, after < kernel). */
typedef enum PoolKind { POOL_MAX, POOL_MEAN } PoolKind;
typedef struct PoolParams {
    PoolKind kind;
    int64_t kernel[3], stride[3], before[3], after[3];
} PoolParams;
WEFT_MUST_CHECK int op_pool(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err);

/* ---- diffusion, loss, optimiser -------------------------------------------------------------- */

/* z = (mean + exp(clamp(logvar,-30,20)/2) * eps) * scale; moments [..,2C] mean first, eps and z
 * [..,C]; eps NULL: the mode. */
WEFT_MUST_CHECK int op_posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale,
                                 Err *err);
/* Per sample b (first axis): xt = a[b]*x0 + s[b]*eps; v = a[b]*eps - s[b]*x0.  a, s host arrays of
 * B. */
WEFT_MUST_CHECK int op_diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps,
                               const double *a, const double *s, Err *err);
/* *loss (host) = mean (u-v)^2; gu = weight * 2(u-v)/count (gu may be NULL). u may be gu. */
WEFT_MUST_CHECK int op_mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight,
                           Err *err);
/* *sum (host) = sum of squares of g (F32 or BF16), fixed order. */
WEFT_MUST_CHECK int op_sum_squares(Backend *be, double *sum, const Tensor *g, Err *err);

typedef struct AdamParams {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;      /* from 1 */
    double grad_scale; /* g is multiplied by it first (the clip factor) */
    uint64_t seed;     /* of the noise where p is BF16 */
    int64_t first;     /* number of element 0 among all parameters: pieces of an array get the bits of the whole */
} AdamParams;
/* AdamW over flat arrays, MODEL.md 4, in fp32.  m and v F32; g F32 or BF16; p F32, or BF16:
 * then rounded stochastically (rounding.h) with noise from (seed, step, first + i).  copy, BF16,
 * receives p rounded to nearest: what products read beside F32 masters; NULL where there is none,
 * and where p is BF16. */
WEFT_MUST_CHECK int op_adamw(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                             const Tensor *v, const AdamParams *a, Err *err);

typedef struct SgdParams {
    double lr, momentum, weight_decay, grad_scale; /* g is multiplied by grad_scale first */
    int64_t step;                                  /* from 1 */
    uint64_t seed;                                 /* as in AdamParams */
    int64_t first;
} SgdParams;
/* torch.optim.SGD (dampening 0, no Nesterov) over flat arrays: d = g + weight_decay p;
 * m <- momentum m + d; p <- p - lr m.  Without m (NULL): p <- p - lr d.  Types and copy as op_adamw. */
WEFT_MUST_CHECK int op_sgd(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                           const SgdParams *a, Err *err);

/* Block-wise dynamic quantisation (blockwise.h): x[n] F32 -> codes[n] U8 and scale[ceil(n/256)] F32,
 * the largest magnitude of each 256 elements; and y = the code's value times its block's scale.
 * is_signed 0: x is never negative, and codes are twice as fine. */
WEFT_MUST_CHECK int op_quantize(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed,
                                Err *err);
WEFT_MUST_CHECK int op_dequantize(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed,
                                  Err *err);
#endif
