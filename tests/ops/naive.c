#include "tests/ops/naive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/ops/ref/ref.h"

static OpsTable exact;  /* ref's: what moves and converts values has nothing to round in between */
static NaiveRan *watch; /* receives the entries that run; may be NULL */

static int ran(const char *name)
{
    int i = 0;
    while (watch && i < NAIVE_OPS - 1 && watch->op[i] && watch->op[i] != name)
        i++;
    if (watch)
        watch->op[i] = name;
    return watch && watch->names_only;
}
/* Every version is a function of its entry's name. */
#define RAN()              \
    do {                   \
        if (ran(__func__)) \
            return 0;      \
    } while (0)

static double b(double value)
{
    return bfloat_to_float(float_to_bfloat((float)value));
}

static double *grab(int64_t n)
{
    double *p = calloc((size_t)(n > 0 ? n : 1), sizeof *p);
    if (!p)
        abort();
    return p;
}

/* The values of a tensor, to be freed; NULL for NULL. */
static double *values(const Tensor *t)
{
    if (!t)
        return NULL;
    int64_t n = tensor_count(t);
    double *p = grab(n);
    for (int64_t i = 0; i < n; i++)
        p[i] = ref_get(t, i);
    return p;
}

static void free_all(double *const *p, int n)
{
    for (int i = 0; i < n; i++)
        free(p[i]);
}
#define FREE(...) free_all((double *const[]){__VA_ARGS__}, (int)(sizeof((double *[]){__VA_ARGS__}) / sizeof(double *)))

/* What a gradient of parameters does: rounded where it was made, then added to the float32 sum. */
static void accumulate(const Tensor *t, int64_t i, double gradient)
{
    if (t)
        ref_add_to(t, i, b(gradient));
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static int fill(Backend *be, const Tensor *y, float value, Err *err)
{
    RAN();
    return exact.fill(be, y, value, err);
}

static int copy(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    RAN();
    return exact.copy(be, y, x, err);
}

/* One step: add, silu, both gelus and their derivatives are single kernels in the frameworks: one
 * rounding, which the store does. */
static int add(Backend *be, const Tensor *y, const Tensor *x, const Tensor *z, Err *err)
{
    RAN();
    return exact.add(be, y, x, z, err);
}

/* A product and a sum a term. */
static int lincomb(Backend *be, const Tensor *y, int n, const double *coef, const Tensor *const *x, Err *err)
{
    RAN();
    (void)be, (void)err;
    for (int64_t i = 0, count = tensor_count(y); i < count; i++) {
        double sum = b(coef[0] * ref_get(x[0], i));
        for (int k = 1; k < n; k++)
            sum = b(sum + b(coef[k] * ref_get(x[k], i)));
        ref_set(y, i, sum);
    }
    return 0;
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* The frameworks' formulas in float32: far left of zero they give 0 where the exact value is tiny.
 * x * sigmoid(1.702 x) is written with three operations where it is used; the others are one. */
static double act_of(ActKind kind, double value)
{
    float x = (float)value;
    switch (kind) {
    case ACT_SILU: return b(x * sigmoid(x));
    case ACT_GELU_TANH: return b(0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x))));
    case ACT_GELU_ERF: return b(0.5f * x * (1 + erff(x * 0.70710678f)));
    case ACT_QUICK_GELU: return b(x * b(sigmoid((float)b(1.702 * x))));
    case ACT_RELU: return x > 0 ? value : 0;
    case ACT_NONE: break;
    }
    return value;
}

static double slope_times(ActKind kind, double g, double value)
{
    float x = (float)value, s = sigmoid(x), t, q;
    switch (kind) {
    case ACT_SILU: return b(g * (s * (1 + x * (1 - s))));
    case ACT_GELU_TANH:
        t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
        return b(g * (0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 0.134145f * x * x)));
    case ACT_GELU_ERF: return b(g * (0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x)));
    case ACT_QUICK_GELU:
        q = (float)b(sigmoid((float)b(1.702 * x)));
        return b(b(g * q) + b(1.702 * b(b(g * x) * q * (1 - q))));
    case ACT_RELU: return x > 0 ? g : 0;
    case ACT_NONE: break;
    }
    return g;
}

static int act(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    RAN();
    (void)be, (void)err;
    for (int64_t i = 0, n = tensor_count(y); i < n; i++)
        ref_set(y, i, act_of(kind, ref_get(x, i)));
    return 0;
}

