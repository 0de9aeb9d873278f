/* The cache's readers.  LMDB tells which state of the file is the newest and keeps its pages from being
 * reused while a transaction is open; entries are found by cache_tree.c, which trusts no page. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "common/base/mem.h"
#include "common/store/cache_internal.h"
#include "common/store/cache_pages.h"

enum { ALIGN = 64, TRIES = 1000 };

typedef struct Copy {
    void *bytes;
    struct Copy *next;
} Copy; /* aligned copy of a small record */

/* ---- transactions ---------------------------------------------------------------------------- */

void cache_drop_map(FileMap *m)
{
    if (!m || --m->users > 0)
        return;
    cache_unmap_file(m);
    mem_free(m);
}

/* *size: the file's; c->map reaches that far. */
static int renew_map(Cache *c, int64_t *size, Err *err)
{
    MDB_envinfo info;
    struct stat st;
    int fd;
    if (mdb_env_info(c->env, &info) || mdb_env_get_fd(c->env, &fd) || fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, "'%s': the size of data.mdb is not known", c->dir);
    *size = (int64_t)st.st_size;
    if (c->map && c->map->size >= *size)
        return 0;
    FileMap *m = mem_calloc(1, sizeof *m, err);
    if (!m)
        return ERR_NOMEM;
    int rc = cache_map_file(c, fd, (int64_t)info.me_mapsize, m, size, err);
    m->users = 1;
    if (rc < 0) {
        cache_drop_map(m);
        return rc;
    }
    cache_drop_map(c->map);
    c->map = m;
    return 0;
}

/* Under c->mutex.  LMDB's map may change while transactions are open here: none of them reads in it. */
static int begin_locked(CacheTxn *t, Err *err)
{
    Cache *c = t->cache;
    int rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &t->txn);
    if (rc == MDB_MAP_RESIZED) { /* another process let it grow */
        rc = mdb_env_set_mapsize(c->env, 0);
        if (rc == 0)
            rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &t->txn);
    }
    if (rc)
        return err_mdb(err, rc, "reading '%s'", c->dir);
    if ((rc = renew_map(c, &t->file_size, err)) == 0) {
        t->map = c->map;
        t->map->users++;
    }
    return rc;
}

static void end_locked(CacheTxn *t)
{
    if (t->txn)
        mdb_txn_abort(t->txn);
    cache_drop_map(t->map);
    t->txn = NULL;
    t->map = NULL;
}

static int find_databases(CacheTxn *t, Err *err)
{
    int rc = tree_of_names(&t->pages, &t->head, &t->names, err);
    for (int i = 0; rc >= 0 && i < N_DBS; i++)
        if ((rc = tree_named(&t->pages, &t->names, cache_any_db_name(i), &t->tree[i], err)) == 0)
            t->absent |= 1 << i;
    return rc < 0 ? rc : 0;
}

int cache_begin(CacheTxn **out, Cache *c, Err *err)
{
    *out = NULL;
    CacheTxn *t = mem_calloc(1, sizeof *t, err);
    if (!t)
        return ERR_NOMEM;
    t->cache = c;
    int found = 0;
    /* A busy writer can replace the state that a transaction began with before it is looked at.  When
     * the other header page is newer, this one is right if the state is still the newest that readers
     * get: only then has the writer not begun the commit that writes over it. */
    for (int tries = 0; found != 1 && found >= 0 && tries < TRIES; tries++) {
        PageHead before = t->head;
        int seen = found == 2;
        pthread_mutex_lock(&c->mutex);
        end_locked(t);
        found = begin_locked(t, err);
        pthread_mutex_unlock(&c->mutex);
        if (found == 0)
            found = page_file_open(&t->pages, &t->head, t->map->bytes, t->file_size, mdb_txn_id(t->txn), c->dir, err);
        if (found == 2 && seen && before.txnid == t->head.txnid) {
            t->head = before;
            found = 1;
        }
    }
    if (found == 0 || found == 2)
        found = err_set(err, ERR_FORMAT, "'%s': data.mdb does not hold the state that lock.mdb names: delete lock.mdb",
                        c->dir);
    if (found == 1)
        found = find_databases(t, err);
    if (found < 0)
        cache_end(&t);
    *out = t;
    return found;
}

