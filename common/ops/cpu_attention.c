/* Attention by tiles: scores of QUERIES x KEYS at a time, softmax kept online (running maximum and sum a row), so memory is a
 * tile a thread whatever the sequence.  Forward: a thread owns a (sequence, head, query block).
 *
 * Backward recomputes P = exp(S - lse) by tile.  With enough heads a thread owns a whole head and each tile gives dQ, dK, dV in
 * five products; with fewer heads than threads, key blocks (dK, dV) and then query blocks (dQ) are owned instead, at seven
 * products.  Both ways add the same products in the same order to each output row: the bits are equal. */
#include "common/ops/cpu_internal.h"

enum { QUERIES = 256, KEYS = 512, GRAD_QUERIES = 192, GRAD_KEYS = 192 };

typedef struct Attn {
    int64_t batch, heads, hd, width, sq, sk;
    float scale;
    const float *q, *k, *v, *bias;
    int causal;
} Attn;

static Attn attn_of(const Tensor *q, const Tensor *k, const Tensor *v, const AttnParams *p)
{
    int64_t width = q->dim[2];
    return (Attn){.batch = q->dim[0], .heads = p->heads, .hd = width / p->heads, .width = width, .sq = q->dim[1], .sk = k->dim[1],
                  .scale = (float)p->scale, .q = q->data, .k = k->data, .v = v->data, .bias = p->bias ? p->bias->data : NULL,
                  .causal = p->causal};
}

/* Where row `row` of head `h` of sequence `b` starts in [B,S,heads*hd]. */
static int64_t at(const Attn *a, int64_t b, int64_t len, int64_t row, int64_t h)
{
    return (b * len + row) * a->width + h * a->hd;
}

/* ---- forward ------------------------------------------------------------------------------------------------------ */

typedef struct Rows { /* of one query block, in thread scratch */
    float score[QUERIES * KEYS], top[QUERIES], sum[QUERIES];
    float acc[]; /* [QUERIES, hd] */
} Rows;

static void score_tile(const Attn *a, Rows *r, int64_t b, int64_t h, int64_t i0, int64_t n, int64_t j0, int64_t m)
{
    float beta = 0.0f;
    if (a->bias) {
        for (int64_t i = 0; i < n; i++)
            memcpy(r->score + i * m, a->bias + (h * a->sq + i0 + i) * a->sk + j0, (size_t)m * sizeof(float));
        beta = 1.0f;
    }
    cpu_sgemm(0, 1, n, m, a->hd, a->scale, a->q + at(a, b, a->sq, i0, h), a->width, a->k + at(a, b, a->sk, j0, h), a->width, beta,
              r->score, m);
    if (!a->causal)
        return;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = cpu_max(0, i0 + i + 1 - j0); j < m; j++)
            r->score[i * m + j] = -INFINITY;
}

/* The largest of top and s, in 16 lanes: a plain maximum loop is not vectorised without -ffast-math. */
static float row_max(const float *s, int64_t n, float top)
{
    float lane[16];
    int64_t i = 0;
    for (int l = 0; l < 16; l++)
        lane[l] = top;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lane[l] = s[i + l] > lane[l] ? s[i + l] : lane[l];
    for (; i < n; i++)
        lane[0] = s[i] > lane[0] ? s[i] : lane[0];
    for (int l = 0; l < 16; l++)
        top = lane[l] > top ? lane[l] : top;
    return top;
}

/* One row of scores becomes exp(score - maximum); what is accumulated so far is brought to the same maximum. */
static void softmax_row(float *restrict s, int64_t m, float *top, float *sum, float *restrict acc, int64_t hd)
{
    float high = row_max(s, m, *top), total = 0;
    float base = high == -INFINITY ? 0.0f : high; /* a row with no key yet */
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < m; j++) {
        s[j] = cpu_exp_low(s[j] - base); /* a masked key's 1e-38 vanishes beside the maximum's 1 */
        total += s[j];
    }
    float shrink = cpu_exp(*top - base);
    if (shrink != 1.0f)
        for (int64_t d = 0; d < hd; d++)
            acc[d] *= shrink;
    *sum = *sum * shrink + total;
    *top = high;
}

