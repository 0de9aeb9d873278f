#include "common/model/clip_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/ops/ops.h"
#include "common/store/torch_file.h"

typedef struct ClipLinear {
    const Param *w, *b;
} ClipLinear; /* also a norm's weight and bias */
typedef struct ClipLayer {
    ClipLinear norm1, q, k, v, out, norm2, fc1, fc2;
} ClipLayer;

struct Clip {
    ClipConfig c;
    Backend *be;
    ParamSet ps;
    const char *text_prefix; /* of the text tower's names */
    ClipLayer *text, *vision;
    const Param *tokens, *text_positions, *text_projection, *logit_scale;
    const Param *class_row, *patches, *vision_positions, *vision_projection;
    ClipLinear final_norm, pre_norm, post_norm;
};

/* ---- config ---------------------------------------------------------------------------------- */

static int parse_act(int64_t *out, const json_t *json, const char *where, Err *err)
{
    const char *name;
    int rc = json_get_str_or(json, "hidden_act", where, "quick_gelu", &name, err);
    if (rc)
        return rc;
    if (!strcmp(name, "quick_gelu"))
        *out = ACT_QUICK_GELU;
    else if (!strcmp(name, "gelu"))
        *out = ACT_GELU_ERF;
    else
        return err_set(err, ERR_UNSUPPORTED, "%s: hidden_act is '%s', expected quick_gelu or gelu", where, name);
    return 0;
}

int clip_parse_tower(ClipTower *t, const ClipTower *dflt, const json_t *json, const char *where, Err *err)
{
    int rc;
    if (!json_is_object(json))
        return err_set(err, ERR_FORMAT, "%s is missing, or no object", where);
    if ((rc = json_get_int_or(json, "hidden_size", where, dflt->hidden, &t->hidden, err)) ||
        (rc = json_get_int_or(json, "intermediate_size", where, dflt->intermediate, &t->intermediate, err)) ||
        (rc = json_get_int_or(json, "num_hidden_layers", where, dflt->layers, &t->layers, err)) ||
        (rc = json_get_int_or(json, "num_attention_heads", where, dflt->heads, &t->heads, err)) ||
        (rc = json_get_num_or(json, "layer_norm_eps", where, 1e-5, &t->eps, err)) ||
        (rc = parse_act(&t->act, json, where, err)))
        return rc;
    if (t->hidden < 1 || t->hidden > 1 << 16 || t->intermediate < 1 || t->intermediate > 1 << 20 || t->layers < 1 ||
        t->layers > 1000 || t->heads < 1 || t->hidden % t->heads || !(t->eps > 0 && t->eps < 1))
        return err_set(err, ERR_FORMAT,
                       "%s: hidden_size %" PRId64 ", intermediate_size %" PRId64 ", num_hidden_layers %" PRId64
                       ", num_attention_heads %" PRId64 ", "
                       "layer_norm_eps %g make no tower",
                       where, t->hidden, t->intermediate, t->layers, t->heads, t->eps);
    return 0;
}

int clip_config_parse(ClipConfig *out, const json_t *json, const char *where, Err *err)
{
    static const ClipTower text_dflt = {.hidden = 512, .intermediate = 2048, .layers = 12, .heads = 8};
    static const ClipTower vision_dflt = {.hidden = 768, .intermediate = 3072, .layers = 12, .heads = 12};
    const json_t *text = json_object_get(json, "text_config"), *vision = json_object_get(json, "vision_config");
    char text_where[512], vision_where[512];
    ClipConfig c;
    int64_t channels;
    snprintf(text_where, sizeof text_where, "%s: text_config", where);
    snprintf(vision_where, sizeof vision_where, "%s: vision_config", where);
    int rc = clip_parse_tower(&c.text, &text_dflt, text, text_where, err);
    if (rc || (rc = clip_parse_tower(&c.vision, &vision_dflt, vision, vision_where, err)) ||
        (rc = json_get_int_or(json, "projection_dim", where, 512, &c.projection, err)) ||
        (rc = json_get_int_or(text, "vocab_size", text_where, 49408, &c.vocab, err)) ||
        (rc = json_get_int_or(text, "max_position_embeddings", text_where, 77, &c.positions, err)) ||
        (rc = json_get_int_or(text, "eos_token_id", text_where, 49407, &c.eos_id, err)) ||
        (rc = json_get_int_or(vision, "image_size", vision_where, 224, &c.image_size, err)) ||
        (rc = json_get_int_or(vision, "patch_size", vision_where, 32, &c.patch, err)) ||
        (rc = json_get_int_or(vision, "num_channels", vision_where, 3, &channels, err)))
        return rc;
    if (c.projection < 1 || c.projection > 1 << 16 || c.vocab < 1 || c.vocab > 1 << 24 || c.positions < 1 ||
        c.positions > 1 << 14)
        return err_set(err, ERR_FORMAT,
                       "%s: projection_dim %" PRId64 ", vocab_size %" PRId64 ", max_position_embeddings %" PRId64
                       " are not possible",
                       where, c.projection, c.vocab, c.positions);
    if (channels != 3 || c.image_size < 1 || c.image_size > 1 << 12 || c.patch < 1 || c.image_size % c.patch)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: %" PRId64 " channels, image_size %" PRId64 ", patch_size %" PRId64
                       "; expected 3 channels and whole patches",
                       vision_where, channels, c.image_size, c.patch);
    *out = c;
    return 0;
}

