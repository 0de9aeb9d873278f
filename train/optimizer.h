/* The optimiser: its state beside the parameters, and one update of them.
 *
 * It works on the range [first, first + n) of the flat arena of a ParamSet (params.h), so that several
 * processes can each keep the state of a part and update that part: the same bits as one process for
 * all.  Formulas: op_adamw and op_sgd in common/ops/ops.h.
 *
 * With 8-bit moments, parameters of OPTIMIZER_8BIT_LEAST elements and more keep m and v block-wise
 * quantised (common/ops/blockwise.h), blocks counted from the parameter's first element; smaller ones
 * keep them as floats.  An update restores a piece's moments, makes the float update, and quantises
 * them again. */
#ifndef WEFT_TRAIN_OPTIMIZER_H
#define WEFT_TRAIN_OPTIMIZER_H
#include "common/model/params.h"

enum { OPTIMIZER_8BIT_LEAST = 4096 };

typedef enum OptimizerKind { OPTIMIZER_ADAMW, OPTIMIZER_ADAMW_8BIT, OPTIMIZER_SGD } OptimizerKind;

typedef struct OptimizerConfig {
    OptimizerKind kind;
    double beta1, beta2, epsilon; /* AdamW */
    double momentum;              /* SGD; 0: no momentum, no state */
    double weight_decay;
    uint64_t seed; /* for the stochastic rounding of weights without masters */
} OptimizerConfig;

/* Kind of training.optimizer ("adamw", "sgd") and training.use_8bit_adam; ERR_USAGE for 8 bits with
 * sgd. */
WEFT_MUST_CHECK int optimizer_kind(OptimizerKind *out, const char *name, int use_8bit, Err *err);

/* One tensor of the state as a checkpoint names it: KIND.PARAMETER. */
typedef struct OptimizerPart {
    const char *kind; /* "m", "v": F32, or U8 codes, shaped like the parameter; "m_scale", "v_scale": F32 [blocks] */
    const Param *param;
    Tensor whole;     /* type and shape in the checkpoint; data NULL */
    int64_t first, n; /* the elements of it that lie in the range; n may be 0 */
    void *data;       /* these n elements, on the back end */
} OptimizerPart;

typedef struct OptimizerPiece OptimizerPiece; /* what of the range belongs to one parameter */

typedef struct Optimizer {
    OptimizerConfig c;
    Backend *be;
    ParamSet *params;                     /* borrowed; with flat arenas of values and gradients */
    int64_t first, n;                     /* the range */
    Tensor m, v;                          /* F32; of the whole range, or with 8 bits of its small parameters */
    Tensor codes[2], scale[2], floats[2]; /* 8 bits: m and v; floats: one piece's at a time */
    OptimizerPiece *piece;                /* 8 bits only */
    int64_t n_pieces;
} Optimizer;

/* Allocates the state of the range, with zeros; first and first + n must be values of optimizer_cut
 * (or the end).  After a failure nothing is held. */
WEFT_MUST_CHECK int optimizer_init(Optimizer *o, Backend *be, ParamSet *params, const OptimizerConfig *c, int64_t first,
                                   int64_t n, Err *err);
void optimizer_fini(Optimizer *o);
/* The last place up to `at` where the flat arena may be cut into ranges. */
int64_t optimizer_cut(const ParamSet *params, const OptimizerConfig *c, int64_t at);
/* Bytes that optimizer_init allocates for the range, and that its state takes in a checkpoint; needs no
 * arenas. */
int64_t optimizer_bytes(const ParamSet *params, const OptimizerConfig *c, int64_t first, int64_t n);
int64_t optimizer_file_bytes(const ParamSet *params, const OptimizerConfig *c);
/* Update number `step` (from 1) of the range's parameters and of the copies that operations read.
 * grads: [n], of the type of the gradients' arena; they are multiplied by grad_scale first. */
WEFT_MUST_CHECK int optimizer_step(Optimizer *o, const Tensor *grads, int64_t step, double lr, double grad_scale,
                                   Err *err);

/* How many parts there are, the same for every range; and part i of them. */
int64_t optimizer_parts(const Optimizer *o);
OptimizerPart optimizer_part(const Optimizer *o, int64_t i);
/* Fills all of *part but its kind, for one parameter's floats in a flat tensor that begins at element
 * `first` of the arena. */
void optimizer_range_part(const ParamSet *ps, const Param *param, const Tensor *flat, int64_t first,
                          OptimizerPart *part);
#endif
