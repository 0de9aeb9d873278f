/* Caches as one list of samples; batches with their draws. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/ops/ops.h"
#include "train/dataset.h"
#include "train/encoders.h"
#include "train/shards.h"

void dataset_close(Dataset **d)
{
    if (!*d)
        return;
    for (int64_t i = 0; i < (*d)->n; i++) {
        mem_free((*d)->sample[i].id);
        mem_free((*d)->sample[i].text);
    }
    for (int64_t i = 0; i < (*d)->n_cache; i++)
        cache_close(&(*d)->cache[i]);
    json_decref((*d)->vae);
    json_decref((*d)->text);
    mem_free((*d)->sample);
    mem_free((*d)->cache);
    mem_free(*d);
    *d = NULL;
}

/* ---- reading the lists ----------------------------------------------------------------------- */

static int read_key(const json_t *v, Digest *out, const char *dir, const char *id, const char *what, Err *err)
{
    if (!json_is_string(v))
        return err_set(err, ERR_FORMAT, "cache '%s': clip '%s' has no key of its %s", dir, id, what);
    int rc = digest_parse(json_string_value(v), out, err);
    return rc < 0 ? err_wrap(err, rc, "cache '%s': clip '%s': %s", dir, id, what) : 0;
}

/* Reads one clip's entry into *s; *take is 0 for a clip of another split. */
static int read_clip(Sample *s, int *take, const char *dir, const char *id, const json_t *facts, Err *err)
{
    const json_t *texts = json_object_get(facts, "texts");
    const char *split;
    int rc;

    *take = 0;
    if ((rc = json_get_str_or(facts, "split", id, "train", &split, err)) < 0)
        return err_wrap(err, rc, "cache '%s'", dir);
    if (strcmp(split, "train"))
        return 0;
    if (!json_is_array(texts) || json_array_size(texts) == 0)
        return err_set(err, ERR_FORMAT, "cache '%s': clip '%s' has no captions", dir, id);
    if ((rc = read_key(json_object_get(facts, "latents"), &s->latents, dir, id, "latents", err)) < 0)
        return rc;
    s->n_text = (int64_t)json_array_size(texts);
    if (!(s->id = mem_strdup(id, err)) || !(s->text = mem_calloc(s->n_text, sizeof *s->text, err)))
        return ERR_NOMEM;
    for (int64_t i = 0; i < s->n_text; i++)
        if ((rc = read_key(json_array_get(texts, (size_t)i), &s->text[i], dir, id, "text", err)) < 0)
            return rc;
    *take = 1;
    return 0;
}

static int add_clip(Dataset *d, int64_t *cap, int64_t cache, const char *dir, const char *id, const json_t *facts,
                    Err *err)
{
    Sample s = {.cache = cache};
    int take, rc = read_clip(&s, &take, dir, id, facts, err);

    if (rc == 0 && take && d->n == *cap) {
        int64_t grown = *cap ? 2 * *cap : 64;
        Sample *p = mem_realloc(d->sample, grown, sizeof *p, err);
        if (!p) {
            rc = ERR_NOMEM;
        } else {
            d->sample = p;
            *cap = grown;
        }
    }
    if (rc == 0 && take) {
        d->sample[d->n++] = s;
    } else {
        mem_free(s.id);
        mem_free(s.text);
    }
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

static int read_cache(Dataset *d, int64_t *cap, int64_t cache, const char *const *dirs, ShardFact *shard, Err *err)
{
    const char *dir = dirs[cache];
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    const char *id;
    json_t *facts = NULL;
    int rc = cache_begin(&t, d->cache[cache], err);

    if (rc < 0)
        return rc;
    rc = encoders_read(d, t, dirs, cache, err);
    if (rc == 0)
        rc = read_dataset(t, dir, shard, err);
    while (rc == 0 && (rc = cache_next_clip(t, &cursor, &id, &facts, err)) == 1) {
        rc = add_clip(d, cap, cache, dir, id, facts, err);
        json_decref(facts);
    }
    cache_cursor_free(&cursor);
    cache_end(&t);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const Sample *)a)->id, ((const Sample *)b)->id);
}

