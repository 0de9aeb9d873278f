/* From options and recipe to a run that can start. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/model_folder.h"
#include "train/encoders.h"
#include "train/samples.h"
#include "train/expected.h"
#include "train/job_internal.h"

void job_close(Job *j)
{
    draws_close(&j->draws);
    prompts_free(&j->prompts);
    dataset_close(&j->data);
    json_decref(j->identity);
    schedule_fini(&j->schedule);
    backend_close(&j->be);
    recipe_close(&j->recipe);
    mem_free(j->found_base);
    mem_free(j->found_start);
    mem_free(j->lora_target);
    mem_free(j->memory);
    j->memory = NULL;
    j->found_base = j->found_start = NULL;
    j->lora_target = NULL;
}

/* ---- recipe ---------------------------------------------------------------------------------- */

static void read_training(Job *j)
{
    const Recipe *r = j->recipe;

    j->seed = (uint64_t)recipe_int(r, "seed");
    j->link = strcmp(recipe_str(r, "export.copy"), "link") == 0;
    j->batch = recipe_int(r, "training.batch_size");
    j->accumulate = recipe_int(r, "training.gradient_accumulation_steps");
    j->epochs = recipe_int(r, "training.num_epochs");
    j->max_steps = recipe_int(r, "training.max_steps");
    j->checkpoint_every = recipe_int(r, "training.checkpointing_steps");
    j->keep = recipe_int(r, "training.checkpoints_total_limit");
    j->log_every = recipe_int(r, "training.log_every");
    j->c.rate.peak = recipe_num(r, "training.learning_rate");
    j->c.optimizer.beta1 = recipe_num(r, "training.adam_beta1");
    j->c.optimizer.beta2 = recipe_num(r, "training.adam_beta2");
    j->c.optimizer.epsilon = recipe_num(r, "training.adam_epsilon");
    j->c.optimizer.momentum = recipe_num(r, "training.sgd_momentum");
    j->c.optimizer.weight_decay = recipe_num(r, "training.weight_decay");
    j->c.ema.on = recipe_bool(r, "training.ema");
    j->c.ema.decay = recipe_num(r, "training.ema_decay");
    j->c.ema.start = recipe_int(r, "training.ema_start");
    j->c.max_grad_norm = recipe_num(r, "training.max_grad_norm");
    j->c.rate.warmup = recipe_int(r, "training.warmup_steps");
    j->c.rate.cycles = recipe_num(r, "training.lr_num_cycles");
    j->c.rate.power = recipe_num(r, "training.lr_power");
    j->c.optimizer.seed = j->seed;
    j->validation.clips = recipe_int(r, "validation.clips");
    j->validation.timesteps = recipe_int(r, "validation.timesteps");
    j->validation.every = recipe_int(r, "validation.every");
    j->sampling.kind = strcmp(recipe_str(r, "sampling.scheduler"), "dpm") == 0 ? SAMPLER_DPM : SAMPLER_DDIM;
    j->sampling.steps = recipe_int(r, "sampling.num_inference_steps");
    j->sampling.every = recipe_int(r, "validation.sample_every");
    j->sampling.guidance = recipe_num(r, "sampling.guidance_scale");
    j->sampling.dynamic = recipe_bool(r, "sampling.use_dynamic_cfg");
    j->sampling.fps = recipe_num(r, "sampling.fps");
    j->sampling.tiling = recipe_bool(r, "sampling.vae_tiling");
    j->sampling.decode = recipe_bool(r, "validation.decode");
    j->how = DIT_TRAIN | (strcmp(recipe_str(r, "training.gradient_dtype"), "bf16") == 0 ? DIT_BF16_GRADS : 0) |
             (recipe_bool(r, "training.master_weights") ? 0 : DIT_BF16_VALUES);
    j->c.share.tree = recipe_bool(r, "training.deterministic_reduction");
    j->c.policy = !recipe_bool(r, "training.gradient_checkpointing")          ? RECOMPUTE_NONE
                  : strcmp(recipe_str(r, "training.recompute"), "block") == 0 ? RECOMPUTE_BLOCK
                                                                              : RECOMPUTE_BLOCK_ATTENTION;
}

