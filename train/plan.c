/* Steps, memory, operations and time, printed before a run and compared after it. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/schema.h"
#include "train/advice.h"
#include "train/expected.h"
#include "train/fit.h"
#include "train/forecast.h"
#include "train/pipeline.h"
#include "train/plan.h"
#include "train/preflight.h"

/* ---- time ------------------------------------------------------------------------------------ */

/* Measures on the job's device; 1 when j->forecast is set, 0 when the device would compute in another
 * precision than the recipe's or only imitates one. */
static int measure(Job *j, const TrainOptions *o, FILE *out, Err *err)
{
    Backend *be = NULL;
    char a[32], b[32];
    /* a plan for a device that this machine lacks is made without it */
    int rc = backend_open(&be, j->plan ? o->common.device : j->be->name, j->plan ? o->common.jobs : j->be->threads,
                          NULL, j->plan ? NULL : err);

    if (rc < 0)
        return j->plan && rc != ERR_NOMEM ? 0 : rc;
    if (be->act == j->be->act && strcmp(be->name, "sim") != 0 && strcmp(be->name, "ref") != 0) {
        rc = forecast_measure(&j->forecast, j, 0, be, err);
        if (rc == 0)
            fprintf(out, "time               %s a step, %s in all (measured on %s%s%s)\n",
                    time_duration(j->forecast.step, a), time_duration(j->forecast.all, b), be->name,
                    *be->card ? ": " : "", be->card);
        rc = rc == 0 ? 1 : rc;
    }
    backend_close(&be);
    return rc;
}

/* "A100: 44 s a step, 3.7 h in all"; f: the last one. */
static void print_cards(const Job *j, const char *only, Forecast *f, FILE *out)
{
    const char *const names[] = {only ? only : "A100", "H100"};
    char a[32], b[32];

    fputs("time               ", out);
    for (int i = 0; i < (only ? 1 : 2); i++) {
        Card card;
        if (!card_find(&card, names[i]))
            continue;
        forecast_card(f, j, 0, &card);
        fprintf(out, "%s%s: %s a step, %s in all", i ? "; " : "", names[i], time_duration(f->step, a),
                time_duration(f->all, b));
    }
    fputs(" (calculated from data sheets)\n", out);
}

/* One line: what the recipe says of time, memory and card, beside the prediction. */
static void print_expected(const Job *j, const Forecast *f, FILE *out)
{
    const char *time = recipe_str(j->recipe, "expected.training_time"), *gpu = recipe_str(j->recipe, "expected.gpu");
    const char *memory = recipe_str(j->recipe, "expected.vram_usage");
    char a[32], b[32];

    if (!time && !memory)
        return;
    fputs("the recipe says   ", out);
    if (time)
        fprintf(out, " %s (predicted: %s, %+.0f %%)%s", time, time_duration(f->all, a),
                100 * (f->all / expected_seconds(time) - 1), memory ? "," : "");
    if (memory)
        fprintf(out, " %s (predicted: %s, %+.0f %%)", memory, job_si(j->planned, "B", b),
                100 * (j->planned / expected_bytes(memory) - 1));
    fprintf(out, "%s%s\n", gpu ? " on " : "", gpu ? gpu : "");
}

int plan_print(Job *j, const TrainOptions *o, FILE *out, Err *err)
{
    const char *gpu = recipe_str(j->recipe, "expected.gpu");
    Forecast told = {0};
    Card card;
    int rc = job_print(j, out, err);

    if (rc == 0)
        rc = measure(j, o, out, err);
    if (rc < 0)
        return rc;
    if (gpu && !card_find(&card, gpu)) {
        log_info(&j->log.log, "expected.gpu '%s' is no card whose speed is known", gpu);
        gpu = NULL;
    }
    if (rc == 0 || gpu)
        print_cards(j, gpu, &told, out);
    print_expected(j, gpu ? &told : rc ? &j->forecast : &told, out);
    advice_log(j);
    return 0;
}

