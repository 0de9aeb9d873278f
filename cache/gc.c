#include "cache/gc.h"
#include <string.h>
#include "cache/encoding.h"
#include "cache/prepared.h"
#include "cache/view.h"
#include "common/base/keyset.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/store/cache_compact.h"

enum { DELETES = 8 << 10 /* bytes of keys a commit: some 250 records */ };

/* The keys of records to delete. */
typedef struct Unused {
    Digest *key;
    int64_t n, room, bytes;
} Unused;

typedef struct Gc {
    const GcParams *params;
    KeySet wanted; /* "PIXELS ID"; where no dataset is given, all are */
    json_t *drop;  /* array of ids */
    int64_t kept;  /* clips */
    int unfinished;
    KeySet reached[3]; /* by database, as are the unused */
    Unused unused[3];
} Gc;

static int name_clip(const char *id, const char *pixels, Digest *out, Err *err)
{
    char *name = mem_printf(err, "%s %s", pixels, id);
    int rc = name ? sha256_bytes(name, (int64_t)strlen(name), out, err) : ERR_NOMEM;
    mem_free(name);
    return rc;
}

static int want_clip(void *user, const char *id, const char *pixels, Err *err)
{
    Gc *g = user;
    Digest name;
    int rc = name_clip(id, pixels, &name, err);
    return rc < 0 ? rc : keyset_add(&g->wanted, &name, err);
}

static int add_keys(KeySet *s, const json_t *hexes, Err *err)
{
    size_t i;
    json_t *hex;
    int rc = 0;
    json_array_foreach ((json_t *)hexes, i, hex)
        if (rc == 0)
            rc = keyset_add_hex(s, json_string_value(hex), err);
    return rc;
}

static int sort_clip(void *user, const char *id, json_t *facts, Err *err)
{
    Gc *g = user;
    Digest name;
    int rc = 0, kept = g->params->keep.n == 0;
    if (!kept && (rc = name_clip(id, json_string_value(json_object_get(facts, "pixels_sha256")), &name, err)) < 0)
        return rc;
    if (!kept && keyset_find(&g->wanted, &name) < 0)
        return json_array_append_new(g->drop, json_string(id)) < 0
                   ? err_set(err, ERR_NOMEM, "no memory for the clips' ids")
                   : 0;
    g->kept++;
    rc = keyset_add_hex(&g->reached[CACHE_LATENTS], json_string_value(json_object_get(facts, "latents")), err);
    if (rc == 0)
        rc = add_keys(&g->reached[CACHE_TEXT], json_object_get(facts, "texts"), err);
    return rc < 0 ? rc : add_keys(&g->reached[CACHE_TOKENS], json_object_get(facts, "tokens"), err);
}

/* The empty prompt's embedding and ids, which no entry names, belong to every cache. */
static int keep_empty_prompt(Gc *g, View *v, Err *err)
{
    json_t *text = NULL;
    Encoding e = {0}; /* as much of it as the key of ids takes */
    Digest ids;
    int rc = view_meta(v, "text", &text, err);
    if (rc == 0)
        rc = keyset_add_hex(&g->reached[CACHE_TEXT], json_string_value(json_object_get(text, "empty")), err);
    if (rc == 0) {
        e.form.length = json_integer_value(json_object_get(text, "length"));
        memcpy(e.tokenizer_sha256, json_string_value(json_object_get(text, "tokenizer_sha256")), 65);
        rc = encoding_tokens_key(&e, "", &ids, err);
    }
    if (rc == 0)
        rc = keyset_add(&g->reached[CACHE_TOKENS], &ids, err);
    json_decref(text);
    return rc;
}

/* Prompts that weft-train samples are named by a meta entry alone. */
static int keep_prompts(Gc *g, View *v, Err *err)
{
    json_t *prompts = NULL, *keys;
    const char *text;
    int rc = cache_get_meta(v->txn, "prompts", &prompts, err);
    rc = rc < 0 ? rc : 0;
    json_object_foreach (prompts, text, keys) {
        if (rc == 0)
            rc = keyset_add_hex(&g->reached[CACHE_TEXT], json_string_value(json_object_get(keys, "text")), err);
        if (rc == 0)
            rc = keyset_add_hex(&g->reached[CACHE_TOKENS], json_string_value(json_object_get(keys, "tokens")), err);
    }
    json_decref(prompts);
    return rc;
}

static int add_unused(Unused *u, const Digest *key, const Tensor *t, Err *err)
{
    if (mem_grow(&u->key, u->n, &u->room, sizeof *u->key, err) < 0)
        return ERR_NOMEM;
    u->key[u->n++] = *key;
    u->bytes += tensor_bytes(t) + RECORD_HEADER_SIZE;
    return 0;
}

static int find_unused(Gc *g, View *v, CacheDb db, Err *err)
{
    CacheCursor *cursor = NULL;
    Digest key;
    RecordView r;
    int rc;
    while ((rc = cache_next_record(v->txn, db, &cursor, &key, &r, 0, err)) == 1)
        if (keyset_find(&g->reached[db], &key) < 0 && (rc = add_unused(&g->unused[db], &key, &r.tensor, err)) < 0)
            break;
    cache_cursor_free(&cursor);
    return rc;
}

/* A build stores all captions before the first clip names one: until it has ended, none of them is unused. */
static int find_unfinished(Gc *g, View *v, Err *err)
{
    json_t *rejected = NULL;
    int rc = cache_get_meta(v->txn, "rejected", &rejected, err);
    json_decref(rejected);
    g->unfinished = rc == 0;
    return rc < 0 ? rc : 0;
}

