/* Every key of the recipe's section `training`: that its value arrives where it is used, and that it
 * changes what a run does. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/store/safetensors.h"
#include "tests/recipe_keys.h"
#include "tests/train_fixture.h"
#include "train/guard.h"
#include "train/run.h"

static Err err;
static char *model, *other_model; /* the second has one changed weight and another scheduler */
static char *adapter;             /* of rank 4, for model */

/* A path where a table has NULL. */
static const char *value_of(const char *key, const char *value, const char *folder)
{
    return value ? value : strcmp(key, "lora_weights") == 0 ? adapter : folder;
}

#define ROWS(table) (sizeof table / sizeof *table)

static int open_job(Job *j, const char *const *set, int64_t n)
{
    static const char *dirs[2];
    TrainOptions o = {
        .common =
            {.preset = "demo", .device = "cpu", .jobs = 1, .seed = -1, .quiet = 1, .set = {(const char **)set, n}},
        .cache = {dirs, 2}};

    dirs[0] = check_tmp_path("caches/a");
    dirs[1] = check_tmp_path("caches/b");
    *j = (Job){0};
    return job_open(j, &o, &err);
}

/* The section `export` has one key. */
static void export_copy_arrives(void **state)
{
    static const char *const names[] = {"copy"}, *const set[] = {"export.copy=link", "export.copy=copy"};

    (void)state;
    recipe_keys_covered("export", "export_copy_arrives", names, 1);
    for (int i = 0; i < 2; i++) {
        Job j;
        const char *all[] = {set[i], "training.base_model=", NULL};
        char base[320];
        snprintf(base, sizeof base, "training.base_model=%s", model);
        all[1] = base;
        CHECK_OK(open_job(&j, all, 2), &err);
        assert_int_equal(j.link, i == 0);
        job_close(&j);
    }
}

/* ---- every value arrives --------------------------------------------------------------------- */

typedef struct Arrival {
    const char *key, *value; /* no value twice, so that a key read in another's place is seen */
    double (*where)(const Job *j);
    double want;
} Arrival;

#define FIELD(name, expression)           \
    static double at_##name(const Job *j) \
    {                                     \
        return (double)(expression);      \
    }
FIELD(base, !strcmp(j->base, model))
FIELD(start, !strcmp(j->start, other_model))
FIELD(batch, j->batch)
FIELD(accumulate, j->accumulate)
FIELD(rate, j->c.rate.peak)
FIELD(kind, j->c.rate.kind)
FIELD(cycles, j->c.rate.cycles)
FIELD(power, j->c.rate.power)
FIELD(warmup, j->c.rate.warmup)
FIELD(decay, j->c.optimizer.weight_decay)
FIELD(ema, j->c.ema.on)
FIELD(ema_decay, j->c.ema.decay)
FIELD(ema_start, j->c.ema.start)
FIELD(dropout, j->draws.caption_dropout)
FIELD(logit_normal, j->draws.logit_normal)
FIELD(logit_mean, j->draws.logit_mean)
FIELD(logit_std, j->draws.logit_std)
FIELD(weight, j->draws.weight[0])
FIELD(optimizer, j->c.optimizer.kind)
FIELD(momentum, j->c.optimizer.momentum)
FIELD(beta1, j->c.optimizer.beta1)
FIELD(beta2, j->c.optimizer.beta2)
FIELD(epsilon, j->c.optimizer.epsilon)
FIELD(norm, j->c.max_grad_norm)
FIELD(half, j->be->act == DT_BF16)
FIELD(half_gradients, (j->how & DIT_BF16_GRADS) != 0)
FIELD(half_weights, (j->how & DIT_BF16_VALUES) != 0)
FIELD(tree, j->c.share.tree)
FIELD(policy, j->c.policy)
FIELD(epochs, j->epochs)
FIELD(max_steps, j->max_steps)
FIELD(every, j->checkpoint_every)
FIELD(keep, j->keep)
FIELD(log_every, j->log_every)
FIELD(lora_rank, j->lora.rank)
FIELD(lora_alpha, j->lora.alpha)
FIELD(lora_targets, j->lora.targets == 5 && !strcmp(j->lora.target[4], "net.2"))
FIELD(lora_weights, !strcmp(j->lora_weights, adapter))

