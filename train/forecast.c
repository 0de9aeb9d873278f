/* Times of a run before it starts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/progress.h"
#include "common/ops/ops.h"
#include "train/forecast.h"
#include "train/job_internal.h"

/* ---- a whole run ----------------------------------------------------------------------------- */

/* Samples of the first `steps` steps: an epoch's last step may have fewer. */
static double samples_of(const Job *j, int64_t steps)
{
    int64_t each = j->batch * j->accumulate, rest = steps % j->epoch_steps * each;

    return (double)(steps / j->epoch_steps * j->data->n + (rest < j->data->n ? rest : j->data->n));
}

/* How often something is done after step `done` that is done every so many steps (-1: never), and at step 0
 * and at the end in any case. */
static double measurements(const Job *j, int64_t every, int64_t done)
{
    int64_t n = every > 0 ? j->steps / every - done / every : 0;

    return (double)(n + (done == 0) + (every < 1 || j->steps % every != 0));
}

void forecast_sum_up(Forecast *f, const Job *j, int64_t done)
{
    double samples = samples_of(j, j->steps) - samples_of(j, done), steps = (double)(j->steps - done);
    double clips = (double)job_held_out(j) * (double)j->validation.timesteps;
    double weights = j->c.ema.on ? 2 : 1; /* the averaged ones are measured too, but not at step 0 */
    double passes = (double)(j->prompts.n * j->sampling.steps *
                             (j->sampling.guidance > 1 ? 2 : 1)); /* of all samples */

    double each = (double)j->pass *
                  (double)(j->c.share.size > 1 ? j->c.share.size : 1); /* samples of a pass of all ranks */

    f->step = steps > 0 ? f->pass * samples / each / steps + f->update : 0;
    f->all = f->step * steps +
             f->forward * (clips * (weights * measurements(j, j->validation.every, done) - (j->c.ema.on && done == 0)) +
                           passes * measurements(j, j->sampling.every, done));
}

/* ---- measured -------------------------------------------------------------------------------- */

/* Seconds of a small measurement; of one gradient; of a run that is worth a second of measuring. */
static const double long_enough = 0.1, too_long = 0.3, long_run = 30;

/* The job with fewer blocks and smaller latents: its weights, moments and one size's working memory. */
typedef struct Rig {
    Job j;
    Dataset data; /* j.data */
    Dit *dit;
    Arena *work;
    TrainState s;
    int64_t *timestep;
} Rig;

/* Extents of latents. */
typedef struct Sizes {
    int64_t F, h, w;
} Sizes;

static void rig_close(Rig *r)
{
    train_fini(&r->s);
    arena_free(&r->work);
    dit_close(&r->dit);
    mem_free(r->timestep);
}

static int rig_open(Rig *r, const Job *j, int64_t layers, Backend *be, Err *err)
{
    int rc = 0;

    *r = (Rig){.j = *j, .data = *j->data};
    r->j.data = &r->data;
    r->j.be = be;
    r->j.dit.layers = layers;
    r->j.c.share = (ShareConfig){.size = 1}; /* nothing is exchanged */
    if (!(r->timestep = mem_calloc(j->pass, sizeof *r->timestep, err)))
        rc = ERR_NOMEM;
    if (rc == 0 && (rc = job_make_dit(&r->j, be, j->how, &r->dit, err)) == 0)
        rc = train_init(&r->s, be, r->dit, &j->schedule, &r->j.c, err);
    if (rc < 0)
        rig_close(r);
    return rc;
}

static int rig_size(Rig *r, const Sizes *z, Err *err)
{
    int64_t bytes = 0;
    int rc;

    arena_free(&r->work);
    r->data.F = z->F;
    r->data.h = z->h;
    r->data.w = z->w;
    if ((rc = job_plan_work(&r->j, r->j.c.policy, &bytes, err)) < 0 ||
        (rc = dit_prepare(r->dit, z->F, z->h, z->w, err)) < 0)
        return rc;
    rc = arena_new(&r->work, r->j.be, bytes, "training", err);
    r->s.work = r->work;
    return rc;
}

static int fill_batch(Rig *r, int64_t n, TrainBatch *b, Err *err)
{
    Backend *be = r->j.be;
    int rc;

    arena_reset(r->work, 0);
    b->timestep = r->timestep;
    if ((rc = job_take_batch(&r->j, r->work, n, b, err)) < 0 || (rc = op_fill(be, &b->x0, 0.5F, err)) < 0 ||
        (rc = op_fill(be, &b->noise, 0.25F, err)) < 0)
        return rc;
    return op_fill(be, &b->text, 0.125F, err);
}

