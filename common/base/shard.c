#include "common/base/shard.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct Launcher {
    const char *rank, *size;
    const char *only_with; /* a variable that must be set too; NULL: none */
} Launcher;

static const Launcher launchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL},
    {"PMI_RANK", "PMI_SIZE", NULL},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"},
};
enum { LAUNCHERS = sizeof launchers / sizeof *launchers };

static const char *variable(const char *name)
{
    const char *text = name ? getenv(name) : NULL;
    return text && *text ? text : NULL;
}

/* A number without sign; *end is where it stops. */
static int parse_number(const char *text, int64_t *out, const char **end)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return ERR_USAGE;
    errno = 0;
    *out = strtoll(text, &stop, 10);
    *end = stop;
    return errno ? ERR_USAGE : 0;
}

static int parse_option(const char *text, int64_t *k, int64_t *n, Err *err)
{
    const char *at;
    if (parse_number(text, k, &at) < 0 || *at != '/' || parse_number(at + 1, n, &at) < 0 || *at || *k >= *n)
        return err_set(err, ERR_USAGE, "--shard: expected K/N with 0 <= K < N, found '%s'", text);
    return 0;
}

static int parse_launcher(const Launcher *l, int64_t *k, int64_t *n, Err *err)
{
    const char *rank = variable(l->rank), *size = variable(l->size), *end;
    if (parse_number(rank, k, &end) < 0 || *end || parse_number(size, n, &end) < 0 || *end || *k >= *n)
        return err_set(err, ERR_USAGE,
                       "%s is '%s' and %s is '%s': expected a rank from 0 below the size; give --shard K/N", l->rank,
                       rank, l->size, size);
    return 0;
}

static void say_part(const Log *log, LogLevel level, int64_t k, int64_t n, const char *from)
{
    if (n == 1)
        return;
    const char *rest = n == 2 ? "the other part is left to another process" : "parts are left to other processes";
    if (n == 2)
        log_line(log, level, "this process does part %" PRId64 " of 2 (shard %" PRId64 "/2, from %s); %s", k + 1, k,
                 from, rest);
    else
        log_line(log, level,
                 "this process does part %" PRId64 " of %" PRId64 " (shard %" PRId64 "/%" PRId64
                 ", from %s); the other %" PRId64 " %s",
                 k + 1, n, k, n, from, n - 1, rest);
}

/* A batch script has the job's number of tasks, but is one process. */
static void say_batch_script(const Log *log)
{
    const char *tasks = variable("SLURM_NTASKS");
    if (tasks && strcmp(tasks, "1") != 0 && variable("SLURM_PROCID"))
        log_info(log,
                 "SLURM_NTASKS is %s, but srun did not start this process: it does the whole work; start it with srun "
                 "to share the work, or give --shard K/N",
                 tasks);
}

int shard_choose(const char *text, const Log *log, int64_t *k, int64_t *n, Err *err)
{
    const Launcher *half = NULL; /* one that is set only in part */
    *k = 0;
    *n = 1;
    if (text) {
        int rc = parse_option(text, k, n, err);
        if (rc == 0)
            say_part(log, LOG_INFO, *k, *n, "--shard");
        return rc;
    }
    for (int i = 0; i < LAUNCHERS; i++) {
        const Launcher *l = &launchers[i];
        if (l->only_with && !variable(l->only_with))
            continue;
        if (variable(l->rank) && variable(l->size)) {
            int rc = parse_launcher(l, k, n, err);
            if (rc == 0) /* a warning: the command line asked for no part */
                say_part(log, LOG_WARN, *k, *n, l->rank);
            return rc;
        }
        if (!half && (variable(l->rank) || variable(l->size)))
            half = l;
    }
    if (half)
        return err_set(err, ERR_USAGE, "%s is set without %s: give --shard K/N (0/1 for the whole work)",
                       variable(half->rank) ? half->rank : half->size, variable(half->rank) ? half->size : half->rank);
    say_batch_script(log);
    return 0;
}
