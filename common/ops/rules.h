/* What the checked front end of the operations (ops_*.c, one file a family) is made of: every op looks
 * at its arguments once, for all back ends, then calls the back end's entry.
 *
 * Each op_x begins with the list of its tensors; ARGS refuses a missing one and impossible sizes, NEED
 * refuses what does not hold, with one sentence: the op, every tensor with its type and shape, and
 * the rule that is broken. */
#ifndef WEFT_COMMON_OPS_RULES_H
#define WEFT_COMMON_OPS_RULES_H
#include <stddef.h>
#include "common/ops/ops_table.h"

typedef struct Arg {
    const char *name;
    const Tensor *t;
    int optional;
} Arg;
/* clang-format off */
#define ARG(t) {#t, (t), 0}
#define OPT(t) {#t, (t), 1}
/* clang-format on */
#define ARGS(...)                                          \
    const Arg args[] = {__VA_ARGS__, {NULL, NULL, 0}};     \
    const char *const missing = rule_broken_arg(be, args); \
    if (missing)                                           \
    return rule_refuse(err, __func__, missing, args)
#define NEED(holds, rule)                                    \
    do {                                                     \
        if (!(holds))                                        \
            return rule_refuse(err, __func__, (rule), args); \
    } while (0)

/* Sets ERR_USAGE: "op: rule: tensors", and returns it. */
WEFT_MUST_CHECK int rule_refuse(Err *err, const char *op, const char *rule, const Arg *args);
/* The first rule that an argument breaks by itself, or NULL. */
const char *rule_broken_arg(const Backend *be, const Arg *args);
/* The long operations ask here first, so that a run on a slow machine stops within one of them. */
WEFT_MUST_CHECK int rule_stopped(const Backend *be, Err *err);

/* Questions that rules are made of; NULL tensors pass where a tensor is optional. */
int rule_act(const Backend *be, const Tensor *t);
/* Operands of one type: the activations', or F32 (the time embedding and the sampler's latents,
 * whatever the activations are). */
int rule_one_type(const Backend *be, const Tensor *a, const Tensor *b, const Tensor *c);
int rule_weight(const Backend *be, const Tensor *t);
/* Statistics, modulation, optimiser state. */
int rule_stat(const Backend *be, const Tensor *t);
/* Gradients of parameters, and parameters that an optimiser changes. */
int rule_trained(const Backend *be, const Tensor *t);
int64_t rule_last_dim(const Tensor *t);
/* All axes but the last, as one. */
int64_t rule_rows(const Tensor *t);
int rule_vector(const Tensor *t, int64_t n);
int rule_shape(const Tensor *t, int rank, const int64_t *dim);
#define SHAPE(t, rank, ...) rule_shape((t), (rank), (const int64_t[]){__VA_ARGS__})
/* The tensors share no memory. */
int rule_apart(const Backend *be, const Tensor *a, const Tensor *b);
/* They share none, or are the same memory with the same type and count. */
int rule_same_or_apart(const Backend *be, const Tensor *a, const Tensor *b);

#define ACT_RULE "activations must have the back end's type"
#define ONE_RULE "the operands must all have the activations' type, or all be F32"
#define WEIGHT_RULE "weights must be F32, F16 or BF16"
#define STAT_RULE "statistics, modulation and optimiser state must be F32"
#define TRAINED_RULE "gradients of parameters (of one type), and what an optimiser changes, must be F32 or BF16"
#define FLOAT_RULE "a float type is needed"
#define SAME_RULE "shapes must be equal"
#define APART_RULE "an output overlaps an input"
#endif
