/* What changed from one run to the other: figures, tests, files. */
#include <math.h>
#include <string.h>

#include "common/base/bootstrap.h"
#include "common/base/build.h"
#include "common/base/file.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/metrics/paired.h"
#include "infer/compare.h"
#include "infer/csv.h"

static double value_of(const Comparison *c, int64_t pair, int side, int kind)
{
    const Evaluation *e = &c->side[side];
    int64_t at = c->pair[pair].at[side];
    const Measured *m = &e->measured[at];
    if (kind >= CHANGE_SCORE)
        return c->scores->item[kind - CHANGE_SCORE].value[side][at];
    if (m->done != 1)
        return NAN;
    if (kind >= CHANGE_NETWORK)
        return e->features ? net_figure(e->features, at, (NetFigure)(kind - CHANGE_NETWORK)) : NAN;
    return kind == CHANGE_COLOURS ? m->colours : figure_value(&m->f, &figure_kinds[kind]);
}

/* The means of each prompt's pairs that both sides have: value [2][prompts], NAN for none. */
static int by_prompt(const Comparison *c, int kind, const char *category, double *value, Err *err)
{
    int64_t *count = mem_calloc(c->prompts, sizeof *count, err);
    if (!count)
        return ERR_NOMEM;
    memset(value, 0, (size_t)(2 * c->prompts) * sizeof *value);
    for (int64_t i = 0; i < c->n; i++) {
        double a = value_of(c, i, 0, kind), b = value_of(c, i, 1, kind);
        const char *own = pair_category(c, i);
        if (!isfinite(a) || !isfinite(b) || (category && (!own || strcmp(own, category) != 0)))
            continue;
        count[c->pair[i].prompt]++;
        value[c->pair[i].prompt] += a;
        value[c->prompts + c->pair[i].prompt] += b;
    }
    for (int64_t k = 0; k < c->prompts; k++) {
        value[k] = count[k] ? value[k] / (double)count[k] : NAN;
        value[c->prompts + k] = count[k] ? value[c->prompts + k] / (double)count[k] : NAN;
    }
    mem_free(count);
    return 0;
}

int change_of(Change *out, const Comparison *c, int kind, const char *category, uint64_t seed, Err *err)
{
    double *value = mem_calloc(2 * c->prompts, sizeof *value, err), *d = mem_calloc(c->prompts, sizeof *d, err);
    int rc = value && d ? by_prompt(c, kind, category, value, err) : ERR_NOMEM;
    *out = (Change){.difference = NAN, .low = NAN, .high = NAN, .p = NAN};
    for (int64_t k = 0; rc == 0 && k < c->prompts; k++)
        if (isfinite(value[k]))
            d[out->n++] = value[c->prompts + k] - value[k];
    for (int side = 0; side < 2 && rc == 0; side++)
        rc = summary_of(&out->side[side], value + side * c->prompts, c->prompts, seed, err);
    if (rc == 0 && out->n > 0) {
        out->difference = out->side[1].mean - out->side[0].mean;
        rc = paired_p_value(d, out->n, seed, &out->p, err);
    }
    if (rc == 0 && out->n > 1)
        rc = bootstrap_mean(d, out->n, seed, &out->low, &out->high, err);
    mem_free(value);
    mem_free(d);
    return rc;
}

/* ---- quality_comparison.json ------------------------------------------------------------------ */
static void put_number(JsonWriter *w, const char *key, double x)
{
    if (isfinite(x))
        jsonw_num(w, key, x);
    else
        jsonw_null(w, key);
}

