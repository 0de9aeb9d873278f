/* The command: options, measuring both sides, files. */
#include "infer/compare.h"

#include <string.h>

#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "infer/pipeline.h"

const Opt compare_opts[] = {
    OPTS_RECIPE,
    OPT_DEVICE,
    OPT_JOBS,
    OPT_SEED,
    OPTS_LOG,
    OPT_DRY_RUN,
    OPTS_PROMPTS(CompareOptions, sampling.),
    OPTS_SAMPLING,
    OPTION(CompareOptions, sampling.overwrite, OPT_FLAG, "overwrite", NULL,
           "replace samples in DIR/base and DIR/tuned that were made with another model, prompt, seed or settings"),
    OPTION(CompareOptions, references, OPT_LIST, "references", "VIDEOS",
           "real videos, to whose colours both runs are compared; may be repeated"),
    OPTION(CompareOptions, scores, OPT_LIST, "scores", "FILE",
           "a table (CSV) of scores that others gave: a line a video, a column a score; may be repeated"),
    OPTION(CompareOptions, train_clips, OPT_STR, "train-clips", "DIR",
           "with --train-cache: the training clips as DIR/ID.mp4, to show the closest beside each sample"),
    OPTION(CompareOptions, run, OPT_STR, "run", "DIR",
           "the folder of weft-train run that made the tuned model: the page links to its report, with the curves"),
    OPTS_NETWORKS(CompareOptions),
    OPTS_COPIES(CompareOptions,
                "pipeline folder: of a BASE or TUNED that is a checkpoint or an adapter (default: BASE); with "
                "--train-cache its VAE encodes videos without latents"),
    OPTION(CompareOptions, blind, OPT_FLAG, "blind", NULL,
           "also write DIR/blind, a page to vote on without knowing the sides, and DIR/key.json, which tells them"),
    OPTION(
        CompareOptions, votes, OPT_LIST, "votes", "FILE",
        "count the votes that the page saved, instead of comparing; needs --key, not BASE and TUNED; may be repeated"),
    OPTION(CompareOptions, key, OPT_LIST, "key", "FILE", "the key.json of a page that was voted on; may be repeated"),
    OPTION(CompareOptions, out, OPT_STR, "out", "DIR", "where quality_comparison.json, pairs.csv and report.html go",
           .short_name = 'o', .required = 1),
    {0},
};

const char *const side_names[2] = {"base", "tuned"};

static int write_files(const CompareOptions *o, const Comparison *c, const Recipe *recipe, json_t *report, Err *err)
{
    uint64_t seed = (uint64_t)recipe_int(recipe, "seed");
    DirLock lock = {0};
    char *csv = path_join(o->out, "pairs.csv", err), *json = path_join(o->out, "quality_comparison.json", err),
         *scores = path_join(o->out, "clip_scores.csv", err), *closest = path_join(o->out, "closest_clips.csv", err);
    int rc = csv && json && scores && closest ? schema_check("comparison", report, json, err) : ERR_NOMEM;
    if (rc == 0)
        rc = dir_make(o->out, err);
    if (rc == 0 && (rc = dir_lock(&lock, o->out, err)) == 0) {
        rc = dir_sweep_temporaries(o->out, err);
        if (rc == 0)
            rc = comparison_write_csv(c, csv, err);
        if (rc == 0 && networks_have_clip(c->networks))
            rc = comparison_write_clip_scores(c, scores, err);
        if (rc == 0 && c->copies)
            rc = copies_write_csv(c->copies, side_names, closest, err);
        if (rc == 0)
            rc = comparison_write_page(c, o->out, report, err);
        if (rc == 0)
            rc = json_write_file(report, json, err);
        if (rc == 0 && o->blind) /* last: once it is there, the same command is refused */
            rc = blind_write(c, o->out, seed, recipe, threads_choose(o->common.jobs), err);
        dir_unlock(&lock);
    }
    mem_free(csv);
    mem_free(scores);
    mem_free(closest);
    mem_free(json);
    return rc;
}

