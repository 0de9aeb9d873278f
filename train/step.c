/* Gradient of one batch, update of all parameters. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/ops/ops.h"
#include "train/nonfinite.h"
#include "train/step.h"

int train_init(TrainState *s, Backend *be, Dit *dit, const Schedule *schedule, const TrainConfig *c, Err *err)
{
    int64_t first, last;
    int rc;

    memset(s, 0, sizeof *s);
    s->be = be;
    s->dit = dit;
    s->schedule = schedule;
    s->c = *c;
    if ((rc = share_open(&s->share, &c->share, be, dit, err)) < 0)
        return rc;
    first = s->share.bound[c->share.rank];
    last = s->share.bound[c->share.rank + 1];
    rc = optimizer_init(&s->optimizer, be, dit_trainable(dit), &c->optimizer, first, last - first, err);
    if (rc == 0)
        rc = ema_init(&s->ema, be, dit_trainable(dit), &c->ema, first, last - first, err);
    if (rc < 0)
        train_fini(s);
    return rc;
}

void train_fini(TrainState *s)
{
    ema_fini(&s->ema);
    optimizer_fini(&s->optimizer);
    share_close(&s->share);
}

void train_begin(TrainState *s, int64_t samples)
{
    share_begin(&s->share, samples);
}

/* Fills sqrt(a) and sqrt(1-a) of every sample; refuses timesteps outside the schedule. */
static int coefficients(const TrainState *s, const TrainBatch *batch, double *a, double *b, Err *err)
{
    for (int64_t i = 0; i < batch->x0.dim[0]; i++) {
        if (batch->timestep[i] < 0 || batch->timestep[i] >= s->schedule->n_train)
            return err_set(err, ERR_USAGE, "timestep %" PRId64 ", expected 0 to %" PRId64, batch->timestep[i],
                           s->schedule->n_train - 1);
        velocity_coefficients(s->schedule, batch->timestep[i], &a[i], &b[i]);
    }
    return 0;
}

/* The tensors of one pass. */
typedef struct Latents {
    Tensor xt, target; /* F32 or wider: noised latents, target velocity */
    Tensor input, u;   /* activations' type: the model's input; its output, later the gradient of that */
    /* u in the wide type, then the loss's gradient; stored over xt, which is free by then, or u itself
     * where both types are the same */
    Tensor miss;
} Latents;

static int take_latents(TrainState *s, const Tensor *like, Latents *l, Err *err)
{
    DType act = s->be->act, wide = dtype_wide(act);
    int rc;

    if ((rc = arena_take(s->work, &l->xt, wide, 5, like->dim, err)) < 0 ||
        (rc = arena_take(s->work, &l->target, wide, 5, like->dim, err)) < 0 ||
        (rc = arena_take(s->work, &l->u, act, 5, like->dim, err)) < 0)
        return rc;
    l->input = l->xt;
    l->miss = act == wide ? l->u : l->xt;
    return act == wide ? 0 : arena_take(s->work, &l->input, act, 5, like->dim, err);
}

/* y <- x in y's type; nothing to do where both are the same tensor. */
static int convert(TrainState *s, const Tensor *y, const Tensor *x, Err *err)
{
    return y->data == x->data && y->dtype == x->dtype ? 0 : op_copy(s->be, y, x, err);
}

static int gradient_in(TrainState *s, const TrainBatch *batch, double weight, const double *a, const double *b,
                       double *loss, DitTape **tape, Err *err)
{
    Latents l;
    double start = time_now_s(), middle;
    int rc;

    if ((rc = take_latents(s, &batch->x0, &l, err)) < 0 ||
        (rc = op_diffuse(s->be, &l.xt, &l.target, &batch->x0, &batch->noise, a, b, err)) < 0 ||
        (rc = convert(s, &l.input, &l.xt, err)) < 0 ||
        (rc = dit_forward_train(s->dit, s->work, tape, s->c.policy, &l.u, &l.input, &batch->text, batch->timestep,
                                err)) < 0 ||
        (rc = convert(s, &l.miss, &l.u, err)) < 0 ||
        (rc = op_mse(s->be, loss, &l.miss, &l.miss, &l.target, weight, err)) < 0 ||
        (rc = convert(s, &l.u, &l.miss, err)) < 0)
        return rc;
    middle = time_now_s();
    s->seconds.forward += middle - start;
    if (!isfinite(*loss) && (rc = nonfinite_in_forward(s, batch, *tape, err)) < 0)
        return rc;
    rc = share_backward(&s->share, s->work, tape, &l.u, batch->x0.dim[0], err);
    if (rc == 0)
        rc = s->be->sync(s->be, err); /* a device may still be computing: that time counts as backward */
    s->seconds.backward += time_now_s() - middle;
    return rc;
}

