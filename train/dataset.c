/* Caches as one list of samples. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "train/dataset_internal.h"
#include "train/encoders.h"
#include "train/shards.h"

static void free_sample(Sample *s)
{
    mem_free(s->id);
    mem_free(s->category);
    mem_free(s->text);
}

static void free_samples(Sample *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        free_sample(&list[i]);
    mem_free(list);
}

void dataset_close(Dataset **d)
{
    if (!*d)
        return;
    free_samples((*d)->sample, (*d)->n);
    free_samples((*d)->held_out, (*d)->n_held_out);
    for (int64_t i = 0; i < (*d)->n_cache; i++)
        cache_close(&(*d)->cache[i]);
    json_decref((*d)->vae);
    json_decref((*d)->text);
    mem_free((*d)->cache);
    mem_free((*d)->empty);
    mem_free(*d);
    *d = NULL;
}

/* ---- reading the lists ----------------------------------------------------------------------- */

enum { TRAIN, HELD_OUT, SPLITS };

static int split_of(const ClipKeys *clip)
{
    return !strcmp(clip->split, "train") ? TRAIN : !strcmp(clip->split, "val") ? HELD_OUT : SPLITS;
}

static int read_clip(Sample *s, const char *id, const ClipKeys *clip, Err *err)
{
    s->latents = clip->latents;
    s->n_text = clip->n_text;
    if (clip->category && !(s->category = mem_strdup(clip->category, err)))
        return ERR_NOMEM;
    if (!(s->id = mem_strdup(id, err)) || !(s->text = mem_calloc(s->n_text, sizeof *s->text, err)))
        return ERR_NOMEM;
    memcpy(s->text, clip->text, (size_t)s->n_text * sizeof *s->text);
    return 0;
}

static int append(Sample **list, int64_t *n, int64_t *cap, const Sample *s, Err *err)
{
    if (*n == *cap) {
        int64_t grown = *cap ? 2 * *cap : 64;
        Sample *p = mem_realloc(*list, grown, sizeof *p, err);
        if (!p)
            return ERR_NOMEM;
        *list = p;
        *cap = grown;
    }
    (*list)[(*n)++] = *s;
    return 0;
}

static int add_clip(Dataset *d, int64_t cap[SPLITS], int64_t cache, const char *id, const ClipKeys *clip, Err *err)
{
    Sample s = {.cache = cache};
    int split = split_of(clip), rc = split == SPLITS ? 0 : read_clip(&s, id, clip, err);

    if (rc == 0 && split == TRAIN)
        rc = append(&d->sample, &d->n, &cap[TRAIN], &s, err);
    else if (rc == 0 && split == HELD_OUT)
        rc = append(&d->held_out, &d->n_held_out, &cap[HELD_OUT], &s, err);
    if (rc < 0)
        free_sample(&s);
    return rc;
}

/* Refuses the cache of a build that was stopped, which has fewer entries than its dataset has clips. */
static int check_finished(CacheTxn *t, const json_t *dataset, const char *dir, Err *err)
{
    json_t *rejected = NULL;
    CacheStat stat;
    int64_t clips = 0, there;
    int rc = json_get_int(dataset, "clips", "meta 'dataset'", &clips, err);

    if (rc == 0 && (rc = cache_stat(t, &stat, err)) == 0 && (rc = cache_get_meta(t, "rejected", &rejected, err)) >= 0) {
        there = stat.clips + (int64_t)json_object_size(rejected);
        rc = 0;
        if (there < clips)
            rc = err_set(err, ERR_USAGE,
                         "cache '%s' holds %" PRId64 " of %" PRId64
                         " clips: its build was stopped; run the same weft-cache build again",
                         dir, there, clips);
    }
    json_decref(rejected);
    return rc;
}

/* Reads the cache's meta 'dataset'; *shard stays zero in a cache that has none. */
static int read_dataset(CacheTxn *t, const char *dir, ShardFact *shard, Err *err)
{
    json_t *dataset = NULL;
    int rc = cache_get_meta(t, "dataset", &dataset, err);

    if (rc > 0 && (rc = check_finished(t, dataset, dir, err)) == 0 && (rc = shard_read(shard, dataset, err)) < 0)
        err_wrap(err, rc, "cache '%s'", dir);
    json_decref(dataset);
    return rc;
}

/* The key of the empty prompt's embedding; zeros in a cache that has none. */
static int read_empty(Digest *out, CacheTxn *t, const char *dir, Err *err)
{
    json_t *text = NULL;
    const json_t *key;
    int rc = cache_get_meta(t, "text", &text, err);

    if (rc > 0 && json_is_string(key = json_object_get(text, "empty")) &&
        (rc = digest_parse(json_string_value(key), out, err)) < 0)
        err_wrap(err, rc, "cache '%s': the empty prompt", dir);
    json_decref(text);
    return rc < 0 ? rc : 0;
}

