#include "common/base/mem.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The process-wide state here, for tests: allocations left until one fails (0: off), whether it has,
 * and how many blocks are live. */
static atomic_llong fail_countdown;
static atomic_int fail_happened;
static atomic_llong live; /* blocks not freed yet */

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

int64_t mem_live(void)
{
    return atomic_load(&live);
}

void mem_fail_after(int64_t n)
{
    atomic_store(&fail_happened, 0);
    atomic_store(&fail_countdown, n > 0 ? n : 0);
}

int mem_failed(void)
{
    return atomic_load(&fail_happened);
}

static int must_fail(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0)
        return 0;
    if (atomic_fetch_sub(&fail_countdown, 1) != 1)
        return 0;
    atomic_store(&fail_happened, 1);
    return 1;
}

int mem_mul(int64_t a, int64_t b, int64_t *out)
{
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, out))
        return ERR_LIMIT;
    return 0;
}

int mem_add(int64_t a, int64_t b, int64_t *out)
{
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, out))
        return ERR_LIMIT;
    return 0;
}

static void *refuse(Err *err, int64_t count, int64_t size)
{
    err_set(err, ERR_NOMEM, "out of memory: %" PRId64 " x %" PRId64 " bytes", count, size);
    return NULL;
}

void *mem_calloc(int64_t count, int64_t size, Err *err)
{
    int64_t bytes;
    if (mem_mul(count, size, &bytes) < 0 || must_fail())
        return refuse(err, count, size);
    void *p = counted(calloc(1, bytes ? (size_t)bytes : 1));
    return p ? p : refuse(err, count, size);
}

void *mem_realloc(void *old, int64_t count, int64_t size, Err *err)
{
    int64_t bytes;
    if (mem_mul(count, size, &bytes) < 0 || must_fail())
        return refuse(err, count, size);
    int first = !old; /* a block that is enlarged is counted already */
    void *p = realloc(old, bytes ? (size_t)bytes : 1);
    if (first)
        counted(p);
    return p ? p : refuse(err, count, size);
}

int mem_grow(void *list, int64_t n, int64_t *room, int64_t size, Err *err)
{
    if (n < *room)
        return 0;
    int64_t wanted = *room ? 2 * *room : 64;
    void *block;
    memcpy(&block, list, sizeof block);
    if (!(block = mem_realloc(block, wanted, size, err)))
        return ERR_NOMEM;
    memcpy(list, &block, sizeof block);
    *room = wanted;
    return 0;
}

void *mem_alloc_aligned(int64_t bytes, Err *err)
{
    if (bytes < 0 || bytes > INT64_MAX - 64 || must_fail())
        return refuse(err, bytes, 1);
    void *p = counted(aligned_alloc(64, (size_t)(bytes ? (bytes + 63) / 64 * 64 : 64)));
    return p ? p : refuse(err, bytes, 1);
}

char *mem_strndup(const char *s, int64_t n, Err *err)
{
    char *p = mem_calloc(n < INT64_MAX ? n + 1 : n, 1, err);
    if (p)
        memcpy(p, s, (size_t)n);
    return p;
}

char *mem_strdup(const char *s, Err *err)
{
    return mem_strndup(s, (int64_t)strlen(s), err);
}

char *mem_printf(Err *err, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? refuse(err, n, 1) : mem_calloc((int64_t)n + 1, 1, err);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}

void mem_free(void *p)
{
    if (p)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(p);
}

void mem_free_aligned(void *p)
{
    mem_free(p);
}