void cache_end(CacheTxn **p)
{
    CacheTxn *t = *p;
    if (!t)
        return;
    pthread_mutex_lock(&t->cache->mutex);
    end_locked(t);
    pthread_mutex_unlock(&t->cache->mutex);
    while (t->copies) {
        Copy *next = t->copies->next;
        mem_free_aligned(t->copies->bytes);
        mem_free(t->copies);
        t->copies = next;
    }
    mem_free(t);
    *p = NULL;
}

int cache_check_names(CacheTxn *t, Err *err)
{
    if (t->absent && t->names.entries == 0)
        return err_set(err, ERR_FORMAT, STOPPED_EARLY, t->cache->dir);
    for (int i = 0; i < N_DBS; i++)
        if (t->absent & 1 << i)
            return err_set(err, ERR_FORMAT, "'%s' is not a Weft cache (no database '%s')", t->cache->dir,
                           cache_any_db_name(i));
    return 0;
}

int cache_check_pages(CacheTxn *t, Err *err)
{
    return cache_pages_check_trees(&t->pages, &t->head, err);
}

/* ---- records --------------------------------------------------------------------------------- */

static int kind_fits(CacheDb db, RecordKind kind)
{
    switch (db) {
    case CACHE_LATENTS: return kind == RECORD_MOMENTS || kind == RECORD_SAMPLE;
    case CACHE_TEXT: return kind == RECORD_TEXT;
    case CACHE_TOKENS: return kind == RECORD_TOKENS;
    }
    return 0;
}

static int decode_as(const Cache *c, RecordView *out, CacheDb db, const Digest *key, const TreeEntry *e, int verify,
                     const char *what, Err *err)
{
    int rc = record_decode(out, e->value, e->value_size, verify ? key : NULL, what, err);
    if (rc == 0 && out->version < c->oldest_record)
        rc = err_set(err, ERR_FORMAT, "%s: a record of version %d, this cache holds none before %d", what, out->version,
                     c->oldest_record);
    if (rc == 0 && !kind_fits(db, out->kind))
        rc = err_set(err, ERR_FORMAT, "%s: a record of kind %d, which does not belong in this database", what,
                     (int)out->kind);
    return rc;
}

static int decode(const Cache *c, RecordView *out, CacheDb db, const Digest *key, const TreeEntry *e, int verify,
                  Err *err)
{
    char what[96], hex[65];
    if (decode_as(c, out, db, key, e, verify, "", NULL) == 0)
        return 0;
    digest_hex(key, hex); /* only a message needs its name */
    snprintf(what, sizeof what, "%s %s", cache_db_name(db), hex);
    return decode_as(c, out, db, key, e, verify, what, err);
}

/* Pages that were looked at count as the process's memory until they are given back, which costs a look
 * into the page cache when one is needed again.  Views stay valid. */
static void count_look(CacheTxn *t)
{
    enum { LOOKS = 2048 };
    if (++t->looks % LOOKS != 0)
        return;
    madvise((void *)t->map->bytes, (size_t)t->map->size, MADV_DONTNEED);
    tree_forget(&t->pages); /* what is read again is checked again */
}

static int is_aligned(const RecordView *v)
{
    return (uintptr_t)v->tensor.data % ALIGN == 0;
}

/* A small value can lie at any address; *copy becomes an aligned copy that the view then points to. */
static int align_view(RecordView *v, void **copy, Err *err)
{
    if (!(*copy = mem_alloc_aligned(tensor_bytes(&v->tensor), err)))
        return ERR_NOMEM;
    memcpy(*copy, v->tensor.data, (size_t)tensor_bytes(&v->tensor));
    v->tensor.data = *copy;
    return 0;
}

