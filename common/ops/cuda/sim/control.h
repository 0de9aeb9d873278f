/* What tests set and read of the simulator.  Plain C, so that the operation tests can use it. */
#ifndef WEFT_COMMON_OPS_CUDA_SIM_CONTROL_H
#define WEFT_COMMON_OPS_CUDA_SIM_CONTROL_H
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum SimSchedule {
    SIM_ASCENDING,
    SIM_DESCENDING,
    SIM_RANDOM,
    SIM_GREEDY, /* one warp until it blocks, lanes rotated: the strongest */
    SIM_SCHEDULES
} SimSchedule;
typedef struct SimConfig {
    SimSchedule schedule;
    uint64_t seed;
    int eager_streams; /* 1: work runs when enqueued; 0: only when something waits for it */
    int copies;        /* cp.async, and what a wgmma reads: 0 late, 1 at once, 2 by coin */
    int capability;    /* of the devices opened from now on: 90 for 9.0, else 8.0 */
} SimConfig;
typedef struct SimStats {
    uint64_t blocks, threads, switches, barriers, shuffles, mma, warpgroup, ldmatrix, ldmatrix_phases, bank_conflicts,
        copies;
} SimStats;

/* At start-up from WEFT_SIM_SCHEDULE (ascending, descending, random, greedy), WEFT_SIM_SEED,
 * WEFT_SIM_STREAMS (lazy, eager), WEFT_SIM_CAPABILITY (80, 90). */
SimConfig sim_config(void);
void sim_configure(const SimConfig *c);
SimStats sim_stats(void);
void sim_stats_reset(void);
/* The first fault's sentence, or "".  While there is one, no further work runs and CUDA calls fail;
 * sim_clear forgets it. */
const char *sim_fault(void);
void sim_clear(void);

/* A line for each kernel that ran: where it lies in the program, in bytes behind this function, and
 * the most blocks it was given.  `nm` knows the names. */
void sim_list_launched(FILE *out);

/* Breaks the kernels or the host code on purpose, to see that tests notice: `which` counts
 * barriers, waits (of cp.async and wgmma) and fences (of registers and of the async proxy) by their
 * place in the source, in the order a block comes to them, and cudaStreamWaitEvent by calls from
 * now on; 0 is the first.  sim_skipped: how often it took effect. */
typedef enum SimSkip { SIM_SKIP_NOTHING, SIM_SKIP_BARRIER, SIM_SKIP_WAIT, SIM_SKIP_FENCE, SIM_SKIP_EVENT } SimSkip;
void sim_skip(SimSkip what, int which);
uint64_t sim_skipped(void);

#ifdef __cplusplus
}
#endif
#endif