/* ---- parameters ------------------------------------------------------------------------------ */

static int is_buffer(const char *name)
{
    return str_ends_with(name, ".position_ids");
}

/* Adds every name (bind 0) or looks it up (bind 1). */
typedef struct Walk {
    Clip *c;
    int bind;
    Err *err;
} Walk;

static int param(const Walk *w, const Param **out, const char *name, int rank, const int64_t *dim)
{
    if (!w->bind)
        return params_add(&w->c->ps, 0, name, rank, dim, w->err);
    *out = params_find(&w->c->ps, name);
    return 0;
}

/* NAME.weight [out,in] (in 0: [out]) and NAME.bias [out]. */
static int linear(const Walk *w, ClipLinear *l, const char *prefix, const char *name, int64_t out, int64_t in)
{
    char full[192];
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    int rc = param(w, &l->w, full, in ? 2 : 1, (const int64_t[]){out, in});
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    return rc ? rc : param(w, &l->b, full, 1, &out);
}

static int layers(const Walk *w, ClipLayer *l, const ClipTower *t, const char *tower)
{
    int64_t D = t->hidden;
    int rc = 0;
    for (int64_t i = 0; i < t->layers && !rc; i++, l++) {
        char p[96];
        snprintf(p, sizeof p, "%sencoder.layers.%" PRId64 ".", tower, i);
        if ((rc = linear(w, &l->norm1, p, "layer_norm1", D, 0)) ||
            (rc = linear(w, &l->q, p, "self_attn.q_proj", D, D)) ||
            (rc = linear(w, &l->k, p, "self_attn.k_proj", D, D)) ||
            (rc = linear(w, &l->v, p, "self_attn.v_proj", D, D)) ||
            (rc = linear(w, &l->out, p, "self_attn.out_proj", D, D)) ||
            (rc = linear(w, &l->norm2, p, "layer_norm2", D, 0)) ||
            (rc = linear(w, &l->fc1, p, "mlp.fc1", t->intermediate, D)))
            break;
        rc = linear(w, &l->fc2, p, "mlp.fc2", D, t->intermediate);
    }
    return rc;
}

static int64_t n_patches(const ClipConfig *c)
{
    return (c->image_size / c->patch) * (c->image_size / c->patch);
}

static int walk(Clip *m, int bind, Err *err)
{
    const Walk w = {m, bind, err};
    const ClipConfig *c = &m->c;
    int64_t T = c->text.hidden, V = c->vision.hidden, P = c->projection;
    char tokens[64], positions[64];
    snprintf(tokens, sizeof tokens, "%sembeddings.token_embedding.weight", m->text_prefix);
    snprintf(positions, sizeof positions, "%sembeddings.position_embedding.weight", m->text_prefix);
    int rc = layers(&w, m->text, &c->text, m->text_prefix);
    if (rc || (rc = linear(&w, &m->final_norm, m->text_prefix, "final_layer_norm", T, 0)) ||
        (rc = param(&w, &m->tokens, tokens, 2, (const int64_t[]){c->vocab, T})) ||
        (rc = param(&w, &m->text_positions, positions, 2, (const int64_t[]){c->positions, T})) || !c->vision.layers)
        return rc;
    if ((rc = layers(&w, m->vision, &c->vision, "vision_model.")) ||
        (rc = linear(&w, &m->pre_norm, "vision_model.", "pre_layrnorm", V, 0)) || /* spelled so */
        (rc = linear(&w, &m->post_norm, "vision_model.", "post_layernorm", V, 0)))
        return rc;
    const struct {
        const Param **out;
        const char *name;
        int rank;
        int64_t dim[4];
    } single[] = {
        {&m->logit_scale, "logit_scale", 0, {0}},
        {&m->text_projection, "text_projection.weight", 2, {P, T}},
        {&m->vision_projection, "visual_projection.weight", 2, {P, V}},
        {&m->class_row, "vision_model.embeddings.class_embedding", 1, {V}},
        {&m->patches, "vision_model.embeddings.patch_embedding.weight", 4, {V, 3, c->patch, c->patch}},
        {&m->vision_positions, "vision_model.embeddings.position_embedding.weight", 2, {1 + n_patches(c), V}}};
    for (size_t i = 0; i < sizeof single / sizeof *single && !rc; i++)
        rc = param(&w, single[i].out, single[i].name, single[i].rank, single[i].dim);
    return rc;
}

