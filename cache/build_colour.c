/* The meta entry "colour": how latents look (common/model/latent_colour.h), from the first clips of split
 * train.  Fitted when these clips' latents have changed, so that an interrupted build, run again, ends with
 * the same entry. */
#include <string.h>
#include "cache/build_internal.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/threads.h"
#include "common/model/latent_colour.h"

enum { CLIPS = 8 }; /* at most: eight clips of 13 x 90 x 60 latents are half a million points */

typedef struct Fit {
    Build *b;
    PreparedClip clip[CLIPS];
    Digest latents[CLIPS];
    int64_t n;
    json_t *keys; /* of their latents, as text */
    ClipDecoder *decoder;
    ColourFit sums;
} Fit;

static int choose(Fit *f, Err *err)
{
    Prepared *p = f->b->p;
    char hex[65];
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < p->n && f->n < CLIPS; i++) {
        PreparedClip *c = &f->clip[f->n];
        rc = prepared_clip(p, i, c, err);
        const char *split = json_string_value(c->split);
        if (rc < 0 || json_object_get(f->b->rejected, c->id) || (split && strcmp(split, "train") != 0)) {
            prepared_clip_fini(c);
            continue;
        }
        rc = encoding_latents_key(f->b->e, c, &f->latents[f->n], err);
        digest_hex(&f->latents[f->n++], hex);
        if (rc == 0 && json_array_append_new(f->keys, json_string(hex)) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the clips' keys");
    }
    return rc;
}

static int is_there(const Fit *f, int *there, Err *err)
{
    CacheTxn *t = NULL;
    json_t *old = NULL;
    int rc = cache_begin(&t, f->b->cache, err);
    *there = rc == 0 && cache_get_meta(t, "colour", &old, NULL) > 0 &&
             json_equal(json_object_get(old, "clips"), f->keys);
    cache_end(&t);
    json_decref(old);
    return rc;
}

/* Adds clip k, of these pixels, with its latents as the cache holds them. */
static int add_latents(Fit *f, int64_t k, const uint8_t *rgb, Err *err)
{
    const PreparedClip *c = &f->clip[k];
    CacheTxn *t = NULL;
    RecordView r;
    float *values = NULL;
    int rc = cache_begin(&t, f->b->cache, err);
    if (rc == 0 && (rc = cache_get_record(t, CACHE_LATENTS, &f->latents[k], 1, &r, err)) == 0)
        rc = err_set(err, ERR_NOTFOUND, "the latents of '%s' are missing", c->id);
    if (rc > 0)
        rc = (values = mem_calloc(tensor_count(&r.tensor), sizeof *values, err)) ? 0 : ERR_NOMEM;
    if (rc == 0) {
        const int64_t *dim = r.tensor.dim;
        for (int64_t i = 0; i < tensor_count(&r.tensor); i++)
            values[i] = (float)tensor_get(&r.tensor, i);
        rc = colour_fit_add(&f->sums,
                            &(ColourClip){.latents = values,
                                          .stride = dim[3],
                                          .F = dim[0],
                                          .h = dim[1],
                                          .w = dim[2],
                                          .ratio = f->b->e->vae.temporal_ratio,
                                          .rgb = rgb,
                                          .frames = c->frames,
                                          .height = c->height,
                                          .width = c->width},
                            err);
    }
    cache_end(&t);
    mem_free(values);
    return rc;
}

static int fit(Fit *f, LatentColour *out, Err *err)
{
    int rc = colour_fit_begin(&f->sums, f->b->e->vae.latent_channels, err);
    if (rc == 0)
        rc = clip_decoder_open(&f->decoder, f->b->params->recipe, f->b->p->rgb_bytes, err);
    for (int64_t k = 0; rc == 0 && k < f->n; k++) {
        const uint8_t *rgb = NULL;
        if (interrupt_requested())
            return err_set(err, ERR_INTERRUPTED,
                           "stopped while colours were fitted; the same command goes on from there");
        rc = clip_decode(f->decoder, &f->clip[k], &rgb, err);
        if (rc == 0)
            rc = add_latents(f, k, rgb, err);
    }
    return rc == 0 ? colour_fit_end(&f->sums, out, err) : rc;
}

static int put(const Fit *f, const LatentColour *m, Err *err)
{
    json_t *value = NULL;
    int rc = latent_colour_json(m, &value, err);
    if (rc == 0 && json_object_set(value, "clips", f->keys) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the meta entry 'colour'");
    if (rc == 0)
        rc = cache_put_meta(f->b->cache, "colour", value, err);
    json_decref(value);
    return rc;
}

/* An entry that was fitted to other clips' latents says nothing of these. */
static int forget(Build *b, Err *err)
{
    CacheTxn *t = NULL;
    json_t *old = NULL;
    int rc = cache_begin(&t, b->cache, err), found = rc == 0 ? cache_get_meta(t, "colour", &old, err) : rc;
    cache_end(&t);
    json_decref(old);
    return found > 0 ? cache_delete_meta(b->cache, "colour", err) : found;
}

static int renew(Fit *f, Err *err)
{
    LatentColour m;
    Err why = {0};
    int rc = forget(f->b, err);
    if (rc < 0 || f->n == 0)
        return rc;
    rc = fit(f, &m, &why);
    if (rc == 0)
        return put(f, &m, err);
    if (rc == ERR_NOMEM || rc == ERR_INTERRUPTED)
        return err_set(err, rc, "%s", why.msg);
    /* pictures are a help, not what the cache is for */
    log_warn(f->b->params->log, "pictures of latents will not be possible: %s", why.msg);
    return 0;
}

int build_fit_colour(Build *b, Err *err)
{
    Fit *f = mem_calloc(1, sizeof *f, err);
    int rc = f ? 0 : ERR_NOMEM, there = 0;
    if (rc < 0)
        return rc;
    f->b = b;
    if (!(f->keys = json_array()))
        rc = err_set(err, ERR_NOMEM, "no memory for the clips' keys");
    if (rc == 0)
        rc = choose(f, err);
    if (rc == 0)
        rc = is_there(f, &there, err);
    if (rc == 0 && !there)
        rc = renew(f, err);
    clip_decoder_close(&f->decoder);
    for (int k = 0; k < CLIPS; k++)
        prepared_clip_fini(&f->clip[k]);
    json_decref(f->keys);
    mem_free(f);
    return rc;
}
