/* Skipped steps, and losses that grow. */
#include <inttypes.h>
#include <math.h>

#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/guard.h"

static const double smoothing = 0.9;
static const double early = 100; /* one loss says little of the start: times max_loss_ratio until there is a mean */

int guard_open(Guard *g, const Job *j, const char *run, int64_t step, Err *err)
{
    char *path = NULL;
    json_t *state = NULL;
    const json_t *before;
    int rc = 0;

    *g = (Guard){.max_nonfinite = recipe_int(j->recipe, "training.max_nonfinite"),
                 .max_loss_ratio = recipe_num(j->recipe, "training.max_loss_ratio")};
    if (step == 0)
        return 0;
    path = mem_printf(err, "%s/checkpoint-%" PRId64 "/weft_state/state.json", run, step);
    rc = path ? json_read_file(&state, path, err) : ERR_NOMEM;
    before = json_object_get(state, "guard");
    g->skipped = json_integer_value(json_object_get(before, "skipped"));
    g->in_row = json_integer_value(json_object_get(before, "in_row"));
    g->seen = json_integer_value(json_object_get(before, "seen"));
    g->sum = json_number_value(json_object_get(before, "sum"));
    g->weight = json_number_value(json_object_get(before, "weight"));
    g->start = json_number_value(json_object_get(before, "start"));
    json_decref(state);
    mem_free(path);
    return rc;
}

int guard_save(const Guard *g, json_t *state, Err *err)
{
    json_t *out = NULL;
    JsonWriter w;
    int rc;

    jsonw_begin(&w);
    jsonw_int(&w, "skipped", g->skipped);
    jsonw_int(&w, "in_row", g->in_row);
    jsonw_int(&w, "seen", g->seen);
    jsonw_num(&w, "sum", g->sum);
    jsonw_num(&w, "weight", g->weight);
    jsonw_num(&w, "start", g->start);
    rc = jsonw_finish(&w, &out, "state.json", err);
    if (rc == 0 && json_object_set_new(state, "guard", out) != 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for state.json");
    return rc;
}

/* ---- a step ---------------------------------------------------------------------------------- */

enum { NAMED = 400 }; /* bytes of samples' names in a sentence */

/* "'clip-3' (timestep 512), ...": the samples of passes whose loss is not finite; of all passes when there is
 * none. */
static int name_samples(Str *out, const Job *j, int64_t step, const double *losses, Err *err)
{
    int64_t epoch, first, last, *entry = mem_calloc(j->data->n, sizeof *entry, err);
    int rc = entry ? 0 : ERR_NOMEM, some = 0;

    job_step_range(j, step, &epoch, &first, &last);
    if (rc == 0)
        rc = draws_order(&j->draws, j->data, epoch, entry, err);
    for (int64_t i = 0; i < last - first; i++)
        some |= !isfinite(losses[i]);
    for (int64_t i = 0, until = 0; rc == 0 && i < last - first; i++) {
        int64_t e = entry[first + i];
        until = isfinite(losses[i]) ? until : i + j->pass; /* of the pass that begins here */
        if (some && i >= until)
            continue;
        if (out->len > NAMED) {
            rc = str_append(out, ", ...", err);
            break;
        }
        rc = str_printf(out, err, "%s'%s' (timestep %" PRId64 ")", out->len ? ", " : "",
                        j->data->sample[e % j->data->n].id,
                        draws_of(&j->draws, j->data, epoch, e, j->schedule.n_train).timestep);
    }
    mem_free(entry);
    return rc;
}

/* The sign of what is not a number means nothing, and printf shows it. */
static double unsigned_nan(double x)
{
    return isnan(x) ? fabs(x) : x;
}

static int skipped(Guard *g, const Job *j, const TrainState *s, double loss, double norm, const char *samples, Err *err)
{
    const char *first = s->bad[0] ? s->bad : "unknown";

    loss = unsigned_nan(loss);
    norm = unsigned_nan(norm);
    g->skipped++;
    g->in_row++;
    if (g->in_row < g->max_nonfinite) {
        if (!j->ranks || j->ranks->rank == 0)
            log_warn(&j->log.log,
                     "step %" PRId64
                     " was skipped: its loss is %g and its gradient's norm %g; first not finite: %s; samples %s",
                     s->step, loss, norm, first, samples);
        return 0;
    }
    return err_set(err, ERR_LIMIT,
                   "%" PRId64 " step%s in a row %s not finite (training.max_nonfinite): at step %" PRId64
                   " the loss is %g and the gradient's norm %g; first not finite: %s; samples %s; nothing was updated, "
                   "and the last checkpoint is as it was",
                   g->in_row, str_plural(g->in_row), g->in_row == 1 ? "was" : "were", s->step, loss, norm, first,
                   samples);
}

/* The loss, smoothed, that is too large by now. */
static double most(const Guard *g)
{
    return g->max_loss_ratio * (g->seen <= GUARD_START ? early : 1) * g->start;
}

/* Takes a step's loss; 1 when it is too large by now. */
static int has_grown(Guard *g, double loss)
{
    g->in_row = 0;
    g->seen++;
    g->sum = smoothing * g->sum + (1 - smoothing) * loss;
    g->weight = smoothing * g->weight + (1 - smoothing);
    double now = g->sum / g->weight;
    if (g->seen == 1)
        g->start = now;
    if (most(g) > 0 && now > most(g))
        return 1;
    if (g->seen == GUARD_START)
        g->start = now;
    return 0;
}

int guard_step(Guard *g, const Job *j, const TrainState *s, const double *losses, double loss, double norm, Err *err)
{
    Str samples = {0};
    int finite = isfinite(norm) && isfinite(loss), rc;

    if (finite && !has_grown(g, loss))
        return 0;
    rc = name_samples(&samples, j, s->step - 1, losses, err);
    if (rc == 0 && !finite)
        rc = skipped(g, j, s, loss, norm, samples.data, err);
    else if (rc == 0)
        rc = err_set(err, ERR_LIMIT,
                     "the loss, smoothed, is %.4g at step %" PRId64 ": more than %g times the %.4g of its start "
                     "(training.max_loss_ratio%s); samples %s; the last checkpoint is as it was: a lower "
                     "training.learning_rate may help, in another folder",
                     g->sum / g->weight, s->step, most(g) / g->start, g->start,
                     g->seen <= GUARD_START ? ", a hundred times that in the first ten steps" : "", samples.data);
    str_fini(&samples);
    return rc;
}