static void put_change(JsonWriter *w, const char *name, const char *unit, int better, int saturates, const Change *x)
{
    double before = x->side[0].mean, percent = before != 0 ? 100 * x->difference / fabs(before) : NAN;
    char note[96];
    jsonw_open(w, name);
    put_number(w, "before", before);
    put_number(w, "after", x->side[1].mean);
    put_number(w, "difference", x->difference);
    put_number(w, "low", x->low);
    put_number(w, "high", x->high);
    put_number(w, "change_percent", percent);
    put_number(w, "improvement_percent", better ? better * percent : NAN);
    put_number(w, "p", x->p);
    jsonw_int(w, "prompts", x->n);
    jsonw_str(w, "unit", unit);
    jsonw_str(w, "better", better > 0 ? "higher" : better < 0 ? "lower" : "neither");
    jsonw_bool(w, "saturates", saturates);
    if (x->n < FEW_VIDEOS) {
        snprintf(note, sizeof note, "%" PRId64 " prompt%s: %s", x->n, str_plural(x->n),
                 x->n < 2   ? "too few for an interval"
                 : x->n < 6 ? "too few for any p below 0.05"
                            : "few, and the interval is rough");
        jsonw_str(w, "note", note);
    }
    jsonw_close(w);
}

static int put_changes(JsonWriter *w, const Comparison *c, const char *category, uint64_t seed, Err *err)
{
    Change x;
    int rc = 0;
    for (int k = 0; k < NET_FIGURES && networks_have_clip(c->networks) && rc == 0; k++)
        if ((rc = change_of(&x, c, CHANGE_NETWORK + k, category, seed, err)) == 0)
            put_change(w, net_figure_kinds[k].name, "", 1, net_figure_kinds[k].saturates, &x);
    for (int k = 0; figure_kinds[k].name && rc == 0; k++)
        if ((rc = change_of(&x, c, k, category, seed, err)) == 0)
            put_change(w, figure_kinds[k].name, figure_kinds[k].unit, figure_kinds[k].better, figure_kinds[k].saturates,
                       &x);
    if (rc == 0 && c->references && (rc = change_of(&x, c, CHANGE_COLOURS, category, seed, err)) == 0)
        put_change(w, "colours", "", -1, 0, &x); /* nearer to the references */
    return rc;
}

/* What the networks say of each run as a whole. */
static int put_networks(JsonWriter *w, const Comparison *c, uint64_t seed, Err *err)
{
    int rc = 0;
    if (!c->networks)
        return 0;
    jsonw_open(w, "networks");
    for (int side = 0; side < 2 && rc == 0; side++) {
        json_t *o = NULL;
        rc = networks_report(c->networks, c->side[side].features, c->references ? c->references->features : NULL, seed,
                             &o, err);
        if (rc == 0)
            jsonw_take(w, side_names[side], o);
    }
    jsonw_close(w);
    return rc;
}

/* What others' scores say, beside chance. */
static int put_scores(JsonWriter *w, const Comparison *c, uint64_t seed, Err *err)
{
    Change x;
    int rc = 0;
    if (!c->scores->n)
        return 0;
    jsonw_open(w, "scores");
    for (int64_t k = 0; k < c->scores->n && rc == 0; k++) {
        const Score *s = &c->scores->item[k];
        if ((rc = change_of(&x, c, CHANGE_SCORE + (int)k, NULL, seed, err)) < 0)
            break;
        jsonw_open(w, s->name);
        put_number(w, "before", x.side[0].mean);
        put_number(w, "before_low", x.side[0].low);
        put_number(w, "before_high", x.side[0].high);
        put_number(w, "after", x.side[1].mean);
        put_number(w, "after_low", x.side[1].low);
        put_number(w, "after_high", x.side[1].high);
        put_number(w, "difference", x.difference);
        put_number(w, "low", x.low);
        put_number(w, "high", x.high);
        put_number(w, "p", x.p);
        jsonw_int(w, "prompts", x.n);
        put_number(w, "chance", s->chance);
        jsonw_close(w);
    }
    jsonw_close(w);
    return rc;
}

static int put_categories(JsonWriter *w, const Comparison *c, uint64_t seed, Err *err)
{
    json_t *names = json_object(), *unused;
    const char *name;
    int rc = names ? 0 : err_set(err, ERR_NOMEM, "no memory for the categories");
    for (int64_t i = 0; i < c->n && rc == 0; i++)
        if (pair_category(c, i) && json_object_set_new(names, pair_category(c, i), json_null()) < 0)
            rc = err_set(err, ERR_NOMEM, "no memory for the categories");
    jsonw_open(w, "categories");
    json_object_foreach (names, name, unused) {
        if (rc < 0)
            break;
        jsonw_open(w, name);
        rc = put_changes(w, c, name, seed, err);
        jsonw_close(w);
    }
    jsonw_close(w);
    json_decref(names);
    return rc;
}

