/* Child processes for work on hostile bytes: each item gets a process of its own with limits, so
 * that a crash, a hang or the memory of a codec costs that item and nothing else.
 *
 * A child is forked: it takes its item from the memory it inherits, and sends its result, JSON, through
 * a pipe; files it writes must appear atomically.  Other threads of the caller do not exist in it, so
 * none may hold a lock at that moment (idle OpenMP and BLAS threads hold none), and `work` must not
 * start OpenMP or BLAS.  No child outlives its parent. */
#ifndef WEFT_COMMON_BASE_WORKER_H
#define WEFT_COMMON_BASE_WORKER_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"

typedef struct WorkerLimits { /* a process; zero: none */
    int64_t cpu_s, wall_s;    /* wall_s only catches what sleeps: a loaded machine must not decide */
    int64_t memory_bytes;     /* of address space beyond what the parent has */
    int64_t file_bytes;       /* of each file written */
} WorkerLimits;

typedef struct Workers {
    int64_t jobs; /* processes at a time; 0: no processes, every item in this one */
    WorkerLimits limits;
    void *user;
    /* In the child: the item's result.  A negative return stops the whole run, but for ERR_NOMEM,
     * which is the item's loss. */
    int (*work)(void *user, int64_t item, json_t **out, Err *err);
    /* In the parent, in the order of finishing: the result, or (result NULL) why there is none.
     * code: "worker_crash", "timeout" or "memory".  A negative return stops the run. */
    int (*done)(void *user, int64_t item, const json_t *result, const char *code, const char *text, Err *err);
    int (*stop)(void *user); /* called before each item: 1 to start no more */
} Workers;

/* Items 0..n-1.  A child killed from outside (SIGKILL, SIGTERM) is tried again, three times in all. */
WEFT_MUST_CHECK int workers_run(const Workers *w, int64_t n, Err *err);
#endif
