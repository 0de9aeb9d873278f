/* The wall in front of LMDB, which trusts its own pages and crashes on damaged ones: before a cache
 * is opened for writing, every page that LMDB would follow is checked.  (Readers follow no page
 * unchecked: cache_tree.h.)
 * The format is LMDB 0.9's data file, version 1, on a 64-bit little-endian machine. */
#ifndef WEFT_COMMON_STORE_CACHE_PAGES_H
#define WEFT_COMMON_STORE_CACHE_PAGES_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/store/cache_page.h"

/* The two pages that LMDB reads while it opens a file.  `what` names the cache in messages.
 * ERR_FORMAT. */
WEFT_MUST_CHECK int cache_pages_check_head(const uint8_t *file, int64_t size, const char *what, Err *err);

/* Every page of a state: the trees of the free list, of the names and of the databases.  No page is
 * used twice, every node lies inside its page and apart from the others, keys ascend, values lie
 * inside the file, the counts are right.  Of a large value only its first page's header is read.
 * ERR_FORMAT when something is damaged. */
WEFT_MUST_CHECK int cache_pages_check_trees(const PageFile *f, const PageHead *head, Err *err);
#endif
