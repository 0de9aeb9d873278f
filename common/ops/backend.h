/* A back end: memory plus a table of operations.  Model code calls the op_* functions of ops.h and
 * never asks which back end it is on.
 *
 *   ref   plain C, the formula as written, sums in double: for people and for tests
 *   cpu   OpenMP + BLAS
 *   cuda  libweft-cuda.so, opened at run time: beside the program, else where the loader looks
 *   sim   the same sources, executed thread by thread on the CPU: slow, for tests
 *   plan  computes nothing: every op returns 0 and memory is only counted.  Running a model on it
 *         gives the exact memory the model needs (see arena.h)
 *
 * Thread rule: one thread calls a back end; it uses its own threads inside.  Same inputs, same back
 * end: same bits, whatever the number of threads. */
#ifndef WEFT_COMMON_OPS_BACKEND_H
#define WEFT_COMMON_OPS_BACKEND_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/ops/tensor.h"

typedef struct Backend Backend;
struct OpsTable;

/* Receives one result of a device's self-test: the instruction, and how many values were wrong. */
typedef void (*DeviceReport)(void *user, const char *what, int wrong);

/* Memory a device reserves for itself besides what callers allocate: scratch for partial sums,
 * converted biases and the running sums of attention's gradient of q; and cuBLASLt's workspace. */
#define DEVICE_SCRATCH_BYTES ((int64_t)128 << 20)
#define DEVICE_WORKSPACE_BYTES ((int64_t)32 << 20)

/* Exchanges between the devices of several processes, in order with the operations: behind those
 * called before, and before those called after `wait`.  Every process makes the same calls. */
enum { DEVICE_LINK_ID = 128 };
typedef struct DeviceLink {
    int (*open)(Backend *be, Err *err);         /* ERR_UNSUPPORTED where the library is missing */
    int (*id)(Backend *be, void *id, Err *err); /* DEVICE_LINK_ID bytes; one process makes it for all */
    int (*join)(Backend *be, const void *id, int64_t rank, int64_t size, Err *err);
    /* t (F32 or BF16) <- sum over all, at `root`; elsewhere the contents stay. */
    int (*sum)(Backend *be, const Tensor *t, int64_t root, Err *err);
    int (*broadcast)(Backend *be, const Tensor *t, int64_t root, Err *err);
    int (*wait)(Backend *be, Err *err);
    void (*close)(Backend *be, int failed); /* failed: does not wait for the others */
} DeviceLink;

struct Backend {
    const char *name;
    const struct OpsTable *ops;
    /* element type of activations: F32 on ref, cpu, plan, BF16 on cuda, sim.  A test may set F64 on
     * ref: then every activation, weight, gradient and statistic may be F64 (central differences) */
    DType act;
    int host; /* its memory is host memory: tensors may point into mapped files */
    int plan; /* operations only check their arguments: nothing is computed, and memory is only counted */
    int64_t threads;
    char card[256]; /* the GPU's name; "" on the others */
    const Log *log;
    void *impl;
    const DeviceLink *link; /* NULL on host back ends */
    /* bytes it reserved for itself and has allocated for callers since it was opened, counting those
     * that were released as well */
    int64_t allocated;
    int (*alloc)(Backend *be, int64_t bytes, void **out, Err *err); /* 64-byte aligned, contents undefined */
    void (*release)(Backend *be, void *p);                          /* NULL accepted */
    int (*upload)(Backend *be, void *dst, const void *host, int64_t bytes, Err *err);
    int (*download)(Backend *be, void *host, const void *src, int64_t bytes, Err *err);
    int (*sync)(Backend *be, Err *err);
    void (*close)(Backend *be);
    /* NULL on host back ends; see selftest.h */
    int (*selftest)(Backend *be, DeviceReport report, void *user, Err *err);
    /* Set by whoever opened the back end, or NULL.  Once it returns true, op_linear, op_attention and
     * op_conv do nothing and return ERR_INTERRUPTED. */
    int (*stop)(void);
    /* Set by whoever opened the back end: op_conv adds products up as the formula is written.  Else the
     * cpu back end may take Winograd's form (cpu/winograd.c), which is faster and rounds otherwise. */
    int direct_conv;
};

/* name: "auto", "ref", "cpu", "cuda", "sim", "plan".  threads 0: all cores.  auto takes cuda where
 * a GPU can be opened, else cpu, and logs which.  log may be NULL and must outlive the back end. */
WEFT_MUST_CHECK int backend_open(Backend **out, const char *name, int64_t threads, const Log *log, Err *err);
void backend_close(Backend **be);

/* Convenience over upload/download: host float32 array <-> tensor of any float dtype on the back
 * end (converted). */
WEFT_MUST_CHECK int backend_put_f32(Backend *be, const Tensor *dst, const float *host, Err *err);
WEFT_MUST_CHECK int backend_get_f32(Backend *be, float *host, const Tensor *src, Err *err);
#endif
