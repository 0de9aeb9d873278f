/* Reads one entry of a tree in LMDB's file, or the entries in order, and checks each page that it
 * follows: what is damaged or was made by an enemy is ERR_FORMAT, never a crash or an endless loop.
 * So a cache opens at once however large it is; cache_pages.h looks at all pages. */
#ifndef WEFT_COMMON_STORE_CACHE_TREE_H
#define WEFT_COMMON_STORE_CACHE_TREE_H
#include "common/store/cache_page.h"

typedef struct Tree {
    uint64_t root;
    int depth; /* 0: empty */
    int64_t entries;
} Tree;

typedef struct TreeEntry { /* pointers into the file */
    const uint8_t *key, *value;
    int64_t key_size, value_size;
} TreeEntry;

/* A place between entries.  Zero-initialise: before the first. */
typedef struct TreeCursor {
    int depth; /* levels of `at`; 0: not begun */
    struct {
        uint64_t page;
        int64_t node;
    } at[TREE_DEPTH_MAX];
    const uint8_t *last; /* the key of the entry given last, to see that keys ascend */
    int64_t last_size;
} TreeCursor;

/* A page that was checked is taken as sound from then on; after this, no page is. */
void tree_forget(PageFile *f);
/* The tree of names; its entries are the databases. */
WEFT_MUST_CHECK int tree_of_names(const PageFile *f, const PageHead *head, Tree *out, Err *err);
/* The database of that name: 1, 0 absent, negative on error. */
WEFT_MUST_CHECK int tree_named(PageFile *f, const Tree *names, const char *name, Tree *out, Err *err);
/* The entry of that key: 1, 0 absent, negative on error. */
WEFT_MUST_CHECK int tree_get(PageFile *f, const Tree *t, const void *key, int64_t key_size, TreeEntry *out, Err *err);
/* The same, the value as node_peek gives it; fd: the file's. */
WEFT_MUST_CHECK int tree_peek(PageFile *f, int fd, const Tree *t, const void *key, int64_t key_size, PagePeek *peek,
                              TreeEntry *out, Err *err);
/* The next entry in the order of the keys: 1, 0 at the end, negative on error (the cursor is then
 * at the end). */
WEFT_MUST_CHECK int tree_next(PageFile *f, const Tree *t, TreeCursor *c, TreeEntry *out, Err *err);
#endif
