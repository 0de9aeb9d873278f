/* The cache's readers. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache_internal.h"

enum { ALIGN = 64 };

typedef struct Copy {
    void *bytes;
    struct Copy *next;
} Copy; /* aligned copy of a small record */

struct CacheTxn {
    Cache *cache;
    MDB_txn *txn;
    Copy *copies;
};

struct CacheCursor {
    MDB_cursor *mdb;
    void *copy;
    char id[512];
};

int cache_begin(CacheTxn **out, Cache *c, Err *err)
{
    *out = NULL;
    CacheTxn *t = mem_calloc(1, sizeof *t, err);
    if (!t)
        return ERR_NOMEM;
    t->cache = c;
    pthread_mutex_lock(&c->mutex);
    int rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &t->txn);
    if (rc == MDB_MAP_RESIZED && c->n_txn == 0) { /* another process let it grow */
        rc = mdb_env_set_mapsize(c->env, 0);
        if (rc == 0)
            rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &t->txn);
    }
    if (rc == 0)
        c->n_txn++;
    pthread_mutex_unlock(&c->mutex);
    if (rc) {
        mem_free(t);
        return err_mdb(err, rc, "reading '%s'", c->dir);
    }
    *out = t;
    return 0;
}

void cache_end(CacheTxn **p)
{
    CacheTxn *t = *p;
    if (!t)
        return;
    pthread_mutex_lock(&t->cache->mutex);
    mdb_txn_abort(t->txn);
    t->cache->n_txn--;
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

static int kind_fits(CacheDb db, RecordKind kind)
{
    switch (db) {
    case CACHE_LATENTS: return kind == RECORD_MOMENTS || kind == RECORD_SAMPLE;
    case CACHE_TEXT: return kind == RECORD_TEXT;
    case CACHE_TOKENS: return kind == RECORD_TOKENS;
    }
    return 0;
}

static int decode(RecordView *out, CacheDb db, const Digest *key, const MDB_val *v, int verify, Err *err)
{
    char what[96], hex[65];
    digest_hex(key, hex);
    snprintf(what, sizeof what, "%s %s", cache_db_name(db), hex);
    int rc = record_decode(out, v->mv_data, (int64_t)v->mv_size, verify, what, err);
    if (rc == 0 && !kind_fits(db, out->kind))
        rc = err_set(err, ERR_FORMAT, "%s: a record of kind %d, which does not belong in this database", what,
                     (int)out->kind);
    return rc;
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

int cache_get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, RecordView *out, Err *err)
{
    MDB_val k = {sizeof key->byte, (void *)key->byte}, v;
    int rc = mdb_get(t->txn, t->cache->dbi[db], &k, &v);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc)
        return err_mdb(err, rc, "reading '%s'", t->cache->dir);
    if ((rc = decode(out, db, key, &v, verify, err)) < 0)
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

static int get_json(CacheTxn *t, int db, const char *key, json_t **out, Err *err)
{
    MDB_val k = {strlen(key), (void *)key}, v;
    *out = NULL;
    int rc = cache_check_id(key, err);
    if (rc < 0)
        return rc;
    rc = mdb_get(t->txn, t->cache->dbi[db], &k, &v);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc)
        return err_mdb(err, rc, "reading '%s'", t->cache->dir);
    rc = cache_entry_parse(t->cache, db, key, &v, out, err);
    if (rc == 0)
        rc = db == DB_CLIPS ? cache_check_clip(t->cache, key, *out, err) : cache_check_meta(t->cache, key, *out, err);
    if (rc == 0)
        return 1;
    json_decref(*out);
    *out = NULL;
    return err_wrap(err, rc, "'%s'", t->cache->dir);
}

int cache_get_clip(CacheTxn *t, const char *id, json_t **out, Err *err)
{
    return get_json(t, DB_CLIPS, id, out, err);
}

int cache_get_meta(CacheTxn *t, const char *key, json_t **out, Err *err)
{
    return get_json(t, DB_META, key, out, err);
}

