#include "prep/set/dataset.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "prep/clip/clip.h"
#include "prep/line.h"
#include "prep/set/duplicates.h"
#include "prep/set/report.h"

/* ---- opening --------------------------------------------------------------------------------- */
static int inside(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == 0 || path[n] == '/' || n == 1);
}

static int check_apart(const char *source, const char *dir, Err *err)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (!realpath(source, a))
        return err_errno(err, errno, "'%s'", source);
    if (!realpath(dir, b))
        return err_errno(err, errno, "'%s'", dir);
    if (inside(a, b) || inside(b, a))
        return err_set(err, ERR_USAGE,
                       "the dataset '%s' and the source '%s' must not lie in each other: sources are only read", dir,
                       source);
    return 0;
}

/* Whether a folder holds anything but hidden files; one that does not exist holds nothing. */
static int holds_files(const char *dir, const char *name, Err *err)
{
    char **names, *path = path_join(dir, name, err);
    int64_t n = 0, shown = 0;
    int rc = path ? file_is_dir(path) ? dir_list(path, &names, &n, err) : 0 : ERR_NOMEM;
    if (rc == 0 && path && file_is_dir(path)) {
        for (int64_t i = 0; i < n; i++)
            shown += names[i][0] != '.';
        dir_list_free(&names, n);
    }
    mem_free(path);
    return rc < 0 ? rc : shown > 0;
}

/* 1 when DIR/dataset.json exists and was written by weft-prep. */
static int index_is_ours(const char *dir, Err *err)
{
    char *path = path_join(dir, "dataset.json", err);
    json_t *o = NULL;
    Err cause = {0};
    int rc = path ? json_read_file(&o, path, &cause) : ERR_NOMEM;
    const char *manifest = json_string_value(json_object_get(o, "manifest"));
    rc = rc == ERR_NOMEM ? rc
                         : manifest && json_is_integer(json_object_get(o, "format")) && json_object_get(o, "recipe");
    json_decref(o);
    mem_free(path);
    return rc;
}

/* Our own folder, or an empty one: nothing is ever removed that another wrote. */
static int check_ours(const char *dir, Err *err)
{
    char **names;
    int64_t n;
    int rc = dir_list(dir, &names, &n, err), known = 0, other = -1;
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < n && rc == 0; i++) {
        int index = strcmp(names[i], "dataset.json") == 0,
            files = strcmp(names[i], "clips") == 0 || strcmp(names[i], "thumbs") == 0;
        int ours = index ? index_is_ours(dir, err)
                         : strcmp(names[i], "manifest.jsonl") == 0 || strcmp(names[i], "journal.jsonl") == 0 ||
                               strcmp(names[i], ".lock") == 0 /* of a run that was stopped early */;
        if (files)
            files = holds_files(dir, names[i], err);
        if (ours < 0 || files < 0)
            rc = ERR_NOMEM;
        known = known || ours > 0;
        if (names[i][0] != '.' && (files || (strcmp(names[i], "clips") != 0 && strcmp(names[i], "thumbs") != 0)) &&
            ours <= 0)
            other = (int)i;
    }
    if (rc == 0 && !known && other >= 0)
        rc = err_set(err, ERR_USAGE,
                     "'%s' holds other things ('%s') and no dataset; give an empty folder or a new name", dir,
                     names[other]);
    dir_list_free(&names, n);
    return rc;
}

int dataset_lock_folder(const char *const *sources, int64_t n, const char *dir, DirLock *lock, Err *err)
{
    int made = !file_is_dir(dir), rc = dir_make(dir, err);
    for (int64_t i = 0; i < n && rc == 0; i++)
        if ((rc = check_apart(sources[i], dir, err)) < 0 && made)
            rmdir(dir);
    if (rc == 0)
        rc = check_ours(dir, err);
    return rc < 0 ? rc : dir_lock(lock, dir, err);
}

int dataset_check_same(const char *dir, const json_t *prior, const char *was, const char *now,
                       int (*has)(void *user, const json_t *line), void *user, Err *err)
{
    const char *id;
    json_t *line;
    int64_t clips = 0, known = 0;
    json_object_foreach ((json_t *)(uintptr_t)prior, id, line) {
        ManifestLine facts;
        line_read(&facts, line);
        if (!facts.has_clip)
            continue;
        int rc = has(user, line);
        if (rc < 0)
            return err_set(err, rc, "comparing the sources of '%s'", dir);
        known += rc;
        clips++;
    }
    if (2 * known >= clips)
        return 0;
    return err_set(err, ERR_USAGE,
                   "'%s' holds a dataset of %s: %" PRId64 " of its %" PRId64
                   " clips are of sources that are in %s too, expected "
                   "half of them or "
                   "more; give another --out, or --replace to give that dataset up",
                   dir, was ? was : "other sources", known, clips, now);
}

