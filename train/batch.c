/* Batches: records and draws in host memory, then on the back end. */
#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "train/dataset_internal.h"
#include "train/draws.h"

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

/* Reads a sample and makes its draws into place `at` of the batch. */
static int read_sample(const Dataset *d, HostBatch *b, CacheTxn *t, const Sample *s, const SampleDraws *draws,
                       int64_t at, Err *err)
{
    int64_t n = latent_count(d);
    const Digest *text;
    RecordView r;
    int rc;

    if ((rc = dataset_get_record(t, CACHE_LATENTS, &s->latents, 1, s, &r, err)) < 0)
        return rc;
    b->kind[at] = r.kind;
    to_host(b->moments + at * 2 * n, &r.tensor, r.kind == RECORD_SAMPLE ? d->scale : 1.0);
    if (r.kind == RECORD_MOMENTS)
        philox_fill_normal(&draws->posterior, 0, b->draw + at * n, n);
    philox_fill_normal(&draws->noise, 0, b->noise + at * n, n);
    text = draws->caption == SAMPLE_NO_CAPTION ? &d->empty[s->cache] : &s->text[draws->caption];
    if ((rc = dataset_get_record(t, CACHE_TEXT, text, 1, s, &r, err)) < 0)
        return rc;
    to_host(b->text + at * d->text_len * d->text_dim, &r.tensor, 1.0);
    b->timestep[at] = draws->timestep;
    return 0;
}

int batch_read_one(const Dataset *d, HostBatch *b, const Sample *s, const SampleDraws *draws, Err *err)
{
    CacheTxn *t = NULL;
    int rc = cache_begin(&t, d->cache[s->cache], err);

    b->n = 1;
    b->sample[0] = -1;
    if (rc == 0)
        rc = read_sample(d, b, t, s, draws, 0, err);
    cache_end(&t);
    return rc;
}

int batch_read(const Dataset *d, const Draws *r, HostBatch *b, int64_t epoch, const int64_t *entry, int64_t n,
               int64_t n_train, Err *err)
{
    if (n < 1 || n > b->room)
        return err_set(err, ERR_USAGE, "a batch of %" PRId64 " samples, expected 1 to %" PRId64, n, b->room);
    b->n = n;
    for (int64_t i = 0; i < n; i++) {
        const Sample *s = &d->sample[entry[i] % d->n];
        SampleDraws draws = draws_of(r, d, epoch, entry[i], n_train);
        CacheTxn *t = NULL;
        int rc = cache_begin(&t, d->cache[s->cache], err);
        if (rc == 0)
            rc = read_sample(d, b, t, s, &draws, i, err);
        cache_end(&t);
        if (rc < 0)
            return rc;
        b->sample[i] = entry[i] % d->n;
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
