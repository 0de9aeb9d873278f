#include "cache/inspect.h"
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/store/cache.h"

/* A cache and one read transaction. */
typedef struct View {
    Cache *cache;
    CacheTxn *txn;
} View;

static int view_open(View *v, const char *dir, Err *err)
{
    *v = (View){0};
    int rc = cache_open(&v->cache, dir, CACHE_READ, err);
    if (rc == 0 && cache_unlocked(v->cache))
        fprintf(stderr, "weft-cache: '%s' is read without a lock (%s): do not write to it meanwhile\n", dir,
                cache_unlocked(v->cache));
    if (rc == 0)
        rc = cache_begin(&v->txn, v->cache, err);
    return rc;
}

static void view_close(View *v)
{
    cache_end(&v->txn);
    cache_close(&v->cache);
}

/* The record under a key in hex: 1 found, 0 absent, negative on error. */
static int find_record(View *v, CacheDb db, const json_t *hex, int verify, RecordView *out, Err *err)
{
    Digest key;
    int rc = digest_parse(json_string_value(hex), &key, err);
    return rc < 0 ? rc : cache_get_record(v->txn, db, &key, verify, out, err);
}

/* ---- ls -------------------------------------------------------------------------------------- */

static int64_t member(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

/* For a terminal: what could move its cursor is shown escaped. */
static void print_text(FILE *out, const char *id, const json_t *facts)
{
    const json_t *latent = json_object_get(facts, "latent"), *captions = json_object_get(facts, "captions");
    char name[2048], caption[8192];
    str_escape(name, sizeof name, id, 0);
    str_escape(caption, sizeof caption, json_string_value(json_array_get(captions, 0)), 0);
    fprintf(out, "%s\t%s\t%" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 "\t%zu\t%s\n", name,
            json_string_value(json_object_get(facts, "split")), member(latent, "frames"), member(latent, "height"),
            member(latent, "width"), member(latent, "channels"), json_array_size(captions), caption);
}

/* A field of RFC 4180: in quotation marks, which are doubled inside. */
static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *c = text ? text : ""; *c; c++) {
        if (*c == '"')
            fputc('"', out);
        fputc(*c, out);
    }
    fputc('"', out);
}

static void print_csv(FILE *out, const char *id, const json_t *facts)
{
    const json_t *latent = json_object_get(facts, "latent"), *captions = json_object_get(facts, "captions");
    print_quoted(out, id);
    fprintf(out, ",%s,", json_string_value(json_object_get(facts, "split")));
    print_quoted(out, json_string_value(json_object_get(facts, "category")));
    fprintf(out, ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%zu,",
            member(facts, "frames"), member(facts, "height"), member(facts, "width"), member(latent, "frames"),
            member(latent, "height"), member(latent, "width"), member(latent, "channels"), json_array_size(captions));
    print_quoted(out, json_string_value(json_array_get(captions, 0)));
    fputs("\r\n", out);
}

static int print_line(FILE *out, const char *id, json_t *facts, Err *err)
{
    if (json_object_set_new(facts, "id", json_string(id)) < 0)
        return err_set(err, ERR_NOMEM, "no memory to print an entry");
    return json_write_line(facts, out, err);
}

int cache_ls(const char *dir, CacheList form, FILE *out, Err *err)
{
    View v;
    CacheCursor *cursor = NULL;
    const char *id;
    json_t *facts;
    CacheStat stat;
    int rc = view_open(&v, dir, err);
    if (rc == 0 && form == CACHE_LIST_CSV)
        fputs("id,split,category,frames,height,width,latent_frames,latent_height,latent_width,latent_channels,captions,"
              "caption\r\n",
              out);
    while (rc >= 0 && (rc = cache_next_clip(v.txn, &cursor, &id, &facts, err)) == 1) {
        if (form == CACHE_LIST_JSON)
            rc = print_line(out, id, facts, err);
        else if (form == CACHE_LIST_CSV)
            print_csv(out, id, facts);
        else
            print_text(out, id, facts);
        json_decref(facts);
    }
    if (rc == 0)
        rc = cache_stat(v.txn, &stat, err);
    if (rc == 0 && form == CACHE_LIST_TEXT)
        fprintf(out, "%" PRId64 " clip%s, %" PRId64 " latent%s, %" PRId64 " text%s, %.1f MB\n", stat.clips,
                str_plural(stat.clips), stat.latents, str_plural(stat.latents), stat.text, str_plural(stat.text),
                (double)stat.file_bytes / 1e6);
    cache_cursor_free(&cursor);
    view_close(&v);
    return rc;
}

/* ---- show ------------------------------------------------------------------------------------ */

