/* Encodes and stores what the cache lacks: texts first, then clips. */
#include <string.h>
#include "cache/build_internal.h"
#include "common/base/confine.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/threads.h"

/* ---- what the cache holds -------------------------------------------------------------------- */

int build_have_record(const Build *b, CacheDb db, const Digest *key, RecordKind kind, const Tensor *shape, int *have,
                      Err *err)
{
    *have = 0;
    if (!b->cache)
        return 0;
    CacheTxn *t = NULL;
    RecordView v;
    Err damage = {0};
    int rc = cache_begin(&t, b->cache, err);
    if (rc < 0)
        return rc;
    rc = cache_get_record(t, db, key, 1, &v, &damage);
    if (rc == 1)
        *have = v.kind == kind && v.tensor.dtype == shape->dtype && tensor_same_shape(&v.tensor, shape);
    cache_end(&t);
    if (rc == ERR_FORMAT || rc == ERR_UNSUPPORTED) {
        log_warn(b->params->log, "%s; it is computed again", damage.msg);
        return 0;
    }
    return rc < 0 ? err_set(err, rc, "%s", damage.msg) : 0;
}

static int get_entry(const Build *b, const char *id, json_t **out, Err *err)
{
    *out = NULL;
    CacheTxn *t = NULL;
    int rc = cache_begin(&t, b->cache, err);
    if (rc == 0)
        rc = cache_get_clip(t, id, out, err);
    cache_end(&t);
    return rc < 0 ? rc : 0;
}

int build_same_member(const json_t *a, const json_t *b, const char *key)
{
    return json_equal(json_object_get(a, key), json_object_get(b, key));
}

/* ---- a clip's entry -------------------------------------------------------------------------- */

static void write_keys(JsonWriter *w, const char *name, const PreparedClip *c, const Digest *keys)
{
    jsonw_open_array(w, name);
    for (int64_t i = 0; i < c->n_text; i++)
        jsonw_hex(w, NULL, &keys[c->text[i]]);
    jsonw_close(w);
}

int build_clip_facts(const Build *b, int64_t i, const char *file_sha256, json_t **out, Err *err)
{
    const PreparedClip *c = &b->p->clip[i];
    Tensor t = encoding_latents_shape(b->e, c);
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_hex(&w, "latents", &b->latents_key[i]);
    write_keys(&w, "texts", c, b->text_key);
    write_keys(&w, "tokens", c, b->token_key);
    jsonw_open_array(&w, "captions");
    for (int64_t k = 0; k < c->n_text; k++)
        jsonw_str(&w, NULL, b->p->text[c->text[k]].text);
    jsonw_close(&w);
    jsonw_share(&w, "split", json_object_get(c->line, "split"));
    jsonw_share(&w, "category", json_object_get(c->line, "category"));
    jsonw_share(&w, "attributes", json_object_get(c->line, "attributes"));
    jsonw_int(&w, "frames", c->frames);
    jsonw_int(&w, "height", c->height);
    jsonw_int(&w, "width", c->width);
    jsonw_int(&w, "fps", c->fps);
    jsonw_open(&w, "latent");
    jsonw_int(&w, "frames", t.dim[0]);
    jsonw_int(&w, "height", t.dim[1]);
    jsonw_int(&w, "width", t.dim[2]);
    jsonw_int(&w, "channels", b->e->vae.latent_channels);
    jsonw_close(&w);
    jsonw_str(&w, "pixels_sha256", c->pixels_sha256);
    jsonw_str(&w, "file_sha256", file_sha256);
    jsonw_str(&w, "vae_sha256", b->e->vae_sha256);
    jsonw_str(&w, "text_encoder_sha256", b->e->t5_sha256);
    return jsonw_finish(&w, out, "a clip's entry", err);
}

/* ---- texts ----------------------------------------------------------------------------------- */

static int store_text(Build *b, int64_t i, Err *err)
{
    PreparedText *t = &b->p->text[i];
    Tensor ids = tensor_of(t->ids, DT_I32, 1, b->p->text_length), shape = encoding_text_shape(b->e), value;
    int have, rc = build_have_record(b, CACHE_TOKENS, &b->token_key[i], RECORD_TOKENS, &ids, &have, err);
    if (rc == 0 && !have)
        rc = cache_put_record(b->cache, CACHE_TOKENS, &b->token_key[i], RECORD_TOKENS, &ids, err);
    if (rc == 0)
        rc = build_have_record(b, CACHE_TEXT, &b->text_key[i], RECORD_TEXT, &shape, &have, err);
    if (rc < 0)
        return rc;
    if (have) {
        b->reused++;
        return 0;
    }
    if (!b->encoder && (rc = encoder_open_text(&b->encoder, b->e, err)) < 0)
        return rc;
    if (t->cut > 0)
        log_warn(b->params->log,
                 "caption \"%.60s...\": its last %" PRId64 " tokens do not fit in %" PRId64 " and are cut off: '%s'",
                 t->text, t->cut, b->p->text_length, t->cut_text);
    if ((rc = encoder_text(b->encoder, t, &value, err)) < 0)
        return err_wrap(err, rc, "encoding \"%.60s\"", t->text);
    if ((rc = cache_put_record(b->cache, CACHE_TEXT, &b->text_key[i], RECORD_TEXT, &value, err)) < 0)
        return rc;
    b->computed++;
    return 0;
}

