/* Checked allocation.  Every size is a product of int64_t counts, checked for overflow.
 * Tests make the n-th allocation fail through mem_fail_after (compiled in always; one atomic load). */
#ifndef WEFT_COMMON_BASE_MEM_H
#define WEFT_COMMON_BASE_MEM_H
#include <stdint.h>
#include <stddef.h>
#include "common/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* count * size bytes, zeroed; NULL and ERR_NOMEM in err when it cannot be had or overflows.  count
 * 0 gives a valid pointer.  Free with mem_free. */
WEFT_MUST_CHECK void *mem_calloc(int64_t count, int64_t size, Err *err);
/* As realloc: on failure the old block stays valid and NULL is returned. */
WEFT_MUST_CHECK void *mem_realloc(void *old, int64_t count, int64_t size, Err *err);
/* Room for item n (from 0) of a growing list: `list` is the address of the pointer to its first item, NULL for an
 * empty one, and *room how many items of `size` bytes it has room for.  On failure both stay as they are. */
WEFT_MUST_CHECK int mem_grow(void *list, int64_t n, int64_t *room, int64_t size, Err *err);
/* 64-byte aligned, not zeroed.  Free with mem_free_aligned. */
WEFT_MUST_CHECK void *mem_alloc_aligned(int64_t bytes, Err *err);
WEFT_MUST_CHECK char *mem_strdup(const char *s, Err *err);
WEFT_MUST_CHECK char *mem_strndup(const char *s, int64_t n, Err *err);
/* printf into a new string. */
WEFT_MUST_CHECK char *mem_printf(Err *err, const char *fmt, ...) WEFT_PRINTF(2, 3);
void mem_free(void *p);
void mem_free_aligned(void *p);

/* *out = a*b (a+b); 0, or ERR_LIMIT when a or b is negative or the result does not fit int64_t. */
WEFT_MUST_CHECK int mem_mul(int64_t a, int64_t b, int64_t *out);
WEFT_MUST_CHECK int mem_add(int64_t a, int64_t b, int64_t *out);

/* Blocks that are allocated by the functions above and not freed yet, for tests. */
int64_t mem_live(void);
/* Test hook: the n-th allocation from now (1 = the next) fails, once; 0 turns it off.
 * Process-wide. */
void mem_fail_after(int64_t n);
/* Whether that failure has happened. */
int mem_failed(void);

#ifdef __cplusplus
}
#endif
#endif
