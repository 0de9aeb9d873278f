/* Attention by tiles: scores of QUERIES x KEYS at a time, softmax kept online (running maximum and
 * sum a row), so memory is a tile a thread whatever the sequence.  Forward: a thread owns a
 * (sequence, head, query block).
 *
 * Backward recomputes P = exp(S - lse) by tile.  With enough heads a thread owns a whole head and
 * each tile gives dQ, dK, dV in five products; with fewer heads than threads, key blocks (dK, dV)
 * and then query blocks (dQ) are owned instead, at seven products.  Both ways add the same products
 * in the same order to each output row: the bits are equal. */
#include "common/ops/cpu/cpu.h"

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
    return (Attn){.batch = q->dim[0],
                  .heads = p->heads,
                  .hd = width / p->heads,
                  .width = width,
                  .sq = q->dim[1],
                  .sk = k->dim[1],
                  .scale = (float)p->scale,
                  .q = q->data,
                  .k = k->data,
                  .v = v->data,
                  .bias = p->bias ? p->bias->data : NULL,
                  .causal = p->causal};
}

/* Where row `row` of head `h` of sequence `b` starts in [B,S,heads*hd]. */
static int64_t at(const Attn *a, int64_t b, int64_t len, int64_t row, int64_t h)
{
    return (b * len + row) * a->width + h * a->hd;
}

/* ---- forward --------------------------------------------------------------------------------- */

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
    cpu_sgemm(0, 1, n, m, a->hd, a->scale, a->q + at(a, b, a->sq, i0, h), a->width, a->k + at(a, b, a->sk, j0, h),
              a->width, beta, r->score, m);
    if (!a->causal)
        return;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = cpu_max(0, i0 + i + 1 - j0); j < m; j++)
            r->score[i * m + j] = -INFINITY;
}

/* The largest of top and s, in 16 lanes: a plain maximum loop is not vectorised without
 * -ffast-math. */
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

/* One row of scores becomes exp(score - maximum); what is accumulated so far is brought to the same
 * maximum. */
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

static int attention_cpu(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k,
                         const Tensor *v, const AttnParams *p, Err *err)
{
    Attn a = attn_of(q, k, v, p);
    CpuScratch s;
    int rc = cpu_scratch(be, 0, (int64_t)sizeof(Rows) + QUERIES * a.hd * (int64_t)sizeof(float), &s, err);
    if (rc < 0)
        return rc;
    int64_t blocks = cpu_ceil(a.sq, QUERIES), pieces = a.batch * a.heads * blocks;
    float *to_lse = lse ? lse->data : NULL;
#pragma omp parallel for num_threads(cpu_threads(be, a.batch *a.sq *a.sk *a.width / 16)) schedule(dynamic, 1)
    for (int64_t i = 0; i < pieces; i++) {
        int64_t head = i / blocks;
        query_block(&a, cpu_own(&s), o->data, to_lse, head / a.heads, head % a.heads, i % blocks * QUERIES);
    }
    return 0;
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct Grad {
    Attn a;
    const float *o, *go, *lse;
    float *gq, *gk, *gv;
} Grad;

/* Thread scratch.  The rows of one head lie far apart in memory: they are gathered once and then
 * read by several products. */
typedef struct GradTile {
    float prob[GRAD_QUERIES * GRAD_KEYS], slope[GRAD_QUERIES * GRAD_KEYS], delta[GRAD_QUERIES], lse[GRAD_QUERIES];
    int64_t n, m;          /* queries and keys of the tile */
    float *q, *go, *k, *v; /* [n or m, hd] */
    float rows[];
} GradTile;

enum { WANT_Q = 1, WANT_KV = 2 };

static int64_t grad_tile_floats(const Attn *a)
{
    return 2 * (GRAD_QUERIES + GRAD_KEYS) * a->hd;
}

static void gather_rows(const Attn *a, float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * a->hd, from + i * a->width, (size_t)a->hd * sizeof *to);
}

static void take_queries(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0)
{
    const Attn *a = &g->a;
    int64_t first = at(a, b, a->sq, i0, h);
    t->n = cpu_min(GRAD_QUERIES, a->sq - i0);
    t->q = t->rows;
    t->go = t->q + GRAD_QUERIES * a->hd;
    gather_rows(a, t->q, a->q + first, t->n);
    gather_rows(a, t->go, g->go + first, t->n);
    memcpy(t->lse, g->lse + (b * a->heads + h) * a->sq + i0, (size_t)t->n * sizeof *t->lse);
    for (int64_t i = 0; i < t->n; i++) {
        const float *o = g->o + first + i * a->width, *go = t->go + i * a->hd;
        float delta = 0;
#pragma omp simd reduction(+ : delta)
        for (int64_t d = 0; d < a->hd; d++)
            delta += o[d] * go[d];
        t->delta[i] = delta;
    }
}

