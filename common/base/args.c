#include "common/base/args.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/str.h"

/* ---- values ---------------------------------------------------------------------------------- */

static int takes_value(const Opt *o)
{
    return o->type != OPT_FLAG && (o->type != OPT_KEY || o->meta || o->choices);
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

static int key_add(const Opt *o, StrList *keys, const char *text, Err *err)
{
    int rc = list_add(keys, o->name, err);
    if (rc == 0)
        rc = list_add(keys, o->key, err);
    return rc == 0 ? list_add(keys, text ? text : "true", err) : rc;
}

static int store(const Opt *o, void *options, const char *text, Err *err)
{
    switch (o->type) {
    case OPT_FLAG: *(int *)field(o, options) = 1; return 0;
    case OPT_INT: return parse_int(o, text, field(o, options), err);
    case OPT_NUM: return parse_num(o, text, field(o, options), err);
    case OPT_LIST: return list_add(field(o, options), text, err);
    case OPT_KEY: return key_add(o, field(o, options), text, err);
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

/* What names files, a recipe or a part of the work; a prompt may be empty, numbers and choices are parsed. */
static int must_name(const Opt *o)
{
    return (o->type == OPT_STR || o->type == OPT_LIST) && !(o->meta && strcmp(o->meta, "TEXT") == 0);
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
    if (must_name(o) && !*value) /* "" + "/data.mdb" would be a file of the root folder */
        return err_set(err, ERR_USAGE, "--%s needs a value (%s), found ''", o->name, o->meta ? o->meta : "VALUE");
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
        if (!argv[i][0])
            rc = err_set(err, ERR_USAGE, "argument %d is empty", i + 1);
        else if (only_positional || argv[i][0] != '-' || argv[i][1] == 0)
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
        if (o->type == OPT_LIST || o->type == OPT_KEY)
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
        } else if (o->type == OPT_KEY) {
            const StrList *l = at;
            for (int64_t i = 0; i < l->n; i += 3)
                if (l->item[i] == o->name)
                    fprintf(out, " %s", l->item[i + 2]);
        } else if (*(const char *const *)at) {
            fprintf(out, " %s", *(const char *const *)at);
        }
        fputc('\n', out);
    }
}

const char *opt_value_name(const Opt *o)
{
    if (!takes_value(o))
        return NULL;
    return o->type == OPT_ENUM || (o->type == OPT_KEY && o->choices) ? o->choices : o->meta ? o->meta : "VALUE";
}
