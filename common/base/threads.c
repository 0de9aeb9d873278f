#include "common/base/threads.h"
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

int64_t threads_available(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? n : 1;
}

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
    return threads_available();
}

static volatile sig_atomic_t asked_to_stop; /* signals are process-wide, and so is this */

static void on_signal(int number)
{
    (void)number;
    asked_to_stop = 1;
}

void interrupt_install(void)
{
    /* a second one ends the process at once */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) /* nohup's wish stands */
        sigaction(SIGHUP, &action, NULL);
}

int interrupt_requested(void)
{
    return asked_to_stop;
}
