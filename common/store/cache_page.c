#include "common/store/cache_page.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/store/cache_pages.h"

enum { META_SIZE = 24 + 2 * PAGE_DB_SIZE + 16 };
enum { INTEGER_KEY = 8 }; /* a database's flag */
#define LMDB_MAGIC 0xBEEFC0DEu
#define CUT_SHORT                                                                       \
    "'%s': data.mdb is cut short: it has %" PRId64 " bytes and its pages need %" PRId64 \
    "; put a whole copy back, or move it away and build it again"
#define MAX_MAP ((uint64_t)1 << 46)

uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

PageDb page_db_at(const uint8_t *p)
{
    return (PageDb){u32_at(p),      u16_at(p + 4),  u16_at(p + 6),  u64_at(p + 8),
                    u64_at(p + 16), u64_at(p + 24), u64_at(p + 32), u64_at(p + 40)};
}

int page_damaged(const char *what, Err *err, const char *fmt, ...)
{
    char why[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    return err_set(err, ERR_FORMAT, "cache '%s': data.mdb is damaged (%s); move it away and build it again", what, why);
}

/* ---- the head -------------------------------------------------------------------------------- */

PageHead page_head_at(const uint8_t *meta_page)
{
    const uint8_t *p = meta_page + PAGE_HEAD, *tail = p + 24 + 2 * PAGE_DB_SIZE;
    PageHead h = {
        u64_at(p + 16), u64_at(tail), u64_at(tail + 8), 0, page_db_at(p + 24), page_db_at(p + 24 + PAGE_DB_SIZE)};
    h.page = h.free_db.pad;
    return h;
}

static int check_meta(const uint8_t *file, int64_t size, int i, int64_t page, const char *what, Err *err)
{
    const uint8_t *p = file + i * page;
    if ((u16_at(p + 10) & PAGE_META) == 0 || u32_at(p + PAGE_HEAD) != LMDB_MAGIC)
        return err_set(err, ERR_FORMAT, "'%s': data.mdb is not a cache this program can read (no LMDB file)", what);
    if (u32_at(p + PAGE_HEAD + 4) != 1)
        return err_set(err, ERR_FORMAT,
                       "'%s': data.mdb is not a cache this program can read (version %u of LMDB's format)", what,
                       u32_at(p + PAGE_HEAD + 4));
    PageHead h = page_head_at(p);
    if (h.page != page)
        return page_damaged(what, err, "its two header pages give page sizes of %" PRId64 " and %u bytes", page,
                            h.page);
    if (u16_at(p + 10) != PAGE_META || u64_at(p) != (uint64_t)i || h.free_db.flags != INTEGER_KEY ||
        h.main_db.flags != 0)
        return page_damaged(what, err, "header page %d has unknown flags", i);
    if (h.txnid != 0 && h.txnid % 2 != (uint64_t)i)
        return page_damaged(what, err, "header page %d has the other one's number", i);
    if (h.map_size > MAX_MAP || h.last < 1 || h.last >= MAX_MAP / (uint64_t)page)
        return page_damaged(what, err, "header page %d gives an impossible size", i);
    int64_t need = ((int64_t)h.last + 1) * page;
    if (size < need)
        return err_set(err, ERR_FORMAT, CUT_SHORT, what, size, need);
    return 0;
}

/* The size of a page: as header page 0 gives it. */
static int page_size(const uint8_t *file, int64_t size, int64_t *page, const char *what, Err *err)
{
    if (size < PAGE_HEAD + META_SIZE)
        return err_set(err, ERR_FORMAT, "'%s': data.mdb is not a cache this program can read (%" PRId64 " bytes)", what,
                       size);
    if (u32_at(file + PAGE_HEAD) != LMDB_MAGIC)
        return err_set(err, ERR_FORMAT, "'%s': data.mdb is not a cache this program can read (no LMDB file)", what);
    *page = page_head_at(file).page;
    if (*page < PAGE_LEAST || *page > PAGE_MOST || (*page & (*page - 1)))
        return page_damaged(what, err, "a page size of %" PRId64 " bytes", *page);
    if (size < 2 * *page)
        return err_set(err, ERR_FORMAT, CUT_SHORT, what, size, 2 * *page);
    return 0;
}

int cache_pages_check_head(const uint8_t *file, int64_t size, const char *what, Err *err)
{
    int64_t page;
    int rc = page_size(file, size, &page, what, err);
    for (int i = 0; rc == 0 && i < 2; i++)
        rc = check_meta(file, size, i, page, what, err);
    return rc;
}

int page_file_open(PageFile *out, PageHead *head, const uint8_t *file, int64_t size, uint64_t txnid, const char *what,
                   Err *err)
{
    int64_t page;
    int rc = page_size(file, size, &page, what, err), mine = txnid % 2;
    if (rc < 0)
        return rc;
    *head = page_head_at(file + mine * page);
    if (head->txnid != txnid)
        return 0;
    if ((rc = check_meta(file, size, mine, page, what, err)) < 0)
        return rc;
    out->file = file;
    out->page = page;
    out->n_pages = (int64_t)head->last + 1;
    out->what = what;
    memset(out->sound, 0, sizeof out->sound);
    return page_head_at(file + !mine * page).txnid > txnid ? 2 : 1;
}

/* ---- one page -------------------------------------------------------------------------------- */

int page_check_number(const PageFile *f, uint64_t number, Err *err)
{
    if (number < 2 || number >= (uint64_t)f->n_pages)
        return page_damaged(f->what, err, "page %llu does not exist", (unsigned long long)number);
    return 0;
}

const uint8_t *page_at(const PageFile *f, uint64_t number)
{
    return f->file + (int64_t)number * f->page;
}

const uint8_t *page_node(const uint8_t *page, int64_t i)
{
    return page + u16_at(page + PAGE_HEAD + 2 * i);
}

int64_t page_nodes(const uint8_t *page)
{
    return (u16_at(page + 12) - PAGE_HEAD) / 2;
}

uint64_t node_child(const uint8_t *node)
{
    return (uint64_t)u32_at(node) | (uint64_t)u16_at(node + 4) << 32; /* 48 bits of page number */
}

static int64_t node_size(const uint8_t *node, int leaf)
{
    int64_t n = NODE_HEAD + u16_at(node + 6);
    if (leaf)
        n += u16_at(node + 4) & NODE_BIG ? 8 : (int64_t)u32_at(node);
    return (n + 1) & ~(int64_t)1;
}

int page_check(PageFile *f, uint64_t number, int leaf, Err *err)
{
    const uint8_t *p = page_at(f, number);
    unsigned long long name = number;
    int64_t lower = u16_at(p + 12), upper = u16_at(p + 14), sum = 0;
    if (u64_at(p) != number)
        return page_damaged(f->what, err, "page %llu carries the number %llu", name, (unsigned long long)u64_at(p));
    if (u16_at(p + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH))
        return page_damaged(f->what, err, "page %llu should be a %s page and is not", name, leaf ? "leaf" : "branch");
    if (lower < PAGE_HEAD || lower % 2 || lower > upper || upper > f->page || upper % 2 ||
        page_nodes(p) < (leaf ? 1 : 2))
        return page_damaged(f->what, err, "page %llu: the bounds of its entries are wrong", name);
    memset(f->taken, 0, (size_t)f->page / 2);
    for (int64_t i = 0; i < page_nodes(p); i++) {
        int64_t at = u16_at(p + PAGE_HEAD + 2 * i);
        if (at < upper || at % 2 || at > f->page - NODE_HEAD)
            return page_damaged(f->what, err, "page %llu: an entry lies outside the page or overlaps another", name);
        int64_t n = node_size(p + at, leaf);
        if (n > f->page - at || memchr(f->taken + at / 2, 1, (size_t)n / 2))
            return page_damaged(f->what, err, "page %llu: an entry lies outside the page or overlaps another", name);
        memset(f->taken + at / 2, 1, (size_t)n / 2);
        sum += n;
    }
    return sum == f->page - upper ? 0 : page_damaged(f->what, err, "page %llu: some bytes belong to no entry", name);
}

/* p: the first page of a value of `size` bytes. */
static int check_overflow(const PageFile *f, uint64_t first, const uint8_t *p, int64_t size, int64_t *pages, Err *err)
{
    int64_t need = (size + PAGE_HEAD - 1) / f->page + 1;
    *pages = u32_at(p + 12);
    if (u64_at(p) != first || u16_at(p + 10) != PAGE_OVERFLOW || *pages < need || *pages > f->n_pages - (int64_t)first)
        return page_damaged(f->what, err, "page %llu: the value there is not %" PRId64 " bytes long",
                            (unsigned long long)first, size);
    return 0;
}

/* *first: the page where a value begins that takes pages of its own, 0 where it stands in the node. */
static int node_place(const PageFile *f, const uint8_t *node, const uint8_t **value, int64_t *size, uint64_t *first,
                      Err *err)
{
    *size = (int64_t)u32_at(node);
    *value = node + NODE_HEAD + u16_at(node + 6);
    *first = u16_at(node + 4) & NODE_BIG ? u64_at(*value) : 0;
    return u16_at(node + 4) & NODE_BIG ? page_check_number(f, *first, err) : 0;
}

int node_value(const PageFile *f, const uint8_t *node, const uint8_t **value, int64_t *size, uint64_t *first,
               int64_t *pages, Err *err)
{
    *pages = 0;
    int rc = node_place(f, node, value, size, first, err);
    if (rc < 0 || !*first)
        return rc;
    *value = page_at(f, *first) + PAGE_HEAD;
    return check_overflow(f, *first, page_at(f, *first), *size, pages, err);
}

int node_peek(const PageFile *f, int fd, const uint8_t *node, PagePeek *peek, const uint8_t **value, int64_t *size,
              Err *err)
{
    uint64_t first;
    int64_t pages;
    int rc = node_place(f, node, value, size, &first, err);
    if (rc < 0 || !first)
        return rc;
    ssize_t got = pread(fd, peek->byte, sizeof peek->byte, (off_t)((int64_t)first * f->page));
    if (got < 0)
        return err_errno(err, errno, "'%s': reading data.mdb", f->what);
    if (got < (ssize_t)sizeof peek->byte)
        return page_damaged(f->what, err, "page %llu does not exist", (unsigned long long)first);
    *value = peek->byte + PAGE_HEAD;
    return check_overflow(f, first, peek->byte, *size, &pages, err);
}
