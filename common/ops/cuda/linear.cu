/* Products: cuBLASLt where its alignment rules hold (bf16 operands, widths that are multiples of
 * 8), fp32 accumulation, bias as the only epilogue; a plain tiled kernel for everything else (odd
 * widths, the fp32 time embedding).
 *
 * Row-major y[M,N] = x[M,K] w[N,K]^T is, in the library's column-major terms, D (N x M) = op_T(w: K
 * x N) * (x: K x M). */
#include "common/ops/cuda/device.h"

/* ---- cuBLASLt -------------------------------------------------------------------------------- */

static int lt_check(cublasStatus_t rc, const char *what, const MatmulPlan *p, Err *err)
{
    if (rc == CUBLAS_STATUS_SUCCESS)
        return 0;
    return err_set(err, ERR_DEVICE, "cuBLASLt %s, m %" PRId64 " n %" PRId64 " k %" PRId64 ": status %d", what, p->m,
                   p->n, p->k, (int)rc);
}

static bool same_plan(const MatmulPlan *a, const MatmulPlan *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->ta == b->ta && a->tb == b->tb &&
           a->epilogue == b->epilogue && a->out_f32 == b->out_f32 && a->accumulate == b->accumulate;
}

/* D (m x n) = op(A) op(B): descriptors, layouts, the first algorithm the library proposes. */
static int prepare_plan(Device *d, MatmulPlan *p, const void *bias_data, Err *err)
{
    cublasOperation_t ta = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = p->epilogue ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    cudaDataType out = p->out_f32 ? CUDA_R_32F : CUDA_R_16BF, bias = CUDA_R_16BF;
    cublasLtMatmulHeuristicResult_t found;
    int n_found = 0;
    DEVICE_TRY(lt_check(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor", p, err));
    DEVICE_TRY(lt_check(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta),
                        "descriptor", p, err));
    DEVICE_TRY(lt_check(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb),
                        "descriptor", p, err));
    DEVICE_TRY(
        lt_check(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
                 "epilogue", p, err));
    if (p->epilogue)
        DEVICE_TRY(
            lt_check(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias, sizeof bias),
                     "bias type", p, err));
    if (p->epilogue)
        DEVICE_TRY(lt_check(
            cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias_data, sizeof bias_data),
            "bias", p, err));
    DEVICE_TRY(lt_check(cublasLtMatrixLayoutCreate(&p->a, CUDA_R_16BF, (uint64_t)(p->ta ? p->k : p->m),
                                                   (uint64_t)(p->ta ? p->m : p->k), p->ta ? p->k : p->m),
                        "layout", p, err));
    DEVICE_TRY(lt_check(cublasLtMatrixLayoutCreate(&p->b, CUDA_R_16BF, (uint64_t)(p->tb ? p->n : p->k),
                                                   (uint64_t)(p->tb ? p->k : p->n), p->tb ? p->n : p->k),
                        "layout", p, err));
    DEVICE_TRY(
        lt_check(cublasLtMatrixLayoutCreate(&p->d, out, (uint64_t)p->m, (uint64_t)p->n, p->m), "layout", p, err));
    DEVICE_TRY(lt_check(
        cublasLtMatmulAlgoGetHeuristic(d->lt, p->desc, p->a, p->b, p->d, p->d, d->preference, 1, &found, &n_found),
        "heuristic", p, err));
    if (n_found < 1)
        return err_set(err, ERR_DEVICE, "cuBLASLt has no algorithm for m %" PRId64 " n %" PRId64 " k %" PRId64, p->m,
                       p->n, p->k);
    DEVICE_TRY(lt_check(found.state, "heuristic", p, err));
    p->algo = found.algo;
    return 0;
}

static void drop_plan(MatmulPlan *p)
{
    if (p->desc)
        cublasLtMatmulDescDestroy(p->desc);
    if (p->a)
        cublasLtMatrixLayoutDestroy(p->a);
    if (p->b)
        cublasLtMatrixLayoutDestroy(p->b);
    if (p->d)
        cublasLtMatrixLayoutDestroy(p->d);
}

static int find_plan(Device *d, const MatmulPlan *want, const void *bias, MatmulPlan **out, Err *err)
{
    for (int i = 0; i < d->plans; i++)
        if (same_plan(&d->plan[i], want)) {
            *out = &d->plan[i];
            return 0;
        }
    MatmulPlan fresh = *want;
    int rc = prepare_plan(d, &fresh, bias, err);
    if (rc < 0) {
        drop_plan(&fresh);
        return rc;
    }
    MatmulPlan *p = &d->plan[d->plans < MAX_MATMUL_PLANS ? d->plans++ : d->oldest++ % MAX_MATMUL_PLANS];
    drop_plan(p); /* what is in flight has its own copy */
    *p = fresh;
    *out = p;
    return 0;
}