/* Replaces the message of the operation that was stopped. */
static int interrupted(int64_t done, int64_t all, const char *what, Err *err)
{
    err_clear(err);
    return err_set(err, ERR_INTERRUPTED,
                   "stopped after %" PRId64 " of %" PRId64 " %s; the same command goes on from there", done, all, what);
}

int build_store_texts(Build *b, Err *err)
{
    Progress *bar = progress_start(b->params->log, "texts", "texts", b->p->n_text);
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < b->p->n_text; i++) {
        rc = interrupt_requested() ? ERR_INTERRUPTED : store_text(b, i, err);
        if (rc == ERR_INTERRUPTED)
            rc = interrupted(i, b->p->n_text, "texts", err);
        progress_step(bar, i + (rc == 0), NULL);
    }
    progress_end(&bar);
    encoder_close(&b->encoder);
    return rc;
}

/* ---- clips ----------------------------------------------------------------------------------- */

static int read_pixels(Build *b, const PreparedClip *c, const uint8_t **rgb, Err *reason, Err *err)
{
    if (!b->decoder && !confine_available())
        log_warn(b->params->log, CONFINE_MISSING);
    int rc = b->decoder ? 0 : clip_decoder_open(&b->decoder, b->params->recipe, prepared_rgb_bytes(b->p), err);
    return rc == 0 ? clip_decode(b->decoder, c, rgb, reason) : rc;
}

/* Faults of the clip itself go to `reason` (the run goes on without it), all else to err. */
static int store_latents(Build *b, int64_t i, int trusted, Err *reason, Err *err)
{
    const PreparedClip *c = &b->p->clip[i];
    Tensor shape = encoding_latents_shape(b->e, c), value;
    const uint8_t *rgb = NULL;
    int have, rc = build_have_record(b, CACHE_LATENTS, &b->latents_key[i], b->e->kind, &shape, &have, err);
    if (rc == 0 && !(trusted && have))
        rc = read_pixels(b, c, &rgb, reason, err);
    if (rc == 0 && !have && !b->encoder)
        rc = encoder_open_clips(&b->encoder, b->e, c, err);
    if (rc == 0 && !have)
        rc = encoder_clip(b->encoder, c, rgb, &value, reason);
    if (rc == 0 && !have)
        rc = cache_put_record(b->cache, CACHE_LATENTS, &b->latents_key[i], b->e->kind, &value, err);
    if (rc == 0 && have)
        b->reused++;
    if (rc == 0 && !have)
        b->computed++;
    return rc;
}

static int reject(Build *b, const PreparedClip *c, const Err *reason, Err *err)
{
    json_t *entry = NULL;
    log_warn(b->params->log, "clip '%s' is left out: %s", c->id, reason->msg);
    int rc = get_entry(b, c->id, &entry, err);
    if (rc == 0 && entry)
        rc = cache_delete_clip(b->cache, c->id, err);
    json_decref(entry);
    if (rc == 0 && json_object_set_new(b->rejected, c->id, json_string(reason->msg)) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the list of rejected clips");
    return rc;
}

static int store_clip(Build *b, int64_t i, Err *err)
{
    const PreparedClip *c = &b->p->clip[i];
    json_t *entry = NULL, *facts = NULL;
    char file_sha256[65];
    Err reason = {0};
    int rc = sha256_file_hex(c->path, file_sha256, &reason);
    if (rc == 0)
        rc = get_entry(b, c->id, &entry, err);
    if (rc == 0)
        rc = build_clip_facts(b, i, file_sha256, &facts, err);
    /* an earlier run decoded this very file and found its pixels right */
    int trusted = entry && build_same_member(entry, facts, "file_sha256") &&
                  build_same_member(entry, facts, "pixels_sha256");
    if (rc == 0)
        rc = store_latents(b, i, trusted, &reason, err);
    if (rc == 0 && !(entry && json_equal(entry, facts)))
        rc = cache_put_clip(b->cache, c->id, facts, err);
    json_decref(entry);
    json_decref(facts);
    if (rc < 0 && reason.code == rc && rc != ERR_NOMEM && rc != ERR_INTERRUPTED)
        return reject(b, c, &reason, err);
    if (rc < 0 && !err->code)
        err_set(err, rc, "%s", reason.msg);
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", c->id) : 0;
}

int build_store_clips(Build *b, Err *err)
{
    Progress *bar = progress_start(b->params->log, "clips", "clips", b->p->n);
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < b->p->n; i++) {
        rc = interrupt_requested() ? ERR_INTERRUPTED : store_clip(b, i, err);
        if (rc == ERR_INTERRUPTED)
            rc = interrupted(i, b->p->n, "clips", err);
        progress_step(bar, i + (rc == 0), NULL);
    }
    progress_end(&bar);
    encoder_close(&b->encoder);
    clip_decoder_close(&b->decoder);
    return rc;
}
