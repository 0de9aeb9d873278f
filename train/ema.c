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

OptimizerPart ema_part(const Ema *e, int64_t i)
{
    OptimizerPart part = {.kind = "ema"};

    optimizer_range_part(e->params, &e->params->param[i], &e->average, e->first, &part);
    return part;
}
