/* The transformer, forward: as inference (activations share their places) and as training (kept on
 * a tape). */
#include <string.h>

#include "common/base/mem.h"
#include "common/model/dit_internal.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

static int is_shape(const Tensor *t, DType dtype, int rank, const int64_t *dim)
{
    Tensor want = tensor_view(NULL, dtype, rank, dim);

    return t->dtype == dtype && tensor_same_shape(t, &want);
}

int dit_shape(const Dit *d, const Tensor *v, const Tensor *latents, const Tensor *text, const int64_t *timestep,
              DitShape *out, Err *err)
{
    const DitConfig *c = &d->c;
    char got[160];
    int64_t B = latents->dim[0], F = latents->dim[1], h = latents->dim[2], w = latents->dim[3];

    if (latents->rank != 5 || latents->dtype != d->be->act || latents->dim[4] != c->in_channels || B < 1 || F < 1 ||
        h < 1 || w < 1)
        return err_set(err, ERR_USAGE,
                       "transformer: latents are %s, expected %s [batch, frames, height, width, %" PRId64 "]",
                       tensor_describe(latents, got, sizeof got), dtype_name(d->be->act), c->in_channels);
    if (h % c->patch || w % c->patch)
        return err_set(err, ERR_USAGE,
                       "transformer: latent height %" PRId64 " and width %" PRId64
                       " must be multiples of the patch size %" PRId64,
                       h, w, c->patch);
    if (!is_shape(text, d->be->act, 3, (const int64_t[]){B, c->text_len, c->text_dim}))
        return err_set(err, ERR_USAGE, "transformer: text is %s, expected %s [%" PRId64 ", %" PRId64 ", %" PRId64 "]",
                       tensor_describe(text, got, sizeof got), dtype_name(d->be->act), B, c->text_len, c->text_dim);
    if (!is_shape(v, d->be->act, 5, (const int64_t[]){B, F, h, w, c->out_channels}))
        return err_set(err, ERR_USAGE,
                       "transformer: the result's place is %s, expected %s [%" PRId64 ", %" PRId64 ", %" PRId64
                       ", %" PRId64 ", %" PRId64 "]",
                       tensor_describe(v, got, sizeof got), dtype_name(d->be->act), B, F, h, w, c->out_channels);
    for (int64_t b = 0; b < B; b++)
        if (timestep[b] < 0)
            return err_set(err, ERR_USAGE, "transformer: timestep %" PRId64 " of sample %" PRId64 " is negative",
                           timestep[b], b);
    *out = (DitShape){.B = B, .F = F, .rows = h / c->patch, .cols = w / c->patch, .D = c->heads * c->head_dim};
    out->Nv = F * out->rows * out->cols;
    out->S = c->text_len + out->Nv;
    return 0;
}

/* Host staging of n floats; grows on the first call of a size and is kept. */
static int host_room(Dit *d, int64_t n, Err *err)
{
    float *grown;

    if (n <= d->host_n)
        return 0;
    if (!(grown = mem_realloc(d->host, n, sizeof *grown, err)))
        return ERR_NOMEM;
    d->host = grown;
    d->host_n = n;
    return 0;
}

/* ---- time and tokens ------------------------------------------------------------------------- */

static int time_embed(Dit *d, Arena *work, const DitShape *z, const int64_t *timestep, DitTime *t, Err *err)
{
    int64_t Te = d->c.time_dim;

    TRY(arena_tensor(work, &t->vec, DT_F32, 2, err, z->B, z->D));
    TRY(arena_tensor(work, &t->l1, DT_F32, 2, err, z->B, Te));
    TRY(arena_tensor(work, &t->s1, DT_F32, 2, err, z->B, Te));
    TRY(arena_tensor(work, &t->emb, DT_F32, 2, err, z->B, Te));
    TRY(arena_tensor(work, &t->semb, DT_F32, 2, err, z->B, Te));
    TRY(host_room(d, z->B * z->D, err));
    for (int64_t b = 0; b < z->B; b++)
        dit_time_vector(&d->c, timestep[b], d->host + b * z->D);
    TRY(backend_put_f32(d->be, &t->vec, d->host, err));
    TRY(dit_linear(d, work, &t->l1, &t->vec, &d->time1, err));
    TRY(op_act(d->be, &t->s1, &t->l1, ACT_SILU, err));
    TRY(dit_linear(d, work, &t->emb, &t->s1, &d->time2, err));
    return op_act(d->be, &t->semb, &t->emb, ACT_SILU, err); /* every user of emb takes its silu */
}

