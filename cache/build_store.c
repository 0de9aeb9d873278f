/* Encodes and stores what the cache lacks: texts first, then clips. */
#include <string.h>
#include "cache/build_internal.h"
#include "common/base/confine.h"
#include "common/base/machine.h"
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
        rc = cache_get_clip_unjudged(t, id, out, err);
    cache_end(&t);
    return rc < 0 ? rc : 0;
}

/* ---- a clip's entry -------------------------------------------------------------------------- */

uint64_t build_names(const json_t *entry)
{
    const json_t *texts = json_object_get(entry, "texts"), *tokens = json_object_get(entry, "tokens");
    uint64_t h = hash_xxh3(json_string_value(json_object_get(entry, "latents")), 64);
    for (size_t k = 0; k < json_array_size(texts); k++)
        h = hash_xxh3_seeded(json_string_value(json_array_get(texts, k)), 64, h);
    for (size_t k = 0; k < json_array_size(tokens); k++)
        h = hash_xxh3_seeded(json_string_value(json_array_get(tokens, k)), 64, ~h);
    return h;
}

uint64_t build_names_wanted(const Build *b, const PreparedClip *c, const Digest *latents)
{
    char hex[65];
    digest_hex(latents, hex);
    uint64_t h = hash_xxh3(hex, 64);
    for (int64_t k = 0; k < c->n_text; k++) {
        digest_hex(&b->text_key[c->text[k]], hex);
        h = hash_xxh3_seeded(hex, 64, h);
    }
    for (int64_t k = 0; k < c->n_text; k++) {
        digest_hex(&b->token_key[c->text[k]], hex);
        h = hash_xxh3_seeded(hex, 64, ~h);
    }
    return h;
}

static void write_keys(JsonWriter *w, const char *name, const PreparedClip *c, const Digest *keys)
{
    jsonw_open_array(w, name);
    for (int64_t k = 0; k < c->n_text; k++)
        jsonw_hex(w, NULL, &keys[c->text[k]]);
    jsonw_close(w);
}

int build_clip_facts(const Build *b, const PreparedClip *c, const Digest *latents, const char *file_sha256,
                     json_t **out, Err *err)
{
    Tensor t = encoding_latents_shape(b->e, c);
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_hex(&w, "latents", latents);
    write_keys(&w, "texts", c, b->text_key);
    write_keys(&w, "tokens", c, b->token_key);
    jsonw_open_array(&w, "captions");
    for (int64_t k = 0; k < c->n_text; k++)
        jsonw_str(&w, NULL, prepared_caption(c, k));
    jsonw_close(&w);
    jsonw_share(&w, "split", c->split);
    jsonw_share(&w, "category", c->category);
    jsonw_share(&w, "attributes", c->attributes);
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
    jsonw_str(&w, "text_encoder_sha256", b->e->text_sha256);
    return jsonw_finish(&w, out, "a clip's entry", err);
}

int build_has_entry(Build *b, CacheTxn *t, const PreparedClip *c, const Digest *latents, int *has, Err *err)
{
    char file_sha256[65];
    JsonSpan entry;
    Err damage = {0};
    json_t *facts = NULL;
    *has = 0;
    int rc = cache_get_clip_text(t, c->id, &entry, &damage);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "%s", damage.msg);
    if (rc != 1 || !seen_get(&b->seen, c->path, file_sha256))
        return 0;
    rc = build_clip_facts(b, c, latents, file_sha256, &facts, err);
    char *text = rc == 0 ? json_canonical(facts, err) : NULL;
    if (text)
        *has = strlen(text) == (size_t)entry.size && memcmp(text, entry.at, (size_t)entry.size) == 0;
    json_decref(facts);
    mem_free(text);
    return rc == 0 && !text ? ERR_NOMEM : rc;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* Replaces the message of the operation that was stopped. */
