#include "common/model/t5.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/ops/ops.h"

typedef struct T5Block {
    const Param *norm1, *q, *k, *v, *o, *norm2, *wi_0, *wi_1, *wo;
} T5Block;

struct T5 {
    T5Config c;
    Backend *be;
    ParamSet ps;
    const Param *embed, *bias, *final_norm;
    T5Block *block;
    Tensor kept;  /* position bias [heads,n,n] on the back end, of the last call's n; data NULL: none yet */
    int unmasked; /* it has no mask in it: good for the next call */
};

/* ---- parameters ------------------------------------------------------------------------------ */

/* A full T5 checkpoint also carries its decoder. */
static int is_foreign(const char *name)
{
    return !strncmp(name, "decoder.", 8) || !strcmp(name, "lm_head.weight");
}

/* Adds every name (bind 0) or looks it up (bind 1). */
typedef struct Walk {
    T5 *t;
    int bind;
} Walk;

static int param(const Walk *w, const Param **out, int64_t block, const char *name, int64_t d0, int64_t d1, Err *err)
{
    char full[128];
    const int64_t dim[] = {d0, d1};
    if (block < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "encoder.block.%" PRId64 ".layer.%s.weight", block, name);
    if (!w->bind)
        return params_add(&w->t->ps, 0, full, d1 ? 2 : 1, dim, err);
    *out = params_find(&w->t->ps, full);
    return 0;
}

static int walk(T5 *t, int bind, Err *err)
{
    const T5Config *c = &t->c;
    const Walk w = {t, bind};
    int64_t D = c->d_model, inner = c->heads * c->d_kv;
    int rc;
    if ((rc = param(&w, &t->embed, -1, "shared.weight", c->vocab, D, err)) ||
        (rc = param(&w, &t->final_norm, -1, "encoder.final_layer_norm.weight", D, 0, err)) ||
        (rc = param(&w, &t->bias, 0, "0.SelfAttention.relative_attention_bias", c->buckets, c->heads, err)))
        return rc;
    for (int64_t i = 0; i < c->layers; i++) {
        T5Block *b = &t->block[i];
        if ((rc = param(&w, &b->norm1, i, "0.layer_norm", D, 0, err)) ||
            (rc = param(&w, &b->q, i, "0.SelfAttention.q", inner, D, err)) ||
            (rc = param(&w, &b->k, i, "0.SelfAttention.k", inner, D, err)) ||
            (rc = param(&w, &b->v, i, "0.SelfAttention.v", inner, D, err)) ||
            (rc = param(&w, &b->o, i, "0.SelfAttention.o", D, inner, err)) ||
            (rc = param(&w, &b->norm2, i, "1.layer_norm", D, 0, err)) ||
            (rc = param(&w, &b->wi_0, i, "1.DenseReluDense.wi_0", c->d_ff, D, err)) ||
            (rc = param(&w, &b->wi_1, i, "1.DenseReluDense.wi_1", c->d_ff, D, err)) ||
            (rc = param(&w, &b->wo, i, "1.DenseReluDense.wo", D, c->d_ff, err)))
            return rc;
    }
    return 0;
}

static int t5_new(T5 **out, Backend *be, const T5Config *c, Err *err)
{
    T5 *t = mem_calloc(1, sizeof *t, err);
    *out = t;
    if (!t)
        return ERR_NOMEM;
    t->c = *c;
    t->be = be;
    t->ps.ignore = is_foreign;
    if (!(t->block = mem_calloc(c->layers, sizeof *t->block, err)))
        return ERR_NOMEM;
    int rc = walk(t, 0, err);
    if (rc || (rc = params_finish(&t->ps, err)) || (rc = walk(t, 1, err)))
        return rc;
    params_find(&t->ps, "shared.weight")->alias = "encoder.embed_tokens.weight";
    return 0;
}

int t5_open(T5 **out, Backend *be, const char *folder, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    SafeTensors *file = NULL;
    json_t *json = NULL;
    T5Config c;
    *out = NULL;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;
    if (rc || (rc = t5_config_parse(&c, json, path, err)) || (rc = t5_new(out, be, &c, err)))
        goto fail;
    if (be->plan)
        rc = params_plan(&(*out)->ps, be, err);
    else if (!(rc = safetensors_open_folder(&file, folder, "model", be->log, err)))
        rc = params_load_mapped(&(*out)->ps, be, &file, folder, err);
fail:
    safetensors_close(&file);
    json_decref(json);
    mem_free(path);
    if (rc)
        t5_close(out);
    return rc;
}

