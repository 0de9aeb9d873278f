/* Averaged weights. */
#include <math.h>
#include <string.h>

#include "common/ops/ops.h"
#include "train/ema.h"

static Tensor weights_of(const Ema *e)
{
    Tensor values = params_flat_values(e->params);

    return tensor_rows(&values, e->first, e->n);
}

int ema_init(Ema *e, Backend *be, ParamSet *params, const EmaConfig *c, int64_t first, int64_t n, Err *err)
{
    Tensor weights;
    void *p = NULL;
    int rc;

    *e = (Ema){.c = *c, .be = be, .params = params, .first = first, .n = n};
    if (!c->on || n == 0)
        return 0;
    if ((rc = be->alloc(be, n * (int64_t)sizeof(float), &p, err)) < 0)
        return err_wrap(err, rc, "averaged weights");
    e->average = tensor_of(p, DT_F32, 1, n);
    weights = weights_of(e);
    if ((rc = op_copy(be, &e->average, &weights, err)) < 0)
        ema_fini(e);
    return rc;
}

void ema_fini(Ema *e)
{
    if (e->average.data)
        e->be->release(e->be, e->average.data);
    memset(e, 0, sizeof *e);
}

double ema_decay(const EmaConfig *c, int64_t k)
{
    double n = (double)(k - c->start - 1);

    return n < 1 ? 0 : fmin(c->decay, (1 + n) / (10 + n));
}

int ema_step(Ema *e, int64_t k, Err *err)
{
    double d = ema_decay(&e->c, k), coef[] = {d, 1 - d};
    Tensor weights;
    const Tensor *x[] = {&e->average, &weights};

    if (!e->average.data)
        return 0;
    weights = weights_of(e);
    return d > 0 ? op_lincomb(e->be, &e->average, 2, coef, x, err) : op_copy(e->be, &e->average, &weights, err);
}

int ema_differs(const Ema *e, int64_t k)
{
    return e->c.on && ema_decay(&e->c, k) > 0;
}

/* The gradients' arena as room for elements of another type. */
static Tensor room(const Ema *e, DType dtype)
{
    Tensor g = params_flat_grads(e->params);

    return tensor_of(g.data, dtype, 1, tensor_bytes(&g) / dtype_size(dtype));
}

/* Exchanges weights and average, both F32. */
static int exchange(Ema *e, Err *err)
{
    Tensor weights = weights_of(e), free = room(e, DT_F32);
    int rc = 0;

    for (int64_t at = 0; at < e->n && rc == 0;) {
        int64_t n = e->n - at < free.dim[0] ? e->n - at : free.dim[0];
        Tensor w = tensor_rows(&weights, at, n), a = tensor_rows(&e->average, at, n), kept = tensor_rows(&free, 0, n);
        if ((rc = op_copy(e->be, &kept, &w, err)) == 0 && (rc = op_copy(e->be, &w, &a, err)) == 0)
            rc = op_copy(e->be, &a, &kept, err);
        at += n;
    }
    return rc;
}

/* Weights of 16 bits cannot hold the average: they lie in the gradients' arena meanwhile. */
int ema_lend(Ema *e, Err *err)
{
    Tensor weights, kept;
    int rc;

    if (e->n == 0)
        return 0;
    weights = weights_of(e);
    if (weights.dtype == DT_F32)
        return exchange(e, err);
    kept = room(e, weights.dtype);
    kept = tensor_rows(&kept, 0, e->n);
    rc = op_copy(e->be, &kept, &weights, err);
    return rc < 0 ? rc : op_copy(e->be, &weights, &e->average, err);
}

int ema_return(Ema *e, Err *err)
{
    Tensor weights, kept, g = params_flat_grads(e->params);
    int rc;

    if (e->n == 0)
        return 0;
    weights = weights_of(e);
    if (weights.dtype == DT_F32) {
        rc = exchange(e, err);
    } else {
        kept = room(e, weights.dtype);
        kept = tensor_rows(&kept, 0, e->n);
        rc = op_copy(e->be, &weights, &kept, err);
    }
    return rc < 0 ? rc : op_fill(e->be, &g, 0, err);
}

OptimizerPart ema_part(const Ema *e, int64_t i)
{
    OptimizerPart part = {.kind = "ema"};

    optimizer_range_part(e->params, &e->params->param[i], &e->average, e->first, &part);
    return part;
}