static int matmul(Device *d, const MatmulPlan *want, const void *A, const void *B, void *D, const void *bias, Err *err)
{
    MatmulPlan *p = nullptr;
    const float one = 1.0f, beta = want->accumulate ? 1.0f : 0.0f;
    DEVICE_TRY(find_plan(d, want, bias, &p, err));
    if (p->epilogue)
        DEVICE_TRY(
            lt_check(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
                     "bias", p, err));
    return lt_check(cublasLtMatmul(d->lt, p->desc, &one, A, p->a, B, p->b, &beta, D, p->d, D, p->d, &p->algo,
                                   d->workspace, DEVICE_WORKSPACE_BYTES, d->compute),
                    "product", p, err);
}

/* ---- the plain kernel ------------------------------------------------------------------------ */

enum { TILE = 16 };

/* D[i,j] = (add ? D : 0) + sum over k of A(i,k) B(k,j) + bias[j], row-major D [rows,cols].  A(i,k)
 * = a[i*ai + k*ak], B(k,j) = b[k*bk + j*bj]. */
template <class TA, class TD>
__global__ void __launch_bounds__(TILE *TILE)
    plain_product(TD *D, const TA *a, Vec b, Vec bias, int64_t rows, int64_t cols, int64_t K, int64_t ai, int64_t ak,
                  int64_t bk, int64_t bj, int add)
{
    SMEM_ARRAY(float, sa, TILE *(TILE + 1));
    SMEM_ARRAY(float, sb, TILE *(TILE + 1));
    const int tx = threadIdx.x, ty = threadIdx.y;
    const int64_t i = (int64_t)blockIdx.x * TILE + ty, j = (int64_t)blockIdx.y * TILE + tx;
    float sum = 0.0f;
    for (int64_t k0 = 0; k0 < K; k0 += TILE) {
        const int64_t ka = k0 + tx, kb = k0 + ty;
        sa[ty * (TILE + 1) + tx] = i < rows && ka < K ? load(a, i * ai + ka * ak) : 0.0f;
        sb[ty * (TILE + 1) + tx] = j < cols && kb < K ? vec_get(b, kb * bk + j * bj) : 0.0f;
        __syncthreads();
        float part = 0.0f; /* a sum of sums: equal terms round the same way each time */
        for (int k = 0; k < TILE; k++)
            part += sa[ty * (TILE + 1) + k] * sb[k * (TILE + 1) + tx];
        sum += part;
        __syncthreads();
    }
    if (i < rows && j < cols) {
        if (bias.data)
            sum += vec_get(bias, j);
        if (add)
            sum += load(D, i * cols + j);
        store(D, i * cols + j, sum);
    }
}

template <class TA, class TD>
static int launch_plain(Device *d, TD *D, const TA *a, Vec b, Vec bias, int64_t rows, int64_t cols, int64_t K,
                        int64_t ai, int64_t ak, int64_t bk, int64_t bj, int add, const char *op, Err *err)
{
    LAUNCH((plain_product<TA, TD>), dim3(blocks_for(rows, TILE), blocks_for(cols, TILE)), dim3(TILE, TILE), 0,
           d->compute, D, a, b, bias, rows, cols, K, ai, ak, bk, bj, add);
    return device_launched(op, err);
}

/* ---- the three products ---------------------------------------------------------------------- */

struct Shape {
    int64_t M, N, K;
};
static Shape linear_shape(const Tensor *x, const Tensor *w)
{
    return Shape{tensor_count(x) / w->dim[1], w->dim[0], w->dim[1]};
}
/* bf16 operands, leading dimensions that are multiples of 8, all at 16-byte aligned addresses. */
static bool fits_lt(const Tensor *out, const Tensor *a, const Tensor *b, int64_t N, int64_t K)
{
    return a->dtype == DT_BF16 && b->dtype == DT_BF16 && N % 8 == 0 && K % 8 == 0 && aligned16(out->data) &&
           aligned16(a->data) && aligned16(b->data);
}

__global__ void convert_bias(bf16 *out, Vec in, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = to_bf16(vec_get(in, i));
}

