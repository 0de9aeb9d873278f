/* Integers are read by memcpy: the bytes are hostile, and nothing in them is aligned until it has
 * been checked. */
#include "common/store/cache_pages.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "common/base/mem.h"

enum { PAGE_HEAD = 16, NODE_HEAD = 8, DB_SIZE = 48, META_SIZE = 24 + 2 * DB_SIZE + 16 };
enum { BRANCH = 1, LEAF = 2, OVERFLOW = 4, META = 8 }; /* a page's flags */
enum { BIG = 1, SUBDATA = 2 };                         /* a node's */
enum { INTEGER_KEY = 8 };                              /* a database's */
enum { MIN_PAGE = 512, MAX_PAGE = 32768, MAX_DEPTH = 32, MAX_KEY_SIZE = 511 };
#define LMDB_MAGIC 0xBEEFC0DEu
#define MAX_MAP ((uint64_t)1 << 46)
#define NO_PAGE UINT64_MAX

typedef struct Db {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
} Db;
typedef struct Head {
    uint64_t map_size, last, txnid;
    uint32_t page;
    Db free_db, main_db;
} Head;

typedef struct Key {
    const uint8_t *at;
    int64_t n;
} Key;

typedef struct Walk {
    const uint8_t *file;
    int64_t page, n_pages; /* bytes of one; how many the state may use */
    uint64_t txnid;
    const char *what;
    uint8_t *used;               /* a bit a page */
    uint8_t taken[MAX_PAGE / 2]; /* of the leaf or branch at hand, a byte for two */
    Err *err;
} Walk;

enum { TREE_FREE, TREE_NAMES, TREE_DATA };
typedef struct Tree {
    int kind, depth;
    Key last; /* the next key is greater, or equal when it is a branch's promise */
    int last_is_promise;
    uint64_t branches, leaves, overflows, entries; /* as found */
} Tree;

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static Db db_at(const uint8_t *p)
{
    return (Db){u32_at(p),      u16_at(p + 4),  u16_at(p + 6),  u64_at(p + 8),
                u64_at(p + 16), u64_at(p + 24), u64_at(p + 32), u64_at(p + 40)};
}

