/* What a program says about itself: help texts, a manual page, completion for bash.  All come from
 * the table of commands. */
#include <ctype.h>
#include <string.h>
#include "common/base/build.h"
#include "common/base/program.h"

/* ---- --help ---------------------------------------------------------------------------------- */

#define HELP_COLUMN 30

static int has_range(const Opt *o)
{
    return o->min != 0 || o->max != 0;
}

void command_help(const Program *program, const Command *cmd, FILE *out)
{
    fprintf(out, "usage: %s %s %s\n%s\n\noptions:\n", program->name, cmd->name, cmd->usage, cmd->summary);
    for (const Opt *o = cmd->opts; o->name; o++) {
        char dash[8] = "    ", left[128];
        const char *value = opt_value_name(o);
        if (o->short_name)
            snprintf(dash, sizeof dash, "-%c, ", o->short_name);
        snprintf(left, sizeof left, "  %s--%s%s%s", dash, o->name, value ? " " : "", value ? value : "");
        if (strlen(left) >= HELP_COLUMN)
            fprintf(out, "%s\n%*s", left, HELP_COLUMN, "");
        else
            fprintf(out, "%-*s", HELP_COLUMN, left);
        fputs(o->help, out);
        if (has_range(o))
            fprintf(out, " [%.16g..%.16g]", o->min, o->max);
        if (o->dflt)
            fprintf(out, " (default %s)", o->dflt);
        if (o->required)
            fputs(" (required)", out);
        fputc('\n', out);
    }
    fprintf(out, "%-*sshow this help\n", HELP_COLUMN, "  -h, --help");
}

void program_help(const Program *program, FILE *out)
{
    fprintf(out, "usage: %s COMMAND [options] ...\n%s\n\ncommands:\n", program->name, program->about);
    for (const Command *c = program->commands; c->name; c++)
        fprintf(out, "  %-12s %s\n", c->name, c->summary);
    fprintf(out,
            "\n'%s COMMAND --help' lists the options of a command, '%s --version' prints version and build.\n"
            "'%s --help-man' prints a manual page, '%s --help-completion' completion for bash.\n",
            program->name, program->name, program->name, program->name);
}

/* ---- the manual page ------------------------------------------------------------------------- */

/* Text for roff: backslashes and hyphens escaped, no control character at the start of a line. */
static void roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else if (*text == '\'')
            fputs("\\(aq", out);
        else
            fputc(*text, out);
    }
}

static void roff_upper(FILE *out, const char *text)
{
    for (; *text; text++) {
        char letter[2] = {(char)toupper((unsigned char)*text), 0};
        roff(out, letter);
    }
}

