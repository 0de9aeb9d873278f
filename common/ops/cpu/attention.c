/* Attention by tiles: scores of QUERIES x KEYS at a time, softmax kept online (running maximum and
 * sum a row), so memory is a tile a thread whatever the sequence.  Forward: a thread owns a range of
 * queries of one (sequence, head); of each tile of keys it takes K' and V once.
 *
 * Backward recomputes P = exp(S - lse) by tile.  With enough heads a thread owns a whole head and
 * each tile gives dQ, dK, dV in five products; with fewer heads than threads, key blocks (dK, dV)
 * and then query blocks (dQ) are owned instead, at seven products.  Both ways add the same products
 * in the same order to each output row: the bits are equal. */
#include "common/ops/cpu/block.h"
#include "common/ops/cpu/cpu.h"

enum {
    QUERIES = 192,
    KEYS = 256,
    RANGE = 1024, /* queries of a piece of work, at most */
    GRAD_QUERIES = 96,
    GRAD_KEYS = 384,
    OFF = 16 /* floats after each row of a tile, so that rows do not share cache sets */
};

_Static_assert(QUERIES % BLOCK_M == 0 && KEYS % BLOCK_N == 0, "a tile of the forward pass has whole blocks");
_Static_assert(GRAD_QUERIES % BLOCK_M == 0 && GRAD_KEYS % BLOCK_M == 0 && GRAD_KEYS % BLOCK_N == 0,
               "so has one of the backward pass");

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

/* Floats from one row of a tile to the next, for rows of n. */
static int64_t row_floats(int64_t n)
{
    return cpu_ceil(n, BLOCK_N) * BLOCK_N + OFF;
}

/* to [n, row_floats(hd)] = scale * rows of one head, which lie far apart in memory. */
static void take_rows(const Attn *a, float *restrict to, const float *restrict from, int64_t n, float scale)
{
    int64_t row = row_floats(a->hd);
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < a->hd; d++)
            to[i * row + d] = from[i * a->width + d] * scale;
}

/* to [hd, row] = their transpose. */
static void take_columns(const Attn *a, float *restrict to, int64_t row, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < a->hd; d++)
            to[d * row + i] = from[i * a->width + d];
}

/* ---- forward --------------------------------------------------------------------------------- */

enum { SCORE_ROW = KEYS + OFF };

typedef struct Rows { /* of one range of queries, in thread scratch */
    float score[QUERIES * SCORE_ROW], top[RANGE], sum[RANGE];
    float *q, *acc;       /* [RANGE, hd]: scaled queries, sums of P V */
    float *keys, *values; /* [hd, KEYS], [KEYS, hd] */
    float room[];
} Rows;

/* Rows of q and acc, with those that a block of sums may touch beyond the last. */
static int64_t range_rows(const Attn *a)
{
    return cpu_min(RANGE, a->sq) + BLOCK_M;
}

static int64_t rows_floats(const Attn *a)
{
    return (2 * range_rows(a) + KEYS) * row_floats(a->hd) + a->hd * SCORE_ROW;
}

