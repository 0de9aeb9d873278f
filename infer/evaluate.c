#include "infer/evaluate.h"

#include <math.h>
#include <string.h>

#include "common/base/build.h"
#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/base/threads.h"

const Opt evaluate_opts[] = {
    OPTS_RECIPE,
    OPT_DEVICE,
    OPT_JOBS,
    OPT_SEED,
    OPTS_LOG,
    OPTION(
        EvaluateOptions, references, OPT_LIST, "references", "VIDEOS",
        "real videos (as VIDEOS): their figures stand beside, and colours are compared with theirs; may be repeated"),
    OPTION(EvaluateOptions, prompts, OPT_STR, "prompts", "FILE",
           "prompts and categories of videos that have no record: .jsonl objects whose id is a video's name"),
    OPTS_NETWORKS(EvaluateOptions),
    OPTS_COPIES(EvaluateOptions, COPIES_MODEL_HELP),
    OPTION(EvaluateOptions, out, OPT_STR, "out", "DIR", "where metrics.json, metrics.csv and evaluate.html go",
           .short_name = 'o', .required = 1),
    {0},
};

const char *const measured_names[2] = {"videos", "videos"};

/* ---- metrics.json ----------------------------------------------------------------------------- */
static void put_figure(JsonWriter *w, const char *name, const char *unit, const char *what, int better, int saturates,
                       const Summary *s, const Summary *reference, Err *err)
{
    json_t *o = summary_json(s, err);
    if (o) {
        json_object_set_new(o, "unit", json_string(unit));
        json_object_set_new(o, "better", json_string(better > 0 ? "higher" : better < 0 ? "lower" : "neither"));
        json_object_set_new(o, "saturates", json_boolean(saturates));
        json_object_set_new(o, "what", json_string(what));
        if (reference)
            json_object_set_new(o, "reference", summary_json(reference, err));
    }
    jsonw_take(w, name, o);
}

static void put_counts(JsonWriter *w, const Evaluation *e, const Evaluation *references)
{
    jsonw_open(w, "counts");
    jsonw_int(w, "videos", e->videos.n);
    jsonw_int(w, "measured", e->n_measured);
    jsonw_int(w, "rejected", e->n_rejected);
    jsonw_int(w, "single_frame", e->n_single);
    jsonw_int(w, "near_static", e->n_near_static);
    jsonw_int(w, "frozen", e->n_frozen);
    if (references) {
        jsonw_int(w, "references", references->videos.n);
        jsonw_int(w, "references_measured", references->n_measured);
        jsonw_int(w, "references_rejected", references->n_rejected);
    }
    jsonw_close(w);
}

/* Whether all measured videos have one size and number of frames. */
static int alike(const Evaluation *e)
{
    const VideoFigures *first = NULL;
    for (int64_t i = 0; i < e->videos.n; i++) {
        const VideoFigures *f = &e->measured[i].f;
        if (e->measured[i].done != 1)
            continue;
        first = first ? first : f;
        if (f->frames != first->frames || f->width != first->width || f->height != first->height)
            return 0;
    }
    return 1;
}

static void put_warnings(JsonWriter *w, const Evaluation *e, const Evaluation *references)
{
    char text[256];
    jsonw_open_array(w, "warnings");
    if (e->n_rejected) {
        snprintf(text, sizeof text, "%" PRId64 " of %" PRId64 " videos could not be measured", e->n_rejected,
                 e->videos.n);
        jsonw_str(w, NULL, text);
    }
    if (references && references->n_rejected) {
        snprintf(text, sizeof text, "%" PRId64 " of %" PRId64 " references could not be measured",
                 references->n_rejected, references->videos.n);
        jsonw_str(w, NULL, text);
    }
    if (e->n_measured < FEW_VIDEOS) {
        snprintf(text, sizeof text, "%" PRId64 " video%s: too few to tell models apart; intervals are rough below %d",
                 e->n_measured, str_plural(e->n_measured), FEW_VIDEOS);
        jsonw_str(w, NULL, text);
    }
    if (e->n_near_static) {
        snprintf(text, sizeof text,
                 "%" PRId64
                 " video%s near-static: SSIM, flicker and smoothness are best for a picture that stands still",
                 e->n_near_static, e->n_near_static == 1 ? " is" : "s are");
        jsonw_str(w, NULL, text);
    }
    if (e->n_single) {
        snprintf(text, sizeof text, "%" PRId64 " video%s one frame: figures of pairs leave them out", e->n_single,
                 e->n_single == 1 ? " has" : "s have");
        jsonw_str(w, NULL, text);
    }
    if (!alike(e))
        jsonw_str(w, NULL, "the videos differ in size or number of frames: figures over time depend on both");
    jsonw_close(w);
}

