/* Smoothing, pace, and the copies of a run's lines for TensorBoard and for the eye.  An event file that
 * cannot be written does not stop a run: a warning says so, and no more is written to it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/ops/card.h"
#include "train/curve.h"
#include "train/tensorboard.h"

static const double smoothing = 0.95;

struct Curve {
    const Job *job;
    char *folder;       /* of the event files */
    EventFile *events;  /* made for the first point */
    int failed;         /* no point is written any more */
    double sum, weight; /* of the smoothed loss */
    int64_t first_step; /* steps done before this process */
    double start_s;
    json_t *shown; /* the latest step's line, with what was measured since */
    Progress *progress;
};

static void smooth(Curve *c, double loss)
{
    c->sum = smoothing * c->sum + (1 - smoothing) * loss;
    c->weight = smoothing * c->weight + (1 - smoothing);
}

static int replay(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    json_t *line = NULL;
    const json_t *loss;
    int rc = json_parse(&line, text, size, where, err);

    if (rc == 0 && (loss = json_object_get(line, "loss")) != NULL)
        smooth(user, json_number_value(loss));
    json_decref(line);
    return rc;
}

int curve_open(Curve **out, const Job *job, const char *run, int64_t step, Err *err)
{
    Curve *c = mem_calloc(1, sizeof *c, err);
    char *log = path_join(run, "log.jsonl", err);
    int rc = c && log && (c->folder = path_join(run, "tensorboard", err)) ? 0 : ERR_NOMEM;

    if (rc == 0) {
        c->job = job;
        c->first_step = step;
        c->start_s = time_now_s();
        rc = file_look(log, err);
    }
    if (rc > 0)
        rc = lines_read(log, RECORD_BYTES_MAX, replay, c, err);
    mem_free(log);
    if (rc < 0)
        curve_close(&c);
    *out = c;
    return rc;
}

void curve_close(Curve **c)
{
    if (!*c)
        return;
    events_close(&(*c)->events);
    json_decref((*c)->shown);
    mem_free((*c)->folder);
    mem_free(*c);
    *c = NULL;
}

/* ---- numbers --------------------------------------------------------------------------------- */

void curve_smoothed(Curve *c, JsonWriter *w, double loss)
{
    smooth(c, loss);
    jsonw_num(w, "loss_smoothed", c->sum / c->weight);
}

void curve_pace(const Curve *c, JsonWriter *w, int64_t step, int64_t samples, double seconds, double data_s)
{
    double rate = seconds > 0 ? (double)samples / seconds : 0, flops = rate * job_sample_operations(c->job);
    double peak = card_peak(c->job->be->card), spent = time_now_s() - c->start_s;

    jsonw_num(w, "samples_per_second", rate);
    jsonw_num(w, "data_share", seconds > 0 ? data_s / seconds : 0);
    jsonw_num(w, "flops", flops);
    if (peak > 0)
        jsonw_num(w, "mfu", flops / (peak * (double)ranks_size(c->job->ranks)));
    jsonw_num(w, "eta", spent / (double)(step - c->first_step) * (double)(c->job->steps - step));
}

/* ---- TensorBoard ----------------------------------------------------------------------------- */

/* The event file, made when there is something to write: a run with nothing to do leaves none.  NULL
 * when it cannot be had. */
static EventFile *events(Curve *c)
{
    Err err = {0};

    if (!c->failed && !c->events) {
        int64_t first = c->first_step > 0 ? c->first_step + 1 : 0;
        if (events_open(&c->events, c->folder, first, &err) < 0) {
            log_warn(&c->job->log.log, "TensorBoard gets nothing more: %s", err.msg);
            c->failed = 1;
        }
    }
    return c->events;
}

static void check(Curve *c, int rc, const Err *err)
{
    if (rc == 0)
        return;
    log_warn(&c->job->log.log, "TensorBoard gets nothing more: %s", err->msg);
    events_close(&c->events);
    c->failed = 1;
}

enum { POINTS = 64 }; /* at most, of one step */

typedef struct Points {
    EventScalar scalar[POINTS];
    char tag[POINTS][64];
    int64_t n;
} Points;

static void add_point(Points *p, const char *group, const char *name, double value)
{
    if (p->n == POINTS)
        return;
    snprintf(p->tag[p->n], sizeof p->tag[p->n], "%s/%s", group, name);
    p->scalar[p->n] = (EventScalar){p->tag[p->n], value};
    p->n++;
}

static void add_numbers(Points *p, const char *group, const json_t *object)
{
    const char *key;
    json_t *v;

    json_object_foreach ((json_t *)(uintptr_t)object, key, v)
        if (json_is_number(v) && strcmp(key, "step") && strncmp(key, "held_out", 8))
            add_point(p, group, key, json_number_value(v));
}

