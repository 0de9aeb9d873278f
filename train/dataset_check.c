/* The records that the samples name: found, and of the shape that the transformer reads. */
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "train/dataset_internal.h"

/* A record that a sample needs.  `place`: in the order in which faults are told. */
typedef struct Wanted {
    const Sample *sample;
    const Digest *key;
    CacheDb db;
    int64_t place;
} Wanted;

static int found(int rc, CacheDb db, const Sample *s, Err *err)
{
    if (rc == 0)
        return err_set(err, ERR_NOTFOUND, "clip '%s': its %s record is not in the cache; run weft-cache build again",
                       s->id, cache_db_name(db));
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", s->id) : 0;
}

int dataset_get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, const Sample *s, RecordView *out,
                       Err *err)
{
    return found(cache_get_record(t, db, key, verify, out, err), db, s, err);
}

/* Moments hold a mean and a log-variance for each channel, a stored sample one value. */
static int check_latents(Dataset *d, const RecordView *r, const Sample *s, const DitConfig *c, Err *err)
{
    const Tensor *x = &r->tensor;
    int64_t parts = r->kind == RECORD_MOMENTS ? 2 : 1;
    char got[160];

    if ((r->kind != RECORD_MOMENTS && r->kind != RECORD_SAMPLE) || x->rank != 4 || !dtype_is_float(x->dtype) ||
        x->dim[3] % parts)
        return err_set(err, ERR_FORMAT, "clip '%s': its latents record must hold moments or a sample, but is %s", s->id,
                       tensor_describe(x, got, sizeof got));
    if (x->dim[3] / parts != c->in_channels)
        return err_set(err, ERR_USAGE,
                       "clip '%s': latents %s have %" PRId64 " channels, but the transformer reads %" PRId64
                       ": the cache was made with another VAE",
                       s->id, tensor_describe(x, got, sizeof got), (x->dim[3] / parts), c->in_channels);
    if (x->dim[1] % c->patch || x->dim[2] % c->patch)
        return err_set(err, ERR_USAGE,
                       "clip '%s': latents %s: height and width must be multiples of the patch size %" PRId64, s->id,
                       tensor_describe(x, got, sizeof got), c->patch);
    if (d->F == 0) {
        d->F = x->dim[0];
        d->h = x->dim[1];
        d->w = x->dim[2];
        d->C = c->in_channels;
    }
    if (x->dim[0] != d->F || x->dim[1] != d->h || x->dim[2] != d->w)
        return err_set(err, ERR_USAGE,
                       "clip '%s': latents %s, but clip '%s' has %" PRId64 " frames of %" PRId64 " x %" PRId64
                       ": a run takes clips of one size",
                       s->id, tensor_describe(x, got, sizeof got), d->sample[0].id, d->F, d->h, d->w);
    return 0;
}

static int check_text(const RecordView *r, const Sample *s, const DitConfig *c, Err *err)
{
    char got[160];

    if (r->kind != RECORD_TEXT || r->tensor.rank != 2 || !dtype_is_float(r->tensor.dtype) ||
        r->tensor.dim[0] != c->text_len || r->tensor.dim[1] != c->text_dim)
        return err_set(err, ERR_USAGE,
                       "clip '%s': its text record is %s, but the transformer reads [%" PRId64 ", %" PRId64 "]", s->id,
                       tensor_describe(&r->tensor, got, sizeof got), c->text_len, c->text_dim);
    return 0;
}

static int check_one(Dataset *d, CacheTxn *t, const Wanted *w, const DitConfig *c, Err *err)
{
    RecordView r;
    int rc = found(cache_look_record(t, w->db, w->key, &r, err), w->db, w->sample, err);

    if (rc < 0)
        return rc;
    return w->db == CACHE_LATENTS ? check_latents(d, &r, w->sample, c, err) : check_text(&r, w->sample, c, err);
}

static int by_key(const void *a, const void *b)
{
    const Wanted *x = a, *y = b;
    int c = x->db != y->db ? (x->db > y->db) - (x->db < y->db) : memcmp(x->key, y->key, sizeof *x->key);

    return c ? c : (x->place > y->place) - (x->place < y->place);
}

/* Where list is NULL, counts. */
static int64_t list_wanted(Wanted *list, int64_t at, const Sample *s, int64_t n, int64_t cache)
{
    for (int64_t i = 0; i < n; i++) {
        if (s[i].cache != cache)
            continue;
        if (list)
            list[at] = (Wanted){&s[i], &s[i].latents, CACHE_LATENTS, at};
        at++;
        for (int64_t k = 0; k < s[i].n_text; k++, at++)
            if (list)
                list[at] = (Wanted){&s[i], &s[i].text[k], CACHE_TEXT, at};
    }
    return at;
}

static int64_t list_all(Wanted *list, const Dataset *d, int64_t cache)
{
    int64_t at = list_wanted(list, 0, d->sample, d->n, cache);

    return list_wanted(list, at, d->held_out, d->n_held_out, cache);
}

/* In the order of their keys, as they lie in the cache; of several faults the one with the first place is told. */
static int check_sorted(Dataset *d, CacheTxn *t, const Wanted *list, int64_t n, const DitConfig *c, Err *err)
{
    int64_t first = n;
    Err fault = {0};
    int code = 0;

    for (int64_t i = 0; i < n; i++) {
        if (list[i].place > first ||
            (i > 0 && list[i].db == list[i - 1].db && !memcmp(list[i].key, list[i - 1].key, sizeof *list[i].key)))
            continue;
        int rc = check_one(d, t, &list[i], c, &fault);
        if (rc == 0)
            continue;
        first = list[i].place;
        err_clear(err);
        code = err_set(err, rc, "%s", fault.msg);
        err_clear(&fault);
    }
    return code;
}

static int check_cache(Dataset *d, int64_t cache, const DitConfig *c, Err *err)
{
    int64_t n = list_all(NULL, d, cache);
    Wanted *list = NULL;
    CacheTxn *t = NULL;
    int rc = 0;

    if (n == 0)
        return 0;
    if (!(list = mem_calloc(n, sizeof *list, err)))
        return ERR_NOMEM;
    list_all(list, d, cache);
    rc = cache_begin(&t, d->cache[cache], err);
    if (rc == 0)
        rc = check_one(d, t, &list[0], c, err); /* its latents give the shape that all must have */
    if (rc == 0) {
        qsort(list, (size_t)n, sizeof *list, by_key);
        rc = check_sorted(d, t, list, n, c, err);
    }
    cache_end(&t);
    mem_free(list);
    return rc;
}

int dataset_check(Dataset *d, const DitConfig *c, Err *err)
{
    int rc = 0;

    for (int64_t k = 0; k < d->n_cache && rc == 0; k++)
        rc = check_cache(d, k, c, err);
    return rc;
}
