/* Ranks of one machine without MPI: threads, or processes that forked after hub_new.  For tests. */
#ifndef WEFT_COMMON_RANKS_RANKS_LOCAL_H
#define WEFT_COMMON_RANKS_RANKS_LOCAL_H
#include "common/base/hub.h"
#include "common/ranks/ranks.h"

/* The end of `rank` on a hub (borrowed) of hub_size ranks.  Sums are made in rank order. */
WEFT_MUST_CHECK int ranks_local(Ranks **out, Hub *hub, int64_t rank, Err *err);
#endif
