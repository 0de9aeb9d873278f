/* The order of writing makes a killed run harmless: first, clip entries that do not belong to this
 * dataset, recipe and weights are deleted; then the meta entries are written, which state what the
 * cache is about to hold; then the records, and each clip's entry after the records that it names.
 * */
#include "cache/build_internal.h"
#include <string.h>
#include "cache/diff.h"
#include "cache/prompts.h"
#include "cache/text_form.h"
#include "cache/tokens.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/str.h"

/* ---- checks and keys ------------------------------------------------------------------------- */

static int check_size(const Build *b, Err *err)
{
    const Recipe *r = b->params->recipe;
    int64_t frames = recipe_int(r, "clip.model_frames"), height = recipe_int(r, "clip.height"),
            width = recipe_int(r, "clip.width");
    const PreparedClip first = prepared_size(b->p);
    int fits = first.frames == frames && first.height == height && first.width == width;
    int64_t other = fits ? b->p->other_size : 0;
    PreparedClip c;
    if (b->p->n == 0 || other < 0)
        return 0;
    int rc = prepared_clip(b->p, other, &c, err);
    if (rc == 0)
        rc = err_set(err, ERR_USAGE,
                     "clip '%s' has %" PRId64 " frames of %" PRId64 "x%" PRId64 ", the recipe says %" PRId64
                     " of %" PRId64 "x%" PRId64 ": use the recipe that weft-prep ingest was run with",
                     c.id, c.frames, c.width, c.height, frames, width, height);
    prepared_clip_fini(&c);
    return rc;
}

/* Of RGB; check_size holds all clips to it. */
static int64_t clip_bytes(const Recipe *r)
{
    return recipe_int(r, "clip.model_frames") * recipe_int(r, "clip.height") * recipe_int(r, "clip.width") * 3;
}

static int make_text_keys(Build *b, Err *err)
{
    b->text_key = mem_calloc(b->p->n_text, sizeof *b->text_key, err);
    b->token_key = mem_calloc(b->p->n_text, sizeof *b->token_key, err);
    int rc = b->text_key && b->token_key ? 0 : ERR_NOMEM;
    for (int64_t k = 0; rc == 0 && k < b->p->n_text; k++) {
        PreparedText t;
        rc = prepared_text(b->p, k, &t, err);
        if (rc == 0)
            rc = encoding_text_key(b->e, &t, &b->text_key[k], err);
        if (rc == 0)
            rc = encoding_tokens_key(b->e, t.text, &b->token_key[k], err);
        prepared_text_fini(&t);
    }
    return rc;
}

/* Whether the entry names the records that the clip's must name; one that cannot be parsed does not. */
static int is_wanted(const ClipPlan *clip, JsonSpan entry, int *wanted, Err *err)
{
    json_t *json = NULL;
    Err damage = {0};
    *wanted = clip->names == 0;
    if (!*wanted && json_parse(&json, entry.at, entry.size, "entry", &damage) == ERR_NOMEM)
        return err_set(err, ERR_NOMEM, "%s", damage.msg);
    if (json)
        *wanted = build_names(json) == clip->names;
    json_decref(json);
    return 0;
}

/* Deletes the clip entries that are not wanted: clips that the dataset no longer has, and clips whose records
 * come from other pixels, weights or settings. */
static int drop_stale(Build *b, Err *err)
{
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    const char *id;
    JsonSpan text;
    int64_t n = 0;
    int rc = cache_begin(&t, b->cache, err);
    while (rc >= 0) {
        Err damage = {0};
        int64_t at;
        int kept = 0;
        rc = cache_next_clip_text(t, &cursor, &id, &text, &damage);
        if (rc == 0)
            break;
        if (rc < 0 && rc != ERR_FORMAT)
            err_set(err, rc, "%s", damage.msg);
        if (rc < 0 && rc != ERR_FORMAT)
            break;
        int sound = rc == 1;
        rc = prepared_find_clip(b->p, id, &at, err);
        if (rc == 0 && sound && at >= 0)
            rc = is_wanted(&b->clip[at], text, &kept, err);
        if (rc == 0 && !kept)
            rc = cache_delete_found(b->cache, cursor, err);
        n += rc == 0 && !kept;
    }
    cache_cursor_free(&cursor);
    cache_end(&t);
    if (rc == 0 && n > 0)
        log_info(b->params->log,
                 "entries dropped: %" PRId64 ", made from other pixels, weights or settings, or of clips that the "
                 "dataset no longer has",
                 n);
    return rc;
}