/* Seconds of one gradient (or, with n = 1 and `loss_only`, of one sample's loss): the mean of several, without
 * the first, which also pays for what is done once; of `enough` seconds of them, and of at most six where that
 * is little. */
static int time_pass(Rig *r, int64_t n, int loss_only, double enough, double *seconds, Err *err)
{
    double begin = time_now_s(), loss;
    TrainBatch b;
    int rc = 0, n_timed = 0;

    *seconds = 0;
    for (int i = 0; rc == 0 && (i < 2 || (time_now_s() - begin < enough && (i < 6 || enough > long_enough))); i++) {
        double start;
        if ((rc = fill_batch(r, n, &b, err)) < 0 || (rc = r->j.be->sync(r->j.be, err)) < 0)
            return rc;
        start = time_now_s();
        rc = loss_only ? train_loss(&r->s, &b, &loss, err) : train_gradient(&r->s, &b, 1.0, &loss, err);
        start = time_now_s() - start;
        if (i > 0 || start > too_long) {
            *seconds += start;
            n_timed++;
        }
        if (start > too_long)
            break;
    }
    *seconds /= n_timed;
    return rc;
}

/* Of the second of two: the first one's memory is new. */
static int time_update(Rig *r, double *seconds, Err *err)
{
    int rc = 0;

    for (int i = 0; i < 2 && rc == 0; i++) {
        double norm, lr, start = time_now_s();
        rc = train_update(&r->s, &norm, &lr, err);
        if (rc == 0)
            rc = r->j.be->sync(r->j.be, err);
        *seconds = time_now_s() - start;
    }
    return rc;
}

/* Operations of a gradient pass and what it repeats, of these sizes. */
static double pass_operations(const Rig *r, const Sizes *z)
{
    Dataset data = r->data;
    double linear, attention;
    Job m = r->j;

    data.F = z->F;
    data.h = z->h;
    data.w = z->w;
    m.data = &data;
    job_forward_operations(&m, &linear, &attention);
    return (double)m.pass * (3 + (m.c.policy != RECOMPUTE_NONE)) * (linear + attention);
}

/* Doubles one extent, up to the real one; 0 when all are there. */
static int grow(Sizes *z, const Sizes *real, int64_t patch)
{
    if (z->h < real->h || z->w < real->w) {
        z->h = z->h * 2 < real->h ? z->h * 2 / patch * patch : real->h;
        z->w = z->w * 2 < real->w ? z->w * 2 / patch * patch : real->w;
        return 1;
    }
    if (z->F >= real->F)
        return 0;
    z->F = z->F * 2 < real->F ? z->F * 2 : real->F;
    return 1;
}

/* The largest latents whose pass is quick enough, up to the real ones, and its time. */
static int find_size(Rig *r, Sizes *z, const Sizes *real, double end, double *pass, Err *err)
{
    int64_t p = r->j.dit.patch;
    int rc, guessed = 0;

    *z = (Sizes){1, real->h < 4 * p ? real->h : 4 * p, real->w < 4 * p ? real->w : 4 * p};
    if ((rc = rig_size(r, z, err)) < 0 || (rc = time_pass(r, r->j.pass, 0, long_enough, pass, err)) < 0)
        return rc;
    for (Sizes next = *z; grow(&next, real, p) && time_now_s() < end;) {
        double guess = *pass * pass_operations(r, &next) / pass_operations(r, z);
        if (guess > too_long)
            break;
        *z = next;
        *pass = guess;
        guessed = guess < too_long / 20; /* far from the limit: not worth a measurement */
        if (!guessed &&
            ((rc = rig_size(r, z, err)) < 0 || (rc = time_pass(r, r->j.pass, 0, long_enough, pass, err)) < 0))
            return rc;
    }
    if (!guessed)
        return 0;
    rc = rig_size(r, z, err);
    return rc < 0 ? rc : time_pass(r, r->j.pass, 0, long_enough, pass, err);
}

/* Update and forward pass, at the size that the rig has.  Where the time is up, a forward pass is taken for a
 * third of a gradient. */
static int time_rest(Rig *r, double end, Forecast *f, Err *err)
{
    int rc = time_update(r, &f->update, err);

    if (rc == 0 && job_held_out(&r->j) > 0 && time_now_s() < end)
        return time_pass(r, 1, 1, long_enough, &f->forward, err);
    f->forward = f->pass / (double)r->j.pass / (3 + (r->j.c.policy != RECOMPUTE_NONE));
    return rc;
}