/* The mean of some figures in each category. */
static int put_categories(JsonWriter *w, const Evaluation *e, uint64_t seed, Err *err)
{
    double *x = mem_calloc(e->videos.n, sizeof *x, err);
    json_t *names = json_object();
    const char *name;
    json_t *unused;
    int rc = x && names ? 0 : ERR_NOMEM;
    for (int64_t i = 0; i < e->videos.n && rc == 0; i++)
        if (e->videos.item[i].category && json_object_set_new(names, e->videos.item[i].category, json_null()) < 0)
            rc = ERR_NOMEM;
    jsonw_open(w, "categories");
    json_object_foreach (names, name, unused) {
        jsonw_open(w, name);
        for (int k = 0; figure_kinds[k].name && rc == 0; k++) {
            Summary s;
            for (int64_t i = 0; i < e->videos.n; i++) {
                const char *category = e->videos.item[i].category;
                x[i] = category && strcmp(category, name) == 0 && e->measured[i].done == 1
                           ? figure_value(&e->measured[i].f, &figure_kinds[k])
                           : NAN;
            }
            rc = summary_of(&s, x, e->videos.n, seed, err);
            if (rc == 0)
                jsonw_take(w, figure_kinds[k].name, summary_json(&s, err));
        }
        jsonw_close(w);
    }
    jsonw_close(w);
    json_decref(names);
    mem_free(x);
    return rc == ERR_NOMEM ? err_set(err, rc, "no memory for the categories") : rc;
}

static int report_json(const Measurements *m, uint64_t seed, json_t **out, Err *err)
{
    const Evaluation *e = m->videos, *references = m->references;
    const Networks *networks = m->networks;
    json_t *nets = NULL, *copies = NULL;
    int made = networks
                   ? networks_report(networks, e->features, references ? references->features : NULL, seed, &nets, err)
                   : 0;
    if (made == 0 && m->copies && (made = copies_json(m->copies, measured_names, &copies, err)) < 0)
        json_decref(nets);
    if (made < 0)
        return made;
    JsonWriter w;
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_open(&w, "tool");
    jsonw_str(&w, "name", "weft-infer");
    jsonw_str(&w, "version", WEFT_VERSION);
    jsonw_close(&w);
    jsonw_int(&w, "seed", (int64_t)seed);
    put_counts(&w, e, references);
    put_warnings(&w, e, references);
    jsonw_take(&w, "protocol", evaluation_protocol(e, references != NULL, err));
    jsonw_open(&w, "figures");
    for (int k = 0; figure_kinds[k].name; k++) {
        const FigureKind *kind = &figure_kinds[k];
        put_figure(&w, kind->name, kind->unit, kind->what, kind->better, kind->saturates, &e->figure[k],
                   references ? &references->figure[k] : NULL, err);
    }
    for (int k = 0; k < NET_FIGURES && networks_have_clip(networks); k++)
        put_figure(&w, net_figure_kinds[k].name, "", net_figure_kinds[k].what, 1, net_figure_kinds[k].saturates,
                   &e->network[k], references ? &references->network[k] : NULL, err);
    if (references)
        put_figure(&w, "colours", "", "distance of a video's colours to the references' mean", -1, 0, &e->colours, NULL,
                   err);
    jsonw_close(&w);
    if (nets)
        jsonw_take(&w, "networks", nets);
    if (copies)
        jsonw_take(&w, "copy_check", copies);
    int rc = put_categories(&w, e, seed, err);
    jsonw_take(&w, "rejected", evaluation_rejected(e, err));
    if (references)
        jsonw_take(&w, "rejected_references", evaluation_rejected(references, err));
    int written = jsonw_finish(&w, out, "metrics.json", err);
    return rc < 0 ? rc : written;
}