static int read_cache(Dataset *d, int64_t cap[SPLITS], int64_t cache, const char *const *dirs, ShardFact *shard,
                      Err *err)
{
    const char *dir = dirs[cache];
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    const char *id;
    ClipKeys clip;
    int rc = cache_begin(&t, d->cache[cache], err);

    if (rc < 0)
        return rc;
    rc = encoders_read(d, t, dirs, cache, err);
    if (rc == 0)
        rc = read_empty(&d->empty[cache], t, dir, err);
    if (rc == 0)
        rc = read_dataset(t, dir, shard, err);
    while (rc == 0 && (rc = cache_next_clip_keys(t, &cursor, &id, &clip, err)) == 1)
        rc = add_clip(d, cap, cache, id, &clip, err);
    cache_cursor_free(&cursor);
    cache_end(&t);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const Sample *)a)->id, ((const Sample *)b)->id);
}

static int sort_samples(Sample *list, int64_t n, const char *const *dirs, Err *err)
{
    if (n > 1)
        qsort(list, (size_t)n, sizeof *list, by_id);
    for (int64_t i = 1; i < n; i++)
        if (!strcmp(list[i].id, list[i - 1].id))
            return err_set(err, ERR_USAGE, "clip '%s' is in cache '%s' and in cache '%s'", list[i].id,
                           dirs[list[i - 1].cache], dirs[list[i].cache]);
    return 0;
}

static int sort_all(Dataset *d, const char *const *dirs, Err *err)
{
    int rc;

    if (d->n == 0)
        return err_set(err, ERR_NOTFOUND, "no clip of split 'train' in cache '%s'%s", dirs[0],
                       d->n_cache > 1 ? " and the others" : "");
    rc = sort_samples(d->sample, d->n, dirs, err);
    return rc < 0 ? rc : sort_samples(d->held_out, d->n_held_out, dirs, err);
}

/* ---- identity -------------------------------------------------------------------------------- */

static int digest_all(Dataset *d, Err *err)
{
    Sha256 sha = {0};
    int rc = sha256_init(&sha, err);

    if (rc < 0)
        return rc;
    sha256_update(&sha, &d->scale, sizeof d->scale);
    for (int64_t i = 0; i < d->n; i++) {
        const Sample *s = &d->sample[i];
        sha256_update(&sha, s->id, (int64_t)strlen(s->id) + 1);
        sha256_update(&sha, &s->latents, sizeof s->latents);
        sha256_update(&sha, &s->n_text, sizeof s->n_text);
        sha256_update(&sha, s->text, s->n_text * (int64_t)sizeof *s->text);
    }
    sha256_final_hex(&sha, d->digest);
    return 0;
}

static int open_caches(Dataset *d, const char *const *dirs, int64_t n_dirs, Err *err)
{
    int rc = (d->cache = mem_calloc(n_dirs, sizeof *d->cache, err)) &&
                     (d->empty = mem_calloc(n_dirs, sizeof *d->empty, err))
                 ? 0
                 : ERR_NOMEM;

    for (; rc == 0 && d->n_cache < n_dirs; d->n_cache += rc == 0)
        rc = cache_open(&d->cache[d->n_cache], dirs[d->n_cache], CACHE_READ, err);
    return rc;
}

static int read_caches(Dataset *d, const char *const *dirs, Err *err)
{
    ShardFact *shard = mem_calloc(d->n_cache, sizeof *shard, err);
    int64_t cap[SPLITS] = {0};
    int rc = shard ? 0 : ERR_NOMEM;

    for (int64_t k = 0; k < d->n_cache && rc == 0; k++)
        rc = read_cache(d, cap, k, dirs, &shard[k], err);
    if (rc == 0)
        rc = shards_check(shard, dirs, d->n_cache, err);
    mem_free(shard);
    return rc;
}

int dataset_open(Dataset **out, const char *const *dirs, int64_t n_dirs, const DitConfig *c, Err *err)
{
    Dataset *d;
    int rc;

    *out = NULL;
    if (n_dirs < 1)
        return err_set(err, ERR_USAGE, "no cache given");
    if (c->out_channels != c->in_channels)
        return err_set(err, ERR_UNSUPPORTED,
                       "the transformer reads %" PRId64 " channels and writes %" PRId64
                       ": training needs as many out as in",
                       c->in_channels, c->out_channels);
    if (!(d = mem_calloc(1, sizeof *d, err)))
        return ERR_NOMEM;
    d->text_len = c->text_len;
    d->text_dim = c->text_dim;
    if ((rc = open_caches(d, dirs, n_dirs, err)) < 0 || (rc = read_caches(d, dirs, err)) < 0 ||
        (rc = sort_all(d, dirs, err)) < 0 || (rc = dataset_check(d, c, err)) < 0 || (rc = digest_all(d, err)) < 0)
        dataset_close(&d);
    *out = d;
    return rc;
}

int dataset_limit(Dataset *d, int64_t n, Err *err)
{
    for (; d->n > n; d->n--)
        free_sample(&d->sample[d->n - 1]);
    return digest_all(d, err);
}