static int find(Gc *g, View *v, Err *err)
{
    int rc = find_unfinished(g, v, err);
    if (rc == 0)
        rc = keep_empty_prompt(g, v, err);
    if (rc == 0)
        rc = keep_prompts(g, v, err);
    if (rc == 0)
        rc = view_each_clip(v, sort_clip, g, err);
    for (int db = CACHE_LATENTS; rc == 0 && db <= (g->unfinished ? CACHE_LATENTS : CACHE_TOKENS); db++)
        rc = find_unused(g, v, (CacheDb)db, err);
    return rc;
}

/* A dataset that has none of the clips is most likely another one than was meant. */
static int check_kept(const Gc *g, Err *err)
{
    int64_t n = (int64_t)json_array_size(g->drop);
    if (g->kept > 0 || n == 0)
        return 0;
    return err_set(err, ERR_USAGE,
                   "'%s': none of its %" PRId64 " clip%s is in '%s'%s with the same pixels: name the dataset that the "
                   "cache was built from (or, if nothing of it is wanted, delete the folder)",
                   g->params->dir, n, str_plural(n), g->params->keep.item[0],
                   g->params->keep.n > 1 ? " or the others given" : "");
}

/* The meta entry "dataset" with fewer clips. */
static int shrink_dataset(Cache *c, int64_t fewer, Err *err)
{
    CacheTxn *t = NULL;
    json_t *dataset = NULL;
    int rc = cache_begin(&t, c, err);
    if (rc == 0)
        rc = cache_get_meta(t, "dataset", &dataset, err);
    cache_end(&t);
    if (rc == 1) {
        json_t *clips = json_object_get(dataset, "clips");
        json_integer_set(clips, json_integer_value(clips) - fewer);
        rc = cache_put_meta(c, "dataset", dataset, err);
    }
    json_decref(dataset);
    return rc;
}

static int drop_entries(const Gc *g, Cache *c, Err *err)
{
    size_t i;
    json_t *id;
    int64_t n = (int64_t)json_array_size(g->drop);
    if (n == 0)
        return 0;
    cache_batch(c, INT64_MAX);
    int rc = shrink_dataset(c, n, err);
    json_array_foreach (g->drop, i, id)
        if (rc == 0)
            rc = cache_delete_clip(c, json_string_value(id), err);
    return rc < 0 ? rc : cache_commit(c, err);
}

static int drop_all(const Gc *g, Cache *c, Err *err)
{
    int rc = drop_entries(g, c, err);
    if (rc == 0)
        cache_batch(c, DELETES);
    for (int db = CACHE_LATENTS; rc == 0 && db <= CACHE_TOKENS; db++)
        for (int64_t i = 0; rc == 0 && i < g->unused[db].n; i++)
            rc = cache_delete_record(c, (CacheDb)db, &g->unused[db].key[i], err);
    return rc < 0 ? rc : cache_commit(c, err);
}

/* No other writer may come between the search and the deletions: it could name a record that was found unused. */
static int open_to_write(const Gc *g, View *v, Err *err)
{
    Cache *there = NULL; /* opened for writing, a cache is made where none is */
    int rc = cache_open(&there, g->params->dir, CACHE_READ, err);
    cache_close(&there);
    if (rc == 0)
        rc = cache_open(&v->cache, g->params->dir, g->params->mode, err);
    return rc < 0 ? rc : cache_begin(&v->txn, v->cache, err);
}

static int run(Gc *g, Err *err)
{
    View v = {0};
    int rc = g->params->dry_run ? view_open(&v, g->params->dir, err) : open_to_write(g, &v, err);
    if (rc == 0)
        rc = find(g, &v, err);
    cache_end(&v.txn);
    if (rc == 0 && !g->params->dry_run && (rc = check_kept(g, err)) == 0)
        rc = drop_all(g, v.cache, err);
    view_close(&v);
    return rc;
}

static void print(const Gc *g)
{
    int64_t clips = (int64_t)json_array_size(g->drop), records = 0, bytes = 0;
    FILE *out = g->params->out;
    if (g->unfinished)
        fputs("unfinished: all captions are kept; finish the build, then run gc again\n", out);
    for (int db = CACHE_LATENTS; db <= CACHE_TOKENS; db++) {
        fprintf(out, "%s: %" PRId64 " record%s, %" PRId64 " bytes\n", cache_db_name((CacheDb)db), g->unused[db].n,
                str_plural(g->unused[db].n), g->unused[db].bytes);
        records += g->unused[db].n;
        bytes += g->unused[db].bytes;
    }
    fprintf(out, "%s: %" PRId64 " clip%s and %" PRId64 " record%s of %" PRId64 " bytes %s\n", g->params->dir, clips,
            str_plural(clips), records, str_plural(records), bytes,
            g->params->dry_run ? "would be dropped" : "dropped");
}

int cache_gc(const GcParams *params, Err *err)
{
    Gc g = {.params = params, .drop = json_array()};
    int rc = g.drop ? 0 : err_set(err, ERR_NOMEM, "no memory for the clips' ids");
    for (int64_t i = 0; rc == 0 && i < params->keep.n; i++)
        rc = prepared_each_id(params->keep.item[i], want_clip, &g, err);
    if (rc == 0)
        rc = run(&g, err);
    if (rc == 0)
        print(&g);
    int64_t before, after;
    if (rc == 0 && params->compact && !params->dry_run &&
        (rc = cache_compact(params->dir, params->mode, &before, &after, err)) == 0)
        fprintf(params->out, "data.mdb: %" PRId64 " bytes, %" PRId64 " before\n", after, before);
    for (int db = CACHE_LATENTS; db <= CACHE_TOKENS; db++) {
        keyset_fini(&g.reached[db]);
        mem_free(g.unused[db].key);
    }
    keyset_fini(&g.wanted);
    json_decref(g.drop);
    return rc;
}