static int sort_samples(Dataset *d, const char *const *dirs, Err *err)
{
    if (d->n == 0)
        return err_set(err, ERR_NOTFOUND, "no clip of split 'train' in cache '%s'%s", dirs[0],
                       d->n_cache > 1 ? " and the others" : "");
    qsort(d->sample, (size_t)d->n, sizeof *d->sample, by_id);
    for (int64_t i = 1; i < d->n; i++)
        if (!strcmp(d->sample[i].id, d->sample[i - 1].id))
            return err_set(err, ERR_USAGE, "clip '%s' is in cache '%s' and in cache '%s'", d->sample[i].id,
                           dirs[d->sample[i - 1].cache], dirs[d->sample[i].cache]);
    return 0;
}

/* ---- checking the records -------------------------------------------------------------------- */

static int get_record(CacheTxn *t, CacheDb db, const Digest *key, int verify, const Sample *s, RecordView *out,
                      Err *err)
{
    int rc = cache_get_record(t, db, key, verify, out, err);

    if (rc == 0)
        return err_set(err, ERR_NOTFOUND, "clip '%s': its %s record is not in the cache; run weft-cache build again",
                       s->id, cache_db_name(db));
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", s->id) : 0;
}

/* Moments hold a mean and a log-variance for each channel, a stored sample one value. */
static int check_latents(Dataset *d, const RecordView *r, const Sample *s, const DitConfig *c, Err *err)
{
    const Tensor *x = &r->tensor;
    int64_t parts = r->kind == RECORD_MOMENTS ? 2 : 1;
    char got[160];

    tensor_describe(x, got, sizeof got);
    if ((r->kind != RECORD_MOMENTS && r->kind != RECORD_SAMPLE) || x->rank != 4 || !dtype_is_float(x->dtype) ||
        x->dim[3] % parts)
        return err_set(err, ERR_FORMAT, "clip '%s': its latents record must hold moments or a sample, but is %s", s->id,
                       got);
    if (x->dim[3] / parts != c->in_channels)
        return err_set(err, ERR_USAGE,
                       "clip '%s': latents %s have %" PRId64 " channels, but the transformer reads %" PRId64
                       ": the cache was made with another VAE",
                       s->id, got, (x->dim[3] / parts), c->in_channels);
    if (x->dim[1] % c->patch || x->dim[2] % c->patch)
        return err_set(err, ERR_USAGE,
                       "clip '%s': latents %s: height and width must be multiples of the patch size %" PRId64, s->id,
                       got, c->patch);
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
                       s->id, got, d->sample[0].id, d->F, d->h, d->w);
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

static int check_sample(Dataset *d, CacheTxn *t, const Sample *s, const DitConfig *c, Err *err)
{
    RecordView r;
    int rc;

    if ((rc = get_record(t, CACHE_LATENTS, &s->latents, 0, s, &r, err)) < 0 ||
        (rc = check_latents(d, &r, s, c, err)) < 0)
        return rc;
    for (int64_t i = 0; i < s->n_text; i++)
        if ((rc = get_record(t, CACHE_TEXT, &s->text[i], 0, s, &r, err)) < 0 || (rc = check_text(&r, s, c, err)) < 0)
            return rc;
    return 0;
}

static int check_all(Dataset *d, const DitConfig *c, Err *err)
{
    int rc = 0;

    for (int64_t k = 0; k < d->n_cache && rc == 0; k++) {
        CacheTxn *t = NULL;
        rc = cache_begin(&t, d->cache[k], err);
        for (int64_t i = 0; i < d->n && rc == 0; i++)
            if (d->sample[i].cache == k)
                rc = check_sample(d, t, &d->sample[i], c, err);
        cache_end(&t);
    }
    return rc;
}

/* ---- identity -------------------------------------------------------------------------------- */

