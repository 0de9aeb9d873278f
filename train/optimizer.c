/* State and updates of AdamW, AdamW with 8-bit moments, and SGD. */
#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/ops/blockwise.h"
#include "common/ops/ops.h"
#include "train/optimizer.h"

enum { STEP = 16, MOST_FLOATS = 1 << 20 }; /* parameters start at multiples of STEP; elements restored at a time */

/* [at, at + n) of the flat arena, which belongs to `param` from its element `start` on. */
struct OptimizerPiece {
    const Param *param;
    int64_t at, n, start;
    int quantised;
    int64_t code, block; /* where its codes and scales begin; of a small parameter `code` is its place in m and v */
};

int optimizer_kind(OptimizerKind *out, const char *name, int use_8bit, Err *err)
{
    if (use_8bit && strcmp(name, "adamw"))
        return err_set(err, ERR_USAGE,
                       "training.use_8bit_adam is true, but training.optimizer is '%s': 8 bits are for the moments of "
                       "adamw; set one of the two",
                       name);
    if (!strcmp(name, "adamw"))
        *out = use_8bit ? OPTIMIZER_ADAMW_8BIT : OPTIMIZER_ADAMW;
    else if (!strcmp(name, "sgd"))
        *out = OPTIMIZER_SGD;
    else
        return err_set(err, ERR_USAGE, "training.optimizer is '%s'; there are adamw and sgd", name);
    return 0;
}

/* ---- layout ---------------------------------------------------------------------------------- */

static int64_t elements(const Param *p)
{
    Tensor t = tensor_view(NULL, DT_F32, p->rank, p->dim);

    return tensor_count(&t);
}

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

static int64_t blocks(int64_t n)
{
    return (n + BLOCKWISE_BLOCK - 1) / BLOCKWISE_BLOCK;
}

static int is_quantised(const Param *p)
{
    return elements(p) >= OPTIMIZER_8BIT_LEAST;
}

/* What the 8-bit state of a range takes: elements of each of its tensors. */
typedef struct Layout {
    int64_t pieces, floats, codes, blocks, largest;
} Layout;

/* Lays out the range; fills piece[] unless it is NULL. */
static Layout lay_out(const ParamSet *ps, int64_t first, int64_t n, OptimizerPiece *piece)
{
    Layout l = {0};
    int64_t start = 0;

    for (int64_t i = 0; i < ps->n; start += round_up(elements(&ps->param[i]), STEP), i++) {
        const Param *p = &ps->param[i];
        int64_t end = start + elements(p), from = start > first ? start : first, to = end < first + n ? end : first + n;
        int quantised = is_quantised(p);
        if (from >= to)
            continue;
        if (piece)
            piece[l.pieces] = (OptimizerPiece){.param = p,
                                               .at = from,
                                               .n = to - from,
                                               .start = from - start,
                                               .quantised = quantised,
                                               .code = quantised ? l.codes : l.floats,
                                               .block = l.blocks};
        l.pieces++;
        if (!quantised) {
            l.floats += round_up(to - from, STEP);
            continue;
        }
        l.codes += round_up(to - from, STEP);
        l.blocks += blocks(to - from);
        l.largest = to - from > l.largest ? to - from : l.largest;
    }
    l.largest = l.largest < MOST_FLOATS ? l.largest : MOST_FLOATS;
    return l;
}

int64_t optimizer_cut(const ParamSet *params, const OptimizerConfig *c, int64_t at)
{
    int64_t start = 0, i = 0;

    if (c->kind != OPTIMIZER_ADAMW_8BIT)
        return at / STEP * STEP;
    while (i < params->n && at >= start + round_up(elements(&params->param[i]), STEP))
        start += round_up(elements(&params->param[i++]), STEP);
    if (i == params->n || !is_quantised(&params->param[i]))
        return at / STEP * STEP;
    return start + (at - start) / BLOCKWISE_BLOCK * BLOCKWISE_BLOCK;
}

/* How many moments of the range's length there are where they are floats. */
static int64_t moments(const OptimizerConfig *c)
{
    return c->kind == OPTIMIZER_ADAMW ? 2 : c->kind == OPTIMIZER_SGD && c->momentum > 0 ? 1 : 0;
}

