/* What a run leaves on the disk: checkpoints, final/, held-out losses, samples, the page. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <unistd.h>

#include "common/base/json.h"
#include "common/base/threads.h"
#include "common/ops/ops.h"
#include "train/checkpoint.h"
#include "train/encoders.h"
#include "train/resume.h"
#include "train/run_internal.h"
#include "train/run_report.h"
#include "train/together.h"

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
        rc = err_set(err, ERR_LIMIT, "the weights are no longer finite at step %" PRId64 "; no checkpoint was written",
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

/* Rank 0 writes, and the others give it what they keep. */
static int write_together(Run *r, int (*write)(Run *r, Err *err), Err *err)
{
    Ranks *ranks = r->job->ranks;
    int rc;

    if (!ranks)
        return write(r, err);
    if (!run_is_first(r)) {
        rc = together_serve(&r->state, err);
    } else {
        Err lost = {0};
        rc = write(r, err);
        if (together_dismiss(&r->state, &lost) < 0) /* they will not hear of anything */
            return rc < 0 ? rc : err_set(err, lost.code, "%s", lost.msg);
    }
    return ranks_agree(ranks, rc, err);
}

int run_save(Run *r, Err *err)
{
    return write_together(r, save_here, err);
}

int run_finish(Run *r, Err *err)
{
    return write_together(r, finish_here, err);
}

/* ---- what is shown --------------------------------------------------------------------------- */

void run_show(const Run *r)
{
    Err err = {0};

    if (run_report_write(r->out, &err) < 0)
        log_warn(&r->job->log.log, "report.html was not written: %s", err.msg);
}

/* After a signal the last step is as good as any, but what comes after it is left to the next call. */
static void say_missing(const Run *r)
{
    int loss = heldout_due(r->held_out, r->state.step), samples = samples_due(r->samples, r->state.step);

    if (interrupt_requested() && (loss || samples))
        log_warn(&r->job->log.log, "asked to stop: after the last step %s left out; the same command makes up for it",
                 loss && samples ? "the held-out loss and samples were"
                 : loss          ? "the held-out loss was"
                                 : "samples were");
}

/* What the averaged weights lose on held-out clips, where `measured` says that rank 0 has measured the
 * weights themselves; by all ranks together, which each have a part of the average.  Interrupted, it
 * sets *measured to 0. */
static int measure_average(Run *r, int64_t *measured, Err *err)
{
    TrainState *s = &r->state;
    Ranks *ranks = r->job->ranks;
    int64_t go = *measured && ema_differs(&s->ema, s->step - s->skipped);
    int rc = ranks ? ranks->broadcast(ranks, &go, sizeof go, 0, err) : 0;

    if (rc < 0 || !go || (rc = train_lend_average(s, err)) < 0)
        return rc;
    if (run_is_first(r) && (rc = heldout_measure_average(r->held_out, s, err)) == 0 && interrupt_requested())
        *measured = 0;
    return rc < 0 ? rc : train_return_average(s, err);
}

static int measure_held_out(Run *r, Err *err)
{
    int64_t measured = 0;
    json_t *line = NULL;
    int rc = 0;

    if (run_is_first(r) && heldout_due(r->held_out, r->state.step)) {
        rc = heldout_measure(r->held_out, &r->state, err);
        measured = rc > 0;
    }
    if (rc >= 0)
        rc = r->state.c.ema.on ? measure_average(r, &measured, err) : 0;
    if (rc < 0 || !measured)
        return rc;
    rc = heldout_write(r->held_out, r->state.step, &line, err);
    if (rc == 0)
        curve_held_out(r->curve, line);
    json_decref(line);
    return rc;
}

int run_validate(Run *r, Err *err)
{
    int rc = heldout_scheduled(r->job, r->state.step) ? measure_held_out(r, err) : 0;

    if (rc == 0 && run_is_first(r) && samples_due(r->samples, r->state.step)) {
        rc = samples_renew(r->samples, &r->state, r->curve, err);
        run_show(r); /* the page shows them as they come */
    }
    if (rc == 0 && run_is_first(r) && r->state.step == r->job->steps)
        say_missing(r);
    return rc;
}