/* The same of `layers` blocks, with `enough` seconds for the gradient. */
static int time_blocks(Forecast *f, const Job *j, int64_t layers, const Sizes *z, Backend *be, double enough,
                       double end, Err *err)
{
    Rig r;
    int rc = rig_open(&r, j, layers, be, err);

    if (rc < 0)
        return rc;
    if ((rc = rig_size(&r, z, err)) == 0 && (rc = time_pass(&r, j->pass, 0, enough, &f->pass, err)) == 0)
        rc = time_rest(&r, end, f, err);
    rig_close(&r);
    return rc;
}

/* Every block costs as much as the second one does, where there was time to measure it; else as much as a model
 * of one. */
static void extrapolate(Forecast *out, const Forecast *one, const Forecast *two, double blocks)
{
    double more = blocks - 1;

    out->pass = one->pass + more * (two ? fmax(two->pass - one->pass, 0) : one->pass);
    out->forward = one->forward + more * (two ? fmax(two->forward - one->forward, 0) : one->forward);
    out->update = one->update + more * (two ? fmax(two->update - one->update, 0) : one->update);
}

int forecast_measure(Forecast *out, const Job *j, int64_t done, Backend *be, Err *err)
{
    double begin = time_now_s(), half = begin + FORECAST_SECONDS / 2, end = begin + FORECAST_SECONDS, grown = 1;
    Sizes real = {j->data->F, j->data->h, j->data->w}, z;
    Forecast one = {0}, two = {0};
    int deeper;
    Rig r;
    int rc = rig_open(&r, j, 1, be, err);

    *out = (Forecast){0};
    if (rc < 0)
        return rc;
    if ((rc = find_size(&r, &z, &real, half, &one.pass, err)) == 0)
        rc = time_rest(&r, end, &one, err);
    if (rc == 0) /* fewer tokens: a block's time grows as its operations do */
        grown = pass_operations(&r, &real) / pass_operations(&r, &z);
    rig_close(&r);
    if (rc < 0)
        return rc;
    deeper = j->dit.layers > 1 && grown == 1 && time_now_s() < half;
    if (deeper && (rc = time_blocks(&two, j, 2, &z, be, long_enough, end, err)) < 0)
        return rc;
    extrapolate(out, &one, deeper ? &two : NULL, (double)j->dit.layers);
    out->pass *= grown;
    out->forward *= grown;
    forecast_sum_up(out, j, done);
    if (!deeper || j->dit.layers == 2 || out->all < long_run || out->pass > too_long || time_now_s() > half)
        return 0;
    rc = time_blocks(out, j, j->dit.layers, &z, be, (end - time_now_s()) / 2, end, err);
    forecast_sum_up(out, j, done);
    return rc;
}

/* ---- from a data sheet ----------------------------------------------------------------------- */

/* Attention's backward pass makes five products where the forward pass makes two.  What else a block
 * reads and writes, in streams of tokens (N x D bf16), is that of tests/bench/cuda-prediction.md: 98 in
 * all, 19 of them once more where blocks are computed again. */
void forecast_card(Forecast *out, const Job *j, int64_t done, const Card *card)
{
    int again = j->c.policy != RECOMPUTE_NONE, attention_again = j->c.policy == RECOMPUTE_BLOCK;
    double linear, attention, D = (double)(j->dit.heads * j->dit.head_dim), moving = card->bandwidth * card->memory;
    double N = (double)(j->dit.text_len + j->data->F * (j->data->h / j->dit.patch) * (j->data->w / j->dit.patch));
    double stream = 2 * N * D * (double)j->dit.layers / moving;

    job_forward_operations(j, &linear, &attention);
    linear /= card->peak * card->products;
    *out = (Forecast){0};
    out->forward = linear + attention / (card->peak * card->attention) + 19 * stream;
    out->pass = (double)j->pass *
                (((j->lora.rank ? 2 : 3) + again) * linear +
                 (1 + attention_again) * attention / (card->peak * card->attention) +
                 2.5 * attention / (card->peak * card->attention_backward) + (98 + 19 * again) * stream);
    /* the norm reads the gradients; the update reads and writes weights and moments, and zeroes gradients */
    out->update = ((double)j->parameters * (4 + 4 + 4 + 8 + 2) + 2 * (double)j->optimizer_bytes) / moving;
    forecast_sum_up(out, j, done);
}
