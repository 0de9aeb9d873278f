/* The walk over all pages: every tree of a state, each page once. */
#include "common/store/cache_pages.h"
#include <string.h>
#include "common/base/mem.h"
#include "common/store/cache_page.h"

typedef struct Key {
    const uint8_t *at;
    int64_t n;
} Key;

typedef struct Walk {
    PageFile f;
    uint64_t txnid;
    uint8_t *used; /* a bit a page */
    Err *err;
} Walk;

enum { TREE_FREE, TREE_NAMES, TREE_DATA };
typedef struct Found {
    int kind, depth;
    Key last; /* the next key is greater, or equal when it is a branch's promise */
    int last_is_promise;
    uint64_t branches, leaves, overflows, entries; /* as found */
} Found;

/* ---- pages ----------------------------------------------------------------------------------- */

/* Takes pages first .. first + n - 1 for the caller alone, which also ends every loop. */
static int take_pages(Walk *w, uint64_t first, uint64_t n)
{
    if (first < 2 || first >= (uint64_t)w->f.n_pages || n < 1 || n > (uint64_t)w->f.n_pages - first)
        return page_damaged(w->f.what, w->err, "page %llu does not exist",
                            (unsigned long long)(first < 2 ? first : first + n - 1));
    for (uint64_t p = first; p < first + n; p++) {
        if (w->used[p / 8] & (1u << p % 8))
            return page_damaged(w->f.what, w->err, "page %llu is used twice", (unsigned long long)p);
        w->used[p / 8] |= (uint8_t)(1u << p % 8);
    }
    return 0;
}

/* ---- trees ----------------------------------------------------------------------------------- */

static int compare_keys(const Found *t, Key a, Key b)
{
    if (t->kind == TREE_FREE) {
        uint64_t x = u64_at(a.at), y = u64_at(b.at);
        return x < y ? -1 : x > y;
    }
    int c = memcmp(a.at, b.at, (size_t)(a.n < b.n ? a.n : b.n));
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static int check_key(Walk *w, Found *t, const uint8_t *node, int promise, uint64_t page)
{
    Key k = {node + NODE_HEAD, u16_at(node + 6)};
    if (k.n < 1 || k.n > PAGE_KEY_MAX || (t->kind == TREE_FREE && k.n != 8))
        return page_damaged(w->f.what, w->err, "page %llu has a key of %" PRId64 " bytes", (unsigned long long)page,
                            k.n);
    int c = t->last.at ? compare_keys(t, t->last, k) : -1;
    if (c > 0 || (c == 0 && (!t->last_is_promise || promise)))
        return page_damaged(w->f.what, w->err, "page %llu: the keys are out of order", (unsigned long long)page);
    t->last = k;
    t->last_is_promise = promise;
    return 0;
}

/* Pages that an earlier state gave back: [n, n page numbers descending]. */
static int check_free_list(Walk *w, const uint8_t *node, const uint8_t *value, int64_t size)
{
    if (size < 8 || size % 8 || u64_at(value) > (uint64_t)(size / 8 - 1) || u64_at(node + NODE_HEAD) > w->txnid)
        return page_damaged(w->f.what, w->err, "a bad list of free pages");
    int64_t n = (int64_t)u64_at(value);
    for (int64_t i = 1; i <= n; i++) {
        uint64_t p = u64_at(value + 8 * i);
        if (i > 1 && p >= u64_at(value + 8 * (i - 1)))
            return page_damaged(w->f.what, w->err, "a list of free pages is out of order");
        int rc = take_pages(w, p, 1);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_tree(Walk *w, const PageDb *db, int kind);

static int check_leaf_node(Walk *w, Found *t, const uint8_t *node, uint64_t page)
{
    int flags = u16_at(node + 4);
    int64_t size, pages;
    uint64_t first;
    const uint8_t *value;
    int rc = check_key(w, t, node, 0, page);
    if (rc < 0)
        return rc;
    t->entries++;
    if (flags & ~NODE_BIG && !(t->kind == TREE_NAMES && flags == NODE_SUBDATA))
        return page_damaged(w->f.what, w->err, "page %llu has an entry of an unknown kind", (unsigned long long)page);
    if ((rc = node_value(&w->f, node, &value, &size, &first, &pages, w->err)) < 0)
        return rc;
    if (flags == NODE_SUBDATA) {
        if (size != PAGE_DB_SIZE)
            return page_damaged(w->f.what, w->err, "page %llu has a database of %" PRId64 " bytes",
                                (unsigned long long)page, size);
        PageDb sub = page_db_at(value);
        return check_tree(w, &sub, TREE_DATA);
    }
    t->overflows += (uint64_t)pages;
    if (pages && (rc = take_pages(w, first, (uint64_t)pages)) < 0)
        return rc;
    return t->kind == TREE_FREE ? check_free_list(w, node, value, size) : 0;
}

static int check_subtree(Walk *w, Found *t, uint64_t number, int level)
{
    int leaf = level == t->depth, rc = take_pages(w, number, 1);
    if (rc == 0)
        rc = page_check(&w->f, number, leaf, w->err);
    if (rc < 0)
        return rc;
    *(leaf ? &t->leaves : &t->branches) += 1;
    const uint8_t *p = page_at(&w->f, number);
    for (int64_t i = 0; rc == 0 && i < page_nodes(p); i++) {
        const uint8_t *node = page_node(p, i);
        if (leaf) {
            rc = check_leaf_node(w, t, node, number);
        } else { /* the first key means nothing */
            if (i > 0)
                rc = check_key(w, t, node, 1, number);
            if (rc == 0)
                rc = check_subtree(w, t, node_child(node), level + 1);
        }
    }
    return rc;
}

static int check_tree(Walk *w, const PageDb *db, int kind)
{
    Found t = {.kind = kind, .depth = db->depth};
    if (kind == TREE_DATA && db->flags != 0)
        return page_damaged(w->f.what, w->err, "a database has flags that a cache's databases do not have");
    if (db->depth > TREE_DEPTH_MAX || (db->root == NO_PAGE) != (db->depth == 0))
        return page_damaged(w->f.what, w->err, "a tree has entries but no root page");
    int rc = db->depth ? check_subtree(w, &t, db->root, 1) : 0;
    if (rc < 0)
        return rc;
    if (t.branches != db->branches || t.leaves != db->leaves || t.overflows != db->overflows ||
        t.entries != db->entries)
        return page_damaged(w->f.what, w->err, "a tree holds %llu entries and records %llu, or its page count is wrong",
                            (unsigned long long)t.entries, (unsigned long long)db->entries);
    return 0;
}

int cache_pages_check_trees(const PageFile *f, const PageHead *head, Err *err)
{
    Walk *w = mem_calloc(1, sizeof *w, err);
    if (!w)
        return ERR_NOMEM;
    *w = (Walk){.f = *f, .txnid = head->txnid, .err = err};
    int rc = (w->used = mem_calloc(f->n_pages / 8 + 1, 1, err)) ? 0 : ERR_NOMEM;
    if (rc == 0)
        rc = check_tree(w, &head->free_db, TREE_FREE);
    if (rc == 0)
        rc = check_tree(w, &head->main_db, TREE_NAMES);
    mem_free(w->used);
    mem_free(w);
    return rc;
}
