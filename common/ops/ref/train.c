/* Posterior, diffusion, loss, optimiser. */
#include <math.h>
#include "common/ops/blockwise.h"
#include "common/ops/ref/ref.h"
#include "common/ops/rounding.h"

/* MODEL.md 2: z = (mean + exp(clamp(logvar, -30, 20)/2) eps) scale */
static int posterior_ref(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    (void)be, (void)err;
    int64_t C = z->dim[z->rank - 1], M = tensor_count(z) / C;
    for (int64_t m = 0; m < M; m++)
        for (int64_t c = 0; c < C; c++) {
            double value = ref_get(moments, m * 2 * C + c);
            if (eps) {
                double logvar = ref_get(moments, m * 2 * C + C + c);
                logvar = logvar < -30 ? -30 : logvar > 20 ? 20 : logvar; /* NaN stays */
                value += exp(logvar / 2) * ref_get(eps, m * C + c);
            }
            ref_set(z, m * C + c, value * scale);
        }
    return 0;
}

/* MODEL.md 4: xt = a x0 + s eps, v = a eps - s x0, a = sqrt(alpha bar), s = sqrt(1 - alpha
 * bar), one pair a sample */
static int diffuse_ref(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps,
                       const double *a, const double *s, Err *err)
{
    (void)be, (void)err;
    int64_t B = xt->dim[0], n = tensor_count(xt) / B;
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = b * n; i < (b + 1) * n; i++) {
            ref_set(xt, i, a[b] * ref_get(x0, i) + s[b] * ref_get(eps, i));
            ref_set(v, i, a[b] * ref_get(eps, i) - s[b] * ref_get(x0, i));
        }
    return 0;
}

/* loss = mean (u - v)^2; gu = weight 2 (u - v)/count */
static int mse_ref(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight,
                   Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(u);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double miss = ref_get(u, i) - ref_get(v, i);
        sum += miss * miss;
        if (gu)
            ref_set(gu, i, weight * 2 * miss / (double)n);
    }
    *loss = sum / (double)n;
    return 0;
}

static int sum_squares_ref(Backend *be, double *sum, const Tensor *g, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(g);
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        total += ref_get(g, i) * ref_get(g, i);
    *sum = total;
    return 0;
}

/* MODEL.md 4 (Loshchilov and Hutter 2019), k = step:
 *   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
 *   p <- p - lr (m/(1 - b1^k)) / (sqrt(v/(1 - b2^k)) + eps), as a float then rounded stochastically
 *   where p is BF16 */
static int adamw_ref(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                     const Tensor *v, const AdamParams *a, Err *err)
{
    (void)be, (void)err;
    int64_t n = tensor_count(p);
    double correct_m = 1 - pow(a->beta1, (double)a->step), correct_v = 1 - pow(a->beta2, (double)a->step);
    uint64_t key = rounding_key(a->seed, a->step);
    for (int64_t i = 0; i < n; i++) {
        double grad = a->grad_scale * ref_get(g, i);
        double first = a->beta1 * ref_get(m, i) + (1 - a->beta1) * grad;
        double second = a->beta2 * ref_get(v, i) + (1 - a->beta2) * grad * grad;
        double decayed = ref_get(p, i) * (1 - a->lr * a->weight_decay);
        ref_set(m, i, first);
        ref_set(v, i, second);
        double value = decayed - a->lr * (first / correct_m) / (sqrt(second / correct_v) + a->eps);
        ref_set(p, i, p->dtype == DT_BF16 ? round_stochastic((float)value, rounding_noise(key, a->first + i)) : value);
        if (copy)
            ref_set(copy, i, ref_get(p, i));
    }
    return 0;
}

/* torch.optim.SGD: d = g + wd p;  m <- mu m + d;  p <- p - lr m  (d where there is no m) */
static int sgd_ref(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                   const SgdParams *a, Err *err)
{
    (void)be, (void)err;
    uint64_t key = rounding_key(a->seed, a->step);
    for (int64_t i = 0, n = tensor_count(p); i < n; i++) {
        double d = a->grad_scale * ref_get(g, i) + a->weight_decay * ref_get(p, i);
        if (m) {
            d += a->momentum * ref_get(m, i);
            ref_set(m, i, d);
        }
        double value = ref_get(p, i) - a->lr * d;
        ref_set(p, i, p->dtype == DT_BF16 ? round_stochastic((float)value, rounding_noise(key, a->first + i)) : value);
        if (copy)
            ref_set(copy, i, ref_get(p, i));
    }
    return 0;
}

/* Elements of block k of n. */
static int64_t block_size(int64_t n, int64_t k)
{
    return n - k * BLOCKWISE_BLOCK < BLOCKWISE_BLOCK ? n - k * BLOCKWISE_BLOCK : BLOCKWISE_BLOCK;
}

static int quantize_ref(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed, Err *err)
{
    (void)be, (void)err;
    BlockwiseMap map;
    blockwise_map(&map, is_signed);
    for (int64_t k = 0; k < tensor_count(scale); k++) {
        int64_t first = k * BLOCKWISE_BLOCK, n = block_size(tensor_count(x), k);
        double most = 0;
        for (int64_t i = first; i < first + n; i++)
            most = fmax(most, fabs(ref_get(x, i)));
        for (int64_t i = first; i < first + n; i++)
            ((uint8_t *)codes->data)[i] = blockwise_code(map.bound, most > 0 ? (float)(ref_get(x, i) / most) : 0);
        ref_set(scale, k, most);
    }
    return 0;
}

static int dequantize_ref(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed,
                          Err *err)
{
    (void)be, (void)err;
    BlockwiseMap map;
    blockwise_map(&map, is_signed);
    for (int64_t i = 0; i < tensor_count(y); i++)
        ref_set(y, i, map.value[((const uint8_t *)codes->data)[i]] * ref_get(scale, i / BLOCKWISE_BLOCK));
    return 0;
}

void ops_ref_train(OpsTable *out)
{
    out->posterior = posterior_ref;
    out->diffuse = diffuse_ref;
    out->mse = mse_ref;
    out->sum_squares = sum_squares_ref;
    out->adamw = adamw_ref;
    out->sgd = sgd_ref;
    out->quantize = quantize_ref;
    out->dequantize = dequantize_ref;
}