static double at_max_nonfinite(const Job *j)
{
    Guard g;

    CHECK_OK(guard_open(&g, j, "", 0, &err), &err);
    return (double)g.max_nonfinite;
}
static double at_max_loss_ratio(const Job *j)
{
    Guard g;

    CHECK_OK(guard_open(&g, j, "", 0, &err), &err);
    return g.max_loss_ratio;
}

static const Arrival arrivals[] = {
    {"base_model", NULL, at_base, 1}, /* NULL: a path, filled in below */
    {"pretrained_weights", NULL, at_start, 1},
    {"batch_size", "3", at_batch, 3},
    {"gradient_accumulation_steps", "2", at_accumulate, 2},
    {"learning_rate", "0.0625", at_rate, 0.0625},
    {"lr_scheduler", "cosine_with_restarts", at_kind, RATE_COSINE_WITH_RESTARTS},
    {"lr_num_cycles", "2.5", at_cycles, 2.5},
    {"lr_power", "1.75", at_power, 1.75},
    {"warmup_steps", "11", at_warmup, 11},
    {"optimizer", "adamw", at_optimizer, OPTIMIZER_ADAMW_8BIT},
    {"sgd_momentum", "0.6875", at_momentum, 0.6875},
    {"weight_decay", "0.03125", at_decay, 0.03125},
    {"adam_beta1", "0.5625", at_beta1, 0.5625},
    {"adam_beta2", "0.8125", at_beta2, 0.8125},
    {"adam_epsilon", "0.001953125", at_epsilon, 0.001953125},
    {"max_grad_norm", "0.375", at_norm, 0.375},
    {"mixed_precision", "no", at_half, 0},
    {"gradient_dtype", "bf16", at_half_gradients, 1},
    {"master_weights", "false", at_half_weights, 1},
    {"deterministic_reduction", "true", at_tree, 1},
    {"gradient_checkpointing", "true", at_policy, RECOMPUTE_BLOCK_ATTENTION},
    {"recompute", "block+attention", at_policy, RECOMPUTE_BLOCK_ATTENTION},
    {"use_8bit_adam", "true", at_optimizer, OPTIMIZER_ADAMW_8BIT},
    {"ema", "true", at_ema, 1},
    {"ema_decay", "0.65625", at_ema_decay, 0.65625},
    {"ema_start", "29", at_ema_start, 29},
    {"caption_dropout", "0.34375", at_dropout, 0.34375},
    {"timestep_sampling", "logit_normal", at_logit_normal, 1},
    {"logit_mean", "0.28125", at_logit_mean, 0.28125},
    {"logit_std", "1.375", at_logit_std, 1.375},
    {"category_weights", "{\"dress\": 2.25}", at_weight, 2.25},
    {"lora_rank", "4", at_lora_rank, 4},
    {"lora_alpha", "6.5", at_lora_alpha, 6.5},
    {"lora_target_modules", "[\"to_q\", \"to_k\", \"to_v\", \"to_out.0\", \"net.2\"]", at_lora_targets, 1},
    {"lora_weights", NULL, at_lora_weights, 1},
    {"num_epochs", "17", at_epochs, 17},
    {"max_steps", "13", at_max_steps, 13},
    {"checkpointing_steps", "19", at_every, 19},
    {"checkpoints_total_limit", "5", at_keep, 5},
    {"max_nonfinite", "23", at_max_nonfinite, 23},
    {"max_loss_ratio", "3.125", at_max_loss_ratio, 3.125},
    {"log_every", "7", at_log_every, 7},
};

