/* What the files of the cpu back end share: scratch memory, thread choice, vectorisable exp,
 * weights as floats.
 *
 * Determinism: work is cut into pieces by shape alone, each piece is computed by one thread, and
 * partial results are combined in the order of the pieces.  So the number of threads never changes
 * a bit, and BLAS is only called single-threaded from within the pieces.
 *
 * Scratch: one block a back end, grown when an operation needs more than any before it, freed at
 * close.  It holds a part all threads see (partial sums, under 16 MiB at the 2B model's sizes; a
 * convolution kernel as Winograd's form takes it and panels of that, 132 MiB for 512 -> 512; a
 * half-precision kernel as floats, 28 MiB more) and a part a thread (a slice
 * of converted weights, a convolution's panel, attention tiles: under 8 MiB each). */
#ifndef WEFT_OPS_CPU_CPU_H
#define WEFT_OPS_CPU_CPU_H
#include <cblas.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else /* the thread sanitizer's build: the thread counts are not used there */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-variable"
#endif
#include "common/ops/ops_table.h"

enum {
    CPU_BLOCK = 8192,  /* elements a piece of an elementwise loop */
    CPU_PARTIALS = 64, /* most row blocks of a column sum */
    CPU_ALONE = 32768  /* less work than this (elements touched): not worth waking other threads */
};

typedef struct CpuScratch {
    void *shared;
    char *threads;
    int64_t stride; /* bytes a thread */
} CpuScratch;

/* Room for `shared` bytes and `each` bytes a thread, contents undefined, valid until the next call. */
WEFT_MUST_CHECK int cpu_scratch(Backend *be, int64_t shared, int64_t each, CpuScratch *out, Err *err);

static inline void *cpu_own(const CpuScratch *s)
{
#ifdef _OPENMP
    return s->threads + s->stride * omp_get_thread_num();
#else
    return s->threads;
#endif
}

/* Threads for a loop touching `work` elements. */
static inline int cpu_threads(const Backend *be, int64_t work)
{
    return work < CPU_ALONE ? 1 : (int)be->threads;
}

static inline int64_t cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t cpu_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t cpu_ceil(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Rows [first, first+n) are piece i of a column sum over `rows` rows. */
static inline int64_t cpu_row_block(int64_t rows)
{
    return cpu_max(32, cpu_ceil(rows, CPU_PARTIALS));
}

/* a*b + c, rounded once where the processor can do so fast.  Compilers fuse products and sums as they
 * like (-ffp-contract=fast), and gcc 12 to 15 differ in which they find behind a `?:` or in an
 * expression with two candidates.  Written with this, those places get the same bits from all of them
 * (20 training steps compared by hand with gcc 12.2, 13.3, 14.2 and 15.2; no test repeats that).  Not
 * covered: another -march (tuning for Zen avoids chains of fused operations), clang, the lanes of
 * `omp simd`. */
static inline float cpu_fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* exp(x) for x in [-87.3, 88.3], within 2 ulp, free of branches so that loops over it vectorise. */
static inline float cpu_exp_within(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    float z = x * 1.44269504f + round;
    float n = z - round;
    float r = x - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    float p = 1.98412698e-4f; /* Taylor to degree 7 on |r| <= ln2/2: 5e-9 */
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    union {
        float f;
        uint32_t u;
    } bits = {.f = z}, scale;
    scale.u = (bits.u << 23) + 0x3f800000u;
    return p * scale.f;
}

/* exp(x) for x <= 88.3; 1e-38 stands for everything below that, minus infinity included. */
static inline float cpu_exp_low(float x)
{
    return cpu_exp_within(x < -87.33f ? -87.33f : x);
}

/* exp(x) for any x: 0 below -87.3, infinity above 88.3. */
static inline float cpu_exp(float x)
{
    float c = x > 88.37f ? 88.37f : x, y = cpu_exp_low(c);
    y = x < -87.33f ? 0.0f : y;
    return x > 88.37f ? INFINITY : y;
}

static inline float cpu_sigmoid(float x)
{
    return 1.0f / (1.0f + cpu_exp(-x));
}

/* dst[i] = src[i] of type F32, F16 or BF16. */
void cpu_to_f32(float *dst, const void *src, DType dtype, int64_t n);
/* Elements [first, first+n) of a weight as floats: in place when they are, else converted into
 * room. */
static inline const float *cpu_weight(const Tensor *w, int64_t first, int64_t n, float *room)
{
    if (w->dtype == DT_F32)
        return (const float *)w->data + first;
    cpu_to_f32(room, (const char *)w->data + first * 2, w->dtype, n);
    return room;
}

/* float_to_bfloat, free of branches so that loops over it vectorise. */
static inline uint16_t cpu_bfloat(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    uint32_t nan = v.u >> 16 | 0x40, near = (v.u + 0x7fff + (v.u >> 16 & 1)) >> 16;
    return (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : near);
}

/* dst[i] += src[i] from element `first` of a gradient on, F32 or BF16: one rounding. */
static inline void cpu_add_to(const Tensor *dst, int64_t first, const float *src, int64_t n)
{
    if (dst->dtype == DT_F32) {
        float *to = (float *)dst->data + first;
        for (int64_t i = 0; i < n; i++)
            to[i] += src[i];
        return;
    }
    uint16_t *to = (uint16_t *)dst->data + first;
    for (int64_t i = 0; i < n; i++) {
        union {
            uint32_t u;
            float f;
        } old = {.u = (uint32_t)to[i] << 16};
        to[i] = cpu_bfloat(old.f + src[i]);
    }
}

/* C[M,N] = (0 or, with keep, C) + bias + op(A)[M,K] op(B)[K,N], row-major, cut into tiles by shape.
 * A is [K,M] when ta, B is [N,K] when tb; B may be half precision.  C may be BF16 with keep and
 * without a bias: each tile is summed in scratch and added. */
typedef struct CpuProduct {
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    int ta;
    const void *b;
    DType b_type;
    int64_t ldb;
    int tb;
    void *c;
    DType c_type;
    int64_t ldc;
    const Tensor *bias;
    int keep;
} CpuProduct;
WEFT_MUST_CHECK int cpu_product(Backend *be, const CpuProduct *p, Err *err);
/* One single-threaded sgemm of sizes that fit BLAS's int. */
static inline void cpu_sgemm(int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                             const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

/* The entries, by file. */
void cpu_table_elementwise(OpsTable *t);
void cpu_table_linear(OpsTable *t);
void cpu_table_attention(OpsTable *t);
void cpu_table_norm(OpsTable *t);
void cpu_table_groupnorm(OpsTable *t);
void cpu_table_conv(OpsTable *t);
void cpu_table_train(OpsTable *t);
#endif
