/* The exponential moving average of the weights (EMA), by the formula of diffusers' EMAModel
 * (training_utils.py, without warm-up): after update k, counted from 1,
 *
 *   average <- d average + (1 - d) weights,   d = min(decay, (1 + n) / (10 + n)),  n = k - start - 1,
 *
 * and while n < 1 the average is the weights themselves.  In fp32 beside weights of any type.  As with the
 * optimiser, a process keeps the range [first, first + n) of the flat arena. */
#ifndef WEFT_TRAIN_EMA_H
#define WEFT_TRAIN_EMA_H
#include "train/optimizer.h"

typedef struct EmaConfig {
    int on;
    double decay;  /* training.ema_decay */
    int64_t start; /* training.ema_start: updates before averaging begins */
} EmaConfig;

typedef struct Ema {
    EmaConfig c;
    Backend *be;
    ParamSet *params; /* borrowed; with a flat arena of values */
    int64_t first, n;
    Tensor average; /* F32 [n]; data NULL when off */
} Ema;

/* Starts as the weights.  Nothing is allocated when it is off, nor kept after a failure. */
WEFT_MUST_CHECK int ema_init(Ema *e, Backend *be, ParamSet *params, const EmaConfig *c, int64_t first, int64_t n,
                             Err *err);
void ema_fini(Ema *e);
/* d of update k. */
double ema_decay(const EmaConfig *c, int64_t k);
/* After update k of the weights. */
WEFT_MUST_CHECK int ema_step(Ema *e, int64_t k, Err *err);
/* Whether the average after update k differs from the weights at all. */
int ema_differs(const Ema *e, int64_t k);
/* Puts the average in the weights' place, or the weights back: not one bit of either is lost.  In between
 * the arena of gradients, which must hold none, is in use; afterwards it holds zeros.  The caller refreshes
 * what operations read (params_refresh). */
WEFT_MUST_CHECK int ema_lend(Ema *e, Err *err);
WEFT_MUST_CHECK int ema_return(Ema *e, Err *err);
/* The average of a parameter (F32, the whole of it), as far as it lies in the range. */
OptimizerPart ema_part(const Ema *e, int64_t i);
#endif
