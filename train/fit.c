/* The search for settings: a few hundred plans, each as exact as plan itself. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/progress.h"
#include "train/expected.h"
#include "train/fit.h"
#include "train/job_internal.h"

/* What a CUDA context and its modules take beyond what plan counts: an assumption. */
static const double context_bytes = 600e6;

/* ---- quantities ------------------------------------------------------------------------------ */

static int check_unit(const char *text, const char *units, const char *example, Err *err)
{
    char *end;
    double v = strtod(text, &end);

    end += strspn(end, " ");
    if (end == text || !(v > 0) || !isfinite(v) || !*end || !strchr(units, *end))
        return err_set(err, ERR_USAGE, "'%s': expected a number and a unit, such as %s", text, example);
    return 0;
}

int fit_bytes(double *out, const char *text, Err *err)
{
    int rc = check_unit(text, "kKmMgGtT", "24G", err);

    *out = rc == 0 ? expected_bytes(text) : 0;
    return rc;
}

int fit_seconds(double *out, const char *text, Err *err)
{
    int rc = check_unit(text, "smhd", "8h", err);

    *out = rc == 0 ? expected_seconds(text) : 0;
    return rc;
}

/* ---- one choice ------------------------------------------------------------------------------ */

/* What may be given up, from what nobody notices to what changes the result. */
typedef struct Level {
    int eight_bit, half_gradients;
    int64_t rank; /* 0: as the recipe has it */
} Level;

typedef struct Choice {
    Job job; /* a copy with other settings; borrows all that the real one owns */
    double bytes, seconds;
} Choice;

static void set_level(Job *m, const Level *l)
{
    if (l->eight_bit && m->c.optimizer.kind == OPTIMIZER_ADAMW)
        m->c.optimizer.kind = OPTIMIZER_ADAMW_8BIT;
    if (l->half_gradients)
        m->how |= DIT_BF16_GRADS;
    if (l->rank) {
        m->lora.alpha = m->lora.rank ? m->lora.alpha / (double)m->lora.rank * (double)l->rank : (double)l->rank;
        m->lora.rank = l->rank;
    }
}

static int try(Choice *out, const Job *j, const Level *l, Recompute policy, int64_t batch, const Card *card,
               double scale, Err *err)
{
    Forecast f;
    int rc;

    out->job = *j;
    out->job.batch = batch;
    out->job.accumulate = j->batch * j->accumulate / batch;
    out->job.c.policy = policy;
    set_level(&out->job, l);
    if ((rc = job_count_parameters(&out->job, err)) < 0 || (rc = job_count_steps(&out->job, err)) < 0 ||
        (rc = job_plan_memory(&out->job, err)) < 0)
        return rc;
    forecast_card(&f, &out->job, 0, card);
    out->bytes = out->job.planned + (j->be->act == DT_BF16 ? context_bytes : 0);
    out->seconds = f.all * scale;
    return 0;
}

/* ---- all choices ----------------------------------------------------------------------------- */

typedef struct Search {
    const Job *j;
    double bytes, seconds;
    const Card *card;
    double scale;
    Choice best, least; /* the quickest that fits the memory; the one that takes least of it */
    int found, any;
} Search;

static int quicker(const Choice *a, const Choice *b)
{
    return a->seconds < b->seconds * (1 - 1e-9) || (a->seconds < b->seconds * (1 + 1e-9) && a->bytes < b->bytes);
}

static int try_level(Search *s, const Level *l, Err *err)
{
    static const Recompute policies[] = {RECOMPUTE_NONE, RECOMPUTE_BLOCK_ATTENTION, RECOMPUTE_BLOCK};
    int64_t each = s->j->batch * s->j->accumulate;
    Choice c;

    for (int64_t batch = 1; batch <= each && batch <= s->j->data->n && batch <= 64; batch++) {
        if (each % batch || (l->half_gradients && batch < each))
            continue;
        for (int i = 0; i < 3; i++) {
            int rc = try(&c, s->j, l, policies[i], batch, s->card, s->scale, err);
            if (rc < 0)
                return rc;
            if (!s->any || c.bytes < s->least.bytes)
                s->least = c;
            s->any = 1;
            if (c.bytes <= s->bytes && (!s->found || quicker(&c, &s->best))) {
                s->best = c;
                s->found = 1;
            }
        }
    }
    return 0;
}

static void print_choice(const Choice *c, const char *heading, FILE *out)
{
    const Job *m = &c->job;
    char a[32], b[32], context[64] = "";

    if (m->be->act == DT_BF16)
        snprintf(context, sizeof context, ", %s of them for CUDA itself", job_si(context_bytes, "B", a));
    fprintf(out,
            "# %s\n# %s of memory%s; %s (predicted)\n"
            "training:\n"
            "  batch_size: %" PRId64 "\n  gradient_accumulation_steps: %" PRId64 "\n  gradient_checkpointing: %s\n",
            heading, job_si(c->bytes, "B", a), context, time_duration(c->seconds, b), m->batch, m->accumulate,
            m->c.policy == RECOMPUTE_NONE ? "false" : "true");
    if (m->c.policy != RECOMPUTE_NONE)
        fprintf(out, "  recompute: %s\n", m->c.policy == RECOMPUTE_BLOCK ? "block" : "block+attention");
    fprintf(out, "  use_8bit_adam: %s\n  gradient_dtype: %s\n  lora_rank: %" PRId64 "\n",
            m->c.optimizer.kind == OPTIMIZER_ADAMW_8BIT ? "true" : "false", m->how & DIT_BF16_GRADS ? "bf16" : "fp32",
            m->lora.rank);
}

int fit_search(const Job *j, double bytes, double seconds, const Card *card, double scale, const char *heading,
               FILE *out, Err *err)
{
    static const Level levels[] = {{0, 0, 0},   {1, 0, 0},  {0, 1, 0},  {1, 1, 0},
                                   {0, 0, 128}, {0, 0, 64}, {0, 0, 32}, {0, 0, 16}};
    Search s = {.j = j, .bytes = bytes, .seconds = seconds, .card = card, .scale = scale};
    char a[32], b[32];

    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        const Level *l = &levels[i];
        int rc;
        if ((l->rank && j->lora.rank && l->rank >= j->lora.rank) || (l->rank && j->lora_weights))
            continue;
        if ((rc = try_level(&s, l, err)) < 0)
            return rc;
        if (s.found && s.best.seconds <= seconds) {
            print_choice(&s.best, heading, out);
            if (l->rank && !j->lora.rank && j->c.rate.peak < 5e-5)
                fprintf(out, "  # LoRA learns with larger rates than full fine-tunes: 1e-4 to 1e-3 are usual\n");
            return 0;
        }
    }
    if (!s.found)
        return err_set(err, ERR_LIMIT,
                       "nothing fits %s: the least that was found is %s (LoRA rank %" PRId64 ", batch_size %" PRId64
                       ")",
                       job_si(bytes, "B", a), job_si(s.least.bytes, "B", b), s.least.job.lora.rank, s.least.job.batch);
    return err_set(err, ERR_LIMIT,
                   "nothing%s%s is done in %s: the quickest takes %s; fewer num_epochs or max_steps would do",
                   isinf(bytes) ? "" : " that fits ", isinf(bytes) ? "" : job_si(bytes, "B", a),
                   time_duration(seconds, b), time_duration(s.best.seconds, (char[32]){0}));
}