/* Scores of n queries from row i of the range, which is row i0 of the sequence, and the tile's m keys. */
static void score_tile(const Attn *a, Rows *r, int64_t h, int64_t i, int64_t i0, int64_t n, int64_t j0, int64_t m)
{
    int64_t row = row_floats(a->hd);
    for (int64_t x = 0; a->bias && x < n; x++)
        memcpy(r->score + x * SCORE_ROW, a->bias + (h * a->sq + i0 + x) * a->sk + j0, (size_t)m * sizeof(float));
    block_product(0, n, m, a->hd, r->q + i * row, row, r->keys, SCORE_ROW, r->score, SCORE_ROW, a->bias != NULL);
    for (int64_t x = 0; a->causal && x < n; x++)
        for (int64_t j = cpu_max(0, i0 + x + 1 - j0); j < m; j++)
            r->score[x * SCORE_ROW + j] = -INFINITY;
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

/* All of the range against the tile of m keys from j0. */
static void key_tile(const Attn *a, Rows *r, int64_t b, int64_t h, int64_t first, int64_t count, int64_t j0, int64_t m)
{
    int64_t row = row_floats(a->hd), from = at(a, b, a->sk, j0, h);
    take_columns(a, r->keys, SCORE_ROW, a->k + from, m);
    take_rows(a, r->values, a->v + from, m, 1.0f);
    for (int64_t i = 0; i < count; i += QUERIES) {
        int64_t n = cpu_min(QUERIES, count - i), i0 = first + i;
        if (a->causal && i0 + n <= j0)
            continue;
        score_tile(a, r, h, i, i0, n, j0, m);
        for (int64_t x = 0; x < n; x++)
            softmax_row(r->score + x * SCORE_ROW, m, &r->top[i + x], &r->sum[i + x], r->acc + (i + x) * row, a->hd);
        block_product(0, n, a->hd, m, r->score, SCORE_ROW, r->values, row, r->acc + i * row, row, 1);
    }
}

/* The queries [first, first + count) of a head. */
static void query_range(const Attn *a, Rows *r, float *o, float *lse, int64_t b, int64_t h, int64_t first,
                        int64_t count)
{
    int64_t row = row_floats(a->hd), keys = a->causal ? cpu_min(a->sk, first + count) : a->sk;
    r->q = r->room;
    r->acc = r->q + range_rows(a) * row;
    r->values = r->acc + range_rows(a) * row;
    r->keys = r->values + KEYS * row;
    take_rows(a, r->q, a->q + at(a, b, a->sq, first, h), count, a->scale);
    memset(r->acc, 0, (size_t)(count * row) * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        r->top[i] = -INFINITY;
        r->sum[i] = 0;
    }
    for (int64_t j0 = 0; j0 < keys; j0 += KEYS)
        key_tile(a, r, b, h, first, count, j0, cpu_min(KEYS, keys - j0));
    for (int64_t i = 0; i < count; i++) {
        float *out = o + at(a, b, a->sq, first + i, h), inverse = 1.0f / r->sum[i];
        for (int64_t d = 0; d < a->hd; d++)
            out[d] = r->acc[i * row + d] * inverse;
        if (lse)
            lse[(b * a->heads + h) * a->sq + first + i] = r->top[i] + logf(r->sum[i]);
    }
}

static int attention_cpu(Backend *be, const Tensor *o, const Tensor *lse, const Tensor *q, const Tensor *k,
                         const Tensor *v, const AttnParams *p, Err *err)
{
    Attn a = attn_of(q, k, v, p);
    CpuScratch s;
    int rc = cpu_scratch(be, 0, (int64_t)sizeof(Rows) + rows_floats(&a) * (int64_t)sizeof(float), &s, err);
    if (rc < 0)
        return rc;
    int threads = cpu_threads(be, a.batch * a.sq * a.sk * a.width / 16);
    int64_t heads = a.batch * a.heads, ranges = cpu_ceil(a.sq, RANGE);
    while (heads * ranges < 4 * threads && a.sq > ranges * QUERIES) /* no bit depends on it */
        ranges *= 2;
    float *to_lse = lse ? lse->data : NULL;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < heads * ranges; i++) {
        int64_t head = i / ranges, first = a.sq * (i % ranges) / ranges, last = a.sq * (i % ranges + 1) / ranges;
        query_range(&a, cpu_own(&s), o->data, to_lse, head / a.heads, head % a.heads, first, last - first);
    }
    return 0;
}

/* ---- backward -------------------------------------------------------------------------------- */

enum { GRAD_ROW = GRAD_KEYS + OFF };

typedef struct Grad {
    Attn a;
    const float *o, *go, *lse;
    float *delta; /* [B, heads, Sq]: row sums of go * o */
    float *gq, *gk, *gv;
} Grad;

typedef struct GradTile { /* in thread scratch */
    float prob[GRAD_QUERIES * GRAD_ROW], slope[GRAD_QUERIES * GRAD_ROW];
    const float *delta, *lse; /* [n] */
    int64_t n, m;             /* queries and keys of the tile */
    float *q, *go, *gq;       /* [n, hd]: q scaled */
    float *k, *gk, *gv;       /* [m, hd]: k scaled */
    float *keys, *values;     /* [hd, m] */
    float room[];
} GradTile;

enum { WANT_Q = 1, WANT_KV = 2 };

static int64_t grad_tile_floats(const Attn *a)
{
    return 3 * (GRAD_QUERIES + GRAD_KEYS) * row_floats(a->hd) + 2 * a->hd * GRAD_ROW;
}

static void take_queries(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0)
{
    const Attn *a = &g->a;
    int64_t first = at(a, b, a->sq, i0, h), row = (b * a->heads + h) * a->sq + i0;
    t->n = cpu_min(GRAD_QUERIES, a->sq - i0);
    t->q = t->room;
    t->go = t->q + GRAD_QUERIES * row_floats(a->hd);
    t->gq = t->go + GRAD_QUERIES * row_floats(a->hd);
    t->delta = g->delta + row;
    t->lse = g->lse + row;
    take_rows(a, t->q, a->q + first, t->n, a->scale);
    take_rows(a, t->go, g->go + first, t->n, 1.0f);
}

