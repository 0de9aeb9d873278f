#include "common/base/args.h"
#include "common/base/build.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/threads.h"

/* ---- values ---------------------------------------------------------------------------------- */

static int takes_value(const Opt *o)
{
    return o->type != OPT_FLAG;
}

/* In long double, which holds every int64_t: as a double 2^53 + 1 would be 2^53. */
static int check_range(const Opt *o, long double x, const char *text, Err *err)
{
    if ((o->min == 0 && o->max == 0) || (x >= o->min && x <= o->max))
        return 0;
    return err_set(err, ERR_USAGE, "--%s: %s is not within %.16g to %.16g", o->name, text, o->min, o->max);
}

static int parse_int(const Opt *o, const char *text, int64_t *out, Err *err)
{
    char *end;
    errno = 0;
    long long x = strtoll(text, &end, 10);
    if (end == text || *end || *text == ' ')
        return err_set(err, ERR_USAGE, "--%s: expected a whole number, found '%s'", o->name, text);
    if (errno == ERANGE)
        return err_set(err, ERR_USAGE, "--%s: %s does not fit 64 bits", o->name, text);
    *out = x;
    return check_range(o, (long double)x, text, err);
}

static int parse_num(const Opt *o, const char *text, double *out, Err *err)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || *text == ' ' || !isfinite(x)) {
        return err_set(err, ERR_USAGE, "--%s: expected a number, found '%s'", o->name, text);
    }
    *out = x;
    return check_range(o, x, text, err);
}

static int is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);
    for (const char *p = choices; *p;) {
        size_t m = strcspn(p, "|");
        if (m == n && memcmp(p, text, n) == 0)
            return 1;
        p += m;
        p += *p == '|';
    }
    return 0;
}

static int list_add(StrList *l, const char *text, Err *err)
{
    const char **item = mem_realloc(l->item, l->n + 1, sizeof *item, err);
    if (!item)
        return ERR_NOMEM;
    l->item = item;
    l->item[l->n++] = text;
    return 0;
}

static void *field(const Opt *o, void *options)
{
    return (char *)options + o->offset;
}

static int store(const Opt *o, void *options, const char *text, Err *err)
{
    switch (o->type) {
    case OPT_FLAG: *(int *)field(o, options) = 1; return 0;
    case OPT_INT: return parse_int(o, text, field(o, options), err);
    case OPT_NUM: return parse_num(o, text, field(o, options), err);
    case OPT_LIST: return list_add(field(o, options), text, err);
    case OPT_ENUM:
        if (!is_choice(o->choices, text))
            return err_set(err, ERR_USAGE, "--%s: expected %s, found '%s'", o->name, o->choices, text);
        break;
    case OPT_STR: break;
    }
    *(const char **)field(o, options) = text;
    return 0;
}

/* ---- parsing --------------------------------------------------------------------------------- */

static int unknown_option(const Opt *opts, const char *given, Err *err)
{
    int64_t n = 0;
    while (opts[n].name)
        n++;
    const char **names = mem_calloc(n + 1, sizeof *names, err);
    if (!names)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        names[i] = opts[i].name;
    const char *near = str_nearest(given, names);
    if (near)
        err_set(err, ERR_USAGE, "unknown option '--%s'; did you mean '--%s'?", given, near);
    else
        err_set(err, ERR_USAGE, "unknown option '--%s'", given);
    mem_free(names);
    return ERR_USAGE;
}

/* Finds the option an argument starts with; *value is what is glued to it ("=x", or x after a short
 * name), or NULL. */
static int find_option(const Opt *opts, const char *arg, const Opt **found, const char **value, Err *err)
{
    *found = NULL;
    *value = NULL;
    if (arg[1] != '-') {
        for (const Opt *o = opts; o->name && !*found; o++) {
            if (o->short_name && o->short_name == arg[1])
                *found = o;
        }
        if (!*found)
            return err_set(err, ERR_USAGE, "unknown option '-%c'", arg[1]);
        if (arg[2])
            *value = arg + 2;
        return 0;
    }
    const char *name = arg + 2;
    size_t n = strcspn(name, "=");
    for (const Opt *o = opts; o->name && !*found; o++) {
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            *found = o;
    }
    if (!*found) {
        char *cut = mem_strndup(name, (int64_t)n, err);
        int rc = cut ? unknown_option(opts, cut, err) : ERR_NOMEM;
        mem_free(cut);
        return rc;
    }
    if (name[n] == '=')
        *value = name + n + 1;
    return 0;
}

