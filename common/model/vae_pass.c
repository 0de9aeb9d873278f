/* One chunk of frames through the encoder or the decoder.
 *
 * The running activation x lives in one buffer, large enough for the largest stage, and every step
 * ends there: residual blocks add into it, and the changes of resolution go frame by frame, in the
 * order that never overwrites a frame still to be read.
 * What a residual block needs besides lies above it on the arena: two more buffers of its size, the
 * peak of the whole pass. */
#include "common/model/vae_internal.h"

/* ---- frame counts ---------------------------------------------------------------------------- */

int64_t vae_stage_frames(const VaeStage *s, int decoder, int64_t T)
{
    if (!s->time || T == 1)
        return T;
    return decoder ? 2 * T - T % 2 : T / 2 + T % 2;
}

int64_t vae_net_frames(const VaeNet *n, int64_t T)
{
    for (int64_t i = 0; i < n->n_stages; i++)
        T = vae_stage_frames(&n->stage[i], n->decoder, T);
    return T;
}

/* ---- one chunk ------------------------------------------------------------------------------- */

typedef struct Pass {
    Vae *v;
    Backend *be;
    Arena *work;
    const Tensor *z; /* the latent chunk that conditions the decoder's norms */
    int first, last;
    void *room; /* the buffer of x */
    Err *err;
} Pass;

static int take(Pass *p, Tensor *t, int64_t T, int64_t H, int64_t W, int64_t C)
{
    return arena_tensor(p->work, t, p->be->act, 4, p->err, T, H, W, C);
}

/* x's buffer seen with this shape. */
static Tensor in_room(const Pass *p, int64_t T, int64_t H, int64_t W, int64_t C)
{
    return tensor_of(p->room, p->be->act, 4, T, H, W, C);
}

/* A 1x1x1 kernel as the matrix it is. */
static Tensor matrix(const Param *w)
{
    return tensor_as(&w->value, 2, w->dim[0], w->dim[1]);
}

/* The last two frames of prefix ++ x. */
static int save_cache(Pass *p, VaeConv *c, const Tensor *x)
{
    if (x->dim[0] >= 2) {
        Tensor tail = tensor_rows(x, x->dim[0] - 2, 2);
        return op_copy(p->be, &c->cache, &tail, p->err);
    }
    Tensor older = tensor_rows(&c->cache, 0, 1), newer = tensor_rows(&c->cache, 1, 1);
    int rc = op_copy(p->be, &older, p->first ? x : &newer, p->err);
    return rc ? rc : op_copy(p->be, &newer, x, p->err);
}

static int conv_causal(Pass *p, VaeConv *c, const Tensor *y, const Tensor *x, int add)
{
    ConvParams cp = {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1, .add = add};
    int rc = op_conv(p->be, y, x, p->first ? NULL : &c->cache, &c->w->value, &c->b->value, &cp, p->err);
    return rc || p->last ? rc : save_cache(p, c, x);
}

