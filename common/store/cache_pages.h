/* The wall in front of LMDB, which trusts its own pages and crashes on damaged ones: every page
 * that it would follow is checked first.
 * The format is LMDB 0.9's data file, version 1, on a 64-bit little-endian machine. */
#ifndef WEFT_COMMON_STORE_CACHE_PAGES_H
#define WEFT_COMMON_STORE_CACHE_PAGES_H
#include <stdint.h>
#include "common/base/err.h"

/* The two pages that LMDB reads while it opens a file.  `what` names the cache in messages.
 * ERR_FORMAT. */
WEFT_MUST_CHECK int cache_pages_check_head(const uint8_t *file, int64_t size, const char *what, Err *err);

/* Every page of the newest state (txnid: its number), after the head was found sound: the trees of
 * the free list, of the names and of the databases.  No page is used twice, every node lies inside
 * its page and apart from the others, keys ascend, values lie inside the file, the counts are
 * right.  Of a large value only its first page's header is read.  1 sound, 0 when the file holds no
 * state of that number (a writer has gone on since: ask again), ERR_FORMAT otherwise. */
WEFT_MUST_CHECK int cache_pages_check(const uint8_t *file, int64_t size, uint64_t txnid, const char *what, Err *err);
#endif