static int linear(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    Device *d = device_of(be);
    Shape s = linear_shape(x, w);
    if (fits_lt(y, x, w, s.N, s.K)) {
        MatmulPlan want = {};
        const void *bias = b ? b->data : nullptr;
        if (b && (b->dtype != DT_BF16 || !aligned16(b->data))) {
            char *room;
            DEVICE_TRY(device_scratch(d, (size_t)s.N * sizeof(bf16), &room, err));
            LAUNCH((convert_bias), dim3(blocks_for(s.N, 256)), dim3(256), 0, d->compute, (bf16 *)room, vec_of(b), s.N);
            DEVICE_TRY(device_launched("bias", err));
            bias = room;
        }
        want.m = s.N, want.n = s.M, want.k = s.K, want.ta = 1, want.epilogue = b != nullptr;
        return matmul(d, &want, w->data, x->data, y->data, bias, err);
    }
    if (x->dtype == DT_F32)
        return launch_plain(d, (float *)y->data, (const float *)x->data, vec_of(w), vec_of(b), s.M, s.N, s.K, s.K, 1, 1,
                            s.K, 0, "linear", err);
    return launch_plain(d, (bf16 *)y->data, (const bf16 *)x->data, vec_of(w), vec_of(b), s.M, s.N, s.K, s.K, 1, 1, s.K,
                        0, "linear", err);
}

static int linear_backward_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *err)
{
    Device *d = device_of(be);
    Shape s = linear_shape(gx, w);
    if (fits_lt(gx, gy, w, s.N, s.K)) {
        MatmulPlan want = {};
        want.m = s.K, want.n = s.M, want.k = s.N, want.accumulate = add;
        return matmul(d, &want, w->data, gy->data, gx->data, nullptr, err);
    }
    Vec none = {nullptr, DT_F32};
    if (gy->dtype == DT_F32)
        return launch_plain(d, (float *)gx->data, (const float *)gy->data, vec_of(w), none, s.M, s.K, s.N, s.N, 1, s.K,
                            1, add, "linear_backward_x", err);
    return launch_plain(d, (bf16 *)gx->data, (const bf16 *)gy->data, vec_of(w), none, s.M, s.K, s.N, s.N, 1, s.K, 1,
                        add, "linear_backward_x", err);
}

/* Column sums in two passes: ranges of rows, then the ranges in order. */
template <class T>
__global__ void column_partials(float *part, const T *gy, int64_t M, int64_t N)
{
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t per = (M + gridDim.y - 1) / gridDim.y, first = per * blockIdx.y, last = first + per < M ? first + per : M;
    if (j >= N)
        return;
    float sum = 0.0f;
#pragma unroll 8
    for (int64_t i = first; i < last; i++)
        sum += load(gy, i * N + j);
    part[blockIdx.y * N + j] = sum;
}
__global__ void column_total(Grad gb, const float *part, int64_t N, int parts)
{
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= N)
        return;
    float sum = 0.0f;
    for (int p = 0; p < parts; p++)
        sum += part[(int64_t)p * N + j];
    grad_add(gb, j, sum);
}

template <class T>
static int bias_gradient(Device *d, const Tensor *gb, const T *gy, int64_t M, int64_t N, Err *err)
{
    const int parts = reduce_parts(M);
    char *room;
    DEVICE_TRY(device_scratch(d, (size_t)N * parts * sizeof(float), &room, err));
    LAUNCH((column_partials<T>), dim3(blocks_for(N, 128), (unsigned)parts), dim3(128), 0, d->compute, (float *)room, gy,
           M, N);
    LAUNCH((column_total), dim3(blocks_for(N, 128)), dim3(128), 0, d->compute, grad_of(gb), (const float *)room, N,
           parts);
    return device_launched("bias gradient", err);
}

static int linear_backward_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x,
                             Err *err)
{
    Device *d = device_of(be);
    const int64_t N = gy->dim[gy->rank - 1], K = x->dim[x->rank - 1], M = tensor_count(gy) / N;
    if (gb)
        DEVICE_TRY(gy->dtype == DT_F32 ? bias_gradient(d, gb, (const float *)gy->data, M, N, err)
                                       : bias_gradient(d, gb, (const bf16 *)gy->data, M, N, err));
    if (!gw)
        return 0;
    if (fits_lt(gw, gy, x, N, K)) {
        MatmulPlan want = {};
        want.m = K, want.n = N, want.k = M, want.tb = 1, want.out_f32 = gw->dtype == DT_F32, want.accumulate = 1;
        return matmul(d, &want, x->data, gy->data, gw->data, nullptr, err);
    }
    Vec none = {nullptr, DT_F32};
    auto add_to = [&](auto *to, auto *from) {
        return launch_plain(d, to, from, vec_of(x), none, N, K, M, 1, N, K, 1, 1, "linear_backward_w", err);
    };
    if (gy->dtype == DT_F32)
        return gw->dtype == DT_F32 ? add_to((float *)gw->data, (const float *)gy->data)
                                   : add_to((bf16 *)gw->data, (const float *)gy->data);
    return gw->dtype == DT_F32 ? add_to((float *)gw->data, (const bf16 *)gy->data)
                               : add_to((bf16 *)gw->data, (const bf16 *)gy->data);
}

void device_linear_table(OpsTable *t)
{
    t->linear = linear;
    t->linear_backward_x = linear_backward_x;
    t->linear_backward_w = linear_backward_w;
}