static void roff_option(FILE *out, const Opt *o)
{
    const char *value = opt_value_name(o);
    fputs(".TP\n\\fB", out);
    if (o->short_name)
        fprintf(out, "\\-%c\\fR, \\fB", o->short_name);
    fputs("\\-\\-", out);
    roff(out, o->name);
    fputs("\\fR", out);
    if (value) {
        fputs(" \\fI", out);
        roff(out, value);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    roff(out, o->help);
    if (has_range(o))
        fprintf(out, " [%s%.16g..%.16g]", o->min < 0 ? "\\" : "", o->min, o->max);
    if (o->dflt) {
        fputs(" (default ", out);
        roff(out, o->dflt);
        fputc(')', out);
    }
    fputs(o->required ? " (required)\n" : "\n", out);
}

static void roff_command(FILE *out, const Command *c)
{
    fputs(".SS ", out);
    roff(out, c->name);
    fputc(' ', out);
    roff(out, c->usage);
    fputc('\n', out);
    char first[2] = {(char)toupper((unsigned char)c->summary[0]), 0};
    roff(out, first);
    roff(out, c->summary + 1);
    fputs(".\n", out);
    for (const Opt *o = c->opts; o->name; o++)
        roff_option(out, o);
}

/* A list of pairs under a heading. */
static void roff_pairs(FILE *out, const char *heading, const char *const *pairs)
{
    if (!pairs)
        return;
    fprintf(out, ".SH %s\n", heading);
    for (; pairs[0]; pairs += 2) {
        fputs(".TP\n\\fB", out);
        roff(out, pairs[0]);
        fputs("\\fR\n", out);
        roff(out, pairs[1]);
        fputc('\n', out);
    }
}

void program_manual(const Program *program, FILE *out)
{
    static const char *const programs[] = {"weft-prep", "weft-cache", "weft-train", "weft-infer"};
    static const char *const status[] = {"0",
                                         "done",
                                         "1",
                                         "failed; standard error says why",
                                         "2",
                                         "wrong usage",
                                         "3",
                                         "done, but some items were rejected",
                                         "130, 143",
                                         "stopped by SIGINT (Ctrl-C) or SIGTERM; what was done is kept (weft-train run "
                                         "exits with 0 where it could save a checkpoint)",
                                         NULL};
    fputs(".TH ", out);
    roff_upper(out, program->name);
    fprintf(out, " 1 \"\" \"Weft %s\" \"User Commands\"\n.SH NAME\n", WEFT_VERSION);
    roff(out, program->name);
    fputs(" \\- ", out);
    char first[2] = {(char)tolower((unsigned char)program->about[0]), 0};
    roff(out, first);
    size_t n = strlen(program->about); /* without the full stop: the form that whatis expects */
    char about[512];
    snprintf(about, sizeof about, "%.*s", (int)(program->about[n - 1] == '.' ? n - 2 : n - 1), program->about + 1);
    roff(out, about);
    fputs("\n.SH SYNOPSIS\n", out);
    for (const Command *c = program->commands; c->name; c++) {
        fputs(c == program->commands ? "\\fB" : ".br\n\\fB", out);
        roff(out, program->name);
        fputc(' ', out);
        roff(out, c->name);
        fputs("\\fR ", out);
        roff(out, c->usage);
        fputc('\n', out);
    }
    fputs(".SH DESCRIPTION\n", out);
    roff(out, program->about);
    fputs("\nResults go to standard output or into files, everything else to standard error.\n"
          "An interrupted command can be given again: what is done is kept.\n.SH COMMANDS\n",
          out);
    for (const Command *c = program->commands; c->name; c++)
        roff_command(out, c);
    roff_pairs(out, "EXIT STATUS", status);
    roff_pairs(out, "FILES", program->files);
    roff_pairs(out, "EXAMPLES", program->examples);
    fputs(".SH SEE ALSO\n", out);
    const char *between = "";
    for (int i = 0; i < 4; i++) {
        if (strcmp(programs[i], program->name) == 0)
            continue;
        fputs(between, out);
        fputs("\\fB", out);
        roff(out, programs[i]);
        fputs("\\fR(1)", out);
        between = ",\n";
    }
    fputc('\n', out);
}

/* ---- completion for bash --------------------------------------------------------------------- */

/* Words that bash may split at blanks: names of options and choices hold none. */
static void complete_options(FILE *out, const Command *c)
{
    fprintf(out, "    %s) options=\"", c->name);
    for (const Opt *o = c->opts; o->name; o++)
        fprintf(out, "--%s ", o->name);
    fputs("--help\" ;;\n", out);
}

static int names_a_path(const char *value)
{
    return strcmp(value, "DIR") == 0 || strcmp(value, "FILE") == 0 || strcmp(value, "FOLDER") == 0 ||
           strcmp(value, "PATH") == 0;
}

/* What may follow an option: one of its choices, a key of the recipe, a file, or nothing we know. */
static void complete_value(FILE *out, const Program *program, const Opt *o)
{
    if (o->choices) {
        fputs("COMPREPLY=($(compgen -W \"", out);
        for (const char *p = o->choices; *p; p++)
            fputc(*p == '|' ? ' ' : *p, out);
        fputs("\" -- \"$word\"))", out);
    } else if (strcmp(o->name, "set") == 0) {
        fprintf(out,
                "COMPREPLY=($(compgen -W \"$(%s keys | sed -n 's/^\\([^ ]*\\) = .*/\\1=/p')\" -- \"$word\")); "
                "compopt -o nospace 2>/dev/null",
                program->name);
    } else if (names_a_path(opt_value_name(o))) {
        fputs("mapfile -t COMPREPLY < <(compgen -f -- \"$word\")", out);
    } else {
        fputs(":", out);
    }
    fputs("; return ;;\n", out);
}

static void complete_values(FILE *out, const Program *program, const Command *c)
{
    for (const Opt *o = c->opts; o->name; o++) {
        if (!opt_value_name(o))
            continue;
        fprintf(out, "    %s:--%s", c->name, o->name);
        if (o->short_name)
            fprintf(out, "|%s:-%c", c->name, o->short_name);
        fputs(") ", out);
        complete_value(out, program, o);
    }
}

void program_completion(const Program *program, FILE *out)
{
    char function[64];
    size_t n = strlen(program->name);
    snprintf(function, sizeof function, "_%s", program->name);
    for (size_t i = 0; i <= n && i + 1 < sizeof function; i++) {
        if (function[i] == '-')
            function[i] = '_';
    }
    fprintf(out,
            "# bash completion for %s; source it, or put it into bash-completion's folder under the program's name\n"
            "%s() {\n"
            "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} options=\n"
            "  COMPREPLY=()\n"
            "  if [ \"$COMP_CWORD\" = 1 ]; then\n"
            "    COMPREPLY=($(compgen -W \"",
            program->name, function);
    for (const Command *c = program->commands; c->name; c++)
        fprintf(out, "%s ", c->name);
    fputs("--help --version\" -- \"$word\"))\n    return\n  fi\n"
          "  case ${COMP_WORDS[1]}:$before in\n",
          out);
    for (const Command *c = program->commands; c->name; c++)
        complete_values(out, program, c);
    fputs("  esac\n  case ${COMP_WORDS[1]} in\n", out);
    for (const Command *c = program->commands; c->name; c++)
        complete_options(out, c);
    fprintf(out,
            "  esac\n"
            "  case $word in\n"
            "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
            "    *) mapfile -t COMPREPLY < <(compgen -f -- \"$word\") ;;\n"
            "  esac\n"
            "}\n"
            "complete -o filenames -F %s %s\n",
            function, program->name);
}