/* ---- the command ------------------------------------------------------------------------------ */
/* reference: may be NULL */
static void print_figure(const char *name, const Summary *s, const Summary *reference, FILE *out)
{
    fprintf(out, "  %-18s", name);
    if (s->n > 0)
        fprintf(out, " %10.6g", s->mean);
    if (s->n > 1)
        fprintf(out, "  [%.6g, %.6g]", s->low, s->high);
    if (reference && reference->n > 0)
        fprintf(out, "  references %.6g", reference->mean);
    if (s->n < FEW_VIDEOS)
        fprintf(out, "  (%" PRId64 " video%s)", s->n, str_plural(s->n));
    fprintf(out, "\n");
}

static void print_summary(const Evaluation *e, const Evaluation *references, FILE *out)
{
    fprintf(out, "%" PRId64 " video%s measured, %" PRId64 " rejected, %" PRId64 " near-static\n", e->n_measured,
            str_plural(e->n_measured), e->n_rejected, e->n_near_static);
    for (int k = 0; figure_kinds[k].name; k++)
        print_figure(figure_kinds[k].name, &e->figure[k], references ? &references->figure[k] : NULL, out);
    if (references)
        print_figure("colours", &e->colours, NULL, out);
}

/* CLIP's figures, those of sets and attributes, and what was left out. */
static void print_networks(const json_t *nets, const Measurements *m, FILE *out)
{
    const char *name;
    const json_t *v;
    size_t i;
    for (int k = 0; k < NET_FIGURES && networks_have_clip(m->networks); k++)
        print_figure(net_figure_kinds[k].name, &m->videos->network[k],
                     m->references ? &m->references->network[k] : NULL, out);
    json_object_foreach ((json_t *)json_object_get(nets, "sets"), name, v) {
        const json_t *value = json_object_get(v, "value"), *note = json_object_get(v, "note");
        fprintf(out, "  %-18s", name);
        if (json_is_number(value))
            fprintf(out, " %10.6g", json_number_value(value));
        if (json_object_get(v, "low"))
            fprintf(out, "  [%.6g, %.6g]", json_number_value(json_object_get(v, "low")),
                    json_number_value(json_object_get(v, "high")));
        if (json_object_get(v, "infinite"))
            fprintf(out, "  for infinitely many %.6g", json_number_value(json_object_get(v, "infinite")));
        if (json_object_get(v, "floor"))
            fprintf(out, "  halves of the references %.6g", json_number_value(json_object_get(v, "floor")));
        fprintf(out, "%s%s%s\n", note ? "  (" : "", note ? json_string_value(note) : "", note ? ")" : "");
    }
    json_object_foreach ((json_t *)json_object_get(nets, "attributes"), name, v)
        if (json_is_number(json_object_get(v, "accuracy")) && json_object_get(v, "chance"))
            fprintf(out, "  %-18s %9.1f %%  of %" PRId64 "; chance %.1f %%, always the most frequent %.1f %%\n", name,
                    100 * json_number_value(json_object_get(v, "accuracy")),
                    (int64_t)json_integer_value(json_object_get(v, "n")),
                    100 * json_number_value(json_object_get(v, "chance")),
                    100 * json_number_value(json_object_get(v, "majority")));
    json_array_foreach (json_object_get(nets, "left_out"), i, v)
        fprintf(out, "  left out: %s\n", json_string_value(json_object_get(v, "metrics")));
}

