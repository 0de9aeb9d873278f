/* The cache's writer.  A commit is synced and all or nothing: a killed writer loses at most the batch
 * that it was in. */
#include <stdio.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/store/cache_internal.h"

enum { MAX_KEY = 511, LEAF = 4096, NODE = 64 /* key and header of a node */ };
#define MAX_VALUE 0xffffffffll /* LMDB's */

/* ---- commits --------------------------------------------------------------------------------- */

/* One change: a value given in up to two parts (header, payload), or a deletion. */
struct Change {
    int db;
    char what[96]; /* names it in messages */
    MDB_val key;
    const void *part[2];
    size_t size[2];
    int remove;
    void *owned; /* of a batch: key and parts */
};

static int make_change(Cache *c, MDB_txn *txn, const Change *ch)
{
    MDB_val value = {ch->size[0] + ch->size[1], NULL}, key = ch->key;
    if (ch->remove)
        return mdb_del(txn, c->dbi[ch->db], &key, NULL);
    int rc = mdb_put(txn, c->dbi[ch->db], &key, &value, MDB_RESERVE);
    for (size_t i = 0, at = 0; rc == 0 && i < 2; at += ch->size[i++])
        if (ch->size[i])
            memcpy((char *)value.mv_data + at, ch->part[i], ch->size[i]);
    return rc;
}

/* *at: the change that LMDB refused, or the last. */
static int try_changes(Cache *c, const Change *ch, int64_t n, int64_t *at)
{
    MDB_txn *txn;
    *at = 0;
    int rc = mdb_txn_begin(c->env, NULL, 0, &txn);
    if (rc)
        return rc;
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        *at = i;
        rc = make_change(c, txn, &ch[i]);
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    int64_t used = machine_memory_used();
    c->most_memory = used > c->most_memory ? used : c->most_memory;
    return mdb_txn_commit(txn);
}

int64_t cache_most_memory(const Cache *c)
{
    return c->most_memory;
}

/* Doubles the map until `more` bytes fit twice over. */
int cache_grow(Cache *c, int64_t more, Err *err)
{
    MDB_envinfo info;
    int rc = mdb_env_info(c->env, &info);
    if (rc)
        return err_mdb(err, rc, "'%s'", c->dir);
    int64_t size = (int64_t)info.me_mapsize, add = size > 2 * more ? size : 2 * more, total;
    if (mem_add(size, add, &total) < 0)
        return err_set(err, ERR_LIMIT, "'%s': its map cannot grow any more", c->dir);
    /* readers here have maps of their own, and LMDB's map is not looked at while this is held */
    pthread_mutex_lock(&c->mutex);
    if ((rc = mdb_env_set_mapsize(c->env, (size_t)total)))
        rc = err_mdb(err, rc, "'%s': growing to %" PRId64 " bytes", c->dir, total);
    pthread_mutex_unlock(&c->mutex);
    return rc;
}

static int commit(Cache *c, const Change *ch, int64_t n, int64_t bytes, Err *err)
{
    int64_t at;
    int rc;
    while ((rc = try_changes(c, ch, n, &at)) == MDB_MAP_FULL)
        if ((rc = cache_grow(c, bytes + (1 << 20), err)) < 0)
            return err_wrap(err, rc, "storing %s", ch[at].what);
    if (rc == MDB_NOTFOUND && ch[at].remove)
        return err_set(err, ERR_NOTFOUND, "%s is not in '%s'", ch[at].what, c->dir);
    return rc ? err_mdb(err, rc, "storing %s in '%s'", ch[at].what, c->dir) : 0;
}

/* ---- batches --------------------------------------------------------------------------------- */

void cache_batch(Cache *c, int64_t bytes)
{
    c->batch_bytes = bytes;
}

void cache_drop_batch(Cache *c)
{
    for (int64_t i = 0; i < c->n_pending; i++)
        mem_free_aligned(c->pending[i].owned);
    mem_free(c->pending);
    c->pending = NULL;
    c->n_pending = c->room_pending = c->pending_bytes = 0;
}