/* A plan needs no device: it takes its precision from the recipe. */
static int open_backend(Job *j, const TrainOptions *o, Err *err)
{
    int rc = backend_open(&j->be, j->plan ? "plan" : o->common.device, o->common.jobs, &j->log.log, err);

    if (rc == 0 && j->plan && strcmp(recipe_str(j->recipe, "training.mixed_precision"), "bf16") == 0)
        j->be->act = DT_BF16;
    return rc;
}

/* Refuses settings that the back end cannot honour; nothing is replaced by something weaker. */
static int refuse_unsupported(const Job *j, Err *err)
{
    const char *precision = recipe_str(j->recipe, "training.mixed_precision");
    int half = j->be->act == DT_BF16;

    if (strcmp(precision, half ? "bf16" : "no"))
        return err_set(err, ERR_UNSUPPORTED,
                       "training.mixed_precision is '%s', but the %s back end computes in %s; add --set "
                       "training.mixed_precision=%s",
                       precision, j->be->name, half ? "bfloat16" : "float32", half ? "bf16" : "no");
    return 0;
}

/* A bf16 sum is rounded after each pass, and an addend smaller than half of its last bit is lost:
 * so is the 257th of equal addends. */
static int refuse_lost_gradients(const Job *j, Err *err)
{
    if (!(j->how & DIT_BF16_GRADS) || j->accumulate == 1)
        return 0;
    if (j->accumulate > 256)
        return err_set(err, ERR_USAGE,
                       "training.gradient_dtype is 'bf16' and training.gradient_accumulation_steps %" PRId64
                       ": from the "
                       "257th pass on, bf16 sums "
                       "lose what is added; set training.gradient_dtype=fp32, or at most 256 passes",
                       j->accumulate);
    log_warn(&j->log.log,
             "training.gradient_dtype is 'bf16': the sum over gradient_accumulation_steps (%" PRId64
             ") is rounded to 8 bits after "
             "each pass; 'fp32' keeps it exact, a larger batch_size needs fewer passes",
             j->accumulate);
    return 0;
}

/* ---- base model ------------------------------------------------------------------------------ */

static int choose_model(Job *j, const TrainOptions *o, Err *err)
{
    const char *weights = model_folder_weights(j->recipe);
    int rc = model_folder_of_recipe(&j->found_base, j->recipe, o->model, 1, &j->log.log, err);

    if (rc == 0 && weights)
        rc = model_folder_find(&j->found_start, weights, &j->log.log, err);
    if (rc < 0)
        return rc;
    j->base = j->found_base;
    j->start = weights ? j->found_start : j->base;
    /* run.json and the checkpoints are JSON, which is UTF-8 */
    if (!str_is_utf8(j->base, (int64_t)strlen(j->base)) || !str_is_utf8(j->start, (int64_t)strlen(j->start)))
        return err_set(
            err, ERR_USAGE,
            "the model's path is not UTF-8, and weft-train records it in JSON: rename the folder, or give it "
            "through a link with a UTF-8 name");
    return 0;
}

/* The real path of `path`, or of the nearest existing folder above it, with a slash at the end;
 * mem_free. */
static char *resolved(const char *path, Err *err)
{
    char *at = mem_strdup(path, err), *real = NULL, *out = NULL;

    while (at && !(real = realpath(at, NULL)) && strcmp(at, ".") && strcmp(at, "/")) {
        char *up = path_dir(at, err);
        mem_free(at);
        at = up;
    }
    if (at)
        out = mem_printf(err, "%s/", real ? real : at);
    mem_free(at);
    free(real);
    return out;
}