/* y = silu(norm(x)); y may be x. */
static int norm_silu(Pass *p, const VaeNorm *n, const Tensor *y, const Tensor *x)
{
    int64_t groups = p->v->c.groups;
    if (!n->scale_w)
        return op_groupnorm(p->be, y, x, &n->w->value, &n->b->value, groups, n->eps, NULL, ACT_SILU, p->err);
    const Tensor *z = p->z;
    int64_t mark = arena_mark(p->work), C = x->dim[3];
    Tensor scale, shift, scale_w = matrix(n->scale_w), shift_w = matrix(n->shift_w);
    int rc = take(p, &scale, z->dim[0], z->dim[1], z->dim[2], C);
    if (rc || (rc = take(p, &shift, z->dim[0], z->dim[1], z->dim[2], C)))
        goto fail;
    if ((rc = op_linear(p->be, &scale, z, &scale_w, &n->scale_b->value, p->err)))
        goto fail;
    if ((rc = op_linear(p->be, &shift, z, &shift_w, &n->shift_b->value, p->err)))
        goto fail;
    SpatialCond cond = {&scale, &shift};
    rc = op_groupnorm(p->be, y, x, &n->w->value, &n->b->value, groups, n->eps, &cond, ACT_SILU, p->err);
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* x = x + conv2(silu(norm2(conv1(silu(norm1(x)))))). */
static int res_identity(Pass *p, VaeRes *r, const Tensor *x)
{
    int64_t mark = arena_mark(p->work);
    Tensor a, b;
    int rc = take(p, &a, x->dim[0], x->dim[1], x->dim[2], r->ci);
    if (rc || (rc = take(p, &b, x->dim[0], x->dim[1], x->dim[2], r->co)))
        goto fail;
    if ((rc = norm_silu(p, &r->norm1, &a, x)) || (rc = conv_causal(p, &r->conv1, &b, &a, 0)))
        goto fail;
    if ((rc = norm_silu(p, &r->norm2, &b, &b)) || (rc = conv_causal(p, &r->conv2, x, &b, 1)))
        goto fail;
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* The same where the channels change: y = shortcut(x) first, then x is free to be normalised in
 * place. */
static int res_shortcut(Pass *p, VaeRes *r, Tensor *x)
{
    int64_t mark = arena_mark(p->work), T = x->dim[0], H = x->dim[1], W = x->dim[2];
    Tensor y, h, w = matrix(r->shortcut_w);
    int rc = take(p, &y, T, H, W, r->co);
    if (rc || (rc = take(p, &h, T, H, W, r->co)))
        goto fail;
    if ((rc = op_linear(p->be, &y, x, &w, &r->shortcut_b->value, p->err)))
        goto fail;
    if ((rc = norm_silu(p, &r->norm1, x, x)) || (rc = conv_causal(p, &r->conv1, &h, x, 0)))
        goto fail;
    if ((rc = norm_silu(p, &r->norm2, &h, &h)) || (rc = conv_causal(p, &r->conv2, &y, &h, 1)))
        goto fail;
    *x = in_room(p, T, H, W, r->co);
    rc = op_copy(p->be, x, &y, p->err);
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* Time halved where the stage says so, then a 3x3 convolution of stride 2 with one row below and
 * one column to the right of zeros.  Output frame t lies before every input frame that is read
 * after it. */
static int downsample(Pass *p, const VaeStage *s, Tensor *x)
{
    int64_t mark = arena_mark(p->work), T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3];
    int64_t frames = vae_stage_frames(s, 0, T);
    ConvParams cp = {.stride = 2, .bottom = 1, .right = 1};
    Tensor mean, small, to = in_room(p, frames, H / 2, W / 2, C);
    int rc = take(p, &small, 1, H / 2, W / 2, C);
    if (rc || (s->time && (rc = take(p, &mean, 1, H, W, C))))
        goto fail;
    for (int64_t t = 0; t < frames && !rc; t++) {
        int pair = s->time && !(T % 2 && t == 0);
        Tensor from = tensor_rows(x, pair ? 2 * t - T % 2 : t, pair ? 2 : 1), frame = tensor_rows(&to, t, 1);
        if (pair && (rc = op_pool_time(p->be, &mean, &from, p->err)))
            break;
        if ((rc = op_conv(p->be, &small, pair ? &mean : &from, NULL, &s->resample_w->value, &s->resample_b->value, &cp,
                          p->err)))
            break;
        rc = op_copy(p->be, &frame, &small, p->err);
    }
    *x = to;
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* Nearest x2 in space (and frames repeated where the stage says so), then a 3x3 convolution, last
 * frame first: an output frame is four input frames long, so it lies behind every input frame that
 * is read after it.  A repeated frame is computed once. */
static int upsample(Pass *p, const VaeStage *s, Tensor *x)
{
    int64_t mark = arena_mark(p->work), T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3];
    int64_t frames = vae_stage_frames(s, 1, T);
    ConvParams cp = {.stride = 1, .top = 1, .bottom = 1, .left = 1, .right = 1};
    Tensor big, to = in_room(p, frames, 2 * H, 2 * W, C);
    int rc = take(p, &big, 1, 2 * H, 2 * W, C);
    if (rc)
        goto fail;
    for (int64_t i = T - 1; i >= 0 && !rc; i--) {
        int twice = s->time && T > 1 && !(T % 2 && i == 0);
        int64_t at = twice ? 2 * i - T % 2 : i;
        Tensor from = tensor_rows(x, i, 1), frame = tensor_rows(&to, at, 1);
        if ((rc = op_upsample(p->be, &big, &from, 0, p->err)))
            break;
        if ((rc = op_conv(p->be, &frame, &big, NULL, &s->resample_w->value, &s->resample_b->value, &cp, p->err)))
            break;
        if (twice) {
            Tensor again = tensor_rows(&to, at + 1, 1);
            rc = op_copy(p->be, &again, &frame, p->err);
        }
    }
    *x = to;
fail:
    arena_reset(p->work, mark);
    return rc;
}

/* Elements of the largest value that x takes. */
static int64_t room_needed(const VaeNet *net, int64_t T, int64_t H, int64_t W)
{
    int64_t C = net->first_channels, most = T * H * W * C;
    for (int64_t i = 0; i < net->n_stages; i++) {
        const VaeStage *s = &net->stage[i];
        for (int64_t r = 0; r < s->n_res; r++) {
            C = s->res[r].co;
            if (T * H * W * C > most)
                most = T * H * W * C;
        }
        T = vae_stage_frames(s, net->decoder, T);
        if (s->resample_w) {
            H = net->decoder ? 2 * H : H / 2;
            W = net->decoder ? 2 * W : W / 2;
        }
        if (T * H * W * C > most)
            most = T * H * W * C;
    }
    return most;
}

static int run_stage(Pass *p, VaeStage *s, int decoder, Tensor *x)
{
    int rc = 0;
    for (int64_t i = 0; i < s->n_res && !rc; i++)
        rc = s->res[i].shortcut_w ? res_shortcut(p, &s->res[i], x) : res_identity(p, &s->res[i], x);
    if (rc || !s->resample_w)
        return rc;
    return decoder ? upsample(p, s, x) : downsample(p, s, x);
}

int vae_pass(Vae *v, VaeNet *net, Arena *work, const Tensor *out, const Tensor *in, int first, int last, Err *err)
{
    int64_t mark = arena_mark(work), T = in->dim[0], H = in->dim[1], W = in->dim[2];
    Pass p = {.v = v, .be = v->be, .work = work, .z = in, .first = first, .last = last, .err = err};
    Tensor room;
    int rc = arena_tensor(work, &room, v->be->act, 1, err, room_needed(net, T, H, W));
    if (rc)
        goto fail;
    p.room = room.data;
    Tensor x = in_room(&p, T, H, W, net->first_channels);
    if ((rc = conv_causal(&p, &net->conv_in, &x, in, 0)))
        goto fail;
    for (int64_t i = 0; i < net->n_stages && !rc; i++)
        rc = run_stage(&p, &net->stage[i], net->decoder, &x);
    if (rc || (rc = norm_silu(&p, &net->norm_out, &x, &x)))
        goto fail;
    rc = conv_causal(&p, &net->conv_out, out, &x, 0);
fail:
    arena_reset(work, mark);
    return rc;
}

static int take_cache(Vae *v, VaeConv *c, Arena *work, int64_t H, int64_t W, Err *err)
{
    return arena_tensor(work, &c->cache, v->be->act, 4, err, 2, H, W, c->w->dim[1]);
}

int vae_caches_take(Vae *v, VaeNet *net, Arena *work, int64_t H, int64_t W, Err *err)
{
    int rc = take_cache(v, &net->conv_in, work, H, W, err);
    for (int64_t i = 0; i < net->n_stages && !rc; i++) {
        VaeStage *s = &net->stage[i];
        for (int64_t r = 0; r < s->n_res && !rc; r++) {
            rc = take_cache(v, &s->res[r].conv1, work, H, W, err);
            rc = rc ? rc : take_cache(v, &s->res[r].conv2, work, H, W, err);
        }
        if (s->resample_w) {
            H = net->decoder ? 2 * H : H / 2;
            W = net->decoder ? 2 * W : W / 2;
        }
    }
    return rc ? rc : take_cache(v, &net->conv_out, work, H, W, err);
}
