/* The training loop.
 *
 * A step's data, draws and learning rate are functions of its number, so a checkpoint needs only the
 * weights, the moments and the step.  A resume cuts log.jsonl back to the checkpoint; a killed and
 * resumed run ends with the same bits as an undisturbed one, except for the log's "time" objects. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/base/schema.h"
#include "common/base/str.h"
#include "common/base/threads.h"
#include "common/ops/ops.h"
#include "train/checkpoint.h"
#include "train/encoders.h"
#include "train/curve.h"
#include "train/feed.h"
#include "train/guard.h"
#include "train/heldout.h"
#include "train/plan.h"
#include "train/preflight.h"
#include "train/run_report.h"
#include "train/resume.h"
#include "train/run.h"
#include "train/samples.h"
#include "train/together.h"

typedef struct Run {
    Job *job;
    const char *out;
    DirLock lock;
    Dit *dit;
    TrainState state;
    Arena *work;
    Feed *feed;
    HeldOut *held_out;
    Samples *samples;
    Curve *curve;
    Guard guard;
    FILE *log; /* of rank 0, as the folder's other files */
    Progress *progress;
    struct {
        int interim, may_fail;
    } saving;                /* of the next checkpoint: save_here */
    double *losses;          /* of a step's passes: together_step */
    int64_t first;           /* steps that were done before */
    double begin_s, spent_s; /* when the first step began; seconds in steps since then */
} Run;

/* One step's numbers for the log. */
typedef struct StepFacts {
    int64_t epoch, samples;
    double loss, norm, lr, data_s, start_s;
    int stop; /* the signal that asked a rank to stop */
} StepFacts;

static void run_close(Run *r)
{
    feed_close(&r->feed);
    heldout_close(&r->held_out);
    samples_close(&r->samples);
    curve_close(&r->curve);
    progress_end(&r->progress);
    if (r->log)
        fclose(r->log);
    train_fini(&r->state);
    arena_free(&r->work);
    dit_close(&r->dit);
    mem_free(r->losses);
    dir_unlock(&r->lock);
}

/* ---- start ----------------------------------------------------------------------------------- */

/* Transformer, optimiser and step: from checkpoint `step`, or fresh for 0. */
static int load_state(Run *r, int64_t step, Err *err)
{
    Job *j = r->job;
    int whole = step && !j->lora.rank; /* a LoRA checkpoint holds the adapters only */
    char *folder = whole ? checkpoint_folder(r->out, step, err) : mem_strdup(j->start, err);
    char *transformer = folder ? path_join(folder, "transformer", err) : NULL;
    int rc = transformer ? job_open_dit(j, transformer, !step, &r->dit, err) : ERR_NOMEM;

    if (rc == 0)
        rc = train_init(&r->state, j->be, r->dit, &j->schedule, &j->c, err);
    if (rc == 0)
        rc = dit_prepare(r->dit, j->data->F, j->data->h, j->data->w, err);
    if (rc == 0 && step)
        rc = checkpoint_load_optimizer(r->out, step, &r->state, err);
    if (rc == 0)
        rc = guard_open(&r->guard, j, r->out, step, err);
    r->state.skipped = r->guard.skipped;
    if (rc == 0 && step)
        log_info(&j->log.log, "going on from checkpoint-%" PRId64, step);
    mem_free(folder);
    mem_free(transformer);
    return rc;
}

static int open_log(Run *r, Err *err)
{
    char *path = path_join(r->out, "log.jsonl", err);
    int rc = path ? resume_cut_log(path, r->state.step, err) : ERR_NOMEM;

    if (rc == 0 && !(r->log = fopen(path, "a")))
        rc = err_errno(err, errno, "opening '%s'", path);
    mem_free(path);
    return rc;
}

static int write_run_file(Run *r, Err *err)
{
    char *path = path_join(r->out, "run.json", err);
    json_t *facts = NULL;
    int rc = path ? resume_run_json(r->job, params_count(dit_trainable(r->dit)), &facts, err) : ERR_NOMEM;

    if (rc == 0)
        rc = schema_check("train-run", facts, path, err);
    if (rc == 0)
        rc = json_write_file(facts, path, err);
    json_decref(facts);
    mem_free(path);
    return rc;
}