/* One option at argv[*i]; *i moves past a separate value. */
static int take_option(const Opt *opts, void *options, char *given, int argc, char **argv, int *i, Err *err)
{
    const Opt *o;
    const char *value;
    int rc = find_option(opts, argv[*i], &o, &value, err);
    if (rc < 0)
        return rc;
    if (!takes_value(o) && value)
        return err_set(err, ERR_USAGE, "--%s takes no value, found '%s'", o->name, value);
    if (takes_value(o) && !value) {
        if (*i + 1 >= argc)
            return err_set(err, ERR_USAGE, "--%s needs a value (%s)", o->name, o->meta ? o->meta : "VALUE");
        value = argv[++*i];
    }
    if (given[o - opts]++ && o->type != OPT_LIST)
        return err_set(err, ERR_USAGE, "--%s is given twice", o->name);
    given[o - opts] = 1;
    return store(o, options, value, err);
}

static int check_required(const Opt *opts, const char *given, Err *err)
{
    for (const Opt *o = opts; o->name; o++) {
        if (!o->required || given[o - opts])
            continue;
        return err_set(err, ERR_USAGE, "--%s %s is needed: %s", o->name, o->meta ? o->meta : "", o->help);
    }
    return 0;
}

int args_parse(const Opt *opts, void *options, size_t options_size, int argc, char **argv, StrList *positional,
               Err *err)
{
    int64_t n = 0;
    int rc = 0, only_positional = 0;
    memset(options, 0, options_size);
    *positional = (StrList){0};
    while (opts[n].name)
        n++;
    char *given = mem_calloc(n + 1, 1, err);
    if (!given)
        return ERR_NOMEM;
    for (const Opt *o = opts; o->name && rc == 0; o++) {
        if (o->dflt)
            rc = store(o, options, o->dflt, err);
    }
    for (int i = 0; i < argc && rc == 0; i++) {
        if (only_positional || argv[i][0] != '-' || argv[i][1] == 0)
            rc = list_add(positional, argv[i], err);
        else if (strcmp(argv[i], "--") == 0)
            only_positional = 1;
        else
            rc = take_option(opts, options, given, argc, argv, &i, err);
    }
    if (rc == 0)
        rc = check_required(opts, given, err);
    mem_free(given);
    if (rc < 0) {
        args_fini(opts, options);
        args_free_list(positional);
    }
    return rc;
}

void args_fini(const Opt *opts, void *options)
{
    for (const Opt *o = opts; o->name; o++) {
        if (o->type == OPT_LIST)
            args_free_list(field(o, options));
    }
}

void args_free_list(StrList *l)
{
    mem_free(l->item);
    *l = (StrList){0};
}

/* ---- showing --------------------------------------------------------------------------------- */

void args_print(const Opt *opts, const void *options, FILE *out)
{
    for (const Opt *o = opts; o->name; o++) {
        const void *at = (const char *)options + o->offset;
        fprintf(out, "%s =", o->name);
        if (o->type == OPT_FLAG) {
            fprintf(out, " %s", *(const int *)at ? "yes" : "no");
        } else if (o->type == OPT_INT) {
            fprintf(out, " %" PRId64, *(const int64_t *)at);
        } else if (o->type == OPT_NUM) {
            fprintf(out, " %.17g", *(const double *)at);
        } else if (o->type == OPT_LIST) {
            const StrList *l = at;
            for (int64_t i = 0; i < l->n; i++)
                fprintf(out, " %s", l->item[i]);
        } else if (*(const char *const *)at) {
            fprintf(out, " %s", *(const char *const *)at);
        }
        fputc('\n', out);
    }
}

#define HELP_COLUMN 30

void args_help(const char *program, const Command *cmd, FILE *out)
{
    fprintf(out, "usage: %s %s %s\n%s\n\noptions:\n", program, cmd->name, cmd->usage, cmd->summary);
    for (const Opt *o = cmd->opts; o->name; o++) {
        char dash[8] = "    ", left[128];
        const char *meta = o->type == OPT_ENUM ? o->choices : o->meta ? o->meta : "VALUE";
        if (o->short_name)
            snprintf(dash, sizeof dash, "-%c, ", o->short_name);
        snprintf(left, sizeof left, "  %s--%s%s%s", dash, o->name, takes_value(o) ? " " : "",
                 takes_value(o) ? meta : "");
        if (strlen(left) >= HELP_COLUMN)
            fprintf(out, "%s\n%*s", left, HELP_COLUMN, "");
        else
            fprintf(out, "%-*s", HELP_COLUMN, left);
        fputs(o->help, out);
        if (o->min != 0 || o->max != 0)
            fprintf(out, " [%.16g..%.16g]", o->min, o->max);
        if (o->dflt)
            fprintf(out, " (default %s)", o->dflt);
        if (o->required)
            fputs(" (needed)", out);
        fputc('\n', out);
    }
    fprintf(out, "%-*sthis text\n", HELP_COLUMN, "  -h, --help");
}

