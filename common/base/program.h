/* The frame of the four programs: a table of commands, from which come parsing, --help, the manual
 * page and the shell's completion; then the command runs, its error is printed, and the exit status
 * is chosen.  Only here (and in main.c) does anything print an error or end the process.
 *
 *   int main(int argc, char **argv)
 *   {
 *       static const Command commands[] = {
 *           {.name = "probe", .summary = "...", .usage = "[options] FILE...", .opts = probe_opts,
 *            .options_size = sizeof(Options), .min_positional = 1, .max_positional = -1, .run = run_probe},
 *           COMMAND_KEYS, COMMAND_SELFTEST, {0}};
 *       static const Program program = {.name = "weft-prep", .about = "...", .commands = commands};
 *       return program_main(&program, argc, argv);
 *   } */
#ifndef WEFT_COMMON_BASE_PROGRAM_H
#define WEFT_COMMON_BASE_PROGRAM_H
#include <stddef.h>
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/err.h"

typedef struct Command {
    const char *name;    /* "ingest"; NULL ends the list */
    const char *summary; /* one line: what it does */
    const char *usage;   /* what follows the name: "[options] SOURCE..." */
    const Opt *opts;
    size_t options_size;                /* sizeof the options struct */
    int min_positional, max_positional; /* max -1: any number */
    /* Returns the exit status 0..3 or a negative code.  Results go to stdout, which program_main
     * flushes and checks. */
    int (*run)(void *options, const StrList *positional, Err *err);
} Command;

typedef struct Program {
    const char *name;  /* "weft-prep" */
    const char *about; /* one sentence: what the program does */
    const Command *commands;
    /* For the manual page, each a NULL-terminated list of pairs, or NULL: a command line and what it
     * does; a file's name and what it holds. */
    const char *const *examples, *const *files;
} Program;

/* The whole of a main(): COMMAND, "COMMAND --help", --help, --version, --help-man (a manual page in
 * roff), --help-completion (for bash), --selftest (the command selftest).
 * Returns the exit status: 0 done, 1 failed, 2 wrong usage, 3 done but some items were rejected,
 * 128 + N stopped by signal N (weft-train run, with its step saved: 0).  Output that did not reach
 * standard output is a failure. */
int program_main(const Program *program, int argc, char **argv);

void program_help(const Program *program, FILE *out);
void command_help(const Program *program, const Command *command, FILE *out);
void program_manual(const Program *program, FILE *out);
void program_completion(const Program *program, FILE *out);

/* "keys [WORD]": lists the recipe's keys, of every section or those that WORD is part of. */
WEFT_MUST_CHECK int recipe_keys_run(void *options, const StrList *positional, Err *err);
#define COMMAND_KEYS                                                                                    \
    {                                                                                                   \
        .name = "keys", .summary = "list the recipe's keys, or those with WORD in name or description", \
        .usage = "[WORD]", .opts = no_opts, .max_positional = 1, .run = recipe_keys_run                 \
    }
extern const Opt no_opts[];
#endif