static void query_block(const Attn *a, Rows *r, float *o, float *lse, int64_t b, int64_t h, int64_t i0)
{
    int64_t n = cpu_min(QUERIES, a->sq - i0);
    int64_t keys = a->causal ? cpu_min(a->sk, i0 + n) : a->sk;
    for (int64_t i = 0; i < n; i++) {
        r->top[i] = -INFINITY;
        r->sum[i] = 0;
    }
    memset(r->acc, 0, (size_t)(n * a->hd) * sizeof(float));
    for (int64_t j0 = 0; j0 < keys; j0 += KEYS) {
        int64_t m = cpu_min(KEYS, keys - j0);
        score_tile(a, r, b, h, i0, n, j0, m);
        for (int64_t i = 0; i < n; i++)
            softmax_row(r->score + i * m, m, &r->top[i], &r->sum[i], r->acc + i * a->hd, a->hd);
        cpu_sgemm(0, 0, n, a->hd, m, 1.0f, r->score, m, a->v + at(a, b, a->sk, j0, h), a->width, 1.0f, r->acc, a->hd);
    }
    for (int64_t i = 0; i < n; i++) {
        float *out = o + at(a, b, a->sq, i0 + i, h), inverse = 1.0f / r->sum[i];
        for (int64_t d = 0; d < a->hd; d++)
            out[d] = r->acc[i * a->hd + d] * inverse;
        if (lse)
            lse[(b * a->heads + h) * a->sq + i0 + i] = r->top[i] + logf(r->sum[i]);
    }
}

static int attention_cpu(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k, const Tensor *v,
                         const AttnParams *p, Err *err)
{
    Attn a = attn_of(q, k, v, p);
    CpuScratch s;
    int rc = cpu_scratch(be, 0, (int64_t)sizeof(Rows) + QUERIES * a.hd * (int64_t)sizeof(float), &s, err);
    if (rc < 0)
        return rc;
    int64_t blocks = cpu_ceil(a.sq, QUERIES), pieces = a.batch * a.heads * blocks;
    float *to_lse = lse ? lse->data : NULL;
#pragma omp parallel for num_threads(cpu_threads(be, a.batch * a.sq * a.sk * a.width / 16)) schedule(dynamic, 1)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t head = i / blocks;
        query_block(&a, cpu_own(&s), o->data, to_lse, head / a.heads, head % a.heads, i % blocks * QUERIES);
    }
    return 0;
}

/* ---- backward ----------------------------------------------------------------------------------------------------- */

typedef struct Grad {
    Attn a;
    const float *o, *go, *lse;
    float *gq, *gk, *gv;
} Grad;

typedef struct GradTile {
    float prob[GRAD_QUERIES * GRAD_KEYS], slope[GRAD_QUERIES * GRAD_KEYS];
} GradTile;

enum { WANT_Q = 1, WANT_KV = 2 };

/* prob = exp(scale q k^T - lse); slope = scale * prob * (go v^T - rowsum(go * o)). */
static void grad_scores(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0, int64_t n, int64_t j0, int64_t m)
{
    const Attn *a = &g->a;
    int64_t at_q = at(a, b, a->sq, i0, h), at_k = at(a, b, a->sk, j0, h);
    cpu_sgemm(0, 1, n, m, a->hd, a->scale, a->q + at_q, a->width, a->k + at_k, a->width, 0.0f, t->prob, m);
    cpu_sgemm(0, 1, n, m, a->hd, 1.0f, g->go + at_q, a->width, a->v + at_k, a->width, 0.0f, t->slope, m);
    for (int64_t i = 0; i < n; i++) {
        const float *o = g->o + at_q + i * a->width, *go = g->go + at_q + i * a->width;
        float lse = g->lse[(b * a->heads + h) * a->sq + i0 + i], delta = 0;
#pragma omp simd reduction(+ : delta)
        for (int64_t d = 0; d < a->hd; d++)
            delta += o[d] * go[d];
        float *restrict prob = t->prob + i * m, *restrict slope = t->slope + i * m;
#pragma omp simd
        for (int64_t j = 0; j < m; j++) {
            prob[j] = cpu_exp_low(prob[j] - lse);
            slope[j] = prob[j] * (slope[j] - delta) * a->scale;
        }
    }
}