static int interrupted(int64_t done, int64_t all, const char *what, Err *err)
{
    err_clear(err);
    return err_set(err, ERR_INTERRUPTED,
                   "stopped after %" PRId64 " of %" PRId64 " %s; the same command goes on from there", done, all, what);
}

static void note_memory(Build *b)
{
    int64_t used = machine_memory_used();
    b->peak = used > b->peak ? used : b->peak;
}

/* Reads text i into t when one of its records is missing, and stores its ids; *have: whether its embedding is stored.
 * padded: room for the ids. */
static int store_tokens(Build *b, int64_t i, PreparedText *t, int32_t *padded, int *have, Err *err)
{
    Tensor ids = tensor_of(padded, DT_I32, 1, b->p->form.length), shape = encoding_text_shape(b->e);
    int have_ids, rc = build_have_record(b, CACHE_TOKENS, &b->token_key[i], RECORD_TOKENS, &ids, &have_ids, err);
    if (rc == 0)
        rc = build_have_record(b, CACHE_TEXT, &b->text_key[i], RECORD_TEXT, &shape, have, err);
    if (rc < 0 || (have_ids && *have))
        return rc;
    rc = prepared_text(b->p, i, t, err);
    if (rc == 0 && !have_ids) {
        prepared_pad(t, &b->p->form, padded);
        rc = writer_record(b->writer, CACHE_TOKENS, &b->token_key[i], RECORD_TOKENS, &ids, err);
    }
    if (rc == 0 && !*have && t->cut > 0)
        log_warn(b->params->log,
                 "caption \"%.60s...\": its last %" PRId64 " tokens do not fit in %" PRId64 " and are cut off: '%s'",
                 t->text, t->cut, b->p->form.length, t->cut_text);
    return rc;
}

/* A text on its way to the encoder. */
typedef struct Waiting {
    int64_t number;
    PreparedText text;
} Waiting;

/* Encodes n texts in one pass over the weights. */
static int encode_texts(Build *b, const Waiting *w, int64_t n, Err *err)
{
    const PreparedText **texts = mem_calloc(n, sizeof *texts, err);
    Tensor value;
    int rc = texts ? 0 : ERR_NOMEM;
    for (int64_t k = 0; rc == 0 && k < n; k++)
        texts[k] = &w[k].text;
    if (rc == 0 && !b->encoder)
        rc = encoder_open_text(&b->encoder, b->e, err);
    if (rc == 0)
        rc = encoder_pass(b->encoder, texts, n, err);
    note_memory(b);
    for (int64_t k = 0; rc == 0 && k < n; k++) {
        if ((rc = encoder_passed(b->encoder, k, &value, err)) < 0)
            rc = err_wrap(err, rc, "encoding \"%.60s\"", texts[k]->text);
        if (rc == 0)
            rc = writer_record(b->writer, CACHE_TEXT, &b->text_key[w[k].number], RECORD_TEXT, &value, err);
    }
    b->computed += rc == 0 ? n : 0;
    mem_free(texts);
    return rc;
}

int build_store_texts(Build *b, Err *err)
{
    int64_t pass = encoding_pass_texts(b->e), n = 0, done = 0;
    Waiting *missing = mem_calloc(pass, sizeof *missing, err);
    int32_t *padded = mem_calloc(b->p->form.length, sizeof *padded, err);
    Progress *bar = progress_start(b->params->log, "texts", "texts", b->p->n_text);
    int have, rc = missing && padded ? 0 : ERR_NOMEM;
    for (int64_t i = 0; rc == 0 && i < b->p->n_text; i++) {
        Waiting *w = &missing[n];
        w->number = i;
        rc = interrupt_requested() ? ERR_INTERRUPTED : store_tokens(b, i, &w->text, padded, &have, err);
        if (rc == 0 && !have)
            n++;
        else
            prepared_text_fini(&w->text);
        b->reused += rc == 0 && have;
        if (rc == 0 && n > 0 && (n == pass || i + 1 == b->p->n_text)) {
            rc = encode_texts(b, missing, n, err);
            for (; n > 0; n--)
                prepared_text_fini(&missing[n - 1].text);
        }
        done = rc == 0 ? i + 1 - n : done;
        progress_step(bar, done, NULL);
    }
    if (rc == ERR_INTERRUPTED)
        rc = interrupted(done, b->p->n_text, "texts", err);
    progress_end(&bar);
    encoder_close(&b->encoder);
    for (; missing && n > 0; n--)
        prepared_text_fini(&missing[n - 1].text);
    mem_free(missing);
    mem_free(padded);
    return rc;
}

