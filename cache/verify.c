#include "cache/verify.h"
#include <string.h>
#include "cache/prepared.h"
#include "cache/verify_deep.h"
#include "cache/view.h"
#include "common/base/json.h"
#include "common/base/str.h"

typedef struct Verify {
    View view;
    FILE *out;
    int64_t records, clips, damaged, missing;
    int unfinished;
} Verify;

static int report(Verify *w, const char *what, const char *why)
{
    w->damaged++;
    return fprintf(w->out, "damaged: %s: %s\n", what, why) < 0 ? ERR_IO : 0;
}

static int verify_records(Verify *w, CacheDb db, Err *err)
{
    CacheCursor *cursor = NULL;
    Digest key;
    RecordView r;
    int rc;
    for (;; w->records++) {
        Err damage = {0};
        rc = cache_next_record(w->view.txn, db, &cursor, &key, &r, 1, &damage);
        if (rc == 0 || (rc < 0 && rc != ERR_FORMAT && rc != ERR_UNSUPPORTED)) {
            if (rc < 0)
                err_set(err, rc, "%s", damage.msg);
            break;
        }
        if (rc == 1 && !record_is_finite(&r.tensor)) {
            char hex[65];
            digest_hex(&key, hex);
            rc = err_set(&damage, ERR_FORMAT, "%s %s: a number in it is not finite", cache_db_name(db), hex);
        }
        if (rc < 0)
            report(w, "record", damage.msg);
    }
    cache_cursor_free(&cursor);
    return rc;
}

/* Checks that a record named by a clip exists, with the kind and shape that the clip's entry and
 * the meta entries state (want -1: any extent). */
static int verify_named(Verify *w, const char *id, CacheDb db, const json_t *hex, const int64_t want[4], Err *err)
{
    RecordView r;
    Err damage = {0};
    char why[256], shape[128];
    int rc = view_record(&w->view, db, hex, 0, &r, &damage);
    if (rc < 0 && rc != ERR_FORMAT && rc != ERR_UNSUPPORTED)
        return err_set(err, rc, "%s", damage.msg);
    if (rc < 0)
        return report(w, id, damage.msg);
    snprintf(why, sizeof why, "its %s record %s is missing", cache_db_name(db), json_string_value(hex));
    if (rc == 0)
        return report(w, id, why);
    for (int i = 0; i < r.tensor.rank; i++) {
        int64_t last = db == CACHE_LATENTS && i == 3 && r.kind == RECORD_MOMENTS ? 2 * want[3] : want[i];
        if (want[i] >= 0 && r.tensor.dim[i] != last) {
            snprintf(why, sizeof why, "its %s record is %s", cache_db_name(db),
                     tensor_describe(&r.tensor, shape, sizeof shape));
            return report(w, id, why);
        }
    }
    return 0;
}

static int verify_clip(Verify *w, const char *id, const json_t *facts, const int64_t text[4], Err *err)
{
    const json_t *latent = json_object_get(facts, "latent"), *hex;
    const int64_t tokens[4] = {text[0], -1, -1, -1};
    int64_t shape[4];
    static const char *const names[4] = {"frames", "height", "width", "channels"};
    for (int i = 0; i < 4; i++)
        shape[i] = json_integer_value(json_object_get(latent, names[i]));
    int rc = verify_named(w, id, CACHE_LATENTS, json_object_get(facts, "latents"), shape, err);
    size_t i;
    json_array_foreach (json_object_get(facts, "texts"), i, hex)
        if (rc == 0)
            rc = verify_named(w, id, CACHE_TEXT, hex, text, err);
    json_array_foreach (json_object_get(facts, "tokens"), i, hex)
        if (rc == 0)
            rc = verify_named(w, id, CACHE_TOKENS, hex, tokens, err);
    return rc;
}

/* The empty prompt's record is written before any clip's entry: in a cache without clips, a build
 * was stopped before it; in one with clips, the record was lost. */
static int verify_empty_prompt(Verify *w, const json_t *hex, const int64_t text[4], Err *err)
{
    RecordView r;
    CacheStat stat;
    Err damage = {0};
    int rc = view_record(&w->view, CACHE_TEXT, hex, 0, &r, &damage);
    if (rc != 0)
        return verify_named(w, "the empty prompt", CACHE_TEXT, hex, text, err);
    if ((rc = cache_stat(w->view.txn, &stat, err)) < 0)
        return rc;
    if (stat.clips > 0)
        return report(w, "the empty prompt", "its text record is missing");
    w->unfinished = 1;
    return 0;
}

/* The shape [rows, dim] of text records that the meta entry "text" states, -1 where it is missing. */
static int text_shape(Verify *w, int64_t text[4], Err *err)
{
    json_t *meta = NULL;
    Err damage = {0};
    for (int i = 0; i < 4; i++)
        text[i] = -1;
    int rc = cache_get_meta(w->view.txn, "text", &meta, &damage);
    if (rc == 1) {
        text[0] = json_integer_value(json_object_get(meta, "length"));
        text[1] = json_integer_value(json_object_get(meta, "dim"));
        rc = verify_empty_prompt(w, json_object_get(meta, "empty"), text, err);
    } else if (rc == ERR_FORMAT) {
        rc = 0; /* verify_meta has said so */
    } else if (rc < 0) {
        err_set(err, rc, "%s", damage.msg);
    } else {
        rc = 0; /* a build that was stopped early: verify_finished says so */
        w->unfinished = 1;
    }
    json_decref(meta);
    return rc;
}

