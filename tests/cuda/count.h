/* A back end that computes nothing and counts: what every call of an operation would cost the CUDA
 * back end.
 *
 * It is the plan back end with bf16 activations and another table of operations, so a model's own
 * code, run on it at full size, gives FLOPs, bytes and memory by operation.  Counted are the FLOPs
 * and the passes over memory that the kernels of common/ops/cuda make (a norm's backward reads its
 * operands twice, attention's backward keeps gQ's sums in 4 bytes), not the least possible. */
#ifndef WEFT_TESTS_CUDA_COUNT_H
#define WEFT_TESTS_CUDA_COUNT_H
#include "common/ops/ops.h"

/* Which of a device's limits an operation is held against. */
typedef enum CostKind {
    COST_PRODUCT,
    COST_PLAIN,
    COST_ATTENTION,
    COST_ATTENTION_BACK,
    COST_CONV,
    COST_MEMORY,
    COST_KINDS
} CostKind;

typedef struct Machine {
    const char *name;
    double peak;                /* dense bf16 tensor FLOP/s, fp32 accumulation */
    double bandwidth;           /* bytes/s */
    double reached[COST_KINDS]; /* assumed share of the peak (of the bandwidth for COST_MEMORY) */
    double launch;              /* seconds a kernel launch keeps the device waiting */
} Machine;
enum { MACHINE_A100, MACHINE_H100, MACHINES };
extern const Machine machines[MACHINES];

typedef struct Cost {
    CostKind kind;
    double flops, useful, bytes;
    int64_t launches;
} Cost; /* useful: as the maths counts, without recomputation inside */

enum { COUNT_OPS = 40 };
typedef struct CountRow {
    const char *op;
    int64_t calls, launches;
    double flops, useful, bytes;
    double roof[MACHINES], plan[MACHINES]; /* seconds: at the limits; at the assumed shares of them */
} CountRow;

typedef struct Counter {
    Backend *be;
    CountRow row[COUNT_OPS];
    int n;
    int64_t held; /* bytes allocated */
} Counter;

/* Seconds of one call: the longer of its arithmetic and its memory traffic. */
double cost_roof(const Machine *m, const Cost *c);
double cost_plan(const Machine *m, const Cost *c);

/* One counter at a time. */
int count_open(Counter *c, Err *err);
void count_reset(Counter *c); /* rows only */
void count_close(Counter *c);
CountRow count_total(const Counter *c);
#endif