/* ---- clips ----------------------------------------------------------------------------------- */

/* A clip on its way through the stages. */
typedef struct Step {
    PreparedClip clip;
    Digest latents; /* their key */
    json_t *entry;  /* as stored, or NULL */
    int have;       /* its latents are there */
    int settled;    /* and all else: nothing was read */
    int asked;      /* the reader has it */
    char file_sha256[65];
} Step;

static void step_fini(Step *s)
{
    prepared_clip_fini(&s->clip);
    json_decref(s->entry);
    *s = (Step){0};
}

static int latents_there(Build *b, Step *s, Err *err)
{
    const PreparedClip size = prepared_size(b->p);
    Tensor shape = encoding_latents_shape(b->e, &size);
    s->have = keyset_find(&b->made, &s->latents) >= 0;
    return s->have ? 0 : build_have_record(b, CACHE_LATENTS, &s->latents, b->e->kind, &shape, &s->have, err);
}

/* The first stage: asks the reader for what must be read.  An earlier run that decoded this very
 * file and found its pixels right is trusted. */
static int begin_step(Build *b, int64_t i, Step *s, Err *err)
{
    const PreparedClip *c = &s->clip;
    s->latents = b->clip[i].latents;
    int rc = latents_there(b, s, err);
    s->settled = rc == 0 && s->have && b->clip[i].names == 0;
    if (rc == 0 && !s->settled)
        rc = prepared_clip(b->p, i, &s->clip, err);
    if (rc == 0 && !s->settled)
        rc = get_entry(b, c->id, &s->entry, err);
    if (rc < 0 || s->settled)
        return rc;
    const char *pixels = json_string_value(json_object_get(s->entry, "pixels_sha256"));
    const char *stored = json_string_value(json_object_get(s->entry, "file_sha256")), *trusted = NULL;
    if (s->have && pixels && strcmp(pixels, c->pixels_sha256) == 0)
        trusted = stored;
    if (trusted && seen_get(&b->seen, c->path, s->file_sha256) && strcmp(s->file_sha256, trusted) == 0)
        return 0;
    s->asked = 1;
    return reader_ask(b->reader, c, trusted, err);
}

static int reject(Build *b, const Step *s, const char *reason, Err *err)
{
    const char *id = s->clip.id;
    log_warn(b->params->log, "clip '%s' is left out: %s", id, reason);
    int rc = s->entry ? writer_delete_clip(b->writer, id, err) : 0;
    if (rc == 0 && json_object_set_new(b->rejected, id, json_string(reason)) < 0)
        rc = err_set(err, ERR_NOMEM, "no memory for the list of rejected clips");
    return rc;
}

/* Encodes and packs; faults of the clip itself go to `fault`, all else to err. */
static int encode_clip(Build *b, const Step *s, const uint8_t *rgb, Err *fault, Err *err)
{
    const PreparedClip *c = &s->clip;
    Tensor value;
    int rc = b->encoder ? 0 : encoder_open_clips(&b->encoder, b->e, c, err);
    if (rc < 0)
        return rc;
    double begin = time_now_s(), middle;
    rc = encoder_compute(b->encoder, c, rgb, fault);
    middle = time_now_s();
    if (rc == 0)
        rc = encoder_pack(b->encoder, c, &value, fault);
    b->encode_s += middle - begin;
    b->pack_s += time_now_s() - middle;
    note_memory(b);
    if (rc == 0)
        rc = writer_record(b->writer, CACHE_LATENTS, &s->latents, b->e->kind, &value, err);
    return rc < 0 ? rc : keyset_add(&b->made, &s->latents, err);
}

