/* The processes of one job and their exchanges.
 *
 * A `Ranks` is one process's end of the line: which of how many it is, and the few exchanges that
 * training needs.  Three kinds exist:
 *   mpi     libweft-mpi.so, which is opened at run time (ranks_open), so that a build and a run on
 *           one machine need no MPI
 *   local   forked processes or threads of one program, over shared memory (ranks_local.h): tests
 *   none    a NULL pointer: one process, which exchanges nothing; ranks_size(NULL) is 1
 *
 * All ranks make the same calls in the same order.  One thread at a time calls a Ranks.  A failure is
 * ERR_IO; afterwards the ranks no longer agree on where they are, so the caller ends the job (abort). */
#ifndef WEFT_COMMON_RANKS_RANKS_H
#define WEFT_COMMON_RANKS_RANKS_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/ops/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Ranks Ranks;
enum { RANKS_ALL = -1, RANKS_HOST_MAX = 64 };

struct Ranks {
    const char *name; /* the MPI that libweft-mpi.so was built for ("Open MPI", "MPICH"), or "local" */
    int64_t rank, size;
    char host[RANKS_HOST_MAX]; /* the machine's name */
    int all_know;              /* all ranks know the last failure (ranks_agree, ranks_compare) */
    /* data[n] <- sum over all ranks, at rank `root` or, for RANKS_ALL, at every rank; elsewhere the
     * contents stay.  F32, F64 or BF16 (each addition rounded to nearest).  The order of the sum is
     * the library's: it may depend on n and on the number of ranks. */
    int (*sum)(Ranks *r, void *data, int64_t n, DType type, int64_t root, Err *err);
    /* Blocking; a message is received with the bytes it was sent with. */
    int (*send)(Ranks *r, const void *data, int64_t bytes, int64_t to, Err *err);
    int (*receive)(Ranks *r, void *data, int64_t bytes, int64_t from, Err *err);
    int (*broadcast)(Ranks *r, void *data, int64_t bytes, int64_t root, Err *err);
    /* all[size * bytes] <- every rank's `mine`, in rank order, at every rank. */
    int (*gather)(Ranks *r, void *all, const void *mine, int64_t bytes, Err *err);
    /* Makes this rank's exchanges fail, the one that another thread waits in too.  May be called while
     * that one does. */
    void (*cancel)(Ranks *r);
    void (*abort)(Ranks *r, int status); /* ends all processes of the job; may return */
    void (*close)(Ranks *r);             /* every rank calls it, unless it aborts */
};

static inline int64_t ranks_rank(const Ranks *r)
{
    return r ? r->rank : 0;
}
static inline int64_t ranks_size(const Ranks *r)
{
    return r ? r->size : 1;
}

/* The ranks of the job that started this process: *out is NULL when it is the only one, or when
 * `shard` (the option --shard) says that it works alone ("0/1").  Refuses: another --shard; more than
 * one process without libweft-mpi.so (beside the program, in ../lib/weft, or where the loader looks);
 * an MPI that counts other ranks than the launcher started. */
WEFT_MUST_CHECK int ranks_open(Ranks **out, const char *shard, Err *err);
void ranks_close(Ranks **r);

/* Whether all ranks came as far as this: each gives the code of what it did and its error.  0 when
 * all were well.  Otherwise every rank gets the code of the first one that failed and a sentence that
 * names it ("rank 1 on host: ..."). */
WEFT_MUST_CHECK int ranks_agree(Ranks *r, int code, Err *err);

/* What must be the same everywhere: a name for people and a text (a digest, a count). */
typedef struct RanksFact {
    const char *what; /* "the recipe" */
    const char *text; /* at most RANKS_FACT_MAX - 1 bytes */
} RanksFact;
enum { RANKS_FACT_MAX = 160, RANKS_FACTS_MAX = 16 };
/* ERR_USAGE at every rank, with the first rank that differs from rank 0 and all that differs there. */
WEFT_MUST_CHECK int ranks_compare(Ranks *r, const RanksFact *facts, int n, Err *err);

/* to[n] += from[n], in host memory: F32, F64 or BF16 (rounded to nearest). */
void ranks_add(void *to, const void *from, int64_t n, DType type);

/* Part `rank` of `size` of n things: [*first, *last), contiguous, in rank order, as even as can be. */
void ranks_part(int64_t n, int64_t rank, int64_t size, int64_t *first, int64_t *last);

#ifdef __cplusplus
}
#endif
#endif