static json_t *record_json(View *v, CacheDb db, const json_t *hex, Err *err)
{
    RecordView r;
    char shape[128], checksum[20];
    int rc = find_record(v, db, hex, 1, &r, err);
    if (rc < 0)
        return NULL;
    if (rc == 0)
        return json_pack("{s:O, s:s}", "key", hex, "record", "missing");
    snprintf(checksum, sizeof checksum, "%016llx", (unsigned long long)r.checksum);
    return json_pack("{s:O, s:s, s:s}", "key", hex, "record", tensor_describe(&r.tensor, shape, sizeof shape), "xxh3",
                     checksum);
}

static int print_json(json_t *v, FILE *out, Err *err)
{
    char *text = v ? json_text(v, 2, err) : NULL;
    if (text)
        fprintf(out, "%s\n", text);
    mem_free(text);
    json_decref(v);
    return text ? 0 : err_set(err, ERR_NOMEM, "no memory to print an entry");
}

static int show_clip(View *v, const char *id, FILE *out, Err *err)
{
    json_t *facts, *hex;
    int rc = cache_get_clip(v->txn, id, &facts, err);
    if (rc == 0)
        return err_set(err, ERR_NOTFOUND, "no clip '%s' in the cache", id);
    if (rc < 0)
        return rc;
    json_object_set_new(facts, "latents", record_json(v, CACHE_LATENTS, json_object_get(facts, "latents"), err));
    size_t i;
    json_t *texts = json_object_get(facts, "texts");
    json_array_foreach (texts, i, hex)
        json_array_set_new(texts, i, record_json(v, CACHE_TEXT, hex, err));
    json_object_set_new(facts, "id", json_string(id));
    if (err->code) { /* a damaged record */
        json_decref(facts);
        return err->code;
    }
    return print_json(facts, out, err);
}

static int show_meta(View *v, FILE *out, Err *err)
{
    static const char *const keys[] = {"format", "dataset", "encoding", "vae", "text", "rejected", "recipe"};
    json_t *all = json_object(), *value;
    int rc = all ? 0 : err_set(err, ERR_NOMEM, "meta");
    for (size_t i = 0; rc >= 0 && i < sizeof keys / sizeof *keys; i++)
        if ((rc = cache_get_meta(v->txn, keys[i], &value, err)) == 1)
            json_object_set_new(all, keys[i], value);
    if (rc >= 0)
        return print_json(all, out, err);
    json_decref(all);
    return rc;
}

int cache_show(const char *dir, const StrList *ids, FILE *out, Err *err)
{
    View v;
    int rc = view_open(&v, dir, err);
    if (rc == 0 && ids->n == 0)
        rc = show_meta(&v, out, err);
    for (int64_t i = 0; rc == 0 && i < ids->n; i++)
        rc = show_clip(&v, ids->item[i], out, err);
    view_close(&v);
    return rc;
}

/* ---- verify ---------------------------------------------------------------------------------- */

typedef struct Verify {
    View view;
    FILE *out;
    int64_t records, clips, damaged;
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
    int rc = find_record(&w->view, db, hex, 0, &r, &damage);
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
    int rc = find_record(&w->view, CACHE_TEXT, hex, 0, &r, &damage);
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
        rc = report(w, "meta", damage.msg);
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

/* A stopped build leaves fewer clip entries than the meta entry "dataset" counts. */
static int verify_finished(Verify *w, Err *err)
{
    json_t *dataset = NULL, *rejected = NULL;
    CacheStat stat;
    int rc = cache_get_meta(w->view.txn, "dataset", &dataset, err);
    if (rc >= 0)
        rc = cache_get_meta(w->view.txn, "rejected", &rejected, err);
    if (rc >= 0)
        rc = cache_stat(w->view.txn, &stat, err);
    int64_t want = json_integer_value(json_object_get(dataset, "clips")) - (int64_t)json_object_size(rejected);
    if (rc >= 0 && (w->unfinished || stat.clips != want)) {
        w->unfinished = 1;
        fprintf(w->out, "unfinished: %" PRId64 " of %" PRId64 " clips; run weft-cache build again\n", stat.clips, want);
    }
    json_decref(dataset);
    json_decref(rejected);
    return rc < 0 ? rc : 0;
}

int cache_verify(const char *dir, FILE *out, Err *err)
{
    Verify w = {.out = out};
    int rc = view_open(&w.view, dir, err);
    if (rc == 0)
        rc = cache_check_pages(w.view.txn, err);
    for (int db = CACHE_LATENTS; rc == 0 && db <= CACHE_TOKENS; db++)
        rc = verify_records(&w, (CacheDb)db, err);
    if (rc == 0)
        rc = verify_clips(&w, err);
    if (rc == 0)
        rc = verify_finished(&w, err);
    if (rc == 0)
        fprintf(out, "%s: %" PRId64 " record%s, %" PRId64 " clip%s, %" PRId64 " damaged%s\n", dir, w.records,
                str_plural(w.records), w.clips, str_plural(w.clips), w.damaged, w.unfinished ? ", unfinished" : "");
    view_close(&w.view);
    return rc < 0 ? rc : w.damaged > 0 || w.unfinished;
}