/* The codes of all video tokens, [F*rows*cols, D]: made on the host for the first call of a size, a
 * frame at a time, then kept. */
static int position_codes(Dit *d, const DitShape *z, Err *err)
{
    const int64_t of[3] = {z->F, z->rows, z->cols}, grid = z->rows * z->cols;
    void *block = NULL;

    if (d->codes.data && memcmp(of, d->codes_of, sizeof of) == 0)
        return 0;
    if (d->codes.data)
        d->be->release(d->be, d->codes.data);
    d->codes = tensor_of(NULL, DT_F32, 2, z->F * grid, z->D);
    TRY(host_room(d, grid * z->D, err));
    TRY(d->be->alloc(d->be, tensor_bytes(&d->codes), &block, err));
    d->codes.data = block;
    memset(d->codes_of, 0, sizeof d->codes_of); /* no size until all are there */
    for (int64_t f = 0; f < z->F && !d->be->plan; f++) {
        Tensor frame = tensor_rows(&d->codes, f * grid, grid);
        dit_position_frame(&d->c, f, z->rows, z->cols, d->host);
        TRY(backend_put_f32(d->be, &frame, d->host, err));
    }
    memcpy(d->codes_of, of, sizeof of);
    return 0;
}

int dit_prepare(Dit *d, int64_t F, int64_t h, int64_t w, Err *err)
{
    DitShape z = {.F = F, .rows = h / d->c.patch, .cols = w / d->c.patch, .D = d->c.heads * d->c.head_dim};
    return position_codes(d, &z, err);
}

/* x [B,S,D] = text_proj(text), then patches + position codes. */
static int embed_tokens(Dit *d, Arena *work, const DitShape *z, const Tensor *x, const Tensor *latents,
                        const Tensor *text, Err *err)
{
    const DitConfig *c = &d->c;
    int64_t mark = arena_mark(work), feature = c->in_channels * c->patch * c->patch;
    Tensor part, patches, w = tensor_as(&d->patch.w->value, 2, z->D, feature);

    TRY(arena_tensor(work, &part, d->be->act, 3, err, z->B, c->text_len, z->D));
    TRY(dit_linear(d, work, &part, text, &d->text, err));
    TRY(op_copy_rows(d->be, x, 0, &part, 0, c->text_len, err));
    arena_reset(work, mark);

    TRY(arena_tensor(work, &part, d->be->act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &patches, d->be->act, 3, err, z->B, z->Nv, feature));
    TRY(op_patchify(d->be, &patches, latents, c->patch, err));
    TRY(op_linear(d->be, &part, &patches, &w, &d->patch.b->value, err));
    TRY(op_copy_rows(d->be, x, c->text_len, &part, 0, z->Nv, err));
    arena_reset(work, mark);

    TRY(position_codes(d, z, err));
    return op_add_rows(d->be, x, c->text_len, &d->codes, err);
}

/* ---- block ----------------------------------------------------------------------------------- */

static int take_own(const Dit *d, Arena *work, const DitShape *z, DitBlockSave *s, Err *err)
{
    DType act = d->be->act;
    Tensor *const wide[] = {&s->h1, &s->q_raw, &s->k_raw, &s->q, &s->k, &s->v, &s->y1, &s->h2, &s->y2};

    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        TRY(arena_tensor(work, wide[i], act, 3, err, z->B, z->S, z->D));
    if (!s->x_mid.data)
        TRY(arena_tensor(work, &s->x_mid, act, 3, err, z->B, z->S, z->D));
    if (!s->o.data) {
        TRY(arena_tensor(work, &s->o, act, 3, err, z->B, z->S, z->D));
        TRY(arena_tensor(work, &s->lse, DT_F32, 3, err, z->B, d->c.heads, z->S));
    }
    TRY(arena_tensor(work, &s->f, act, 3, err, z->B, z->S, 4 * z->D));
    return arena_tensor(work, &s->g, act, 3, err, z->B, z->S, 4 * z->D);
}

