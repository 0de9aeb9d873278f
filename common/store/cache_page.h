/* One page of LMDB's file as cache_pages.c (every page) and cache_tree.c (the way to one entry) look
 * at it: the bytes are hostile, and nothing in them is aligned until it has been checked.
 * The format is LMDB 0.9's data file, version 1, on a 64-bit little-endian machine. */
#ifndef WEFT_COMMON_STORE_CACHE_PAGE_H
#define WEFT_COMMON_STORE_CACHE_PAGE_H
#include <stdint.h>
#include "common/base/err.h"

enum { PAGE_HEAD = 16, NODE_HEAD = 8, PAGE_DB_SIZE = 48 };
enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 }; /* a page's flags */
enum { NODE_BIG = 1, NODE_SUBDATA = 2 };                                   /* a node's */
enum { PAGE_LEAST = 512, PAGE_MOST = 32768, TREE_DEPTH_MAX = 32, PAGE_KEY_MAX = 511 };
#define NO_PAGE UINT64_MAX

typedef struct PageDb { /* the record of a database */
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
} PageDb;
typedef struct PageHead { /* one of the two header pages */
    uint64_t map_size, last, txnid;
    uint32_t page;
    PageDb free_db, main_db;
} PageHead;

enum { PAGES_SOUND = 256 };
/* The file of one state.  `what` names the cache in messages. */
typedef struct PageFile {
    const uint8_t *file;
    int64_t page, n_pages; /* bytes of one; how many the state may use */
    const char *what;
    uint64_t sound[PAGES_SOUND];  /* cache_tree.c: pages that it has checked */
    uint8_t taken[PAGE_MOST / 2]; /* work space of page_check: a byte for two of the page */
} PageFile;

uint16_t u16_at(const uint8_t *p);
uint32_t u32_at(const uint8_t *p);
uint64_t u64_at(const uint8_t *p);
PageDb page_db_at(const uint8_t *p);
PageHead page_head_at(const uint8_t *meta_page);
/* ERR_FORMAT with a sentence that says what is damaged, and what to do. */
int page_damaged(const char *what, Err *err, const char *fmt, ...) WEFT_PRINTF(3, 4);

/* The state `txnid` of a file of `size` bytes: 1, 0 when the file no longer holds it (a writer has
 * gone on since), ERR_FORMAT.  *head: its header page.  2: as 1, but the other header page is newer, so
 * that a writer who has gone on further may be writing over this one. */
WEFT_MUST_CHECK int page_file_open(PageFile *out, PageHead *head, const uint8_t *file, int64_t size, uint64_t txnid,
                                   const char *what, Err *err);
/* The page's own order: its number, its kind, the node table, and nodes that fill the upper part
 * without touching each other. */
WEFT_MUST_CHECK int page_check(PageFile *f, uint64_t number, int leaf, Err *err);
WEFT_MUST_CHECK int page_check_number(const PageFile *f, uint64_t number, Err *err);
const uint8_t *page_at(const PageFile *f, uint64_t number);
/* Nodes of a page that page_check has accepted. */
int64_t page_nodes(const uint8_t *page);
const uint8_t *page_node(const uint8_t *page, int64_t i);
uint64_t node_child(const uint8_t *node); /* of a branch page */
/* A leaf node's value.  *pages and *first: the pages of its own that it takes (0: none). */
WEFT_MUST_CHECK int node_value(const PageFile *f, const uint8_t *node, const uint8_t **value, int64_t *size,
                               uint64_t *first, int64_t *pages, Err *err);
/* The same without a look at pages of its own in the map: their first bytes are read from the file, and *value points
 * to no more than PAGE_PEEK bytes of such a value, which stand in *peek. */
enum { PAGE_PEEK = 48 };
typedef struct PagePeek {
    uint8_t byte[PAGE_HEAD + PAGE_PEEK];
} PagePeek;
WEFT_MUST_CHECK int node_peek(const PageFile *f, int fd, const uint8_t *node, PagePeek *peek, const uint8_t **value,
                              int64_t *size, Err *err);
#endif
