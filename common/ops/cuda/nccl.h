/* What the back end uses of NCCL, declared here so that it builds where no nccl.h is; names, values and
 * types are those of NCCL's documentation (2.x).  libnccl.so.2 is opened at run time; in the simulator
 * sim/nccl.cc stands in for it.  tests/cli/test_toolkit.sh compares this page with a real nccl.h. */
#ifndef WEFT_COMMON_OPS_CUDA_NCCL_H
#define WEFT_COMMON_OPS_CUDA_NCCL_H
#include <stddef.h>

#ifndef WEFT_NCCL_REAL /* a test that includes <nccl.h> itself, and with it the types of CUDA */
#include "common/ops/cuda/port.h"

typedef struct ncclComm *ncclComm_t;
typedef enum { ncclSuccess = 0, ncclSystemError = 2, ncclInvalidArgument = 4 } ncclResult_t;
typedef enum { ncclFloat32 = 7, ncclBfloat16 = 9 } ncclDataType_t;
typedef enum { ncclSum = 0 } ncclRedOp_t;
enum { NCCL_UNIQUE_ID_BYTES = 128 };
typedef struct {
    char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;
#endif

/* The library's functions, by their names without "nccl". */
struct NcclCalls {
    ncclResult_t (*GetUniqueId)(ncclUniqueId *id);
    ncclResult_t (*CommInitRank)(ncclComm_t *comm, int size, ncclUniqueId id, int rank);
    ncclResult_t (*CommDestroy)(ncclComm_t comm);
    ncclResult_t (*CommAbort)(ncclComm_t comm);
    ncclResult_t (*Reduce)(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t op, int root,
                           ncclComm_t comm, cudaStream_t stream);
    ncclResult_t (*Broadcast)(const void *from, void *to, size_t n, ncclDataType_t type, int root, ncclComm_t comm,
                              cudaStream_t stream);
    const char *(*GetErrorString)(ncclResult_t rc);
};
#ifdef WEFT_SIM
/* sim/nccl.cc */
extern const struct NcclCalls sim_nccl;
#endif
#endif