/* Those whose names are damaged no build would write again. */
static int drop_damaged_meta(Build *b, Err *err)
{
    CacheTxn *t = NULL;
    CacheCursor *cursor = NULL;
    const char *key;
    json_t *value;
    int found = 1, rc = cache_begin(&t, b->cache, err);
    while (rc == 0 && found != 0) {
        Err damage = {0};
        found = cache_next_meta(t, &cursor, &key, &value, &damage);
        json_decref(value);
        if (found == ERR_FORMAT) {
            log_warn(b->params->log, "%s; it is dropped", damage.msg);
            rc = cache_delete_found(b->cache, cursor, err);
        } else if (found < 0) {
            rc = err_set(err, found, "%s", damage.msg);
        }
    }
    cache_cursor_free(&cursor);
    cache_end(&t);
    return rc;
}

/* Takes over `value`; writes it unless the entry has this value already. */
static int put_meta(Build *b, const char *key, json_t *value, Err *err)
{
    if (!value)
        return err_set(err, ERR_NOMEM, "no memory for the meta entry '%s'", key);
    CacheTxn *t = NULL;
    json_t *old = NULL;
    int rc = cache_begin(&t, b->cache, err);
    if (rc == 0 && cache_get_meta(t, key, &old, NULL) < 0)
        old = NULL; /* an entry that cannot be read is written again */
    cache_end(&t);
    if (rc == 0 && !(old && json_equal(old, value)))
        rc = cache_put_meta(b->cache, key, value, err);
    json_decref(old);
    json_decref(value);
    return rc;
}

static int put_dataset(Build *b, Err *err)
{
    const json_t *d = b->p->dataset;
    json_t *value;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_share(&w, "manifest_sha256", json_object_get(json_object_get(d, "manifest"), "sha256"));
    jsonw_share(&w, "recipe_sha256", json_object_get(d, "recipe_sha256"));
    jsonw_int(&w, "clips", b->p->n);
    jsonw_open(&w, "shard");
    jsonw_int(&w, "index", b->params->shard);
    jsonw_int(&w, "count", b->params->shards);
    jsonw_close(&w);
    int rc = jsonw_finish(&w, &value, "the meta entry 'dataset'", err);
    return rc == 0 ? put_meta(b, "dataset", value, err) : rc;
}

static int put_prompts(Build *b, Err *err)
{
    json_t *value = NULL;
    int rc = prompts_meta(b->p, b->params->recipe, b->text_key, b->token_key, &value, err);
    return rc < 0 ? rc : put_meta(b, "prompts", value, err);
}

