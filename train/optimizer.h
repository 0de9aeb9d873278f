/* The optimiser: its state beside the parameters, and one update of them.
 *
 * It works on the range [first, first + n) of the flat arena of a ParamSet (params.h), so that several
 * processes can each keep the state of a part and update that part.  AdamW: common/ops/ops.h. */
#ifndef WEFT_TRAIN_OPTIMIZER_H
#define WEFT_TRAIN_OPTIMIZER_H
#include "common/model/params.h"

typedef struct OptimizerConfig {
    double beta1, beta2, epsilon, weight_decay;
    uint64_t seed; /* for the stochastic rounding of weights without masters */
} OptimizerConfig;

typedef struct Optimizer {
    OptimizerConfig c;
    Backend *be;
    ParamSet *params; /* borrowed; with flat arenas of values and gradients */
    int64_t first, n; /* the range of the flat arena; multiples of 16 unless it is the end */
    Tensor m, v;      /* moments, F32 [n], gaps between parameters included */
} Optimizer;

/* Allocates the state of the range, with zeros.  After a failure nothing is held. */
WEFT_MUST_CHECK int optimizer_init(Optimizer *o, Backend *be, ParamSet *params, const OptimizerConfig *c, int64_t first,
                                   int64_t n, Err *err);
void optimizer_fini(Optimizer *o);
/* Bytes that optimizer_init allocates for the range. */
int64_t optimizer_bytes(const ParamSet *params, const OptimizerConfig *c, int64_t first, int64_t n);
/* Update number `step` (from 1) of the range's parameters and of the copies that operations read.
 * grads: [n], of the type of the gradients' arena; they are multiplied by grad_scale first. */
WEFT_MUST_CHECK int optimizer_step(Optimizer *o, const Tensor *grads, int64_t step, double lr, double grad_scale,
                                   Err *err);

/* One tensor of the state as a checkpoint names it: KIND.PARAMETER, shaped like the parameter. */
typedef struct OptimizerPart {
    const char *kind; /* "m" or "v" */
    const Param *param;
    Tensor whole;     /* type and shape in the checkpoint; data NULL */
    int64_t first, n; /* the elements of it that lie in the range; n may be 0 */
    void *data;       /* these n elements, on the back end */
} OptimizerPart;
/* How many parts there are, the same for every range; and part i of them. */
int64_t optimizer_parts(const Optimizer *o);
OptimizerPart optimizer_part(const Optimizer *o, int64_t i);
#endif
