/* Cores where mpirun started several processes on one machine: each takes its share, however the
 * launcher bound them.
 *
 * Open MPI binds each rank to one core when there are one or two ranks, and leaves an OpenMP program
 * one thread; with more ranks, and in MPICH, all ranks of a machine may use the same cores, and each
 * would start a thread on every one. */
#ifndef WEFT_COMMON_BASE_LAUNCHER_H
#define WEFT_COMMON_BASE_LAUNCHER_H
#include <sched.h>
#include <stdint.h>
#include "common/base/log.h"

/* This process's number among mpirun's processes on this machine, and how many they are; 0 of 1 when
 * Open MPI or MPICH did not start it. */
void launcher_local(int64_t *rank, int64_t *size);
/* Lets the process run on its share of the cores that mpirun may use, where Open MPI bound it to one
 * core and the user did not ask for a binding.  Before any thread is started; once. */
void launcher_unbind(void);
/* Cores that the process should use at most: its share of those that mpirun may use; 0: no launcher. */
int64_t launcher_share(void);
/* Says on `log` what launcher_unbind did, or which option gives a bound process more cores; 1 when there
 * was something to say. */
int launcher_note(const Log *log);

/* Part `rank` of `size` of the set `node`, at least one core: what launcher_unbind binds to. */
void launcher_part(const cpu_set_t *node, int64_t rank, int64_t size, cpu_set_t *out);
#endif
