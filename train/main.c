/* weft-train: fine-tunes the transformer from a cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/program.h"
#include "common/base/str.h"
#include "common/ops/selftest.h"
#include "train/export.h"
#include "train/merge.h"
#include "train/plan.h"
#include "train/run_report.h"
#include "train/run.h"

/* The plan's lines in the log. */
static int log_plan(Job *j, const TrainOptions *o, Err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int rc = f ? plan_print(j, o, f, err) : err_set(err, ERR_NOMEM, "out of memory for the plan");

    if (f && fclose(f) != 0 && rc == 0)
        rc = err_set(err, ERR_NOMEM, "out of memory for the plan");
    if (rc == 0)
        log_text(&j->log.log, LOG_INFO, text);
    free(text);
    return rc;
}

static int dry_run(Job *j, const TrainOptions *o, Err *err)
{
    int rc = 0;

    if (ranks_rank(j->ranks) == 0 && (rc = plan_print(j, o, stdout, err)) == 0)
        rc = train_preview(j, o->out, stdout, err);
    return ranks_agree(j->ranks, rc, err);
}

static int train(Job *j, const TrainOptions *o, Err *err)
{
    int rc;

    recipe_log(j->recipe, o->common.print_recipe, &j->log.log);
    if ((rc = ranks_agree(j->ranks, log_plan(j, o, err), err)) < 0 || (rc = train_run(j, o->out, err)) < 0)
        return rc;
    if (ranks_rank(j->ranks) == 0 && rc == 0)
        printf("%s/final: %" PRId64 " step%s\n", o->out, j->steps, str_plural(j->steps));
    else if (ranks_rank(j->ranks) == 0)
        printf("%s/checkpoint-%" PRId64 ": stopped at step %" PRId64 " of %" PRId64 "\n", o->out, j->reached,
               j->reached, j->steps);
    return 0;
}

/* Before the program ends with `code`: what all ranks know of, rank 0 reports, and the others end
 * quietly.  A failure of this rank alone ends the job: the others would wait for it. */
static int leave(Job *j, int code, const Err *err)
{
    Ranks *r = j->ranks;

    if (!r)
        return code;
    if (code < 0 && !r->all_know) {
        log_error(&j->log.log, "rank %" PRId64 " on %s: %s", r->rank, r->host, err->msg);
        r->abort(r, 1);
        return code;
    }
    code = r->rank == 0 ? code : 0;
    ranks_close(&j->ranks);
    return code;
}

static int run(void *options, const StrList *positional, Err *err)
{
    const TrainOptions *o = options;
    Job j = {.plan = o->common.dry_run};
    int rc = ranks_open(&j.ranks, o->common.shard, err);

    (void)positional;
    if (rc == 0)
        rc = ranks_agree(j.ranks, job_open(&j, o, err), err);
    if (rc == 0)
        rc = o->common.dry_run ? dry_run(&j, o, err) : train(&j, o, err);
    rc = leave(&j, rc, err);
    job_close(&j);
    return rc;
}

static int plan(void *options, const StrList *positional, Err *err)
{
    const TrainOptions *o = options;
    Job j = {.plan = 1};
    int rc = job_open(&j, o, err);

    (void)positional;
    if (rc == 0) {
        recipe_log(j.recipe, o->common.print_recipe, &j.log.log);
        rc = plan_print(&j, o, stdout, err);
    }
    if (rc == 0)
        rc = plan_print_disk(&j, stdout, err);
    if (rc == 0 && (o->fit || o->by))
        rc = plan_fit(&j, o->fit, o->by, stdout, err);
    job_close(&j);
    return rc;
}

static int report(void *options, const StrList *positional, Err *err)
{
    int rc = run_report_write(positional->item[0], err);

    (void)options;
    if (rc == 0)
        printf("%s/report.html\n", positional->item[0]);
    return rc;
}

typedef struct ExportOptions {
    CommonOptions common; /* first */
    const char *out, *model, *copy;
} ExportOptions;

