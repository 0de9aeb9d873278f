/* Predicts what a run will need: steps, memory (by running one step on the plan back end), operations. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "train/frames.h"
#include "train/job_internal.h"
#include "train/samples.h"

/* ---- what it will need ----------------------------------------------------------------------- */

int job_take_batch(const Job *j, Arena *work, int64_t n, TrainBatch *b, Err *err)
{
    const Dataset *d = j->data;
    DType act = j->be->act, wide = dtype_wide(act);
    int rc;

    if ((rc = arena_tensor(work, &b->x0, wide, 5, err, n, d->F, d->h, d->w, d->C)) < 0 ||
        (rc = arena_tensor(work, &b->noise, wide, 5, err, n, d->F, d->h, d->w, d->C)) < 0)
        return rc;
    return arena_tensor(work, &b->text, act, 3, err, n, d->text_len, d->text_dim);
}

/* The passes of a run: gradients of a batch, the held-out loss of one clip, a step of a sample. */
static int plan_passes(const Job *j, TrainState *s, TrainBatch *b, Err *err)
{
    double loss;
    int rc = job_take_batch(j, s->work, j->pass, b, err);

    if (rc == 0)
        rc = train_gradient(s, b, 1.0, &loss, err);
    arena_reset(s->work, 0);
    if (rc == 0 && job_held_out(j) > 0 && (rc = job_take_batch(j, s->work, 1, b, err)) == 0)
        rc = train_loss(s, b, &loss, err);
    arena_reset(s->work, 0);
    if (rc == 0 && j->prompts.n > 0) {
        DenoiseParams p = samples_params(j, s->be, s->dit, s->work);
        rc = denoise_plan(&p, err);
    }
    return rc;
}

static int plan_on(const Job *j, Backend *plan, Recompute policy, int64_t *bytes, Err *err)
{
    TrainState s = {0};
    TrainConfig c = j->c;
    TrainBatch b;
    Dit *dit = NULL;
    Arena *work = NULL;
    int64_t *timestep = mem_calloc(j->pass, sizeof *timestep, err);
    int rc = timestep ? 0 : ERR_NOMEM;

    c.policy = policy;
    b.timestep = timestep;
    if (rc == 0 && (rc = job_make_dit(j, plan, j->how, &dit, err)) == 0 &&
        (rc = arena_new(&work, plan, 0, "training", err)) == 0 &&
        (rc = train_init(&s, plan, dit, &j->schedule, &c, err)) == 0) {
        s.work = work;
        rc = plan_passes(j, &s, &b, err);
        *bytes = arena_high(work);
    }
    train_fini(&s);
    arena_free(&work);
    dit_close(&dit);
    mem_free(timestep);
    return rc;
}

int job_plan_work(const Job *j, Recompute policy, int64_t *bytes, Err *err)
{
    Backend *plan = NULL;
    int rc = backend_open(&plan, "plan", 1, NULL, err);

    if (rc == 0) {
        plan->act = j->be->act;
        rc = plan_on(j, plan, policy, bytes, err);
    }
    backend_close(&plan);
    return rc;
}

/* What this rank keeps of the optimiser's state; a plan takes the rank that keeps most. */
static int count_optimizer(Job *j, const ParamSet *ps, Err *err)
{
    ShareConfig *c = &j->c.share;
    int64_t *bound = mem_calloc(c->size + 1, sizeof *bound, err);

    if (!bound)
        return ERR_NOMEM;
    share_bounds(ps, c->size, bound);
    for (int64_t k = 0; j->plan && k < c->size; k++)
        if (bound[k + 1] - bound[k] > bound[c->rank + 1] - bound[c->rank])
            c->rank = k;
    j->ema_bytes = j->c.ema.on ? 4 * (bound[c->rank + 1] - bound[c->rank]) : 0;
    j->optimizer_bytes = optimizer_bytes(ps, &j->c.optimizer, bound[c->rank], bound[c->rank + 1] - bound[c->rank]);
    mem_free(bound);
    return 0;
}

/* The model's parameters: how many there are, how many elements their flat arenas have, and what
 * the optimiser keeps for them. */