static void print_about(const char *program, const char *about, const Command *commands, FILE *out)
{
    fprintf(out, "usage: %s COMMAND [options] ...\n%s\n\ncommands:\n", program, about);
    for (const Command *c = commands; c->name; c++)
        fprintf(out, "  %-12s %s\n", c->name, c->summary);
    fprintf(out, "\n'%s COMMAND --help' lists a command's options; '%s --version' tells the version.\n", program,
            program);
}

/* ---- the whole of a main --------------------------------------------------------------------- */

static const Command *find_command(const Command *commands, const char *name, Err *err)
{
    int64_t n = 0;
    for (; commands[n].name; n++) {
        if (strcmp(commands[n].name, name) == 0)
            return &commands[n];
    }
    const char **names = mem_calloc(n + 1, sizeof *names, err);
    if (!names)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        names[i] = commands[i].name;
    const char *near = str_nearest(name, names);
    if (near)
        err_set(err, ERR_USAGE, "unknown command '%s'; did you mean '%s'?", name, near);
    else
        err_set(err, ERR_USAGE, "unknown command '%s'", name);
    mem_free(names);
    return NULL;
}

/* --help before a "--". */
static int wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    }
    return 0;
}

static int check_positional(const Command *cmd, const StrList *given, Err *err)
{
    if (given->n < cmd->min_positional) {
        return err_set(err, ERR_USAGE, "%s: %" PRId64 " argument%s given, at least %d needed: %s", cmd->name, given->n,
                       given->n == 1 ? "" : "s", cmd->min_positional, cmd->usage);
    }
    if (cmd->max_positional >= 0 && given->n > cmd->max_positional) {
        return err_set(err, ERR_USAGE, "%s: unexpected argument '%s'", cmd->name, given->item[cmd->max_positional]);
    }
    return 0;
}

static int run_command(const Command *cmd, int argc, char **argv, Err *err)
{
    StrList positional = {0};
    void *options = mem_calloc((int64_t)cmd->options_size, 1, err);
    if (!options)
        return ERR_NOMEM;
    int rc = args_parse(cmd->opts, options, cmd->options_size, argc, argv, &positional, err);
    if (rc == 0) {
        rc = check_positional(cmd, &positional, err);
        if (rc == 0)
            rc = cmd->run(options, &positional, err);
        args_fini(cmd->opts, options);
        args_free_list(&positional);
    }
    mem_free(options);
    return rc;
}

static void print_version(const char *program)
{
    BuildIdentity identity;
    build_identity(&identity);
    printf("%s %s\n", program, WEFT_VERSION);
    build_identity_print(&identity, stdout);
}

int program_main(const char *program, const char *about, const Command *commands, int argc, char **argv)
{
    Err err = {0};
    int rc = 0;
    const Command *cmd = NULL;
    const char *first = argc > 1 ? argv[1] : NULL;
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write with a sentence, as a full disk is */
    if (!first) {
        print_about(program, about, commands, stderr);
        return 2;
    }
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        print_about(program, about, commands, stdout);
    else if (strcmp(first, "--version") == 0)
        print_version(program);
    else if (!(cmd = find_command(commands, first, &err)))
        rc = err.code;
    else if (wants_help(argc - 2, argv + 2))
        args_help(program, cmd, stdout);
    else
        rc = run_command(cmd, argc - 2, argv + 2, &err);
    /* A result that did not reach its reader is no success. */
    if (fflush(stdout) != 0 && rc >= 0)
        rc = err_errno(&err, errno, "writing to standard output");
    if (rc >= 0)
        return rc;
    str_make_printable(err.msg, 1);
    fprintf(stderr, "%s: error: %s\n", program, err.msg[0] ? err.msg : err_name(rc));
    if (rc == ERR_INTERRUPTED && interrupt_signal())
        return 128 + interrupt_signal(); /* what a shell reports of a process that a signal ended */
    if (rc != ERR_USAGE)
        return 1;
    fprintf(stderr, "try '%s%s%s --help'\n", program, cmd ? " " : "", cmd ? cmd->name : "");
    return 2;
}
