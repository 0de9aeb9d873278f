/* Cutting a run into shares, and the order in which its gradients are summed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "train/share.h"

static int64_t size_of(const ShareConfig *c)
{
    return c->size > 0 ? c->size : 1;
}

/* Where parameter i begins in the flat arenas, or where the last one ends. */
static int64_t start_of(const ParamSet *ps, int64_t i)
{
    return i == ps->n ? ps->flat : ps->param[i].start;
}

void share_bounds(const ParamSet *ps, int64_t size, int64_t *bound)
{
    int64_t i = 0;

    for (int64_t k = 0; k < size; k++) {
        double want = (double)ps->flat * (double)k / (double)size;
        while (i < ps->n && (double)(start_of(ps, i) + start_of(ps, i + 1)) / 2 < want)
            i++;
        bound[k] = start_of(ps, k ? i : 0);
    }
    bound[size] = ps->flat;
}

int64_t share_bytes(const ShareConfig *c, int64_t gradients, int host)
{
    return reducer_bytes(gradients, c->rank, size_of(c), c->samples, 2, c->tree, host);
}

/* ---- ranges ---------------------------------------------------------------------------------- */

/* The flat range of block b's parameters, which lie together because their names are sorted; n = 0 when
 * none of them is trained. */
static void block_range(const ParamSet *ps, int64_t b, int64_t *first, int64_t *n)
{
    char prefix[64];
    int length = snprintf(prefix, sizeof prefix, "transformer_blocks.%" PRId64 ".", b);

    *first = *n = 0;
    for (int64_t i = 0; i < ps->n; i++) {
        if (strncmp(ps->param[i].name, prefix, (size_t)length) != 0)
            continue;
        if (*n == 0)
            *first = start_of(ps, i);
        *n = start_of(ps, i + 1) - *first;
    }
}

static int by_place(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (x[0] > y[0]) - (x[0] < y[0]);
}

