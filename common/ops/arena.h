/* Working memory, planned before it is allocated.
 *
 * An Arena is a stack in one block of memory on a back end: tensors are allocated from the bottom up
 * and released together, down to a mark.  On the plan back end it has no block and only records the
 * most bytes in use.  To find the memory of a model call, make the same call on the plan back end
 * first:
 *
 *   arena_new(&a, plan, 0, "vae", err);  vae_encode(vae_on_plan, a, ...);  bytes = arena_high(a);
 *   arena_new(&b, cpu, bytes, "vae", err);  vae_encode(vae, b, ...);        // never exceeds, never
 *   allocates
 *
 * Tensors are 64-byte aligned and valid until the arena is reset to a mark below them.  In builds with
 * -DWEFT_ARENA_SPLIT (the sanitizer builds) every tensor is its own allocation so that overruns are
 * seen; the limit is enforced all the same. */
#ifndef WEFT_COMMON_OPS_ARENA_H
#define WEFT_COMMON_OPS_ARENA_H
#include "common/ops/backend.h"

typedef struct Arena Arena;

/* bytes is ignored on the plan back end.  `name` (borrowed, a literal) stands in the message when
 * the arena is too small. */
WEFT_MUST_CHECK int arena_new(Arena **out, Backend *be, int64_t bytes, const char *name, Err *err);
void arena_free(Arena **a);
/* A tensor of the given type and shape, contents undefined; ERR_LIMIT when the arena is too small. */
WEFT_MUST_CHECK int arena_take(Arena *a, Tensor *out, DType dtype, int rank, const int64_t *dim, Err *err);
#define arena_tensor(a, out, dtype, rank, err, ...) \
    arena_take((a), (out), (dtype), (rank), (const int64_t[]){__VA_ARGS__}, (err))
int64_t arena_mark(const Arena *a);
void arena_reset(Arena *a, int64_t mark); /* releases everything allocated since the mark */
int64_t arena_high(const Arena *a);       /* most bytes ever in use */
#endif
