#include "cache/inspect.h"
#include <string.h>
#include "cache/view.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* ---- ls -------------------------------------------------------------------------------------- */

/* For a terminal: what could move its cursor is shown escaped. */
static void print_text(FILE *out, const char *id, const ClipSummary *c)
{
    char name[2048], caption[8192];
    str_escape(name, sizeof name, id, 0);
    str_escape(caption, sizeof caption, c->caption, 0);
    fprintf(out, "%s\t%s\t%" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 "\t%" PRId64 "\t%s\n", name, c->split,
            c->latent_frames, c->latent_height, c->latent_width, c->latent_channels, c->captions, caption);
}

/* A field of RFC 4180: in quotation marks, which are doubled inside. */
static void print_quoted(FILE *out, const char *text)
{
    putc_unlocked('"', out);
    for (const char *c = text ? text : ""; *c; c++) {
        if (*c == '"')
            putc_unlocked('"', out);
        putc_unlocked(*c, out);
    }
    putc_unlocked('"', out);
}

static void print_csv(FILE *out, const char *id, const ClipSummary *c)
{
    print_quoted(out, id);
    fprintf(out, ",%s,", c->split);
    print_quoted(out, c->category);
    fprintf(out, ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",",
            c->frames, c->height, c->width, c->latent_frames, c->latent_height, c->latent_width, c->latent_channels,
            c->captions);
    print_quoted(out, c->caption);
    fputs("\r\n", out);
}

/* The entry's own text, with the id as its last member. */
static int print_line(FILE *out, const char *id, JsonSpan entry, Err *err)
{
    json_t *name = json_string(id);
    if (!name)
        return err_set(err, ERR_FORMAT, "a clip's id is no text in UTF-8, or there is no memory to print it");
    char *quoted = json_canonical(name, err);
    if (quoted) {
        fwrite_unlocked(entry.at, 1, (size_t)entry.size - 1, out);
        fputs_unlocked(",\"id\":", out);
        fputs_unlocked(quoted, out);
        fputs_unlocked("}\n", out);
    }
    mem_free(quoted);
    json_decref(name);
    return quoted ? 0 : ERR_NOMEM;
}

static int list_json(View *v, FILE *out, Err *err)
{
    CacheCursor *cursor = NULL;
    const char *id;
    JsonSpan entry;
    int rc = 0;
    while (rc >= 0 && (rc = cache_next_clip_text(v->txn, &cursor, &id, &entry, err)) == 1)
        rc = print_line(out, id, entry, err);
    cache_cursor_free(&cursor);
    return rc;
}

static int list(View *v, CacheList form, FILE *out, Err *err)
{
    CacheCursor *cursor = NULL;
    ClipSummary clip;
    const char *id;
    int rc;
    while ((rc = cache_next_clip_summary(v->txn, &cursor, &id, &clip, err)) == 1)
        (form == CACHE_LIST_CSV ? print_csv : print_text)(out, id, &clip);
    cache_cursor_free(&cursor);
    return rc;
}

int cache_ls(const char *dir, CacheList form, FILE *out, Err *err)
{
    View v;
    CacheStat stat;
    int rc = view_open(&v, dir, err);
    if (rc == 0 && form == CACHE_LIST_CSV)
        fputs("id,split,category,frames,height,width,latent_frames,latent_height,latent_width,latent_channels,captions,"
              "caption\r\n",
              out);
    if (rc == 0)
        rc = form == CACHE_LIST_JSON ? list_json(&v, out, err) : list(&v, form, out, err);
    if (rc == 0)
        rc = cache_stat(v.txn, &stat, err);
    if (rc == 0 && form == CACHE_LIST_TEXT)
        fprintf(out, "%" PRId64 " clip%s, %" PRId64 " latent%s, %" PRId64 " text%s, %.1f MB\n", stat.clips,
                str_plural(stat.clips), stat.latents, str_plural(stat.latents), stat.text, str_plural(stat.text),
                (double)stat.file_bytes / 1e6);
    view_close(&v);
    return rc;
}

/* ---- show ------------------------------------------------------------------------------------ */

static json_t *record_json(View *v, CacheDb db, const json_t *hex, Err *err)
{
    RecordView r;
    char shape[128], checksum[20];
    int rc = view_record(v, db, hex, 1, &r, err);
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