/* The blocks' ranges, last block first, then what lies between them. */
static int find_ranges(Share *s, Err *err)
{
    const ParamSet *ps = dit_trainable(s->dit);
    int64_t blocks = dit_config(s->dit)->layers, at = 0;
    int64_t(*sorted)[2] = mem_calloc(blocks + 1, sizeof *sorted, err);

    if (!sorted || !(s->range = mem_calloc(2 * blocks + 1, sizeof *s->range, err))) {
        mem_free(sorted);
        return ERR_NOMEM;
    }
    for (int64_t b = blocks - 1; b >= 0; b--, s->n_ranges++) {
        block_range(ps, b, &s->range[s->n_ranges].first, &s->range[s->n_ranges].n);
        sorted[b][0] = s->range[s->n_ranges].first;
        sorted[b][1] = s->range[s->n_ranges].n;
    }
    sorted[blocks][0] = ps->flat;
    qsort(sorted, (size_t)blocks + 1, sizeof *sorted, by_place);
    for (int64_t b = 0; b <= blocks; b++) {
        if (sorted[b][1] == 0 && b < blocks)
            continue;
        if (sorted[b][0] > at) {
            s->range[s->n_ranges].first = at;
            s->range[s->n_ranges++].n = sorted[b][0] - at;
        }
        at = sorted[b][0] + sorted[b][1];
    }
    mem_free(sorted);
    return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int open_link(Share *s, Err *err)
{
    Err why = {0};
    int rc = reducer_link(s->c.ranks, s->be, &s->linked, &why, err);

    if (rc == 0 && s->linked)
        reducer_use_link(s->reducer);
    else if (rc == 0 && s->be->link)
        log_warn(s->be->log, "gradients and weights go through host memory: the devices cannot be joined (%s)",
                 why.msg[0] ? why.msg : "another rank's failed");
    return rc;
}

int share_open(Share *s, const ShareConfig *c, Backend *be, Dit *dit, Err *err)
{
    const ParamSet *ps = dit_trainable(dit);
    Tensor grads = params_flat_grads(ps);
    int64_t size = size_of(c);
    int rc;

    *s = (Share){.c = *c, .be = be, .dit = dit};
    if (!(s->bound = mem_calloc(size + 1, sizeof *s->bound, err)) ||
        !(s->squares = mem_calloc(ps->n, sizeof *s->squares, err))) {
        share_close(s);
        return ERR_NOMEM;
    }
    share_bounds(ps, size, s->bound);
    rc = find_ranges(s, err);
    if (rc == 0 && (c->tree || c->ranks) && !be->plan)
        rc = reducer_open(&s->reducer, c->ranks, be, &grads, s->bound, c->samples, 2, c->tree, err);
    if (rc == 0 && c->ranks && !be->plan)
        rc = open_link(s, err);
    if (rc < 0)
        share_close(s);
    return rc;
}

void share_close(Share *s)
{
    reducer_close(&s->reducer);
    mem_free(s->bound);
    mem_free(s->range);
    mem_free(s->squares);
    memset(s, 0, sizeof *s);
}

int share_active(const Share *s)
{
    return s->reducer != NULL;
}

int64_t share_owner(const Share *s, const Param *p)
{
    const ParamSet *ps = dit_trainable(s->dit);
    int64_t at = start_of(ps, p - ps->param), k = 0;

    while (at >= s->bound[k + 1])
        k++;
    return k;
}

/* ---- a step ---------------------------------------------------------------------------------- */

void share_begin(Share *s, int64_t samples)
{
    s->samples = samples;
    s->done = s->sent = 0;
    ranks_part(samples, s->c.rank, size_of(&s->c), &s->first, &s->last);
    if (s->reducer)
        reducer_begin(s->reducer, samples);
}

static void send_next(Share *s)
{
    reducer_range(s->reducer, s->range[s->sent].first, s->range[s->sent].n);
    s->sent++;
}

/* A block's gradients are final.  Blocks come from the last to the first, as the ranges do. */
static void on_block(void *user, int64_t block)
{
    Share *s = user;

    if (s->sent == dit_config(s->dit)->layers - 1 - block)
        send_next(s);
}

int share_backward(Share *s, Arena *work, DitTape **tape, const Tensor *grad_v, int64_t n, Err *err)
{
    int last = s->reducer && s->done + n >= s->last - s->first;
    int rc = dit_backward(s->dit, work, tape, grad_v, last && (s->be->host || s->linked) ? on_block : NULL, s, err);

    s->done += n;
    return rc == 0 && s->reducer && s->c.tree && !last ? reducer_add(s->reducer, err) : rc;
}

int share_gather(Share *s, Err *err)
{
    if (!s->reducer)
        return 0;
    while (s->sent < s->n_ranges)
        send_next(s);
    return reducer_finish(s->reducer, err);
}

int share_sum(const Share *s, double *x, int64_t n, Err *err)
{
    return s->c.ranks ? s->c.ranks->sum(s->c.ranks, x, n, DT_F64, RANKS_ALL, err) : 0;
}

/* A sum for each parameter at the rank that has it, then all in the order of the parameters: the same
 * number for any ranks. */
int share_sum_squares(Share *s, double *squares, Err *err)
{
    const ParamSet *ps = dit_trainable(s->dit);
    int64_t from = s->bound[s->c.rank], to = s->bound[s->c.rank + 1];
    Tensor flat = params_flat_grads(ps);
    int rc = 0;

    *squares = 0;
    if (!s->reducer)
        return op_sum_squares(s->be, squares, &flat, err);
    memset(s->squares, 0, (size_t)ps->n * sizeof *s->squares);
    for (int64_t i = 0; i < ps->n && rc == 0; i++)
        if (start_of(ps, i) >= from && start_of(ps, i) < to)
            rc = op_sum_squares(s->be, &s->squares[i], &ps->param[i].grad, err);
    if (rc == 0)
        rc = share_sum(s, s->squares, ps->n, err);
    for (int64_t i = 0; i < ps->n && rc == 0; i++)
        *squares += s->squares[i];
    return rc;
}

int share_weights(Share *s, Err *err)
{
    ParamSet *ps = dit_trainable(s->dit);
    Tensor values = params_flat_values(ps);
    int rc;

    if (!s->c.ranks)
        return 0;
    rc = reducer_share(s->c.ranks, s->be, &values, s->bound, s->linked, err);
    return rc < 0 ? rc : params_refresh(ps, err);
}
