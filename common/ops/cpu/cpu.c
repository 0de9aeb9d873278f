/* The cpu back end: opening, scratch, the table.  cpu.h has the rules that all its files keep. */
#include "common/ops/cpu/cpu.h"

#include "common/base/machine.h"
#include "common/base/mem.h"

typedef struct CpuState {
    void *block;
    int64_t bytes;
} CpuState;

/* OpenBLAS's own; absent from other CBLAS libraries, whose users set their one thread by their own
 * means. */
extern __attribute__((weak)) void openblas_set_num_threads(int n);

int ops_cpu_open(Backend *be, Err *err)
{
    be->impl = mem_calloc(1, (int64_t)sizeof(CpuState), err);
    if (!be->impl)
        return ERR_NOMEM;
    if (openblas_set_num_threads)
        openblas_set_num_threads(1); /* we thread above it; its own split would depend on the number of threads */
    const char *slow = machine_slow_kernels();
    if (slow)
        log_info(be->log,
                 "OpenBLAS uses its %s kernels, which leave this processor's AVX-512 idle; OPENBLAS_CORETYPE=SkylakeX "
                 "chooses kernels that use it",
                 slow);
    return 0;
}

void ops_cpu_close(Backend *be)
{
    CpuState *s = be->impl;
    if (s)
        mem_free_aligned(s->block);
    mem_free(s);
    be->impl = NULL;
}

int cpu_scratch(Backend *be, int64_t shared, int64_t each, CpuScratch *out, Err *err)
{
    CpuState *s = be->impl;
    shared = cpu_ceil(shared, 64) * 64;
    each = cpu_ceil(each, 64) * 64 + 128; /* a gap keeps threads off each other's cache lines */
    int64_t bytes = shared + each * be->threads;
    if (bytes > s->bytes) {
        mem_free_aligned(s->block);
        s->bytes = 0;
        s->block = mem_alloc_aligned(bytes, err);
        if (!s->block)
            return ERR_NOMEM;
        s->bytes = bytes;
    }
    *out = (CpuScratch){.shared = s->block, .threads = (char *)s->block + shared, .stride = each};
    return 0;
}

static void half_to_f32(float *restrict dst, const uint16_t *restrict src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = src[i], magnitude = u & 0x7fffu;
        union {
            uint32_t u;
            float f;
        } v = {.u = magnitude << 13};
        v.f *= 0x1p112f; /* rebias the exponent; subnormals come out right too */
        v.u = magnitude >= 0x7c00u ? 0x7f800000u | (magnitude & 0x3ffu) << 13 : v.u;
        v.u |= (u & 0x8000u) << 16;
        dst[i] = v.f;
    }
}

static void bfloat_to_f32(float *restrict dst, const uint16_t *restrict src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        union {
            uint32_t u;
            float f;
        } v = {.u = (uint32_t)src[i] << 16};
        dst[i] = v.f;
    }
}

void cpu_to_f32(float *dst, const void *src, DType dtype, int64_t n)
{
    if (dtype == DT_F16)
        half_to_f32(dst, src, n);
    else if (dtype == DT_BF16)
        bfloat_to_f32(dst, src, n);
    else
        memcpy(dst, src, (size_t)n * sizeof *dst);
}

void ops_cpu_table(OpsTable *out)
{
    ops_ref_table(out);
    cpu_table_elementwise(out);
    cpu_table_linear(out);
    cpu_table_attention(out);
    cpu_table_norm(out);
    cpu_table_groupnorm(out);
    cpu_table_conv(out);
    cpu_table_train(out);
}
