/* Files of latents: the partial file of a stopped sample, and the file of --latents-out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/model/latents.h"
#include "infer/sample_internal.h"

typedef struct LatentShape {
    int64_t F, C, h, w, n;
} LatentShape;

static LatentShape latent_shape(const Run *r)
{
    LatentShape s = {.F = r->s.latent_frames,
                     .C = r->sizes.latent_channels,
                     .h = r->sizes.latent_height,
                     .w = r->sizes.latent_width};
    s.n = s.F * s.C * s.h * s.w;
    return s;
}

static char *partial_path(const Run *r, const char *id, Err *err)
{
    return sample_path(r, id, ".partial.safetensors", err);
}

int partial_exists(const Run *r, const char *id)
{
    char *path = partial_path(r, id, NULL);
    int there = path && file_exists(path);
    mem_free(path);
    return there;
}

int partial_remove(const Run *r, const char *id, Err *err)
{
    char *path = partial_path(r, id, err);
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && unlink(path) < 0 && errno != ENOENT)
        rc = err_errno(err, errno, "removing '%s'", path);
    mem_free(path);
    return rc;
}

/* ---- a sample that was stopped --------------------------------------------------------------- */

int partial_write(const Run *r, const Job *job, const Denoising *d, Err *err)
{
    LatentShape s = latent_shape(r);
    char *path = partial_path(r, job->prompt->id, err), step[24], draws[24];
    float *torch = mem_calloc(2 * s.n, sizeof *torch, err);
    snprintf(step, sizeof step, "%" PRId64, d->step);
    snprintf(draws, sizeof draws, "%" PRId64, d->draws);
    json_t *meta = json_pack("{s:s, s:s, s:s, s:s}", "format", "pt", "key", job_key(job), "step", step, "noise_draws",
                             draws);
    int rc = path && torch ? 0 : ERR_NOMEM;
    if (rc == 0 && !meta)
        rc = err_set(err, ERR_NOMEM, "no memory for '%s'", path);
    if (rc == 0) {
        SafeSource source[2] = {{"latents", tensor_of(torch, DT_F32, 5, 1, s.F, s.C, s.h, s.w)},
                                {"previous_x0", tensor_of(torch + s.n, DT_F32, 5, 1, s.F, s.C, s.h, s.w)}};
        latents_to_torch(torch, d->latents, s.F, s.C, s.h, s.w);
        latents_to_torch(torch + s.n, d->older, s.F, s.C, s.h, s.w);
        int with_older = d->has_older && d->step < job->steps;
        rc = safetensors_write(path, source, with_older ? 2 : 1, meta, err);
    }
    json_decref(meta);
    mem_free(torch);
    mem_free(path);
    return rc;
}

/* A tensor of the latents' shape, or NULL. */
static const float *find_latents(const Run *r, const SafeTensors *file, const char *name)
{
    LatentShape s = latent_shape(r);
    const SafeEntry *e = file ? safetensors_find(file, name) : NULL;
    Tensor want = tensor_of(NULL, DT_F32, 5, 1, s.F, s.C, s.h, s.w);
    int fits = e && e->tensor.dtype == DT_F32 && tensor_same_shape(&e->tensor, &want) &&
               (uintptr_t)e->tensor.data % sizeof(float) == 0;
    return fits ? e->tensor.data : NULL;
}

static int64_t meta_number(const SafeTensors *file, const char *key)
{
    const char *text = safetensors_meta(file, key);
    char *end = NULL;
    long long n = text ? strtoll(text, &end, 10) : -1;
    return text && end != text && !*end ? n : -1;
}

/* Reads a partial file into *d; 0 when the file is damaged. */
static int read_state(const Run *r, const Job *job, const SafeTensors *file, Denoising *d)
{
    LatentShape s = latent_shape(r);
    const float *x = find_latents(r, file, "latents"), *older = find_latents(r, file, "previous_x0");
    int64_t step = meta_number(file, "step"), draws = meta_number(file, "noise_draws");
    int needs_older = r->s.sampler == SAMPLER_DPM && step < job->steps;
    if (!x || step < 1 || step > job->steps || draws < 1 || draws > 2 * step + 1 || (needs_older && !older))
        return 0;
    latents_from_torch(d->latents, x, s.F, s.C, s.h, s.w);
    if (older)
        latents_from_torch(d->older, older, s.F, s.C, s.h, s.w);
    d->has_older = older != NULL;
    d->step = step;
    d->draws = draws;
    return 1;
}

int partial_check(const Run *r, const Job *job, Err *err)
{
    char *path = partial_path(r, job->prompt->id, err);
    SafeTensors *file = NULL;
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(path) && safetensors_open(&file, path, NULL) == 0) {
        const char *key = safetensors_meta(file, "key");
        if (key && strcmp(key, job_key(job)) != 0)
            rc = err_set(err, ERR_USAGE,
                         "'%s' is an unfinished sample of another prompt, seed, model or settings; choose another "
                         "--out or give --overwrite",
                         path);
    }
    safetensors_close(&file);
    mem_free(path);
    return rc;
}