/* A run must not write its final/, log.jsonl and lock into the model folder it reads. */
static int refuse_out_in_model(const Job *j, const char *out, Err *err)
{
    const char *const model[] = {j->base, j->start};
    int rc = 0;

    for (int i = 0; i < 2 && out && rc == 0; i++) {
        char *to = resolved(out, err), *from = resolved(model[i], err);
        if (!to || !from)
            rc = ERR_NOMEM;
        else if (file_is_dir(model[i]) && strncmp(to, from, strlen(from)) == 0)
            rc = err_set(err, ERR_USAGE, "--out '%s' is in the model folder '%s': choose a folder of its own", out,
                         model[i]);
        mem_free(to);
        mem_free(from);
    }
    return rc;
}

static int read_dit_config(Job *j, Err *err)
{
    char *path = mem_printf(err, "%s/transformer/config.json", j->start);
    json_t *json = NULL;
    int rc = path ? json_read_file(&json, path, err) : ERR_NOMEM;

    if (rc == 0)
        rc = dit_config_parse(&j->dit, json, path, err);
    else if (rc == ERR_NOTFOUND)
        err_wrap(err, rc, "'%s' is no folder in diffusers layout (FOLDER/transformer)", j->start);
    json_decref(json);
    mem_free(path);
    return rc;
}