int plan_fit(const Job *j, const char *memory, const char *time, FILE *out, Err *err)
{
    const char *gpu = recipe_str(j->recipe, "expected.gpu");
    double bytes = HUGE_VAL, seconds = HUGE_VAL, scale = 1;
    Forecast f;
    Card card;
    int rc = 0;

    if (memory && (rc = fit_bytes(&bytes, memory, err)) < 0)
        return err_wrap(err, rc, "--fit");
    if (time && (rc = fit_seconds(&seconds, time, err)) < 0)
        return err_wrap(err, rc, "--by");
    if (!gpu || !card_find(&card, gpu)) {
        gpu = "A100";
        if (!card_find(&card, gpu))
            return err_set(err, ERR_NOTFOUND, "no card '%s'", gpu);
    }
    if (j->forecast.step > 0) { /* measured here: other settings take so many times what they take on the card */
        forecast_card(&f, j, 0, &card);
        scale = j->forecast.step / f.step;
    }
    char *heading = mem_printf(err, "settings for %s%s%s on %s", memory ? memory : "any memory", time ? " in " : "",
                               time ? time : "", scale == 1 ? gpu : "this machine");
    rc = heading ? fit_search(j, bytes, seconds, &card, scale, heading, out, err) : ERR_NOMEM;
    mem_free(heading);
    return rc;
}

int plan_print_disk(const Job *j, FILE *out, Err *err)
{
    Preflight p = {0};
    int rc = pipeline_parts_check(j->base, NULL, &p.copied, err);

    if (rc == 0)
        preflight_print(&p, j, out);
    return rc;
}

/* ---- afterwards ------------------------------------------------------------------------------ */

static void write_pair(JsonWriter *w, const char *key, double planned, double really)
{
    jsonw_open(w, key);
    if (planned > 0)
        jsonw_num(w, "predicted", planned);
    jsonw_num(w, "measured", really);
    jsonw_close(w);
}

/* What is left of the run from step `first` on; zeros where nothing could be measured. */
static Forecast forecast_from(const Job *j, int64_t first)
{
    Forecast f = j->forecast;

    if (f.step > 0)
        forecast_sum_up(&f, j, first);
    return f;
}

void plan_write_pairs(JsonWriter *w, const Job *j, int64_t first, double step_s, double run_s)
{
    Forecast f = forecast_from(j, first);

    write_pair(w, "memory_bytes", j->planned, (double)j->be->allocated);
    write_pair(w, "step_seconds", f.step, step_s);
    write_pair(w, "run_seconds", f.all, run_s);
}

static int write_file(const Job *j, const char *run, int64_t first, double step_s, double run_s, Err *err)
{
    char *path = path_join(run, "prediction.json", err);
    json_t *v = NULL;
    JsonWriter w;
    int rc = path ? 0 : ERR_NOMEM;

    if (rc == 0) {
        jsonw_begin(&w);
        jsonw_str(&w, "device", *j->be->card ? j->be->card : j->be->name);
        plan_write_pairs(&w, j, first, step_s, run_s);
        rc = jsonw_finish(&w, &v, "prediction.json", err);
    }
    if (rc == 0)
        rc = schema_check("train-prediction", v, path, err);
    if (rc == 0)
        rc = json_write_file(v, path, err);
    json_decref(v);
    mem_free(path);
    return rc;
}

int plan_compare(const Job *j, const char *run, int64_t first, double step_s, double run_s, Err *err)
{
    Forecast f = forecast_from(j, first);
    char a[32], b[32], c[32], d[32];

    job_log_memory(j);
    if (first >= j->steps)
        return 0; /* nothing was done */
    if (f.step > 0)
        log_info(&j->log.log, "time: %s a step, %s predicted (%+.0f %%); %s in all, %s predicted without checkpoints",
                 time_duration(step_s, a), time_duration(f.step, b), 100 * (step_s / f.step - 1),
                 time_duration(run_s, c), time_duration(f.all, d));
    return write_file(j, run, first, step_s, run_s, err);
}
