/* weft-prep: source videos and captions in, a prepared dataset out. */
#include <string.h>
#include "common/base/log.h"
#include "common/base/machine.h"
#include "common/base/mem.h"
#include "common/base/program.h"
#include "common/base/recipe.h"
#include "common/base/shard.h"
#include "common/base/threads.h"
#include "common/ops/selftest.h"
#include "prep/ingest.h"
#include "prep/merge.h"
#include "prep/probe.h"
#include "prep/set/report.h"
#include "prep/tokenize.h"

typedef struct Options {
    CommonOptions common; /* first, for the offsets of OPT_* */
    const char *out, *layout, *tokenizer, *clip_tokenizer, *pad;
    int verify_sources, replace, follow_links, json;
} Options;

static void open_log(StderrLog *log, const Options *o)
{
    log_to_stderr(log, "weft-prep", o->common.quiet ? LOG_WARN : LOG_INFO, o->common.log_json);
}

/* --pad is the last --set. */
static int open_recipe(Recipe **out, const Options *o, Err *err)
{
    CommonOptions common = o->common;
    const char **set = mem_calloc(common.set.n + 1, sizeof *set, err);
    *out = NULL;
    if (!set)
        return ERR_NOMEM;
    for (int64_t i = 0; i < common.set.n; i++)
        set[i] = common.set.item[i];
    if (o->pad)
        set[common.set.n++] = strcmp(o->pad, "hold") == 0 ? "clip.short=hold" : "clip.short=reject";
    common.set.item = set;
    int rc = recipe_open(out, &common, err);
    mem_free(set);
    return rc;
}

static int run_ingest(void *options, const StrList *positional, Err *err)
{
    const Options *o = options;
    StderrLog log;
    Recipe *recipe;
    open_log(&log, o);
    interrupt_install(&log);
    machine_unbind(); /* the work is done by processes, not by OpenMP */
    int rc = open_recipe(&recipe, o, err);
    if (rc < 0)
        return rc;
    IngestParams p = {.source = positional->item[0],
                      .out = o->out,
                      .layout = o->layout,
                      .recipe = recipe,
                      .jobs = threads_choose(o->common.jobs),
                      .dry_run = o->common.dry_run,
                      .print_recipe = o->common.print_recipe,
                      .verify_sources = o->verify_sources,
                      .replace = o->replace,
                      .follow_links = o->follow_links,
                      .log = &log.log,
                      .results = stdout};
    rc = shard_choose(o->common.shard, &log.log, &p.shard, &p.shards, err);
    if (rc == 0)
        rc = prep_ingest(&p, err);
    recipe_close(&recipe);
    return rc;
}

static int run_merge(void *options, const StrList *positional, Err *err)
{
    const Options *o = options;
    StderrLog log;
    open_log(&log, o);
    interrupt_install(&log);
    machine_unbind(); /* the work is done by processes, not by OpenMP */
    MergeParams p = {.shards = positional->item,
                     .n = positional->n,
                     .out = o->out,
                     .jobs = threads_choose(o->common.jobs),
                     .dry_run = o->common.dry_run,
                     .replace = o->replace,
                     .log = &log.log,
                     .results = stdout};
    return prep_merge(&p, err);
}

static int run_tokenize(void *options, const StrList *positional, Err *err)
{
    Options *o = options;
    StderrLog log;
    Recipe *recipe = NULL;
    int rc = 0;
    open_log(&log, o);
    if (o->common.preset || o->common.config || o->common.set.n) {
        o->common.seed = -1;
        rc = recipe_open(&recipe, &o->common, err);
    }
    if (rc == 0)
        rc = prep_tokenize(positional->item[0], o->tokenizer, o->clip_tokenizer, recipe, &log.log, stdout, err);
    recipe_close(&recipe);
    return rc;
}

static int run_report(void *options, const StrList *positional, Err *err)
{
    (void)options;
    return prep_report(positional->item[0], stdout, err);
}

static int run_probe(void *options, const StrList *positional, Err *err)
{
    Options *o = options;
    StderrLog log;
    Recipe *recipe;
    o->common.seed = -1;
    open_log(&log, o);
    int64_t failed = 0;
    int status = 0, rc = open_recipe(&recipe, o, err);
    if (rc < 0)
        return rc;
    for (int64_t i = 0; i < positional->n && rc >= 0; i++) {
        rc = prep_probe(positional->item[i], recipe, o->json, stdout, err);
        status = rc > status ? rc : status;
        if (rc < 0 && rc != ERR_NOMEM && rc != ERR_INTERRUPTED &&
            positional->n > 1) { /* the other files are still probed */
            log_error(&log.log, "%s", err->msg);
            err_clear(err);
            failed++;
            rc = 0;
        }
    }
    recipe_close(&recipe);
    if (rc >= 0 && failed)
        rc = err_set(err, ERR_NOTFOUND, "%" PRId64 " of %" PRId64 " arguments could not be read", failed,
                     positional->n);
    return rc < 0 ? rc : status;
}

