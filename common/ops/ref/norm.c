/* Normalisation and modulation.  Statistics in two passes, in double: mean first, then the mean
 * square of the deviations. */
#include <math.h>
#include "common/base/mem.h"
#include "common/ops/ref/ref.h"

enum { SHIFT, SCALE, GATE }; /* chunks of a stream's modulation, in order; video's three come first, then the text's */

/* Where chunk `chunk` for row s of sequence b begins in the modulation of rows D wide. */
static int64_t chunk_at(const Modulation *m, int64_t b, int64_t s, int chunk, int64_t D)
{
    return b * m->mod->dim[1] + (chunk + (s < m->text_rows ? 3 : 0)) * D;
}

typedef struct RowStats {
    double mean, inv;
} RowStats; /* inv = 1/sqrt(variance + eps) */

static RowStats row_stats(const Tensor *x, int64_t row, int64_t D, double eps)
{
    double mean = 0, var = 0;
    for (int64_t d = 0; d < D; d++)
        mean += ref_get(x, row * D + d);
    mean /= (double)D;
    for (int64_t d = 0; d < D; d++)
        var += (ref_get(x, row * D + d) - mean) * (ref_get(x, row * D + d) - mean);
    return (RowStats){mean, 1 / sqrt(var / (double)D + eps)};
}

static double affine(const Tensor *w, const Tensor *b, int64_t d, double normed)
{
    return (w ? ref_get(w, d) * normed : normed) + (b ? ref_get(b, d) : 0);
}

/* y = ((x - mean)/sqrt(var + eps) w + b)(1 + scale) + shift; MODEL.md 3 */
static int layernorm_ref(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                         const Modulation *m, Err *err)
{
    (void)be, (void)err;
    int64_t D = x->dim[x->rank - 1], M = tensor_count(x) / D, S = m ? x->dim[1] : 1;
    for (int64_t row = 0; row < M; row++) {
        RowStats st = row_stats(x, row, D, eps);
        for (int64_t d = 0; d < D; d++) {
            double value = affine(w, b, d, (ref_get(x, row * D + d) - st.mean) * st.inv);
            if (m)
                value = value * (1 + ref_get(m->mod, chunk_at(m, row / S, row % S, SCALE, D) + d)) +
                        ref_get(m->mod, chunk_at(m, row / S, row % S, SHIFT, D) + d);
            ref_set(y, row * D + d, value);
        }
    }
    return 0;
}

/* With n = (x - mean) inv and g = gy (1 + scale):
 *   gx = inv (g w - mean_d(g w) - n mean_d(g w n)),  gw = sum g n,  gb = sum g,  gscale = sum gy (n
 *   w + b),  gshift = sum gy. */
static int layernorm_backward_ref(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                                  const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                                  const Modulation *m, int add, Err *err)
{
    (void)be;
    int64_t D = x->dim[x->rank - 1], M = tensor_count(x) / D, S = m ? x->dim[1] : 1, width = m ? m->mod->dim[1] : 0;
    int64_t n_mod = width ? M / S * width : 0;
    double *sum_w = mem_calloc(2 * D + n_mod, (int64_t)sizeof(double), err); /* for gw [D], gb [D], gm [B, width] */
    if (!sum_w)
        return ERR_NOMEM;
    double *sum_b = sum_w + D, *sum_m = sum_b + D;
    for (int64_t row = 0; row < M; row++) {
        RowStats st = row_stats(x, row, D, eps);
        int64_t scale_at = m ? chunk_at(m, row / S, row % S, SCALE, D) : 0,
                shift_at = m ? chunk_at(m, row / S, row % S, SHIFT, D) : 0;
        double mean_g = 0, mean_gn = 0;
        for (int64_t d = 0; d < D; d++) {
            double n = (ref_get(x, row * D + d) - st.mean) * st.inv, g = ref_get(gy, row * D + d);
            if (m) {
                sum_m[scale_at + d] += g * affine(w, b, d, n);
                sum_m[shift_at + d] += g;
                g *= 1 + ref_get(m->mod, scale_at + d);
            }
            sum_w[d] += g * n;
            sum_b[d] += g;
            mean_g += g * (w ? ref_get(w, d) : 1) / (double)D;
            mean_gn += g * (w ? ref_get(w, d) : 1) * n / (double)D;
        }
        for (int64_t d = 0; gx && d < D; d++) {
            double n = (ref_get(x, row * D + d) - st.mean) * st.inv, g = ref_get(gy, row * D + d);
            g *= (w ? ref_get(w, d) : 1) * (m ? 1 + ref_get(m->mod, scale_at + d) : 1);
            ref_set(gx, row * D + d, st.inv * (g - mean_g - n * mean_gn) + (add ? ref_get(gx, row * D + d) : 0));
        }
    }
    for (int64_t d = 0; gw && d < D; d++) {
        ref_add_to(gw, d, sum_w[d]);
        ref_add_to(gb, d, sum_b[d]);
    }
    for (int64_t i = 0; gm && i < n_mod; i++)
        ref_add_to(gm, i, sum_m[i]);
    mem_free(sum_w);
    return 0;
}

