#include "common/base/program.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "common/base/build.h"
#include "common/base/launcher.h"
#include "common/base/log.h"
#include "common/base/machine.h"
#include "common/base/mapped.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/threads.h"

const Opt no_opts[] = {{0}};

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

/* Whether a flag is among the arguments, before a "--". */
static int has_flag(int argc, char **argv, const char *flag)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], flag) == 0)
            return 1;
    }
    return 0;
}

static int check_positional(const Command *cmd, const StrList *given, Err *err)
{
    if (given->n < cmd->min_positional) {
        return err_set(err, ERR_USAGE, "%s: %" PRId64 " argument%s given, at least %d needed: %s", cmd->name, given->n,
                       str_plural(given->n), cmd->min_positional, cmd->usage);
    }
    if (cmd->max_positional >= 0 && given->n > cmd->max_positional)
        return err_set(err, ERR_USAGE, "%s: unexpected argument '%s'", cmd->name, given->item[cmd->max_positional]);
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

/* An option of the program itself: 1 when `first` was one and is done. */
static int run_own_option(const Program *program, const char *first)
{
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        program_help(program, stdout);
    else if (strcmp(first, "--version") == 0)
        print_version(program->name);
    else if (strcmp(first, "--help-man") == 0)
        program_manual(program, stdout);
    else if (strcmp(first, "--help-completion") == 0)
        program_completion(program, stdout);
    else
        return 0;
    return 1;
}

/* A result that did not reach its reader is no success.  Only the last write's errno is known: an
 * earlier one that failed has left the stream's error flag. */
static int close_stdout(Err *err)
{
    int lost = ferror(stdout);
    errno = 0;
    if (fflush(stdout) != 0)
        return err_errno(err, errno, "writing to standard output");
    if (lost)
        return err_set(err, ERR_IO, "writing to standard output failed: the output is incomplete");
    return 0;
}

static void print_error(const Program *program, const Command *cmd, int rc, int json, Err *err)
{
    const char *message = err->msg[0] ? err->msg : err_name(rc);
    if (json) {
        StderrLog log;
        log_to_stderr(&log, program->name, LOG_ERROR, 1);
        log_error(&log.log, "%s", message);
        return;
    }
    char shown[4 * ERR_MSG_MAX];
    str_escape(shown, sizeof shown, message, 1);
    fprintf(stderr, "%s: error: %s\n", program->name, shown);
    if (rc == ERR_USAGE)
        fprintf(stderr, "try '%s%s%s --help'\n", program->name, cmd ? " " : "", cmd ? cmd->name : "");
}

int program_main(const Program *program, int argc, char **argv)
{
    Err err = {0};
    int rc = 0;
    const Command *cmd = NULL;
    const char *first = argc > 1 ? argv[1] : NULL;
    const int json = has_flag(argc - 1, argv + 1, "--log-json");
    StderrLog log;
    log_to_stderr(&log, program->name, LOG_ERROR, json);
    mapped_install(&log);
    launcher_unbind();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write with a sentence, as a full disk is */
    if (machine_check_address_space(1, &err) < 0) {
        print_error(program, NULL, err.code, json, &err);
        fflush(stderr);
        _exit(1); /* exit would wait for ever for BLAS's threads, which wait for their memory */
    }
    if (!first) {
        program_help(program, stderr);
        return 2;
    }
    if (!run_own_option(program, first)) {
        cmd = find_command(program->commands, strcmp(first, "--selftest") == 0 ? "selftest" : first, &err);
        if (!cmd)
            rc = err.code;
        else if (has_flag(argc - 2, argv + 2, "--help") || has_flag(argc - 2, argv + 2, "-h"))
            command_help(program, cmd, stdout);
        else
            rc = run_command(cmd, argc - 2, argv + 2, &err);
    }
    Err lost = {0};
    if (close_stdout(&lost) < 0 && rc >= 0) {
        rc = lost.code;
        err = lost;
    }
    if (rc >= 0)
        return rc;
    print_error(program, cmd, rc, json, &err);
    if (rc == ERR_INTERRUPTED && interrupt_signal())
        return 128 + interrupt_signal(); /* what a shell reports of a process that a signal ended */
    return rc == ERR_USAGE ? 2 : 1;
}