int cache_look_record(CacheTxn *t, CacheDb db, const Digest *key, RecordView *out, Err *err)
{
    TreeEntry e;
    PagePeek peek;
    int fd;
    count_look(t);
    if (mdb_env_get_fd(t->cache->env, &fd))
        return err_set(err, ERR_IO, "'%s': data.mdb is not open", t->cache->dir);
    int rc = tree_peek(&t->pages, fd, &t->tree[db], key->byte, sizeof key->byte, &peek, &e, err);
    if (rc == 1 && (rc = decode(t->cache, out, db, key, &e, 0, err)) == 0)
        rc = 1;
    out->tensor.data = NULL;
    return rc;
}

int cache_get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, RecordView *out, Err *err)
{
    TreeEntry e;
    count_look(t);
    int rc = tree_get(&t->pages, &t->tree[db], key->byte, sizeof key->byte, &e, err);
    if (rc <= 0 || (rc = decode(t->cache, out, db, key, &e, verify, err)) < 0)
        return rc;
    if (is_aligned(out))
        return 1;
    Copy *copy = mem_calloc(1, sizeof *copy, err);
    if (!copy)
        return ERR_NOMEM;
    copy->next = t->copies;
    t->copies = copy;
    rc = align_view(out, &copy->bytes, err);
    return rc < 0 ? rc : 1;
}

/* ---- iterating ------------------------------------------------------------------------------- */

void cache_cursor_free(CacheCursor **p)
{
    if (!*p)
        return;
    mem_free_aligned((*p)->copy);
    json_decref((*p)->part);
    json_decref((*p)->facts);
    str_fini(&(*p)->words);
    mem_free(*p);
    *p = NULL;
}

int cache_advance(CacheTxn *t, int db, CacheCursor **cursor, TreeEntry *e, Err *err)
{
    if (!*cursor && !(*cursor = mem_calloc(1, sizeof **cursor, err)))
        return ERR_NOMEM;
    count_look(t);
    int rc = tree_next(&t->pages, &t->tree[db], &(*cursor)->tree, e, err);
    if (rc == 0)
        cache_cursor_free(cursor);
    return rc;
}

int cache_next_record(CacheTxn *t, CacheDb db, CacheCursor **cursor, Digest *key, RecordView *out, int verify, Err *err)
{
    TreeEntry e;
    memset(key, 0, sizeof *key);
    int rc = cache_advance(t, (int)db, cursor, &e, err);
    if (rc != 1)
        return rc;
    if (e.key_size != sizeof key->byte)
        return err_set(err, ERR_FORMAT, "%s: a key of %" PRId64 " bytes", cache_db_name(db), e.key_size);
    memcpy(key->byte, e.key, sizeof key->byte);
    mem_free_aligned((*cursor)->copy);
    (*cursor)->copy = NULL;
    rc = decode(t->cache, out, db, key, &e, verify, err);
    if (rc == 0 && !is_aligned(out))
        rc = align_view(out, &(*cursor)->copy, err);
    return rc < 0 ? rc : 1;
}

int cache_stat(CacheTxn *t, CacheStat *out, Err *err)
{
    MDB_envinfo info;
    if (mdb_env_info(t->cache->env, &info))
        return err_set(err, ERR_IO, "'%s': cannot ask for its size", t->cache->dir);
    *out = (CacheStat){.clips = t->tree[DB_CLIPS].entries,
                       .latents = t->tree[CACHE_LATENTS].entries,
                       .text = t->tree[CACHE_TEXT].entries,
                       .tokens = t->tree[CACHE_TOKENS].entries,
                       .meta = t->tree[DB_META].entries,
                       .file_bytes = t->file_size,
                       .map_bytes = (int64_t)info.me_mapsize};
    return 0;
}