static void print_score_side(const json_t *m, const char *value, const char *low, const char *high, FILE *out)
{
    char interval[48] = "";
    if (json_is_number(json_object_get(m, low)))
        snprintf(interval, sizeof interval, "[%.3g, %.3g]", json_number_value(json_object_get(m, low)),
                 json_number_value(json_object_get(m, high)));
    fprintf(out, " %7.3g %-16s", json_number_value(json_object_get(m, value)), interval);
}

static void print_scores(const json_t *report, FILE *out)
{
    const char *name;
    json_t *m, *all = json_object_get(report, "scores");
    if (all)
        fprintf(out, "scores, with 95 %% intervals\n  %-18s %7s %-16s %7s %-16s %7s\n", "", "base", "", "tuned", "",
                "chance");
    json_object_foreach (all, name, m) {
        const json_t *chance = json_object_get(m, "chance");
        if (!json_is_number(json_object_get(m, "before")))
            continue;
        fprintf(out, "  %-18s", name);
        print_score_side(m, "before", "before_low", "before_high", out);
        print_score_side(m, "after", "after_low", "after_high", out);
        if (json_is_number(chance))
            fprintf(out, " %7.3g", json_number_value(chance));
        putc('\n', out);
    }
}

static void print_summary(const Comparison *c, const json_t *report, FILE *out)
{
    const char *name;
    json_t *m;
    size_t i;
    fprintf(out, "%" PRId64 " pair%s of %" PRId64 " prompt%s\n", c->n, str_plural(c->n), c->prompts,
            str_plural(c->prompts));
    json_array_foreach (json_object_get(report, "warnings"), i, m)
        fprintf(out, "  note: %s\n", json_string_value(m));
    json_object_foreach (json_object_get(report, "metrics"), name, m) {
        const json_t *low = json_object_get(m, "low");
        if (!json_is_number(json_object_get(m, "before")))
            continue;
        fprintf(out, "  %-18s %10.6g -> %10.6g  %+.6g", name, json_number_value(json_object_get(m, "before")),
                json_number_value(json_object_get(m, "after")), json_number_value(json_object_get(m, "difference")));
        if (json_is_number(low))
            fprintf(out, " [%+.6g, %+.6g]", json_number_value(low), json_number_value(json_object_get(m, "high")));
        fprintf(out, "  p %.3g\n", json_number_value(json_object_get(m, "p")));
    }
    print_scores(report, out);
    if (c->copies)
        copies_print(c->copies, side_names, out);
}

/* That the training run has a report to link to. */
static int check_run(const char *run, Err *err)
{
    char *report = run ? path_join(run, "report.html", err) : NULL;
    int rc = run && !report ? ERR_NOMEM : 0;
    if (report && !file_exists(report))
        rc = err_set(err, ERR_NOTFOUND, "--run: there is no '%s'; 'weft-train report %s' writes it", report, run);
    mem_free(report);
    return rc;
}

static int check_clips(const CompareOptions *o, Err *err)
{
    if (o->train_clips && !o->copies.cache)
        return err_set(err, ERR_USAGE, "--train-clips shows what --train-cache finds: give both");
    if (o->train_clips && !file_is_dir(o->train_clips))
        return err_set(err, ERR_NOTFOUND, "--train-clips: there is no folder '%s'", o->train_clips);
    return 0;
}

/* One comparison from its arguments to its files. */
typedef struct Comparing {
    const CompareOptions *o;
    const Log *log;
    FILE *results;
    Recipe *recipe;
    Sides sides;
    VideoList side[2], real;
    Comparison c;
    Evaluation references;
    Networks *networks;
    Scores scores;
} Comparing;

