/* How many threads to use, and stopping politely. */
#ifndef WEFT_COMMON_BASE_THREADS_H
#define WEFT_COMMON_BASE_THREADS_H
#include <stdint.h>
#include "common/base/log.h"

/* --jobs where it is given (not 0), else OMP_NUM_THREADS, else machine_threads: the cores that
 * affinity and control groups leave to this process. */
int64_t threads_choose(int64_t jobs);

/* The first SIGINT, SIGTERM or SIGHUP (unless that is ignored, as under nohup) prints one line to
 * standard error and sets a flag that long loops look at between items.  A second signal ends the
 * process at once, but for a SIGTERM within three seconds of the first signal, which Slurm and Open
 * MPI send.  `log`: whose program name and form (plain or JSON) the line has; NULL: plain.  A log that shows
 * errors alone has no line. */
void interrupt_install(const StderrLog *log);
int interrupt_requested(void);
/* The number of the first signal, 0 before.  A program that stopped for it exits with 128 + that. */
int interrupt_signal(void);
/* Another process of the same job was asked to stop by that signal, and this one follows. */
void interrupt_adopt(int number);
#endif