static void put_side(JsonWriter *w, const char *key, const Comparison *c, int side, Err *err)
{
    const Evaluation *e = &c->side[side];
    jsonw_open(w, key);
    jsonw_str(w, "videos", c->videos[side]);
    if (c->videos[side] != c->name[side] && strcmp(c->videos[side], c->name[side]) != 0)
        jsonw_str(w, "model", c->name[side]);
    jsonw_int(w, "measured", e->n_measured);
    jsonw_int(w, "rejected", e->n_rejected);
    jsonw_int(w, "near_static", e->n_near_static);
    jsonw_int(w, "without_partner", c->alone[side]);
    jsonw_take(w, "rejections", evaluation_rejected(e, err));
    jsonw_close(w);
}

static const Measured *of_pair(const Comparison *c, int64_t i, int side)
{
    return &c->side[side].measured[c->pair[i].at[side]];
}

/* Pairs of videos that are not alike, and the first of them. */
static void put_unlike(JsonWriter *w, const Comparison *c)
{
    const Measured *a = NULL, *b = NULL;
    char text[256];
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) {
        const Measured *one = of_pair(c, i, 0), *two = of_pair(c, i, 1);
        if (one->done != 1 || two->done != 1 ||
            (one->f.frames == two->f.frames && one->f.width == two->f.width && one->f.height == two->f.height))
            continue;
        if (n++ == 0)
            a = one, b = two;
    }
    if (n == 0)
        return;
    snprintf(text, sizeof text,
             "%" PRId64 " of %" PRId64 " pairs are of unlike videos, such as %" PRId64 " frames of %" PRId64 "x%" PRId64
             " and %" PRId64 " of %" PRId64 "x%" PRId64 ": the figures depend on number and size",
             n, c->n, a->f.frames, a->f.width, a->f.height, b->f.frames, b->f.width, b->f.height);
    jsonw_str(w, NULL, text);
}

static void put_warnings(JsonWriter *w, const Comparison *c)
{
    char text[256];
    jsonw_open_array(w, "warnings");
    put_unlike(w, c);
    if (c->prompts < FEW_VIDEOS) {
        snprintf(text, sizeof text, "%" PRId64 " prompt%s: only a very large difference can be seen", c->prompts,
                 str_plural(c->prompts));
        jsonw_str(w, NULL, text);
    }
    if (c->alone[0] + c->alone[1]) {
        snprintf(text, sizeof text, "videos without a partner: %" PRId64 " of the base, %" PRId64 " of the tuned run",
                 c->alone[0], c->alone[1]);
        jsonw_str(w, NULL, text);
    }
    if (c->side[0].n_rejected + c->side[1].n_rejected) {
        int64_t n = c->side[0].n_rejected + c->side[1].n_rejected;
        snprintf(text, sizeof text, "%" PRId64 " video%s could not be measured", n, str_plural(n));
        jsonw_str(w, NULL, text);
    }
    if (c->side[0].n_near_static + c->side[1].n_near_static) {
        snprintf(text, sizeof text,
                 "near-static videos: %" PRId64 " of the base, %" PRId64
                 " of the tuned run; SSIM, flicker and smoothness are best for a picture that stands still",
                 c->side[0].n_near_static, c->side[1].n_near_static);
        jsonw_str(w, NULL, text);
    }
    jsonw_close(w);
}