static int verify_clips(Verify *w, Err *err)
{
    CacheCursor *cursor = NULL;
    const char *id;
    json_t *facts;
    int64_t text[4];
    int rc = text_shape(w, text, err);
    for (; rc >= 0; w->clips++) {
        Err damage = {0};
        rc = cache_next_clip(w->view.txn, &cursor, &id, &facts, &damage);
        if (rc == 0)
            break;
        if (rc == ERR_FORMAT)
            rc = report(w, id, damage.msg);
        else if (rc < 0)
            err_set(err, rc, "%s", damage.msg);
        else
            rc = verify_clip(w, id, facts, text, err);
        json_decref(facts);
    }
    cache_cursor_free(&cursor);
    return rc;
}

/* An entry whose name was changed is found by its checksum. */
static int verify_meta(Verify *w, Err *err)
{
    CacheCursor *cursor = NULL;
    const char *key;
    json_t *value;
    int rc = 1;
    while (rc > 0) {
        Err damage = {0};
        rc = cache_next_meta(w->view.txn, &cursor, &key, &value, &damage);
        json_decref(value);
        if (rc == ERR_FORMAT) {
            report(w, "meta", damage.msg);
            rc = 1;
        } else if (rc < 0) {
            err_set(err, rc, "%s", damage.msg);
        }
    }
    cache_cursor_free(&cursor);
    return rc;
}

/* A stopped build leaves fewer clip entries than the meta entry "dataset" counts, or at least no entry
 * "rejected", which comes last. */
static int verify_finished(Verify *w, Err *err)
{
    json_t *dataset = NULL, *rejected = NULL;
    CacheStat stat;
    int rc = cache_get_meta(w->view.txn, "dataset", &dataset, err);
    if (rc >= 0)
        rc = cache_get_meta(w->view.txn, "rejected", &rejected, err);
    if (rc >= 0)
        rc = cache_stat(w->view.txn, &stat, err);
    if (rc >= 0 && !rejected)
        w->unfinished = 1;
    int64_t want = json_integer_value(json_object_get(dataset, "clips")) - (int64_t)json_object_size(rejected);
    if (rc >= 0 && (w->unfinished || stat.clips != want)) {
        w->unfinished = 1;
        fprintf(w->out, "unfinished: %" PRId64 " of %" PRId64 " clips; run weft-cache build again\n", stat.clips, want);
    }
    json_decref(dataset);
    json_decref(rejected);
    return rc < 0 ? rc : 0;
}

/* ---- against a prepared dataset -------------------------------------------------------------- */

typedef struct Presence {
    Verify *w;
    const json_t *rejected;
    int64_t shard, shards, n;
} Presence;

static int verify_present(void *user, const char *id, const char *pixels, Err *err)
{
    Presence *p = user;
    json_t *facts = NULL;
    Err damage = {0};
    if (p->n++ % p->shards != p->shard || json_object_get(p->rejected, id))
        return 0;
    int rc = cache_get_clip(p->w->view.txn, id, &facts, &damage);
    int same = rc == 1 && strcmp(json_string_value(json_object_get(facts, "pixels_sha256")), pixels) == 0;
    json_decref(facts);
    if (rc < 0 && rc != ERR_FORMAT)
        return err_set(err, rc, "%s", damage.msg);
    if (rc >= 0 && !same) {
        p->w->missing++;
        fprintf(p->w->out, "missing: %s: %s\n", id, rc == 0 ? "not in the cache" : "cached from other pixels");
    }
    return 0;
}

static int verify_prepared(Verify *w, const char *prepared, Err *err)
{
    json_t *dataset = NULL, *rejected = NULL;
    int rc = view_meta(&w->view, "dataset", &dataset, err);
    if (rc == 0)
        rc = cache_get_meta(w->view.txn, "rejected", &rejected, err);
    const json_t *shard = json_object_get(dataset, "shard");
    Presence p = {.w = w,
                  .rejected = rejected,
                  .shard = json_integer_value(json_object_get(shard, "index")),
                  .shards = json_integer_value(json_object_get(shard, "count"))};
    if (rc >= 0)
        rc = prepared_each_id(prepared, verify_present, &p, err);
    json_decref(dataset);
    json_decref(rejected);
    return rc < 0 ? rc : 0;
}

int cache_verify(const VerifyParams *params, Err *err)
{
    Verify w = {.out = params->out};
    int64_t differing = 0;
    int rc = view_open(&w.view, params->dir, err);
    if (rc == 0)
        rc = cache_check_pages(w.view.txn, err);
    for (int db = CACHE_LATENTS; rc == 0 && db <= CACHE_TOKENS; db++)
        rc = verify_records(&w, (CacheDb)db, err);
    if (rc == 0)
        rc = verify_meta(&w, err);
    if (rc == 0)
        rc = verify_clips(&w, err);
    if (rc == 0)
        rc = verify_finished(&w, err);
    if (rc == 0 && params->prepared && !w.unfinished)
        rc = verify_prepared(&w, params->prepared, err);
    if (rc == 0 && params->deep > 0 && !w.unfinished && w.damaged == 0)
        rc = verify_deep(params, &w.view, &differing, err);
    if (rc == 0)
        fprintf(params->out, "%s: %" PRId64 " record%s, %" PRId64 " clip%s, %" PRId64 " damaged%s", params->dir,
                w.records, str_plural(w.records), w.clips, str_plural(w.clips), w.damaged,
                w.unfinished ? ", unfinished" : "");
    if (rc == 0 && params->prepared && !w.unfinished)
        fprintf(params->out, ", %" PRId64 " missing", w.missing);
    if (rc == 0)
        fputc('\n', params->out);
    view_close(&w.view);
    return rc < 0 ? rc : w.damaged > 0 || w.unfinished || w.missing > 0 || differing > 0;
}
