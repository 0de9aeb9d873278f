/* What a compiled kernel is made of, read from nvcc's cubin (an ELF file) without any tool of the
 * CUDA installation. */
#ifndef WEFT_TESTS_CUDA_CUBIN_H
#define WEFT_TESTS_CUDA_CUBIN_H
#include <stdint.h>
#include "common/base/err.h"

/* Instructions of the main loop: the largest loop that holds HMMA or HGMMA (wgmma), else the whole
 * kernel. */
/* columns: N of all HGMMA */
typedef struct LoopCounts {
    int64_t total, hmma, hgmma, hgmma_columns, ldsm, ldgsts, mufu, ldl, stl;
} LoopCounts;

typedef struct Kernel {
    char name[256];       /* as in the ELF: mangled */
    int threads;          /* most a block: from __launch_bounds__; 0: not given */
    int64_t instructions; /* NOPs left out */
    int64_t ldl, stl;     /* in the whole kernel */
    LoopCounts loop;
    int has_loop;
    /* What ptxas -v prints; cubin_ptxas fills it. */
    int registers, stack, spill_stores, spill_loads, shared;
} Kernel;

typedef struct KernelList {
    Kernel *item;
    int64_t n;
} KernelList;

/* Adds the kernels of a cubin; then their figures from the text ptxas -v printed while making it
 * (ERR_FORMAT for one it does not name, or where it says that it serialised wgmma). */
int cubin_read(KernelList *out, const char *path, Err *err);
int cubin_ptxas(KernelList *out, int64_t first, const char *path, Err *err);
void cubin_free(KernelList *l);
#endif