static int act_backward(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *x, ActKind kind, Err *err)
{
    RAN();
    (void)be, (void)err;
    for (int64_t i = 0, n = tensor_count(gx); i < n; i++)
        ref_set(gx, i, slope_times(kind, ref_get(gy, i), ref_get(x, i)));
    return 0;
}

static int act_gate(Backend *be, const Tensor *y, const Tensor *x, const Tensor *gate, ActKind kind, Err *err)
{
    RAN();
    (void)be, (void)err;
    for (int64_t i = 0, n = tensor_count(y); i < n; i++)
        ref_set(y, i, b(act_of(kind, ref_get(x, i)) * ref_get(gate, i)));
    return 0;
}

/* ---- moves ----------------------------------------------------------------------------------- */

static int embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    RAN();
    return exact.embed(be, y, table, ids, err);
}

static int copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    RAN();
    return exact.copy_rows(be, y, y0, x, x0, n, err);
}

/* The table is held in bf16. */
static int add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t S = x->dim[1], D = x->dim[2], n = tensor_count(table);
    for (int64_t s = 0; s < x->dim[0]; s++)
        for (int64_t i = 0; i < n; i++) {
            int64_t at = (s * S + first) * D + i;
            ref_set(x, at, b(ref_get(x, at) + b(ref_get(table, i))));
        }
    return 0;
}

static int patchify(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err)
{
    RAN();
    return exact.patchify(be, tokens, latents, p, err);
}

static int unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    RAN();
    return exact.unpatchify(be, latents, tokens, p, err);
}

static int copy_box(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                    const int64_t n[4], Err *err)
{
    RAN();
    return exact.copy_box(be, dst, d, src, s, n, err);
}

/* Two products and a sum. */
static int blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t outer = 1, inner = 1, cur_n = cur->dim[axis], prev_n = prev->dim[axis];
    for (int i = 0; i < 4; i++)
        *(i < axis ? &outer : &inner) *= i == axis ? 1 : cur->dim[i];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t e = 0; e < extent; e++)
            for (int64_t k = 0; k < inner; k++) {
                int64_t at = (o * cur_n + e) * inner + k;
                double share = (double)e / (double)extent,
                       before = ref_get(prev, (o * prev_n + prev_n - extent + e) * inner + k);
                ref_set(cur, at, b(b(before * (1 - share)) + b(ref_get(cur, at) * share)));
            }
    return 0;
}

/* ---- products: sums in float32 or better, rounded once; the bias, held as the weights are, joins the sum ---- */

static int linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *bias, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t K = w->dim[1], N = w->dim[0], M = tensor_count(x) / K;
    double *vx = values(x), *vw = values(w), *vb = values(bias);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = !bias ? 0 : w->dtype == DT_BF16 ? b(vb[j]) : vb[j];
            for (int64_t k = 0; k < K; k++)
                sum += vx[i * K + k] * vw[j * K + k];
            ref_set(y, i * N + j, b(sum));
        }
    FREE(vx, vw, vb);
    return 0;
}

/* Gradients that meet are added once rounded. */
static int linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add_to, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t K = w->dim[1], N = w->dim[0], M = tensor_count(gx) / K;
    double *vg = values(gy), *vw = values(w), *sum = grab(K);
    for (int64_t i = 0; i < M; i++) {
        memset(sum, 0, (size_t)K * sizeof *sum);
        for (int64_t j = 0; j < N; j++)
            for (int64_t k = 0; k < K; k++)
                sum[k] += vg[i * N + j] * vw[j * K + k];
        for (int64_t k = 0; k < K; k++)
            ref_set(gx, i * K + k, add_to ? b(ref_get(gx, i * K + k) + b(sum[k])) : b(sum[k]));
    }
    FREE(vg, vw, sum);
    return 0;
}

static int linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x,
                             Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t N = gy->dim[gy->rank - 1], K = x->dim[x->rank - 1], M = tensor_count(gy) / N;
    double *vg = values(gy), *vx = values(x), *sum = grab(K);
    for (int64_t j = 0; j < N; j++) {
        double total = 0;
        memset(sum, 0, (size_t)K * sizeof *sum);
        for (int64_t i = 0; i < M; i++) {
            total += vg[i * N + j];
            for (int64_t k = 0; gw && k < K; k++)
                sum[k] += vg[i * N + j] * vx[i * K + k];
        }
        accumulate(gb, j, total);
        for (int64_t k = 0; gw && k < K; k++)
            accumulate(gw, j * K + k, sum[k]);
    }
    FREE(vg, vx, sum);
    return 0;
}