int job_count_parameters(Job *j, Err *err)
{
    Backend *plan = NULL;
    Dit *dit = NULL;
    int rc = backend_open(&plan, "plan", 1, NULL, err);

    if (rc == 0)
        plan->act = j->be->act;
    if (rc == 0 && (rc = job_make_dit(j, plan, 0, &dit, err)) == 0) {
        j->parameters = params_count(dit_trainable(dit));
        j->flat = dit_trainable(dit)->flat;
        j->frozen_bytes = j->lora.rank && plan->act == DT_BF16 ? params_device_bytes(dit_params(dit)) : 0;
        j->optimizer_file_bytes = optimizer_file_bytes(dit_trainable(dit), &j->c.optimizer);
        rc = count_optimizer(j, dit_trainable(dit), err);
        if (rc == 0 && j->lora_weights) /* only its names and shapes are looked at here */
            rc = dit_load_lora(dit, j->lora_weights, err);
    }
    dit_close(&dit);
    backend_close(&plan);
    return rc;
}

/* Operations of one sample's forward pass: the blocks' matrix products (24 N D^2) and attention
 * (4 N^2 D); all others are small. */
void job_forward_operations(const Job *j, double *linear, double *attention)
{
    double D = (double)(j->dit.heads * j->dit.head_dim), L = (double)j->dit.layers;
    double N = (double)(j->dit.text_len + j->data->F * (j->data->h / j->dit.patch) * (j->data->w / j->dit.patch));

    *linear = 24 * N * D * D * L;
    *attention = 4 * N * N * D * L;
}

double job_sample_operations(const Job *j)
{
    double linear, attention;

    job_forward_operations(j, &linear, &attention);
    return 3 * (linear + attention);
}

const char *job_si(double v, const char *unit, char out[32])
{
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P", "E", "Z"};
    int k = 0;

    while (v >= 999.5 && k < 7) {
        v /= 1000;
        k++;
    }
    snprintf(out, 32, v < 99.95 && k ? "%.2f %s%s" : "%.0f %s%s", v, prefix[k], unit);
    return out;
}

static void print_steps(const Job *j, FILE *out)
{
    const Dataset *d = j->data;

    fprintf(out,
            "samples            %" PRId64 " in %" PRId64 " cache%s; latents %" PRId64 " frame%s of %" PRId64
            " x %" PRId64 ", %" PRId64 " channels; text %" PRId64 " x %" PRId64 "\n",
            d->n, d->n_cache, str_plural(d->n_cache), d->F, str_plural(d->F), d->h, d->w, d->C, d->text_len,
            d->text_dim);
    fprintf(out,
            "steps              %" PRId64 " in at most %" PRId64 " epoch%s of %" PRId64 "; a step is %" PRId64
            " pass%s of %" PRId64 " sample%s\n",
            j->steps, j->epochs, str_plural(j->epochs), j->epoch_steps, j->accumulate, j->accumulate == 1 ? "" : "es",
            j->batch, str_plural(j->batch));
}

static void print_optimizer(const Job *j, FILE *out)
{
    char a[32], half[32];

    job_si((double)j->optimizer_bytes / 2, "B", half);
    job_si((double)j->optimizer_bytes, "B", a);
    if (j->c.optimizer.kind == OPTIMIZER_ADAMW)
        fprintf(out, ", m %s, v %s", half, half);
    else if (j->c.optimizer.kind == OPTIMIZER_ADAMW_8BIT)
        fprintf(out, ", m and v %s (8 bits)", a);
    else if (j->optimizer_bytes > 0)
        fprintf(out, ", momentum %s", a);
}

/* Prints and adds up everything but the working memory: weights as operations read them, exact weights
 * where those are rounded copies, gradients, moments, position codes, the device's own blocks. */