int train_gradient(TrainState *s, const TrainBatch *batch, double weight, double *loss, Err *err)
{
    int64_t B = batch->x0.dim[0], mark = arena_mark(s->work);
    double *a = mem_calloc(B, 2 * (int64_t)sizeof *a, err);
    DitTape *tape = NULL;
    int rc;

    *loss = 0;
    if (!a)
        return ERR_NOMEM;
    rc = coefficients(s, batch, a, a + B, err);
    if (rc == 0)
        rc = gradient_in(s, batch, weight, a, a + B, loss, &tape, err);
    dit_tape_free(&tape);
    arena_reset(s->work, mark);
    mem_free(a);
    return rc;
}

static int loss_in(TrainState *s, const TrainBatch *batch, const double *a, const double *b, double *loss, Err *err)
{
    Latents l;
    int rc;

    if ((rc = take_latents(s, &batch->x0, &l, err)) < 0 ||
        (rc = op_diffuse(s->be, &l.xt, &l.target, &batch->x0, &batch->noise, a, b, err)) < 0 ||
        (rc = convert(s, &l.input, &l.xt, err)) < 0 ||
        (rc = dit_forward(s->dit, s->work, &l.u, &l.input, &batch->text, batch->timestep, err)) < 0 ||
        (rc = convert(s, &l.miss, &l.u, err)) < 0)
        return rc;
    return op_mse(s->be, loss, &l.miss, &l.miss, &l.target, 1.0, err);
}

int train_loss(TrainState *s, const TrainBatch *batch, double *loss, Err *err)
{
    int64_t B = batch->x0.dim[0], mark = arena_mark(s->work);
    double *a = mem_calloc(B, 2 * (int64_t)sizeof *a, err);
    int rc = a ? coefficients(s, batch, a, a + B, err) : ERR_NOMEM;

    *loss = 0;
    if (rc == 0)
        rc = loss_in(s, batch, a, a + B, loss, err);
    arena_reset(s->work, mark);
    mem_free(a);
    return rc;
}

/* Every rank lends its part; all then have the whole. */
static int refresh(TrainState *s, Err *err)
{
    return s->share.c.ranks ? share_weights(&s->share, err) : params_refresh(dit_trainable(s->dit), err);
}

int train_lend_average(TrainState *s, Err *err)
{
    int rc = ema_lend(&s->ema, err);

    return rc < 0 ? rc : refresh(s, err);
}

int train_return_average(TrainState *s, Err *err)
{
    int rc = ema_return(&s->ema, err);

    return rc < 0 ? rc : refresh(s, err);
}

/* The parts that ranks updated, to all of them. */
static int share_update(TrainState *s, Err *err)
{
    double start = time_now_s();
    int rc = share_weights(&s->share, err);

    s->seconds.waited += time_now_s() - start;
    return rc;
}

int train_gather(TrainState *s, Err *err)
{
    double waited = 0;
    int rc = share_gather(&s->share, err);

    if (share_active(&s->share))
        reducer_seconds(s->share.reducer, &s->seconds.exchange, &waited);
    s->seconds.waited += waited;
    return rc;
}

/* Nothing is updated; the step's data are not tried again. */
static int skip(TrainState *s, const Tensor *g, Err *err)
{
    int rc = nonfinite_in_gradients(s, err);

    s->skipped++;
    s->step++;
    return rc < 0 ? rc : op_fill(s->be, g, 0, err);
}

int train_update(TrainState *s, double *norm, double *lr, Err *err)
{
    double start = time_now_s(), squares = 0, scale;
    Tensor g = params_flat_grads(dit_trainable(s->dit)), mine;
    int rc;

    if ((rc = share_sum_squares(&s->share, &squares, err)) < 0)
        return rc;
    *norm = sqrt(squares);
    *lr = rate_at(&s->c.rate, s->step);
    if (!isfinite(*norm))
        return skip(s, &g, err);
    s->bad[0] = 0;
    scale = s->c.max_grad_norm > 0 ? fmin(1.0, s->c.max_grad_norm / (*norm + 1e-6)) : 1.0;
    mine = tensor_rows(&g, s->optimizer.first, s->optimizer.n);
    if ((rc = optimizer_step(&s->optimizer, &mine, s->step + 1 - s->skipped, *lr, scale, err)) < 0 ||
        (rc = op_fill(s->be, &g, 0, err)) < 0)
        return rc;
    s->seconds.optimizer += time_now_s() - start;
    s->step++;
    rc = ema_step(&s->ema, s->step - s->skipped, err);
    return rc < 0 ? rc : share_update(s, err);
}

int train_step(TrainState *s, const TrainBatch *batch, double *loss, double *norm, double *lr, Err *err)
{
    int rc;

    train_begin(s, batch->x0.dim[0]);
    rc = train_gradient(s, batch, 1.0, loss, err);
    if (rc == 0)
        rc = train_gather(s, err);
    return rc < 0 ? rc : train_update(s, norm, lr, err);
}
