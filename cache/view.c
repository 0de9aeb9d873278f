#include "cache/view.h"
#include <stdio.h>

int view_open(View *v, const char *dir, Err *err)
{
    *v = (View){0};
    int rc = cache_open(&v->cache, dir, CACHE_READ, err);
    if (rc == 0 && cache_unlocked(v->cache))
        fprintf(stderr, "weft-cache: '%s' is read without a lock (%s): do not write to it meanwhile\n", dir,
                cache_unlocked(v->cache));
    if (rc == 0)
        rc = cache_begin(&v->txn, v->cache, err);
    return rc;
}

void view_close(View *v)
{
    cache_end(&v->txn);
    cache_close(&v->cache);
}

int view_record(View *v, CacheDb db, const json_t *hex, int verify, RecordView *out, Err *err)
{
    Digest key;
    int rc = digest_parse(json_string_value(hex), &key, err);
    if (rc < 0)
        return rc;
    return verify ? cache_get_record(v->txn, db, &key, 1, out, err) : cache_look_record(v->txn, db, &key, out, err);
}

int view_need_record(View *v, CacheDb db, const json_t *hex, const char *what, RecordView *out, Err *err)
{
    int rc = view_record(v, db, hex, 1, out, err);
    if (rc == 0)
        return err_set(err, ERR_FORMAT, "%s: its %s record %.16s... is missing: run weft-cache verify", what,
                       cache_db_name(db), json_string_value(hex));
    return rc < 0 ? rc : 0;
}

int view_each_clip(View *v, ClipFn *f, void *user, Err *err)
{
    CacheCursor *cursor = NULL;
    const char *id;
    json_t *facts;
    int rc = 0;
    while (rc >= 0 && (rc = cache_next_clip(v->txn, &cursor, &id, &facts, err)) == 1) {
        rc = f(user, id, facts, err);
        json_decref(facts);
    }
    cache_cursor_free(&cursor);
    return rc < 0 ? rc : 0;
}

int view_meta(View *v, const char *key, json_t **out, Err *err)
{
    int rc = cache_get_meta(v->txn, key, out, err);
    if (rc == 0)
        return err_set(err, ERR_FORMAT, "the cache has no meta entry '%s': its build was stopped; finish it first",
                       key);
    return rc < 0 ? rc : 0;
}
