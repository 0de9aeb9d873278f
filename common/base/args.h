/* One option table a program: parsing, --help and the printed configuration come from it.
 *
 *   static const Opt opts[] = { OPTS_COMMON,
 *     {"out", 'o', OPT_STR, offsetof(Options, out), .required = 1, .meta = "DIR", .help = "where
 *     the dataset goes"}, {0} };
 *
 * Strict: unknown flags are refused with the nearest spelling, numbers must be whole strings within
 * range, an option given twice is refused unless it is a list.  "--name=value" and "--name value"
 * both work; "--" ends options. */
#ifndef WEFT_COMMON_BASE_ARGS_H
#define WEFT_COMMON_BASE_ARGS_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

typedef enum OptType {
    OPT_FLAG, /* int, set to 1 */
    OPT_INT,  /* int64_t within [min, max] */
    OPT_NUM,  /* double within [min, max] */
    OPT_STR,  /* const char *, borrowed from argv */
    OPT_ENUM, /* const char *, one of choices "a|b|c" */
    OPT_LIST  /* StrList, may be given several times */
} OptType;

typedef struct StrList {
    const char **item;
    int64_t n;
} StrList; /* item array owned; strings borrowed from argv */

typedef struct Opt {
    const char *name; /* long name without dashes; NULL ends the table */
    char short_name;  /* 0: none */
    OptType type;
    size_t offset;   /* of the field in the options struct */
    double min, max; /* numbers; both 0: no limit */
    const char *choices;
    const char *dflt; /* as text, parsed like a given value; NULL: zero */
    const char *meta; /* name of the value in help */
    const char *help;
    int required;
} Opt;

typedef struct Command {
    const char *name;    /* subcommand, e.g. "ingest"; NULL ends the list */
    const char *summary; /* one line */
    const char *usage;   /* what follows the name: "[options] SOURCE..." */
    const Opt *opts;
    size_t options_size;                /* sizeof the options struct */
    int min_positional, max_positional; /* max -1: any number */
    /* returns the exit status 0..3 or a negative code */
    int (*run)(void *options, const StrList *positional, Err *err);
} Command;

/* Parses into `options` (options_size bytes, zeroed here, defaults applied).  positional is filled
 * and owned by the caller (args_free_list). */
int args_parse(const Opt *opts, void *options, size_t options_size, int argc, char **argv, StrList *positional,
               Err *err);
void args_fini(const Opt *opts, void *options); /* frees OPT_LIST arrays */
void args_free_list(StrList *l);
/* "name = value" lines of the resolved options. */
void args_print(const Opt *opts, const void *options, FILE *out);
void args_help(const char *program, const Command *cmd, FILE *out);

/* The whole of a main(): "--help", "--version", subcommand lookup with nearest name, parse, run,
 * print the error to stderr as "program: error: ...".  Returns the exit status: 0 done, 1 failed, 2
 * wrong usage, 3 done but some items rejected. */
int program_main(const char *program, const char *about, const Command *commands, int argc, char **argv);

/* Options that have one meaning in every program; first member of each options struct, so that the
 * offsets below hold.  A command lists those that it heeds. */
typedef struct CommonOptions {
    const char *preset, *config, *device;
    StrList set;
    int64_t jobs;
    int64_t seed; /* -1: not given, and to be set so by a command without the option; use recipe_int(recipe, "seed") */
    const char *shard; /* "K/N", K from 0; NULL: see shard_parse */
    int quiet, log_json, dry_run;
} CommonOptions;
#define OPTS_RECIPE                                                                              \
    {"preset", 0,                                                                                \
     OPT_STR,  offsetof(CommonOptions, preset),                                                  \
     0,        0,                                                                                \
     NULL,     NULL,                                                                             \
     "NAME",   "start from a built-in recipe: fashion-2b (default) or demo",                     \
     0},                                                                                         \
        {"config", 'c',                                                                          \
         OPT_STR,  offsetof(CommonOptions, config),                                              \
         0,        0,                                                                            \
         NULL,     NULL,                                                                         \
         "FILE",   "recipe file over the preset, JSON or YAML",                                  \
         0},                                                                                     \
    {                                                                                            \
        "set", 0, OPT_LIST, offsetof(CommonOptions, set), 0, 0, NULL, NULL, "SECTION.KEY=VALUE", \
            "change one recipe value; may be repeated", 0                                        \
    }
#define OPT_DEVICE                                                                                           \
    {                                                                                                        \
        "device", 0, OPT_ENUM, offsetof(CommonOptions, device), 0, 0, "auto|cpu|cuda|sim|ref", "auto", NULL, \
            "back end: auto takes cuda where it works, else cpu", 0                                          \
    }
#define OPT_JOBS                                                                      \
    {                                                                                 \
        "jobs", 'j', OPT_INT, offsetof(CommonOptions, jobs), 0, 4096, NULL, "0", "N", \
            "threads or workers; 0: all cores", 0                                     \
    }
#define OPT_SEED                                                                                    \
    {                                                                                               \
        "seed", 0, OPT_INT, offsetof(CommonOptions, seed), -1, 9007199254740992.0, NULL, "-1", "N", \
            "seed of every random draw; -1: the recipe's", 0                                        \
    }
#define OPT_SHARD                                                                     \
    {                                                                                 \
        "shard", 0, OPT_STR, offsetof(CommonOptions, shard), 0, 0, NULL, NULL, "K/N", \
            "do part K (from 0) of N; default from Slurm's or MPI's environment", 0   \
    }
#define OPTS_LOG                                                                            \
    {"quiet",  'q',                                                                         \
     OPT_FLAG, offsetof(CommonOptions, quiet),                                              \
     0,        0,                                                                           \
     NULL,     NULL,                                                                        \
     NULL,     "no notes or progress; errors and results stay",                             \
     0},                                                                                    \
    {                                                                                       \
        "log-json", 0, OPT_FLAG, offsetof(CommonOptions, log_json), 0, 0, NULL, NULL, NULL, \
            "log lines as JSON objects", 0                                                  \
    }
#define OPT_DRY_RUN                                                                       \
    {                                                                                     \
        "dry-run", 0, OPT_FLAG, offsetof(CommonOptions, dry_run), 0, 0, NULL, NULL, NULL, \
            "print what would be done, memory included, and stop", 0                      \
    }
#define OPTS_COMMON OPTS_RECIPE, OPT_DEVICE, OPT_JOBS, OPT_SEED, OPT_SHARD, OPTS_LOG, OPT_DRY_RUN
/* Parses "K/N"; text NULL: SLURM_PROCID/SLURM_NTASKS or OMPI_COMM_WORLD_RANK/SIZE, where both are
 * set, else 0 of 1.
 * 0 <= *k < *n.  Slurm sets the same two in a batch script that runs without srun, so programs say
 * which part they do. */
int shard_parse(const char *text, int64_t *k, int64_t *n, Err *err);
#endif