int t5_check_weights(const T5Config *c, const char *folder, const Log *log, Err *err)
{
    T5 *t = NULL;
    int rc = t5_new(&t, NULL, c, err);
    if (!rc)
        rc = params_check_folder(&t->ps, folder, "model", log, err);
    t5_close(&t);
    return rc;
}

int t5_new_filled(T5 **out, Backend *be, const T5Config *c, Err *err)
{
    int rc = t5_new(out, be, c, err);
    if (!rc)
        rc = be->plan ? params_plan(&(*out)->ps, be, err) : params_fill(&(*out)->ps, be, err);
    if (rc)
        t5_close(out);
    return rc;
}

void t5_close(T5 **t)
{
    if (!t || !*t)
        return;
    if ((*t)->kept.data)
        (*t)->be->release((*t)->be, (*t)->kept.data);
    params_fini(&(*t)->ps);
    mem_free((*t)->block);
    mem_free(*t);
    *t = NULL;
}

const T5Config *t5_config(const T5 *t)
{
    return &t->c;
}

ParamSet *t5_params(T5 *t)
{
    return &t->ps;
}

int t5_save(T5 *t, const char *folder, DType dtype, Err *err)
{
    char *config = path_join(folder, "config.json", err), *weights = path_join(folder, "model.safetensors", err);
    json_t *json = t5_config_json(&t->c, err);
    int rc = config && weights && json ? dir_make(folder, err) : ERR_NOMEM;
    if (!rc)
        rc = params_save(&t->ps, weights, dtype, err);
    if (!rc)
        rc = json_write_file(json, config, err);
    json_decref(json);
    mem_free(config);
    mem_free(weights);
    return rc;
}

/* ---- forward --------------------------------------------------------------------------------- */

int t5_bucket(int64_t r, int64_t buckets, int64_t max_distance)
{
    int64_t half = buckets / 2, exact = half / 2, d = r < 0 ? -r : r, at = r > 0 ? half : 0;
    if (d < exact)
        return (int)(at + d);
    /* in float32, as transformers computes it: on a bucket's edge double gives the bucket below */
    float far = logf((float)d / (float)exact) / (float)log((double)max_distance / (double)exact) *
                (float)(half - exact);
    int64_t b = exact + (int64_t)far;
    return (int)(at + (b < half ? b : half - 1));
}

/* bias [heads,n,n]: the position bias of every pair, and the mask. */
static int upload_bias(T5 *t, const Tensor *bias, const uint8_t *mask, int64_t n, Err *err)
{
    const T5Config *c = &t->c;
    if (t->be->plan)
        return 0;
    float *table = mem_alloc_aligned(c->buckets * c->heads * (int64_t)sizeof(float), err);
    float *host = mem_alloc_aligned(tensor_count(bias) * (int64_t)sizeof(float), err);
    int rc = table && host ? params_get(&t->ps, t->bias, table, err) : ERR_NOMEM;
    for (int64_t i = 0; i < n && !rc; i++)
        for (int64_t j = 0; j < n; j++) {
            int bucket = t5_bucket(j - i, c->buckets, c->max_distance);
            for (int64_t h = 0; h < c->heads; h++)
                host[(h * n + i) * n + j] = table[bucket * c->heads + h] + (mask && !mask[j] ? -FLT_MAX : 0);
        }
    if (!rc)
        rc = backend_put_f32(t->be, bias, host, err);
    mem_free_aligned(table);
    mem_free_aligned(host);
    return rc;
}

/* t->kept is the bias of n tokens with that mask: made again only when it must be. */
static int position_bias(T5 *t, const uint8_t *mask, int64_t n, Err *err)
{
    int rc = 0;
    if (t->unmasked && !mask && t->kept.dim[1] == n)
        return 0;
    t->unmasked = 0;
    if (t->kept.data && t->kept.dim[1] != n) {
        t->be->release(t->be, t->kept.data);
        t->kept.data = NULL;
    }
    if (!t->kept.data) {
        void *block = NULL;
        t->kept = tensor_of(NULL, dtype_wide(t->be->act), 3, t->c.heads, n, n);
        if ((rc = t->be->alloc(t->be, tensor_bytes(&t->kept), &block, err)))
            return rc;
        t->kept.data = block;
    }
    if ((rc = upload_bias(t, &t->kept, mask, n, err)))
        return rc;
    t->unmasked = !mask;
    return 0;
}