int clip_new(Clip **out, Backend *be, const ClipConfig *c, const char *text_prefix, Err *err)
{
    Clip *m = mem_calloc(1, sizeof *m, err);
    *out = m;
    if (!m)
        return ERR_NOMEM;
    m->c = *c;
    m->be = be;
    m->text_prefix = text_prefix;
    m->ps.ignore = is_buffer;
    m->text = mem_calloc(c->text.layers, sizeof *m->text, err);
    m->vision = mem_calloc(c->vision.layers, sizeof *m->vision, err);
    if (!m->text || !m->vision)
        return ERR_NOMEM;
    int rc = walk(m, 0, err);
    if (rc || (rc = params_finish(&m->ps, err)))
        return rc;
    return walk(m, 1, err);
}

int clip_open_weights(SafeTensors **out, const char *folder, const Log *log, Err *err)
{
    Err why = {0};
    char *path = path_join(folder, "pytorch_model.bin", err);
    *out = NULL;
    int rc = path ? safetensors_open_folder(out, folder, "model", log, &why) : ERR_NOMEM;
    if (path && rc == ERR_NOTFOUND && file_exists(path)) /* as transformers wrote before safetensors */
        rc = torch_file_open(out, path, err);
    else if (path && rc)
        err_set(err, rc, "%s", why.msg);
    mem_free(path);
    return rc;
}

int clip_open(Clip **out, Backend *be, const char *folder, Err *err)
{
    char *path = path_join(folder, "config.json", err);
    SafeTensors *file = NULL;
    json_t *json = NULL;
    ClipConfig c;
    *out = NULL;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;
    if (rc || (rc = clip_config_parse(&c, json, path, err)) || (rc = clip_new(out, be, &c, "text_model.", err)))
        goto fail;
    if (be->plan)
        rc = params_plan(&(*out)->ps, be, err);
    else if (!(rc = clip_open_weights(&file, folder, be->log, err)))
        rc = params_load_mapped(&(*out)->ps, be, &file, folder, err);
fail:
    safetensors_close(&file);
    json_decref(json);
    mem_free(path);
    if (rc)
        clip_close(out);
    return rc;
}

int clip_new_filled(Clip **out, Backend *be, const ClipConfig *c, Err *err)
{
    int rc = clip_new(out, be, c, "text_model.", err);
    if (!rc)
        rc = be->plan ? params_plan(&(*out)->ps, be, err) : params_fill(&(*out)->ps, be, err);
    if (rc)
        clip_close(out);
    return rc;
}

void clip_close(Clip **c)
{
    if (!c || !*c)
        return;
    params_fini(&(*c)->ps);
    mem_free((*c)->text);
    mem_free((*c)->vision);
    mem_free(*c);
    *c = NULL;
}

const ClipConfig *clip_config(const Clip *c)
{
    return &c->c;
}

ParamSet *clip_params(Clip *c)
{
    return &c->ps;
}

/* ---- forward --------------------------------------------------------------------------------- */

typedef struct Pass {
    Clip *m;
    Backend *be;
    Arena *work;
    const ClipTower *tower;
    int causal;
    Tensor x; /* [1,n,D] */
    Err *err;
} Pass;

static int take(Pass *p, Tensor *t, int64_t n, int64_t width)
{
    return arena_tensor(p->work, t, p->be->act, 3, p->err, 1, n, width);
}