static int damaged(const char *what, Err *err, const char *fmt, ...) WEFT_PRINTF(3, 4);
static int damaged(const char *what, Err *err, const char *fmt, ...)
{
    char why[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    return err_set(err, ERR_FORMAT, "cache '%s': data.mdb is damaged (%s); move it away and build it again", what, why);
}

/* ---- the head -------------------------------------------------------------------------------- */

static Head head_at(const uint8_t *meta_page)
{
    const uint8_t *p = meta_page + PAGE_HEAD, *tail = p + 24 + 2 * DB_SIZE;
    Head h = {u64_at(p + 16), u64_at(tail), u64_at(tail + 8), 0, db_at(p + 24), db_at(p + 24 + DB_SIZE)};
    h.page = h.free_db.pad;
    return h;
}

static int check_meta(const uint8_t *file, int64_t size, int i, int64_t page, const char *what, Err *err)
{
    const uint8_t *p = file + i * page;
    if ((u16_at(p + 10) & META) == 0 || u32_at(p + PAGE_HEAD) != LMDB_MAGIC)
        return err_set(err, ERR_FORMAT, "'%s': data.mdb is not a cache this program can read (no LMDB file)", what);
    if (u32_at(p + PAGE_HEAD + 4) != 1)
        return err_set(err, ERR_FORMAT,
                       "'%s': data.mdb is not a cache this program can read (version %u of LMDB's format)", what,
                       u32_at(p + PAGE_HEAD + 4));
    Head h = head_at(p);
    if (h.page != page)
        return damaged(what, err, "its two header pages give page sizes of %lld and %u bytes", (long long)page, h.page);
    if (u16_at(p + 10) != META || u64_at(p) != (uint64_t)i || h.free_db.flags != INTEGER_KEY || h.main_db.flags != 0)
        return damaged(what, err, "header page %d has unknown flags", i);
    if (h.txnid != 0 && h.txnid % 2 != (uint64_t)i)
        return damaged(what, err, "header page %d has the other one's number", i);
    if (h.map_size > MAX_MAP || h.last < 1 || h.last >= MAX_MAP / (uint64_t)page)
        return damaged(what, err, "header page %d gives an impossible size", i);
    int64_t need = ((int64_t)h.last + 1) * page;
    if (size < need)
        return err_set(err, ERR_FORMAT, "'%s' is torn: its file has %lld bytes, its pages need %lld", what,
                       (long long)size, (long long)need);
    return 0;
}

int cache_pages_check_head(const uint8_t *file, int64_t size, const char *what, Err *err)
{
    if (size < PAGE_HEAD + META_SIZE)
        return err_set(err, ERR_FORMAT, "'%s': data.mdb is not a cache this program can read (%lld bytes)", what,
                       (long long)size);
    if (u32_at(file + PAGE_HEAD) != LMDB_MAGIC)
        return err_set(err, ERR_FORMAT, "'%s': data.mdb is not a cache this program can read (no LMDB file)", what);
    int64_t page = head_at(file).page;
    if (page < MIN_PAGE || page > MAX_PAGE || (page & (page - 1)))
        return damaged(what, err, "a page size of %lld bytes", (long long)page);
    if (size < 2 * page)
        return err_set(err, ERR_FORMAT, "'%s' is torn: its file has %lld bytes, its pages need %lld", what,
                       (long long)size, (long long)(2 * page));
    int rc = check_meta(file, size, 0, page, what, err);
    return rc < 0 ? rc : check_meta(file, size, 1, page, what, err);
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* Takes pages first .. first + n - 1 for the caller alone, which also ends every loop. */
static int take_pages(Walk *w, uint64_t first, uint64_t n)
{
    if (first < 2 || first >= (uint64_t)w->n_pages || n < 1 || n > (uint64_t)w->n_pages - first)
        return damaged(w->what, w->err, "page %llu does not exist",
                       (unsigned long long)(first < 2 ? first : first + n - 1));
    for (uint64_t p = first; p < first + n; p++) {
        if (w->used[p / 8] & (1u << p % 8))
            return damaged(w->what, w->err, "page %llu is used twice", (unsigned long long)p);
        w->used[p / 8] |= (uint8_t)(1u << p % 8);
    }
    return 0;
}

static const uint8_t *page_at(const Walk *w, uint64_t number)
{
    return w->file + (int64_t)number * w->page;
}

/* Node i of a page that check_page has accepted. */
static const uint8_t *node_at(const uint8_t *page, int64_t i)
{
    return page + u16_at(page + PAGE_HEAD + 2 * i);
}

static int64_t n_nodes(const uint8_t *page)
{
    return (u16_at(page + 12) - PAGE_HEAD) / 2;
}

static int64_t node_size(const uint8_t *node, int leaf)
{
    int64_t n = NODE_HEAD + u16_at(node + 6);
    if (leaf)
        n += u16_at(node + 4) & BIG ? 8 : (int64_t)u32_at(node);
    return (n + 1) & ~(int64_t)1;
}

/* The page's own order: its number, the node table, and nodes that fill the upper part without
 * touching each other. */
static int check_page(Walk *w, uint64_t number, int leaf)
{
    const uint8_t *p = page_at(w, number);
    unsigned long long name = number;
    int64_t lower = u16_at(p + 12), upper = u16_at(p + 14), sum = 0;
    if (u64_at(p) != number)
        return damaged(w->what, w->err, "page %llu carries the number %llu", name, (unsigned long long)u64_at(p));
    if (u16_at(p + 10) != (leaf ? LEAF : BRANCH))
        return damaged(w->what, w->err, "page %llu should be a %s page and is not", name, leaf ? "leaf" : "branch");
    if (lower < PAGE_HEAD || lower % 2 || lower > upper || upper > w->page || upper % 2 || n_nodes(p) < (leaf ? 1 : 2))
        return damaged(w->what, w->err, "page %llu: the bounds of its entries are wrong", name);
    memset(w->taken, 0, (size_t)w->page / 2);
    for (int64_t i = 0; i < n_nodes(p); i++) {
        int64_t at = u16_at(p + PAGE_HEAD + 2 * i);
        if (at < upper || at % 2 || at > w->page - NODE_HEAD)
            return damaged(w->what, w->err, "page %llu: an entry lies outside the page or overlaps another", name);
        int64_t n = node_size(p + at, leaf);
        if (n > w->page - at || memchr(w->taken + at / 2, 1, (size_t)n / 2))
            return damaged(w->what, w->err, "page %llu: an entry lies outside the page or overlaps another", name);
        memset(w->taken + at / 2, 1, (size_t)n / 2);
        sum += n;
    }
    return sum == w->page - upper ? 0 : damaged(w->what, w->err, "page %llu: some bytes belong to no entry", name);
}

/* ---- trees ----------------------------------------------------------------------------------- */

static int compare_keys(const Tree *t, Key a, Key b)
{
    if (t->kind == TREE_FREE) {
        uint64_t x = u64_at(a.at), y = u64_at(b.at);
        return x < y ? -1 : x > y;
    }
    int c = memcmp(a.at, b.at, (size_t)(a.n < b.n ? a.n : b.n));
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static int check_key(Walk *w, Tree *t, const uint8_t *node, int promise, uint64_t page)
{
    Key k = {node + NODE_HEAD, u16_at(node + 6)};
    if (k.n < 1 || k.n > MAX_KEY_SIZE || (t->kind == TREE_FREE && k.n != 8))
        return damaged(w->what, w->err, "page %llu has a key of %lld bytes", (unsigned long long)page, (long long)k.n);
    int c = t->last.at ? compare_keys(t, t->last, k) : -1;
    if (c > 0 || (c == 0 && (!t->last_is_promise || promise)))
        return damaged(w->what, w->err, "page %llu: the keys are out of order", (unsigned long long)page);
    t->last = k;
    t->last_is_promise = promise;
    return 0;
}

/* Pages that an earlier state gave back: [n, n page numbers descending]. */
static int check_free_list(Walk *w, const uint8_t *node, const uint8_t *value, int64_t size)
{
    if (size < 8 || size % 8 || u64_at(value) > (uint64_t)(size / 8 - 1) || u64_at(node + NODE_HEAD) > w->txnid)
        return damaged(w->what, w->err, "a bad list of free pages");
    int64_t n = (int64_t)u64_at(value);
    for (int64_t i = 1; i <= n; i++) {
        uint64_t p = u64_at(value + 8 * i);
        if (i > 1 && p >= u64_at(value + 8 * (i - 1)))
            return damaged(w->what, w->err, "a list of free pages is out of order");
        int rc = take_pages(w, p, 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_tree(Walk *w, const Db *db, int kind);

static int check_leaf_node(Walk *w, Tree *t, const uint8_t *node, uint64_t page)
{
    int flags = u16_at(node + 4);
    int64_t size = (int64_t)u32_at(node);
    const uint8_t *value = node + NODE_HEAD + u16_at(node + 6);
    int rc = check_key(w, t, node, 0, page);
    if (rc < 0)
        return rc;
    t->entries++;
    if (flags & ~BIG && !(t->kind == TREE_NAMES && flags == SUBDATA))
        return damaged(w->what, w->err, "page %llu has an entry of an unknown kind", (unsigned long long)page);
    if (flags == SUBDATA) {
        if (size != DB_SIZE)
            return damaged(w->what, w->err, "page %llu has a database of %lld bytes", (unsigned long long)page,
                           (long long)size);
        Db sub = db_at(value);
        return check_tree(w, &sub, TREE_DATA);
    }
    if (flags == BIG) {
        uint64_t first = u64_at(value), need = (uint64_t)((size + PAGE_HEAD - 1) / w->page + 1);
        if (first < 2 || first >= (uint64_t)w->n_pages)
            return take_pages(w, first, 1);
        const uint8_t *p = page_at(w, first);
        if (u64_at(p) != first || u16_at(p + 10) != OVERFLOW || u32_at(p + 12) < need)
            return damaged(w->what, w->err, "page %llu: the value there is not %lld bytes long",
                           (unsigned long long)first, (long long)size);
        t->overflows += u32_at(p + 12);
        if ((rc = take_pages(w, first, u32_at(p + 12))) < 0)
            return rc;
        value = p + PAGE_HEAD;
    }
    return t->kind == TREE_FREE ? check_free_list(w, node, value, size) : 0;
}

static int check_subtree(Walk *w, Tree *t, uint64_t number, int level)
{
    int leaf = level == t->depth, rc = take_pages(w, number, 1);
    if (rc == 0)
        rc = check_page(w, number, leaf);
    if (rc < 0)
        return rc;
    *(leaf ? &t->leaves : &t->branches) += 1;
    const uint8_t *p = page_at(w, number);
    for (int64_t i = 0; rc == 0 && i < n_nodes(p); i++) {
        const uint8_t *node = node_at(p, i);
        if (leaf) {
            rc = check_leaf_node(w, t, node, number);
        } else { /* 48 bits of page number; the first key means nothing */
            if (i > 0)
                rc = check_key(w, t, node, 1, number);
            if (rc == 0)
                rc = check_subtree(w, t, (uint64_t)u32_at(node) | (uint64_t)u16_at(node + 4) << 32, level + 1);
        }
    }
    return rc;
}

static int check_tree(Walk *w, const Db *db, int kind)
{
    Tree t = {.kind = kind, .depth = db->depth};
    if (kind == TREE_DATA && db->flags != 0)
        return damaged(w->what, w->err, "a database has flags that a cache's databases do not have");
    if (db->depth > MAX_DEPTH || (db->root == NO_PAGE) != (db->depth == 0))
        return damaged(w->what, w->err, "a tree has entries but no root page");
    int rc = db->depth ? check_subtree(w, &t, db->root, 1) : 0;
    if (rc < 0)
        return rc;
    if (t.branches != db->branches || t.leaves != db->leaves || t.overflows != db->overflows ||
        t.entries != db->entries)
        return damaged(w->what, w->err, "a tree holds %llu entries and records %llu, or its page count is wrong",
                       (unsigned long long)t.entries, (unsigned long long)db->entries);
    return 0;
}

int cache_pages_check(const uint8_t *file, int64_t size, uint64_t txnid, const char *what, Err *err)
{
    int64_t page = head_at(file).page;
    Head h = head_at(file + (txnid % 2 ? page : 0));
    if (h.txnid != txnid)
        return 0;
    int rc = cache_pages_check_head(file, size, what, err); /* again: a writer may have been at it since */
    if (rc < 0)
        return rc;
    Walk *w = mem_calloc(1, sizeof *w, err);
    if (!w)
        return ERR_NOMEM;
    w->file = file;
    w->page = page;
    w->n_pages = (int64_t)h.last + 1;
    w->txnid = txnid;
    w->what = what;
    w->err = err;
    rc = (w->used = mem_calloc(w->n_pages / 8 + 1, 1, err)) ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = check_tree(w, &h.free_db, TREE_FREE);
    if (rc == 0)
        rc = check_tree(w, &h.main_db, TREE_NAMES);
    mem_free(w->used);
    mem_free(w);
    return rc < 0 ? rc : 1;
}
