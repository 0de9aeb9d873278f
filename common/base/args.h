/* One option table a program: parsing, --help and the printed configuration come from it.
 *
 *   static const Opt opts[] = {
 *       OPTS_COMMON,
 *       OPTION(Options, out, OPT_STR, "out", "DIR", "folder to write", .short_name = 'o', .required = 1),
 *       {0}};
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
    OPT_LIST, /* StrList, may be given several times */
    OPT_KEY /* a recipe key under a name of its own, in CommonOptions.keys; without meta and choices: a flag, "true" */
} OptType;

typedef struct StrList {
    const char **item;
    int64_t n;
} StrList; /* item array owned; strings borrowed from argv */

typedef struct Opt {
    const char *name; /* long name without dashes; NULL ends the table */
    char short_name;  /* 0: none */
    OptType type;
    size_t offset;       /* of the field in the options struct */
    double min, max;     /* numbers; both 0: no limit */
    const char *choices; /* OPT_ENUM: the only ones; OPT_STR, OPT_KEY: what completion offers */
    const char *dflt;    /* as text, parsed like a given value; NULL: zero */
    const char *meta;    /* name of the value in help */
    const char *help;
    int required;
    const char *key; /* OPT_KEY: "section.key"; the recipe's schema knows type and limits */
} Opt;

/* One line of a table: OPTION(Options, out, OPT_STR, "out", "DIR", "folder to write", .required = 1).
 * `structure` and `field` say where the value goes; after the help text any further members. */
#define OPTION(structure, field, kind, flag, value_name, text, ...)                                         \
    {                                                                                                       \
        .name = flag, .type = kind, .offset = offsetof(structure, field), .meta = value_name, .help = text, \
        __VA_ARGS__                                                                                         \
    }

/* Parses into `options` (options_size bytes, zeroed here, defaults applied).  positional is filled
 * and owned by the caller (args_free_list). */
WEFT_MUST_CHECK int args_parse(const Opt *opts, void *options, size_t options_size, int argc, char **argv,
                               StrList *positional, Err *err);
void args_fini(const Opt *opts, void *options); /* frees OPT_LIST arrays */
void args_free_list(StrList *l);
/* "name = value" lines of the resolved options. */
void args_print(const Opt *opts, const void *options, FILE *out);
/* "--name VALUE" as help and manual page show it: the value's name, its choices, or NULL for a flag. */
const char *opt_value_name(const Opt *o);

/* Options that have one meaning in every program; first member of each options struct, so that the
 * offsets below hold.  A command lists those that it heeds. */
typedef struct CommonOptions {
    const char *preset, *config, *device;
    StrList set;
    StrList keys; /* of OPT_KEY, three entries each: option, key, value; recipe_open puts them over --set */
    int64_t jobs;
    int64_t seed; /* -1: not given, and to be set so by a command without the option; use recipe_int(recipe, "seed") */
    const char *shard; /* "K/N", K from 0; NULL: shard_choose asks the launcher */
    int quiet, log_json, dry_run, print_recipe;
} CommonOptions;
#define OPTS_RECIPE                                                                                     \
    OPTION(CommonOptions, preset, OPT_STR, "preset", "NAME",                                            \
           "start from a built-in recipe: fashion-2b (default) or demo", .choices = "fashion-2b|demo"), \
        OPTION(CommonOptions, config, OPT_STR, "config", "FILE",                                        \
               "recipe file (JSON or YAML); its values replace the preset's", .short_name = 'c'),       \
        OPTION(CommonOptions, set, OPT_LIST, "set", "SECTION.KEY=VALUE", "change one recipe value; may be repeated")
/* "--flag VALUE" for --set path=VALUE; without value_name it sets true. */
#define OPTION_KEY(flag, value_name, path, text, ...) \
    OPTION(CommonOptions, keys, OPT_KEY, flag, value_name, text, .key = path, __VA_ARGS__)
#define OPT_DEVICE                                                                                                   \
    OPTION(CommonOptions, device, OPT_ENUM, "device", NULL, "where to compute; auto: cuda where it works, else cpu", \
           .choices = "auto|cpu|cuda|sim|ref", .dflt = "auto")
#define OPT_JOBS                                                                                                \
    OPTION(CommonOptions, jobs, OPT_INT, "jobs", "N",                                                           \
           "threads or worker processes; 0: as many as there are usable cores", .short_name = 'j', .max = 4096, \
           .dflt = "0")
#define OPT_SEED                                                                                               \
    OPTION(CommonOptions, seed, OPT_INT, "seed", "N", "seed of every random draw; -1: the seed in the recipe", \
           .min = -1, .max = 9007199254740992.0, .dflt = "-1")
#define OPT_SHARD                                         \
    OPTION(CommonOptions, shard, OPT_STR, "shard", "K/N", \
           "do part K (from 0) of N; default: the rank that mpirun or srun gave")
#define OPTS_LOG                                                                                    \
    OPTION(CommonOptions, quiet, OPT_FLAG, "quiet", NULL,                                           \
           "print no notes and no progress; errors, warnings and results stay", .short_name = 'q'), \
        OPTION(CommonOptions, log_json, OPT_FLAG, "log-json", NULL, "write each log line as a JSON object")
#define OPT_DRY_RUN                                           \
    OPTION(CommonOptions, dry_run, OPT_FLAG, "dry-run", NULL, \
           "print what would be done and the memory it needs, then stop")
#define OPT_PRINT_RECIPE                                                \
    OPTION(CommonOptions, print_recipe, OPT_FLAG, "print-recipe", NULL, \
           "show every key of the recipe, not only what differs from the preset")
#define OPTS_COMMON OPTS_RECIPE, OPT_PRINT_RECIPE, OPT_DEVICE, OPT_JOBS, OPT_SEED, OPT_SHARD, OPTS_LOG, OPT_DRY_RUN
#endif
