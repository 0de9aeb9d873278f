/* The rows of index.json, from the records in a folder. */
#include "infer/sample_index.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"

typedef struct Rows {
    const char *out;
    const Log *log;
    Schema *schema; /* of a record */
    json_t **row;
    int64_t n, room;
} Rows;

static int no_memory(Err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the list of samples");
}

static int rows_add(Rows *r, json_t *row, Err *err)
{
    if (mem_grow(&r->row, r->n, &r->room, sizeof *r->row, err) < 0) {
        json_decref(row);
        return ERR_NOMEM;
    }
    r->row[r->n++] = row;
    return 0;
}

/* SHA-256 over the record's weights. */
static int model_digest(const json_t *record, char hex[65], Err *err)
{
    char *text = json_canonical(json_object_get(record, "weights"), err);
    int rc = text ? sha256_hex(text, (int64_t)strlen(text), hex, err) : ERR_NOMEM;
    mem_free(text);
    return rc;
}

/* The row of a record at OUT/ID.json. */
static int make_row(json_t **out, const json_t *record, const char *id, Err *err)
{
    const json_t *video = json_object_get(record, "video");
    char *folder = path_dir(id, err), hex[65];
    char *file = folder ? path_join(strcmp(folder, ".") == 0 ? NULL : folder,
                                    json_string_value(json_object_get(video, "file")), err)
                        : NULL;
    int rc = file ? model_digest(record, hex, err) : ERR_NOMEM;
    if (rc == 0) {
        static const char *const facts[] = {"frames", "width", "height", "fps"};
        JsonWriter w;
        jsonw_begin(&w);
        jsonw_str(&w, "id", id);
        jsonw_share(&w, "prompt", json_object_get(record, "prompt"));
        jsonw_share(&w, "negative_prompt", json_object_get(record, "negative_prompt"));
        jsonw_share(&w, "seed", json_object_get(record, "seed"));
        jsonw_str(&w, "category", json_string_value(json_object_get(record, "category")));
        if (json_object_get(record, "clip"))
            jsonw_share(&w, "clip", json_object_get(record, "clip"));
        jsonw_str(&w, "file", file);
        for (int i = 0; i < 4; i++)
            jsonw_share(&w, facts[i], json_object_get(video, facts[i]));
        jsonw_str(&w, "model", hex);
        jsonw_share(&w, "key", json_object_get(record, "key"));
        rc = jsonw_finish(&w, out, "the list of samples", err);
    }
    mem_free(folder);
    mem_free(file);
    return rc;
}

static int is_record(const json_t *v)
{
    return json_object_get(v, "key") && json_object_get(v, "sampling") && json_object_get(v, "video");
}

/* Whether OUT/FILE is there. */
static int video_there(const Rows *r, const json_t *row)
{
    char *path = path_join(r->out, json_string_value(json_object_get(row, "file")), NULL);
    int there = path && file_exists(path);
    mem_free(path);
    return there;
}

/* OUT/ID.json, if it is a sample's record. */
static int add_record(Rows *r, const char *id, Err *err)
{
    char *path = mem_printf(err, "%s/%s.json", r->out, id);
    json_t *record = NULL, *row = NULL;
    Err wrong = {0};
    int rc = path ? json_read_file(&record, path, &wrong) : ERR_NOMEM;
    if (rc == 0 && is_record(record)) {
        rc = schema_validate(r->schema, record, path, &wrong);
        if (rc == 0 && (rc = make_row(&row, record, id, err)) == 0) {
            if (video_there(r, row))
                rc = rows_add(r, row, err);
            else {
                log_warn(r->log, "'%s' is left out of index.json: its video is missing", path);
                json_decref(row);
            }
        }
    }
    if (rc == ERR_NOMEM)
        rc = err_set(err, rc, "%s", wrong.msg[0] ? wrong.msg : "no memory for the list of samples");
    else if (rc < 0 && wrong.msg[0]) {
        log_warn(r->log, "left out of index.json: %s", wrong.msg);
        rc = 0;
    }
    json_decref(record);
    mem_free(path);
    return rc;
}

/* The records in OUT/FOLDER, or with NULL in OUT and the folders below it. */
static int add_folder(Rows *r, const char *folder, Err *err)
{
    char *path = path_join(r->out, folder ? folder : "", err), **names = NULL;
    int64_t n = 0;
    int rc = path ? dir_list(path, &names, &n, err) : ERR_NOMEM;
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        int is_index = !folder && strcmp(names[i], "index.json") == 0;
        char *inner = path_join(folder, names[i], err), *full = inner ? path_join(r->out, inner, err) : NULL;
        if (!full) {
            rc = ERR_NOMEM;
        } else if (str_ends_with(names[i], ".json") && names[i][0] != '.' && !is_index && !file_is_dir(full)) {
            inner[strlen(inner) - strlen(".json")] = 0;
            rc = add_record(r, inner, err);
        } else if (!folder && names[i][0] != '.' && file_is_dir(full)) {
            rc = add_folder(r, names[i], err);
        }
        mem_free(full);
        mem_free(inner);
    }
    dir_list_free(&names, n);
    mem_free(path);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    return strcmp(json_string_value(json_object_get(x, "id")), json_string_value(json_object_get(y, "id")));
}

int sample_rows(const char *out, const Log *log, json_t **rows, Err *err)
{
    Rows r = {.out = out, .log = log};
    json_t *all = json_array();
    *rows = NULL;
    int rc = all ? schema_open(&r.schema, "sample", err) : no_memory(err);
    if (rc == 0)
        rc = add_folder(&r, NULL, err);
    if (rc == 0 && r.n)
        qsort(r.row, (size_t)r.n, sizeof(json_t *), by_id);
    for (int64_t i = 0; rc == 0 && i < r.n; i++)
        if (json_array_append(all, r.row[i]) < 0)
            rc = no_memory(err);
    for (int64_t i = 0; i < r.n; i++)
        json_decref(r.row[i]);
    mem_free(r.row);
    schema_close(&r.schema);
    if (rc < 0)
        json_decref(all);
    else
        *rows = all;
    return rc;
}

static int write_json(const char *out, json_t *rows, Err *err)
{
    char *path = path_join(out, "index.json", err);
    JsonWriter w;
    json_t *index = NULL;
    jsonw_begin(&w);
    jsonw_share(&w, "samples", rows);
    int rc = jsonw_finish(&w, &index, "the list of samples", err);
    if (rc == 0)
        rc = path ? schema_check("sample-index", index, path, err) : ERR_NOMEM;
    if (rc == 0)
        rc = json_write_file(index, path, err);
    json_decref(index);
    mem_free(path);
    return rc;
}

int sample_index_write(const char *out, int quick, const Log *log, int64_t *n, Err *err)
{
    json_t *rows = NULL;
    int rc = sample_rows(out, log, &rows, err);
    *n = (int64_t)json_array_size(rows);
    if (rc == 0 && !quick)
        rc = sample_sheet(out, rows, log, err);
    if (rc == 0)
        rc = write_json(out, rows, err);
    if (rc == 0)
        rc = sample_page(out, rows, err);
    json_decref(rows);
    return rc;
}
