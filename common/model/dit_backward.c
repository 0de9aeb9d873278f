/* The transformer, backward.  Gradients of parameters are added to; one gradient of the token
 * stream, gx [B,S,D], is carried from the head down to the tokens and is the gradient of x_out,
 * then x_mid, then x_in of each block in turn (the residual path costs
 * nothing: branches add to gx).  Every block also adds to gsemb [B,Te], the gradient of silu(emb). */
#include "common/model/dit_internal.h"

/* What a backward pass computes: 1 where it is asked for by something that is trained.  Without LoRA
 * all of it. */
typedef struct Need {
    int tokens, time; /* gradients of the layers that make tokens and silu(emb) */
    int64_t first;    /* blocks below this one have nothing to train, nor has anything below them */
} Need;

static Need needs(const Dit *d)
{
    Need n = {.tokens = dit_trains(&d->patch, 1) || dit_trains(&d->text, 1),
              .time = dit_trains(&d->time1, 1) || dit_trains(&d->time2, 1)};

    if (!n.tokens && !n.time)
        while (n.first < d->c.layers && !dit_trains((const Affine *)&d->block[n.first], DIT_BLOCK_AFFINES))
            n.first++;
    return n;
}

/* Modulation vectors come from one linear on silu(emb).  gsemb NULL: not asked for. */
static int modulation_backward(const Dit *d, Arena *work, const Affine *a, const Tensor *gm, const Tensor *semb,
                               const Tensor *gsemb, Err *err)
{
    return dit_linear_backward(d, work, gsemb, gm, semb, a, 1, err);
}

static int norm_backward(const Dit *d, const Tensor *gx, const Tensor *gm, const Tensor *gy, const Tensor *x,
                         const Affine *a, double eps, const Modulation *m, int add, Err *err)
{
    const Tensor *gw = a->w->grad.data ? &a->w->grad : NULL, *gb = gw ? &a->b->grad : NULL;

    return op_layernorm_backward(d->be, gx, gw, gb, gm, gy, x, &a->w->value, &a->b->value, eps, m, add, err);
}

/* x_out = x_mid + gate*ff(norm2(x_mid)).  gsemb may be NULL, here and below. */
static int feed_forward_backward(Dit *d, Arena *work, const DitShape *z, const DitBlock *b, const DitBlockSave *s,
                                 const Tensor *semb, const Tensor *gx, const Tensor *gsemb, Err *err)
{
    Backend *be = d->be;
    Modulation m = {&s->mod2, d->c.text_len};
    Tensor gm, gy, gf;

    TRY(arena_tensor(work, &gm, DT_F32, 2, err, z->B, 6 * z->D));
    TRY(arena_tensor(work, &gy, be->act, 3, err, z->B, z->S, z->D));
    TRY(arena_tensor(work, &gf, be->act, 3, err, z->B, z->S, 4 * z->D));
    TRY(op_fill(be, &gm, 0, err));
    TRY(op_gate_add_backward(be, &gy, &gm, gx, &s->y2, &m, err));
    TRY(dit_linear_backward(d, work, &gf, &gy, &s->g, &b->ff2, 0, err));
    TRY(op_act_backward(be, &gf, &gf, &s->f, ACT_GELU_TANH, err));
    TRY(dit_linear_backward(d, work, &gy, &gf, &s->h2, &b->ff1, 0, err)); /* gy: gradient of h2 from here */
    TRY(norm_backward(d, gx, &gm, &gy, &s->x_mid, &b->norm2, d->c.norm_eps, &m, 1, err));
    return modulation_backward(d, work, &b->mod2, &gm, semb, gsemb, err);
}

/* Queries or keys: norm, then linear; gradient of h1 written (add 0) or added to. */
static int qk_backward(const Dit *d, Arena *work, const Tensor *graw, const Tensor *g, const Tensor *raw,
                       const Affine *norm, const Affine *to, const Tensor *h1, const Tensor *gh, int add, Err *err)
{
    Tensor graw_heads = dit_heads(d, graw), g_heads = dit_heads(d, g), raw_heads = dit_heads(d, raw);

    TRY(norm_backward(d, &graw_heads, NULL, &g_heads, &raw_heads, norm, DIT_QK_EPS, NULL, 0, err));
    return dit_linear_backward(d, work, gh, graw, h1, to, add, err);
}