static int digest_all(Dataset *d, Err *err)
{
    Sha256 sha = {0};
    Digest out;
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
    sha256_final(&sha, &out);
    digest_hex(&out, d->digest);
    return 0;
}

static int open_caches(Dataset *d, const char *const *dirs, int64_t n_dirs, Err *err)
{
    int rc = (d->cache = mem_calloc(n_dirs, sizeof *d->cache, err)) ? 0 : ERR_NOMEM;

    for (; rc == 0 && d->n_cache < n_dirs; d->n_cache += rc == 0)
        rc = cache_open(&d->cache[d->n_cache], dirs[d->n_cache], CACHE_READ, err);
    return rc;
}

static int read_caches(Dataset *d, const char *const *dirs, Err *err)
{
    ShardFact *shard = mem_calloc(d->n_cache, sizeof *shard, err);
    int64_t cap = 0;
    int rc = shard ? 0 : ERR_NOMEM;

    for (int64_t k = 0; k < d->n_cache && rc == 0; k++)
        rc = read_cache(d, &cap, k, dirs, &shard[k], err);
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
        (rc = sort_samples(d, dirs, err)) < 0 || (rc = check_all(d, c, err)) < 0 || (rc = digest_all(d, err)) < 0)
        dataset_close(&d);
    *out = d;
    return rc;
}

/* ---- draws ----------------------------------------------------------------------------------- */

void dataset_order(const Dataset *d, uint64_t seed, int64_t epoch, int64_t *order)
{
    Philox p = philox_stream(seed, RNG_ORDER, (uint64_t)epoch, 0);

    philox_permutation(&p, order, d->n);
}

/* ---- batches --------------------------------------------------------------------------------- */

static int64_t latent_count(const Dataset *d)
{
    return d->F * d->h * d->w * d->C;
}

int batch_new(HostBatch *b, const Dataset *d, int64_t room, Err *err)
{
    int64_t latents = latent_count(d), text = d->text_len * d->text_dim;

    b->room = room;
    if (!(b->sample = mem_calloc(room, sizeof *b->sample, err)) ||
        !(b->kind = mem_calloc(room, sizeof *b->kind, err)) ||
        !(b->moments = mem_calloc(room * latents, 2 * sizeof(float), err)) ||
        !(b->draw = mem_calloc(room * latents, sizeof(float), err)) ||
        !(b->noise = mem_calloc(room * latents, sizeof(float), err)) ||
        !(b->text = mem_calloc(room * text, sizeof(float), err)) ||
        !(b->timestep = mem_calloc(room, sizeof *b->timestep, err)))
        return ERR_NOMEM;
    return 0;
}

void batch_free(HostBatch *b)
{
    mem_free(b->sample);
    mem_free(b->kind);
    mem_free(b->moments);
    mem_free(b->draw);
    mem_free(b->noise);
    mem_free(b->text);
    mem_free(b->timestep);
    memset(b, 0, sizeof *b);
}

