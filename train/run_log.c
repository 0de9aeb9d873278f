/* The line of a step. */
#include <errno.h>
#include <math.h>

#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "train/plan.h"
#include "train/run_internal.h"

int run_skipped(const StepFacts *f)
{
    return !isfinite(f->loss) || !isfinite(f->norm);
}

static int log_line_json(Run *r, const StepFacts *f, json_t **out, Err *err)
{
    double held_out, average;
    JsonWriter w;

    jsonw_begin(&w);
    jsonw_int(&w, "step", r->state.step);
    jsonw_int(&w, "epoch", f->epoch);
    if (!run_skipped(f)) {
        jsonw_num(&w, "loss", f->loss);
        curve_smoothed(r->curve, &w, f->loss);
    }
    if (r->state.skipped)
        jsonw_int(&w, "skipped", r->state.skipped);
    if (heldout_latest(r->held_out, &held_out, &average)) {
        jsonw_num(&w, "held_out", held_out);
        if (!isnan(average))
            jsonw_num(&w, "held_out_ema", average);
    }
    jsonw_num(&w, "lr", f->lr);
    if (!run_skipped(f))
        jsonw_num(&w, "grad_norm", f->norm);
    jsonw_int(&w, "samples", f->samples);
    jsonw_open(&w, "time");
    jsonw_num(&w, "data", f->data_s);
    jsonw_num(&w, "forward", r->state.seconds.forward);
    jsonw_num(&w, "backward", r->state.seconds.backward);
    jsonw_num(&w, "optimizer", r->state.seconds.optimizer);
    if (r->job->ranks) {
        jsonw_num(&w, "exchange", r->state.seconds.exchange);
        jsonw_num(&w, "waited", r->state.seconds.waited);
    }
    curve_pace(r->curve, &w, r->state.step, f->samples, time_now_s() - f->start_s, f->data_s);
    if (r->state.step == r->job->steps) {
        double now = time_now_s(), spent = r->spent_s + now - f->start_s;
        jsonw_open(&w, "prediction");
        plan_write_pairs(&w, r->job, r->first, spent / (double)(r->job->steps - r->first), now - r->begin_s);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    return jsonw_finish(&w, out, "log.jsonl", err);
}

int run_log_step(Run *r, const StepFacts *f, Err *err)
{
    json_t *line = NULL;
    int rc;

    if (!run_is_first(r))
        return 0;
    rc = log_line_json(r, f, &line, err);
    if (rc == 0)
        rc = json_write_line(line, r->log, err);
    if (rc == 0 && fflush(r->log) != 0)
        rc = err_errno(err, errno, "writing '%s/log.jsonl'", r->out);
    if (rc == 0)
        curve_step(r->curve, line, r->progress);
    json_decref(line);
    return rc;
}