static int export(void *options, const StrList *positional, Err *err)
{
    const ExportOptions *o = options;
    StderrLog log;
    int rc;

    log_to_stderr(&log, "weft-train", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    rc = export_checkpoint(positional->item[0], o->out, o->model, strcmp(o->copy, "link") == 0, &log.log, err);
    if (rc == 0)
        printf("%s\n", o->out);
    return rc;
}

static int merge(void *options, const StrList *positional, Err *err)
{
    const MergeOptions *o = options;
    int rc = merge_run(o, err);

    (void)positional;
    if (rc == 0)
        printf("%s%s\n", o->common.dry_run ? "would write " : "", o->out);
    return rc;
}

#define OPT_CACHE \
    OPTION(TrainOptions, cache, OPT_LIST, "cache", "DIR", "cache to learn from; repeat it for several", .required = 1)
#define OPT_MODEL                                           \
    OPTION(TrainOptions, model, OPT_STR, "model", "FOLDER", \
           "base model in diffusers layout; default: training.base_model", .short_name = 'm')

#define OPT_LIMIT                                                                                               \
    OPTION(TrainOptions, limit, OPT_INT, "limit", "N", "train on the first N clips, in the order of their ids", \
           .min = 1, .max = 1000000000)

/* A run has no parts; --shard only tells one process of a job to train alone. */
#define OPTS_TRAIN                                                        \
    OPTS_RECIPE, OPT_PRINT_RECIPE, OPT_DEVICE, OPT_JOBS, OPT_SEED,        \
        OPTION(CommonOptions, shard, OPT_STR, "shard", "0/1",             \
               "one process trains alone, whatever mpirun or srun gave"), \
        OPTS_LOG, OPT_DRY_RUN

static const Opt run_opts[] = {
    OPTS_TRAIN,
    OPT_CACHE,
    OPTION(TrainOptions, out, OPT_STR, "out", "DIR", "the run: checkpoints, log.jsonl, final", .short_name = 'o',
           .required = 1),
    OPT_MODEL,
    OPT_LIMIT,
    {0},
};
static const Opt plan_opts[] = {
    OPTS_TRAIN,
    OPT_CACHE,
    OPT_MODEL,
    OPTION(TrainOptions, fit, OPT_STR, "fit", "24G", "find settings that fit this much device memory"),
    OPTION(TrainOptions, by, OPT_STR, "by", "8h", "find settings that are done in this time"),
    OPT_LIMIT,
    OPTION(TrainOptions, ranks, OPT_INT, "ranks", "N",
           "plan for one of N processes (mpirun -n N): the one that needs most memory", .max = 65536, .dflt = "1"),
    {0},
};

static const Opt export_opts[] = {
    OPTS_LOG,
    OPTION(ExportOptions, out, OPT_STR, "out", "DIR", "the pipeline folder to make", .short_name = 'o', .required = 1),
    OPTION(ExportOptions, model, OPT_STR, "model", "FOLDER",
           "base model for the other parts; default: the one that the checkpoint names", .short_name = 'm'),
    OPTION(ExportOptions, copy, OPT_ENUM, "copy", NULL, "hard links where the file system can, or copies",
           .choices = "link|copy", .dflt = "link"),
    {0},
};

static const Opt merge_opts[] = {
    OPTION(MergeOptions, model, OPT_STR, "model", "FOLDER", "pipeline folder that the adapters were trained on",
           .short_name = 'm', .required = 1),
    OPTION(MergeOptions, lora, OPT_LIST, "lora", "FILE[:SCALE]",
           "adapter, a file or a folder such as RUN/final, SCALE times as strong; may be repeated", .required = 1),
    OPTION(MergeOptions, out, OPT_STR, "out", "FOLDER", "the new pipeline folder", .short_name = 'o', .required = 1),
    OPT_JOBS,
    OPTS_LOG,
    OPT_DRY_RUN,
    {0},
};

static const char *const examples[] = {
    "weft-train plan --cache cache --model CogVideoX-2b",
    "Print steps, memory and time before anything is trained.",
    "weft-train run --cache cache --model CogVideoX-2b --out run",
    "Train; given again after an interruption, it goes on from the newest checkpoint.",
    "weft-train merge --model CogVideoX-2b --lora run/final --out merged",
    "Add a LoRA adapter to the weights: a pipeline folder that needs no adapter.",
    NULL};
static const char *const files[] = {
    "RUN/checkpoint-N/",
    "a checkpoint: model folder in diffusers' layout (with LoRA the adapter), and the state for an exact resume",
    "RUN/final/",
    "the finished pipeline, for weft-infer and diffusers; with LoRA pytorch_lora_weights.safetensors alone",
    "RUN/log.jsonl",
    "loss, gradient norm, learning rate, speed and time left of the steps",
    "RUN/held_out.jsonl",
    "loss on clips that are not trained on, against that of step 0",
    "RUN/samples/, RUN/samples.jsonl",
    "validation.prompts sampled on the way: latents, and pictures of them in rough colours",
    "RUN/report.html",
    "the run as a page: curves, held-out loss, use of time; written at the end, and by weft-train report",
    "RUN/tensorboard/",
    "the same numbers for TensorBoard: tensorboard --logdir RUN",
    "RUN/run.json",
    "recipe, inputs and build of the run",
    "RUN/prediction.json",
    "predicted and measured memory and time",
    NULL};

int main(int argc, char **argv)
{
    static const Command commands[] = {
        {.name = "run",
         .summary = "train, or continue a run that stopped",
         .usage = "--cache DIR... --out RUN [options]",
         .opts = run_opts,
         .options_size = sizeof(TrainOptions),
         .run = run},
        {.name = "plan",
         .summary = "print steps, memory, operations, time and disk of a run",
         .usage = "--cache DIR... [options]",
         .opts = plan_opts,
         .options_size = sizeof(TrainOptions),
         .run = plan},
        {.name = "merge",
         .summary = "add LoRA adapters to a model's weights",
         .usage = "--model FOLDER --lora FILE[:SCALE]... --out FOLDER",
         .opts = merge_opts,
         .options_size = sizeof(MergeOptions),
         .run = merge},
        {.name = "report",
         .summary = "write RUN/report.html: curves, held-out loss, use of time",
         .usage = "RUN",
         .opts = no_opts,
         .min_positional = 1,
         .max_positional = 1,
         .run = report},
        {.name = "export",
         .summary = "make a pipeline folder of a checkpoint, for weft-infer and diffusers",
         .usage = "CHECKPOINT --out DIR [options]",
         .opts = export_opts,
         .options_size = sizeof(ExportOptions),
         .min_positional = 1,
         .max_positional = 1,
         .run = export},
        COMMAND_KEYS,
        COMMAND_SELFTEST,
        {0},
    };
    static const Program program = {.name = "weft-train",
                                    .about = "Fine-tunes CogVideoX from a cache of latents and text embeddings.",
                                    .commands = commands,
                                    .examples = examples,
                                    .files = files};
    return program_main(&program, argc, argv);
}
