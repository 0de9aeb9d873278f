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
#include "prep/line.h"

/* ---- an earlier run -------------------------------------------------------------------------- */
typedef struct Loading {
    json_t *map;
    Schema *schema;
} Loading;

static int load_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    Loading *l = user;
    json_t *record;
    ManifestLine line;
    Err ignored = {0};
    if (json_parse(&record, text, size, where, &ignored) < 0)
        return ignored.code == ERR_NOMEM ? err_set(err, ERR_NOMEM, "%s", ignored.msg) : 0;
    int rc = 0;
    line_read(&line, record);
    if (schema_validate(l->schema, record, where, &ignored) == 0 &&
        json_object_set_nocheck(l->map, line.id, record) < 0)
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
    ManifestLine line;
    json_t *note;
    size_t i;
    int bad = 0;
    line_read(&line, record);
    if (line.rejected) {
        t->rejected++;
        bad = count(t->reasons, line.reason_code);
    } else {
        t->accepted++;
        char *label = label_counted(line.category ? line.category : "", err);
        json_t *row = label ? json_object_get(t->categories, label) : NULL;
        if (label && !row) {
            row = json_object();
            bad = json_object_set_new(t->categories, label, row);
        }
        bad = bad || !label || count(t->splits, line.split) || count(row, line.split);
        json_array_foreach (line.warnings, i, note)
            bad = bad || count(t->warnings, line_note_code(note));
        mem_free(label);
    }
    return bad ? err_set(err, ERR_NOMEM, "out of memory for the counts") : 0;
}
