/* Reading the entries of `clips` and `meta`. */
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema_lines.h"
#include "common/store/cache_internal.h"

/* 1, 0 absent, negative. */
static int find_entry(CacheTxn *t, int db, const char *key, TreeEntry *e, Err *err)
{
    int rc = cache_check_id(key, err);
    return rc < 0 ? rc : tree_get(&t->pages, &t->tree[db], key, (int64_t)strlen(key), e, err);
}

/* The same; judge: by the schema. */
static int get_json(CacheTxn *t, int db, const char *key, int judge, json_t **out, Err *err)
{
    TreeEntry e;
    *out = NULL;
    int rc = find_entry(t, db, key, &e, err);
    if (rc <= 0)
        return rc;
    rc = cache_entry_parse(t->cache, db, key, e.value, e.value_size, out, err);
    if (rc == 0 && judge)
        rc = db == DB_CLIPS ? cache_check_clip(t->cache, key, *out, err) : cache_check_meta(t->cache, key, *out, err);
    if (rc == 0)
        return 1;
    json_decref(*out);
    *out = NULL;
    return err_wrap(err, rc, "'%s'", t->cache->dir);
}

int cache_get_clip(CacheTxn *t, const char *id, json_t **out, Err *err)
{
    return get_json(t, DB_CLIPS, id, 1, out, err);
}

int cache_get_clip_unjudged(CacheTxn *t, const char *id, json_t **out, Err *err)
{
    return get_json(t, DB_CLIPS, id, 0, out, err);
}

int cache_get_clip_text(CacheTxn *t, const char *id, JsonSpan *out, Err *err)
{
    TreeEntry e;
    *out = (JsonSpan){0};
    int rc = find_entry(t, DB_CLIPS, id, &e, err);
    if (rc <= 0)
        return rc;
    int64_t size = e.value_size;
    rc = cache_entry_check(t->cache, DB_CLIPS, id, e.value, &size, err);
    if (rc < 0)
        return err_wrap(err, rc, "'%s'", t->cache->dir);
    *out = (JsonSpan){(const char *)e.value, size};
    return 1;
}

int cache_get_meta(CacheTxn *t, const char *key, json_t **out, Err *err)
{
    return get_json(t, DB_META, key, 1, out, err);
}

/* ---- in the order of the keys -------------------------------------------------------------- */

/* 1 with the members, valid; 0: the entry must be looked at as a whole; negative: no memory. */
static int read_members(const Cache *c, CacheCursor *cursor, const char *const *members, const TreeEntry *e,
                        json_t **value, Err *err)
{
    Err damage = {0};
    int64_t size = e->value_size;
    int rc = cursor->part ? 0 : schema_part(c->clip_schema, members, &cursor->part, &damage);
    if (rc == 0)
        rc = cache_entry_check(c, DB_CLIPS, cursor->id, e->value, &size, &damage);
    if (rc == 0)
        rc = schema_read_part(c->clip_schema, cursor->part, members, (const char *)e->value, size, cursor->id, value,
                              &damage);
    return rc == ERR_NOMEM ? err_set(err, rc, "%s", damage.msg) : rc == 0;
}

/* As advance, with the key as text in the cursor. */
static int next_entry(CacheTxn *t, int db, CacheCursor **cursor, const char **name, TreeEntry *e, Err *err)
{
    *name = "(in a damaged page)";
    if (*cursor)
        (*cursor)->id_size = 0;
    int rc = cache_advance(t, db, cursor, e, err);
    if (rc != 1)
        return rc;
    char *key = (*cursor)->id; /* keys are at most 511 bytes */
    (*cursor)->db = db;
    (*cursor)->id_size = e->key_size;
    memcpy(key, e->key, (size_t)e->key_size);
    key[e->key_size] = '\0';
    *name = key;
    return 1;
}

/* members: of clips, or NULL: all. */
static int entry_json(CacheTxn *t, int db, CacheCursor *cursor, const char *const *members, const TreeEntry *e,
                      json_t **value, Err *err)
{
    int rc = members ? read_members(t->cache, cursor, members, e, value, err) : 0;
    if (rc != 0)
        return rc;
    rc = cache_entry_parse(t->cache, db, cursor->id, e->value, e->value_size, value, err);
    if (rc == 0)
        rc = db == DB_CLIPS ? cache_check_clip(t->cache, cursor->id, *value, err)
                            : cache_check_meta(t->cache, cursor->id, *value, err);
    if (rc == 0)
        return 1;
    json_decref(*value);
    *value = NULL;
    return rc;
}