typedef struct Pass {
    T5 *t;
    Backend *be;
    Arena *work;
    int64_t n;
    /* the residual stream [1,n,D], F32 whatever the activations are: it leaves the range of half
     * precision */
    Tensor x;
    Err *err;
} Pass;

static int take(Pass *p, Tensor *t, int64_t width)
{
    return arena_tensor(p->work, t, p->be->act, 3, p->err, 1, p->n, width);
}

/* h = norm(x). */
static int norm(Pass *p, const Tensor *h, const Param *w)
{
    int rc = op_copy(p->be, h, &p->x, p->err);
    return rc ? rc : op_rmsnorm(p->be, h, h, &w->value, p->t->c.eps, p->err);
}

/* x += h. */
static int add(Pass *p, const Tensor *h)
{
    return op_lincomb(p->be, &p->x, 2, (const double[]){1, 1}, (const Tensor *const[]){&p->x, h}, p->err);
}

static int attention(Pass *p, const T5Block *b)
{
    const T5Config *c = &p->t->c;
    int64_t mark = arena_mark(p->work), inner = c->heads * c->d_kv;
    const AttnParams ap = {.heads = c->heads, .scale = 1, .bias = &p->t->kept}; /* T5 does not divide by sqrt(d) */
    const Param *const w[3] = {b->q, b->k, b->v};
    Tensor h, o, qkv[3];
    int rc = take(p, &h, c->d_model);
    if (rc || (rc = take(p, &o, inner)) || (rc = norm(p, &h, b->norm1)))
        goto fail;
    for (int i = 0; i < 3; i++)
        if ((rc = take(p, &qkv[i], inner)) || (rc = op_linear(p->be, &qkv[i], &h, &w[i]->value, NULL, p->err)))
            goto fail;
    if ((rc = op_attention(p->be, &o, NULL, &qkv[0], &qkv[1], &qkv[2], &ap, p->err)))
        goto fail;
    if ((rc = op_linear(p->be, &h, &o, &b->o->value, NULL, p->err)))
        goto fail;
    rc = add(p, &h);
fail:
    arena_reset(p->work, mark);
    return rc;
}

