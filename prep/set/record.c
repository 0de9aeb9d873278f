#include "prep/set/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "prep/layout/captions.h"
#include "common/base/lines.h"

json_t *record_build(const Source *s, const json_t *result, Err *err)
{
    static const char *const front[] = {"decision", "reason"};
    static const char *const rest[] = {"key",    "recipe_sha256", "source",  "probe",   "window",  "geometry",
                                       "ledger", "timing",        "evening", "quality", "contact", "clip"};
    json_t *o = json_object(), *warnings = s->warnings ? json_copy(s->warnings) : json_array();
    int bad = !o || !warnings || json_object_set(o, "id", json_object_get(result, "id")) < 0;
    for (size_t i = 0; i < sizeof front / sizeof *front && !bad; i++)
        bad = json_object_set(o, front[i], json_object_get(result, front[i])) < 0;
    bad = bad || json_array_extend(warnings, json_object_get(result, "warnings")) < 0 ||
          json_object_set(o, "warnings", warnings) < 0 || json_object_set_new(o, "split", json_string(s->split)) < 0 ||
          json_object_set_new(o, "category", s->category ? json_string(s->category) : json_null()) < 0 ||
          json_object_set(o, "captions", json_object_get(result, "captions")) < 0 ||
          json_object_set_new(o, "attributes", s->attributes ? json_incref(s->attributes) : json_object()) < 0 ||
          json_object_set_new(o, "extra", s->extra ? json_incref(s->extra) : json_object()) < 0;
    for (size_t i = 0; i < sizeof rest / sizeof *rest && !bad; i++)
        bad = json_object_set(o, rest[i], json_object_get(result, rest[i])) < 0;
    json_decref(warnings);
    if (bad) {
        json_decref(o);
        err_set(err, ERR_NOMEM, "out of memory for the record of '%s'", s->id);
        return NULL;
    }
    return o;
}

/* ---- an earlier run -------------------------------------------------------------------------- */
typedef struct Loading {
    json_t *map;
    Schema *schema;
} Loading;

static int load_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    Loading *l = user;
    json_t *record;
    Err ignored = {0};
    if (json_parse(&record, text, size, where, &ignored) < 0)
        return ignored.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : 0;
    int rc = 0;
    if (schema_validate(l->schema, record, where, &ignored) == 0 &&
        json_object_set_nocheck(l->map, json_string_value(json_object_get(record, "id")), record) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for %s", where);
    json_decref(record);
    return rc;
}

int records_load(const char *out_dir, json_t **out, Err *err)
{
    static const char *const files[] = {"manifest.jsonl", "journal.jsonl"};
    Loading l = {.map = json_object()};
    *out = NULL;
    int rc = l.map ? schema_open(&l.schema, "manifest", err)
                   : err_set(err, ERR_NOMEM, "out of memory for earlier records");
    for (size_t i = 0; i < sizeof files / sizeof *files && rc == 0; i++) {
        char *path = path_join(out_dir, files[i], err);
        rc = !path ? ERR_NOMEM : file_exists(path) ? lines_read(path, RECORD_BYTES_MAX, load_line, &l, err) : 0;
        mem_free(path);
    }
    schema_close(&l.schema);
    if (rc < 0)
        json_decref(l.map);
    else
        *out = l.map;
    return rc;
}

/* ---- the journal ----------------------------------------------------------------------------- */
struct Journal {
    FILE *file;
    char *path;
};

int journal_open(Journal **out, const char *out_dir, Err *err)
{
    *out = NULL;
    Journal *j = mem_calloc(1, sizeof *j, err);
    if (!j)
        return ERR_NOMEM;
    int rc = ERR_NOMEM;
    if (!(j->path = path_join(out_dir, "journal.jsonl", err)))
        goto fail;
    if (!(j->file = fopen(j->path, "abe"))) {
        rc = err_errno(err, errno, "opening '%s'", j->path);
        goto fail;
    }
    /* A line torn by a crash must not swallow the next one. */
    if (fseek(j->file, 0, SEEK_END) < 0 || (ftell(j->file) > 0 && fputc('\n', j->file) == EOF)) {
        rc = err_errno(err, errno, "writing '%s'", j->path);
        goto fail;
    }
    *out = j;
    return 0;
fail:
    journal_close(&j);
    return rc;
}

int journal_add(Journal *j, const char *line, Err *err)
{
    if (fputs(line, j->file) == EOF || fputc('\n', j->file) == EOF || fflush(j->file) == EOF ||
        fdatasync(fileno(j->file)) < 0)
        return err_errno(err, errno, "writing '%s'", j->path);
    return 0;
}

void journal_close(Journal **journal)
{
    Journal *j = *journal;
    if (!j)
        return;
    if (j->file)
        fclose(j->file);
    mem_free(j->path);
    mem_free(j);
    *journal = NULL;
}

int journal_remove(const char *out_dir, Err *err)
{
    char *path = path_join(out_dir, "journal.jsonl", err);
    if (!path)
        return ERR_NOMEM;
    int rc = unlink(path) < 0 && errno != ENOENT ? err_errno(err, errno, "removing '%s'", path) : 0;
    mem_free(path);
    return rc;
}

/* ---- counts ---------------------------------------------------------------------------------- */
int tally_init(Tally *t, Err *err)
{
    *t = (Tally){
        .reasons = json_object(), .warnings = json_object(), .splits = json_object(), .categories = json_object()};
    return t->reasons && t->warnings && t->splits && t->categories
               ? 0
               : err_set(err, ERR_NOMEM, "out of memory for the counts");
}

void tally_fini(Tally *t)
{
    json_decref(t->reasons);
    json_decref(t->warnings);
    json_decref(t->splits);
    json_decref(t->categories);
    *t = (Tally){0};
}

static int count(json_t *o, const char *key)
{
    return json_object_set_new(o, key, json_integer(json_integer_value(json_object_get(o, key)) + 1));
}

int tally_add(Tally *t, const json_t *record, Err *err)
{
    const json_t *reason = json_object_get(record, "reason"), *warnings = json_object_get(record, "warnings"), *note;
    const char *category = json_string_value(json_object_get(record, "category")),
               *split = json_string_value(json_object_get(record, "split"));
    size_t i;
    int bad = 0;
    if (json_is_object(reason)) {
        t->rejected++;
        bad = count(t->reasons, json_string_value(json_object_get(reason, "code")));
    } else {
        t->accepted++;
        char *label = label_counted(category ? category : "", err);
        json_t *row = label ? json_object_get(t->categories, label) : NULL;
        if (label && !row) {
            row = json_object();
            bad = json_object_set_new(t->categories, label, row);
        }
        bad = bad || !label || count(t->splits, split) || count(row, split);
        json_array_foreach (warnings, i, note)
            bad = bad || count(t->warnings, json_string_value(json_object_get(note, "code")));
        mem_free(label);
    }
    return bad ? err_set(err, ERR_NOMEM, "out of memory for the counts") : 0;
}