static int write_all(const EvaluateOptions *o, const Measurements *m, uint64_t seed, FILE *results, Err *err)
{
    DirLock lock = {0};
    json_t *report = NULL;
    char *csv = path_join(o->out, "metrics.csv", err), *page = path_join(o->out, "evaluate.html", err),
         *json = path_join(o->out, "metrics.json", err), *scores = path_join(o->out, "clip_scores.csv", err),
         *closest = path_join(o->out, "closest_clips.csv", err);
    int rc = csv && page && json && scores && closest ? report_json(m, seed, &report, err) : ERR_NOMEM;
    if (rc == 0)
        rc = schema_check("metrics", report, json, err);
    if (rc == 0)
        rc = dir_make(o->out, err);
    if (rc == 0 && (rc = dir_lock(&lock, o->out, err)) == 0) {
        rc = dir_sweep_temporaries(o->out, err);
        if (rc == 0)
            rc = evaluation_write_csv(m->videos, csv, err);
        if (rc == 0 && networks_have_clip(m->networks))
            rc = evaluation_write_clip_scores(m->videos, scores, err);
        if (rc == 0 && m->copies)
            rc = copies_write_csv(m->copies, measured_names, closest, err);
        if (rc == 0)
            rc = evaluate_write_page(page, m, report, err);
        if (rc == 0)
            rc = json_write_file(report, json, err);
        dir_unlock(&lock);
    }
    if (rc == 0)
        print_summary(m->videos, m->references, results);
    if (rc == 0)
        print_networks(json_object_get(report, "networks"), m, results);
    if (rc == 0 && m->copies)
        copies_print(m->copies, measured_names, results);
    json_decref(report);
    mem_free(csv);
    mem_free(page);
    mem_free(json);
    mem_free(scores);
    mem_free(closest);
    return rc;
}

static int evaluate_all(const EvaluateOptions *o, const Recipe *recipe, Networks *networks, Copies *copies,
                        VideoList *videos, VideoList *real, const Log *log, FILE *results, Err *err)
{
    Evaluation e = {0}, r = {0};
    Measurements m = {&e, real->n ? &r : NULL, networks, copies};
    double histogram[COLOUR_BINS] = {0};
    int64_t jobs = threads_choose(o->common.jobs);
    const Evaluation *references = m.references;
    int rc = 0;
    if (references)
        rc = evaluation_run(&r, real, NULL, NULL, histogram, networks, recipe, jobs, "references", log, err);
    histogram_normalise(histogram);
    if (rc == 0)
        rc = evaluation_run(&e, videos, references, references ? histogram : NULL, NULL, networks, recipe, jobs,
                            "videos", log, err);
    if (rc == 0 && copies)
        rc = copies_run(copies, (const Evaluation *const[]){&e}, 1, err);
    if (rc == 0)
        rc = write_all(o, &m, (uint64_t)recipe_int(recipe, "seed"), results, err);
    int rejected = e.n_rejected + r.n_rejected + networks_left_out(networks) > 0;
    evaluation_fini(&e);
    evaluation_fini(&r);
    return rc < 0 ? rc : rejected ? 3 : 0;
}

int evaluate_run(const EvaluateOptions *o, const StrList *arguments, const Log *log, FILE *results, Err *err)
{
    Recipe *recipe = NULL;
    Networks *networks = NULL;
    Copies *copies = NULL;
    VideoList videos = {0}, references = {0};
    machine_unbind(); /* the work is done by processes, not by OpenMP */
    int rc = recipe_open(&recipe, &o->common, err);
    if (rc == 0 && o->copies.model && !o->copies.cache)
        rc = err_set(err, ERR_USAGE, "--model is for the copy check: give --train-cache too");
    if (rc == 0)
        rc = disk_check_writable(o->out, "--out", err);
    if (rc == 0)
        rc = videos_read(&videos, arguments, "videos", err);
    if (rc == 0)
        rc = videos_once(&videos, "videos", log, err);
    if (rc == 0 && o->references.n)
        rc = videos_read(&references, &o->references, "references", err);
    if (rc == 0)
        rc = videos_once(&references, "references", log, err);
    if (rc == 0 && o->prompts)
        rc = videos_take_prompts(&videos, o->prompts, log, err);
    if (rc == 0)
        rc = networks_open(&networks, &o->networks, o->common.device, threads_choose(o->common.jobs), o->out, log, err);
    if (rc == 0)
        rc = copies_open(&copies, &o->copies, o->common.device, o->common.jobs, recipe, log, err);
    if (rc == 0 && copies)
        rc = copies_plan(copies, 0, &videos, err);
    if (rc == 0)
        rc = evaluate_all(o, recipe, networks, copies, &videos, &references, log, results, err);
    copies_close(&copies);
    networks_close(&networks);
    videos_fini(&videos);
    videos_fini(&references);
    recipe_close(&recipe);
    return rc;
}
