/* One rank's share of a run: which samples of a step it computes, which parameters it updates, and
 * how gradients and updated weights meet.
 *
 * A step has the same samples and draws for any number of ranks: rank r computes part r of them
 * (ranks_part).  The optimiser's state is cut by parameters into parts of nearly one size (ZeRO stage
 * 1); a rank keeps and updates its part, which all ranks receive afterwards.
 *
 * With `tree` every pass is one sample, and gradients, norm and loss are added in an order that depends
 * on the samples alone (common/ranks/tree.h): the same bits for any number of ranks.
 *
 *   share_begin(s, samples)     each step
 *   share_backward(s, ...)      in place of dit_backward
 *   share_gather(s)             all gradients are summed: each rank has its part
 *   ... update of the part ...
 *   share_weights(s)            the parts, to all ranks */
#ifndef WEFT_TRAIN_SHARE_H
#define WEFT_TRAIN_SHARE_H
#include "common/model/dit.h"
#include "common/ranks/reducer.h"

typedef struct ShareConfig {
    Ranks *ranks;       /* borrowed; NULL: one process, or a plan */
    int64_t rank, size; /* of ranks; in a plan of any job; size 0 is one process */
    int tree;
    int64_t samples[2]; /* how many samples a step has: most steps, and the last one of an epoch */
} ShareConfig;

typedef struct Share {
    ShareConfig c;
    Backend *be;
    Dit *dit;       /* borrowed */
    int64_t *bound; /* [size + 1]: rank k updates [bound[k], bound[k+1]) of the flat arenas */
    struct {
        int64_t first, n;
    } * range;                          /* of the flat arenas, in the order in which gradients become final */
    int64_t n_ranges, sent;             /* sent: given to the reducer in this step */
    int64_t samples, done, first, last; /* of this step: all, computed here so far; this rank's are [first, last) */
    Reducer *reducer;                   /* NULL: one process that adds as it goes, or a plan */
    int linked;                         /* the devices exchange without the host */
    double *squares;                    /* [parameters] */
} Share;

/* On the plan back end nothing is allocated: share_bytes computes what a run needs.  After a failure
 * nothing is held. */
WEFT_MUST_CHECK int share_open(Share *s, const ShareConfig *c, Backend *be, Dit *dit, Err *err);
void share_close(Share *s);
/* Whether gradients, norms and weights pass through this share at all. */
int share_active(const Share *s);
/* bound[size + 1]: parameters are never cut. */
void share_bounds(const ParamSet *ps, int64_t size, int64_t *bound);
/* The rank that updates a parameter (one of dit_trainable's). */
int64_t share_owner(const Share *s, const Param *p);
/* Bytes on the back end beyond weights, optimiser and gradients (of so many bytes). */
int64_t share_bytes(const ShareConfig *c, int64_t gradients, int host);

void share_begin(Share *s, int64_t samples);
/* dit_backward of a pass of `n` samples. */
WEFT_MUST_CHECK int share_backward(Share *s, Arena *work, DitTape **tape, const Tensor *grad_v, int64_t n, Err *err);
WEFT_MUST_CHECK int share_gather(Share *s, Err *err);
/* The sum of squares of all gradients. */
WEFT_MUST_CHECK int share_sum_squares(Share *s, double *squares, Err *err);
WEFT_MUST_CHECK int share_weights(Share *s, Err *err);
/* x[n] <- sum over the ranks, n small. */
WEFT_MUST_CHECK int share_sum(const Share *s, double *x, int64_t n, Err *err);
#endif