/* The noise schedule is the base model's where it has one. */
static int read_schedule(Job *j, Err *err)
{
    char *folder = path_join(j->base, "scheduler", err);
    int rc = folder ? file_look(folder, err) : ERR_NOMEM;

    if (rc > 0) {
        rc = schedule_init_file(&j->schedule, folder, err);
    } else if (rc == 0) {
        log_info(&j->log.log, "'%s' has no scheduler: the noise schedule of CogVideoX-2B is used", j->base);
        rc = schedule_init_default(&j->schedule, err);
    }
    mem_free(folder);
    return rc;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* The ranks' parts of a step of `each` samples. */
static void count_shares(Job *j, int64_t each)
{
    int64_t all = each < j->data->n ? each : j->data->n, size = j->c.share.size > 0 ? j->c.share.size : 1;
    int64_t part = (all - 1) / size + 1;

    j->c.share.samples[0] = all;
    j->c.share.samples[1] = (j->data->n - 1) % each + 1; /* of an epoch's last step */
    j->pass = j->c.share.tree ? 1 : part < j->batch ? part : j->batch;
    if (all < size)
        log_warn(&j->log.log,
                 "a step has %" PRId64 " sample%s (batch_size x gradient_accumulation_steps), fewer than the %" PRId64
                 " ranks: %" PRId64 " of them only update weights",
                 all, str_plural(all), size, size - all);
}

int job_count_steps(Job *j, Err *err)
{
    int64_t each, all;

    if (j->batch > j->data->n) /* a pass holds no sample twice */
        return err_set(err, ERR_USAGE,
                       "training.batch_size is %" PRId64 ", but this run has %" PRId64
                       " clip%s to train on; set it to at most %" PRId64,
                       j->batch, j->data->n, str_plural(j->data->n), j->data->n);
    if (mem_mul(j->batch, j->accumulate, &each) < 0)
        return err_set(err, ERR_USAGE, "batch_size x gradient_accumulation_steps is too large");
    j->epoch_steps = (j->data->n - 1) / each + 1;
    if (mem_mul(j->epoch_steps, j->epochs, &all) < 0)
        return err_set(err, ERR_USAGE, "%" PRId64 " epochs are too many", j->epochs);
    j->steps = j->max_steps > 0 && j->max_steps < all ? j->max_steps : all;
    j->c.rate.steps = j->steps;
    count_shares(j, each);
    return rate_check(&j->c.rate, err);
}

void job_share_range(const Job *j, int64_t *first, int64_t *last)
{
    int64_t from, to, start = *first;

    ranks_part(*last - start, j->c.share.rank, j->c.share.size, &from, &to);
    *first = start + from;
    *last = start + to;
}

void job_step_range(const Job *j, int64_t step, int64_t *epoch, int64_t *first, int64_t *last)
{
    int64_t each = j->batch * j->accumulate;

    *epoch = step / j->epoch_steps;
    *first = step % j->epoch_steps * each;
    *last = *first + each < j->data->n ? *first + each : j->data->n; /* an epoch's last step may have fewer samples */
}

int64_t job_held_out(const Job *j)
{
    return j->validation.clips < j->data->n_held_out ? j->validation.clips : j->data->n_held_out;
}

/* What the cache was built with is part of this run's recipe; only what contradicts it is refused.
 * */
static int adopt_cache(Job *j, const char *dir, Err *err)
{
    static const char *const paths[] = {
        "clip.width",        "clip.height", "clip.fps",    "clip.num_frames",  "clip.model_frames",
        "model.text_length", "cache.dtype", "cache.store", "cache.vae_tiling", NULL};
    CacheTxn *t = NULL;
    json_t *stored = NULL;
    int rc = cache_begin(&t, j->data->cache[0], err);

    if (rc == 0)
        rc = cache_get_meta(t, "recipe", &stored, err);
    if (rc > 0)
        rc = recipe_adopt(j->recipe, stored, paths, dir, err);
    json_decref(stored);
    cache_end(&t);
    return rc;
}

int job_open(Job *j, const TrainOptions *o, Err *err)
{
    int rc;

    log_to_stderr(&j->log, "weft-train",
                  ranks_rank(j->ranks) ? LOG_ERROR
                  : o->common.quiet    ? LOG_WARN
                                       : LOG_INFO, /* rank 0 speaks for all */
                  o->common.log_json);
    j->c.share = (ShareConfig){
        .ranks = j->ranks, .rank = ranks_rank(j->ranks), .size = o->ranks > 0 ? o->ranks : ranks_size(j->ranks)};
    if ((rc = recipe_open(&j->recipe, &o->common, err)) < 0 || (rc = open_backend(j, o, err)) < 0)
        return rc;
    if (!(j->memory = path_dir(o->cache.item[0], err)))
        return ERR_NOMEM;
    read_training(j);
    if ((rc = job_read_lora(j, err)) < 0 ||
        (rc = rate_kind(&j->c.rate.kind, recipe_str(j->recipe, "training.lr_scheduler"), err)) < 0 ||
        (rc = optimizer_kind(&j->c.optimizer.kind, recipe_str(j->recipe, "training.optimizer"),
                             recipe_bool(j->recipe, "training.use_8bit_adam"), err)) < 0 ||
        (rc = choose_model(j, o, err)) < 0 || (rc = refuse_unsupported(j, err)) < 0 ||
        (rc = refuse_lost_gradients(j, err)) < 0 || (rc = refuse_out_in_model(j, o->out, err)) < 0 ||
        (rc = read_dit_config(j, err)) < 0 || (rc = read_schedule(j, err)) < 0 ||
        (rc = dataset_open(&j->data, o->cache.item, o->cache.n, &j->dit, err)) < 0 ||
        (o->limit > 0 && (rc = dataset_limit(j->data, o->limit, err)) < 0) ||
        (rc = draws_open(&j->draws, j->recipe, j->data, err)) < 0 ||
        (rc = prompts_find(&j->prompts, j->data, j->recipe, err)) < 0 || (rc = samples_check(j, err)) < 0 ||
        (rc = encoders_wanted(j->data, o->cache.item[0], text_kind_wanted(j->recipe), err)) < 0 ||
        (rc = encoders_check(j->data, o->cache.item[0], j->base, j->memory, &j->log.log, err)) < 0 ||
        (rc = adopt_cache(j, o->cache.item[0], err)) < 0)
        return rc;
    for (int64_t i = 0; i < j->data->n_cache; i++)
        if (cache_unlocked(j->data->cache[i]))
            log_info(&j->log.log, "cache '%s' is read without a lock (%s): do not write to it meanwhile",
                     o->cache.item[i], cache_unlocked(j->data->cache[i]));
    if ((rc = job_count_parameters(j, err)) < 0 || (rc = job_count_steps(j, err)) < 0)
        return rc;
    return expected_check(j, err);
}
