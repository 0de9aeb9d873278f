/* The JSON entries of `clips` and `meta`.  A value is the entry's canonical text (one line), a
 * newline, and 16 hex digits: xxh3-64 over database name, NUL, key, NUL and text.  So a changed
 * letter is found in the key and in the text, and so is an entry that was copied to another key.
 * Caches of format 1 hold the text alone; opening one for writing adds the checksums.  Format 3 says
 * how old records may be: a cache that began with format 3 holds none of version 1, whose checksum
 * covers no more than the payload. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/cache_internal.h"

enum { SUM_BYTES = 17 /* the newline and the digits */, FORMAT_WITH_SUMS = 2, FORMAT = 3 };

/* sum[0] '\n', then the digits, then NUL. */
static int entry_sum(char sum[SUM_BYTES + 1], int db, const void *key, size_t key_size, const void *text,
                     size_t text_size, Err *err)
{
    const char *name = cache_any_db_name(db);
    size_t n = strlen(name) + 1;
    char *all = mem_calloc((int64_t)(n + key_size + 1 + text_size), 1, err);
    if (!all)
        return ERR_NOMEM;
    memcpy(all, name, n);
    memcpy(all + n, key, key_size);
    memcpy(all + n + key_size + 1, text, text_size);
    snprintf(sum, SUM_BYTES + 1, "\n%016" PRIx64, hash_xxh3(all, (int64_t)(n + key_size + 1 + text_size)));
    mem_free(all);
    return 0;
}

int cache_entry_write(char **out, int db, const char *key, const char *text, Err *err)
{
    char sum[SUM_BYTES + 1];
    int rc = entry_sum(sum, db, key, strlen(key), text, strlen(text), err);
    *out = rc == 0 ? mem_printf(err, "%s%s", text, sum) : NULL;
    return *out ? 0 : ERR_NOMEM;
}

/* Canonical JSON holds no newline, so that one in this place begins a checksum. */
static int has_sum(const void *text, size_t size)
{
    return size > SUM_BYTES && ((const char *)text)[size - SUM_BYTES] == '\n';
}

int cache_entry_check(const Cache *c, int db, const char *key, const void *text, int64_t *text_size, Err *err)
{
    size_t size = (size_t)*text_size;
    if (has_sum(text, size)) {
        char sum[SUM_BYTES + 1];
        size -= SUM_BYTES;
        int rc = entry_sum(sum, db, key, strlen(key), text, size, err);
        if (rc < 0)
            return rc;
        if (memcmp((const char *)text + size, sum, SUM_BYTES) != 0)
            return err_set(err, ERR_FORMAT, "%s '%s': its checksum is wrong", cache_any_db_name(db), key);
    } else if (c->format >= FORMAT_WITH_SUMS) {
        return err_set(err, ERR_FORMAT, "%s '%s': its checksum is missing", cache_any_db_name(db), key);
    }
    *text_size = (int64_t)size;
    return 0;
}

int cache_entry_parse(const Cache *c, int db, const char *key, const void *text, int64_t text_size, json_t **out,
                      Err *err)
{
    *out = NULL;
    int rc = cache_entry_check(c, db, key, text, &text_size, err);
    return rc < 0 ? rc : json_parse(out, text, text_size, key, err);
}

/* ---- from format 1 or 2 to 3 --------------------------------------------------------------------------- */

/* Adds the checksum to the entry under the cursor's key, unless it has one or is no JSON (which then
 * stays the damage that it is). */
static int add_sum(MDB_txn *txn, const Cache *c, int db, const MDB_val *key, const MDB_val *v, Err *err)
{
    Err damage = {0};
    json_t *json = NULL;
    if (has_sum(v->mv_data, v->mv_size) || json_parse(&json, v->mv_data, (int64_t)v->mv_size, "entry", &damage) < 0)
        return damage.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", damage.msg) : 0;
    json_decref(json);
    char *value = mem_calloc((int64_t)v->mv_size + SUM_BYTES + 1, 1, err);
    if (!value)
        return ERR_NOMEM;
    memcpy(value, v->mv_data, v->mv_size);
    int rc = entry_sum(value + v->mv_size, db, key->mv_data, key->mv_size, v->mv_data, v->mv_size, err);
    MDB_val k = *key, with = {v->mv_size + SUM_BYTES, value};
    if (rc == 0 && (rc = mdb_put(txn, c->dbi[db], &k, &with, 0)) && rc != MDB_MAP_FULL)
        rc = err_mdb(err, rc, "'%s': adding checksums", c->dir);
    mem_free(value);
    return rc;
}