/* Checks everything, locks the run's folder and removes what a killed run left unfinished. */
static int take_folder(Run *r, Preflight *p, Err *err)
{
    json_t *stored = NULL;
    int rc;

    if ((rc = preflight_check(p, r->job, r->out, err)) == 0 && (rc = dir_make(r->out, err)) == 0 &&
        (rc = dir_lock(&r->lock, r->out, err)) == 0 && (rc = dir_sweep_temporaries(r->out, err)) == 0 &&
        (rc = preflight_choose(p, r->job, r->out, &stored, err)) == 0)
        rc = preflight_space(p, r->job, r->out, err);
    json_decref(stored);
    return rc;
}

/* Rank 0 has the folder, and what is written there. */
static int is_first(const Run *r)
{
    return ranks_rank(r->job->ranks) == 0;
}

static int open_files(Run *r, Err *err)
{
    Job *j = r->job;
    int rc;

    if ((rc = checkpoint_prune(r->out, r->state.step, j->keep, err)) < 0 || (rc = open_log(r, err)) < 0 ||
        (rc = heldout_open(&r->held_out, j, r->out, r->state.step, err)) < 0 ||
        (rc = samples_open(&r->samples, j, r->out, r->state.step, err)) < 0 ||
        (rc = curve_open(&r->curve, j, r->out, r->state.step, err)) < 0)
        return rc;
    return write_run_file(r, err);
}

static int prepare(Run *r, int64_t step, Err *err)
{
    Job *j = r->job;
    int64_t bytes = 0;
    int rc;

    if ((rc = load_state(r, step, err)) < 0 || (is_first(r) && (rc = open_files(r, err)) < 0) ||
        (rc = job_plan_work(j, j->c.policy, &bytes, err)) < 0 ||
        (rc = arena_new(&r->work, j->be, bytes, "training", err)) < 0 ||
        (rc = feed_open(&r->feed, j, r->state.step, err)) < 0)
        return rc;
    r->state.work = r->work;
    r->losses = mem_calloc(j->c.share.samples[0] + TOGETHER_EXTRA, sizeof *r->losses, err);
    return r->losses ? 0 : ERR_NOMEM;
}

static int run_open(Run *r, Err *err)
{
    Job *j = r->job;
    Preflight p = {0};
    int rc = ranks_agree(j->ranks, is_first(r) ? take_folder(r, &p, err) : 0, err);

    if (rc == 0)
        rc = together_start(j, r->out, &p.step, err);
    if (rc == 0)
        rc = ranks_agree(j->ranks, prepare(r, p.step, err), err);
    if (rc == 0) {
        r->progress = progress_start(&j->log.log, "train", "steps", j->steps);
        progress_resume(r->progress, r->state.step);
    }
    return rc;
}

/* ---- one step -------------------------------------------------------------------------------- */

/* Gradients and losses of this rank's part of a step. */
static int passes(Run *r, StepFacts *f, int64_t first, int64_t last, Err *err)
{
    Job *j = r->job;
    int64_t mark = arena_mark(r->work), end = last;
    int rc = 0;

    job_share_range(j, &first, &end);
    for (int64_t done = first - (last - f->samples); first < end && rc == 0;) {
        double weight, loss = 0, start = time_now_s();
        const HostBatch *host;
        TrainBatch b;
        if ((rc = feed_next(r->feed, &host, err)) < 0 || (rc = batch_put(j->data, host, j->be, r->work, &b, err)) < 0)
            break;
        f->data_s += time_now_s() - start;
        weight = (double)host->n / (double)f->samples;
        rc = train_gradient(&r->state, &b, weight, &loss, err);
        r->losses[done] = weight * loss;
        done += host->n;
        first += host->n;
        arena_reset(r->work, mark);
    }
    return rc;
}

/* Loss or gradient was not finite: such numbers have no place in JSON. */
static int was_skipped(const StepFacts *f)
{
    return !isfinite(f->loss) || !isfinite(f->norm);
}

