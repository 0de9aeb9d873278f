/* weft-cache: a prepared dataset in, an LMDB cache of latents and embeddings out. */
#include <string.h>

#include "cache/build.h"
#include "cache/export.h"
#include "cache/gc.h"
#include "cache/inspect.h"
#include "cache/merge.h"
#include "cache/prepared.h"
#include "cache/preview.h"
#include "cache/stats.h"
#include "cache/text_form.h"
#include "cache/verify.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/base/shard.h"
#include "common/base/threads.h"
#include "common/model/model_folder.h"
#include "common/ops/selftest.h"

typedef struct Options {
    CommonOptions common; /* first: OPTS_COMMON's offsets */
    const char *out, *model;
    int allow_network;
} Options;

static CacheMode write_mode(int allow_network)
{
    return allow_network ? CACHE_WRITE_ANYWHERE : CACHE_WRITE;
}

static int build_or_diff(const Options *o, int diff, const StrList *positional, Err *err)
{
    StderrLog log;
    Recipe *recipe = NULL;
    Backend *be = NULL;
    log_to_stderr(&log, "weft-cache", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    int rc = recipe_open(&recipe, &o->common, err);
    if (rc < 0)
        return rc;
    BuildParams p = {.prepared = positional->item[0],
                     .out = o->out,
                     .recipe = recipe,
                     .dry_run = o->common.dry_run,
                     .diff = diff,
                     .mode = write_mode(o->allow_network),
                     .log = &log.log,
                     .results = stdout};
    char *model = NULL;
    rc = model_folder_of_recipe(&model, recipe, o->model, 0, &log.log, err);
    if (rc == 0)
        rc = prepared_adopt(recipe, p.prepared, err);
    if (rc == 0)
        rc = text_form_adopt(recipe, model, err);
    p.model = model;
    if (rc == 0)
        rc = shard_choose(o->common.shard, &log.log, &p.shard, &p.shards, err);
    char *shard_dir = NULL; /* each shard writes a cache of its own, named as weft-prep names shards */
    if (rc == 0 && p.shards > 1) {
        shard_dir = mem_printf(err, "%s/shard-%" PRId64 "-of-%" PRId64, o->out, p.shard, p.shards);
        p.out = shard_dir;
        rc = shard_dir ? 0 : ERR_NOMEM;
    }
    if (rc == 0)
        rc = backend_open(&be, o->common.device, threads_choose(o->common.jobs), &log.log, err);
    if (rc == 0)
        recipe_log(recipe, o->common.print_recipe, &log.log);
    if (be) {
        be->stop = interrupt_requested;
        be->direct_conv = strcmp(recipe_str(recipe, "model.vae_convolution"), "direct") == 0;
    }
    p.be = be;
    if (rc == 0)
        rc = cache_build(&p, err);
    mem_free(shard_dir);
    mem_free(model);
    backend_close(&be);
    recipe_close(&recipe);
    return rc;
}

static int run_build(void *options, const StrList *positional, Err *err)
{
    return build_or_diff(options, 0, positional, err);
}

static int run_diff(void *options, const StrList *positional, Err *err)
{
    return build_or_diff(options, 1, positional, err);
}

typedef struct ListOptions {
    int json, csv;
} ListOptions;

static int run_ls(void *options, const StrList *positional, Err *err)
{
    const ListOptions *o = options;
    if (o->json && o->csv)
        return err_set(err, ERR_USAGE, "--json and --csv cannot be given together");
    CacheList form = o->json ? CACHE_LIST_JSON : o->csv ? CACHE_LIST_CSV : CACHE_LIST_TEXT;
    return cache_ls(positional->item[0], form, stdout, err);
}

static int run_show(void *options, const StrList *positional, Err *err)
{
    (void)options;
    StrList ids = {positional->item + 1, positional->n - 1};
    return cache_show(positional->item[0], &ids, stdout, err);
}

typedef struct VerifyOptions {
    CommonOptions common;
    const char *prepared, *model;
    int64_t deep;
} VerifyOptions;

static int run_verify(void *options, const StrList *positional, Err *err)
{
    const VerifyOptions *o = options;
    StderrLog log;
    Backend *be = NULL;
    char *model = NULL;
    log_to_stderr(&log, "weft-cache", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    if (o->deep > 0 && !(o->prepared && o->model))
        return err_set(err, ERR_USAGE, "--deep encodes clips again: give --prepared FOLDER and --model FOLDER too");
    VerifyParams p = {
        .dir = positional->item[0], .prepared = o->prepared, .deep = o->deep, .log = &log.log, .out = stdout};
    int rc = o->deep > 0 ? model_folder_find(&model, o->model, &log.log, err) : 0;
    if (rc == 0 && o->deep > 0)
        rc = backend_open(&be, o->common.device, threads_choose(o->common.jobs), &log.log, err);
    p.model = model;
    p.be = be;
    if (rc == 0)
        rc = cache_verify(&p, err);
    backend_close(&be);
    mem_free(model);
    return rc;
}

typedef struct GcOptions {
    StrList keep;
    int dry_run, compact, allow_network;
} GcOptions;

static int run_gc(void *options, const StrList *positional, Err *err)
{
    const GcOptions *o = options;
    return cache_gc(
        &(GcParams){positional->item[0], o->keep, o->dry_run, o->compact, write_mode(o->allow_network), stdout}, err);
}

typedef struct MergeOptions {
    CommonOptions common;
    const char *out;
    int allow_network;
} MergeOptions;

static int run_merge(void *options, const StrList *positional, Err *err)
{
    const MergeOptions *o = options;
    StderrLog log;
    log_to_stderr(&log, "weft-cache", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    return cache_merge(&(MergeParams){*positional, o->out, write_mode(o->allow_network), &log.log, stdout}, err);
}

static int run_stats(void *options, const StrList *positional, Err *err)
{
    const ListOptions *o = options;
    return cache_stats(positional->item[0], o->json, stdout, err);
}

typedef struct PreviewOptions {
    CommonOptions common;
    const char *prepared, *model, *out;
    int64_t worst;
} PreviewOptions;

static int run_preview(void *options, const StrList *positional, Err *err)
{
    const PreviewOptions *o = options;
    StderrLog log;
    Backend *be = NULL;
    char *model = NULL;
    log_to_stderr(&log, "weft-cache", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    PreviewParams p = {.dir = positional->item[0],
                       .prepared = o->prepared,
                       .out = o->out,
                       .ids = {positional->item + 1, positional->n - 1},
                       .worst = o->worst,
                       .log = &log.log,
                       .results = stdout};
    if ((p.ids.n > 0) == (p.worst > 0))
        return err_set(err, ERR_USAGE, "name clips after the cache, or give --worst N");
    int rc = model_folder_find(&model, o->model, &log.log, err);
    if (rc == 0)
        rc = backend_open(&be, o->common.device, threads_choose(o->common.jobs), &log.log, err);
    if (be)
        be->stop = interrupt_requested;
    p.be = be;
    p.model = model;
    if (rc == 0)
        rc = cache_preview(&p, err);
    backend_close(&be);
    mem_free(model);
    return rc;
}

static int run_export(void *options, const StrList *positional, Err *err)
{
    const MergeOptions *o = options;
    StderrLog log;
    log_to_stderr(&log, "weft-cache", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    return cache_export(positional->item[0], o->out, stdout, err);
}

static int run_import(void *options, const StrList *positional, Err *err)
{
    Options *o = options;
    o->common.seed = -1;
    StderrLog log;
    Recipe *recipe = NULL;
    Backend *be = NULL;
    char *model = NULL;
    log_to_stderr(&log, "weft-cache", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
    interrupt_install(&log);
    int rc = recipe_open(&recipe, &o->common, err);
    if (rc == 0 && o->model)
        rc = model_folder_find(&model, o->model, &log.log, err);
    if (rc == 0 && o->model)
        rc = backend_open(&be, o->common.device, threads_choose(o->common.jobs), &log.log, err);
    if (rc == 0 && o->model)
        rc = text_form_adopt(recipe, model, err);
    if (be)
        be->stop = interrupt_requested;
    ImportParams p = {.from = positional->item[0],
                      .out = o->out,
                      .model = model,
                      .recipe = recipe,
                      .be = be,
                      .mode = write_mode(o->allow_network),
                      .log = &log.log,
                      .results = stdout};
    if (rc == 0)
        rc = cache_import(&p, err);
    backend_close(&be);
    mem_free(model);
    recipe_close(&recipe);
    return rc;
}

#define OPT_NETWORK(structure)                                        \
    OPTION(structure, allow_network, OPT_FLAG, "allow-network", NULL, \
           "write on a network file system too (safe only while nothing else uses the cache)")

static const Opt build_opts[] = {
    OPTS_COMMON,
    OPTION(Options, out, OPT_STR, "out", "DIR", "where the cache is or goes", .short_name = 'o', .required = 1),
    OPTION(Options, model, OPT_STR, "model", "FOLDER",
           "pipeline folder in diffusers layout; default: the recipe's model.base_model", .short_name = 'm'),
    OPT_NETWORK(Options),
    {0}};

static const Opt list_opts[] = {
    OPTION(ListOptions, json, OPT_FLAG, "json", NULL, "print each clip's entry as one JSON object a line"),
    OPTION(ListOptions, csv, OPT_FLAG, "csv", NULL, "print a table in CSV, with sizes and categories"),
    {0}};

static const Opt verify_opts[] = {
    OPTION(VerifyOptions, prepared, OPT_STR, "prepared", "FOLDER",
           "each accepted clip of this prepared dataset must be there"),
    OPTION(VerifyOptions, deep, OPT_INT, "deep", "N",
           "encode N clips and their captions again and compare bits (with --prepared and --model)", .min = 0,
           .max = 1e15, .dflt = "0"),
    OPTION(VerifyOptions, model, OPT_STR, "model", "FOLDER", "pipeline folder for --deep", .short_name = 'm'),
    OPT_DEVICE,
    OPT_JOBS,
    OPTS_LOG,
    {0}};

static const Opt gc_opts[] = {
    OPTION(GcOptions, keep, OPT_LIST, "keep", "PREPARED",
           "keep only clips of this prepared dataset; may be repeated; default: all clips of the cache"),
    OPTION(GcOptions, compact, OPT_FLAG, "compact", NULL, "then rewrite data.mdb without its free pages"),
    OPT_NETWORK(GcOptions),
    OPTION(GcOptions, dry_run, OPT_FLAG, "dry-run", NULL, "print what would be dropped, then stop"),
    {0}};

static const Opt merge_opts[] = {OPTION(MergeOptions, out, OPT_STR, "out", "DIR", "the merged cache: a new folder",
                                        .short_name = 'o', .required = 1),
                                 OPTS_LOG,
                                 {0}};

static const Opt preview_opts[] = {OPTION(PreviewOptions, prepared, OPT_STR, "prepared", "FOLDER",
                                          "the prepared dataset, for the source frames", .required = 1),
                                   OPTION(PreviewOptions, model, OPT_STR, "model", "FOLDER",
                                          "pipeline folder whose VAE made the latents", .short_name = 'm',
                                          .required = 1),
                                   OPTION(PreviewOptions, out, OPT_STR, "out", "DIR",
                                          "folder for index.html and the pictures", .short_name = 'o', .required = 1),
                                   OPTION(PreviewOptions, worst, OPT_INT, "worst", "N",
                                          "decode all clips and show the N worst", .min = 0, .max = 1e15, .dflt = "0"),
                                   OPT_DEVICE,
                                   OPT_JOBS,
                                   OPTS_LOG,
                                   {0}};

static const Opt export_opts[] = {
    OPTION(MergeOptions, out, OPT_STR, "out", "DIR", "folder for the safetensors", .short_name = 'o', .required = 1),
    OPTS_LOG,
    {0}};

static const Opt import_opts[] = {
    OPTS_RECIPE,
    OPT_NETWORK(Options),
    OPTION(Options, out, OPT_STR, "out", "DIR", "the cache: a new folder", .short_name = 'o', .required = 1),
    OPTION(Options, model, OPT_STR, "model", "FOLDER",
           "pipeline folder that made the latents; its text encoder makes the embeddings that are missing",
           .short_name = 'm'),
    OPT_DEVICE,
    OPT_JOBS,
    OPTS_LOG,
    {0}};

static const Opt stats_opts[] = {OPTION(ListOptions, json, OPT_FLAG, "json", NULL, "print one JSON object"), {0}};

static const Command commands[] = {
    {.name = "build",
     .summary = "encode clips and captions that are not cached yet",
     .usage = "[options] PREPARED --out CACHE",
     .opts = build_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_build},
    {.name = "diff",
     .summary = "say what a build would add, make again, keep and drop, and why",
     .usage = "[options] PREPARED --out CACHE",
     .opts = build_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_diff},
    {.name = "ls",
     .summary = "list the clips",
     .usage = "[--json | --csv] CACHE",
     .opts = list_opts,
     .options_size = sizeof(ListOptions),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_ls},
    {.name = "show",
     .summary = "print the entries of clips; without an ID, what the cache was made with",
     .usage = "CACHE [ID...]",
     .opts = no_opts,
     .min_positional = 1,
     .max_positional = -1,
     .run = run_show},
    {.name = "stats",
     .summary = "count clips, captions and bytes; mean and deviation of the latents",
     .usage = "[--json] CACHE",
     .opts = stats_opts,
     .options_size = sizeof(ListOptions),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_stats},
    {.name = "verify",
     .summary = "check every checksum and every clip's records",
     .usage = "[options] CACHE",
     .opts = verify_opts,
     .options_size = sizeof(VerifyOptions),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_verify},
    {.name = "gc",
     .summary = "drop clips that no dataset has and records that no clip names",
     .usage = "[options] CACHE",
     .opts = gc_opts,
     .options_size = sizeof(GcOptions),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_gc},
    {.name = "merge",
     .summary = "join shards or caches into one",
     .usage = "[options] CACHE... --out DIR",
     .opts = merge_opts,
     .options_size = sizeof(MergeOptions),
     .min_positional = 1,
     .max_positional = -1,
     .run = run_merge},
    {.name = "preview",
     .summary = "decode cached clips and show them beside their source frames",
     .usage = "[options] CACHE [ID...] --out DIR",
     .opts = preview_opts,
     .options_size = sizeof(PreviewOptions),
     .min_positional = 1,
     .max_positional = -1,
     .run = run_preview},
    {.name = "export",
     .summary = "write a cache as safetensors",
     .usage = "[options] CACHE --out DIR",
     .opts = export_opts,
     .options_size = sizeof(MergeOptions),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_export},
    {.name = "import",
     .summary = "make a cache of safetensors: an export, or latents made by diffusers",
     .usage = "[options] FOLDER --out CACHE",
     .opts = import_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_import},
    COMMAND_KEYS,
    COMMAND_SELFTEST,
    {0}};

static const char *const examples[] = {
    "weft-cache build prepared --model CogVideoX-2b --out cache",
    "Encode the clips and captions of a prepared dataset; a second run encodes what is new.",
    "weft-cache verify cache",
    "Check every record.",
    "srun -n 4 weft-cache build prepared --model CogVideoX-2b --out cache",
    "Share the work among four processes; weft-train reads cache/shard-* together.",
    NULL};
static const char *const files[] = {"CACHE/data.mdb", "latents, text embeddings and clip entries (LMDB)", NULL};

int main(int argc, char **argv)
{
    static const Program program = {.name = "weft-cache",
                                    .about = "Turns a prepared dataset into a cache of latents and text embeddings.",
                                    .commands = commands,
                                    .examples = examples,
                                    .files = files};
    return program_main(&program, argc, argv);
}
