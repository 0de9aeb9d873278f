/* The training loop.
 *
 * A step's data, draws and learning rate are functions of its number, so a checkpoint needs only the
 * weights, the moments and the step.  A resume cuts log.jsonl back to the checkpoint; a killed and
 * resumed run ends with the same bits as an undisturbed one, except for the log's "time" objects. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "common/base/threads.h"
#include "train/checkpoint.h"
#include "train/plan.h"
#include "train/preflight.h"
#include "train/resume.h"
#include "train/run_internal.h"
#include "train/together.h"

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

/* RUN/run.json; reason: why the run has failed, or NULL. */
static int write_run_file(Run *r, const char *reason, Err *err)
{
    char *path = path_join(r->out, "run.json", err);
    json_t *facts = NULL;
    int rc = path ? resume_run_json(r->job, params_count(dit_trainable(r->dit)), &facts, err) : ERR_NOMEM;

    if (rc == 0 && reason)
        rc = resume_add_stopped(facts, r->state.step, reason, err);
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

int run_is_first(const Run *r)
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
    return write_run_file(r, NULL, err);
}

static int prepare(Run *r, int64_t step, Err *err)
{
    Job *j = r->job;
    int64_t bytes = 0;
    int rc;

    if ((rc = load_state(r, step, err)) < 0 || (run_is_first(r) && (rc = open_files(r, err)) < 0) ||
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
    int rc = ranks_agree(j->ranks, run_is_first(r) ? take_folder(r, &p, err) : 0, err);

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
    return rc == 0 && run_skipped(f) ? together_bad(&r->state, err) : rc;
}

/* All ranks return the same failure after the same step. */
static void all_know(const Run *r)
{
    if (r->job->ranks)
        r->job->ranks->all_know = 1;
}

static const char *signal_text(int number)
{
    return number == SIGINT ? "SIGINT" : number == SIGHUP ? "SIGHUP" : "SIGTERM";
}

/* A warning, so that --quiet leaves it. */
static int stopped(const Run *r, int signal)
{
    if (run_is_first(r))
        log_warn(&r->job->log.log,
                 "stopped by %s at step %" PRId64 " of %" PRId64 ": '%s/checkpoint-%" PRId64
                 "' is saved, and the same command goes on from there",
                 signal_text(signal), r->state.step, r->job->steps, r->out, r->state.step);
    return 1;
}

/* The exit status says which signal it was. */
static int not_saved(int signal, int64_t step, Err *err)
{
    interrupt_adopt(signal);
    return err_wrap(err, ERR_INTERRUPTED, "stopped by %s after step %" PRId64 ", which could not be saved",
                    signal_text(signal), step);
}

/* Everything after a step's update. */
static int after_step(Run *r, StepFacts *f, Err *err)
{
    const Job *j = r->job;
    int last = r->state.step == j->steps, due = last || r->state.step % j->checkpoint_every == 0, rc = 0;

    if (r->state.step % j->log_every == 0 || last || run_skipped(f))
        rc = run_log_step(r, f, err);
    if (rc == 0 && (rc = guard_step(&r->guard, j, &r->state, r->losses, f->loss, f->norm, err)) < 0)
        all_know(r);
    r->saving.interim = !due;
    r->saving.may_fail = !last && !f->stop;
    if (rc == 0 && (due || f->stop) && (rc = run_save(r, err)) < 0 && f->stop)
        rc = not_saved(f->stop, r->state.step, err);
    if (rc < 0)
        return rc;
    return f->stop && !last ? stopped(r, f->stop) : run_validate(r, err);
}

/* 1: stopped by a signal. */
static int loop(Run *r, Err *err)
{
    int rc = run_validate(r, err);

    while (rc == 0 && r->state.step < r->job->steps) {
        StepFacts f;
        if ((rc = one_step(r, &f, err)) < 0)
            break;
        r->spent_s += time_now_s() - f.start_s;
        rc = after_step(r, &f, err);
    }
    return rc == 0 ? run_finish(r, err) : rc;
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

/* The page of a run that failed says why. */
static void leave_reason(Run *r, const char *reason)
{
    Err err = {0};

    if (write_run_file(r, reason, &err) < 0)
        log_warn(&r->job->log.log, "'%s/report.html' cannot say why the run stopped: %s", r->out, err.msg);
}

int train_run(Job *j, const char *out, Err *err)
{
    Run r = {.job = j, .out = out};
    int rc;

    interrupt_install(run_is_first(&r) ? NULL : &j->log);
    rc = run_open(&r, err);
    r.first = r.state.step;
    r.begin_s = time_now_s();
    if (rc == 0)
        rc = loop(&r, err);
    if (rc == 0 && run_is_first(&r))
        rc = plan_compare(j, out, r.first, r.spent_s / (double)(j->steps - r.first), time_now_s() - r.begin_s, err);
    if (r.losses && run_is_first(&r)) { /* all is prepared */
        if (rc < 0)
            leave_reason(&r, err->msg);
        run_show(&r);
    }
    j->reached = r.state.step;
    run_close(&r);
    return rc;
}