/* A record's values as float, times `scale`. */
static void to_host(float *out, const Tensor *t, double scale)
{
    int64_t n = tensor_count(t);

    if (t->dtype == DT_F32 && scale == 1.0) {
        memcpy(out, t->data, (size_t)n * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(tensor_get(t, i) * scale);
}

/* Reads and draws sample number `sample` into place `at` of the batch. */
static int read_sample(const Dataset *d, HostBatch *b, CacheTxn *t, uint64_t seed, int64_t epoch, int64_t sample,
                       int64_t at, Err *err)
{
    const Sample *s = &d->sample[sample];
    Philox posterior = philox_stream(seed, RNG_POSTERIOR, (uint64_t)epoch, (uint64_t)sample);
    Philox noise = philox_stream(seed, RNG_NOISE, (uint64_t)epoch, (uint64_t)sample);
    Philox caption = philox_stream(seed, RNG_CAPTION, (uint64_t)epoch, (uint64_t)sample);
    int64_t n = latent_count(d);
    RecordView r;
    int rc;

    if ((rc = get_record(t, CACHE_LATENTS, &s->latents, 1, s, &r, err)) < 0)
        return rc;
    b->kind[at] = r.kind;
    to_host(b->moments + at * 2 * n, &r.tensor, r.kind == RECORD_SAMPLE ? d->scale : 1.0);
    if (r.kind == RECORD_MOMENTS)
        philox_fill_normal(&posterior, 0, b->draw + at * n, n);
    philox_fill_normal(&noise, 0, b->noise + at * n, n);
    if ((rc = get_record(t, CACHE_TEXT, &s->text[philox_below(&caption, 0, (uint64_t)s->n_text)], 1, s, &r, err)) < 0)
        return rc;
    to_host(b->text + at * d->text_len * d->text_dim, &r.tensor, 1.0);
    return 0;
}

int batch_read(const Dataset *d, HostBatch *b, uint64_t seed, int64_t epoch, const int64_t *sample, int64_t n,
               int64_t n_train, Err *err)
{
    if (n < 1 || n > b->room)
        return err_set(err, ERR_USAGE, "a batch of %" PRId64 " samples, expected 1 to %" PRId64, n, b->room);
    b->n = n;
    for (int64_t i = 0; i < n; i++) {
        Philox time = philox_stream(seed, RNG_TIMESTEP, (uint64_t)epoch, (uint64_t)sample[i]);
        CacheTxn *t = NULL;
        int rc = cache_begin(&t, d->cache[d->sample[sample[i]].cache], err);
        if (rc == 0)
            rc = read_sample(d, b, t, seed, epoch, sample[i], i, err);
        cache_end(&t);
        if (rc < 0)
            return rc;
        b->sample[i] = sample[i];
        b->timestep[i] = (int64_t)philox_below(&time, 0, (uint64_t)n_train);
    }
    return 0;
}

/* x0 [1,F,h,w,C] <- the posterior's draw times the scaling factor, or the stored sample. */
static int put_latents(const Dataset *d, const HostBatch *b, int64_t at, Backend *be, Arena *work, const Tensor *x0,
                       Err *err)
{
    int64_t n = latent_count(d), mark = arena_mark(work);
    Tensor moments, eps;
    int rc;

    if (b->kind[at] == RECORD_SAMPLE)
        return backend_put_f32(be, x0, b->moments + at * 2 * n, err);
    if ((rc = arena_tensor(work, &moments, x0->dtype, 5, err, 1, d->F, d->h, d->w, 2 * d->C)) < 0 ||
        (rc = arena_tensor(work, &eps, x0->dtype, 5, err, 1, d->F, d->h, d->w, d->C)) < 0 ||
        (rc = backend_put_f32(be, &moments, b->moments + at * 2 * n, err)) < 0 ||
        (rc = backend_put_f32(be, &eps, b->draw + at * n, err)) < 0)
        return rc;
    rc = op_posterior(be, x0, &moments, &eps, d->scale, err);
    arena_reset(work, mark);
    return rc;
}

int batch_put(const Dataset *d, const HostBatch *b, Backend *be, Arena *work, TrainBatch *out, Err *err)
{
    DType wide = dtype_wide(be->act);
    int rc;

    out->timestep = b->timestep;
    if ((rc = arena_tensor(work, &out->x0, wide, 5, err, b->n, d->F, d->h, d->w, d->C)) < 0 ||
        (rc = arena_tensor(work, &out->noise, wide, 5, err, b->n, d->F, d->h, d->w, d->C)) < 0 ||
        (rc = arena_tensor(work, &out->text, be->act, 3, err, b->n, d->text_len, d->text_dim)) < 0)
        return rc;
    for (int64_t i = 0; i < b->n; i++) {
        Tensor x0 = tensor_rows(&out->x0, i, 1);
        if ((rc = put_latents(d, b, i, be, work, &x0, err)) < 0)
            return rc;
    }
    rc = backend_put_f32(be, &out->noise, b->noise, err);
    return rc < 0 ? rc : backend_put_f32(be, &out->text, b->text, err);
}