static int one_step(Run *r, StepFacts *f, Err *err)
{
    Job *j = r->job;
    int64_t first, last;
    int rc;

    memset(f, 0, sizeof *f);
    memset(&r->state.seconds, 0, sizeof r->state.seconds);
    memset(r->losses, 0, (size_t)j->c.share.samples[0] * sizeof *r->losses);
    f->start_s = time_now_s();
    job_step_range(j, r->state.step, &f->epoch, &first, &last);
    f->samples = last - first;
    r->state.bad[0] = 0;
    train_begin(&r->state, f->samples);
    if ((rc = passes(r, f, first, last, err)) < 0 || (rc = train_gather(&r->state, err)) < 0)
        return rc;
    f->stop = interrupt_signal();
    rc = together_step(&r->state.share, r->losses, f->samples, &f->loss, &f->stop, err);
    if (rc == 0)
        rc = train_update(&r->state, &f->norm, &f->lr, err);
    return rc == 0 && was_skipped(f) ? together_bad(&r->state, err) : rc;
}

static int log_line_json(Run *r, const StepFacts *f, json_t **out, Err *err)
{
    double held_out;
    JsonWriter w;

    jsonw_begin(&w);
    jsonw_int(&w, "step", r->state.step);
    jsonw_int(&w, "epoch", f->epoch);
    if (!was_skipped(f)) {
        jsonw_num(&w, "loss", f->loss);
        curve_smoothed(r->curve, &w, f->loss);
    }
    if (r->state.skipped)
        jsonw_int(&w, "skipped", r->state.skipped);
    if (heldout_latest(r->held_out, &held_out))
        jsonw_num(&w, "held_out", held_out);
    jsonw_num(&w, "lr", f->lr);
    if (!was_skipped(f))
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

static int log_step(Run *r, const StepFacts *f, Err *err)
{
    json_t *line = NULL;
    int rc;

    if (!is_first(r))
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

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* With may_fail, a disk that is full, or fails, costs this checkpoint and not the run: what was saved before
 * is still there. */
static int write_checkpoint(Run *r, const json_t *state, int may_fail, Err *err)
{
    Err why = {0};
    int rc = checkpoint_save(r->out, &r->state, state, &why);

    if (rc == 0)
        return checkpoint_prune(r->out, r->state.step, r->job->keep, err);
    if (rc != ERR_IO || !may_fail)
        return err_set(err, rc, "%s", why.msg);
    log_warn(&r->job->log.log, "%s; training goes on without this checkpoint", why.msg);
    return 0;
}

/* Saves a checkpoint, unless a weight is not finite; r->saving: whether the schedule asks for it, and
 * whether the run can do without it.  The log goes to disk first: a resume cuts it back
 * to the checkpoint's step. */
static int save_here(Run *r, Err *err)
{
    Job *j = r->job;
    Tensor values = params_flat_values(dit_trainable(r->dit));
    double squares = 0;
    json_t *state = NULL;
    int rc = op_sum_squares(j->be, &squares, &values, err);

    if (rc == 0 && !isfinite(squares))
        rc = err_set(err, ERR_LIMIT, "step %" PRId64 ": the weights are no longer finite; no checkpoint was written",
                     r->state.step);
    if (rc == 0 && (fflush(r->log) != 0 || fsync(fileno(r->log)) != 0))
        rc = err_errno(err, errno, "writing '%s/log.jsonl'", r->out);
    if (rc == 0)
        rc = resume_state_json(j, r->state.step, r->saving.interim, &state, err);
    if (rc == 0)
        rc = guard_save(&r->guard, state, err);
    if (rc == 0)
        rc = write_checkpoint(r, state, r->saving.may_fail, err);
    json_decref(state);
    return rc;
}

static int finish_here(Run *r, Err *err)
{
    json_t *state = NULL;
    EncodersHold hold;
    int rc = final_is_at(r->out, r->state.step, err), kept;

    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = encoders_hold(&hold, r->job->base, r->job->memory, err);
    if (rc == 0)
        rc = resume_state_json(r->job, r->state.step, 0, &state, err);
    if (rc == 0)
        rc = final_save(r->out, r->job->base, r->job->link, &r->state, state, err);
    kept = encoders_keep(&hold, r->job->memory, rc == 0 ? err : NULL);
    json_decref(state);
    return rc < 0 ? rc : kept;
}

/* The page; without it a run is no worse. */
static void show(const Run *r)
{
    Err err = {0};

    if (run_report_write(r->out, &err) < 0)
        log_warn(&r->job->log.log, "report.html was not written: %s", err.msg);
}

/* Measures the held-out loss and makes samples where they are due; a resumed run does here what it was
 * stopped before. */
static int validate(Run *r, Err *err)
{
    json_t *line = NULL;
    int rc = 0;

    if (is_first(r) && heldout_due(r->held_out, r->state.step))
        rc = heldout_measure(r->held_out, &r->state, &line, err);
    if (line)
        curve_held_out(r->curve, line);
    json_decref(line);
    if (rc == 0 && is_first(r) && samples_due(r->samples, r->state.step)) {
        rc = samples_renew(r->samples, &r->state, r->curve, err);
        show(r); /* the page shows them as they come */
    }
    return rc;
}

/* Rank 0 writes, and the others give it what they keep. */
static int write_together(Run *r, int (*write)(Run *r, Err *err), Err *err)
{
    Ranks *ranks = r->job->ranks;
    int rc;

    if (!ranks)
        return write(r, err);
    if (!is_first(r)) {
        rc = together_serve(&r->state, err);
    } else {
        Err lost = {0};
        rc = write(r, err);
        if (together_dismiss(&r->state, &lost) < 0) /* they will not hear of anything */
            return rc < 0 ? rc : err_set(err, lost.code, "%s", lost.msg);
    }
    return ranks_agree(ranks, rc, err);
}

/* All ranks return the same failure after the same step. */
static void all_know(const Run *r)
{
    if (r->job->ranks)
        r->job->ranks->all_know = 1;
}

static int stopped(const Run *r, int signal, Err *err)
{
    interrupt_adopt(signal);
    all_know(r);
    return err_set(err, ERR_INTERRUPTED,
                   "interrupted; '%s/checkpoint-%" PRId64 "' is saved and the same command goes on from there", r->out,
                   r->state.step);
}

static int loop(Run *r, Err *err)
{
    const Job *j = r->job;
    int rc = validate(r, err);

    while (rc == 0 && r->state.step < j->steps) {
        StepFacts f;
        int last, due;
        if ((rc = one_step(r, &f, err)) < 0)
            break;
        r->spent_s += time_now_s() - f.start_s;
        last = r->state.step == j->steps;
        if (r->state.step % j->log_every == 0 || last || was_skipped(&f))
            rc = log_step(r, &f, err);
        if (rc == 0 && (rc = guard_step(&r->guard, j, &r->state, r->losses, f.loss, f.norm, err)) < 0)
            all_know(r);
        due = last || r->state.step % j->checkpoint_every == 0;
        r->saving.interim = !due;
        r->saving.may_fail = !last && !f.stop;
        if (rc == 0 && (due || f.stop))
            rc = write_together(r, save_here, err);
        if (rc == 0 && f.stop && !last)
            rc = stopped(r, f.stop, err);
        if (rc == 0)
            rc = validate(r, err);
    }
    return rc == 0 ? write_together(r, finish_here, err) : rc;
}

int train_preview(Job *j, const char *out, FILE *to, Err *err)
{
    Preflight p;
    json_t *stored = NULL;
    int rc = preflight_check(&p, j, out, err);

    if (rc == 0)
        rc = preflight_choose(&p, j, out, &stored, err);
    if (rc == 0)
        preflight_print(&p, j, to);
    if (rc == 0)
        rc = preflight_space(&p, j, out, err);
    json_decref(stored);
    return rc;
}

int train_run(Job *j, const char *out, Err *err)
{
    Run r = {.job = j, .out = out};
    int rc;

    interrupt_install(is_first(&r) ? NULL : &j->log);
    rc = run_open(&r, err);
    r.first = r.state.step;
    r.begin_s = time_now_s();
    if (rc == 0)
        rc = loop(&r, err);
    if (rc == 0 && is_first(&r))
        rc = plan_compare(j, out, r.first, r.spent_s / (double)(j->steps - r.first), time_now_s() - r.begin_s, err);
    if ((rc == 0 || rc == ERR_INTERRUPTED) && is_first(&r))
        show(&r);
    run_close(&r);
    return rc;
}