/* x_mid = x_in + gate*to_out(attention(norm1(x_in))).  With `below` 0 nothing below the block is
 * trained, and the gradient of x_in is not asked for. */
static int attention_half_backward(Dit *d, Arena *work, const DitShape *z, const DitBlock *b, const DitBlockSave *s,
                                   const Tensor *semb, const Tensor *gx, const Tensor *gsemb, int below, Err *err)
{
    Backend *be = d->be;
    Modulation m = {&s->mod1, d->c.text_len};
    AttnParams p = dit_attention_params(d);
    int norm = below || gsemb || dit_trains(&b->mod1, 1) || dit_trains(&b->norm1, 1);
    Tensor gm, gy, go, gq, gk, gv;
    Tensor *const wide[] = {&gy, &go, &gq, &gk, &gv};
    const Tensor *gh = norm ? &gy : NULL;

    TRY(arena_tensor(work, &gm, DT_F32, 2, err, z->B, 6 * z->D));
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        TRY(arena_tensor(work, wide[i], be->act, 3, err, z->B, z->S, z->D));
    TRY(op_fill(be, &gm, 0, err));
    TRY(op_gate_add_backward(be, &gy, &gm, gx, &s->y1, &m, err));
    TRY(dit_linear_backward(d, work, &go, &gy, &s->o, &b->to_out, 0, err));
    TRY(op_attention_backward(be, &gq, &gk, &gv, &go, &s->q, &s->k, &s->v, &s->o, &s->lse, &p, err));
    /* gy: gradient of h1 from here; go: of the raw queries, then of the raw keys */
    TRY(qk_backward(d, work, &go, &gq, &s->q_raw, &b->norm_q, &b->to_q, &s->h1, gh, 0, err));
    TRY(qk_backward(d, work, &go, &gk, &s->k_raw, &b->norm_k, &b->to_k, &s->h1, gh, 1, err));
    TRY(dit_linear_backward(d, work, gh, &gv, &s->h1, &b->to_v, 1, err));
    if (!norm)
        return 0;
    TRY(norm_backward(d, below ? gx : NULL, &gm, &gy, &s->x_in, &b->norm1, d->c.norm_eps, &m, 1, err));
    return modulation_backward(d, work, &b->mod1, &gm, semb, gsemb, err);
}

/* Computes again what the policy did not keep, with the same operations on the same inputs: the
 * same bits. */
static int block_backward(Dit *d, Arena *work, DitTape *t, int64_t i, const Tensor *gx, const Tensor *gsemb, int below,
                          Err *err)
{
    const DitShape *z = &t->shape;
    DitBlockSave s = t->block[i];
    int64_t start = arena_mark(work), mark;

    if (t->policy != RECOMPUTE_NONE) {
        TRY(dit_block_take(d, work, z, &s, 1, err));
        TRY(dit_block_forward(d, work, i, &t->time.semb, &s, err));
    }
    mark = arena_mark(work);
    TRY(feed_forward_backward(d, work, z, &d->block[i], &s, &t->time.semb, gx, gsemb, err));
    arena_reset(work, mark);
    TRY(attention_half_backward(d, work, z, &d->block[i], &s, &t->time.semb, gx, gsemb, below, err));
    arena_reset(work, start);
    return 0;
}

/* Writes gx: zero on text rows, which the head drops. */
static int head_backward(Dit *d, Arena *work, DitTape *t, const Tensor *grad_v, const Tensor *gx, const Tensor *gsemb,
                         Err *err)
{
    Backend *be = d->be;
    const DitShape *z = &t->shape;
    const DitConfig *c = &d->c;
    int64_t mark = arena_mark(work);
    Modulation m = {&t->head.mod_out, 0};
    Tensor gtokens, gm, ga, gb;

    TRY(arena_tensor(work, &gtokens, be->act, 3, err, z->B, z->Nv, c->patch * c->patch * c->out_channels));
    TRY(arena_tensor(work, &ga, be->act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &gb, be->act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &gm, DT_F32, 2, err, z->B, 2 * z->D));
    TRY(op_fill(be, &gm, 0, err));
    TRY(op_patchify(be, &gtokens, grad_v, c->patch, err));
    TRY(dit_linear_backward(d, work, &ga, &gtokens, &t->head.n_out, &d->proj_out, 0, err));
    TRY(norm_backward(d, &gb, &gm, &ga, &t->head.n_final, &d->norm_out, c->norm_eps, &m, 0, err));
    TRY(modulation_backward(d, work, &d->mod_out, &gm, &t->time.semb, gsemb, err));
    TRY(norm_backward(d, &ga, NULL, &gb, &t->head.x_video, &d->norm_final, c->norm_eps, NULL, 0, err));
    TRY(op_fill(be, gx, 0, err));
    TRY(op_copy_rows(be, gx, c->text_len, &ga, 0, z->Nv, err));
    arena_reset(work, mark);
    return 0;
}