/* Each entry in turn; the next one is looked up by key, since writing moves a cursor's page. */
static int add_sums(MDB_txn *txn, const Cache *c, int db, Err *err)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, v;
    char at[512];
    int rc = mdb_cursor_open(txn, c->dbi[db], &cursor);
    if (rc)
        return err_mdb(err, rc, "'%s': adding checksums", c->dir);
    rc = mdb_cursor_get(cursor, &key, &v, MDB_FIRST);
    while (rc == 0 && key.mv_size < sizeof at) {
        MDB_val kept = {key.mv_size, at};
        memcpy(at, key.mv_data, key.mv_size);
        if ((rc = add_sum(txn, c, db, &kept, &v, err)) != 0)
            break;
        rc = mdb_cursor_get(cursor, &kept, &v, MDB_SET_RANGE); /* the entry just written */
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &key, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND)
        return 0;
    return rc == 0 || rc == MDB_MAP_FULL || err->code ? rc : err_mdb(err, rc, "'%s': adding checksums", c->dir);
}

/* MDB_MAP_FULL asks for a larger map and another try. */
static int try_upgrade(Cache *c, Err *err)
{
    MDB_txn *txn;
    char *entry = NULL;
    int rc = cache_entry_write(&entry, DB_META, "format", "{\"records\":1,\"version\":3}", err);
    if (rc == 0 && (rc = mdb_txn_begin(c->env, NULL, 0, &txn))) {
        mem_free(entry);
        return err_mdb(err, rc, "'%s': adding checksums", c->dir);
    }
    if (rc < 0)
        return rc;
    MDB_val key = {strlen("format"), (void *)"format"}, v = {strlen(entry), entry};
    rc = mdb_put(txn, c->dbi[DB_META], &key, &v, 0);
    for (int db = DB_CLIPS; rc == 0 && c->format < FORMAT_WITH_SUMS && db <= DB_META; db++)
        rc = add_sums(txn, c, db, err);
    mem_free(entry);
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    return rc && rc != MDB_MAP_FULL ? err_mdb(err, rc, "'%s': adding checksums", c->dir) : rc;
}

static int upgrade(Cache *c, Err *err)
{
    Err own = {0}, *e = err ? err : &own;
    int rc;
    while ((rc = try_upgrade(c, e)) == MDB_MAP_FULL)
        if ((rc = cache_grow(c, 1 << 20, e)) < 0)
            return rc;
    if (rc == 0)
        c->format = FORMAT;
    return rc;
}

/* ---- the format, at opening ------------------------------------------------------------------- */

/* The stored format: 0 none, negative on error.  Read twice, the second time as an entry of that
 * format, which must have a checksum from format 2 on. */
static int read_format(Cache *c, Err *err)
{
    CacheTxn *t = NULL;
    json_t *format = NULL;
    int rc = cache_begin(&t, c, err);
    for (int i = 0; i < 2 && rc >= 0; i++) {
        rc = cache_get_meta(t, "format", &format, err); /* the schema refuses other versions */
        c->format = rc == 1 ? (int)json_integer_value(json_object_get(format, "version")) : 0;
        c->oldest_record = rc == 1 ? (int)json_integer_value(json_object_get(format, "records")) : 0;
        json_decref(format);
        if (rc == 0)
            break;
    }
    cache_end(&t);
    if (rc == ERR_FORMAT)
        err_wrap(err, rc,
                 "the cache's format cannot be read; put a whole copy back, or move it away and build it again");
    return rc < 0 ? rc : c->format;
}

int cache_check_format(Cache *c, Err *err)
{
    int rc = read_format(c, err);
    if (rc == 0 && c->mode == CACHE_READ)
        return err_set(err, ERR_FORMAT, STOPPED_EARLY, c->dir);
    if (rc > 0 && rc < FORMAT && c->mode == CACHE_WRITE)
        return upgrade(c, err);
    if (rc == 0) {
        json_t *format = json_pack("{s:i, s:i}", "version", FORMAT, "records", RECORD_VERSION);
        c->format = FORMAT;
        c->oldest_record = RECORD_VERSION;
        rc = format ? cache_put_meta(c, "format", format, err) : err_set(err, ERR_NOMEM, "'%s'", c->dir);
        json_decref(format);
    }
    return rc < 0 ? rc : 0;
}