int64_t optimizer_bytes(const ParamSet *params, const OptimizerConfig *c, int64_t first, int64_t n)
{
    Layout l;

    if (c->kind != OPTIMIZER_ADAMW_8BIT)
        return moments(c) * n * (int64_t)sizeof(float);
    l = lay_out(params, first, n, NULL);
    return 2 * (l.codes + (l.floats + l.blocks + l.largest) * (int64_t)sizeof(float));
}

int64_t optimizer_file_bytes(const ParamSet *params, const OptimizerConfig *c)
{
    int64_t bytes = 0;

    for (int64_t i = 0; i < params->n; i++) {
        int64_t n = elements(&params->param[i]);
        if (c->kind == OPTIMIZER_ADAMW_8BIT)
            bytes += 2 * (is_quantised(&params->param[i]) ? n + blocks(n) * 4 : n * 4);
        else
            bytes += moments(c) * n * 4;
    }
    return bytes;
}

/* ---- state ----------------------------------------------------------------------------------- */

static int take(Backend *be, Tensor *t, DType type, int64_t n, Err *err)
{
    void *p = NULL;
    int64_t bytes;
    int rc;

    if (n == 0)
        return 0;
    if (mem_mul(n, dtype_size(type), &bytes) < 0)
        return err_set(err, ERR_LIMIT, "optimiser state of %" PRId64 " values is too large", n);
    if ((rc = be->alloc(be, bytes, &p, err)) < 0)
        return rc;
    *t = tensor_of(p, type, 1, n);
    return type == DT_U8 ? 0 : op_fill(be, t, 0, err);
}

/* The part of o's 8-bit state that a piece's elements [from, from + n) have; k: 0 for m, 1 for v. */
static void restored(const Optimizer *o, const OptimizerPiece *p, int64_t from, int64_t n, int k, Tensor *codes,
                     Tensor *scale, Tensor *floats)
{
    *codes = tensor_rows(&o->codes[k], p->code + from, n);
    *scale = tensor_rows(&o->scale[k], p->block + from / BLOCKWISE_BLOCK, blocks(n));
    *floats = tensor_rows(&o->floats[k], 0, n);
}

/* Calls back for each quantised piece in parts of at most MOST_FLOATS elements. */
typedef int (*OnPart)(Optimizer *o, const OptimizerPiece *p, int64_t from, int64_t n, void *user, Err *err);

static int each_part(Optimizer *o, OnPart on_part, void *user, Err *err)
{
    int rc = 0;

    for (int64_t i = 0; i < o->n_pieces; i++)
        for (int64_t from = 0; rc == 0 && o->piece[i].quantised && from < o->piece[i].n; from += MOST_FLOATS) {
            int64_t rest = o->piece[i].n - from;
            rc = on_part(o, &o->piece[i], from, rest < MOST_FLOATS ? rest : MOST_FLOATS, user, err);
        }
    return rc;
}

/* Moments of zero: `floats` holds zeros. */
static int start_part(Optimizer *o, const OptimizerPiece *p, int64_t from, int64_t n, void *user, Err *err)
{
    int rc = 0;

    (void)user;
    for (int k = 0; k < 2 && rc == 0; k++) {
        Tensor codes, scale, floats;
        restored(o, p, from, n, k, &codes, &scale, &floats);
        rc = op_quantize(o->be, &codes, &scale, &floats, k == 0, err);
    }
    return rc;
}

static int init_8bit(Optimizer *o, Err *err)
{
    Layout l = lay_out(o->params, o->first, o->n, NULL);
    int rc = 0;

    if (!(o->piece = mem_calloc(l.pieces, sizeof *o->piece, err)))
        return ERR_NOMEM;
    o->n_pieces = l.pieces;
    lay_out(o->params, o->first, o->n, o->piece);
    if ((rc = take(o->be, &o->m, DT_F32, l.floats, err)) < 0 || (rc = take(o->be, &o->v, DT_F32, l.floats, err)) < 0)
        return rc;
    for (int k = 0; k < 2; k++)
        if ((rc = take(o->be, &o->codes[k], DT_U8, l.codes, err)) < 0 ||
            (rc = take(o->be, &o->scale[k], DT_F32, l.blocks, err)) < 0 ||
            (rc = take(o->be, &o->floats[k], DT_F32, l.largest, err)) < 0)
            return rc;
    return each_part(o, start_part, NULL, err);
}