int cache_commit(Cache *c, Err *err)
{
    if (c->n_pending == 0)
        return 0;
    int rc = commit(c, c->pending, c->n_pending, c->pending_bytes, err);
    cache_drop_batch(c);
    return rc;
}

/* A small one counts as the page that LMDB copies for it. */
static int64_t counted(int64_t bytes)
{
    return bytes < LEAF ? LEAF : bytes;
}

/* LMDB keeps values of more than half a page in pages of their own, and its other pages two thirds full. */
static int64_t pages_of(const CacheLoad *l, int64_t n)
{
    int own = l->bytes > LEAF / 2;
    int64_t leaves = l->all * ((own ? 0 : l->bytes) + NODE) * 3 / (2 * LEAF) + 1;
    return (leaves < n ? leaves : n) + (own ? n * ((l->bytes + LEAF - 1) / LEAF) : 0);
}

int64_t cache_batch_memory(const CacheLoad *load, int loads, int64_t limit)
{
    int64_t sum = 0;
    for (int i = 0; i < loads && limit > 0; i++) {
        int64_t each = counted(load[i].bytes), most = (limit + each - 1) / each;
        int64_t n = load[i].n < most ? load[i].n : most;
        sum += n * (load[i].bytes + (int64_t)sizeof(Change)) + pages_of(&load[i], n) * LEAF;
        limit -= n * each;
    }
    return sum;
}