static void show_points(Curve *c, int64_t step, const Points *p)
{
    EventFile *f = events(c);
    Err err = {0};

    if (f)
        check(c, events_scalars(f, step, p->scalar, p->n, &err), &err);
}

void curve_picture(Curve *c, int64_t step, const char *tag, const char *path, int64_t width, int64_t height)
{
    EventFile *f = events(c);
    char *png = NULL;
    int64_t size = 0;
    Err err = {0};
    int rc;

    if (!f)
        return;
    rc = file_read(path, (int64_t)1 << 26, &png, &size, &err);
    if (rc == 0)
        rc = events_image(f, step, tag, png, size, width, height, &err);
    check(c, rc, &err);
    mem_free(png);
}

/* ---- the live line --------------------------------------------------------------------------- */

const char *curve_loss(double x, char out[32])
{
    snprintf(out, 32, fabs(x) < 0.00995 || fabs(x) >= 1e4 ? "%.3g" : "%.4f", x);
    return out;
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* progress_step adds steps, steps a second and the time that is left. */
static void live_text(const json_t *line, char *out, size_t size)
{
    const json_t *time = json_object_get(line, "time");
    char flops[32], a[32], b[32];
    int n;

    if (!json_object_get(line, "loss")) {
        snprintf(out, size, "skipped: loss or gradient is not finite");
        return;
    }
    n = snprintf(out, size, "loss %s (smoothed %s", curve_loss(number(line, "loss"), a),
                 curve_loss(number(line, "loss_smoothed"), b));
    if (json_object_get(line, "held_out"))
        n += snprintf(out + n, size - (size_t)n, ", held-out %s", curve_loss(number(line, "held_out"), a));
    if (json_object_get(line, "held_out_ema"))
        n += snprintf(out + n, size - (size_t)n, ", EMA %s", curve_loss(number(line, "held_out_ema"), a));
    n += snprintf(out + n, size - (size_t)n, "), lr %.3g, gradient %.3g, %.3g samples/s, %s", number(line, "lr"),
                  number(line, "grad_norm"), number(time, "samples_per_second"),
                  job_si(number(time, "flops"), "FLOP/s", flops));
    if (json_object_get(time, "mfu"))
        n += snprintf(out + n, size - (size_t)n, " (MFU %.1f %%)", 100 * number(time, "mfu"));
    snprintf(out + n, size - (size_t)n, ", data %.0f %%", 100 * number(time, "data_share"));
}

static void show_live(Curve *c)
{
    char text[512];

    live_text(c->shown, text, sizeof text);
    progress_step(c->progress, json_integer_value(json_object_get(c->shown, "step")), text);
}

void curve_step(Curve *c, json_t *line, Progress *progress)
{
    Points p = {.n = 0};

    add_numbers(&p, "train", line);
    add_numbers(&p, "time", json_object_get(line, "time"));
    show_points(c, json_integer_value(json_object_get(line, "step")), &p);
    json_decref(c->shown);
    c->shown = json_incref(line);
    c->progress = progress;
    show_live(c);
}

/* ---- held-out losses ------------------------------------------------------------------------- */

/* Loss and change of a measurement, as held_out/PREFIXloss and held_out/PREFIXchange. */
static void add_measured(Points *p, const char *prefix, const json_t *line)
{
    char name[32];

    snprintf(name, sizeof name, "%sloss", prefix);
    add_point(p, "held_out", name, number(line, "loss"));
    snprintf(name, sizeof name, "%schange", prefix);
    if (json_object_get(line, "change"))
        add_point(p, "held_out", name, number(json_object_get(line, "change"), "mean"));
}

void curve_held_out(Curve *c, const json_t *line)
{
    const json_t *v, *ema = json_object_get(line, "ema");
    Points p = {.n = 0};
    size_t i;

    add_measured(&p, "", line);
    if (ema)
        add_measured(&p, "ema_", ema);
    json_array_foreach (json_object_get(line, "deciles"), i, v) {
        char name[32];
        snprintf(name, sizeof name, "decile_%zu", i);
        if (json_is_number(v))
            add_point(&p, "held_out", name, json_number_value(v));
    }
    show_points(c, json_integer_value(json_object_get(line, "step")), &p);
    if (!c->shown)
        return;
    if (json_object_set(c->shown, "held_out", json_object_get(line, "loss")) == 0 && ema)
        err_ignore(json_object_set(c->shown, "held_out_ema", json_object_get(ema, "loss")));
    show_live(c);
}