int dataset_begin(const char *dir, Err *err)
{
    char *clips = path_join(dir, "clips", err), *thumbs = path_join(dir, "thumbs", err),
         *index = path_join(dir, "dataset.json", err);
    int rc = clips && thumbs && index ? 0 : ERR_NOMEM;
    if (rc == 0 && unlink(index) < 0 && errno != ENOENT)
        rc = err_errno(err, errno, "removing '%s'", index);
    if (rc == 0 && (rc = dir_make(clips, err)) == 0 && (rc = dir_make(thumbs, err)) == 0 &&
        (rc = dir_sweep_temporaries(dir, err)) == 0 && (rc = dir_sweep_temporaries(clips, err)) == 0)
        rc = dir_sweep_temporaries(thumbs, err);
    mem_free(clips);
    mem_free(thumbs);
    mem_free(index);
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------- */
/* The manifest, with the counts and the file's hash on the way. */
static int write_manifest(const Dataset *d, Tally *tally, char hex[65], Err *err)
{
    AtomicFile *file = NULL;
    Sha256 sha = {0};
    char *path = path_join(d->dir, "manifest.jsonl", err);
    int rc = path ? sha256_init(&sha, err) : ERR_NOMEM;
    if (rc == 0)
        rc = atomic_open(&file, path, err);
    for (int64_t i = 0; i < d->n && rc == 0; i++) {
        int64_t size = (int64_t)strlen(d->lines[i]);
        json_t *record;
        if ((rc = json_parse(&record, d->lines[i], size, "manifest line", err)) < 0)
            break;
        rc = tally_add(tally, record, err);
        json_decref(record);
        sha256_update(&sha, d->lines[i], size);
        sha256_update(&sha, "\n", 1);
        if (rc == 0 && (fputs(d->lines[i], atomic_stream(file)) == EOF || fputc('\n', atomic_stream(file)) == EOF))
            rc = err_errno(err, errno, "writing '%s'", path);
    }
    if (rc == 0) {
        sha256_final_hex(&sha, hex);
        rc = atomic_commit(&file, err);
    }
    atomic_abort(&file);
    sha256_fini(&sha);
    mem_free(path);
    return rc;
}

/* Removes files with this ending that no line names: an earlier recipe or set of sources left
 * them. */
static int sweep_folder(const Dataset *d, const char *folder, const char *ending, const json_t *named, Err *err)
{
    char *dir = path_join(d->dir, folder, err), **names = NULL;
    int64_t n = 0;
    int rc = dir ? dir_sweep_temporaries(dir, err) : ERR_NOMEM; /* of workers that died */
    if (rc == 0)
        rc = dir_list(dir, &names, &n, err);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        char *file = path_join(folder, names[i], err), *path = file ? path_join(d->dir, file, err) : NULL;
        if (!path)
            rc = ERR_NOMEM;
        else if (str_ends_with(names[i], ending) && !json_object_get(named, file) && unlink(path) < 0)
            rc = err_errno(err, errno, "removing '%s'", path);
        mem_free(path);
        mem_free(file);
    }
    dir_list_free(&names, n);
    mem_free(dir);
    return rc;
}

static int sweep(const Dataset *d, Err *err)
{
    json_t *named = json_object(), *record;
    int rc = named ? 0 : err_set(err, ERR_NOMEM, "out of memory for the list of clips");
    for (int64_t i = 0; i < d->n && rc == 0; i++) {
        if ((rc = json_parse(&record, d->lines[i], (int64_t)strlen(d->lines[i]), "manifest line", err)) < 0)
            break;
        ManifestLine line;
        line_read(&line, record);
        const char *files[] = {line.clip.file, line.contact};
        for (int k = 0; k < 2; k++)
            if (files[k] && json_object_set_new_nocheck(named, files[k], json_true()) < 0)
                rc = err_set(err, ERR_NOMEM, "out of memory for the list of clips");
        json_decref(record);
    }
    if (rc == 0 && (rc = sweep_folder(d, "clips", ".mkv", named, err)) == 0)
        rc = sweep_folder(d, "thumbs", ".png", named, err);
    json_decref(named);
    return rc;
}

static void put_shard(JsonWriter *w, const Dataset *d)
{
    if (d->shards <= 1) {
        jsonw_null(w, "shard");
        return;
    }
    jsonw_open(w, "shard");
    jsonw_int(w, "index", d->shard);
    jsonw_int(w, "count", d->shards);
    jsonw_int(w, "sources", d->sources);
    jsonw_str(w, "list_sha256", d->list_sha256);
    jsonw_ints(w, "places", d->places, d->n);
    jsonw_close(w);
}

static void put_counts(JsonWriter *w, const Dataset *d, const Tally *t)
{
    jsonw_open(w, "counts");
    jsonw_int(w, "sources", d->n);
    jsonw_int(w, "accepted", t->accepted);
    jsonw_int(w, "rejected", t->rejected);
    jsonw_share(w, "reasons", t->reasons);
    jsonw_share(w, "warnings", t->warnings);
    jsonw_share(w, "splits", t->splits);
    jsonw_share(w, "categories", t->categories);
    jsonw_close(w);
}