#define OPT_REPLACE                                     \
    OPTION(Options, replace, OPT_FLAG, "replace", NULL, \
           "overwrite a dataset in DIR that was made from other sources (default: refuse)")
#define OPT_PAD                                                                                                \
    OPTION(Options, pad, OPT_ENUM, "pad", NULL,                                                                \
           "a source that is too short: reject it (default), or hold its last frame; as --set clip.short=...", \
           .choices = "reject|hold")
static const Opt ingest_opts[] = {
    OPTS_RECIPE,
    OPT_PRINT_RECIPE,
    OPT_JOBS,
    OPT_SEED,
    OPT_SHARD,
    OPTS_LOG,
    OPT_DRY_RUN,
    OPT_PAD,
    OPT_REPLACE,
    OPTION(Options, out, OPT_STR, "out", "DIR", "where the prepared dataset goes", .short_name = 'o', .required = 1),
    OPTION(Options, layout, OPT_STR, "layout", "NAME",
           "metadata, fashion-t2v, lists, captions, trees, table, ubc or pairs (default: detected)",
           .choices = "metadata|fashion-t2v|lists|captions|trees|table|ubc|pairs"),
    OPTION(Options, follow_links, OPT_FLAG, "follow-links", NULL,
           "follow links that lead out of SOURCE (default: reject the clips behind them)"),
    OPTION(Options, verify_sources, OPT_FLAG, "verify-sources", NULL,
           "read every source again (default: skip those whose inode, size, mtime and ctime have not changed)"),
    {0}};
static const Opt merge_opts[] = {
    OPT_JOBS,
    OPTS_LOG,
    OPT_DRY_RUN,
    OPT_REPLACE,
    OPTION(Options, out, OPT_STR, "out", "DIR", "where the whole dataset goes", .short_name = 'o', .required = 1),
    {0}};
static const Opt tokenize_opts[] = {
    OPTS_RECIPE,
    OPTS_LOG,
    OPTION(Options, tokenizer, OPT_STR, "tokenizer", "PATH",
           "the model's tokenizer/ folder, or its spiece.model, merges.txt or tokenizer.json", .short_name = 't',
           .required = 1),
    OPTION(Options, clip_tokenizer, OPT_STR, "clip-tokenizer", "PATH",
           "merges.txt, or a folder that holds one: also counts the 77 tokens that evaluation sees"),
    {0}};
static const Opt probe_opts[] = {
    OPTS_RECIPE,
    OPT_PAD,
    OPTION(Options, json, OPT_FLAG, "json", NULL, "print all facts as JSON (default: one line a file)"),
    {0}};

static const Command commands[] = {
    {.name = "ingest",
     .summary = "decode and normalise a folder of videos and captions",
     .usage = "[options] SOURCE --out PREPARED",
     .opts = ingest_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_ingest},
    {.name = "merge",
     .summary = "join the shards of one set (ingest --shard K/N)",
     .usage = "[options] SHARD... --out PREPARED",
     .opts = merge_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = -1,
     .run = run_merge},
    {.name = "tokenize",
     .summary = "write the captions' token ids beside the manifest",
     .usage = "[options] PREPARED --tokenizer PATH",
     .opts = tokenize_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_tokenize},
    {.name = "probe",
     .summary = "show what video files or picture folders hold, and what ingest would do with them",
     .usage = "[options] FILE...",
     .opts = probe_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = -1,
     .run = run_probe},
    {.name = "report",
     .summary = "write report.html and report.json of a prepared dataset again",
     .usage = "PREPARED",
     .opts = no_opts,
     .options_size = sizeof(Options),
     .min_positional = 1,
     .max_positional = 1,
     .run = run_report},
    COMMAND_KEYS,
    COMMAND_SELFTEST,
    {0}};

const int machine_start_once = 1;

static const char *const examples[] = {
    "weft-prep ingest videos --out prepared",
    "Prepare the videos and captions in the folder videos.",
    "weft-prep ingest videos --out prepared --dry-run",
    "Show what would be done and where the captions were found.",
    "weft-prep tokenize prepared --tokenizer CogVideoX-2b/tokenizer",
    "Write the token ids of all captions.",
    "srun -n 4 weft-prep ingest videos --out prepared",
    "Share the work among four processes; weft-prep merge then joins prepared/shard-*.",
    NULL};
static const char *const files[] = {"PREPARED/manifest.jsonl",
                                    "one line a source clip: accepted or rejected, and why",
                                    "PREPARED/clips/ID.mkv",
                                    "the prepared clips, lossless",
                                    "PREPARED/dataset.json",
                                    "the recipe and the manifest's hash",
                                    "PREPARED/tokens.jsonl",
                                    "token ids of the captions",
                                    "PREPARED/report.html, report.json",
                                    "what was accepted and rejected, with pictures",
                                    NULL};

int main(int argc, char **argv)
{
    static const Program program = {.name = "weft-prep",
                                    .about = "Turns source videos and captions into a prepared dataset.",
                                    .commands = commands,
                                    .examples = examples,
                                    .files = files};
    return program_main(&program, argc, argv);
}
