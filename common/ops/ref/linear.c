/* Matrix products.  y = x W^T + b, and its gradients. */
#include "common/ops/ref/ref.h"

/* y[m,n] = sum over k of x[m,k] w[n,k], + b[n] */
static int linear_ref(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    (void)be, (void)err;
    int64_t N = w->dim[0], K = w->dim[1], M = tensor_count(x) / K;
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = b ? ref_get(b, n) : 0;
            for (int64_t k = 0; k < K; k++)
                sum += ref_get(x, m * K + k) * ref_get(w, n * K + k);
            ref_set(y, m * N + n, sum);
        }
    return 0;
}

/* gx[m,k] = sum over n of gy[m,n] w[n,k] */
static int linear_backward_x_ref(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *err)
{
    (void)be, (void)err;
    int64_t N = w->dim[0], K = w->dim[1], M = tensor_count(gx) / K;
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) {
            double sum = add ? ref_get(gx, m * K + k) : 0;
            for (int64_t n = 0; n < N; n++)
                sum += ref_get(gy, m * N + n) * ref_get(w, n * K + k);
            ref_set(gx, m * K + k, sum);
        }
    return 0;
}

/* gw[n,k] += sum over m of gy[m,n] x[m,k]; gb[n] += sum over m of gy[m,n] */
static int linear_backward_w_ref(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x,
                                 Err *err)
{
    (void)be, (void)err;
    int64_t N = gy->dim[gy->rank - 1], K = x->dim[x->rank - 1], M = tensor_count(gy) / N;
    for (int64_t n = 0; n < N; n++) {
        for (int64_t k = 0; gw && k < K; k++) {
            double sum = 0;
            for (int64_t m = 0; m < M; m++)
                sum += ref_get(gy, m * N + n) * ref_get(x, m * K + k);
            ref_add_to(gw, n * K + k, sum);
        }
        double sum = 0;
        for (int64_t m = 0; gb && m < M; m++)
            sum += ref_get(gy, m * N + n);
        if (gb)
            ref_add_to(gb, n, sum);
    }
    return 0;
}

void ops_ref_linear(OpsTable *out)
{
    out->linear = linear_ref;
    out->linear_backward_x = linear_backward_x_ref;
    out->linear_backward_w = linear_backward_w_ref;
}
