#include "cache/diff.h"
#include <string.h>
#include "common/base/mem.h"
#include "common/base/str.h"

typedef struct Diff {
    Build *b;
    CacheTxn *txn;
    json_t *encoding, *vae, *text; /* the cache's meta entries, or NULL */
    int64_t add, again, rewrite, keep, drop;
} Diff;

static int differs(const json_t *a, const json_t *b, const char *key)
{
    return !json_equal(json_object_get(a, key), json_object_get(b, key));
}

/* Takes over `now`. */
static int meta_differs(const json_t *stored, json_t *now)
{
    int differ = stored && now && !json_equal(stored, now);
    json_decref(now);
    return differ;
}

/* 1: the cache has a record under the key, 0: it has none, negative: an error. */
static int has(Diff *d, CacheDb db, const Digest *key, Err *err)
{
    RecordView r;
    Err damage = {0};
    int rc = cache_look_record(d->txn, db, key, &r, &damage);
    return rc == ERR_FORMAT || rc == ERR_UNSUPPORTED ? 0 : rc < 0 ? err_set(err, rc, "%s", damage.msg) : rc;
}

static int has_hex(Diff *d, CacheDb db, const json_t *hex, Err *err)
{
    Digest key;
    int rc = digest_parse(json_string_value(hex), &key, err);
    return rc < 0 ? rc : has(d, db, &key, err);
}

/* Whether the records that the entry `want` names are there. */
static int has_all(Diff *d, const json_t *want, Err *err)
{
    const json_t *texts = json_object_get(want, "texts"), *tokens = json_object_get(want, "tokens");
    int rc = has_hex(d, CACHE_LATENTS, json_object_get(want, "latents"), err);
    for (size_t k = 0; rc == 1 && k < json_array_size(texts); k++)
        if ((rc = has_hex(d, CACHE_TEXT, json_array_get(texts, k), err)) == 1)
            rc = has_hex(d, CACHE_TOKENS, json_array_get(tokens, k), err);
    return rc;
}

/* Why the entry's records are not those that the build wants; NULL when they are. */
static const char *why_again(const Diff *d, const json_t *want, const json_t *entry)
{
    const Encoding *e = d->b->e;
    if (differs(want, entry, "pixels_sha256"))
        return "other pixels";
    if (differs(want, entry, "latents"))
        return differs(want, entry, "vae_sha256")                   ? "other weights of the VAE"
               : meta_differs(d->encoding, encoding_meta_values(e)) ? "another stored type (cache.dtype, cache.store)"
               : meta_differs(d->vae, encoding_meta_vae(e))         ? "other settings of the VAE (tiling, config)"
                                                                    : "another seed, device type or revision";
    if (differs(want, entry, "captions"))
        return "other captions";
    if (differs(want, entry, "texts"))
        return differs(want, entry, "text_encoder_sha256") ? "other weights of the text encoder"
                                                           : "other settings of the text encoder";
    return differs(want, entry, "tokens") ? "another tokeniser" : NULL;
}

static const char *why_rewrite(const json_t *want, const json_t *entry)
{
    static const char *const keys[] = {"split", "category", "attributes", "fps"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (differs(want, entry, keys[i]))
            return keys[i];
    return NULL;
}

static void say(Diff *d, const char *what, const char *id, const char *why)
{
    char shown[2048];
    str_escape(shown, sizeof shown, id, 0);
    fprintf(d->b->params->results, "%s\t%s\t%s\n", what, shown, why);
}

static int one_clip(Diff *d, const PreparedClip *c, Err *err)
{
    const char *id = c->id, *why;
    json_t *want = NULL, *entry = NULL;
    Err damage = {0};
    Digest latents;
    int rc = encoding_latents_key(d->b->e, c, &latents, err);
    if (rc == 0)
        rc = build_clip_facts(d->b, c, &latents, "", &want, err);
    int found = rc == 0 && d->txn ? cache_get_clip(d->txn, id, &entry, &damage) : 0, whole = 0;
    if (found < 0 && found != ERR_FORMAT)
        rc = err_set(err, found, "%s", damage.msg);
    if (rc == 0 && found == 1 && (whole = has_all(d, want, err)) < 0)
        rc = whole;
    if (rc == 0 && found < 0) {
        d->again++;
        say(d, "again", id, "its entry is damaged");
    } else if (rc == 0 && found == 0) {
        d->add++;
        say(d, "add", id, "not in the cache");
    } else if (rc == 0 && (why = why_again(d, want, entry))) {
        d->again++;
        say(d, "again", id, why);
    } else if (rc == 0 && !whole) {
        d->again++;
        say(d, "again", id, "a record of it is lost");
    } else if (rc == 0 && (why = why_rewrite(want, entry))) {
        d->rewrite++;
        say(d, "entry", id, why);
    } else if (rc == 0) {
        d->keep++;
    }
    json_decref(want);
    json_decref(entry);
    return rc;
}

static int find_dropped(Diff *d, Err *err)
{
    CacheCursor *cursor = NULL;
    const char *id;
    JsonSpan text;
    int64_t at;
    int rc = d->txn ? 1 : 0;
    while (rc > 0) {
        Err damage = {0};
        rc = cache_next_clip_text(d->txn, &cursor, &id, &text, &damage);
        if (rc < 0 && rc != ERR_FORMAT)
            err_set(err, rc, "%s", damage.msg);
        if (rc == ERR_FORMAT)
            rc = 1;
        if (rc == 1 && (rc = prepared_find_clip(d->b->p, id, &at, err)) == 0)
            rc = 1;
        if (rc == 1 && at < 0) {
            d->drop++;
            say(d, "drop", id, "not in the dataset");
        }
    }
    cache_cursor_free(&cursor);
    return rc;
}

static int open_cache(Diff *d, Err *err)
{
    static const char *const keys[] = {"encoding", "vae", "text"};
    json_t **value[] = {&d->encoding, &d->vae, &d->text};
    int rc = d->b->cache ? cache_begin(&d->txn, d->b->cache, err) : 0;
    for (int i = 0; i < 3 && rc >= 0 && d->txn; i++)
        rc = cache_get_meta(d->txn, keys[i], value[i], err);
    return rc < 0 ? rc : 0;
}

int build_diff(Build *b, Err *err)
{
    Diff d = {.b = b};
    int rc = open_cache(&d, err);
    for (int64_t i = 0; rc == 0 && i < b->p->n; i++) {
        PreparedClip c;
        rc = prepared_clip(b->p, i, &c, err);
        if (rc == 0)
            rc = one_clip(&d, &c, err);
        prepared_clip_fini(&c);
    }
    if (rc == 0)
        rc = find_dropped(&d, err);
    if (rc == 0)
        fprintf(b->params->results,
                "%" PRId64 " to add, %" PRId64 " to make again, %" PRId64 " to rewrite the entry of, %" PRId64
                " to drop, %" PRId64 " kept as they are\n",
                d.add, d.again, d.rewrite, d.drop, d.keep);
    cache_end(&d.txn);
    json_decref(d.encoding);
    json_decref(d.vae);
    json_decref(d.text);
    return rc;
}