static void take_keys(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t j0)
{
    const Attn *a = &g->a;
    int64_t first = at(a, b, a->sk, j0, h);
    t->m = cpu_min(GRAD_KEYS, a->sk - j0);
    t->k = t->rows + 2 * GRAD_QUERIES * a->hd;
    t->v = t->k + GRAD_KEYS * a->hd;
    gather_rows(a, t->k, a->k + first, t->m);
    gather_rows(a, t->v, a->v + first, t->m);
}

/* prob = exp(scale q k^T - lse); slope = scale * prob * (go v^T - rowsum(go * o)). */
static void grad_scores(const Attn *a, GradTile *t)
{
    cpu_sgemm(0, 1, t->n, t->m, a->hd, a->scale, t->q, a->hd, t->k, a->hd, 0.0f, t->prob, t->m);
    cpu_sgemm(0, 1, t->n, t->m, a->hd, 1.0f, t->go, a->hd, t->v, a->hd, 0.0f, t->slope, t->m);
    for (int64_t i = 0; i < t->n; i++) {
        float *restrict prob = t->prob + i * t->m, *restrict slope = t->slope + i * t->m;
        float lse = t->lse[i], delta = t->delta[i], scale = a->scale;
#pragma omp simd
        for (int64_t j = 0; j < t->m; j++) {
            prob[j] = cpu_exp_low(prob[j] - lse);
            slope[j] = prob[j] * (slope[j] - delta) * scale;
        }
    }
}

/* One tile of queries and keys; the first tile of a row of tiles writes, the others add. */
static void grad_tile(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0, int64_t j0, int want)
{
    const Attn *a = &g->a;
    int64_t at_q = at(a, b, a->sq, i0, h), at_k = at(a, b, a->sk, j0, h), hd = a->hd;
    float beta_q = j0 ? 1.0f : 0.0f, beta_kv = i0 ? 1.0f : 0.0f;
    grad_scores(a, t);
    if (want & WANT_KV) {
        cpu_sgemm(1, 0, t->m, hd, t->n, 1.0f, t->prob, t->m, t->go, hd, beta_kv, g->gv + at_k, a->width);
        cpu_sgemm(1, 0, t->m, hd, t->n, 1.0f, t->slope, t->m, t->q, hd, beta_kv, g->gk + at_k, a->width);
    }
    if (want & WANT_Q)
        cpu_sgemm(0, 0, t->n, hd, t->m, 1.0f, t->slope, t->m, t->k, hd, beta_q, g->gq + at_q, a->width);
}

/* All query blocks against one key block. */
static void grad_key_block(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t j0, int want)
{
    take_keys(g, t, b, h, j0);
    for (int64_t i0 = 0; i0 < g->a.sq; i0 += GRAD_QUERIES) {
        take_queries(g, t, b, h, i0);
        grad_tile(g, t, b, h, i0, j0, want);
    }
}

/* All key blocks against one query block. */
static void grad_query_block(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0)
{
    take_queries(g, t, b, h, i0);
    for (int64_t j0 = 0; j0 < g->a.sk; j0 += GRAD_KEYS) {
        take_keys(g, t, b, h, j0);
        grad_tile(g, t, b, h, i0, j0, WANT_Q);
    }
}

static void grad_by_head(const Grad *g, const CpuScratch *s, int threads)
{
    const Attn *a = &g->a;
    int64_t heads = a->batch * a->heads;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t x = 0; x < heads; x++)
        for (int64_t j0 = 0; j0 < a->sk; j0 += GRAD_KEYS)
            grad_key_block(g, cpu_own(s), x / a->heads, x % a->heads, j0, WANT_Q | WANT_KV);
}

static void grad_by_block(const Grad *g, const CpuScratch *s, int threads)
{
    const Attn *a = &g->a;
    int64_t heads = a->batch * a->heads, n_key = cpu_ceil(a->sk, GRAD_KEYS), n_query = cpu_ceil(a->sq, GRAD_QUERIES);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t x = 0; x < heads * n_key; x++)
            grad_key_block(g, cpu_own(s), x / n_key / a->heads, x / n_key % a->heads, x % n_key * GRAD_KEYS, WANT_KV);
#pragma omp for schedule(dynamic, 1)
        for (int64_t x = 0; x < heads * n_query; x++)
            grad_query_block(g, cpu_own(s), x / n_query / a->heads, x / n_query % a->heads, x % n_query * GRAD_QUERIES);
    }
}

static int attention_backward_cpu(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                                  const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                                  const AttnParams *p, Err *err)
{
    Grad g = {.a = attn_of(q, k, v, p),
              .o = o->data,
              .go = go->data,
              .lse = lse->data,
              .gq = gq->data,
              .gk = gk->data,
              .gv = gv->data};
    CpuScratch s;
    int rc = cpu_scratch(be, 0, (int64_t)sizeof(GradTile) + grad_tile_floats(&g.a) * (int64_t)sizeof(float), &s, err);
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
