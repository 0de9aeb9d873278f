/* cuBLASLt for the simulator: the calls the back end makes, answered by the host's BLAS in float,
 * with the documented checks (shapes, leading dimensions, 16-byte alignment) so that a request the
 * library would refuse is refused here too. */
#include "common/ops/cuda/port.h"

#include <cblas.h>

#include <vector>

#include "common/ops/cuda/sim/runtime.h"

struct cublasLtMatmulDescOpaque_t {
    cublasOperation_t ta, tb;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cudaDataType bias_type;
};
struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};
/* As the library's, with its defaults: any reduction, and operands at multiples of 256 bytes. */
struct cublasLtMatmulPreferenceOpaque_t {
    size_t workspace;
    uint32_t reductions, alignment[4];
};

namespace
{

float get(const void *p, cudaDataType t, size_t i)
{
    return t == CUDA_R_32F ? ((const float *)p)[i] : to_float(((const bf16 *)p)[i]);
}

/* Column-major r x c, packed. */
std::vector<float> gather(const void *p, const cublasLtMatrixLayoutOpaque_t &l)
{
    std::vector<float> v((size_t)(l.rows * l.cols));
    for (uint64_t j = 0; j < l.cols; j++)
        for (uint64_t i = 0; i < l.rows; i++)
            v[j * l.rows + i] = get(p, l.type, j * (uint64_t)l.ld + i);
    return v;
}

struct Call {
    cublasLtMatmulDescOpaque_t d;
    cublasLtMatrixLayoutOpaque_t la, lb, lc, ld;
    const void *A, *B, *C;
    void *D;
    float alpha, beta;
};

void run(const Call &x)
{
    const bool ta = x.d.ta == CUBLAS_OP_T, tb = x.d.tb == CUBLAS_OP_T;
    const size_t m = x.ld.rows, n = x.ld.cols, k = ta ? x.la.rows : x.la.cols;
    std::vector<float> a = gather(x.A, x.la), b = gather(x.B, x.lb), d(m * n, 0.0f);
    if (x.beta != 0)
        d = gather(x.C, x.lc);
    cblas_sgemm(CblasColMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                x.alpha, a.data(), (int)x.la.rows, b.data(), (int)x.lb.rows, x.beta, d.data(), (int)m);
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < m; i++) {
            float v = d[j * m + i];
            if (x.d.epilogue == CUBLASLT_EPILOGUE_BIAS)
                v += get(x.d.bias, x.d.bias_type, i);
            size_t at = j * (size_t)x.ld.ld + i;
            if (x.ld.type == CUDA_R_32F)
                ((float *)x.D)[at] = v;
            else
                ((bf16 *)x.D)[at] = to_bf16(v);
        }
}

bool known(cudaDataType t)
{
    return t == CUDA_R_32F || t == CUDA_R_16BF;
}
size_t width(cudaDataType t)
{
    return t == CUDA_R_32F ? 4 : 2;
}
/* What the tensor-core paths of the library require, and what was promised when the algorithm was
 * chosen. */
bool aligned(const void *p, const cublasLtMatrixLayoutOpaque_t &l, uint64_t promised)
{
    return (uintptr_t)p % (promised > 16 ? promised : 16) == 0 && (size_t)l.ld * width(l.type) % 16 == 0;
}

cublasStatus_t check_shapes(const cublasLtMatmulDescOpaque_t &d, const cublasLtMatrixLayoutOpaque_t &a,
                            const cublasLtMatrixLayoutOpaque_t &b, const cublasLtMatrixLayoutOpaque_t &c,
                            const cublasLtMatrixLayoutOpaque_t &out)
{
    uint64_t m = d.ta ? a.cols : a.rows, k = d.ta ? a.rows : a.cols, n = d.tb ? b.rows : b.cols,
             kb = d.tb ? b.cols : b.rows;
    if (k != kb || out.rows != m || out.cols != n || c.rows != m || c.cols != n)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a.ld < (int64_t)a.rows || b.ld < (int64_t)b.rows || c.ld < (int64_t)m || out.ld < (int64_t)m)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!known(a.type) || a.type != b.type || !known(out.type) || c.type != out.type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (d.epilogue != CUBLASLT_EPILOGUE_DEFAULT && d.epilogue != CUBLASLT_EPILOGUE_BIAS)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

} /* namespace */

extern "C" {

/* OpenBLAS's own, absent from other CBLAS libraries. */
__attribute__((weak)) void openblas_set_num_threads(int n);

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    if (openblas_set_num_threads)
        openblas_set_num_threads(1); /* how it splits a product, and so its bits, depend on the number */
    *h = (cublasLtHandle_t) new int(0);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete (int *)h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *d = new cublasLtMatmulDescOpaque_t{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, CUDA_R_16BF};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a,
                                              const void *value, size_t size)
{
    struct {
        cublasLtMatmulDescAttributes_t a;
        void *field;
        size_t size;
    } const known_attributes[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &d->ta, sizeof d->ta},
                                  {CUBLASLT_MATMUL_DESC_TRANSB, &d->tb, sizeof d->tb},
                                  {CUBLASLT_MATMUL_DESC_EPILOGUE, &d->epilogue, sizeof d->epilogue},
                                  {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &d->bias, sizeof d->bias},
                                  {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &d->bias_type, sizeof d->bias_type}};
    for (auto &k : known_attributes)
        if (k.a == a && k.size == size) {
            memcpy(k.field, value, size);
            return CUBLAS_STATUS_SUCCESS;
        }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    *l = new cublasLtMatrixLayoutOpaque_t{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new cublasLtMatmulPreferenceOpaque_t{0, 7, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t a, const void *value,
                                                    size_t size)
{
    const bool alignment = a >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
                           a <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES;
    void *field = a == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES     ? (void *)&p->workspace
                  : a == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK ? (void *)&p->reductions
                  : alignment ? (void *)&p->alignment[a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]
                              : nullptr;
    if (!field || size != (a == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof p->workspace : sizeof p->reductions))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    (void)h;
    *found = 0;
    cublasStatus_t rc = check_shapes(*d, *a, *b, *c, *out);
    if (rc != CUBLAS_STATUS_SUCCESS || wanted < 1)
        return rc;
    memset(results, 0, sizeof *results);
    /* It would be free to add partial sums as rounded outputs. */
    if (p->reductions & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < 4; i++)
        results->algo.data[i] = p->alignment[i];
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t la, const void *B, cublasLtMatrixLayout_t lb, const void *beta,
                              const void *C, cublasLtMatrixLayout_t lc, void *D, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    (void)h;
    (void)workspace;
    (void)workspace_bytes;
    cublasStatus_t rc = check_shapes(*d, *la, *lb, *lc, *ld);
    if (rc != CUBLAS_STATUS_SUCCESS)
        return rc;
    if (!aligned(A, *la, algo->data[0]) || !aligned(B, *lb, algo->data[1]) || !aligned(C, *lc, algo->data[2]) ||
        !aligned(D, *ld, algo->data[3]))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    Call call = {*d, *la, *lb, *lc, *ld, A, B, C, D, *(const float *)alpha, *(const float *)beta};
    sim_enqueue(stream, [call] { run(call); });
    return CUBLAS_STATUS_SUCCESS;
}
}