int partial_read(const Run *r, const Job *job, Denoising *d, Err *err)
{
    char *path = partial_path(r, job->prompt->id, err);
    SafeTensors *file = NULL;
    Err damage = {0};
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(path)) {
        rc = safetensors_open(&file, path, &damage);
        const char *key = rc == 0 ? safetensors_meta(file, "key") : NULL;
        int other = key && strcmp(key, job_key(job)) != 0; /* with --overwrite, else refused */
        if (rc == ERR_NOMEM)
            err_set(err, rc, "%s", damage.msg);
        else if (!(rc = key && !other && read_state(r, job, file, d)) && !other)
            log_warn(r->log, "'%s' is damaged; the sample is made from its first step", path);
    }
    safetensors_close(&file);
    mem_free(path);
    return rc;
}

int partial_finished(const Run *r, const Job *job)
{
    char *path = partial_path(r, job->prompt->id, NULL);
    SafeTensors *file = NULL;
    int finished = 0;
    if (path && file_exists(path) && safetensors_open(&file, path, NULL) == 0) {
        const char *key = safetensors_meta(file, "key");
        finished = key && strcmp(key, job_key(job)) == 0 && find_latents(r, file, "latents") &&
                   meta_number(file, "step") == job->steps;
    }
    safetensors_close(&file);
    mem_free(path);
    return finished;
}

/* ---- the file of --latents-out --------------------------------------------------------------- */

static int latents_hold(const Run *r, const SafeTensors *kept, const Job *job)
{
    const char *key = find_latents(r, kept, job->prompt->id) ? safetensors_meta(kept, job->prompt->id) : NULL;
    return key && strcmp(key, job_key(job)) == 0;
}

/* The name of a tensor that this run would not write with the same values, or NULL. */
static const char *foreign_latents(const Run *r, const SafeTensors *kept)
{
    json_t *ours = json_object();
    const char *foreign = NULL;
    for (int64_t i = 0; i < r->prompts.n; i++)
        if (r->job[i].latents_kept)
            json_object_set_new(ours, r->prompts.item[i].id, json_true());
    for (int64_t i = 0; i < safetensors_count(kept) && !foreign; i++)
        if (!json_object_get(ours, safetensors_at(kept, i)->name))
            foreign = safetensors_at(kept, i)->name;
    json_decref(ours);
    return foreign;
}

int latents_find_kept(Run *r, Err *err)
{
    SafeTensors *kept = NULL;
    if (!r->o->latents_out || !file_exists(r->o->latents_out))
        return 0;
    int rc = safetensors_open(&kept, r->o->latents_out, err);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++)
        r->job[i].latents_kept = latents_hold(r, kept, &r->job[i]);
    const char *foreign = rc == 0 && !r->o->overwrite ? foreign_latents(r, kept) : NULL;
    if (foreign)
        rc = err_set(err, ERR_USAGE,
                     "'%s' holds latents ('%s') that are not of this run's samples; give another --latents-out or "
                     "--overwrite",
                     r->o->latents_out, foreign);
    safetensors_close(&kept);
    return rc;
}

/* Where each tensor comes from: an earlier latents file, or a partial file that is open one at a
 * time. */
typedef struct LatentsSource {
    const Run *r;
    SafeTensors *kept, *open;
} LatentsSource;

static int fetch_latents(void *user, int64_t i, const void **data, Err *err)
{
    LatentsSource *from = user;
    const Job *job = &from->r->job[i];
    if (job->latents_kept) {
        *data = safetensors_find(from->kept, job->prompt->id)->tensor.data;
        return 0;
    }
    safetensors_close(&from->open);
    char *path = partial_path(from->r, job->prompt->id, err);
    int rc = path ? safetensors_open(&from->open, path, err) : ERR_NOMEM;
    if (rc == 0 && !(*data = find_latents(from->r, from->open, "latents")))
        rc = err_set(err, ERR_FORMAT, "'%s' changed while it was in use", path);
    mem_free(path);
    return rc;
}

int latents_write(const Run *r, Err *err)
{
    LatentShape s = latent_shape(r);
    LatentsSource from = {.r = r};
    SafeSource *source = mem_calloc(r->prompts.n, sizeof *source, err);
    json_t *keys = json_object();
    int pending = 0, rc = source ? 0 : ERR_NOMEM;
    if (rc == 0 && !keys)
        rc = err_set(err, ERR_NOMEM, "no memory for the latents file");
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++) {
        source[i] = (SafeSource){r->prompts.item[i].id, tensor_of(NULL, DT_F32, 5, 1, s.F, s.C, s.h, s.w)};
        if (json_object_set_new(keys, r->prompts.item[i].id, json_string(job_key(&r->job[i]))) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the latents file");
        pending |= !r->job[i].latents_kept;
    }
    if (rc == 0 && file_exists(r->o->latents_out))
        rc = safetensors_open(&from.kept, r->o->latents_out, err);
    if (rc == 0 && (pending || safetensors_count(from.kept) != r->prompts.n))
        rc = safetensors_write_from(r->o->latents_out, source, r->prompts.n, keys, fetch_latents, &from, err);
    for (int64_t i = 0; rc == 0 && i < r->prompts.n; i++)
        if (!r->job[i].latents_kept)
            rc = partial_remove(r, r->prompts.item[i].id, err);
    safetensors_close(&from.open);
    safetensors_close(&from.kept);
    json_decref(keys);
    mem_free(source);
    return rc;
}