int optimizer_init(Optimizer *o, Backend *be, ParamSet *params, const OptimizerConfig *c, int64_t first, int64_t n,
                   Err *err)
{
    int64_t end = first + n;
    int rc = 0;

    *o = (Optimizer){.c = *c, .be = be, .params = params, .first = first, .n = n};
    if (optimizer_cut(params, c, first) != first || (end != params->flat && optimizer_cut(params, c, end) != end))
        return err_set(err, ERR_USAGE, "optimiser: parameters cannot be cut at %" PRId64 " and %" PRId64, first, end);
    if (c->kind == OPTIMIZER_ADAMW_8BIT)
        rc = init_8bit(o, err);
    if (rc == 0 && moments(c) > 0)
        rc = take(be, &o->m, DT_F32, n, err);
    if (rc == 0 && moments(c) > 1)
        rc = take(be, &o->v, DT_F32, n, err);
    if (rc < 0) {
        optimizer_fini(o);
        return err_wrap(err, rc, "optimiser state");
    }
    return 0;
}

void optimizer_fini(Optimizer *o)
{
    Tensor *all[] = {&o->m,        &o->v,        &o->codes[0],  &o->codes[1],
                     &o->scale[0], &o->scale[1], &o->floats[0], &o->floats[1]};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->data)
            o->be->release(o->be, all[i]->data);
    mem_free(o->piece);
    memset(o, 0, sizeof *o);
}

/* ---- update ---------------------------------------------------------------------------------- */

typedef struct Update {
    Tensor p, copies, g; /* of the range; copies.data NULL: none */
    int64_t step;
    double lr, grad_scale;
} Update;

/* AdamW of n parameters from element `at` of the flat arena on; m and v are theirs. */
static int adamw(Optimizer *o, const Update *u, int64_t at, int64_t n, const Tensor *m, const Tensor *v, Err *err)
{
    Tensor p = tensor_rows(&u->p, at - o->first, n), g = tensor_rows(&u->g, at - o->first, n), copy;
    AdamParams a = {.lr = u->lr,
                    .beta1 = o->c.beta1,
                    .beta2 = o->c.beta2,
                    .eps = o->c.epsilon,
                    .weight_decay = o->c.weight_decay,
                    .step = u->step,
                    .grad_scale = u->grad_scale,
                    .seed = o->c.seed,
                    .first = at};

    if (u->copies.data)
        copy = tensor_rows(&u->copies, at - o->first, n);
    return op_adamw(o->be, &p, u->copies.data ? &copy : NULL, &g, m, v, &a, err);
}

static int update_part(Optimizer *o, const OptimizerPiece *p, int64_t from, int64_t n, void *user, Err *err)
{
    Tensor codes[2], scale[2], floats[2];
    int rc = 0;

    for (int k = 0; k < 2 && rc == 0; k++) {
        restored(o, p, from, n, k, &codes[k], &scale[k], &floats[k]);
        rc = op_dequantize(o->be, &floats[k], &codes[k], &scale[k], k == 0, err);
    }
    if (rc == 0)
        rc = adamw(o, user, p->at + from, n, &floats[0], &floats[1], err);
    for (int k = 0; k < 2 && rc == 0; k++)
        rc = op_quantize(o->be, &codes[k], &scale[k], &floats[k], k == 0, err);
    return rc;
}

static int adamw_8bit(Optimizer *o, Update *u, Err *err)
{
    int rc = 0;

    for (int64_t i = 0; i < o->n_pieces && rc == 0; i++) {
        const OptimizerPiece *p = &o->piece[i];
        if (!p->quantised) {
            Tensor m = tensor_rows(&o->m, p->code, p->n), v = tensor_rows(&o->v, p->code, p->n);
            rc = adamw(o, u, p->at, p->n, &m, &v, err);
        }
    }
    return rc < 0 ? rc : each_part(o, update_part, u, err);
}

static int sgd(Optimizer *o, const Update *u, Err *err)
{
    SgdParams a = {.lr = u->lr,
                   .momentum = o->c.momentum,
                   .weight_decay = o->c.weight_decay,
                   .grad_scale = u->grad_scale,
                   .step = u->step,
                   .seed = o->c.seed,
                   .first = o->first};

    return op_sgd(o->be, &u->p, u->copies.data ? &u->copies : NULL, &u->g, o->m.data ? &o->m : NULL, &a, err);
}