static int norm(Pass *p, const Tensor *y, const Tensor *x, const ClipLinear *l)
{
    return op_layernorm(p->be, y, x, &l->w->value, &l->b->value, p->tower->eps, NULL, p->err);
}

static int apply(Pass *p, const Tensor *y, const Tensor *x, const ClipLinear *l)
{
    return op_linear(p->be, y, x, &l->w->value, &l->b->value, p->err);
}

/* x += out(attention(norm1(x))). */
static int attention(Pass *p, const ClipLayer *l)
{
    int64_t mark = arena_mark(p->work), n = p->x.dim[1], D = p->x.dim[2];
    const AttnParams ap = {
        .heads = p->tower->heads, .scale = 1 / sqrt((double)(D / p->tower->heads)), .causal = p->causal};
    const ClipLinear *const w[3] = {&l->q, &l->k, &l->v};
    Tensor h, o, qkv[3];
    int rc = take(p, &h, n, D);
    if (rc || (rc = take(p, &o, n, D)) || (rc = norm(p, &h, &p->x, &l->norm1)))
        goto fail;
    for (int i = 0; i < 3; i++)
        if ((rc = take(p, &qkv[i], n, D)) || (rc = apply(p, &qkv[i], &h, w[i])))
            goto fail;
    if ((rc = op_attention(p->be, &o, NULL, &qkv[0], &qkv[1], &qkv[2], &ap, p->err)) ||
        (rc = apply(p, &h, &o, &l->out)))
        goto fail;
    rc = op_add(p->be, &p->x, &p->x, &h, p->err);
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* x += fc2(act(fc1(norm2(x)))). */
static int feed_forward(Pass *p, const ClipLayer *l)
{
    int64_t mark = arena_mark(p->work), n = p->x.dim[1], D = p->x.dim[2];
    Tensor h, u;
    int rc = take(p, &h, n, D);
    if (rc || (rc = take(p, &u, n, p->tower->intermediate)) || (rc = norm(p, &h, &p->x, &l->norm2)) ||
        (rc = apply(p, &u, &h, &l->fc1)))
        goto fail;
    if ((rc = op_act(p->be, &u, &u, (ActKind)p->tower->act, p->err)) || (rc = apply(p, &h, &u, &l->fc2)))
        goto fail;
    rc = op_add(p->be, &p->x, &p->x, &h, p->err);
fail:
    arena_reset(p->work, mark);
    return rc;
}

static int run_layers(Pass *p, const ClipLayer *l)
{
    int rc = 0;
    for (int64_t i = 0; i < p->tower->layers && !rc; i++)
        if (!(rc = attention(p, &l[i])))
            rc = feed_forward(p, &l[i]);
    return rc;
}

/* x += the first rows of the position table, whatever its type. */
static int add_positions(Pass *p, const Param *table)
{
    int64_t mark = arena_mark(p->work), n = p->x.dim[1];
    Tensor rows = tensor_rows(&table->value, 0, n), wide;
    int rc = arena_tensor(p->work, &wide, dtype_wide(p->be->act), 2, p->err, n, p->x.dim[2]);
    if (!rc && !(rc = op_copy(p->be, &wide, &rows, p->err)))
        rc = op_add_rows(p->be, &p->x, 0, &wide, p->err);
    arena_reset(p->work, mark);
    return rc;
}

static int get(const Pass *p, float *host, const Tensor *t)
{
    return host && !p->be->plan ? backend_get_f32(p->be, host, t, p->err) : 0;
}

/* pooled and embed <- row [1,D], already normalised. */
static int project(Pass *p, const Tensor *row, const Param *projection, float *embed, float *pooled)
{
    Tensor out;
    int rc = arena_tensor(p->work, &out, p->be->act, 2, p->err, 1, p->m->c.projection);
    if (rc || (rc = op_linear(p->be, &out, row, &projection->value, NULL, p->err)) || (rc = get(p, pooled, row)))
        return rc;
    return get(p, embed, &out);
}

/* transformers' rule: with the historic eos_token_id of 2 the largest id counts as the end, else
 * the first eos; row 0 when there is none. */
static int64_t pooled_row(const ClipConfig *c, const int32_t *ids, int64_t n)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        if (c->eos_id != 2 && ids[i] == c->eos_id)
            return i;
        if (c->eos_id == 2 && ids[i] > ids[at])
            at = i;
    }
    return at;
}