/* Five tokens' worth beside x: h for what a linear reads, and four that are q, k, v and then the
 * feed-forward's inside. */
static int take_shared(const Dit *d, Arena *work, const DitShape *z, DitBlockSave *s, Err *err)
{
    Tensor h, four;

    TRY(arena_tensor(work, &h, d->be->act, 3, err, z->B, z->S, z->D));
    TRY(arena_tensor(work, &four, d->be->act, 4, err, 4, z->B, z->S, z->D));
    s->h1 = s->h2 = s->y2 = h;
    s->q_raw = s->q = s->y1 = h;
    s->q.data = s->q_raw.data = s->y1.data = tensor_rows(&four, 0, 1).data; /* to_out's result takes the place of q */
    s->k_raw = s->k = h;
    s->k.data = s->k_raw.data = tensor_rows(&four, 1, 1).data;
    s->v = h;
    s->v.data = tensor_rows(&four, 2, 1).data;
    if (!s->o.data)
        s->o = h; /* lse stays without a place: no backward from here */
    s->f = s->g = tensor_as(&four, 3, z->B, z->S, 4 * z->D);
    return 0;
}

int dit_block_take(const Dit *d, Arena *work, const DitShape *z, DitBlockSave *s, int own, Err *err)
{
    TRY(arena_tensor(work, &s->mod1, DT_F32, 2, err, z->B, 6 * z->D));
    TRY(arena_tensor(work, &s->mod2, DT_F32, 2, err, z->B, 6 * z->D));
    return own ? take_own(d, work, z, s, err) : take_shared(d, work, z, s, err);
}

static int attend(const Dit *d, Arena *work, const DitBlock *b, DitBlockSave *s, Err *err)
{
    Backend *be = d->be;
    Tensor q_raw = dit_heads(d, &s->q_raw), k_raw = dit_heads(d, &s->k_raw), q = dit_heads(d, &s->q),
           k = dit_heads(d, &s->k);
    AttnParams p = dit_attention_params(d);

    TRY(dit_linear(d, work, &s->q_raw, &s->h1, &b->to_q, err));
    TRY(dit_linear(d, work, &s->k_raw, &s->h1, &b->to_k, err));
    TRY(dit_linear(d, work, &s->v, &s->h1, &b->to_v, err));
    TRY(op_layernorm(be, &q, &q_raw, &b->norm_q.w->value, &b->norm_q.b->value, DIT_QK_EPS, NULL, err));
    TRY(op_layernorm(be, &k, &k_raw, &b->norm_k.w->value, &b->norm_k.b->value, DIT_QK_EPS, NULL, err));
    if (s->have_attention)
        return 0;
    return op_attention(be, &s->o, s->lse.data ? &s->lse : NULL, &s->q, &s->k, &s->v, &p, err);
}

int dit_block_forward(const Dit *d, Arena *work, int64_t i, const Tensor *semb, DitBlockSave *s, Err *err)
{
    Backend *be = d->be;
    const DitBlock *b = &d->block[i];
    Modulation m1 = {&s->mod1, d->c.text_len}, m2 = {&s->mod2, d->c.text_len};

    TRY(dit_linear(d, work, &s->mod1, semb, &b->mod1, err));
    TRY(dit_linear(d, work, &s->mod2, semb, &b->mod2, err));
    TRY(op_layernorm(be, &s->h1, &s->x_in, &b->norm1.w->value, &b->norm1.b->value, d->c.norm_eps, &m1, err));
    TRY(attend(d, work, b, s, err));
    TRY(dit_linear(d, work, &s->y1, &s->o, &b->to_out, err));
    if (s->x_mid.data != s->x_in.data)
        TRY(op_copy(be, &s->x_mid, &s->x_in, err));
    TRY(op_gate_add(be, &s->x_mid, &s->y1, &m1, err));
    TRY(op_layernorm(be, &s->h2, &s->x_mid, &b->norm2.w->value, &b->norm2.b->value, d->c.norm_eps, &m2, err));
    TRY(dit_linear(d, work, &s->f, &s->h2, &b->ff1, err));
    TRY(op_act(be, &s->g, &s->f, ACT_GELU_TANH, err));
    return dit_linear(d, work, &s->y2, &s->g, &b->ff2, err);
}

