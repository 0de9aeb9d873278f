/* The yardstick of bf16: what a framework's code gives when it is run op by op on bf16 tensors.
 *
 * Every operation again, as the steps a framework would take: each step reads bf16 tensors,
 * computes in float32 or better (here in double, so that the version is never worse than it must
 * be) and rounds its result to bf16.  Where the frameworks have one kernel for the whole thing
 * (gelu, softmax, layer and group norm without what follows, a linear layer with its bias, average
 * pooling) it is one step; modulation, gates, conditions, residuals and sums of gradients are a
 * step each.  Parameters stay as they are given.  Gradients of parameters are rounded where they
 * are made and added to the float32 sums the optimiser reads; AdamW and its state are bf16
 * throughout.  What only moves or converts values is exact.
 *
 * The device is to be at most twice as far from the exact result (harness.h). */
#ifndef WEFT_TESTS_OPS_NAIVE_H
#define WEFT_TESTS_OPS_NAIVE_H
#include "common/ops/ops_table.h"

enum { NAIVE_OPS = 96 };
/* names of entries, in the order they first ran; NULL after them */
typedef struct NaiveRan {
    const char *op[NAIVE_OPS];
    int names_only; /* nothing is computed */
} NaiveRan;

/* A back end on host memory whose activations are BF16; open until exit, NULL without memory.
 * `into` (may be NULL) receives what runs from now on. */
Backend *naive_open(NaiveRan *into);
/* The number of the first entry of the ops table that has no version here; -1: all have. */
int naive_lacks(void);
#endif