static int feed_forward(Pass *p, const T5Block *b)
{
    int64_t mark = arena_mark(p->work);
    Tensor h, u, gate;
    int rc = take(p, &h, p->t->c.d_model);
    if (rc || (rc = take(p, &u, p->t->c.d_ff)) || (rc = take(p, &gate, p->t->c.d_ff)) || (rc = norm(p, &h, b->norm2)))
        goto fail;
    if ((rc = op_linear(p->be, &u, &h, &b->wi_0->value, NULL, p->err)))
        goto fail;
    if ((rc = op_linear(p->be, &gate, &h, &b->wi_1->value, NULL, p->err)))
        goto fail;
    if ((rc = op_act_gate(p->be, &u, &u, &gate, ACT_GELU_TANH, p->err)))
        goto fail;
    if ((rc = op_linear(p->be, &h, &u, &b->wo->value, NULL, p->err)))
        goto fail;
    rc = add(p, &h);
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* x = the embeddings of ids. */
static int embed(Pass *p, const int32_t *ids)
{
    int64_t mark = arena_mark(p->work);
    Tensor on_be, h;
    int rc = arena_tensor(p->work, &on_be, DT_I32, 1, p->err, p->n);
    if (rc || (rc = take(p, &h, p->t->c.d_model)) ||
        (rc = p->be->upload(p->be, on_be.data, ids, tensor_bytes(&on_be), p->err)))
        goto fail;
    if ((rc = op_embed(p->be, &h, &p->t->embed->value, &on_be, p->err)))
        goto fail;
    rc = op_copy(p->be, &p->x, &h, p->err);
fail:
    arena_reset(p->work, mark);
    return rc;
}

int t5_encode(T5 *t, Arena *work, float *hidden, const int32_t *ids, const uint8_t *mask, int64_t n, Err *err)
{
    Pass p = {.t = t, .be = t->be, .work = work, .n = n, .err = err};
    int64_t mark = arena_mark(work);
    Tensor h;
    int rc;
    if (n < 1 || n > 1 << 14)
        return err_set(err, ERR_USAGE, "T5: %" PRId64 " tokens, expected 1..%d", n, 1 << 14);
    if ((rc = arena_tensor(work, &p.x, dtype_wide(t->be->act), 3, err, 1, n, t->c.d_model)) ||
        (rc = position_bias(t, mask, n, err)) || (rc = embed(&p, ids)))
        goto fail;
    for (int64_t i = 0; i < t->c.layers && !rc; i++)
        if (!(rc = attention(&p, &t->block[i])))
            rc = feed_forward(&p, &t->block[i]);
    if (rc || (rc = take(&p, &h, t->c.d_model)) || (rc = norm(&p, &h, t->final_norm)))
        goto fail;
    if (!t->be->plan)
        rc = backend_get_f32(t->be, hidden, &h, err);
fail:
    arena_reset(work, mark);
    return rc;
}

static void forget(const T5 *t, const T5Block *b)
{
    const Param *const all[] = {b->norm1, b->q, b->k, b->v, b->o, b->norm2, b->wi_0, b->wi_1, b->wo};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        params_forget(&t->ps, all[i]);
}

/* One layer of the text whose residual stream is p->x; with block NULL what comes before all of them, or
 * after. */
static int pass_one(Pass *p, const T5Block *block, int before, const int32_t *ids)
{
    int64_t mark = arena_mark(p->work);
    Tensor h;
    int rc;
    if (block)
        rc = (rc = attention(p, block)) ? rc : feed_forward(p, block);
    else if (before)
        rc = embed(p, ids);
    else if (!(rc = take(p, &h, p->t->c.d_model)) && !(rc = norm(p, &h, p->t->final_norm)))
        rc = backend_get_f32(p->be, p->x.data, &h, p->err); /* the stream is not needed any more */
    arena_reset(p->work, mark);
    return rc;
}

int t5_encode_many(T5 *t, Arena *work, float *hidden, const int32_t *const *ids, int64_t count, int64_t n, Err *err)
{
    int64_t D = t->c.d_model;
    int rc = 0;
    if (!t->be->host || t->be->plan || dtype_wide(t->be->act) != DT_F32) {
        for (int64_t k = 0; k < count && !rc; k++)
            rc = t5_encode(t, work, hidden + k * n * D, ids[k], NULL, n, err);
        return rc;
    }
    if (n < 1 || n > 1 << 14)
        return err_set(err, ERR_USAGE, "T5: %" PRId64 " tokens, expected 1..%d", n, 1 << 14);
    if ((rc = position_bias(t, NULL, n, err)))
        return rc;
    Pass p = {.t = t, .be = t->be, .work = work, .n = n, .err = err};
    for (int64_t i = -1; i <= t->c.layers && !rc; i++) {
        const T5Block *b = i >= 0 && i < t->c.layers ? &t->block[i] : NULL;
        for (int64_t k = 0; k < count && !rc; k++) {
            p.x = tensor_of(hidden + k * n * D, DT_F32, 3, 1, n, D);
            rc = pass_one(&p, b, i < 0, ids[k]);
        }
        if (b)
            forget(t, b);
        else if (i < 0)
            params_forget(&t->ps, t->embed);
    }
    return rc;
}

int t5_plan(const T5Config *c, DType act, int64_t n, int64_t *bytes, Err *err)
{
    Backend *be = NULL;
    Arena *work = NULL;
    T5 *t = NULL;
    int rc = backend_open(&be, "plan", 1, NULL, err);
    if (rc)
        goto fail;
    be->act = act;
    if ((rc = t5_new_filled(&t, be, c, err)) || (rc = arena_new(&work, be, 0, "t5", err)))
        goto fail;
    rc = t5_encode(t, work, NULL, NULL, NULL, n, err);
    *bytes = arena_high(work);
fail:
    arena_free(&work);
    t5_close(&t);
    backend_close(&be);
    return rc;
}