static void every_value_arrives(void **state)
{
    const char *names[ROWS(arrivals)], *set[ROWS(arrivals)];
    char text[ROWS(arrivals)][320];
    Job j;

    (void)state;
    for (size_t i = 0; i < ROWS(arrivals); i++) {
        const Arrival *a = &arrivals[i];
        const char *value = value_of(a->key, a->value, strcmp(a->key, "base_model") == 0 ? model : other_model);
        names[i] = a->key;
        snprintf(text[i], sizeof text[i], "training.%s=%s", a->key, value);
        set[i] = text[i];
    }
    recipe_keys_covered("training", "arrivals", names, ROWS(arrivals));
    CHECK_OK(open_job(&j, set, ROWS(arrivals)), &err);
    for (size_t i = 0; i < ROWS(arrivals); i++) {
        double got = arrivals[i].where(&j);
        if (got != arrivals[i].want)
            fail_msg("training.%s is %s, but %.9g arrived", arrivals[i].key, arrivals[i].value, got);
    }
    job_close(&j);
}

/* ---- every value matters --------------------------------------------------------------------- */

/* What a short run left. */
typedef struct Trace {
    int64_t lines, samples, checkpoints; /* log lines, samples of the first, checkpoint folders */
    double loss[2], rate[2], norm;       /* of the first and last logged step; norm of the first */
    Digest weights, average;             /* of final's transformer, and transformer_ema */
    int averaged;                        /* that is there */
    int half;                            /* final's weights are bf16 */
    int64_t memory;                      /* working memory, as planned */
    int64_t steps, trained;              /* trained: parameters */
} Trace;

static void read_log(const char *out, Trace *t)
{
    char *path = path_join(out, "log.jsonl", &err), *text = NULL;
    int64_t size = 0;

    CHECK_OK(file_read(path, 1 << 20, &text, &size, &err), &err);
    for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1, t->lines++) {
        json_t *line = NULL;
        CHECK_OK(json_parse(&line, at, end - at, "log.jsonl", &err), &err);
        for (int k = t->lines > 0; k < 2; k++) {
            t->loss[k] = json_number_value(json_object_get(line, "loss"));
            t->rate[k] = json_number_value(json_object_get(line, "lr"));
        }
        if (t->lines == 0) {
            t->samples = json_integer_value(json_object_get(line, "samples"));
            t->norm = json_number_value(json_object_get(line, "grad_norm"));
        }
        json_decref(line);
    }
    mem_free(text);
    mem_free(path);
}

static void digest_of(const char *out, const char *below, Digest *d)
{
    char *path = path_join(out, below, &err);

    CHECK_OK(sha256_file(path, d, &err), &err);
    mem_free(path);
}

static void read_weights(const char *out, Trace *t)
{
    char *folder = path_join(out, "final/transformer", &err), *lora = path_join(out, "final/" LORA_FILE_NAME, &err);
    SafeTensors *file = NULL;

    if (file_exists(lora)) {
        digest_of(out, "final/" LORA_FILE_NAME, &t->weights);
        mem_free(folder);
        mem_free(lora);
        return;
    }
    mem_free(lora);
    digest_of(out, "final/transformer/diffusion_pytorch_model.safetensors", &t->weights);
    char *average = path_join(out, "final/transformer_ema", &err);
    t->averaged = file_is_dir(average);
    mem_free(average);
    if (t->averaged)
        digest_of(out, "final/transformer_ema/diffusion_pytorch_model.safetensors", &t->average);
    CHECK_OK(safetensors_open_folder(&file, folder, "diffusion_pytorch_model", NULL, &err), &err);
    t->half = safetensors_at(file, 0)->tensor.dtype == DT_BF16;
    safetensors_close(&file);
    mem_free(folder);
}

static void count_checkpoints(const char *out, Trace *t)
{
    char **names;
    int64_t n;

    CHECK_OK(dir_list(out, &names, &n, &err), &err);
    for (int64_t i = 0; i < n; i++)
        t->checkpoints += strncmp(names[i], "checkpoint-", 11) == 0;
    dir_list_free(&names, n);
}