int clip_text(Clip *c, Arena *work, float *embed, float *hidden, float *pooled, const int32_t *ids, int64_t n, Err *err)
{
    Pass p = {.m = c, .be = c->be, .work = work, .tower = &c->c.text, .causal = 1, .err = err};
    int64_t mark = arena_mark(work), D = c->c.text.hidden;
    Tensor on_be;
    if (n < 1 || n > c->c.positions)
        return err_set(err, ERR_USAGE, "CLIP: %" PRId64 " tokens, expected 1..%" PRId64, n, c->c.positions);
    int rc = take(&p, &p.x, n, D);
    if (rc || (rc = arena_tensor(work, &on_be, DT_I32, 1, err, n)) ||
        (rc = c->be->upload(c->be, on_be.data, ids, tensor_bytes(&on_be), err)))
        goto fail;
    if ((rc = op_embed(c->be, &p.x, &c->tokens->value, &on_be, err)) || (rc = add_positions(&p, c->text_positions)))
        goto fail;
    if ((rc = run_layers(&p, c->text)) || (rc = norm(&p, &p.x, &p.x, &c->final_norm)) || (rc = get(&p, hidden, &p.x)))
        goto fail;
    Tensor all = tensor_as(&p.x, 2, n, D), row = tensor_rows(&all, c->be->plan ? 0 : pooled_row(&c->c, ids, n), 1);
    if (c->text_projection)
        rc = project(&p, &row, c->text_projection, embed, pooled);
fail:
    arena_reset(work, mark);
    return rc;
}

/* x = class row, then one row a patch. */
static int embed_patches(Pass *p, const float *pixels)
{
    const Clip *m = p->m;
    int64_t mark = arena_mark(p->work), S = m->c.image_size, n = n_patches(&m->c), D = p->x.dim[2],
            size = 3 * m->c.patch * m->c.patch;
    Tensor image, patches, rows, all = tensor_as(&p->x, 2, n + 1, D), first = tensor_rows(&all, 0, 1);
    Tensor kernel = tensor_as(&m->patches->value, 2, D, size); /* channel, row, column: patchify's order */
    float *last = p->be->plan ? NULL : mem_alloc_aligned(S * S * 3 * (int64_t)sizeof *last, p->err);
    int rc = last || p->be->plan ? 0 : ERR_NOMEM;
    for (int64_t i = 0; last && i < S * S; i++)
        for (int64_t c = 0; c < 3; c++)
            last[i * 3 + c] = pixels[c * S * S + i];
    if (rc || (rc = arena_tensor(p->work, &image, p->be->act, 5, p->err, 1, 1, S, S, 3)) ||
        (rc = take(p, &patches, n, size)) || (rc = take(p, &rows, n, D)) ||
        (rc = last ? backend_put_f32(p->be, &image, last, p->err) : 0))
        goto fail;
    if ((rc = op_patchify(p->be, &patches, &image, m->c.patch, p->err)) ||
        (rc = op_linear(p->be, &rows, &patches, &kernel, NULL, p->err)))
        goto fail;
    if ((rc = op_copy(p->be, &first, &m->class_row->value, p->err)))
        goto fail;
    rc = op_copy_rows(p->be, &p->x, 1, &rows, 0, n, p->err);
fail:
    mem_free_aligned(last);
    arena_reset(p->work, mark);
    return rc;
}

int clip_image(Clip *c, Arena *work, float *embed, float *hidden, float *pooled, const float *pixels, Err *err)
{
    Pass p = {.m = c, .be = c->be, .work = work, .tower = &c->c.vision, .err = err};
    int64_t mark = arena_mark(work), n = 1 + n_patches(&c->c), D = c->c.vision.hidden;
    Tensor row;
    int rc = take(&p, &p.x, n, D);
    if (rc || (rc = arena_tensor(work, &row, c->be->act, 2, err, 1, D)) || (rc = embed_patches(&p, pixels)))
        goto fail;
    if ((rc = add_positions(&p, c->vision_positions)) || (rc = norm(&p, &p.x, &p.x, &c->pre_norm)) ||
        (rc = run_layers(&p, c->vision)))
        goto fail;
    if ((rc = get(&p, hidden, &p.x)))
        goto fail;
    Tensor all = tensor_as(&p.x, 2, n, D), first = tensor_rows(&all, 0, 1);
    if ((rc = norm(&p, &row, &first, &c->post_norm)))
        goto fail;
    rc = project(&p, &row, c->vision_projection, embed, pooled);
fail:
    arena_reset(work, mark);
    return rc;
}