static int tokens_backward(Dit *d, Arena *work, DitTape *t, const Tensor *gx, Err *err)
{
    Backend *be = d->be;
    const DitShape *z = &t->shape;
    const DitConfig *c = &d->c;
    int64_t mark = arena_mark(work), feature = c->in_channels * c->patch * c->patch;
    Tensor part, patches, gw = tensor_as(&d->patch.w->grad, 2, z->D, feature);

    TRY(arena_tensor(work, &part, be->act, 3, err, z->B, c->text_len, z->D));
    TRY(op_copy_rows(be, &part, 0, gx, 0, c->text_len, err));
    TRY(dit_linear_backward(d, work, NULL, &part, &t->text, &d->text, 0, err));
    arena_reset(work, mark);
    if (!dit_trains(&d->patch, 1))
        return 0;
    TRY(arena_tensor(work, &part, be->act, 3, err, z->B, z->Nv, z->D));
    TRY(arena_tensor(work, &patches, be->act, 3, err, z->B, z->Nv, feature));
    TRY(op_copy_rows(be, &part, 0, gx, c->text_len, z->Nv, err));
    TRY(op_patchify(be, &patches, &t->latents, c->patch, err));
    TRY(op_linear_backward_w(be, &gw, &d->patch.b->grad, &part, &patches, err));
    arena_reset(work, mark);
    return 0;
}

static int time_backward(Dit *d, Arena *work, DitTape *t, const Tensor *gsemb, Err *err)
{
    Backend *be = d->be;
    const DitTime *p = &t->time;
    Tensor gs1;

    TRY(op_act_backward(be, gsemb, gsemb, &p->emb, ACT_SILU, err));
    TRY(arena_tensor(work, &gs1, DT_F32, 2, err, t->shape.B, d->c.time_dim));
    TRY(dit_linear_backward(d, work, &gs1, gsemb, &p->s1, &d->time2, 0, err));
    TRY(op_act_backward(be, &gs1, &gs1, &p->l1, ACT_SILU, err));
    return dit_linear_backward(d, work, NULL, &gs1, &p->vec, &d->time1, 0, err);
}

static int backward_in(Dit *d, Arena *work, DitTape *t, const Tensor *grad_v,
                       void (*on_block)(void *user, int64_t block), void *user, Err *err)
{
    const DitShape *z = &t->shape;
    Need need = needs(d);
    Tensor gx, gs;
    const Tensor *gsemb = need.time ? &gs : NULL;

    TRY(arena_tensor(work, &gx, d->be->act, 3, err, z->B, z->S, z->D));
    TRY(arena_tensor(work, &gs, DT_F32, 2, err, z->B, d->c.time_dim));
    TRY(op_fill(d->be, &gs, 0, err));
    TRY(head_backward(d, work, t, grad_v, &gx, gsemb, err));
    for (int64_t i = d->c.layers - 1; i >= 0; i--) {
        if (i >= need.first)
            TRY(block_backward(d, work, t, i, &gx, gsemb, i > need.first || need.tokens, err));
        if (on_block)
            on_block(user, i);
    }
    if (need.tokens)
        TRY(tokens_backward(d, work, t, &gx, err));
    return need.time ? time_backward(d, work, t, &gs, err) : 0;
}

int dit_backward(Dit *d, Arena *work, DitTape **tape, const Tensor *grad_v, void (*on_block)(void *user, int64_t block),
                 void *user, Err *err)
{
    int64_t mark = arena_mark(work);
    int rc;

    if (!params_flat_grads(dit_trainable(d)).data)
        rc = err_set(err, ERR_USAGE, "transformer: backward on a model opened without gradients");
    else
        rc = backward_in(d, work, *tape, grad_v, on_block, user, err);
    arena_reset(work, mark);
    dit_tape_free(tape);
    return rc;
}
