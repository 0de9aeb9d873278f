#include "cache/merge_meta.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/hash.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static const struct {
    const char *key, *what;
} shared[] = {{"vae", "another VAE"}, {"text", "another text encoder"}, {"encoding", "other stored types"}};
enum { N_SHARED = sizeof shared / sizeof *shared };

static int start(MergedMeta *m, Err *err)
{
    if (!m->same)
        m->same = json_object();
    if (!m->datasets)
        m->datasets = json_array();
    if (!m->rejected)
        m->rejected = json_object();
    return m->same && m->datasets && m->rejected ? 0 : err_set(err, ERR_NOMEM, "no memory for the meta entries");
}

static int add_shared(MergedMeta *m, View *v, const char *name, Err *err)
{
    for (int i = 0; i <= N_SHARED; i++) {
        const char *key = i < N_SHARED ? shared[i].key : "recipe";
        json_t *value = NULL, *known = json_object_get(m->same, key);
        int rc = view_meta(v, key, &value, err);
        if (rc == 0 && known && i < N_SHARED && !json_equal(known, value))
            rc = err_set(err, ERR_USAGE, "'%s' was made with %s than the caches before it (see weft-cache show)", name,
                         shared[i].what);
        if (rc == 0 && !known && json_object_set(m->same, key, value) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the meta entries");
        json_decref(value);
        if (rc < 0)
            return err_wrap(err, rc, "'%s'", name);
    }
    return 0;
}

static const char *first_clip(const json_t *colour)
{
    return json_string_value(json_array_get(json_object_get(colour, "clips"), 0));
}

/* One of the sources' maps of colours, whatever their order: that whose first clip's key is smallest. */
static int add_colour(MergedMeta *m, View *v, Err *err)
{
    json_t *value = NULL, *known = json_object_get(m->same, "colour");
    int rc = cache_get_meta(v->txn, "colour", &value, err);
    if (rc > 0 && (!known || strcmp(first_clip(value), first_clip(known)) < 0))
        rc = json_object_set(m->same, "colour", value) < 0 ? err_set(err, ERR_NOMEM, "no memory for the meta entries")
                                                           : 0;
    json_decref(value);
    return rc < 0 ? rc : 0;
}

/* The sources' prompts together. */
static int add_prompts(MergedMeta *m, View *v, Err *err)
{
    json_t *value = NULL, *known = json_object_get(m->same, "prompts");
    int rc = cache_get_meta(v->txn, "prompts", &value, err);
    if (rc > 0)
        rc = (known ? json_object_update(known, value) : json_object_set(m->same, "prompts", value)) < 0
                 ? err_set(err, ERR_NOMEM, "no memory for the meta entries")
                 : 0;
    json_decref(value);
    return rc < 0 ? rc : 0;
}

int merged_meta_add(MergedMeta *m, View *v, const char *name, Err *err)
{
    json_t *dataset = NULL, *rejected = NULL;
    CacheStat stat;
    int rc = start(m, err);
    if (rc == 0)
        rc = add_shared(m, v, name, err);
    if (rc == 0)
        rc = add_colour(m, v, err);
    if (rc == 0)
        rc = add_prompts(m, v, err);
    if (rc == 0)
        rc = view_meta(v, "dataset", &dataset, err);
    if (rc == 0)
        rc = view_meta(v, "rejected", &rejected, err);
    if (rc == 0)
        rc = cache_stat(v->txn, &stat, err);
    int64_t want = json_integer_value(json_object_get(dataset, "clips")) - (int64_t)json_object_size(rejected);
    if (rc == 0 && want != stat.clips)
        rc = err_set(err, ERR_USAGE, "'%s' is unfinished: %" PRId64 " of %" PRId64 " clip%s; run its build again", name,
                     stat.clips, want, str_plural(want));
    if (rc == 0 && (json_array_append(m->datasets, dataset) < 0 || json_object_update(m->rejected, rejected) < 0))
        rc = err_set(err, ERR_NOMEM, "no memory for the meta entries");
    json_decref(dataset);
    json_decref(rejected);
    return rc;
}

/* ---- the merged dataset ---------------------------------------------------------------------- */

static const char *sha_of(const json_t *dataset, const char *key)
{
    return json_string_value(json_object_get(dataset, key));
}

static int64_t shard_of(const json_t *dataset, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(dataset, "shard"), key));
}

