#include "cache/inspect.h"
#include <string.h>
#include "cache/view.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"

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
    putc_unlocked('"', out);
    for (const char *c = text ? text : ""; *c; c++) {
        if (*c == '"')
            putc_unlocked('"', out);
        putc_unlocked(*c, out);
    }
    putc_unlocked('"', out);
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

static const char *const csv_members[] = {"split", "category", "captions", "frames", "height", "width", "latent", NULL};
static const char *const text_members[] = {"split", "captions", "latent", NULL};

int cache_ls(const char *dir, CacheList form, FILE *out, Err *err)
{
    View v;
    CacheCursor *cursor = NULL;
    const char *id;
    json_t *facts;
    CacheStat stat;
    const char *const *members = form == CACHE_LIST_JSON ? NULL : form == CACHE_LIST_CSV ? csv_members : text_members;
    int rc = view_open(&v, dir, err);
    if (rc == 0 && form == CACHE_LIST_CSV)
        fputs("id,split,category,frames,height,width,latent_frames,latent_height,latent_width,latent_channels,captions,"
              "caption\r\n",
              out);
    while (rc >= 0 && (rc = cache_next_clip_part(v.txn, &cursor, members, &id, &facts, err)) == 1) {
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
