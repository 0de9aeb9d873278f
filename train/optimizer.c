/* State and update of AdamW. */
#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "train/optimizer.h"

static int zeros(Backend *be, Tensor *t, int64_t n, Err *err)
{
    void *p = NULL;
    int64_t bytes;
    int rc;

    if (mem_mul(n, (int64_t)sizeof(float), &bytes) < 0)
        return err_set(err, ERR_LIMIT, "optimiser state of %" PRId64 " values is too large", n);
    if ((rc = be->alloc(be, bytes, &p, err)) < 0)
        return rc;
    *t = tensor_of(p, DT_F32, 1, n);
    return n ? op_fill(be, t, 0, err) : 0;
}

int optimizer_init(Optimizer *o, Backend *be, ParamSet *params, const OptimizerConfig *c, int64_t first, int64_t n,
                   Err *err)
{
    int rc;

    *o = (Optimizer){.c = *c, .be = be, .params = params, .first = first, .n = n};
    if ((rc = zeros(be, &o->m, n, err)) < 0 || (rc = zeros(be, &o->v, n, err)) < 0) {
        optimizer_fini(o);
        return err_wrap(err, rc, "optimiser state");
    }
    return 0;
}

void optimizer_fini(Optimizer *o)
{
    if (o->m.data)
        o->be->release(o->be, o->m.data);
    if (o->v.data)
        o->be->release(o->be, o->v.data);
    memset(o, 0, sizeof *o);
}

int64_t optimizer_bytes(const ParamSet *params, const OptimizerConfig *c, int64_t first, int64_t n)
{
    (void)params, (void)c, (void)first;
    return 2 * n * (int64_t)sizeof(float);
}

int optimizer_step(Optimizer *o, const Tensor *grads, int64_t step, double lr, double grad_scale, Err *err)
{
    Tensor values = params_flat_values(o->params), copies = params_flat_copies(o->params);
    Tensor p = tensor_rows(&values, o->first, o->n), copy;
    AdamParams adam = {.lr = lr,
                       .beta1 = o->c.beta1,
                       .beta2 = o->c.beta2,
                       .eps = o->c.epsilon,
                       .weight_decay = o->c.weight_decay,
                       .step = step,
                       .grad_scale = grad_scale,
                       .seed = o->c.seed,
                       .first = o->first};

    if (copies.data)
        copy = tensor_rows(&copies, o->first, o->n);
    return o->n ? op_adamw(o->be, &p, copies.data ? &copy : NULL, grads, &o->m, &o->v, &adam, err) : 0;
}

/* ---- parts ----------------------------------------------------------------------------------- */

int64_t optimizer_parts(const Optimizer *o)
{
    return 2 * o->params->n;
}

/* Where a parameter begins in the flat arena. */
static int64_t flat_start(const ParamSet *ps, const Param *p)
{
    Tensor values = params_flat_values(ps);

    return ((char *)p->master.data - (char *)values.data) / dtype_size(values.dtype);
}

OptimizerPart optimizer_part(const Optimizer *o, int64_t i)
{
    const Param *p = &o->params->param[i % o->params->n];
    const Tensor *flat = i < o->params->n ? &o->m : &o->v;
    OptimizerPart part = {.kind = i < o->params->n ? "m" : "v", .param = p};
    int64_t start = flat_start(o->params, p), end, from, to;

    part.whole = tensor_view(NULL, DT_F32, p->rank, p->dim);
    end = start + tensor_count(&part.whole);
    from = start > o->first ? start : o->first;
    to = end < o->first + o->n ? end : o->first + o->n;
    if (to > from) {
        part.first = from - start;
        part.n = to - from;
        part.data = (float *)flat->data + (from - o->first);
    }
    return part;
}
