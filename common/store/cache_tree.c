#include "common/store/cache_tree.h"
#include <string.h>

static int make_tree(const PageFile *f, const PageDb *db, Tree *out, Err *err)
{
    if (db->flags != 0)
        return page_damaged(f->what, err, "a database has flags that a cache's databases do not have");
    if (db->depth > TREE_DEPTH_MAX || (db->root == NO_PAGE) != (db->depth == 0) || db->entries > INT64_MAX)
        return page_damaged(f->what, err, "a tree has entries but no root page");
    *out = (Tree){db->root, db->depth, db->depth ? (int64_t)db->entries : 0};
    return 0;
}

int tree_of_names(const PageFile *f, const PageHead *head, Tree *out, Err *err)
{
    return make_tree(f, &head->main_db, out, err);
}

static int compare(const uint8_t *a, int64_t a_size, const void *b, int64_t b_size)
{
    int c = memcmp(a, b, (size_t)(a_size < b_size ? a_size : b_size));
    return c ? c : (a_size > b_size) - (a_size < b_size);
}

static int compare_node(const uint8_t *node, const void *key, int64_t key_size)
{
    return compare(node + NODE_HEAD, u16_at(node + 6), key, key_size);
}

/* The first node from `from` on whose key is not less than `key`. */
static int64_t first_not_less(const uint8_t *page, int64_t from, const void *key, int64_t key_size)
{
    int64_t low = from, high = page_nodes(page);
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (compare_node(page_node(page, middle), key, key_size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void tree_forget(PageFile *f)
{
    memset(f->sound, 0, sizeof f->sound);
}

static int enter(PageFile *f, uint64_t number, int leaf, Err *err)
{
    uint64_t *sound = &f->sound[number % PAGES_SOUND], mark = 2 * number + (uint64_t)leaf;
    int rc = page_check_number(f, number, err);
    if (rc < 0 || *sound == mark)
        return rc;
    if ((rc = page_check(f, number, leaf, err)) == 0)
        *sound = mark;
    return rc;
}

static int fill_key(const PageFile *f, const uint8_t *node, int flags, TreeEntry *out, Err *err)
{
    out->key = node + NODE_HEAD;
    out->key_size = u16_at(node + 6);
    if (out->key_size < 1 || out->key_size > PAGE_KEY_MAX || (u16_at(node + 4) & ~NODE_BIG) != flags)
        return page_damaged(f->what, err, "an entry is of an unknown kind");
    return 0;
}

static int fill(const PageFile *f, const uint8_t *node, int flags, TreeEntry *out, Err *err)
{
    uint64_t first;
    int64_t pages;
    int rc = fill_key(f, node, flags, out, err);
    if (rc == 0)
        rc = node_value(f, node, &out->value, &out->value_size, &first, &pages, err);
    return rc < 0 ? rc : 1;
}

/* The node of that key in a leaf; *out NULL: absent. */
static int find_node(PageFile *f, const Tree *t, const void *key, int64_t key_size, const uint8_t **out, Err *err)
{
    uint64_t number = t->root;
    *out = NULL;
    for (int level = 1; level <= t->depth; level++) {
        int rc = enter(f, number, level == t->depth, err);
        if (rc < 0)
            return rc;
        const uint8_t *p = page_at(f, number);
        int leaf = level == t->depth;
        int64_t i = first_not_less(p, leaf ? 0 : 1, key, key_size); /* a branch's first key means nothing */
        int exact = i < page_nodes(p) && compare_node(page_node(p, i), key, key_size) == 0;
        if (leaf) {
            *out = exact ? page_node(p, i) : NULL;
            return 0;
        }
        number = node_child(page_node(p, exact ? i : i - 1));
    }
    return 0;
}

int tree_get(PageFile *f, const Tree *t, const void *key, int64_t key_size, TreeEntry *out, Err *err)
{
    const uint8_t *node;
    int rc = find_node(f, t, key, key_size, &node, err);
    return rc < 0 || !node ? rc : fill(f, node, 0, out, err);
}

int tree_peek(PageFile *f, int fd, const Tree *t, const void *key, int64_t key_size, PagePeek *peek, TreeEntry *out,
              Err *err)
{
    const uint8_t *node;
    int rc = find_node(f, t, key, key_size, &node, err);
    if (rc < 0 || !node)
        return rc;
    if ((rc = fill_key(f, node, 0, out, err)) == 0)
        rc = node_peek(f, fd, node, peek, &out->value, &out->value_size, err);
    return rc < 0 ? rc : 1;
}

int tree_named(PageFile *f, const Tree *names, const char *name, Tree *out, Err *err)
{
    const uint8_t *node;
    TreeEntry e;
    int rc = find_node(f, names, name, (int64_t)strlen(name), &node, err);
    if (rc < 0 || !node)
        return rc;
    if (u16_at(node + 4) != NODE_SUBDATA)
        return page_damaged(f->what, err, "the entry '%s' is no database", name);
    if ((rc = fill(f, node, NODE_SUBDATA, &e, err)) < 0)
        return rc;
    if (e.value_size != PAGE_DB_SIZE)
        return page_damaged(f->what, err, "the database '%s' has a record of %" PRId64 " bytes", name, e.value_size);
    PageDb db = page_db_at(e.value);
    rc = make_tree(f, &db, out, err);
    return rc < 0 ? rc : 1;
}

/* From the page at level c->depth down to the first entry of the leaf below it. */
static int descend(PageFile *f, const Tree *t, TreeCursor *c, Err *err)
{
    for (;; c->depth++) {
        uint64_t number = c->at[c->depth - 1].page;
        int leaf = c->depth == t->depth, rc = enter(f, number, leaf, err);
        if (rc < 0)
            return rc;
        c->at[c->depth - 1].node = 0;
        if (leaf)
            return 1;
        c->at[c->depth].page = node_child(page_node(page_at(f, number), 0));
    }
}

/* To the next node of the leaf, or the first of the next leaf: 1, or 0 behind the last. */
static int step(PageFile *f, const Tree *t, TreeCursor *c, Err *err)
{
    if (c->depth == 0) {
        if (t->depth == 0)
            return 0;
        c->depth = 1;
        c->at[0].page = t->root;
        return descend(f, t, c, err);
    }
    for (; c->depth > 0; c->depth--) {
        const uint8_t *p = page_at(f, c->at[c->depth - 1].page);
        if (++c->at[c->depth - 1].node >= page_nodes(p))
            continue;
        if (c->depth == t->depth)
            return 1;
        c->at[c->depth].page = node_child(page_node(p, c->at[c->depth - 1].node));
        c->depth++;
        return descend(f, t, c, err);
    }
    return 0;
}

int tree_next(PageFile *f, const Tree *t, TreeCursor *c, TreeEntry *out, Err *err)
{
    if (c->depth < 0)
        return 0;
    int rc = step(f, t, c, err);
    if (rc == 1) {
        const uint8_t *p = page_at(f, c->at[c->depth - 1].page);
        rc = fill(f, page_node(p, c->at[c->depth - 1].node), 0, out, err);
    }
    if (rc == 1 && c->last && compare(c->last, c->last_size, out->key, out->key_size) >= 0)
        rc = page_damaged(f->what, err, "the keys are out of order"); /* also ends every circle of pages */
    if (rc == 1) {
        c->last = out->key;
        c->last_size = out->key_size;
    } else {
        c->depth = -1;
    }
    return rc;
}