/* A copy of the change joins the batch. */
static int queue(Cache *c, const Change *ch, int64_t bytes, Err *err)
{
    if (c->n_pending == c->room_pending) {
        int64_t room = c->room_pending ? 2 * c->room_pending : 64;
        Change *grown = mem_realloc(c->pending, room, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        c->pending = grown;
        c->room_pending = room;
    }
    Change kept = *ch;
    char *p = kept.owned = mem_alloc_aligned(bytes, err);
    if (!p)
        return ERR_NOMEM;
    memcpy(p, ch->key.mv_data, ch->key.mv_size);
    kept.key.mv_data = p;
    p += ch->key.mv_size;
    for (int i = 0; i < 2; i++) {
        if (ch->size[i])
            memcpy(p, ch->part[i], ch->size[i]);
        kept.part[i] = p;
        p += ch->size[i];
    }
    if (c->n_pending == 0)
        c->pending_since = time_now_s();
    c->pending[c->n_pending++] = kept;
    c->pending_bytes += counted(bytes);
    return 0;
}

static int apply(Cache *c, const Change *ch, Err *err)
{
    int64_t bytes = (int64_t)(ch->key.mv_size + ch->size[0] + ch->size[1]);
    if (c->batch_bytes <= 0)
        return commit(c, ch, 1, bytes, err);
    int rc = queue(c, ch, bytes, err);
    if (rc == 0 && c->batch_bytes < INT64_MAX &&
        (c->pending_bytes >= c->batch_bytes || time_now_s() - c->pending_since >= CACHE_BATCH_SECONDS))
        rc = cache_commit(c, err);
    return rc;
}

static void name_record(char out[96], CacheDb db, const Digest *key)
{
    char hex[65];
    digest_hex(key, hex);
    snprintf(out, 96, "%s %.16s...", cache_db_name(db), hex);
}

static MDB_val digest_val(const Digest *key)
{
    return (MDB_val){sizeof key->byte, (void *)key->byte};
}

static MDB_val text_val(const char *s)
{
    return (MDB_val){strlen(s), (void *)s};
}

int cache_put_record(Cache *c, CacheDb db, const Digest *key, RecordKind kind, const Tensor *t, Err *err)
{
    uint8_t header[RECORD_HEADER_SIZE];
    char what[96];
    name_record(what, db, key);
    int rc = record_check_tensor(kind, t, err);
    if (rc < 0)
        return err_wrap(err, rc, "%s", what);
    if (tensor_bytes(t) > MAX_VALUE - RECORD_HEADER_SIZE)
        return err_set(err, ERR_LIMIT, "%s: %" PRId64 " bytes, a record holds at most 4 GiB", what, tensor_bytes(t));
    record_header_encode(header, kind, t, key);
    Change ch = {.db = (int)db,
                 .key = digest_val(key),
                 .part = {header, t->data},
                 .size = {sizeof header, (size_t)tensor_bytes(t)}};
    name_record(ch.what, db, key);
    return apply(c, &ch, err);
}

int cache_check_id(const char *id, Err *err)
{
    size_t n = strlen(id);
    if (n >= 1 && n <= MAX_KEY)
        return 0;
    return err_set(err, ERR_USAGE, "a key of %zu bytes, 1 to %d allowed", n, MAX_KEY);
}

int cache_check_clip(const Cache *c, const char *id, const json_t *facts, Err *err)
{
    char what[600];
    snprintf(what, sizeof what, "cache clip '%s'", id);
    return schema_validate(c->clip_schema, facts, what, err);
}

int cache_check_meta(const Cache *c, const char *key, const json_t *value, Err *err)
{
    json_t *o = json_object();
    int rc;
    if (!o || json_object_set(o, key, (json_t *)value) < 0)
        rc = err_set(err, ERR_NOMEM, "cache meta '%s'", key);
    else
        rc = schema_validate(c->meta_schema, o, "cache meta", err);
    json_decref(o);
    return rc;
}

static int put_json(Cache *c, int db, const char *key, const json_t *value, Err *err)
{
    char *text = json_canonical(value, err), *entry = NULL;
    int rc = text ? cache_entry_write(&entry, db, key, text, err) : ERR_NOMEM;
    if (rc == 0) {
        Change ch = {.db = db, .key = text_val(key), .part = {entry, NULL}, .size = {strlen(entry), 0}};
        snprintf(ch.what, sizeof ch.what, "%s '%.80s'", cache_any_db_name(db), key);
        rc = apply(c, &ch, err);
    }
    mem_free(entry);
    mem_free(text);
    return rc;
}

int cache_put_clip(Cache *c, const char *id, const json_t *facts, Err *err)
{
    int rc = cache_check_id(id, err);
    if (rc == 0)
        rc = cache_check_clip(c, id, facts, err);
    return rc < 0 ? rc : put_json(c, DB_CLIPS, id, facts, err);
}

int cache_put_meta(Cache *c, const char *key, const json_t *value, Err *err)
{
    int rc = cache_check_id(key, err);
    if (rc == 0)
        rc = cache_check_meta(c, key, value, err);
    return rc < 0 ? rc : put_json(c, DB_META, key, value, err);
}

int cache_delete_record(Cache *c, CacheDb db, const Digest *key, Err *err)
{
    Change ch = {.db = (int)db, .key = digest_val(key), .remove = 1};
    name_record(ch.what, db, key);
    return apply(c, &ch, err);
}

static int delete_json(Cache *c, int db, const char *key, const char *what, Err *err)
{
    int rc = cache_check_id(key, err);
    Change ch = {.db = db, .key = text_val(key), .remove = 1};
    snprintf(ch.what, sizeof ch.what, "%s '%.80s'", what, key);
    return rc < 0 ? rc : apply(c, &ch, err);
}

int cache_delete_clip(Cache *c, const char *id, Err *err)
{
    return delete_json(c, DB_CLIPS, id, "clip", err);
}

int cache_delete_meta(Cache *c, const char *key, Err *err)
{
    return delete_json(c, DB_META, key, "meta", err);
}

int cache_delete_found(Cache *c, const CacheCursor *cursor, Err *err)
{
    if (cursor->id_size == 0)
        return err_set(err, ERR_FORMAT, "'%s': an entry in a damaged page cannot be deleted", c->dir);
    Change ch = {.db = cursor->db, .key = {(size_t)cursor->id_size, (void *)cursor->id}, .remove = 1};
    snprintf(ch.what, sizeof ch.what, "%s '%.80s'", cache_any_db_name(cursor->db), cursor->id);
    return apply(c, &ch, err);
}