static int index_json(const Dataset *d, const Tally *t, const char *manifest_sha256, json_t **out, Err *err)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_open(&w, "tool");
    jsonw_str(&w, "name", "weft-prep");
    jsonw_int(&w, "revision", PREP_REVISION);
    jsonw_close(&w);
    jsonw_str(&w, "layout", d->layout);
    if (d->layout_found)
        jsonw_str(&w, "layout_found", d->layout_found);
    put_shard(&w, d);
    put_counts(&w, d, t);
    jsonw_str(&w, "recipe_sha256", d->recipe_sha256);
    jsonw_share(&w, "recipe", recipe_json(d->recipe));
    jsonw_open(&w, "manifest");
    jsonw_str(&w, "file", "manifest.jsonl");
    jsonw_int(&w, "lines", d->n);
    jsonw_str(&w, "sha256", manifest_sha256);
    jsonw_close(&w);
    return jsonw_finish(&w, out, "dataset.json", err);
}

/* The report; and dataset.json, last, unless too much was rejected. */
static int write_index(const Dataset *d, const Tally *t, const char *manifest_sha256, int finished, Err *err)
{
    json_t *o;
    char *path = path_join(d->dir, "dataset.json", err);
    int rc = index_json(d, t, manifest_sha256, &o, err);
    if (rc == 0)
        rc = path ? report_write(d->dir, o, 0, err) : ERR_NOMEM;
    if (rc == 0 && finished)
        rc = json_write_file(o, path, err);
    mem_free(path);
    json_decref(o);
    return rc;
}

static void print_counts(const Dataset *d, const Tally *t, FILE *out)
{
    const char *key;
    json_t *v;
    fprintf(out, "%" PRId64 " source%s: %" PRId64 " accepted, %" PRId64 " rejected\n", d->n, str_plural(d->n),
            t->accepted, t->rejected);
    json_object_foreach (t->reasons, key, v)
        fprintf(out, "  rejected %-16s %" PRId64 "\n", key, (int64_t)json_integer_value(v));
    json_object_foreach (t->categories, key, v) {
        const char *split;
        json_t *n;
        char shown[128];
        str_escape(shown, sizeof shown, key, 0);
        fprintf(out, "  category %-16s", *shown ? shown : "(none)");
        json_object_foreach (v, split, n)
            fprintf(out, " %s %" PRId64, split, (int64_t)json_integer_value(n));
        fprintf(out, "\n");
    }
}

int dataset_finish(const Dataset *d, const QualityLimits *limits, const Log *log, FILE *results, Err *err)
{
    Tally t;
    char manifest_sha256[65];
    double ratio = recipe_num(d->recipe, "clip.max_reject_ratio");
    int rc = tally_init(&t, err);
    if (rc == 0)
        rc = duplicates_mark(d->lines, d->n, limits, log, err);
    if (rc == 0)
        rc = write_manifest(d, &t, manifest_sha256, err);
    if (rc == 0)
        print_counts(d, &t, results);
    if (rc == 0 && (double)t.rejected > ratio * (double)d->n && (rc = write_index(d, &t, manifest_sha256, 0, err)) == 0)
        rc = err_set(err, ERR_LIMIT,
                     "%" PRId64 " of %" PRId64
                     " clips are rejected, more than clip.max_reject_ratio %g allows; %s/report.html shows them "
                     "(--set clip.max_reject_ratio=1 accepts any share)",
                     t.rejected, d->n, ratio, d->dir);
    if (rc == 0) /* the manifest keeps from here on what the journal kept; dataset.json comes last */
        rc = journal_remove(d->dir, err);
    if (rc == 0)
        rc = sweep(d, err);
    if (rc == 0)
        rc = write_index(d, &t, manifest_sha256, 1, err);
    int status = t.rejected ? 3 : 0;
    tally_fini(&t);
    return rc < 0 ? rc : status;
}

/* ---- reading --------------------------------------------------------------------------------- */
int dataset_read(const char *dir, json_t **out, Err *err)
{
    *out = NULL;
    json_t *o = NULL;
    char *path = path_join(dir, "dataset.json", err);
    int rc = path ? 0 : ERR_NOMEM;
    if (rc == 0 && !file_exists(path))
        rc = err_set(err, ERR_NOTFOUND, "'%s' is no finished dataset: it has no dataset.json (run weft-prep ingest)",
                     dir);
    if (rc == 0 && (rc = json_read_file(&o, path, err)) == 0)
        rc = schema_check("dataset", o, path, err);
    mem_free(path);
    if (rc < 0)
        json_decref(o);
    else
        *out = o;
    return rc;
}

int dataset_each_line(const char *dir, const json_t *dataset, const char *const *members, SchemaLineFn line, void *user,
                      Err *err)
{
    char hex[65], *path = path_join(dir, "manifest.jsonl", err);
    int rc = path ? sha256_file_hex(path, hex, err) : ERR_NOMEM;
    if (rc == 0) {
        const char *want = json_string_value(json_object_get(json_object_get(dataset, "manifest"), "sha256"));
        if (strcmp(hex, want) != 0)
            rc = err_set(err, ERR_FORMAT,
                         "'%s' is not the manifest dataset.json was made with (SHA-256 %.12s..., expected %.12s...)",
                         path, hex, want);
    }
    if (rc == 0)
        rc = schema_each_line(path, "manifest", members, line, user, err);
    mem_free(path);
    return rc;
}
