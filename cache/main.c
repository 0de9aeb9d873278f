/* weft-cache: a prepared dataset in, an LMDB cache of latents and embeddings out. */
#include "cache/build.h"
#include "cache/inspect.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/base/shard.h"
#include "common/base/threads.h"
#include "common/model/model_folder.h"
#include "common/ops/selftest.h"

typedef struct Options {
    CommonOptions common; /* first: OPTS_COMMON's offsets */
    const char *out, *model;
} Options;

static int run_build(void *options, const StrList *positional, Err *err)
{
    const Options *o = options;
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
                     .log = &log.log,
                     .results = stdout};
    char *model = NULL;
    rc = model_folder_of_recipe(&model, recipe, o->model, 0, &log.log, err);
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
    if (be)
        be->stop = interrupt_requested;
    p.be = be;
    if (rc == 0)
        rc = cache_build(&p, err);
    mem_free(shard_dir);
    mem_free(model);
    backend_close(&be);
    recipe_close(&recipe);
    return rc;
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

static int run_verify(void *options, const StrList *positional, Err *err)
{
    (void)options;
    return cache_verify(positional->item[0], stdout, err);
}

static const Opt build_opts[] = {
    OPTS_COMMON,
    OPTION(Options, out, OPT_STR, "out", "DIR", "where the cache is or goes", .short_name = 'o', .required = 1),
    OPTION(Options, model, OPT_STR, "model", "FOLDER",
           "pipeline folder in diffusers layout; default: the recipe's model.base_model", .short_name = 'm'),
    {0}};

static const Opt list_opts[] = {
    OPTION(ListOptions, json, OPT_FLAG, "json", NULL, "print each clip's entry as one JSON object a line"),
    OPTION(ListOptions, csv, OPT_FLAG, "csv", NULL, "print a table in CSV, with sizes and categories"),
    {0}};

static const Command commands[] = {
    {.name = "build",
     .summary = "encode clips and captions that are not cached yet",
     .usage = "[options] PREPARED --out CACHE",
     .opts = build_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_build},
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
    {.name = "verify",
     .summary = "check every checksum and every clip's records",
     .usage = "CACHE",
     .opts = no_opts,
     .min_positional = 1,
     .max_positional = 1,
     .run = run_verify},
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
