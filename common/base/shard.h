/* Which part of the work this process does: --shard K/N, else the rank that a launcher gave it. */
#ifndef WEFT_COMMON_BASE_SHARD_H
#define WEFT_COMMON_BASE_SHARD_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/log.h"

/* Part *k (from 0) of *n: from `text` ("K/N") when it is given, else from the first of these that is
 * set, else 0 of 1:
 *
 *   OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE    Open MPI's mpirun
 *   PMI_RANK, PMI_SIZE                            MPICH's mpiexec
 *   SLURM_PROCID, SLURM_STEP_NUM_TASKS            srun, and only where SLURM_STEP_ID is set
 *
 * mpirun comes before Slurm because inside a batch script every rank of mpirun inherits
 * SLURM_PROCID=0.  The batch script itself has SLURM_PROCID=0 and SLURM_NTASKS=N but no
 * SLURM_STEP_ID: it is alone and does everything.
 *
 * Says on `log` which part this process does, where that is known from, and how many parts it
 * leaves to others.  ERR_USAGE for a bad K/N, and for a rank without its size. */
WEFT_MUST_CHECK int shard_choose(const char *text, const Log *log, int64_t *k, int64_t *n, Err *err);
#endif