static double print_arenas(const Job *j, FILE *out)
{
    const DitConfig *c = &j->dit;
    double each = 4.0 * (double)j->flat, grads = j->how & DIT_BF16_GRADS ? each / 2 : each;
    double master = j->how & DIT_BF16_VALUES && !j->lora.rank ? 0 : each,
           copies = j->be->act == DT_BF16 || master == 0 ? each / 2 : 0;
    double codes = 4.0 *
                   (double)(j->data->F * (j->data->h / c->patch) * (j->data->w / c->patch) * c->heads * c->head_dim);
    double own = j->be->act == DT_BF16 ? DEVICE_SCRATCH_BYTES + DEVICE_WORKSPACE_BYTES : 0;
    double sampler = (double)samples_bytes(j);
    double sums = (double)share_bytes(&j->c.share, (int64_t)grads, j->be->act != DT_BF16);
    char a[32], b[32], g[32];

    fprintf(out, "memory             ");
    if (j->lora.rank && j->frozen_bytes)
        fprintf(out, "frozen weights %s (bf16), adapters' ", job_si((double)j->frozen_bytes, "B", a));
    else if (j->lora.rank)
        fprintf(out, "frozen weights mapped from their file, adapters' ");
    if (copies > 0 && master > 0)
        fprintf(out, "weights %s (bf16), master %s", job_si(copies, "B", a), job_si(master, "B", b));
    else
        fprintf(out, "weights %s%s", job_si(copies + master, "B", a), copies > 0 ? " (bf16, no master)" : "");
    fprintf(out, ", gradients %s%s", job_si(grads, "B", g), j->how & DIT_BF16_GRADS ? " (bf16)" : "");
    print_optimizer(j, out);
    if (j->ema_bytes > 0)
        fprintf(out, ", EMA %s", job_si((double)j->ema_bytes, "B", a));
    fprintf(out, ", position codes %s", job_si(codes, "B", b));
    if (sums > 0)
        fprintf(out, ", partial sums %s", job_si(sums, "B", a));
    if (sampler > 0)
        fprintf(out, ", sampler %s", job_si(sampler, "B", a));
    if (own > 0)
        fprintf(out, ", scratch %s", job_si(own, "B", a));
    if (j->c.share.size > 1)
        fprintf(out, "; rank %" PRId64 " of %" PRId64, j->c.share.rank, j->c.share.size);
    fputc('\n', out);
    return copies + master + grads + (double)(j->optimizer_bytes + j->ema_bytes + j->frozen_bytes) + codes + sampler +
           sums + own;
}

static int print_memory(Job *j, FILE *out, Err *err)
{
    static const struct {
        Recompute policy;
        const char *name;
    } row[] = {
        {RECOMPUTE_NONE, "keep all"}, {RECOMPUTE_BLOCK_ATTENTION, "block+attention"}, {RECOMPUTE_BLOCK, "block"}};
    double arenas = print_arenas(j, out);
    int64_t frames = 0;
    char c[32], d[32];
    int done = frames_plan(j, &frames, err);

    if (done < 0)
        return done;
    if (frames > 0)
        fprintf(out, "  %-17s%s for the VAE\n", "samples' frames", job_si((double)frames, "B", c));
    arenas += (double)frames;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        int64_t bytes = 0;
        int rc = job_plan_work(j, row[i].policy, &bytes, err);
        if (rc < 0)
            return rc;
        if (row[i].policy == j->c.policy)
            j->planned = arenas + (double)bytes;
        fprintf(out, "  %-17sactivations %s, %s in all%s\n", row[i].name, job_si((double)bytes, "B", c),
                job_si(arenas + (double)bytes, "B", d), row[i].policy == j->c.policy ? "  <- this recipe" : "");
    }
    return 0;
}

int job_plan_memory(Job *j, Err *err)
{
    char *text = NULL;
    size_t size = 0;
    int64_t bytes = 0;
    FILE *unread = open_memstream(&text, &size);
    int rc = unread ? job_plan_work(j, j->c.policy, &bytes, err) : err_set(err, ERR_NOMEM, "out of memory for a plan");

    if (rc == 0)
        j->planned = print_arenas(j, unread) + (double)bytes;
    if (unread)
        fclose(unread);
    free(text);
    return rc;
}

void job_log_memory(const Job *j)
{
    char used[32], planned[32];
    double taken = (double)j->be->allocated;

    if (j->planned > 0 && taken == j->planned)
        log_info(&j->log.log, "memory: %s used, exactly as planned", job_si(taken, "B", used));
    else if (j->planned > 0)
        log_info(&j->log.log, "memory: %s used, %s planned", job_si(taken, "B", used),
                 job_si(j->planned, "B", planned));
}

int job_print(Job *j, FILE *out, Err *err)
{
    double linear, attention, sample;
    char a[32], b[32];
    int rc;

    print_steps(j, out);
    fprintf(out, "parameters         %" PRId64, j->parameters);
    if (j->lora.rank)
        fprintf(out, " of LoRA, rank %" PRId64, j->lora.rank);
    fputc('\n', out);
    if ((rc = print_memory(j, out, err)) < 0)
        return rc;
    job_forward_operations(j, &linear, &attention);
    /* backward is twice the forward pass, without gradients of frozen weights once */
    sample = (j->lora.rank ? 2 : 3) * linear + 3 * attention;
    if (j->c.policy != RECOMPUTE_NONE)
        sample += linear + (j->c.policy == RECOMPUTE_BLOCK ? attention : 0);
    fprintf(
        out, "operations         %s a sample, %s in all (estimated: products of blocks and attention)\n",
        job_si(sample, "FLOP", a),
        job_si(sample * (double)j->steps * fmin((double)(j->batch * j->accumulate), (double)j->data->n), "FLOP", b));
    return 0;
}