static void grad_tile(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0, int64_t j0, int want)
{
    const Attn *a = &g->a;
    int64_t n = cpu_min(GRAD_QUERIES, a->sq - i0), m = cpu_min(GRAD_KEYS, a->sk - j0);
    int64_t at_q = at(a, b, a->sq, i0, h), at_k = at(a, b, a->sk, j0, h);
    grad_scores(g, t, b, h, i0, n, j0, m);
    float beta = i0 ? 1.0f : 0.0f; /* the first tile of a row of tiles writes, the others add */
    if (want & WANT_KV) {
        cpu_sgemm(1, 0, m, a->hd, n, 1.0f, t->prob, m, g->go + at_q, a->width, beta, g->gv + at_k, a->width);
        cpu_sgemm(1, 0, m, a->hd, n, 1.0f, t->slope, m, a->q + at_q, a->width, beta, g->gk + at_k, a->width);
    }
    if (want & WANT_Q)
        cpu_sgemm(0, 0, n, a->hd, m, 1.0f, t->slope, m, a->k + at_k, a->width, j0 ? 1.0f : 0.0f, g->gq + at_q, a->width);
}

static void grad_by_head(const Grad *g, const CpuScratch *s, int threads)
{
    const Attn *a = &g->a;
    int64_t heads = a->batch * a->heads;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t x = 0; x < heads; x++)
        for (int64_t j0 = 0; j0 < a->sk; j0 += GRAD_KEYS)
            for (int64_t i0 = 0; i0 < a->sq; i0 += GRAD_QUERIES)
                grad_tile(g, cpu_own(s), x / a->heads, x % a->heads, i0, j0, WANT_Q | WANT_KV);
}

static void grad_by_block(const Grad *g, const CpuScratch *s, int threads)
{
    const Attn *a = &g->a;
    int64_t heads = a->batch * a->heads, key_blocks = cpu_ceil(a->sk, GRAD_KEYS), query_blocks = cpu_ceil(a->sq, GRAD_QUERIES);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t x = 0; x < heads * key_blocks; x++)
            for (int64_t i0 = 0; i0 < a->sq; i0 += GRAD_QUERIES)
                grad_tile(g, cpu_own(s), x / key_blocks / a->heads, x / key_blocks % a->heads, i0, x % key_blocks * GRAD_KEYS, WANT_KV);
#pragma omp for schedule(dynamic, 1)
        for (int64_t x = 0; x < heads * query_blocks; x++)
            for (int64_t j0 = 0; j0 < a->sk; j0 += GRAD_KEYS)
                grad_tile(g, cpu_own(s), x / query_blocks / a->heads, x / query_blocks % a->heads, x % query_blocks * GRAD_QUERIES, j0,
                          WANT_Q);
    }
}

static int attention_backward_cpu(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go, const Tensor *q,
                                  const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse, const AttnParams *p, Err *err)
{
    Grad g = {.a = attn_of(q, k, v, p), .o = o->data, .go = go->data, .lse = lse->data, .gq = gq->data, .gk = gk->data, .gv = gv->data};
    CpuScratch s;
    int rc = cpu_scratch(be, 0, (int64_t)sizeof(GradTile), &s, err);
    if (rc < 0)
        return rc;
    int threads = cpu_threads(be, g.a.batch * g.a.sq * g.a.sk * g.a.width / 16);
    if (g.a.batch * g.a.heads >= threads)
        grad_by_head(&g, &s, threads);
    else
        grad_by_block(&g, &s, threads);
    return 0;
}

void cpu_table_attention(OpsTable *t)
{
    t->attention = attention_cpu;
    t->attention_backward = attention_backward_cpu;
}