/* Whether the copy check can be made of the samples to come. */
static int check_copies(Comparing *k, Err *err)
{
    const CompareOptions *o = k->o;
    CopyOptions copies = {o->copies.cache, o->copies.latents, k->sides.copies.model};
    SampleSettings s;
    Copies *c;
    int rc = copies_open(&c, &copies, o->common.device, o->common.jobs, k->recipe, NULL, err);
    if (rc == 0 && c)
        rc = sample_settings(&s, k->recipe, err);
    if (rc == 0 && c)
        rc = copies_expect(c, s.num_frames, s.height, s.width, err);
    copies_close(&c);
    return rc;
}

/* Everything that can be known before a model is sampled for hours. */
static int check_all(Comparing *k, const StrList *arguments, Err *err)
{
    const CompareOptions *o = k->o;
    int rc = disk_check_writable(o->out, "--out", err);
    if (rc == 0)
        rc = check_run(o->run, err);
    if (rc == 0)
        rc = check_clips(o, err);
    if (rc == 0 && o->blind)
        rc = blind_check(o->out, err);
    if (rc == 0)
        rc = sides_open(&k->sides, o, arguments, err);
    if (rc == 0 && o->references.n)
        rc = videos_read(&k->real, &o->references, "references", err);
    if (rc == 0)
        rc = videos_once(&k->real, "references", k->log, err);
    if (rc < 0 || !sides_sampled(&k->sides))
        return rc;
    for (int i = 0; i < 2 && rc == 0; i++)
        if (!k->sides.side[i].sampled) {
            rc = videos_read(&k->side[i], &(StrList){arguments->item + i, 1}, "videos", err);
            if (rc == 0 && !o->sampling.from_cache)
                rc = sides_match_prompts(o, &k->side[i], (uint64_t)recipe_int(k->recipe, "seed"), err);
            videos_fini(&k->side[i]); /* read again after sampling */
        }
    if (rc == 0)
        rc = networks_open(&k->networks, &o->networks, o->common.device, threads_choose(o->common.jobs), o->out, k->log,
                           err);
    networks_close(&k->networks); /* their memory is the models' meanwhile */
    if (rc == 0)
        rc = check_copies(k, err);
    return rc == 0 ? sides_check(&k->sides, o->common.dry_run, k->log, k->results, err) : rc;
}

/* Which videos there are, and all that is needed to measure them. */
static int open_all(Comparing *k, Err *err)
{
    const CompareOptions *o = k->o;
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        k->c.videos[i] = k->sides.side[i].videos;
        rc = sides_videos(&k->sides, i, &k->side[i], err);
    }
    if (rc == 0)
        rc = pairs_match(k->side, &k->c.pair, &k->c.n, &k->c.prompts, err);
    for (int i = 0; i < 2 && rc == 0; i++)
        k->c.alone[i] = k->side[i].n - k->c.n;
    k->c.scores = &k->scores;
    if (rc == 0 && o->scores.n)
        rc = scores_read(&k->scores, &o->scores, k->side, k->log, err);
    if (rc == 0)
        rc = networks_open(&k->networks, &o->networks, o->common.device, threads_choose(o->common.jobs), o->out, k->log,
                           err);
    if (rc == 0)
        rc = copies_open(&k->c.copies, &k->sides.copies, o->common.device, o->common.jobs, k->recipe, k->log, err);
    for (int i = 0; i < 2 && rc == 0 && k->c.copies; i++)
        rc = copies_plan(k->c.copies, i, &k->side[i], err);
    return rc;
}

/* Measures the references and both sides, whose lists are taken over. */
static int measure_all(Comparing *k, Err *err)
{
    static const char *const what[] = {"videos of the base run", "videos of the tuned run"};
    double histogram[COLOUR_BINS] = {0};
    int64_t jobs = threads_choose(k->o->common.jobs);
    Comparison *c = &k->c;
    int rc = 0;
    c->networks = k->networks;
    c->references = k->real.n ? &k->references : NULL;
    if (c->references) {
        rc = evaluation_run(&k->references, &k->real, NULL, NULL, histogram, k->networks, k->recipe, jobs, "references",
                            k->log, err);
        histogram_normalise(histogram);
    }
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = evaluation_run(&c->side[i], &k->side[i], c->references, c->references ? histogram : NULL, NULL,
                            k->networks, k->recipe, jobs, what[i], k->log, err);
    if (rc == 0 && c->copies)
        rc = copies_run(c->copies, (const Evaluation *const[]){&c->side[0], &c->side[1]}, 2, err);
    return rc;
}

