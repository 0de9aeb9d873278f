#include "common/ops/arena.h"

#include "common/base/mem.h"

enum { ALIGN = 64 };

struct Arena {
    Backend *be;
    const char *name;
    char *base;               /* one block; on plan and in split builds nothing */
    int64_t size, used, high; /* bytes; size is ignored on plan */
    struct Piece {
        int64_t at;
        void *p;
    } * piece; /* split builds: every tensor its own allocation, in order of `at` */
    int64_t n_piece, cap_piece;
};

#ifdef WEFT_ARENA_SPLIT
enum { SPLIT = 1 };
#else
enum { SPLIT = 0 };
#endif

int arena_new(Arena **out, Backend *be, int64_t bytes, const char *name, Err *err)
{
    *out = NULL;
    if (bytes < 0)
        return err_set(err, ERR_USAGE, "%s memory: %" PRId64 " bytes", name, bytes);
    Arena *a = mem_calloc(1, (int64_t)sizeof *a, err);
    if (!a)
        return ERR_NOMEM;
    *a = (Arena){.be = be, .name = name, .size = bytes};
    if (!be->plan && !SPLIT) {
        void *block = NULL;
        int rc = be->alloc(be, bytes > 0 ? bytes : ALIGN, &block, err);
        if (rc < 0) {
            mem_free(a);
            return err_wrap(err, rc, "%s memory of %" PRId64 " bytes", name, bytes);
        }
        a->base = block;
    }
    *out = a;
    return 0;
}

void arena_free(Arena **a)
{
    if (!a || !*a)
        return;
    arena_reset(*a, 0);
    if ((*a)->base)
        (*a)->be->release((*a)->be, (*a)->base);
    mem_free((*a)->piece);
    mem_free(*a);
    *a = NULL;
}

/* Bytes a tensor takes here: its own rounded up to the alignment. */
static int padded_bytes(DType dtype, int rank, const int64_t *dim, int64_t *bytes)
{
    int rc = 0;
    *bytes = dtype_size(dtype);
    for (int i = 0; i < rank && rc == 0; i++)
        rc = mem_mul(*bytes, dim[i], bytes);
    if (rc == 0)
        rc = mem_add(*bytes, ALIGN - 1, bytes);
    *bytes = *bytes / ALIGN * ALIGN;
    return rc;
}

static int take_piece(Arena *a, int64_t bytes, void **p, Err *err)
{
    if (a->n_piece == a->cap_piece) {
        int64_t cap = a->cap_piece ? 2 * a->cap_piece : 64;
        struct Piece *grown = mem_realloc(a->piece, cap, (int64_t)sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        a->piece = grown;
        a->cap_piece = cap;
    }
    int rc = a->be->alloc(a->be, bytes > 0 ? bytes : ALIGN, p, err);
    if (rc == 0)
        a->piece[a->n_piece++] = (struct Piece){a->used, *p};
    return rc;
}

int arena_take(Arena *a, Tensor *out, DType dtype, int rank, const int64_t *dim, Err *err)
{
    int64_t bytes = 0, end = 0;
    char shape[160];
    *out = tensor_view(NULL, dtype, rank, dim);
    if (padded_bytes(dtype, rank, dim, &bytes) < 0 || mem_add(a->used, bytes, &end) < 0)
        return err_set(err, ERR_LIMIT, "%s memory: a tensor %s cannot be sized", a->name,
                       tensor_describe(out, shape, sizeof shape));
    if (!a->be->plan && end > a->size)
        return err_set(err, ERR_LIMIT,
                       "%s memory: no room for a tensor %s: %" PRId64 " of %" PRId64 " bytes in use, %" PRId64
                       " needed",
                       a->name, tensor_describe(out, shape, sizeof shape), a->used, a->size, bytes);
    if (a->be->plan) {
        out->data = (void *)(uintptr_t)(ALIGN + a->used); /* distinct, never read */
    } else if (SPLIT) {
        int rc = take_piece(a, tensor_bytes(out), &out->data, err);
        if (rc < 0)
            return err_wrap(err, rc, "%s memory: a tensor %s", a->name, tensor_describe(out, shape, sizeof shape));
    } else {
        out->data = a->base + a->used;
    }
    a->used = end;
    if (a->high < end)
        a->high = end;
    return 0;
}

int64_t arena_mark(const Arena *a)
{
    return a->used;
}

void arena_reset(Arena *a, int64_t mark)
{
    while (a->n_piece > 0 && a->piece[a->n_piece - 1].at >= mark)
        a->be->release(a->be, a->piece[--a->n_piece].p);
    a->used = mark;
}

int64_t arena_high(const Arena *a)
{
    return a->high;
}