/* Of the dataset of source i every shard must be given. */
static int check_shards(const json_t *datasets, size_t i, Err *err)
{
    const json_t *mine = json_array_get(datasets, i);
    int64_t count = shard_of(mine, "count");
    for (int64_t k = 0; k < count; k++) {
        int there = 0;
        for (size_t j = 0; j < json_array_size(datasets); j++) {
            const json_t *d = json_array_get(datasets, j);
            there |= strcmp(sha_of(d, "manifest_sha256"), sha_of(mine, "manifest_sha256")) == 0 &&
                     shard_of(d, "count") == count && shard_of(d, "index") == k;
        }
        if (!there)
            return err_set(err, ERR_USAGE, "shard %" PRId64 " of %" PRId64 " of a dataset is not among the sources", k,
                           count);
    }
    return 0;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* hex: the digest that all datasets have under `key`; of different ones, sorted, SHA-256 over their
 * digits, a newline after each. */
static int join_digests(const json_t *datasets, const char *key, char hex[65], Err *err)
{
    size_t n = json_array_size(datasets), kept = 0;
    const char **all = mem_calloc((int64_t)n, sizeof *all, err);
    Str text = {0};
    int rc = all ? 0 : ERR_NOMEM;
    for (size_t i = 0; rc == 0 && i < n; i++)
        all[i] = sha_of(json_array_get(datasets, i), key);
    if (rc == 0)
        qsort(all, n, sizeof *all, compare_text);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (i == 0 || strcmp(all[i], all[i - 1]) != 0) {
            rc = str_printf(&text, err, "%s\n", all[i]);
            kept++;
        }
    if (rc == 0 && kept == 1)
        memcpy(hex, all[0], 65);
    else if (rc == 0)
        rc = sha256_hex(text.data, text.len, hex, err);
    str_fini(&text);
    mem_free(all);
    return rc;
}

int merged_meta_finish(MergedMeta *m, const json_t *ids, Err *err)
{
    char manifest[65], recipe[65];
    const char *id;
    json_t *value;
    void *next;
    for (size_t i = 0; i < json_array_size(m->datasets); i++) {
        int rc = check_shards(m->datasets, i, err);
        if (rc < 0)
            return rc;
    }
    json_object_foreach_safe (m->rejected, next, id, value)
        if (json_object_get(ids, id))
            json_object_del(m->rejected, id);
    int rc = join_digests(m->datasets, "manifest_sha256", manifest, err);
    if (rc == 0)
        rc = join_digests(m->datasets, "recipe_sha256", recipe, err);
    if (rc < 0)
        return rc;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "manifest_sha256", manifest);
    jsonw_str(&w, "recipe_sha256", recipe);
    jsonw_int(&w, "clips", (int64_t)(json_object_size(ids) + json_object_size(m->rejected)));
    jsonw_open(&w, "shard");
    jsonw_int(&w, "index", 0);
    jsonw_int(&w, "count", 1);
    jsonw_close(&w);
    return jsonw_finish(&w, &m->dataset, "the meta entry 'dataset'", err);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int put(Cache *out, CacheTxn *have, const char *key, const json_t *value, const char *name, Err *err)
{
    json_t *old = NULL;
    int rc = cache_get_meta(have, key, &old, err), same = rc == 1 && json_equal(old, value);
    json_decref(old);
    if (rc == 1 && !same)
        return err_set(err, ERR_USAGE, "'%s' holds something else (another '%s'): give a new folder as --out", name,
                       key);
    return rc == 0 ? cache_put_meta(out, key, value, err) : rc < 0 ? rc : 0;
}

int merged_meta_put(const MergedMeta *m, Cache *out, const char *name, Err *err)
{
    CacheTxn *have = NULL;
    const char *key;
    json_t *value;
    int rc = cache_begin(&have, out, err);
    json_object_foreach (m->same, key, value)
        if (rc == 0)
            rc = put(out, have, key, value, name, err);
    if (rc == 0)
        rc = put(out, have, "dataset", m->dataset, name, err);
    cache_end(&have);
    return rc;
}

void merged_meta_fini(MergedMeta *m)
{
    json_decref(m->same);
    json_decref(m->datasets);
    json_decref(m->dataset);
    json_decref(m->rejected);
    *m = (MergedMeta){0};
}
