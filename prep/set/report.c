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
#include "common/base/lines.h"
#include "prep/line.h"
#include "prep/set/dataset.h"

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

struct Report {
    const json_t *dataset;
    Values values[MEASURES];
    json_t *attributes, *rejected, *accepted, *duplicates;
    int64_t accepts, seen; /* accepted clips in all, met so far */
    double error_sum, error_max;
};

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
static int measure(Report *b, const ManifestLine *line, Err *err)
{
    const LineProbe *p = &line->probe;
    const LineQuality *q = &line->quality;
    int rc = 0;
    if (line->probed) {
        double last = rational_value(p->last_time), rate = rational_value(p->avg_rate);
        rc = add_value(&b->values[DURATION], last + (rate > 0 ? 1 / rate : 0), err); /* the last frame is shown too */
        if (rc == 0)
            rc = add_value(&b->values[RATE], rate, err);
        if (rc == 0)
            rc = add_value(&b->values[SIDE],
                           (double)(p->display_width < p->display_height ? p->display_width : p->display_height), err);
    }
    if (rc == 0 && line->measured) {
        rc = add_value(&b->values[BRIGHTNESS], q->mean_luma, err);
        if (rc == 0)
            rc = add_value(&b->values[SHARPNESS], q->sharpness, err);
        if (rc == 0)
            rc = add_value(&b->values[MOTION], q->mean_change, err);
        if (rc == 0 && q->has_visible)
            rc = add_value(&b->values[VISIBLE], q->visible_median, err);
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

static int count_attributes(Report *b, const ManifestLine *line)
{
    const char *name;
    json_t *value, *one;
    size_t i;
    int bad = 0;
    json_object_foreach (line->attributes, name, value) {
        if (json_is_string(value))
            bad |= count(b->attributes, name, json_string_value(value));
        json_array_foreach (value, i, one)
            bad |= count(b->attributes, name, json_string_value(one));
    }
    return bad;
}

static json_t *card(const ManifestLine *line)
{
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "id", line->id);
    jsonw_str(&w, "path", line->source_path);
    jsonw_str(&w, "split", line->split);
    jsonw_str(&w, "category", line->category);
    jsonw_share(&w, "reason", line->reason_json);
    jsonw_share(&w, "warnings", line->warnings);
    jsonw_share(&w, "captions", line->captions);
    jsonw_str(&w, "contact", line->contact);
    return jsonw_finish(&w, &out, "a clip of the report", NULL) < 0 ? NULL : out;
}

/* text: "looks like 'ID': 3 of 192 bits differ ..." */
static json_t *twin(const ManifestLine *line, const char *text)
{
    const char *from = strchr(text, '\''), *end = NULL;
    for (const char *at = from ? strstr(from + 1, "': ") : NULL; at; at = strstr(at + 1, "': "))
        end = at;
    json_t *out;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_str(&w, "id", line->id);
    jsonw_take(&w, "kept", json_stringn(end ? from + 1 : "", end ? (size_t)(end - from - 1) : 0));
    jsonw_str(&w, "text", text);
    jsonw_str(&w, "contact", line->contact);
    jsonw_null(&w, "kept_contact");
    return jsonw_finish(&w, &out, "a pair of look-alikes", NULL) < 0 ? NULL : out;
}

const char *const report_members[] = {"id",
                                      "reason",
                                      "warnings",
                                      "split",
                                      "category",
                                      "captions",
                                      "attributes",
                                      "contact",
                                      "source.path",
                                      "probe.avg_rate",
                                      "probe.display_width",
                                      "probe.display_height",
                                      "probe.last_time",
                                      "quality.mean_luma",
                                      "quality.sharpness",
                                      "quality.change.mean",
                                      "quality.visible.median",
                                      "timing",
                                      NULL};

int report_add_line(Report *b, const ManifestLine *line, Err *err)
{
    const json_t *note;
    size_t i;
    int bad = 0, rc = measure(b, line, err);
    if (rc < 0)
        return rc;
    if (line->rejected) {
        bad |= json_array_append_new(b->rejected, card(line)) < 0;
        if (line->reason == REASON_NEAR_DUPLICATE)
            bad |= json_array_append_new(b->duplicates, twin(line, line->reason_text)) < 0;
    } else {
        b->error_sum += line->mean_error_s;
        b->error_max = line->max_error_s > b->error_max ? line->max_error_s : b->error_max;
        if (b->accepts <= SAMPLE || b->seen * SAMPLE / b->accepts != (b->seen + 1) * SAMPLE / b->accepts)
            bad |= json_array_append_new(b->accepted, card(line)) < 0;
        b->seen++;
        bad |= count_attributes(b, line);
        json_array_foreach (line->warnings, i, note)
            if (line_note_reason(note) == REASON_NEAR_DUPLICATE)
                bad |= json_array_append_new(b->duplicates, twin(line, line_note_text(note))) < 0;
    }
    return bad ? err_set(err, ERR_NOMEM, "out of memory for the report") : 0;
}

static int add_record(void *user, const json_t *record, const char *where, Err *err)
{
    ManifestLine line;
    (void)where;
    line_read(&line, record);
    return report_add_line(user, &line, err);
}

int report_add_tokens(Report *b, int64_t tokens, Err *err)
{
    return add_value(&b->values[TOKENS], (double)tokens, err);
}

static int add_tokens(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    Report *b = user;
    json_t *line;
    int64_t n = 0, cut = 0;
    int rc = json_parse(&line, text, size, where, err);
    if (rc == 0 && (rc = json_get_int(line, "n", where, &n, err)) == 0 &&
        (rc = json_get_int_or(line, "cut", where, 0, &cut, err)) == 0)
        rc = report_add_tokens(b, n + cut, err);
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

static int add_contact(void *user, const json_t *record, const char *where, Err *err)
{
    json_t *contacts = user;
    const char *id = json_string_value(json_object_get(record, "id"));
    json_t *contact = json_object_get(record, "contact");
    (void)where;
    if (!contact || !json_object_get(contacts, id) || json_object_set(contacts, id, contact) == 0)
        return 0;
    return err_set(err, ERR_NOMEM, "out of memory for the report");
}

/* The pictures of the clips that were kept, for which the manifest is read once more where there are any. */
static int find_kept(const Report *b, const char *dir, Err *err)
{
    static const char *const members[] = {"id", "contact", NULL};
    json_t *pair, *contacts = json_object();
    size_t i;
    int bad = !contacts, rc = 0;
    json_array_foreach (b->duplicates, i, pair)
        bad |= json_object_set_new(contacts, json_string_value(json_object_get(pair, "kept")), json_null()) < 0;
    if (!bad && json_object_size(contacts) > 0)
        rc = dataset_each_line(dir, b->dataset, members, add_contact, contacts, err);
    json_array_foreach (rc == 0 ? b->duplicates : NULL, i, pair)
        bad |= json_object_set(pair, "kept_contact",
                               json_object_get(contacts, json_string_value(json_object_get(pair, "kept")))) < 0;
    json_decref(contacts);
    return rc == 0 && bad ? err_set(err, ERR_NOMEM, "out of memory for the report") : rc;
}

static int content(const Report *b, const json_t *dataset, json_t **out, Err *err)
{
    JsonWriter w;
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

int report_begin(Report **out, const json_t *dataset, Err *err)
{
    Report *b = *out = mem_calloc(1, sizeof *b, err);
    if (!b)
        return ERR_NOMEM;
    *b = (Report){.dataset = dataset,
                  .attributes = json_object(),
                  .rejected = json_array(),
                  .accepted = json_array(),
                  .duplicates = json_array(),
                  .accepts = json_integer_value(json_object_get(json_object_get(dataset, "counts"), "accepted"))};
    return b->attributes && b->rejected && b->accepted && b->duplicates
               ? 0
               : err_set(err, ERR_NOMEM, "out of memory for the report");
}

int report_end(Report *b, const char *dir, Err *err)
{
    json_t *o = NULL;
    char *path = path_join(dir, "report.json", err);
    int rc = path ? find_kept(b, dir, err) : ERR_NOMEM;
    if (rc == 0)
        rc = content(b, b->dataset, &o, err);
    if (rc == 0 && (rc = schema_check("report", o, "report.json", err)) == 0 &&
        (rc = json_write_file(o, path, err)) == 0)
        rc = write_pages(dir, o, err);
    json_decref(o);
    mem_free(path);
    return rc;
}

void report_close(Report **r)
{
    Report *b = *r;
    if (!b)
        return;
    for (int m = 0; m < MEASURES; m++)
        mem_free(b->values[m].v);
    json_decref(b->attributes);
    json_decref(b->rejected);
    json_decref(b->accepted);
    json_decref(b->duplicates);
    mem_free(b);
    *r = NULL;
}

int report_write(const char *dir, const json_t *dataset, int tokens, Err *err)
{
    Report *b = NULL;
    char *ids = path_join(dir, "tokens.jsonl", err);
    int rc = ids ? report_begin(&b, dataset, err) : ERR_NOMEM;
    if (rc == 0)
        rc = dataset_each_line(dir, dataset, report_members, add_record, b, err);
    if (rc == 0 && tokens && file_exists(ids))
        rc = lines_read(ids, RECORD_BYTES_MAX, add_tokens, b, err);
    if (rc == 0)
        rc = report_end(b, dir, err);
    report_close(&b);
    mem_free(ids);
    return rc;
}

/* Files of the dataset that a manifest line names and that are not there. */
typedef struct Gone {
    const char *dir;
    char *first;
    int64_t n;
} Gone;

static const char *const file_members[] = {"clip.file", "contact", NULL};

static int count_gone(void *user, const json_t *record, const char *where, Err *err)
{
    Gone *g = user;
    ManifestLine line;
    (void)where;
    line_read(&line, record);
    const char *names[2] = {line.clip.file, line.contact};
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
    if (rc == 0 && (rc = dataset_each_line(dir, dataset, file_members, count_gone, &gone, err)) == 0 && gone.n)
        fprintf(results, "%" PRId64 " file%s of the dataset %s missing, first %s: run ingest again\n", gone.n,
                str_plural(gone.n), gone.n == 1 ? "is" : "are", gone.first);
    mem_free(gone.first);
    json_decref(dataset);
    return rc;
}