/* ---- head ------------------------------------------------------------------------------------ */

static int head_forward(const Dit *d, Arena *work, const DitShape *z, const Tensor *semb, const Tensor *x,
                        const DitHead *p, const Tensor *v, Err *err)
{
    Backend *be = d->be;
    const DitConfig *c = &d->c;
    int64_t mark = arena_mark(work);
    Modulation m = {&p->mod_out, 0};
    Tensor tokens;

    TRY(op_copy_rows(be, &p->x_video, 0, x, c->text_len, z->Nv, err)); /* text ends here */
    TRY(op_layernorm(be, &p->n_final, &p->x_video, &d->norm_final.w->value, &d->norm_final.b->value, c->norm_eps, NULL,
                     err));
    TRY(dit_linear(d, work, &p->mod_out, semb, &d->mod_out, err));
    TRY(op_layernorm(be, &p->n_out, &p->n_final, &d->norm_out.w->value, &d->norm_out.b->value, c->norm_eps, &m, err));
    TRY(arena_tensor(work, &tokens, be->act, 3, err, z->B, z->Nv, c->patch * c->patch * c->out_channels));
    TRY(dit_linear(d, work, &tokens, &p->n_out, &d->proj_out, err));
    TRY(op_unpatchify(be, v, &tokens, c->patch, err));
    arena_reset(work, mark);
    return 0;
}

/* ---- inference ------------------------------------------------------------------------------- */

void dit_set_reuse(Dit *d, const DitReuse *r)
{
    d->reuse = r;
}

/* Before block i: 1 when it is left out.  What the blocks add is their output less their input. */
static int reuse_before(const Dit *d, int64_t i, const Tensor *x, Err *err)
{
    const DitReuse *r = d->reuse;
    if (!r || i < r->first || i >= r->last)
        return 0;
    if (r->use) {
        int rc = i == r->first
                     ? op_lincomb(d->be, x, 2, (const double[]){1, 1}, (const Tensor *const[]){x, &r->kept}, err)
                     : 0;
        return rc < 0 ? rc : 1;
    }
    return i == r->first ? op_copy(d->be, &r->kept, x, err) : 0;
}

static int reuse_after(const Dit *d, int64_t i, const Tensor *x, Err *err)
{
    const DitReuse *r = d->reuse;
    if (!r || r->use || i != r->last - 1)
        return 0;
    return op_lincomb(d->be, &r->kept, 2, (const double[]){1, -1}, (const Tensor *const[]){x, &r->kept}, err);
}

static int forward_in(Dit *d, Arena *work, const DitShape *z, const Tensor *v, const Tensor *latents,
                      const Tensor *text, const int64_t *timestep, Err *err)
{
    DitTime t;
    Tensor x;
    DitHead head;
    int64_t mark;

    TRY(time_embed(d, work, z, timestep, &t, err));
    TRY(arena_tensor(work, &x, d->be->act, 3, err, z->B, z->S, z->D));
    TRY(embed_tokens(d, work, z, &x, latents, text, err));
    mark = arena_mark(work);
    for (int64_t i = 0; i < d->c.layers; i++) {
        DitBlockSave s = {.x_in = x, .x_mid = x};
        Modulation m = {&s.mod2, d->c.text_len};
        int left_out = reuse_before(d, i, &x, err);
        if (left_out < 0)
            return left_out;
        if (left_out)
            continue;
        TRY(dit_block_take(d, work, z, &s, 0, err));
        TRY(dit_block_forward(d, work, i, &t.semb, &s, err));
        TRY(op_gate_add(d->be, &x, &s.y2, &m, err));
        TRY(reuse_after(d, i, &x, err));
        arena_reset(work, mark);
    }
    TRY(arena_tensor(work, &head.x_video, d->be->act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &head.mod_out, DT_F32, 2, err, z->B, 2 * z->D));
    head.n_final = head.n_out = head.x_video;
    return head_forward(d, work, z, &t.semb, &x, &head, v, err);
}

int dit_forward(Dit *d, Arena *work, const Tensor *v, const Tensor *latents, const Tensor *text,
                const int64_t *timestep, Err *err)
{
    int64_t mark = arena_mark(work);
    DitShape z;
    int rc;

    TRY(dit_shape(d, v, latents, text, timestep, &z, err));
    rc = forward_in(d, work, &z, v, latents, text, timestep, err);
    arena_reset(work, mark);
    return rc;
}

