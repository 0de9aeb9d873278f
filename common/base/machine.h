/* What the machine, its container or its user allow this process: cores and address space. */
#ifndef WEFT_COMMON_BASE_MACHINE_H
#define WEFT_COMMON_BASE_MACHINE_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/log.h"

/* Cores that the process may use by its CPU affinity.  libgomp binds the main thread to one core
 * when OMP_PROC_BIND, OMP_PLACES or GOMP_CPU_AFFINITY is set: then these are the cores of OpenMP's
 * places, which is what the user allowed. */
int64_t machine_cores(void);

/* CPU time per second that the process's control groups and their parents allow (1.5: one and a half
 * cores), or 0 when there is no quota.  Versions 1 and 2.  `root` stands before /proc/self/cgroup,
 * /proc/self/mountinfo and the mount points: "" but in tests. */
double machine_cpu_quota(const char *root);

/* Cores or quota, whichever is less, or this process's share of them under mpirun (launcher.h); a
 * fraction of a core is not used, at least 1. */
int64_t machine_threads(void);

/* Says on `log` when affinity or a quota leaves fewer threads than the machine has cores. */
void machine_note(const Log *log);

/* Bytes of memory that this process has to itself or shares with its children (anonymous and shared
 * pages; not mapped files); 0 when the system does not say. */
int64_t machine_memory_used(void);

/* Lets the calling thread, and the threads and processes that it starts, run on all cores of
 * machine_cores again.  For programs whose work is not done by OpenMP: they would all share the one
 * core that libgomp bound the main thread to. */
void machine_unbind(void);

/* ERR_LIMIT when a limit on the address space (ulimit -v) leaves less than `threads` threads and
 * their BLAS need: OpenBLAS waits for ever for a buffer that it cannot have.  0 without a limit. */
WEFT_MUST_CHECK int machine_check_address_space(int64_t threads, Err *err);

/* The kernels that OpenBLAS has chosen, by its name for them, when they are older than this
 * processor's AVX-512 and so two to four times slower than they could be (it does not know processors
 * newer than itself); else NULL.  The programs then start themselves again with
 * OPENBLAS_CORETYPE=SkylakeX, unless the user has set that variable. */
const char *machine_slow_kernels(void);

/* A program that defines it does its work without OpenMP and BLAS: it is not started again for them. */
extern __attribute__((weak)) const int machine_start_once;
#endif
