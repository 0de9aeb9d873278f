#include "common/base/threads.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/base/machine.h"

int64_t threads_choose(int64_t jobs)
{
    if (jobs > 0)
        return jobs;
    const char *text = getenv("OMP_NUM_THREADS"); /* "4" or "4,2": the outermost level counts */
    if (text) {
        char *end;
        long n = strtol(text, &end, 10);
        if (end != text && (*end == 0 || *end == ',') && n > 0 && n <= 4096)
            return n;
    }
    return machine_threads();
}

static volatile sig_atomic_t asked_to_stop; /* the first signal's number */
static struct timespec asked_at;
static char stop_line[200]; /* printed by the handler, which cannot format */
static pid_t installed_by;

/* Slurm (at a time limit) and Open MPI send SIGTERM twice, about a second apart. */
enum { REPEATED_TERM_S = 3 };

static int is_repeated_term(int number)
{
    struct timespec now;
    return number == SIGTERM && clock_gettime(CLOCK_MONOTONIC, &now) == 0 &&
           now.tv_sec - asked_at.tv_sec < REPEATED_TERM_S;
}

static void on_signal(int number)
{
    int saved = errno;
    if (!asked_to_stop) {
        asked_to_stop = number;
        clock_gettime(CLOCK_MONOTONIC, &asked_at);
        if (getpid() == installed_by && write(STDERR_FILENO, stop_line, strlen(stop_line)) < 0)
            errno = saved; /* standard error is closed: nothing can be done about that here */
    } else if (!is_repeated_term(number)) {
        signal(number, SIG_DFL); /* delivered again when this handler returns */
        raise(number);
    }
    errno = saved;
}

void interrupt_install(const StderrLog *log)
{
    static const char message[] = "stopping; what is done is kept; a second signal ends the program at once";
    const char *program = log ? log->program : program_invocation_short_name;
    if (log && log->log.json)
        snprintf(stop_line, sizeof stop_line, "{\"level\":\"warning\",\"program\":\"%s\",\"message\":\"%s\"}\n",
                 program, message);
    else
        snprintf(stop_line, sizeof stop_line, "%s: %s\n", program, message);
    if (log && log->log.level < LOG_WARN)
        stop_line[0] = 0;
    installed_by = getpid();
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = 0};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) /* under nohup it stays ignored */
        sigaction(SIGHUP, &action, NULL);
}

int interrupt_requested(void)
{
    return asked_to_stop;
}

int interrupt_signal(void)
{
    return asked_to_stop;
}

void interrupt_adopt(int number)
{
    if (!asked_to_stop)
        asked_to_stop = number;
}