/* x += gate y */
static int gate_add_ref(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    (void)be, (void)err;
    int64_t S = x->dim[1], D = x->dim[2], M = x->dim[0] * S;
    for (int64_t row = 0; row < M; row++)
        for (int64_t d = 0; d < D; d++)
            ref_add_to(x, row * D + d,
                       ref_get(m->mod, chunk_at(m, row / S, row % S, GATE, D) + d) * ref_get(y, row * D + d));
    return 0;
}

/* gy = gate gx; ggate += sum over the stream's rows of gx y */
static int gate_add_backward_ref(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                                 const Modulation *m, Err *err)
{
    (void)be;
    int64_t S = gx->dim[1], D = gx->dim[2], M = gx->dim[0] * S, n_mod = tensor_count(m->mod);
    double *sum = mem_calloc(n_mod, (int64_t)sizeof(double), err);
    if (!sum)
        return ERR_NOMEM;
    for (int64_t row = 0; row < M; row++)
        for (int64_t d = 0; d < D; d++) {
            int64_t gate = chunk_at(m, row / S, row % S, GATE, D) + d;
            sum[gate] += ref_get(gx, row * D + d) * ref_get(y, row * D + d);
            ref_set(gy, row * D + d, ref_get(m->mod, gate) * ref_get(gx, row * D + d));
        }
    for (int64_t i = 0; gm && i < n_mod; i++)
        ref_add_to(gm, i, sum[i]);
    mem_free(sum);
    return 0;
}

/* y = w x / sqrt(mean(x^2) + eps); MODEL.md 5 */
static int rmsnorm_ref(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    (void)be, (void)err;
    int64_t D = x->dim[x->rank - 1], M = tensor_count(x) / D;
    for (int64_t row = 0; row < M; row++) {
        double squares = 0;
        for (int64_t d = 0; d < D; d++)
            squares += ref_get(x, row * D + d) * ref_get(x, row * D + d);
        double inv = 1 / sqrt(squares / (double)D + eps);
        for (int64_t d = 0; d < D; d++)
            ref_set(y, row * D + d, ref_get(w, d) * ref_get(x, row * D + d) * inv);
    }
    return 0;
}

/* MODEL.md 2, SN: the latent frame, row and column that condition (t, i, j). */
static int64_t latent_of(const Tensor *x, const Tensor *latent, int64_t t, int64_t i, int64_t j)
{
    int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], Tz = latent->dim[0], h = latent->dim[1], w = latent->dim[2];
    int64_t tz = T > 1 && T % 2 ? (t == 0 ? 0 : 1 + (t - 1) * (Tz - 1) / (T - 1)) : t * Tz / T;
    return (tz * h + i * h / H) * w + j * w / W;
}

/* Over each group of C/groups channels of the whole chunk: n = (x - mean)/sqrt(var + eps) w + b;
 * then n scale[z] + shift[z];
 * then the activation. */
static int groupnorm_ref(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b,
                         int64_t groups, double eps, const SpatialCond *cond, ActKind act, Err *err)
{
    (void)be, (void)err;
    int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3], pixels = T * H * W, per = C / groups;
    for (int64_t g = 0; g < groups; g++) {
        double mean = 0, var = 0;
        for (int64_t n = 0; n < pixels; n++)
            for (int64_t c = g * per; c < (g + 1) * per; c++)
                mean += ref_get(x, n * C + c);
        mean /= (double)(pixels * per);
        for (int64_t n = 0; n < pixels; n++)
            for (int64_t c = g * per; c < (g + 1) * per; c++)
                var += (ref_get(x, n * C + c) - mean) * (ref_get(x, n * C + c) - mean);
        double inv = 1 / sqrt(var / (double)(pixels * per) + eps);
        for (int64_t n = 0; n < pixels; n++) {
            int64_t z = cond ? latent_of(x, cond->scale, n / (H * W), n / W % H, n % W) : 0;
            for (int64_t c = g * per; c < (g + 1) * per; c++) {
                double value = affine(w, b, c, (ref_get(x, n * C + c) - mean) * inv);
                if (cond)
                    value = value * ref_get(cond->scale, z * C + c) + ref_get(cond->shift, z * C + c);
                ref_set(y, n * C + c, ref_act(act, value));
            }
        }
    }
    return 0;
}

void ops_ref_norm(OpsTable *out)
{
    out->layernorm = layernorm_ref;
    out->layernorm_backward = layernorm_backward_ref;
    out->gate_add = gate_add_ref;
    out->gate_add_backward = gate_add_backward_ref;
    out->rmsnorm = rmsnorm_ref;
    out->groupnorm = groupnorm_ref;
}
