/* Warnings about a recipe that can be run but should not. */
#include <inttypes.h>

#include "common/base/str.h"
#include "train/advice.h"

static void about_warmup(const Job *j)
{
    if (j->c.rate.kind == RATE_CONSTANT || j->c.rate.warmup < j->steps)
        return;
    log_warn(&j->log.log,
             "training.warmup_steps is %" PRId64 ", but the run has %" PRId64
             " step%s: the rate rises to %.3g and never reaches learning_rate (%.3g)",
             j->c.rate.warmup, j->steps, str_plural(j->steps), rate_at(&j->c.rate, j->steps - 1), j->c.rate.peak);
}

static void about_checkpoints(const Job *j)
{
    if (j->checkpoint_every <= j->steps)
        return;
    log_warn(&j->log.log,
             "training.checkpointing_steps is %" PRId64 ", but the run has %" PRId64 " step%s: checkpoint-%" PRId64
             " never comes, and whatever ends the process before the last step, but for a signal, loses all",
             j->checkpoint_every, j->steps, str_plural(j->steps), j->checkpoint_every);
}

static void about_clips(const Job *j)
{
    int64_t each = j->batch * j->accumulate;

    if (j->data->n >= each)
        return;
    log_warn(&j->log.log,
             "%" PRId64 " clip%s to train on, but batch_size x gradient_accumulation_steps is %" PRId64
             ": each step takes all clips and no more",
             j->data->n, str_plural(j->data->n), each);
}

/* AdamW moves each weight by about the learning rate in a step, whatever the gradient.  Fine-tunes of all
 * weights of models of this size use 1e-5 to 2e-5 (CogVideo's own: reference recipes of sat and diffusers). */
static void about_rate(const Job *j)
{
    double most = j->parameters > 100000000 ? 1e-4 : 1e-2, least = 1e-8;

    if (j->c.optimizer.kind == OPTIMIZER_SGD) /* its steps are as large as its gradients: no rate is too large */
        return;
    if (j->c.rate.peak > most)
        log_warn(&j->log.log,
                 "training.learning_rate is %.3g: more than about %.0e breaks %s fine-tuned with AdamW; such runs use "
                 "a tenth of that",
                 j->c.rate.peak, most, most < 1e-3 ? "a model of this size" : "what is");
    else if (j->c.rate.peak < least)
        log_warn(&j->log.log, "training.learning_rate is %.3g: below about %.0e a run changes next to nothing",
                 j->c.rate.peak, least);
}

/* Two factors of rank r beside a square layer of width D hold 2 r D numbers, the layer D x D. */
static void about_lora(const Job *j)
{
    int64_t width = j->dit.heads * j->dit.head_dim;

    if (2 * j->lora.rank > width)
        log_warn(&j->log.log,
                 "training.lora_rank is %" PRId64 ", but the model's layers are %" PRId64 " wide: above %" PRId64
                 " an adapter has more parameters than the layer itself; 4 to 128 are usual",
                 j->lora.rank, width, width / 2);
}

static void about_average(const Job *j)
{
    if (!j->c.ema.on || ema_decay(&j->c.ema, j->steps) > 0)
        return;
    log_warn(&j->log.log,
             "training.ema_start is %" PRId64 ", but the run has %" PRId64
             " step%s: nothing is averaged, and what would be the average is a copy of the weights",
             j->c.ema.start, j->steps, str_plural(j->steps));
}

void advice_log(const Job *j)
{
    about_lora(j);
    about_warmup(j);
    about_checkpoints(j);
    about_clips(j);
    about_rate(j);
    about_average(j);
}
