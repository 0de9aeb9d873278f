/* Shared memory through which the processes or threads of one machine exchange bytes: barriers, a
 * window of memory each, and messages.  For tests of what runs on several ranks, and for the
 * stand-in of NCCL in the simulator; jobs on several machines use MPI.
 *
 * A rank that does not come within HUB_WAIT_S seconds, or hub_abort, makes all waits fail (ERR_IO). */
#ifndef WEFT_COMMON_BASE_HUB_H
#define WEFT_COMMON_BASE_HUB_H
#include <stdint.h>
#include "common/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Hub Hub;
enum { HUB_WAIT_S = 60 };

/* For `size` ranks (at least 1) with windows of `window` bytes each (at least 1).  hub_new: for
 * threads, and for processes that fork afterwards.  hub_join: for processes that know a name
 * ("/weft-..."); each calls it once with its rank, and it returns when all have. */
WEFT_MUST_CHECK int hub_new(Hub **out, int64_t size, int64_t window, Err *err);
WEFT_MUST_CHECK int hub_join(Hub **out, const char *name, int64_t rank, int64_t size, int64_t window, Err *err);
void hub_close(Hub **h); /* each process that has it */

int64_t hub_size(const Hub *h);
int64_t hub_window_bytes(const Hub *h);
void *hub_window(Hub *h, int64_t rank);
/* Returns when all ranks have called it; what they wrote before is seen after. */
WEFT_MUST_CHECK int hub_barrier(Hub *h, Err *err);
/* One message from rank to rank, through the sender's window; returns when it was received. */
WEFT_MUST_CHECK int hub_send(Hub *h, const void *data, int64_t bytes, int64_t from, int64_t to, Err *err);
WEFT_MUST_CHECK int hub_receive(Hub *h, void *data, int64_t bytes, int64_t from, int64_t to, Err *err);
void hub_abort(Hub *h);

#ifdef __cplusplus
}
#endif
#endif
