#include "cache/stats.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cache/view.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* Of one channel; sums in double, in the order of the keys. */
typedef struct Channel {
    double sum, squares, sigma;
} Channel;

typedef struct Stats {
    View view;
    json_t *splits, *categories, *sizes; /* name -> count */
    int64_t captions, bytes[3], values, channels;
    Channel *channel;
    double scale;
} Stats;

static int count(json_t *counts, const char *name, Err *err)
{
    int64_t n = json_integer_value(json_object_get(counts, name));
    return json_object_set_new(counts, name, json_integer(n + 1)) < 0 ? err_set(err, ERR_NOMEM, "no memory to count")
                                                                      : 0;
}

static int64_t member(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static int add_clip(void *user, const char *id, json_t *facts, Err *err)
{
    Stats *s = user;
    char size[96];
    const char *category = json_string_value(json_object_get(facts, "category"));
    snprintf(size, sizeof size, "%" PRId64 " frames of %" PRId64 "x%" PRId64, member(facts, "frames"),
             member(facts, "width"), member(facts, "height"));
    (void)id;
    s->captions += (int64_t)json_array_size(json_object_get(facts, "captions"));
    int rc = count(s->splits, json_string_value(json_object_get(facts, "split")), err);
    if (rc == 0)
        rc = count(s->categories, category ? category : "(none)", err);
    return rc < 0 ? rc : count(s->sizes, size, err);
}

static float value_at(const Tensor *t, int64_t i)
{
    const uint16_t *half = t->data;
    return t->dtype == DT_F32   ? ((const float *)t->data)[i]
           : t->dtype == DT_F16 ? half_to_float(half[i])
                                : bfloat_to_float(half[i]);
}

static int add_latents(Stats *s, const RecordView *r, Err *err)
{
    int moments = r->kind == RECORD_MOMENTS;
    int64_t width = r->tensor.dim[3], channels = moments ? width / 2 : width;
    if (channels != s->channels)
        return err_set(err, ERR_FORMAT, "a latents record of %" PRId64 " channels, the VAE has %" PRId64, channels,
                       s->channels);
    int64_t rows = tensor_count(&r->tensor) / width;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < channels; c++) {
            double x = s->scale * (double)value_at(&r->tensor, i * width + c);
            s->channel[c].sum += x;
            s->channel[c].squares += x * x;
            if (moments) {
                double logvar = fmin(fmax((double)value_at(&r->tensor, i * width + channels + c), -30), 20);
                s->channel[c].sigma += s->scale * exp(0.5 * logvar);
            }
        }
    s->values += rows;
    return 0;
}

static int add_records(Stats *s, CacheDb db, Err *err)
{
    CacheCursor *cursor = NULL;
    Digest key;
    RecordView r;
    int rc;
    while ((rc = cache_next_record(s->view.txn, db, &cursor, &key, &r, 1, err)) == 1) {
        s->bytes[db] += tensor_bytes(&r.tensor) + RECORD_HEADER_SIZE;
        if (db == CACHE_LATENTS && (rc = add_latents(s, &r, err)) < 0)
            break;
    }
    cache_cursor_free(&cursor);
    return rc;
}

static int read_vae(Stats *s, Err *err)
{
    json_t *vae = NULL;
    int rc = view_meta(&s->view, "vae", &vae, err);
    if (rc == 0) {
        s->channels = member(vae, "latent_channels");
        s->scale = json_number_value(json_object_get(vae, "scaling_factor"));
        s->channel = mem_calloc(s->channels, sizeof *s->channel, err);
        rc = s->channel ? 0 : ERR_NOMEM;
    }
    json_decref(vae);
    return rc;
}

static void write_channels(const Stats *s, JsonWriter *w)
{
    double n = s->values ? (double)s->values : 1;
    jsonw_open_array(w, "channels");
    for (int64_t c = 0; c < s->channels; c++) {
        double mean = s->channel[c].sum / n;
        jsonw_open(w, NULL);
        jsonw_num(w, "mean", mean);
        jsonw_num(w, "std", sqrt(fmax(s->channel[c].squares / n - mean * mean, 0)));
        jsonw_num(w, "posterior_std", s->channel[c].sigma / n);
        jsonw_close(w);
    }
    jsonw_close(w);
}