/* ---- attention: a matrix of scores, one of probabilities, every product rounded; softmax inside in float32 ---- */

typedef struct Heads {
    int64_t B, Sq, Sk, heads, hd, D;
    double scale;
} Heads;

static Heads heads_of(const Tensor *q, const Tensor *k, const AttnParams *p)
{
    return (Heads){q->dim[0], q->dim[1], k->dim[1], p->heads, q->dim[2] / p->heads, q->dim[2], p->scale};
}

static double dot(const double *x, const double *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return b(sum);
}

static int attention(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k, const Tensor *v,
                     const AttnParams *p, Err *err)
{
    RAN();
    (void)be, (void)err;
    const Heads n = heads_of(q, k, p);
    double *vq = values(q), *vk = values(k), *vv = values(v), *score = grab(n.Sk), *out = grab(n.hd);
    for (int64_t at = 0; at < n.B * n.heads * n.Sq; at++) { /* element of lse: batch, head, query */
        int64_t i = at % n.Sq, h = at / n.Sq % n.heads, batch = at / n.Sq / n.heads,
                qi = (batch * n.Sq + i) * n.D + h * n.hd;
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < n.Sk; j++) {
            double s = b(n.scale * dot(vq + qi, vk + (batch * n.Sk + j) * n.D + h * n.hd, n.hd));
            if (p->bias)
                s = b(s + ref_get(p->bias, (h * n.Sq + i) * n.Sk + j));
            score[j] = p->causal && j > i ? -INFINITY : s;
            top = fmax(top, score[j]);
        }
        for (int64_t j = 0; j < n.Sk; j++)
            total += exp(score[j] - top);
        memset(out, 0, (size_t)n.hd * sizeof *out);
        for (int64_t j = 0; j < n.Sk; j++) {
            double weight = b(exp(score[j] - top) / total);
            for (int64_t d = 0; d < n.hd; d++)
                out[d] += weight * vv[(batch * n.Sk + j) * n.D + h * n.hd + d];
        }
        for (int64_t d = 0; d < n.hd; d++)
            ref_set(o, qi + d, b(out[d]));
        if (lse)
            ref_set(lse, at, top + log(total));
    }
    FREE(vq, vk, vv, score, out);
    return 0;
}

/* P, dP and the gradient of the scores are matrices in bf16; the softmax's derivative is one
 * kernel. */
static int attention_backward(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                              const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                              const AttnParams *p, Err *err)
{
    RAN();
    (void)be, (void)err;
    const Heads n = heads_of(q, k, p);
    double *vq = values(q), *vk = values(k), *vv = values(v), *vo = values(o), *vg = values(go), *vl = values(lse);
    double *sq = grab(tensor_count(gq)), *sk = grab(tensor_count(gk)), *sv = grab(tensor_count(gv));
    for (int64_t at = 0; at < n.B * n.heads * n.Sq; at++) {
        int64_t i = at % n.Sq, h = at / n.Sq % n.heads, batch = at / n.Sq / n.heads,
                qi = (batch * n.Sq + i) * n.D + h * n.hd;
        double delta = 0;
        for (int64_t d = 0; d < n.hd; d++)
            delta += vg[qi + d] * vo[qi + d];
        for (int64_t j = 0; j < n.Sk; j++) {
            int64_t kj = (batch * n.Sk + j) * n.D + h * n.hd;
            double P = b(exp(b(n.scale * dot(vq + qi, vk + kj, n.hd)) - vl[at]));
            double dS = b(n.scale * b(P * (dot(vg + qi, vv + kj, n.hd) - delta)));
            for (int64_t d = 0; d < n.hd; d++) {
                sq[qi + d] += dS * vk[kj + d];
                sk[kj + d] += dS * vq[qi + d];
                sv[kj + d] += P * vg[qi + d];
            }
        }
    }
    for (int64_t i = 0; i < tensor_count(gq); i++)
        ref_set(gq, i, b(sq[i]));
    for (int64_t i = 0; i < tensor_count(gk); i++) {
        ref_set(gk, i, b(sk[i]));
        ref_set(gv, i, b(sv[i]));
    }
    FREE(vq, vk, vv, vo, vg, vl, sq, sk, sv);
    return 0;
}

/* ---- norms: statistics and the normalised value in one kernel, rounded once; what follows is a step each ---- */

