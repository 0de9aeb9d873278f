/* Reading what a run wrote, and writing the page. */
#include <stdio.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "train/run_report.h"

typedef struct Lines {
    json_t *array;
    const char *schema;
    int torn; /* a line that is not whole: the run is being written, or was killed; nothing may follow */
} Lines;

static int add_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    Lines *l = user;
    json_t *line = NULL;
    int rc;

    if (l->torn)
        return err_set(err, ERR_FORMAT, "%s: the line before it is not JSON", where);
    rc = json_parse(&line, text, size, where, NULL);
    if (rc == ERR_NOMEM)
        return err_set(err, rc, "out of memory: reading %s", where);
    if (rc < 0) {
        l->torn = 1;
        return 0;
    }
    rc = schema_check(l->schema, line, where, err);
    if (rc == 0 && json_array_append(l->array, line) < 0)
        rc = err_set(err, ERR_NOMEM, "%s: no memory", where);
    json_decref(line);
    return rc;
}

static int read_lines(const char *run, const char *name, const char *schema, json_t **out, Err *err)
{
    char *path = path_join(run, name, err);
    Lines l = {.array = json_array(), .schema = schema};
    int rc = path && l.array ? file_look(path, err) : ERR_NOMEM;

    *out = l.array;
    if (rc > 0)
        rc = lines_read(path, RECORD_BYTES_MAX, add_line, &l, err);
    mem_free(path);
    return rc;
}

static int read_run(const char *run, json_t **out, Err *err)
{
    char *path = path_join(run, "run.json", err);
    int rc = path ? json_read_file(out, path, err) : ERR_NOMEM;

    if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "'%s' is no run of weft-train", run);
    if (rc == 0)
        rc = schema_check("train-run", *out, path, err);
    mem_free(path);
    return rc;
}

static int read_prediction(const char *run, json_t **out, Err *err)
{
    char *path = path_join(run, "prediction.json", err);
    int rc = path ? file_look(path, err) : ERR_NOMEM;

    if (rc > 0)
        rc = json_read_file(out, path, err);
    if (rc == 0 && *out)
        rc = schema_check("train-prediction", *out, path, err);
    mem_free(path);
    return rc;
}

static int write_page(const char *run, const RunFacts *facts, Err *err)
{
    char *path = path_join(run, "report.html", err);
    AtomicFile *f = NULL;
    int rc = path ? atomic_open(&f, path, err) : ERR_NOMEM;

    if (rc == 0)
        rc = run_report_html(run, facts, atomic_stream(f), err);
    if (rc == 0)
        rc = atomic_commit(&f, err);
    atomic_abort(&f);
    mem_free(path);
    return rc;
}

int run_report_write(const char *run, Err *err)
{
    RunFacts facts = {0};
    int rc = read_run(run, &facts.run, err);

    if (rc == 0)
        rc = read_lines(run, "log.jsonl", "train-log", &facts.steps, err);
    if (rc == 0)
        rc = read_lines(run, "held_out.jsonl", "train-held-out", &facts.held_out, err);
    if (rc == 0)
        rc = read_lines(run, "samples.jsonl", "train-samples", &facts.samples, err);
    if (rc == 0)
        rc = read_prediction(run, &facts.prediction, err);
    if (rc == 0)
        rc = write_page(run, &facts, err);
    json_decref(facts.run);
    json_decref(facts.steps);
    json_decref(facts.held_out);
    json_decref(facts.samples);
    json_decref(facts.prediction);
    return rc;
}