int comparison_json(const Comparison *c, uint64_t seed, json_t **out, Err *err)
{
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_open(&w, "tool");
    jsonw_str(&w, "name", "weft-infer");
    jsonw_str(&w, "version", WEFT_VERSION);
    jsonw_close(&w);
    jsonw_int(&w, "seed", (int64_t)seed);
    put_side(&w, "base", c, 0, err);
    put_side(&w, "tuned", c, 1, err);
    jsonw_int(&w, "pairs", c->n);
    jsonw_int(&w, "prompts", c->prompts);
    put_warnings(&w, c);
    json_t *protocol = evaluation_protocol(&c->side[0], c->references != NULL, err);
    if (protocol) {
        json_object_set_new(
            protocol, "interval",
            json_string("95 % of the difference, percentile bootstrap over prompts (a prompt's seeds are "
                        "averaged first), 9999 resamples drawn with the seed"));
        json_object_set_new(
            protocol, "p",
            json_string("two-sided randomisation test of the paired differences: all changes of sign up "
                        "to 14 prompts, 9999 drawn ones above; not corrected for the number of figures"));
    }
    jsonw_take(&w, "protocol", protocol);
    jsonw_open(&w, "metrics");
    int rc = put_changes(&w, c, NULL, seed, err);
    jsonw_close(&w);
    if (rc == 0)
        rc = put_categories(&w, c, seed, err);
    if (rc == 0)
        rc = put_scores(&w, c, seed, err);
    if (rc == 0)
        rc = put_networks(&w, c, seed, err);
    if (rc == 0 && c->copies) {
        json_t *copies = NULL;
        rc = copies_json(c->copies, side_names, &copies, err);
        if (rc == 0)
            jsonw_take(&w, "copy_check", copies);
    }
    int written = jsonw_finish(&w, out, "quality_comparison.json", err);
    return rc < 0 ? rc : written;
}

/* ---- pairs.csv, clip_scores.csv --------------------------------------------------------------- */
static void csv_pair(FILE *out, const Comparison *c, int64_t i)
{
    const VideoItem *a = &c->side[0].videos.item[c->pair[i].at[0]], *b = &c->side[1].videos.item[c->pair[i].at[1]];
    csv_put_text(out, pair_title(c, i));
    putc(',', out);
    if (a->seed >= 0)
        fprintf(out, "%" PRId64, a->seed);
    putc(',', out);
    csv_put_text(out, pair_category(c, i));
    putc(',', out);
    csv_put_text(out, a->path);
    putc(',', out);
    csv_put_text(out, b->path);
}

static void csv_both(FILE *out, const Comparison *c, int64_t i, int kind)
{
    for (int side = 0; side < 2; side++)
        csv_put_number(out, value_of(c, i, side, kind));
}

int comparison_write_csv(const Comparison *c, const char *path, Err *err)
{
    AtomicFile *f = NULL;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    fputs("prompt,seed,category,base,tuned", out);
    for (int k = 0; figure_kinds[k].name; k++)
        fprintf(out, ",%s_base,%s_tuned", figure_kinds[k].name, figure_kinds[k].name);
    for (int64_t k = 0; k < c->scores->n; k++)
        fprintf(out, ",%s_base,%s_tuned", c->scores->item[k].name, c->scores->item[k].name);
    fputs(c->references ? ",colours_base,colours_tuned\n" : "\n", out);
    for (int64_t i = 0; i < c->n; i++) {
        csv_pair(out, c, i);
        for (int k = 0; figure_kinds[k].name; k++)
            csv_both(out, c, i, k);
        for (int64_t k = 0; k < c->scores->n; k++)
            csv_both(out, c, i, CHANGE_SCORE + (int)k);
        if (c->references)
            csv_both(out, c, i, CHANGE_COLOURS);
        putc('\n', out);
    }
    return atomic_commit(&f, err);
}

int comparison_write_clip_scores(const Comparison *c, const char *path, Err *err)
{
    AtomicFile *f = NULL;
    int rc = atomic_open(&f, path, err);
    if (rc < 0)
        return rc;
    FILE *out = atomic_stream(f);
    fputs("prompt,seed,category,base,tuned", out);
    for (int k = 0; k < NET_FIGURES; k++)
        fprintf(out, ",%s_base,%s_tuned", net_figure_kinds[k].name, net_figure_kinds[k].name);
    putc('\n', out);
    for (int64_t i = 0; i < c->n; i++) {
        csv_pair(out, c, i);
        for (int k = 0; k < NET_FIGURES; k++)
            csv_both(out, c, i, CHANGE_NETWORK + k);
        putc('\n', out);
    }
    return atomic_commit(&f, err);
}
