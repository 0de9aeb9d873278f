/* Scaled dot-product attention, one head and one query at a time (Vaswani et al. 2017), and its
 * gradient in the form that recomputes the probabilities from the log-sum-exp (Dao et al. 2022). */
#include <math.h>
#include "common/base/mem.h"
#include "common/ops/ref/ref.h"

/* Where row `row` of head `head` of sequence `batch` begins in x [B,S,heads*hd]. */
static int64_t head_row(const Tensor *x, int64_t heads, int64_t batch, int64_t head, int64_t row)
{
    return (batch * x->dim[1] + row) * x->dim[2] + head * (x->dim[2] / heads);
}

static double dot(const Tensor *a, int64_t a0, const Tensor *b, int64_t b0, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ref_get(a, a0 + i) * ref_get(b, b0 + i);
    return sum;
}

/* score[j] = scale q_i.k_j + bias[h,i,j] for the allowed keys j < *n_key; returns their
 * log-sum-exp, taken relative to the largest so that nothing overflows. */
static double scores_of(double *score, int64_t *n_key, const Tensor *q, const Tensor *k, const AttnParams *p, int64_t b,
                        int64_t h, int64_t i)
{
    int64_t Sq = q->dim[1], Sk = k->dim[1], hd = q->dim[2] / p->heads;
    double top = -INFINITY, sum = 0;
    *n_key = p->causal && i + 1 < Sk ? i + 1 : Sk;
    for (int64_t j = 0; j < *n_key; j++) {
        score[j] = p->scale * dot(q, head_row(q, p->heads, b, h, i), k, head_row(k, p->heads, b, h, j), hd);
        if (p->bias)
            score[j] += ref_get(p->bias, (h * Sq + i) * Sk + j);
        top = fmax(top, score[j]);
    }
    for (int64_t j = 0; j < *n_key; j++)
        sum += exp(score[j] - top);
    return top + log(sum);
}

/* o_i = sum over j of P_ij v_j, P_ij = exp(score_ij - lse_i) */
static int attention_ref(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k,
                         const Tensor *v, const AttnParams *p, Err *err)
{
    (void)be;
    int64_t B = q->dim[0], Sq = q->dim[1], Sk = k->dim[1], hd = q->dim[2] / p->heads, n_key = 0;
    double *score = mem_calloc(Sk, (int64_t)sizeof(double), err);
    if (!score)
        return ERR_NOMEM;
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t i = 0; i < Sq; i++) {
                double total = scores_of(score, &n_key, q, k, p, b, h, i);
                if (lse)
                    ref_set(lse, (b * p->heads + h) * Sq + i, total);
                for (int64_t j = 0; j < n_key; j++)
                    score[j] = exp(score[j] - total);
                for (int64_t d = 0; d < hd; d++) {
                    double sum = 0;
                    for (int64_t j = 0; j < n_key; j++)
                        sum += score[j] * ref_get(v, head_row(v, p->heads, b, h, j) + d);
                    ref_set(o, head_row(o, p->heads, b, h, i) + d, sum);
                }
            }
    mem_free(score);
    return 0;
}

/* With G_ij = P_ij (go_i.v_j - go_i.o_i):  gq_i = scale sum_j G_ij k_j,  gk_j = scale sum_i G_ij
 * q_i,  gv_j = sum_i P_ij go_i. */
static int attention_backward_ref(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                                  const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                                  const AttnParams *p, Err *err)
{
    (void)be;
    int64_t B = q->dim[0], Sq = q->dim[1], Sk = k->dim[1], heads = p->heads, hd = q->dim[2] / heads;
    double *sum_q = mem_calloc(hd, (int64_t)sizeof(double), err);
    double *sum_k = mem_calloc(Sk, hd * (int64_t)sizeof(double), err),
           *sum_v = mem_calloc(Sk, hd * (int64_t)sizeof(double), err);
    int rc = sum_q && sum_k && sum_v ? 0 : ERR_NOMEM;
    for (int64_t bh = 0; bh < B * heads && rc == 0; bh++) {
        int64_t b = bh / heads, h = bh % heads;
        for (int64_t n = 0; n < Sk * hd; n++)
            sum_k[n] = sum_v[n] = 0;
        for (int64_t i = 0; i < Sq; i++) {
            int64_t qi = head_row(q, heads, b, h, i);
            double delta = dot(go, qi, o, qi, hd);
            for (int64_t d = 0; d < hd; d++)
                sum_q[d] = 0;
            for (int64_t j = 0; j < Sk; j++) {
                int64_t kj = head_row(k, heads, b, h, j);
                double P = exp(p->scale * dot(q, qi, k, kj, hd) - ref_get(lse, bh * Sq + i));
                double G = p->scale * P * (dot(go, qi, v, kj, hd) - delta);
                for (int64_t d = 0; d < hd; d++) {
                    sum_q[d] += G * ref_get(k, kj + d);
                    sum_k[j * hd + d] += G * ref_get(q, qi + d);
                    sum_v[j * hd + d] += P * ref_get(go, qi + d);
                }
            }
            for (int64_t d = 0; d < hd; d++)
                ref_set(gq, qi + d, sum_q[d]);
        }
        for (int64_t j = 0; j < Sk; j++)
            for (int64_t d = 0; d < hd; d++) {
                ref_set(gk, head_row(k, heads, b, h, j) + d, sum_k[j * hd + d]);
                ref_set(gv, head_row(k, heads, b, h, j) + d, sum_v[j * hd + d]);
            }
    }
    mem_free(sum_q);
    mem_free(sum_k);
    mem_free(sum_v);
    return rc;
}

void ops_ref_attention(OpsTable *out)
{
    out->attention = attention_ref;
    out->attention_backward = attention_backward_ref;
}