int optimizer_step(Optimizer *o, const Tensor *grads, int64_t step, double lr, double grad_scale, Err *err)
{
    Tensor values = params_flat_values(o->params), copies = params_flat_copies(o->params);
    Update u = {
        .p = tensor_rows(&values, o->first, o->n), .g = *grads, .step = step, .lr = lr, .grad_scale = grad_scale};

    if (o->n == 0)
        return 0;
    if (copies.data)
        u.copies = tensor_rows(&copies, o->first, o->n);
    if (o->c.kind == OPTIMIZER_ADAMW_8BIT)
        return adamw_8bit(o, &u, err);
    return o->c.kind == OPTIMIZER_SGD ? sgd(o, &u, err) : adamw(o, &u, o->first, o->n, &o->m, &o->v, err);
}

/* ---- parts ----------------------------------------------------------------------------------- */

int64_t optimizer_parts(const Optimizer *o)
{
    int64_t n = 0;

    if (o->c.kind != OPTIMIZER_ADAMW_8BIT)
        return moments(&o->c) * o->params->n;
    for (int64_t i = 0; i < o->params->n; i++)
        n += is_quantised(&o->params->param[i]);
    return 2 * (o->params->n + n);
}

void optimizer_range_part(const ParamSet *ps, const Param *param, const Tensor *flat, int64_t first,
                          OptimizerPart *part)
{
    int64_t start = 0, end, from, to, n = tensor_count(flat);

    part->param = param;
    part->whole = tensor_view(NULL, DT_F32, param->rank, param->dim);
    for (const Param *p = ps->param; p != param; p++)
        start += round_up(elements(p), STEP);
    end = start + elements(param);
    from = start > first ? start : first;
    to = end < first + n ? end : first + n;
    if (to <= from)
        return;
    part->first = from - start;
    part->n = to - from;
    part->data = (float *)flat->data + (from - first);
}

/* k: 0 for m, 1 for v. */
static void part_8bit(const Optimizer *o, int k, int of_scales, OptimizerPart *part)
{
    const OptimizerPiece *p = o->piece, *end = p + o->n_pieces;

    if (of_scales)
        part->whole = tensor_of(NULL, DT_F32, 1, blocks(elements(part->param)));
    else if (is_quantised(part->param))
        part->whole.dtype = DT_U8;
    while (p < end && p->param != part->param)
        p++;
    if (p == end)
        return;
    part->first = of_scales ? p->start / BLOCKWISE_BLOCK : p->start;
    part->n = of_scales ? blocks(p->n) : p->n;
    part->data = of_scales      ? (void *)((float *)o->scale[k].data + p->block)
                 : p->quantised ? (void *)((uint8_t *)o->codes[k].data + p->code)
                                : (void *)((float *)(k ? o->v : o->m).data + p->code);
}

/* Part i of 8-bit state: all of m, all of v, then the scales of m and of v. */
static OptimizerPart find_8bit(const Optimizer *o, int64_t i)
{
    static const char *const name[2][2] = {{"m", "v"}, {"m_scale", "v_scale"}};
    const ParamSet *ps = o->params;
    int64_t each = ps->n;
    int of_scales = i >= 2 * ps->n;
    OptimizerPart part = {0};

    if (of_scales) {
        i -= 2 * ps->n;
        each = optimizer_parts(o) / 2 - ps->n;
    }
    part.kind = name[of_scales][i / each];
    part.param = ps->param;
    for (int64_t left = i % each; left > 0 || (of_scales && !is_quantised(part.param)); part.param++)
        left -= !of_scales || is_quantised(part.param);
    part.whole = tensor_view(NULL, DT_F32, part.param->rank, part.param->dim);
    part_8bit(o, (int)(i / each), of_scales, &part);
    return part;
}

OptimizerPart optimizer_part(const Optimizer *o, int64_t i)
{
    int second = i >= o->params->n;
    OptimizerPart part = {.kind = second ? "v" : "m"};

    if (o->c.kind == OPTIMIZER_ADAMW_8BIT)
        return find_8bit(o, i);
    optimizer_range_part(o->params, &o->params->param[i % o->params->n], second ? &o->v : &o->m, o->first, &part);
    return part;
}