/* ---- training -------------------------------------------------------------------------------- */

void dit_tape_free(DitTape **tape)
{
    if (!*tape)
        return;
    mem_free((*tape)->block);
    mem_free(*tape);
    *tape = NULL;
}

/* Block i of a recorded forward: x_in -> x_out, both on the tape.  Leaves in t->block[i] what the
 * policy keeps. */
static int block_record(Dit *d, Arena *work, DitTape *t, int64_t i, const Tensor *x_in, const Tensor *x_out, Err *err)
{
    const DitShape *z = &t->shape;
    DitBlockSave *keep = &t->block[i], s;
    Modulation m = {&s.mod2, d->c.text_len};
    int64_t mark;

    keep->x_in = *x_in;
    if (t->policy == RECOMPUTE_BLOCK_ATTENTION) {
        TRY(arena_tensor(work, &keep->o, d->be->act, 3, err, z->B, z->S, z->D));
        TRY(arena_tensor(work, &keep->lse, DT_F32, 3, err, z->B, d->c.heads, z->S));
    }
    mark = arena_mark(work);
    s = *keep;
    if (t->policy != RECOMPUTE_NONE)
        s.x_mid = *x_out;
    TRY(dit_block_take(d, work, z, &s, t->policy == RECOMPUTE_NONE, err));
    TRY(dit_block_forward(d, work, i, &t->time.semb, &s, err));
    if (s.x_mid.data != x_out->data)
        TRY(op_copy(d->be, x_out, &s.x_mid, err));
    TRY(op_gate_add(d->be, x_out, &s.y2, &m, err));
    if (t->policy == RECOMPUTE_NONE)
        *keep = s;
    else
        arena_reset(work, mark);
    keep->have_attention = t->policy == RECOMPUTE_BLOCK_ATTENTION;
    return 0;
}

static int record(Dit *d, Arena *work, DitTape *t, const Tensor *v, const int64_t *timestep, Err *err)
{
    const DitShape *z = &t->shape;
    DType act = d->be->act;
    Tensor x, next;
    DitHead *head = &t->head;

    TRY(time_embed(d, work, z, timestep, &t->time, err));
    TRY(arena_tensor(work, &x, act, 3, err, z->B, z->S, z->D));
    TRY(embed_tokens(d, work, z, &x, &t->latents, &t->text, err));
    for (int64_t i = 0; i < d->c.layers; i++) {
        TRY(arena_tensor(work, &next, act, 3, err, z->B, z->S, z->D));
        TRY(block_record(d, work, t, i, &x, &next, err));
        x = next;
    }
    TRY(arena_tensor(work, &head->x_video, act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &head->n_final, act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &head->n_out, act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &head->mod_out, DT_F32, 2, err, z->B, 2 * z->D));
    return head_forward(d, work, z, &t->time.semb, &x, head, v, err);
}

int dit_forward_train(Dit *d, Arena *work, DitTape **tape, Recompute policy, const Tensor *v, const Tensor *latents,
                      const Tensor *text, const int64_t *timestep, Err *err)
{
    DitShape z;
    DitTape *t;
    int rc;

    *tape = NULL;
    TRY(dit_shape(d, v, latents, text, timestep, &z, err));
    if (!(t = mem_calloc(1, sizeof *t, err)))
        return ERR_NOMEM;
    t->policy = policy;
    t->shape = z;
    t->latents = *latents;
    t->text = *text;
    if (!(t->block = mem_calloc(d->c.layers, sizeof *t->block, err)))
        rc = ERR_NOMEM;
    else
        rc = record(d, work, t, v, timestep, err);
    if (rc < 0)
        dit_tape_free(&t);
    *tape = t;
    return rc;
}

int dit_find_nonfinite(const Dit *d, const DitTape *tape, int64_t *block, Err *err)
{
    for (*block = 0; *block <= d->c.layers; ++*block) {
        double sum = 0;
        TRY(op_sum_squares(d->be, &sum, *block < d->c.layers ? &tape->block[*block].x_in : &tape->head.x_video, err));
        if (!isfinite(sum))
            return 1;
    }
    return 0;
}