/* The other stages. */
static int end_step(Build *b, Step *s, Err *err)
{
    const PreparedClip *c = &s->clip;
    ReadClip read = {0};
    Err fault = {0};
    json_t *facts = NULL;
    if (s->settled) {
        b->reused++;
        return 0;
    }
    int have, rc = s->asked ? reader_wait(b->reader, &read, err) : 0;
    b->read_s += read.seconds;
    if (rc == 0 && s->asked)
        memcpy(s->file_sha256, read.file_sha256, 65);
    if (rc == 0 && read.code < 0) {
        reader_done(b->reader);
        return read.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "clip '%s': %s", c->id, read.fault)
                                      : reject(b, s, read.fault, err);
    }
    if (rc == 0 && s->asked)
        seen_put(&b->seen, c->path, s->file_sha256);
    if (rc == 0) /* again: the clip before it may have had the same pixels */
        rc = s->have ? 0 : latents_there(b, s, err);
    have = s->have;
    if (rc == 0 && !have)
        rc = encode_clip(b, s, read.rgb, &fault, err);
    if (s->asked)
        reader_done(b->reader);
    if (rc < 0 && fault.code == rc && rc != ERR_NOMEM && rc != ERR_INTERRUPTED)
        return reject(b, s, fault.msg, err);
    if (rc < 0 && !err->code)
        err_set(err, rc, "%s", fault.msg);
    if (rc == 0)
        rc = build_clip_facts(b, c, &s->latents, s->file_sha256, &facts, err);
    *(have ? &b->reused : &b->computed) += rc == 0;
    if (rc == 0 && !(s->entry && json_equal(s->entry, facts))) {
        rc = writer_clip(b->writer, c->id, facts, err);
        facts = NULL;
    }
    json_decref(facts);
    return rc < 0 ? err_wrap(err, rc, "clip '%s'", c->id) : 0;
}

/* "read 3 %, encode 96 %, pack 0 %, write 2 %": how much of the time since `begin` each stage
 * worked. */
static void show_stages(Build *b, Progress *bar, int64_t done, double begin)
{
    char text[128];
    double spent = time_now_s() - begin, percent = spent > 0 ? 100 / spent : 0;
    snprintf(text, sizeof text, "read %.0f %%, encode %.0f %%, pack %.0f %%, write %.0f %%", percent * b->read_s,
             percent * b->encode_s, percent * b->pack_s, percent * writer_busy(b->writer));
    progress_step(bar, done, text);
}

int build_store_clips(Build *b, Err *err)
{
    Step step[READER_PLACES] = {{.have = 0}};
    int64_t begun = 0, done = 0, n = b->p->n;
    Progress *bar = progress_start(b->params->log, "clips", "clips", n);
    double begin = time_now_s();
    int rc = 0;
    if (n > 0 && !confine_available())
        log_warn(b->params->log, CONFINE_MISSING);
    while (rc == 0 && done < n) {
        if (interrupt_requested())
            rc = ERR_INTERRUPTED;
        while (rc == 0 && begun < n && begun - done < READER_PLACES) {
            rc = begin_step(b, begun, &step[begun % READER_PLACES], err);
            begun++;
        }
        if (rc == 0)
            rc = end_step(b, &step[done % READER_PLACES], err);
        if (rc == 0) {
            step_fini(&step[done % READER_PLACES]);
            show_stages(b, bar, ++done, begin);
        }
    }
    if (rc == ERR_INTERRUPTED)
        rc = interrupted(done, n, "clips", err);
    progress_end(&bar);
    for (int k = 0; k < READER_PLACES; k++)
        step_fini(&step[k]);
    encoder_close(&b->encoder);
    return rc;
}