typedef struct Stats {
    double mean, inv;
} Stats;

static Stats stats_of(const double *x, int64_t n, double eps)
{
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    return (Stats){mean, 1 / sqrt(variance + eps)};
}

/* Element d of the chunk (0 shift, 1 scale, 2 gate) that a row takes: its place in mod. */
static int64_t mod_at(const Modulation *m, const Tensor *x, int64_t row, int64_t d, int chunk)
{
    int64_t S = x->dim[1], D = x->dim[2];
    return row / S * m->mod->dim[1] + (chunk + (row % S < m->text_rows ? 3 : 0)) * D + d;
}

static double weight_of(const Tensor *w, int64_t d, double otherwise)
{
    return w ? ref_get(w, d) : otherwise;
}

static int layernorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *bias, double eps,
                     const Modulation *m, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t D = x->dim[x->rank - 1];
    double *vx = values(x);
    for (int64_t row = 0; row < tensor_count(x) / D; row++) {
        Stats s = stats_of(vx + row * D, D, eps);
        for (int64_t d = 0; d < D; d++) {
            double n = b((vx[row * D + d] - s.mean) * s.inv * weight_of(w, d, 1) + weight_of(bias, d, 0));
            if (m)
                n = b(b(n * b(1 + ref_get(m->mod, mod_at(m, x, row, d, 1)))) +
                      ref_get(m->mod, mod_at(m, x, row, d, 0)));
            ref_set(y, row * D + d, n);
        }
    }
    FREE(vx);
    return 0;
}

static int layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                              const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *bias, double eps,
                              const Modulation *m, int add_to, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t D = x->dim[x->rank - 1], rows = tensor_count(x) / D;
    double *vx = values(x), *vg = values(gy), *sw = grab(D), *sb = grab(D), *sm = grab(m ? tensor_count(m->mod) : 0);
    for (int64_t row = 0; row < rows; row++) {
        Stats s = stats_of(vx + row * D, D, eps);
        double mean_g = 0, mean_gn = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t d = 0; d < D; d++) {
                int64_t at = row * D + d;
                /* g: what reaches the norm's output, a tensor in bf16 */
                double n = (vx[at] - s.mean) * s.inv, g = vg[at];
                if (m && pass) {
                    double out = b(n * weight_of(w, d, 1) + weight_of(bias, d, 0));
                    sm[mod_at(m, x, row, d, 0)] += g;
                    sm[mod_at(m, x, row, d, 1)] += b(g * out);
                }
                if (m)
                    g = b(g * b(1 + ref_get(m->mod, mod_at(m, x, row, d, 1))));
                double inner = g * weight_of(w, d, 1);
                if (!pass) {
                    mean_g += inner / (double)D;
                    mean_gn += inner * n / (double)D;
                    sw[d] += g * n;
                    sb[d] += g;
                } else if (gx) {
                    double made = b(s.inv * (inner - mean_g - n * mean_gn));
                    ref_set(gx, at, add_to ? b(ref_get(gx, at) + made) : made);
                }
            }
    }
    for (int64_t d = 0; d < D; d++) {
        accumulate(gw, d, sw[d]);
        accumulate(gb, d, sb[d]);
    }
    for (int64_t i = 0; gm && i < tensor_count(gm); i++)
        accumulate(gm, i, sm[i]);
    FREE(vx, vg, sw, sb, sm);
    return 0;
}

static int gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t D = x->dim[2];
    for (int64_t i = 0, n = tensor_count(x); i < n; i++)
        ref_set(x, i, b(ref_get(x, i) + b(ref_get(m->mod, mod_at(m, x, i / D, i % D, 2)) * ref_get(y, i))));
    return 0;
}

static int gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                             const Modulation *m, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t D = gx->dim[2];
    double *sum = grab(tensor_count(m->mod));
    for (int64_t i = 0, n = tensor_count(gx); i < n; i++) {
        int64_t at = mod_at(m, gx, i / D, i % D, 2);
        double g = ref_get(gx, i);
        sum[at] += b(g * ref_get(y, i));
        ref_set(gy, i, b(ref_get(m->mod, at) * g));
    }
    for (int64_t i = 0; gm && i < tensor_count(gm); i++)
        accumulate(gm, i, sum[i]);
    FREE(sum);
    return 0;
}

