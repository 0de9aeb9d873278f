#include "prep/set/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "prep/layout/captions.h"
#include "prep/set/dataset.h"
#include "common/base/lines.h"

enum { SAMPLE = 24, BINS = 24 };

typedef enum Measure { DURATION, RATE, SIDE, BRIGHTNESS, SHARPNESS, MOTION, VISIBLE, TOKENS, MEASURES } Measure;
static const struct {
    const char *name, *unit;
} measures[MEASURES] = {{"duration of sources", "s"},
                        {"frame rate of sources", "frames/s"},
                        {"shorter side of sources", "pixels"},
                        {"brightness", "mean luma"},
                        {"sharpness", "Laplacian variance"},
                        {"motion", "mean change"},
                        {"visible subject", "share of the picture"},
                        {"caption length", "T5 tokens"}};

typedef struct Values {
    double *v;
    int64_t n, cap;
} Values;

typedef struct Build {
    Values values[MEASURES];
    json_t *attributes, *rejected, *accepted, *duplicates;
    json_t *contacts;      /* id -> contact, of all clips */
    int64_t accepts, seen; /* accepted clips in all, met so far */
    double error_sum, error_max;
} Build;

static int add_value(Values *l, double x, Err *err)
{
    if (l->n == l->cap) {
        int64_t cap = l->cap ? 2 * l->cap : 256;
        double *v = mem_realloc(l->v, cap, sizeof *v, err);
        if (!v)
            return ERR_NOMEM;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = x;
    return 0;
}

/* ---- a manifest line ------------------------------------------------------------------------- */
static double ratio(const json_t *pair)
{
    double den = json_number_value(json_array_get(pair, 1));
    return den > 0 ? json_number_value(json_array_get(pair, 0)) / den : 0;
}

static int measure(Build *b, const json_t *record, Err *err)
{
    const json_t *probe = json_object_get(record, "probe"), *quality = json_object_get(record, "quality");
    int rc = 0;
    if (json_is_object(probe)) {
        double w = json_number_value(json_object_get(probe, "display_width"));
        double h = json_number_value(json_object_get(probe, "display_height"));
        double last = ratio(json_object_get(probe, "last_time")), rate = ratio(json_object_get(probe, "avg_rate"));
        rc = add_value(&b->values[DURATION], last + (rate > 0 ? 1 / rate : 0), err); /* the last frame is shown too */
        if (rc == 0)
            rc = add_value(&b->values[RATE], ratio(json_object_get(probe, "avg_rate")), err);
        if (rc == 0)
            rc = add_value(&b->values[SIDE], w < h ? w : h, err);
    }
    if (rc == 0 && json_is_object(quality)) {
        rc = add_value(&b->values[BRIGHTNESS], json_number_value(json_object_get(quality, "mean_luma")), err);
        if (rc == 0)
            rc = add_value(&b->values[SHARPNESS], json_number_value(json_object_get(quality, "sharpness")), err);
        if (rc == 0)
            rc = add_value(&b->values[MOTION],
                           json_number_value(json_object_get(json_object_get(quality, "change"), "mean")), err);
        const json_t *visible = json_object_get(quality, "visible");
        if (rc == 0 && visible)
            rc = add_value(&b->values[VISIBLE], json_number_value(json_object_get(visible, "median")), err);
    }
    return rc;
}

/* 0, or 1 without memory. */
static int count(json_t *o, const char *name, const char *value)
{
    json_t *row = json_object_get(o, name);
    if (!row && json_object_set_new_nocheck(o, name, row = json_object()) < 0)
        return 1;
    char *label = label_counted(value, NULL);
    int bad = !label || json_object_set_new_nocheck(
                            row, label, json_integer(json_integer_value(json_object_get(row, label)) + 1)) < 0;
    mem_free(label);
    return bad;
}

static int count_attributes(Build *b, const json_t *record)
{
    const char *name;
    json_t *value, *one;
    size_t i;
    int bad = 0;
    json_object_foreach (json_object_get(record, "attributes"), name, value) {
        if (json_is_string(value))
            bad |= count(b->attributes, name, json_string_value(value));
        json_array_foreach (value, i, one)
            bad |= count(b->attributes, name, json_string_value(one));
    }
    return bad;
}

static json_t *card(const json_t *record)
{
    static const char *const same[] = {"split", "category", "reason", "warnings", "captions"};
    json_t *contact = json_object_get(record, "contact"), *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_share(&w, "id", json_object_get(record, "id"));
    jsonw_share(&w, "path", json_object_get(json_object_get(record, "source"), "path"));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        jsonw_share(&w, same[i], json_object_get(record, same[i]));
    jsonw_str(&w, "contact", json_string_value(contact));
    return jsonw_finish(&w, &out, "a clip of the report", NULL) < 0 ? NULL : out;
}

/* "looks like 'ID': 3 of 192 bits differ ..." */
static json_t *twin(const json_t *record, const json_t *note)
{
    const char *text = json_string_value(json_object_get(note, "text")), *from = strchr(text, '\''), *end = NULL;
    for (const char *at = from ? strstr(from + 1, "': ") : NULL; at; at = strstr(at + 1, "': "))
        end = at;
    json_t *contact = json_object_get(record, "contact"), *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_share(&w, "id", json_object_get(record, "id"));
    jsonw_take(&w, "kept", json_stringn(end ? from + 1 : "", end ? (size_t)(end - from - 1) : 0));
    jsonw_str(&w, "text", text);
    jsonw_str(&w, "contact", json_string_value(contact));
    jsonw_null(&w, "kept_contact");
    return jsonw_finish(&w, &out, "a pair of look-alikes", NULL) < 0 ? NULL : out;
}

static int add_record(void *user, const json_t *record, Err *err)
{
    Build *b = user;
    const json_t *reason = json_object_get(record, "reason"), *timing = json_object_get(record, "timing"), *note;
    json_t *contact = json_object_get(record, "contact");
    size_t i;
    int bad = 0, rc = measure(b, record, err);
    if (rc < 0)
        return rc;
    if (json_is_string(contact))
        bad |= json_object_set_nocheck(b->contacts, json_string_value(json_object_get(record, "id")), contact) < 0;
    if (json_is_object(reason)) {
        bad |= json_array_append_new(b->rejected, card(record)) < 0;
        if (strcmp(json_string_value(json_object_get(reason, "code")), "near_duplicate") == 0)
            bad |= json_array_append_new(b->duplicates, twin(record, reason)) < 0;
    } else {
        double worst = json_number_value(json_object_get(timing, "max_abs_error_s"));
        b->error_sum += json_number_value(json_object_get(timing, "mean_abs_error_s"));
        b->error_max = worst > b->error_max ? worst : b->error_max;
        if (b->accepts <= SAMPLE || b->seen * SAMPLE / b->accepts != (b->seen + 1) * SAMPLE / b->accepts)
            bad |= json_array_append_new(b->accepted, card(record)) < 0;
        b->seen++;
        bad |= count_attributes(b, record);
        json_array_foreach (json_object_get(record, "warnings"), i, note)
            if (strcmp(json_string_value(json_object_get(note, "code")), "near_duplicate") == 0)
                bad |= json_array_append_new(b->duplicates, twin(record, note)) < 0;
    }
    return bad ? err_set(err, ERR_NOMEM, "out of memory for the report") : 0;
}

static int add_tokens(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    Build *b = user;
    json_t *line;
    int64_t n = 0, cut = 0;
    int rc = json_parse(&line, text, size, where, err);
    if (rc == 0 && (rc = json_get_int(line, "n", where, &n, err)) == 0 &&
        (rc = json_get_int_or(line, "cut", where, 0, &cut, err)) == 0)
        rc = add_value(&b->values[TOKENS], (double)(n + cut), err);
    json_decref(line);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------------------- */
static void histogram(JsonWriter *w, const Values *l, int which)
{
    double low = 0, high = 0, sum = 0;
    int64_t counts[BINS] = {0};
    for (int64_t i = 0; i < l->n; i++) {
        low = i == 0 || l->v[i] < low ? l->v[i] : low;
        high = i == 0 || l->v[i] > high ? l->v[i] : high;
        sum += l->v[i];
    }
    int bins = high > low ? BINS : 1;
    for (int64_t i = 0; i < l->n; i++) {
        int at = bins == 1 ? 0 : (int)((l->v[i] - low) / (high - low) * bins);
        counts[at < bins ? at : bins - 1]++;
    }
    jsonw_open(w, NULL);
    jsonw_str(w, "name", measures[which].name);
    jsonw_str(w, "unit", measures[which].unit);
    jsonw_int(w, "values", l->n);
    jsonw_num(w, "min", low);
    jsonw_num(w, "max", high);
    jsonw_num(w, "mean", l->n ? sum / (double)l->n : 0.0);
    jsonw_ints(w, "counts", counts, l->n ? bins : 0);
    jsonw_close(w);
}

static int content(const Build *b, const json_t *dataset, json_t **out, Err *err)
{
    json_t *pair;
    size_t i;
    JsonWriter w;
    json_array_foreach (b->duplicates, i, pair) {
        json_t *contact = json_object_get(b->contacts, json_string_value(json_object_get(pair, "kept")));
        if (contact && json_object_set(pair, "kept_contact", contact) < 0)
            return err_set(err, ERR_NOMEM, "out of memory for the report");
    }
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_share(&w, "layout", json_object_get(dataset, "layout"));
    if (json_object_get(dataset, "layout_found"))
        jsonw_share(&w, "layout_found", json_object_get(dataset, "layout_found"));
    if (json_object_get(dataset, "recipe"))
        jsonw_share(&w, "recipe", json_object_get(dataset, "recipe"));
    jsonw_share(&w, "counts", json_object_get(dataset, "counts"));
    jsonw_share(&w, "attributes", b->attributes);
    jsonw_open(&w, "timing");
    jsonw_num(&w, "mean_abs_error_s", b->seen ? b->error_sum / (double)b->seen : 0.0);
    jsonw_num(&w, "max_abs_error_s", b->error_max);
    jsonw_close(&w);
    jsonw_open_array(&w, "histograms");
    for (int m = 0; m < MEASURES; m++)
        histogram(&w, &b->values[m], m);
    jsonw_close(&w);
    jsonw_share(&w, "rejected", b->rejected);
    jsonw_share(&w, "accepted", b->accepted);
    jsonw_share(&w, "duplicates", b->duplicates);
    return jsonw_finish(&w, out, "the report", err);
}

/* The number in "report-N.html", N from 2 on; 0 for any other name. */
static int64_t page_number(const char *name)
{
    int64_t n = 0;
    int end = 0;
    return sscanf(name, "report-%9" SCNd64 ".html%n", &n, &end) == 1 && end && !name[end] && n > 1 && name[7] != '0'
               ? n
               : 0;
}

/* Removes the pages after page `last`, left by an earlier, longer report. */
static int drop_pages(const char *dir, int64_t last, Err *err)
{
    char **names;
    int64_t n;
    int rc = dir_list(dir, &names, &n, err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        char *path = page_number(names[i]) > last ? path_join(dir, names[i], err) : NULL;
        if (page_number(names[i]) > last && (!path || (unlink(path) < 0 && errno != ENOENT)))
            rc = path ? err_errno(err, errno, "removing '%s'", path) : ERR_NOMEM;
        mem_free(path);
    }
    if (rc == 0 || n)
        dir_list_free(&names, n);
    return rc;
}

static int write_page(const char *dir, const json_t *report_content, int64_t page, Err *err)
{
    AtomicFile *file = NULL;
    char name[40], *path;
    report_page_name(page, name);
    path = path_join(dir, name, err);
    int rc = path ? atomic_open(&file, path, err) : ERR_NOMEM;
    if (rc == 0 && (rc = report_html(dir, report_content, page, atomic_stream(file), err)) == 0)
        rc = ferror(atomic_stream(file)) ? err_errno(err, errno ? errno : EIO, "writing '%s'", path)
                                         : atomic_commit(&file, err);
    atomic_abort(&file);
    mem_free(path);
    return rc;
}

static int write_pages(const char *dir, const json_t *report_content, Err *err)
{
    const int64_t pages = report_pages(report_content);
    int rc = 0;
    for (int64_t page = 1; page <= pages && rc == 0; page++)
        rc = write_page(dir, report_content, page, err);
    return rc < 0 ? rc : drop_pages(dir, pages, err);
}

int report_write(const char *dir, const json_t *dataset, int tokens, Err *err)
{
    Build b = {.attributes = json_object(),
               .rejected = json_array(),
               .accepted = json_array(),
               .duplicates = json_array(),
               .contacts = json_object(),
               .accepts = json_integer_value(json_object_get(json_object_get(dataset, "counts"), "accepted"))};
    json_t *o = NULL;
    char *ids = path_join(dir, "tokens.jsonl", err), *path = path_join(dir, "report.json", err);
    int rc = ERR_NOMEM;
    if (!b.attributes || !b.rejected || !b.accepted || !b.duplicates || !b.contacts) {
        err_set(err, ERR_NOMEM, "out of memory for the report");
        goto out;
    }
    if (!ids || !path || (rc = dataset_each_line(dir, dataset, add_record, &b, err)) < 0)
        goto out;
    if (tokens && file_exists(ids) && (rc = lines_read(ids, RECORD_BYTES_MAX, add_tokens, &b, err)) < 0)
        goto out;
    if ((rc = content(&b, dataset, &o, err)) == 0 && (rc = schema_check("report", o, "report.json", err)) == 0 &&
        (rc = json_write_file(o, path, err)) == 0)
        rc = write_pages(dir, o, err);
out:
    for (int m = 0; m < MEASURES; m++)
        mem_free(b.values[m].v);
    json_decref(b.attributes);
    json_decref(b.rejected);
    json_decref(b.accepted);
    json_decref(b.duplicates);
    json_decref(b.contacts);
    json_decref(o);
    mem_free(ids);
    mem_free(path);
    return rc;
}

/* Files of the dataset that a manifest line names and that are not there. */
typedef struct Gone {
    const char *dir;
    char *first;
    int64_t n;
} Gone;

static int count_gone(void *user, const json_t *record, Err *err)
{
    Gone *g = user;
    const char *names[2] = {json_string_value(json_object_get(json_object_get(record, "clip"), "file")),
                            json_string_value(json_object_get(record, "contact"))};
    for (int i = 0; i < 2; i++) {
        char *path = names[i] ? path_join(g->dir, names[i], err) : NULL;
        if (names[i] && !path)
            return ERR_NOMEM;
        if (path && !file_exists(path) && g->n++ == 0 && !(g->first = mem_strdup(names[i], err))) {
            mem_free(path);
            return ERR_NOMEM;
        }
        mem_free(path);
    }
    return 0;
}

int prep_report(const char *dir, FILE *results, Err *err)
{
    json_t *dataset;
    Gone gone = {.dir = dir};
    int rc = dataset_read(dir, &dataset, err);
    if (rc == 0 && (rc = report_write(dir, dataset, 1, err)) == 0)
        fprintf(results, "%s/report.html and report.json are written\n", dir);
    if (rc == 0 && (rc = dataset_each_line(dir, dataset, count_gone, &gone, err)) == 0 && gone.n)
        fprintf(results, "%" PRId64 " file%s of the dataset %s missing, first %s: run ingest again\n", gone.n,
                str_plural(gone.n), gone.n == 1 ? "is" : "are", gone.first);
    mem_free(gone.first);
    json_decref(dataset);
    return rc;
}