/* Four steps of two samples, but for `set`. */
static int try_run(const char *const *set, int64_t n, const char *out, Trace *t)
{
    const char *all[16] = {"training.max_steps=4", "training.checkpointing_steps=2", "training.warmup_steps=2"};
    Job j;
    int rc;

    *t = (Trace){0};
    all[3] = NULL;
    for (int64_t i = 0; i < n; i++)
        all[3 + i] = set[i];
    all[3 + n] = n && strncmp(set[0], "training.base_model=", 20) == 0 ? "training.log_every=1" : NULL;
    if (!all[3 + n]) {
        static char base[320];
        snprintf(base, sizeof base, "training.base_model=%s", model);
        all[3 + n] = base;
    }
    rc = open_job(&j, all, 4 + n);
    if (rc == 0)
        rc = job_plan_work(&j, j.c.policy, &t->memory, &err);
    t->steps = j.steps;
    t->trained = j.parameters;
    if (rc == 0 && out)
        rc = train_run(&j, out, &err);
    job_close(&j);
    if (rc == 0 && out) {
        read_log(out, t);
        read_weights(out, t);
        count_checkpoints(out, t);
    }
    return rc;
}

static int same(const Digest *a, const Digest *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

typedef struct Effect {
    const char *key, *value, *also; /* also: another key to set, or NULL */
    int (*holds)(const Trace *base, const Trace *t);
} Effect;

#define HOLDS(name, expression)                        \
    static int name(const Trace *base, const Trace *t) \
    {                                                  \
        (void)base;                                    \
        return (expression);                           \
    }
/* The first step's gradient is the same, what is made of it is not. */
#define SAME_GRADIENT (t->loss[0] == base->loss[0] && t->norm == base->norm)
HOLDS(other_update, SAME_GRADIENT && !same(&t->weights, &base->weights) && t->loss[1] != base->loss[1])
HOLDS(other_last_weights, SAME_GRADIENT && !same(&t->weights, &base->weights))
HOLDS(other_start, t->loss[0] != base->loss[0])
HOLDS(double_rate, SAME_GRADIENT && t->rate[1] == 2 * base->rate[1] && !same(&t->weights, &base->weights))
HOLDS(no_warmup, t->rate[0] == 0.001 && base->rate[0] == 0)
HOLDS(longer_warmup, fabs(t->rate[1] - 0.001 * 3 / 4) < 1e-12 && base->rate[1] == 0.001)
HOLDS(other_last_rate, SAME_GRADIENT && t->rate[1] != base->rate[1] && t->rate[1] < 0.001)
HOLDS(three_samples, t->samples == 3)
HOLDS(four_samples, t->samples == 4 && base->samples == 2)
HOLDS(half_weights, t->half && !base->half && fabs(t->loss[0] / base->loss[0] - 1) < 0x1p-6)
HOLDS(rounded_gradients,
      t->loss[0] == base->loss[0] && t->norm != base->norm && fabs(t->norm / base->norm - 1) < 0x1p-8)
HOLDS(other_order, fabs(t->loss[0] / base->loss[0] - 1) < 1e-6 && fabs(t->norm / base->norm - 1) < 1e-6 &&
                       !same(&t->weights, &base->weights)) /* the same sums, added sample by sample */
HOLDS(less_memory, t->memory < base->memory && same(&t->weights, &base->weights))
HOLDS(adapters, t->loss[0] == base->loss[0] && t->norm < base->norm && t->trained == 2 * 4 * 3 * 64)
HOLDS(twice_as_strong, t->loss[0] == base->loss[0] && fabs(t->norm / base->norm - 2) < 1e-6)
HOLDS(one_layer_a_block, t->loss[0] == base->loss[0] && t->norm < base->norm && t->trained == 2 * 3 * 64)
HOLDS(has_average, t->averaged && !base->averaged && same(&t->weights, &base->weights))
HOLDS(other_average, t->averaged &&same(&t->weights, &base->weights) && !same(&t->average, &base->average))
HOLDS(four_steps_an_epoch, t->steps == 8)
HOLDS(three_steps, t->steps == 3 && t->lines == 3)
HOLDS(four_checkpoints, t->checkpoints == 4 && base->checkpoints == 2)
HOLDS(one_checkpoint, t->checkpoints == 1)
HOLDS(two_lines, t->lines == 2 && base->lines == 4)

static const Effect effects[] = {
    {"base_model", NULL, NULL, other_start}, /* another noise schedule, other weights */
    {"pretrained_weights", NULL, NULL, other_start},
    {"batch_size", "3", NULL, three_samples},
    {"gradient_accumulation_steps", "2", NULL, four_samples},
    {"learning_rate", "0.002", NULL, double_rate},
    {"lr_scheduler", "constant", NULL, no_warmup},
    {"lr_num_cycles", "1.5", "training.lr_scheduler=cosine_with_restarts", other_last_rate},
    {"lr_power", "2", "training.lr_scheduler=polynomial", other_last_rate},
    {"warmup_steps", "4", NULL, longer_warmup},
    {"optimizer", "sgd", NULL, other_update},
    {"sgd_momentum", "0.5", "training.optimizer=sgd", other_last_weights},
    {"use_8bit_adam", "true", NULL, other_last_weights},
    {"weight_decay", "0.5", NULL, other_last_weights},
    {"adam_beta1", "0.5", NULL, other_last_weights},
    {"adam_beta2", "0.5", NULL, other_last_weights},
    {"adam_epsilon", "0.01", NULL, other_update},
    {"max_grad_norm", "0.02", "training.adam_epsilon=0.01", other_last_weights},
    {"gradient_dtype", "bf16", NULL, rounded_gradients},
    {"master_weights", "false", NULL, half_weights},
    {"deterministic_reduction", "true", NULL, other_order},
    {"gradient_checkpointing", "true", NULL, less_memory},
    {"recompute", "block+attention", "training.gradient_checkpointing=true", less_memory},
    {"ema", "true", NULL, has_average},
    {"ema_decay", "0.05", "training.ema=true", other_average},
    {"ema_start", "3", "training.ema=true", other_average},
    {"caption_dropout", "1", NULL, other_start},
    {"timestep_sampling", "logit_normal", NULL, other_start},
    {"logit_mean", "3", "training.timestep_sampling=logit_normal", other_start},
    {"logit_std", "0.1", "training.timestep_sampling=logit_normal", other_start},
    {"category_weights", "{\"dress\": 0}", NULL, other_start},
    {"lora_rank", "3", NULL, adapters},
    {"lora_alpha", "6", "training.lora_rank=3", twice_as_strong},
    {"lora_target_modules", "[\"to_q\"]", "training.lora_rank=3", one_layer_a_block},
    {"lora_weights", NULL, "training.lora_rank=4", other_start},
    {"num_epochs", "2", "training.max_steps=null", four_steps_an_epoch},
    {"max_steps", "3", NULL, three_steps},
    {"checkpointing_steps", "1", NULL, four_checkpoints},
    {"checkpoints_total_limit", "1", NULL, one_checkpoint},
    {"log_every", "2", NULL, two_lines},
};

/* Keys with one value that this version can use: every other one is refused by name. */
static const struct {
    const char *key, *value;
    int code;
} refusals[] = {
    {"mixed_precision", "bf16", ERR_UNSUPPORTED},
};

/* Keys that stop a run: tests/cli/test_train_wrong.sh. */
static const char *const stops[] = {"max_nonfinite", "max_loss_ratio"};

static void every_value_matters(void **state)
{
    Trace base;

    (void)state;
    CHECK_OK(try_run(NULL, 0, check_tmp_path("base"), &base), &err);
    for (size_t i = 0; i < ROWS(effects); i++) {
        const Effect *e = &effects[i];
        char text[320];
        const char *set[2] = {text, e->also};
        Trace t, reference = base;
        char *out = check_tmp_path(e->key);

        snprintf(text, sizeof text, "training.%s=%s", e->key, value_of(e->key, e->value, other_model));
        if (e->also && strcmp(e->key, "gradient_checkpointing") && strcmp(e->key, "recompute") &&
            strcmp(e->key, "num_epochs"))
            /* against a run with the other key alone: Adam undoes a scale of all gradients, say */
            CHECK_OK(try_run(&e->also, 1, check_tmp_path(strchr(e->also, '=') + 1), &reference), &err);
        CHECK_OK(try_run(set, e->also ? 2 : 1, out, &t), &err);
        if (!e->holds(&reference, &t))
            fail_msg("%s does not change a run as it should", text);
    }
}

static void what_is_not_supported_is_refused(void **state)
{
    const char *names[ROWS(effects) + ROWS(refusals) + ROWS(stops)];
    Trace t;

    (void)state;
    for (size_t i = 0; i < ROWS(effects); i++)
        names[i] = effects[i].key;
    for (size_t i = 0; i < ROWS(refusals); i++) {
        char text[320];
        const char *set = text;
        names[ROWS(effects) + i] = refusals[i].key;
        snprintf(text, sizeof text, "training.%s=%s", refusals[i].key, refusals[i].value);
        CHECK_FAILS(try_run(&set, 1, NULL, &t), refusals[i].code, refusals[i].key, &err);
    }
    for (size_t i = 0; i < ROWS(stops); i++)
        names[ROWS(effects) + ROWS(refusals) + i] = stops[i];
    recipe_keys_covered("training", "effects, refusals and stops", names, ROWS(names));
}

/* Two passes of two samples make the step that one pass of four makes, and the step of the epoch's
 * last three samples (two and one) the one of a pass of three. */
static void passes_add_up(void **state)
{
    const char *one[] = {"training.batch_size=4"};
    const char *two[] = {"training.batch_size=2", "training.gradient_accumulation_steps=2"};
    Trace a, b;

    (void)state;
    CHECK_OK(try_run(one, 1, check_tmp_path("one-pass"), &a), &err);
    CHECK_OK(try_run(two, 2, check_tmp_path("two-passes"), &b), &err);
    assert_int_equal(a.samples, 4);
    check_value("loss of the first step: a pass's weight is its share of the step's samples", b.loss[0], a.loss[0], 0,
                1e-5);
    check_value("norm of the first step: a pass's weight is its share of the step's samples", b.norm, a.norm, 0, 1e-4);
    check_value("loss of the fourth step, of two samples and one", b.loss[1], a.loss[1], 0, 1e-4);
}

/* ---- the two models -------------------------------------------------------------------------- */

static void copy_file(const char *below, const char *find, const char *put)
{
    char *from = path_join(model, below, &err), *to = path_join(other_model, below, &err), *parent = path_dir(to, &err),
         *text = NULL, *at;
    int64_t size = 0;

    CHECK_OK(file_read(from, 1 << 26, &text, &size, &err), &err);
    CHECK_OK(dir_make(parent, &err), &err);
    if (find) {
        at = strstr(text, find);
        assert_true(at && strlen(find) == strlen(put));
        memcpy(at, put, strlen(put));
    } else {
        for (int64_t i = size / 2 / 4 * 4; i < size / 2 / 4 * 4 + 4096; i += 4)
            text[i + 3] ^= (char)0x80; /* signs of a thousand weights */
    }
    CHECK_OK(file_write_atomic(to, text, size, &err), &err);
    mem_free(text);
    mem_free(from);
    mem_free(to);
    mem_free(parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(export_copy_arrives), cmocka_unit_test(every_value_arrives),
                                       cmocka_unit_test(every_value_matters),
                                       cmocka_unit_test(what_is_not_supported_is_refused),
                                       cmocka_unit_test(passes_add_up)};

    model = check_repo_path("tests/golden/pipeline/model");
    other_model = check_tmp_path("other-model");
    adapter = check_repo_path("tests/golden/lora");
    if (fixture_make(model, check_tmp_path("caches"), &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    copy_file("transformer/config.json", "\"num_layers\"", "\"num_layers\"");
    copy_file("transformer/diffusion_pytorch_model.safetensors", NULL, NULL);
    copy_file("scheduler/scheduler_config.json", "\"snr_shift_scale\": 3.0", "\"snr_shift_scale\": 1.0");
    return check_run_live("train-keys", tests);
}