/* The normalised value is rounded, then multiplied. */
static int rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t D = x->dim[x->rank - 1];
    for (int64_t row = 0; row < tensor_count(x) / D; row++) {
        double square = 0;
        for (int64_t d = 0; d < D; d++)
            square += ref_get(x, row * D + d) * ref_get(x, row * D + d) / (double)D;
        for (int64_t d = 0; d < D; d++)
            ref_set(y, row * D + d, b(ref_get(w, d) * b(ref_get(x, row * D + d) / sqrt(square + eps))));
    }
    return 0;
}

/* The norm itself, which the store rounds; then the condition's product and sum, and the
 * activation. */
static int groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *bias, int64_t groups,
                     double eps, const SpatialCond *cond, ActKind kind, Err *err)
{
    RAN();
    int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3];
    int rc = exact.groupnorm(be, y, x, w, bias, groups, eps, NULL, ACT_NONE, err);
    for (int64_t i = 0; rc == 0 && i < T * H * W * C; i++) {
        double v = ref_get(y, i);
        if (cond) { /* ops.h: the nearest pixel of the latent frame that conditions this one */
            int64_t t = i / (H * W * C), row = i / (W * C) % H, col = i / C % W, Tz = cond->scale->dim[0],
                    h = cond->scale->dim[1];
            int64_t width = cond->scale->dim[2],
                    tz = T > 1 && T % 2 ? (t ? 1 + (t - 1) * (Tz - 1) / (T - 1) : 0) : t * Tz / T;
            int64_t at = ((tz * h + row * h / H) * width + col * width / W) * C + i % C;
            v = b(b(v * ref_get(cond->scale, at)) + ref_get(cond->shift, at));
        }
        ref_set(y, i, act_of(kind, v));
    }
    return rc;
}

/* ---- convolution and resampling -------------------------------------------------------------- */

/* The product is rounded, the bias added, the residual added: ref makes the product, with a bias of
 * zeros. */
static int conv(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w,
                const Tensor *bias, const ConvParams *p, Err *err)
{
    RAN();
    int64_t n = tensor_count(y), C = y->dim[3];
    ConvParams alone = *p;
    double *before = p->add ? values(y) : NULL, *zeros = grab(C);
    Tensor none = tensor_of(zeros, DT_F32, 1, C);
    alone.add = 0;
    int rc = exact.conv(be, y, x, prefix, w, &none, &alone, err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        double v = b(ref_get(y, i) + ref_get(bias, i % C));
        ref_set(y, i, before ? b(before[i] + v) : v);
    }
    FREE(before, zeros);
    return rc;
}

static int upsample(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    RAN();
    return exact.upsample(be, y, x, double_time, err);
}

/* Average pooling is one kernel. */
static int pool_time(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    RAN();
    return exact.pool_time(be, y, x, err);
}

static int pool(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err)
{
    RAN();
    return exact.pool(be, y, x, p, err);
}

/* ---- diffusion, loss, optimiser -------------------------------------------------------------- */

static int posterior(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t C = z->dim[z->rank - 1];
    for (int64_t i = 0, n = tensor_count(z); i < n; i++) {
        int64_t at = i / C * 2 * C + i % C;
        double v = ref_get(moments, at), logvar = fmin(fmax(ref_get(moments, at + C), -30), 20);
        if (eps)
            v = b(v + b(b(exp(b(0.5 * logvar))) * ref_get(eps, i)));
        ref_set(z, i, b(v * scale));
    }
    return 0;
}

static int diffuse(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps, const double *a,
                   const double *s, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t n = tensor_count(xt), each = n / xt->dim[0];
    for (int64_t i = 0; i < n; i++) {
        double x = ref_get(x0, i), e = ref_get(eps, i), ca = a[i / each], cs = s[i / each];
        ref_set(xt, i, b(b(ca * x) + b(cs * e)));
        ref_set(v, i, b(b(ca * e) - b(cs * x)));
    }
    return 0;
}

/* Squares of differences in one kernel, rounded; their mean, rounded; the gradient in one kernel. */
static int mse(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight, Err *err)
{
    RAN();
    (void)be, (void)err;
    int64_t n = tensor_count(u);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double off = ref_get(u, i) - ref_get(v, i);
        sum += b(off * off);
        if (gu)
            ref_set(gu, i, b(weight * 2 * off / (double)n));
    }
    *loss = b(sum / (double)n);
    return 0;
}

static int sum_squares(Backend *be, double *sum, const Tensor *g, Err *err)
{
    RAN();
    int rc = exact.sum_squares(be, sum, g, err);
    *sum = b(*sum);
    return rc;
}