static int report_all(Comparing *k, Err *err)
{
    json_t *report = NULL;
    int rc = comparison_json(&k->c, (uint64_t)recipe_int(k->recipe, "seed"), &report, err);
    if (rc == 0)
        rc = write_files(k->o, &k->c, k->recipe, report, err);
    if (rc == 0)
        print_summary(&k->c, report, k->results);
    json_decref(report);
    return rc;
}

static int compare_sides(const CompareOptions *o, const StrList *arguments, const Log *log, FILE *results, Err *err)
{
    Comparing k = {.o = o, .log = log, .results = results};
    k.c.name[0] = arguments->item[0];
    k.c.name[1] = arguments->item[1];
    k.c.run = o->run;
    k.c.clips = o->train_clips;
    int rc = recipe_open(&k.recipe, &o->common, err);
    if (rc == 0)
        rc = check_all(&k, arguments, err);
    if (rc == 0 && sides_sampled(&k.sides) && !o->common.dry_run)
        rc = sides_sample(&k.sides, log, err);
    machine_unbind(); /* measuring is done by processes, not by OpenMP */
    if (rc == 0 && !(o->common.dry_run && sides_sampled(&k.sides)))
        rc = open_all(&k, err);
    if (rc == 0 && o->common.dry_run && !sides_sampled(&k.sides))
        fprintf(results, "would compare %" PRId64 " pair%s of %" PRId64 " prompt%s\n", k.c.n, str_plural(k.c.n),
                k.c.prompts, str_plural(k.c.prompts));
    if (rc == 0 && !o->common.dry_run)
        rc = measure_all(&k, err);
    if (rc == 0 && !o->common.dry_run)
        rc = report_all(&k, err);
    int rejected = k.references.n_rejected + k.c.side[0].n_rejected + k.c.side[1].n_rejected +
                       networks_left_out(k.networks) >
                   0;
    mem_free(k.c.pair);
    scores_fini(&k.scores);
    copies_close(&k.c.copies);
    evaluation_fini(&k.references);
    for (int i = 0; i < 2; i++) {
        evaluation_fini(&k.c.side[i]);
        videos_fini(&k.side[i]);
    }
    networks_close(&k.networks);
    videos_fini(&k.real);
    sides_close(&k.sides);
    recipe_close(&k.recipe);
    return rc < 0 ? rc : rejected ? 3 : 0;
}

/* Counting votes needs of the recipe its seed alone. */
static int count(const CompareOptions *o, FILE *results, Err *err)
{
    Recipe *recipe = NULL;
    int rc = recipe_open(&recipe, &o->common, err);
    if (rc == 0)
        rc = disk_check_writable(o->out, "--out", err);
    if (rc == 0)
        rc = votes_count(&o->votes, &o->key, o->out, (uint64_t)recipe_int(recipe, "seed"), results, err);
    recipe_close(&recipe);
    return rc;
}

int compare_run(const CompareOptions *o, const StrList *sides, const Log *log, FILE *results, Err *err)
{
    if (o->votes.n || o->key.n) {
        if (sides->n || !o->votes.n || !o->key.n || o->blind || o->references.n || o->scores.n)
            return err_set(
                err, ERR_USAGE,
                "votes are counted by --votes FILE and --key FILE together, without BASE and TUNED, --blind, "
                "--references and --scores");
        return count(o, results, err);
    }
    if (sides->n != 2)
        return err_set(err, ERR_USAGE, "%" PRId64 " sample run%s or model%s, expected two: BASE and TUNED", sides->n,
                       str_plural(sides->n), str_plural(sides->n));
    return compare_sides(o, sides, log, results, err);
}