static int next_json(CacheTxn *t, int db, CacheCursor **cursor, const char **name, json_t **value, Err *err)
{
    TreeEntry e;
    *value = NULL;
    int rc = next_entry(t, db, cursor, name, &e, err);
    return rc == 1 ? entry_json(t, db, *cursor, NULL, &e, value, err) : rc;
}

int cache_next_clip(CacheTxn *t, CacheCursor **cursor, const char **id, json_t **facts, Err *err)
{
    return next_json(t, DB_CLIPS, cursor, id, facts, err);
}

/* As next_entry, with the entry's text; at NULL: its checksum is not right. */
static int next_text(CacheTxn *t, CacheCursor **cursor, const char **id, TreeEntry *e, JsonSpan *text, Err *err)
{
    Err damage = {0};
    *text = (JsonSpan){0};
    int rc = next_entry(t, DB_CLIPS, cursor, id, e, err);
    if (rc != 1)
        return rc;
    int64_t size = e->value_size;
    rc = cache_entry_check(t->cache, DB_CLIPS, (*cursor)->id, e->value, &size, &damage);
    if (rc == 0)
        *text = (JsonSpan){(const char *)e->value, size};
    return rc == ERR_NOMEM ? err_set(err, rc, "%s", damage.msg) : 1;
}

/* As next_text, with the summary; at NULL: the entry must be parsed. */
static int next_summary(CacheTxn *t, CacheCursor **cursor, const char **id, TreeEntry *e, ClipSummary *out,
                        JsonSpan *plain, Err *err)
{
    int rc = next_text(t, cursor, id, e, plain, err);
    if (rc != 1 || !plain->at)
        return rc;
    if ((rc = cache_summary_text(out, &(*cursor)->words, plain->at, plain->size, err)) == 0)
        plain->at = NULL;
    return rc < 0 ? rc : 1;
}

/* The entry's JSON; members as in entry_json. */
static int parse_summary(CacheTxn *t, CacheCursor *c, const char *const *members, const TreeEntry *e, Err *err)
{
    json_decref(c->facts);
    c->facts = NULL;
    return entry_json(t, DB_CLIPS, c, members, e, &c->facts, err);
}

int cache_next_clip_summary(CacheTxn *t, CacheCursor **cursor, const char **id, ClipSummary *out, Err *err)
{
    TreeEntry e;
    JsonSpan plain;
    int rc = next_summary(t, cursor, id, &e, out, &plain, err);
    if (rc != 1 || plain.at)
        return rc;
    rc = parse_summary(t, *cursor, cache_summary_members, &e, err);
    if (rc == 1)
        cache_summary_json(out, (*cursor)->facts);
    return rc;
}

int cache_next_clip_keys(CacheTxn *t, CacheCursor **cursor, const char **id, ClipKeys *out, Err *err)
{
    TreeEntry e;
    JsonSpan text;
    int rc = next_text(t, cursor, id, &e, &text, err);
    if (rc != 1 || (text.at && (rc = cache_keys_text(out, &(*cursor)->words, text.at, text.size, err)) != 0) ||
        (rc = parse_summary(t, *cursor, cache_keys_members, &e, err)) != 1)
        return rc;
    rc = cache_keys_json(out, &(*cursor)->words, (*cursor)->facts, err);
    return rc < 0 ? rc : 1;
}

int cache_next_clip_text(CacheTxn *t, CacheCursor **cursor, const char **id, JsonSpan *text, Err *err)
{
    TreeEntry e;
    ClipSummary summary;
    int rc = next_summary(t, cursor, id, &e, &summary, text, err);
    if (rc != 1 || (text->at && json_span_plain(*text)))
        return rc;
    if ((rc = parse_summary(t, *cursor, NULL, &e, err)) != 1)
        return rc;
    Str *words = &(*cursor)->words;
    char *canonical = json_canonical((*cursor)->facts, err);
    words->len = 0;
    rc = canonical ? str_append(words, canonical, err) : ERR_NOMEM;
    mem_free(canonical);
    *text = (JsonSpan){words->data, words->len};
    return rc < 0 ? rc : 1;
}

int cache_next_meta(CacheTxn *t, CacheCursor **cursor, const char **key, json_t **value, Err *err)
{
    return next_json(t, DB_META, cursor, key, value, err);
}