/* Everything held in bf16, a step each: lerp, multiply, multiply-add, square root, divide, add,
 * multiply, add the quotient. */
static int adamw(Backend *be, const Tensor *p, const Tensor *copy_of_p, const Tensor *g, const Tensor *m,
                 const Tensor *v, const AdamParams *a, Err *err)
{
    RAN();
    (void)be, (void)err;
    double rate = a->lr / (1 - pow(a->beta1, (double)a->step)), root = sqrt(1 - pow(a->beta2, (double)a->step));
    for (int64_t i = 0, n = tensor_count(p); i < n; i++) {
        double grad = b(a->grad_scale * ref_get(g, i)), first = ref_get(m, i), second = ref_get(v, i),
               value = ref_get(p, i);
        first = b(first + (1 - a->beta1) * (grad - first));
        second = b(b(a->beta2 * second) + (1 - a->beta2) * grad * grad);
        value = b(value * (1 - a->lr * a->weight_decay));
        ref_set(m, i, first);
        ref_set(v, i, second);
        value = b(value - rate * first / b(b(b(sqrt(second)) / root) + a->eps));
        ref_set(p, i, value);
        if (copy_of_p)
            ref_set(copy_of_p, i, value);
    }
    return 0;
}

/* A step each, held in bf16: add the decay, multiply-add the momentum, multiply-add the update. */
static int sgd(Backend *be, const Tensor *p, const Tensor *copy_of_p, const Tensor *g, const Tensor *m,
               const SgdParams *a, Err *err)
{
    RAN();
    (void)be, (void)err;
    for (int64_t i = 0, n = tensor_count(p); i < n; i++) {
        double value = ref_get(p, i), d = b(b(a->grad_scale * ref_get(g, i)) + a->weight_decay * value);
        if (m) {
            d = b(b(a->momentum * ref_get(m, i)) + d);
            ref_set(m, i, d);
        }
        value = b(value - a->lr * d);
        ref_set(p, i, value);
        if (copy_of_p)
            ref_set(copy_of_p, i, value);
    }
    return 0;
}

static int quantize(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed, Err *err)
{
    RAN();
    return exact.quantize(be, codes, scale, x, is_signed, err);
}

static int dequantize(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed, Err *err)
{
    RAN();
    int rc = exact.dequantize(be, y, codes, scale, is_signed, err);
    for (int64_t i = 0, n = tensor_count(y); rc == 0 && i < n; i++)
        ref_set(y, i, b(ref_get(y, i)));
    return rc;
}

Backend *naive_open(NaiveRan *into)
{
    static const OpsTable naive = {
        .fill = fill,
        .copy = copy,
        .add = add,
        .lincomb = lincomb,
        .act = act,
        .act_backward = act_backward,
        .act_gate = act_gate,
        .embed = embed,
        .copy_rows = copy_rows,
        .add_rows = add_rows,
        .patchify = patchify,
        .unpatchify = unpatchify,
        .copy_box = copy_box,
        .blend = blend,
        .linear = linear,
        .linear_backward_x = linear_backward_x,
        .linear_backward_w = linear_backward_w,
        .attention = attention,
        .attention_backward = attention_backward,
        .layernorm = layernorm,
        .layernorm_backward = layernorm_backward,
        .gate_add = gate_add,
        .gate_add_backward = gate_add_backward,
        .rmsnorm = rmsnorm,
        .groupnorm = groupnorm,
        .conv = conv,
        .upsample = upsample,
        .pool_time = pool_time,
        .pool = pool,
        .posterior = posterior,
        .diffuse = diffuse,
        .mse = mse,
        .sum_squares = sum_squares,
        .adamw = adamw,
        .sgd = sgd,
        .quantize = quantize,
        .dequantize = dequantize,
    };
    static Backend *be; /* open until exit */
    Err err = {0};
    watch = into;
    if (be)
        return be;
    ops_ref_table(&exact);
    if (backend_open(&be, "ref", 1, NULL, &err) < 0)
        return NULL;
    be->act = DT_BF16;
    be->ops = &naive;
    return be;
}

int naive_lacks(void)
{
    void (*entry[sizeof(OpsTable) / sizeof(void (*)(void))])(void);
    memcpy(entry, naive_open(watch)->ops, sizeof entry);
    for (size_t i = 0; i < sizeof entry / sizeof *entry; i++)
        if (!entry[i])
            return (int)i;
    return -1;
}