static void take_keys(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t j0)
{
    const Attn *a = &g->a;
    int64_t first = at(a, b, a->sk, j0, h), block = GRAD_KEYS * row_floats(a->hd);
    t->m = cpu_min(GRAD_KEYS, a->sk - j0);
    t->k = t->room + 3 * GRAD_QUERIES * row_floats(a->hd);
    t->gk = t->k + block;
    t->gv = t->gk + block;
    t->keys = t->gv + block;
    t->values = t->keys + a->hd * GRAD_ROW;
    take_rows(a, t->k, a->k + first, t->m, a->scale);
    take_columns(a, t->keys, GRAD_ROW, a->k + first, t->m);
    take_columns(a, t->values, GRAD_ROW, a->v + first, t->m);
}

/* prob = exp(scale q k^T - lse); slope = prob * (go v^T - rowsum(go * o)), which is the gradient of the scaled
 * score. */
static void grad_scores(const Attn *a, GradTile *t)
{
    int64_t row = row_floats(a->hd);
    block_product(0, t->n, t->m, a->hd, t->q, row, t->keys, GRAD_ROW, t->prob, GRAD_ROW, 0);
    block_product(0, t->n, t->m, a->hd, t->go, row, t->values, GRAD_ROW, t->slope, GRAD_ROW, 0);
    for (int64_t i = 0; i < t->n; i++) {
        float *restrict prob = t->prob + i * GRAD_ROW, *restrict slope = t->slope + i * GRAD_ROW;
        float lse = t->lse[i], delta = t->delta[i];
#pragma omp simd
        for (int64_t j = 0; j < t->m; j++) {
            prob[j] = cpu_exp_low(prob[j] - lse);
            slope[j] = prob[j] * (slope[j] - delta);
        }
    }
}

/* One tile of queries and keys.  Of a query's row the first tile writes, the others add; dK and dV are summed in the
 * tile, from first_queries on. */
static void grad_tile(const Grad *g, GradTile *t, float *gq, int first_keys, int first_queries, int want)
{
    const Attn *a = &g->a;
    int64_t row = row_floats(a->hd);
    grad_scores(a, t);
    if (want & WANT_KV) {
        block_product(1, t->m, a->hd, t->n, t->prob, GRAD_ROW, t->go, row, t->gv, row, !first_queries);
        block_product(1, t->m, a->hd, t->n, t->slope, GRAD_ROW, t->q, row, t->gk, row, !first_queries);
    }
    if (!(want & WANT_Q))
        return;
    block_product(0, t->n, a->hd, t->m, t->slope, GRAD_ROW, t->k, row, t->gq, row, 0);
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t d = 0; d < a->hd; d++)
            gq[i * a->width + d] = (first_keys ? 0 : gq[i * a->width + d]) + t->gq[i * row + d];
}

static void put_rows(const Attn *a, float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * a->width, from + i * row_floats(a->hd), (size_t)a->hd * sizeof *to);
}

/* All query blocks against one key block. */
static void grad_key_block(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t j0, int want)
{
    const Attn *a = &g->a;
    take_keys(g, t, b, h, j0);
    for (int64_t i0 = 0; i0 < a->sq; i0 += GRAD_QUERIES) {
        take_queries(g, t, b, h, i0);
        grad_tile(g, t, g->gq + at(a, b, a->sq, i0, h), j0 == 0, i0 == 0, want);
    }
    put_rows(a, g->gk + at(a, b, a->sk, j0, h), t->gk, t->m);
    put_rows(a, g->gv + at(a, b, a->sk, j0, h), t->gv, t->m);
}

/* All key blocks against one query block. */
static void grad_query_block(const Grad *g, GradTile *t, int64_t b, int64_t h, int64_t i0)
{
    take_queries(g, t, b, h, i0);
    for (int64_t j0 = 0; j0 < g->a.sk; j0 += GRAD_KEYS) {
        take_keys(g, t, b, h, j0);
        grad_tile(g, t, g->gq + at(&g->a, b, g->a.sq, i0, h), j0 == 0, 0, WANT_Q);
    }
}

/* Row sums of go * o. */
static void grad_delta(const Grad *g, int threads)
{
    const Attn *a = &g->a;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < a->batch * a->sq; i++)
        for (int64_t h = 0; h < a->heads; h++) {
            const float *o = g->o + i * a->width + h * a->hd, *go = g->go + i * a->width + h * a->hd;
            float delta = 0;
#pragma omp simd reduction(+ : delta)
            for (int64_t d = 0; d < a->hd; d++)
                delta += o[d] * go[d];
            g->delta[(i / a->sq * a->heads + h) * a->sq + i % a->sq] = delta;
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
    int64_t rows = g.a.batch * g.a.heads * g.a.sq, tile = sizeof(GradTile) + grad_tile_floats(&g.a) * sizeof(float);
    int rc = cpu_scratch(be, rows * (int64_t)sizeof(float), tile, &s, err);
    if (rc < 0)
        return rc;
    int threads = cpu_threads(be, g.a.batch * g.a.sq * g.a.sk * g.a.width / 16);
    g.delta = s.shared;
    grad_delta(&g, threads);
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
