/* The formulas. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "train/rate.h"

int rate_kind(RateKind *out, const char *name, Err *err)
{
    static const char *const names[] = {"constant", "constant_with_warmup", "linear",
                                        "cosine",   "cosine_with_restarts", "polynomial"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) {
            *out = (RateKind)i;
            return 0;
        }
    return err_set(err, ERR_USAGE, "training.lr_scheduler '%s' is not known", name);
}

int rate_needs_length(const Rate *r)
{
    return r->kind >= RATE_LINEAR;
}

int rate_check(const Rate *r, Err *err)
{
    if (r->kind == RATE_POLYNOMIAL && r->peak <= RATE_POLYNOMIAL_END)
        return err_set(err, ERR_USAGE,
                       "training.learning_rate is %g, but lr_scheduler 'polynomial' ends at %g: give a larger rate, or "
                       "another scheduler",
                       r->peak, RATE_POLYNOMIAL_END);
    if (rate_needs_length(r) && r->warmup >= r->steps)
        return err_set(err, ERR_USAGE,
                       "training.warmup_steps is %" PRId64 ", but the run has %" PRId64
                       " steps: the rate would never begin to fall",
                       r->warmup, r->steps);
    return 0;
}

/* How much of the way from the end of the warm-up to the end of the run is done: 0 to 1, or more. */
static double progress(const Rate *r, int64_t step)
{
    int64_t length = r->steps - r->warmup;

    return (double)(step - r->warmup) / (double)(length > 1 ? length : 1);
}

static double polynomial(const Rate *r, int64_t step)
{
    double left = 1 - progress(r, step);

    return step > r->steps ? RATE_POLYNOMIAL_END
                           : (r->peak - RATE_POLYNOMIAL_END) * pow(left, r->power) + RATE_POLYNOMIAL_END;
}

double rate_at(const Rate *r, int64_t step)
{
    double done;

    if (r->kind == RATE_CONSTANT)
        return r->peak;
    if (step < r->warmup)
        return r->peak * (double)step / (double)r->warmup;
    done = progress(r, step);
    switch (r->kind) {
    case RATE_LINEAR: return r->peak * fmax(0, 1 - done);
    case RATE_COSINE: return r->peak * fmax(0, 0.5 * (1 + cos(M_PI * done)));
    case RATE_COSINE_WITH_RESTARTS:
        return done >= 1 ? 0 : r->peak * fmax(0, 0.5 * (1 + cos(M_PI * fmod(r->cycles * done, 1))));
    case RATE_POLYNOMIAL: return polynomial(r, step);
    default: return r->peak;
    }
}
