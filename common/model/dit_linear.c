/* A linear layer of the transformer with its adapter, if it has one: y = W x + b + scale B (A x).
 * B is kept transposed, so every product is one of the three of a linear layer. */
#include "common/model/dit_internal.h"

/* z [rows,rank] = scale * what is there. */
static int scaled(const Dit *d, const Tensor *z, Err *err)
{
    const Tensor *const x[] = {z};

    return d->lora_scale == 1 ? 0 : op_lincomb(d->be, z, 1, &d->lora_scale, x, err);
}

static int rank_rows(Arena *work, Tensor *z, const Tensor *x, const Affine *a, Err *err)
{
    return arena_tensor(work, z, x->dtype, 2, err, tensor_count(x) / x->dim[x->rank - 1], a->lora_a->dim[0]);
}

/* z = scale * A x */
static int inner(const Dit *d, Arena *work, Tensor *z, const Tensor *x, const Affine *a, Err *err)
{
    TRY(rank_rows(work, z, x, a, err));
    TRY(op_linear(d->be, z, x, &a->lora_a->value, NULL, err));
    return scaled(d, z, err);
}

int dit_linear(const Dit *d, Arena *work, const Tensor *y, const Tensor *x, const Affine *a, Err *err)
{
    int64_t mark = arena_mark(work);
    Tensor z;

    TRY(op_linear(d->be, y, x, &a->w->value, &a->b->value, err));
    if (!a->lora_a)
        return 0;
    TRY(inner(d, work, &z, x, a, err));
    TRY(op_linear_backward_x(d->be, y, &z, &a->lora_bt->value, 1, err));
    arena_reset(work, mark);
    return 0;
}

/* A's and B's gradients, and gx += A^T gz with gz = scale * B^T gy.  z is computed again: it costs
 * rank / width of the layer, and nothing is kept. */
static int adapter_backward(const Dit *d, Arena *work, const Tensor *gx, const Tensor *gy, const Tensor *x,
                            const Affine *a, Err *err)
{
    int64_t mark = arena_mark(work);
    Tensor z, gz;

    TRY(inner(d, work, &z, x, a, err));
    TRY(op_linear_backward_w(d->be, &a->lora_bt->grad, NULL, &z, gy, err));
    TRY(rank_rows(work, &gz, gy, a, err));
    TRY(op_linear(d->be, &gz, gy, &a->lora_bt->value, NULL, err));
    TRY(scaled(d, &gz, err));
    TRY(op_linear_backward_w(d->be, &a->lora_a->grad, NULL, &gz, x, err));
    if (gx)
        TRY(op_linear_backward_x(d->be, gx, &gz, &a->lora_a->value, 1, err));
    arena_reset(work, mark);
    return 0;
}

int dit_linear_backward(const Dit *d, Arena *work, const Tensor *gx, const Tensor *gy, const Tensor *x, const Affine *a,
                        int add, Err *err)
{
    if (a->w->grad.data)
        TRY(op_linear_backward_w(d->be, &a->w->grad, &a->b->grad, gy, x, err));
    if (gx)
        TRY(op_linear_backward_x(d->be, gx, gy, &a->w->value, add, err));
    return a->lora_a ? adapter_backward(d, work, gx, gy, x, a, err) : 0;
}

int dit_trains(const Affine *a, int n)
{
    for (int i = 0; i < n; i++)
        if (a[i].w->grad.data || a[i].lora_a)
            return 1;
    return 0;
}
