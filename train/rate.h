/* Learning-rate schedules, by the formulas of transformers (optimization.py): functions of the step's
 * number alone. */
#ifndef WEFT_TRAIN_RATE_H
#define WEFT_TRAIN_RATE_H
#include <stdint.h>

#include "common/base/err.h"

typedef enum RateKind {
    RATE_CONSTANT,
    RATE_CONSTANT_WITH_WARMUP,
    RATE_LINEAR,
    RATE_COSINE,
    RATE_COSINE_WITH_RESTARTS,
    RATE_POLYNOMIAL
} RateKind;

typedef struct Rate {
    RateKind kind;
    double peak;    /* training.learning_rate: the rate after warm-up */
    int64_t warmup; /* steps over which the rate rises from 0; RATE_CONSTANT has none */
    int64_t steps;  /* of the whole run: where the last four kinds end */
    double cycles;  /* RATE_COSINE_WITH_RESTARTS: how often the cosine falls from 1 to 0 */
    double power;   /* RATE_POLYNOMIAL */
} Rate;

/* The last rate of RATE_POLYNOMIAL, as in transformers. */
#define RATE_POLYNOMIAL_END 1e-7

/* A name of training.lr_scheduler; ERR_USAGE for another one. */
WEFT_MUST_CHECK int rate_kind(RateKind *out, const char *name, Err *err);
/* Whether rates depend on the run's length: such a run cannot be made longer or shorter half-way. */
int rate_needs_length(const Rate *r);
/* Refuses what the formulas cannot do. */
WEFT_MUST_CHECK int rate_check(const Rate *r, Err *err);
/* The rate of update number `step`, from 0: the first one of a warm-up has rate 0. */
double rate_at(const Rate *r, int64_t step);
#endif