static int as_json(const Stats *s, const CacheStat *stat, json_t **out, Err *err)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_int(&w, "clips", stat->clips);
    jsonw_int(&w, "captions", s->captions);
    jsonw_share(&w, "splits", s->splits);
    jsonw_share(&w, "categories", s->categories);
    jsonw_share(&w, "sizes", s->sizes);
    jsonw_open(&w, "records");
    const int64_t n[3] = {stat->latents, stat->text, stat->tokens};
    for (int db = CACHE_LATENTS; db <= CACHE_TOKENS; db++) {
        jsonw_open(&w, cache_db_name((CacheDb)db));
        jsonw_int(&w, "count", n[db]);
        jsonw_int(&w, "bytes", s->bytes[db]);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    jsonw_int(&w, "file_bytes", stat->file_bytes);
    write_channels(s, &w);
    return jsonw_finish(&w, out, "the statistics", err);
}

static void print_counts(FILE *out, const char *what, const json_t *counts)
{
    const char *name;
    json_t *n;
    fprintf(out, "%s:", what);
    const char *comma = "";
    json_object_foreach ((json_t *)counts, name, n) {
        char shown[256];
        str_escape(shown, sizeof shown, name, 0);
        fprintf(out, "%s %s %" JSON_INTEGER_FORMAT, comma, shown, json_integer_value(n));
        comma = ",";
    }
    fputc('\n', out);
}

static void print_text(FILE *out, const json_t *all)
{
    const char *name;
    json_t *r, *c;
    size_t i;
    fprintf(out, "clips: %" JSON_INTEGER_FORMAT ", captions: %" JSON_INTEGER_FORMAT "\n",
            json_integer_value(json_object_get(all, "clips")), json_integer_value(json_object_get(all, "captions")));
    print_counts(out, "splits", json_object_get(all, "splits"));
    print_counts(out, "categories", json_object_get(all, "categories"));
    print_counts(out, "sizes", json_object_get(all, "sizes"));
    json_object_foreach (json_object_get(all, "records"), name, r)
        fprintf(out, "%s: %" JSON_INTEGER_FORMAT " records, %.1f MB\n", name,
                json_integer_value(json_object_get(r, "count")),
                (double)json_integer_value(json_object_get(r, "bytes")) / 1e6);
    fprintf(out, "data.mdb: %.1f MB\n", (double)json_integer_value(json_object_get(all, "file_bytes")) / 1e6);
    json_array_foreach (json_object_get(all, "channels"), i, c)
        fprintf(out, "channel %2zu: mean %8.4f, std %7.4f, posterior std %.4g\n", i,
                json_number_value(json_object_get(c, "mean")), json_number_value(json_object_get(c, "std")),
                json_number_value(json_object_get(c, "posterior_std")));
}

int cache_stats(const char *dir, int json, FILE *out, Err *err)
{
    Stats s = {.splits = json_object(), .categories = json_object(), .sizes = json_object()};
    CacheStat stat;
    json_t *all = NULL;
    int rc = s.splits && s.categories && s.sizes ? view_open(&s.view, dir, err)
                                                 : err_set(err, ERR_NOMEM, "no memory to count");
    if (rc == 0)
        rc = read_vae(&s, err);
    if (rc == 0)
        rc = view_each_clip(&s.view, add_clip, &s, err);
    for (int db = CACHE_LATENTS; rc == 0 && db <= CACHE_TOKENS; db++)
        rc = add_records(&s, (CacheDb)db, err);
    if (rc == 0)
        rc = cache_stat(s.view.txn, &stat, err);
    if (rc == 0)
        rc = as_json(&s, &stat, &all, err);
    if (rc == 0 && json)
        rc = json_write_line(all, out, err);
    else if (rc == 0)
        print_text(out, all);
    view_close(&s.view);
    mem_free(s.channel);
    json_decref(s.splits);
    json_decref(s.categories);
    json_decref(s.sizes);
    json_decref(all);
    return rc;
}