/* ---- iterating ------------------------------------------------------------------------------- */

void cache_cursor_free(CacheCursor **p)
{
    if (!*p)
        return;
    mdb_cursor_close((*p)->mdb);
    mem_free_aligned((*p)->copy);
    mem_free(*p);
    *p = NULL;
}

/* 1 with key and value, 0 at the end (cursor freed), negative on error. */
static int advance(CacheTxn *t, int db, CacheCursor **cursor, MDB_val *k, MDB_val *v, Err *err)
{
    int rc;
    if (!*cursor) {
        if (!(*cursor = mem_calloc(1, sizeof **cursor, err)))
            return ERR_NOMEM;
        if ((rc = mdb_cursor_open(t->txn, t->cache->dbi[db], &(*cursor)->mdb))) {
            mem_free(*cursor);
            *cursor = NULL;
            return err_mdb(err, rc, "reading '%s'", t->cache->dir);
        }
    }
    rc = mdb_cursor_get((*cursor)->mdb, k, v, MDB_NEXT);
    if (rc == 0)
        return 1;
    cache_cursor_free(cursor);
    return rc == MDB_NOTFOUND ? 0 : err_mdb(err, rc, "reading '%s'", t->cache->dir);
}

int cache_next_record(CacheTxn *t, CacheDb db, CacheCursor **cursor, Digest *key, RecordView *out, int verify, Err *err)
{
    MDB_val k, v;
    int rc = advance(t, (int)db, cursor, &k, &v, err);
    if (rc != 1)
        return rc;
    memset(key, 0, sizeof *key);
    if (k.mv_size != sizeof key->byte)
        return err_set(err, ERR_FORMAT, "%s: a key of %zu bytes", cache_db_name(db), k.mv_size);
    memcpy(key->byte, k.mv_data, sizeof key->byte);
    mem_free_aligned((*cursor)->copy);
    (*cursor)->copy = NULL;
    rc = decode(out, db, key, &v, verify, err);
    if (rc == 0 && !is_aligned(out))
        rc = align_view(out, &(*cursor)->copy, err);
    return rc < 0 ? rc : 1;
}

int cache_next_clip(CacheTxn *t, CacheCursor **cursor, const char **id, json_t **facts, Err *err)
{
    MDB_val k, v;
    *facts = NULL;
    int rc = advance(t, DB_CLIPS, cursor, &k, &v, err);
    if (rc != 1)
        return rc;
    char *name = (*cursor)->id; /* LMDB's keys are at most 511 bytes */
    memcpy(name, k.mv_data, k.mv_size);
    name[k.mv_size] = '\0';
    *id = name;
    rc = cache_entry_parse(t->cache, DB_CLIPS, name, &v, facts, err);
    if (rc == 0)
        rc = cache_check_clip(t->cache, name, *facts, err);
    if (rc == 0)
        return 1;
    json_decref(*facts);
    *facts = NULL;
    return rc;
}

int cache_stat(CacheTxn *t, CacheStat *out, Err *err)
{
    int64_t entries[N_DBS];
    for (int i = 0; i < N_DBS; i++) {
        MDB_stat s;
        int rc = mdb_stat(t->txn, t->cache->dbi[i], &s);
        if (rc)
            return err_mdb(err, rc, "reading '%s'", t->cache->dir);
        entries[i] = (int64_t)s.ms_entries;
    }
    MDB_envinfo info;
    struct stat st;
    int fd;
    if (mdb_env_info(t->cache->env, &info) || mdb_env_get_fd(t->cache->env, &fd) || fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, "'%s': cannot ask for its size", t->cache->dir);
    *out = (CacheStat){.clips = entries[DB_CLIPS],
                       .latents = entries[CACHE_LATENTS],
                       .text = entries[CACHE_TEXT],
                       .tokens = entries[CACHE_TOKENS],
                       .meta = entries[DB_META],
                       .file_bytes = (int64_t)st.st_size,
                       .map_bytes = (int64_t)info.me_mapsize};
    return 0;
}