static int put_all_meta(Build *b, Err *err)
{
    int rc = put_meta(b, "vae", encoding_meta_vae(b->e), err);
    if (rc == 0)
        rc = put_meta(b, "text", encoding_meta_text(b->e, &b->text_key[0]), err);
    if (rc == 0)
        rc = put_meta(b, "encoding", encoding_meta_values(b->e), err);
    if (rc == 0)
        rc = put_prompts(b, err);
    if (rc == 0)
        rc = put_dataset(b, err);
    if (rc == 0)
        rc = put_meta(b, "recipe", json_incref((json_t *)recipe_json(b->params->recipe)), err);
    return rc;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int has(CacheTxn *t, CacheDb db, const Digest *key, const Tensor *shape)
{
    RecordView r;
    Err damage = {0};
    return cache_look_record(t, db, key, &r, &damage) == 1 && r.tensor.dtype == shape->dtype &&
           tensor_same_shape(&r.tensor, shape);
}

/* Adds to *missing whether the clip's latents are, and notes what must be known of it later. */
static int look_at_clip(Build *b, int64_t i, CacheTxn *t, int64_t *missing, Err *err)
{
    PreparedClip c;
    Digest latents;
    int there = 0, settled = 0, rc = prepared_clip(b->p, i, &c, err);
    if (rc == 0)
        rc = encoding_latents_key(b->e, &c, &latents, err);
    if (rc == 0) {
        Tensor shape = encoding_latents_shape(b->e, &c);
        there = t && has(t, CACHE_LATENTS, &latents, &shape);
        *missing += !there;
    }
    if (rc == 0 && there && b->clip)
        rc = build_has_entry(b, t, &c, &latents, &settled, err);
    if (rc == 0 && b->clip)
        b->clip[i] = (ClipPlan){latents, settled ? 0 : build_names_wanted(b, &c, &latents)};
    prepared_clip_fini(&c);
    return rc;
}

/* By their headers: a damaged record is found when its turn comes. */
static int count_missing(Build *b, int64_t *texts, int64_t *clips, Err *err)
{
    CacheTxn *t = NULL;
    Tensor shape = encoding_text_shape(b->e);
    int rc = b->cache ? cache_begin(&t, b->cache, err) : 0;
    for (int64_t i = 0; rc == 0 && i < b->p->n_text; i++)
        *texts += !t || !has(t, CACHE_TEXT, &b->text_key[i], &shape);
    for (int64_t i = 0; rc == 0 && i < b->p->n; i++)
        rc = look_at_clip(b, i, t, clips, err);
    cache_end(&t);
    return rc;
}

static int predict(Build *b, Prediction *out, int64_t *missing, Err *err)
{
    int64_t texts = 0, clips = 0;
    *out = (Prediction){0};
    int rc = count_missing(b, &texts, &clips, err);
    *missing = texts + clips;
    if (rc == 0 && *missing > 0)
        rc = build_predict(b, texts, clips, out, err);
    if (rc == 0 && *missing > 0)
        log_info(b->params->log, "predicted: %.1f MB of memory, %.0f s for captions and %.0f s for clips",
                 (double)out->peak / 1e6, out->texts_s, out->clips_s);
    return rc;
}

static int store(Build *b, Err *err)
{
    cache_batch(b->cache, INT64_MAX);
    int rc = drop_damaged_meta(b, err);
    if (rc == 0)
        rc = drop_stale(b, err);
    if (rc == 0)
        rc = put_all_meta(b, err);
    if (rc == 0)
        rc = cache_commit(b->cache, err);
    cache_batch(b->cache, 0);
    if (rc == 0)
        rc = writer_open(&b->writer, b->cache, BUILD_BATCH, err);
    if (rc == 0)
        rc = build_store_texts(b, err);
    if (rc == 0)
        rc = build_store_clips(b, err);
    if (rc == 0)
        rc = writer_finish(&b->writer, NULL, err);
    writer_close(&b->writer); /* what a stopped run has made is stored */
    int64_t stored = cache_most_memory(b->cache);
    b->peak = stored > b->peak ? stored : b->peak;
    if (rc == 0)
        rc = put_meta(b, "rejected", json_incref(b->rejected), err);
    return rc < 0 ? rc : build_fit_colour(b, err);
}

static int run(Build *b, Err *err)
{
    const BuildParams *p = b->params;
    Prediction predicted;
    int64_t missing = 0;
    int rc = cache_open(&b->cache, p->out, p->mode, err);
    if (rc == 0)
        rc = seen_open(&b->seen, p->out, err);
    if (rc == 0 && !(b->clip = mem_calloc(b->p->n, sizeof *b->clip, err)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = predict(b, &predicted, &missing, err);
    if (rc == ERR_INTERRUPTED) {
        err_clear(err);
        err_set(err, rc, "stopped before anything was encoded; the same command goes on from there");
    }
    double begin = time_now_s();
    if (rc == 0)
        rc = store(b, err);
    seen_save(&b->seen, p->out);
    if (rc < 0)
        return rc;
    if (missing > 0)
        log_info(p->log, "needed: %.1f MB of memory (%.1f predicted), %.0f s (%.0f predicted)", (double)b->peak / 1e6,
                 (double)predicted.peak / 1e6, time_now_s() - begin, predicted.texts_s + predicted.clips_s);
    int64_t rejected = (int64_t)json_object_size(b->rejected);
    fprintf(p->results,
            "%s: %" PRId64 " clip%s, %" PRId64 " text%s: %" PRId64 " computed, %" PRId64 " reused, %" PRId64
            " rejected\n",
            p->out, b->p->n - rejected, str_plural(b->p->n - rejected), b->p->n_text, str_plural(b->p->n_text),
            b->computed, b->reused, rejected);
    if ((double)rejected > recipe_num(p->recipe, "clip.max_reject_ratio") * (double)b->p->n)
        return err_set(err, ERR_FORMAT,
                       "%" PRId64 " of %" PRId64 " clips could not be cached, more than clip.max_reject_ratio allows",
                       rejected, b->p->n);
    return rejected ? 3 : 0;
}

/* Opens the cache for reading where there is one. */
static int open_existing(Build *b, Err *err)
{
    char *file = path_join(b->params->out, "data.mdb", err);
    int rc = file ? 0 : ERR_NOMEM;
    if (rc == 0 && file_exists(file))
        rc = cache_open(&b->cache, b->params->out, CACHE_READ, err);
    mem_free(file);
    return rc;
}

static int diff(Build *b, Err *err)
{
    int rc = open_existing(b, err);
    return rc < 0 ? rc : build_diff(b, err);
}

static int plan(Build *b, Err *err)
{
    const BuildParams *p = b->params;
    int64_t texts = 0, clips = 0, text = 0, vae = 0, bytes = 0;
    int rc = open_existing(b, err);
    if (rc == 0)
        rc = count_missing(b, &texts, &clips, err);
    if (rc == 0)
        rc = encoding_plan_text(b->e, &text, err);
    if (rc == 0 && b->p->n > 0) {
        const PreparedClip c = prepared_size(b->p);
        Tensor t = encoding_latents_shape(b->e, &c);
        bytes = clips * (tensor_bytes(&t) + RECORD_HEADER_SIZE);
        rc = encoding_plan_clip(b->e, &c, &vae, err);
    }
    if (rc < 0)
        return rc;
    Tensor t = encoding_text_shape(b->e);
    bytes += texts * (tensor_bytes(&t) + RECORD_HEADER_SIZE);
    fprintf(p->results,
            "clips: %" PRId64 ", %" PRId64 " to encode\ntexts: %" PRId64 ", %" PRId64
            " to encode\nto store: %.1f MB (%s)\n",
            b->p->n, clips, b->p->n_text, texts, (double)bytes / 1e6, b->e->dtype_name);
    fprintf(p->results,
            "memory, %s: %.1f MB weights + %.1f MB working\nmemory, VAE: %.1f MB weights + %.1f MB working%s\n",
            text_kind_name(b->e->form.kind), (double)b->e->text_bytes / 1e6, (double)text / 1e6,
            (double)b->e->vae_bytes / 1e6, (double)vae / 1e6, b->e->tiling.enabled ? " (tiled)" : "");
    if (texts + clips == 0)
        return 0;
    Prediction predicted;
    if ((rc = build_predict(b, texts, clips, &predicted, err)) < 0)
        return rc;
    fprintf(p->results, "memory, in all: %.1f MB\ntime: %.0f s for captions, %.0f s for clips\n",
            (double)predicted.peak / 1e6, predicted.texts_s, predicted.clips_s);
    return 0;
}

/* The digests of weights are remembered beside the cache, where weft-train finds them. */
static int open_encoding(Build *b, Err *err)
{
    const BuildParams *p = b->params;
    char *memory = path_dir(p->out, err);
    int rc = memory ? encoding_open(&b->e, p->be, p->recipe, p->model, memory, p->log, err) : ERR_NOMEM;
    mem_free(memory);
    return rc;
}

int cache_build(const BuildParams *params, Err *err)
{
    Build b = {.params = params, .rejected = json_object()};
    int rc = b.rejected ? 0 : err_set(err, ERR_NOMEM, "no memory for the list of rejected clips");
    TextForm form;
    if (rc == 0 && !params->diff && !params->dry_run)
        rc = reader_open(&b.reader, params->recipe, clip_bytes(params->recipe), err);
    if (rc == 0)
        rc = text_form_read(&form, params->recipe, params->model, err);
    if (rc == 0)
        rc = prepared_open(&b.p, params->prepared, params->shard, params->shards, &form, err);
    if (rc == 0)
        rc = check_size(&b, err);
    if (rc == 0)
        rc = open_encoding(&b, err);
    if (rc == 0)
        rc = tokens_check(b.p, b.e, b.params->model, err);
    if (rc == 0)
        rc = prompts_add(b.p, params->recipe, b.e->tokenizer, err);
    if (rc == 0)
        rc = make_text_keys(&b, err);
    if (rc == 0)
        rc = params->diff ? diff(&b, err) : params->dry_run ? plan(&b, err) : run(&b, err);
    encoder_close(&b.encoder);
    reader_close(&b.reader);
    cache_close(&b.cache);
    seen_close(&b.seen);
    encoding_close(&b.e);
    prepared_close(&b.p);
    keyset_fini(&b.made);
    mem_free(b.text_key);
    mem_free(b.token_key);
    mem_free(b.clip);
    json_decref(b.rejected);
    return rc;
}
