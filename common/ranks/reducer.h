/* Gradients of all ranks become the sum at the rank that updates with it, range by range, while the
 * next block's backward pass still runs.
 *
 *   reducer_open(&r, ranks, be, &grads, bound, samples, tree, err)
 *   each step:
 *     reducer_begin(r, n)                       the step has n samples
 *     each pass but the rank's last:            backward;  with a tree: reducer_add(r, err)
 *     the rank's last pass:                     backward; reducer_range(r, first, n) as gradients
 *                                               become final, the same ranges in the same order at
 *                                               every rank (also at one that has no samples)
 *     reducer_finish(r, err)                    from here rank k's part of grads holds the sum
 *
 * Without a tree, sums are the transport's: passes add up in `grads` as they come, and the order over
 * ranks is the library's.  With a tree (tree.h) every pass is one sample and the bits do not depend on
 * the number of ranks; it needs places for partial sums, each as large as `grads`.
 *
 * On a back end whose memory is the host's a thread sums beside the computation.  A device's ranges go
 * through its own link where there is one (backend.h, DeviceLink) and no tree, else through host memory
 * in reducer_finish. */
#ifndef WEFT_COMMON_RANKS_REDUCER_H
#define WEFT_COMMON_RANKS_REDUCER_H
#include "common/ops/backend.h"
#include "common/ranks/ranks.h"

typedef struct Reducer Reducer;

/* ranks: NULL for one process (with a tree).  grads: flat, F32 or BF16.  bound
 * (copied): size + 1 elements from 0 to the count of grads; rank k updates [bound[k], bound[k+1]).
 * samples: the numbers of samples that a step can have, `n_samples` of them. */
WEFT_MUST_CHECK int reducer_open(Reducer **out, Ranks *ranks, Backend *be, const Tensor *grads, const int64_t *bound,
                                 const int64_t *samples, int n_samples, int tree, Err *err);
/* Joins the devices of all ranks, for reducer_use_link and reducer_share: *linked is 0 where be has no link,
 * or where it does not work at some rank (`why` says so at that rank); then data go through host memory. */
WEFT_MUST_CHECK int reducer_link(Ranks *ranks, Backend *be, int *linked, Err *why, Err *err);
/* Sums go through the devices' link from now on. */
void reducer_use_link(Reducer *r);
void reducer_close(Reducer **r);
void reducer_begin(Reducer *r, int64_t samples);
WEFT_MUST_CHECK int reducer_add(Reducer *r, Err *err);
void reducer_range(Reducer *r, int64_t first, int64_t n);
/* Waits for the sums; the first failure of the step. */
WEFT_MUST_CHECK int reducer_finish(Reducer *r, Err *err);
/* Seconds that the last step's sums took, and how long reducer_finish waited for them. */
void reducer_seconds(const Reducer *r, double *busy, double *waited);
/* Bytes on the back end that rank `rank` of `size` needs for steps of so many samples, beyond its
 * gradients of `bytes`. */
int64_t reducer_bytes(int64_t bytes, int64_t rank, int64_t size, const int64_t *samples, int n_samples, int tree,
                      int host);

/* values[bound[k] .. bound[k+1]) of rank k to all ranks. */
WEFT_MUST_CHECK int reducer_share(Ranks *ranks, Backend *be, const Tensor *values, const int64_t *bound, int linked,
                                  Err *err);
#endif
