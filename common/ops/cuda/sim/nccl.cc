/* A stand-in for NCCL: the calls of nccl.h between processes of one machine, over shared memory
 * (common/base/hub.h), enqueued on the simulated streams.  An id names the shared memory. */
#include "common/ops/cuda/port.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/hub.h"
#include "common/ops/cuda/nccl.h"
#include "common/ops/cuda/sim/runtime.h"

struct ncclComm {
    Hub *hub;
    int rank, size;
    bool left; /* by CommAbort, or because another rank stopped: nothing more is exchanged */
};

namespace
{

enum { WINDOW = 1 << 20 };

ncclResult_t get_unique_id(ncclUniqueId *id)
{
    static int count;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/weft-nccl-%ld-%d", (long)getpid(), count++);
    return ncclSuccess;
}

ncclResult_t comm_init_rank(ncclComm_t *out, int size, ncclUniqueId id, int rank)
{
    ncclComm *c = new ncclComm{nullptr, rank, size, false};
    *out = nullptr;
    if (rank < 0 || rank >= size || hub_join(&c->hub, id.internal, rank, size, WINDOW, nullptr) < 0) {
        delete c;
        return rank < 0 || rank >= size ? ncclInvalidArgument : ncclSystemError;
    }
    *out = c;
    return ncclSuccess;
}

ncclResult_t comm_destroy(ncclComm_t c)
{
    cudaDeviceSynchronize(); /* what was enqueued uses it */
    hub_close(&c->hub);
    delete c;
    return ncclSuccess;
}

ncclResult_t comm_abort(ncclComm_t c)
{
    c->left = true;
    hub_abort(c->hub);
    return comm_destroy(c);
}

float to_float32(const char *p, size_t i, ncclDataType_t type)
{
    return type == ncclBfloat16 ? to_float(((const bf16 *)p)[i]) : ((const float *)p)[i];
}

/* to[n] <- the sum of all ranks' windows, in rank order, each addition rounded. */
void add_windows(ncclComm_t c, char *to, size_t n, ncclDataType_t type)
{
    for (size_t i = 0; i < n; i++) {
        float sum = to_float32((const char *)hub_window(c->hub, 0), i, type);
        for (int k = 1; k < c->size; k++) {
            sum += to_float32((const char *)hub_window(c->hub, k), i, type);
            if (type == ncclBfloat16)
                sum = to_float(to_bf16(sum));
        }
        if (type == ncclBfloat16)
            ((bf16 *)to)[i] = to_bf16(sum);
        else
            ((float *)to)[i] = sum;
    }
}

/* One exchange in pieces of a window: `root` alone sends, or all do and it adds. */
void exchange(ncclComm_t c, const char *from, char *to, size_t n, ncclDataType_t type, int root, bool adds)
{
    size_t each = type == ncclBfloat16 ? 2 : 4, most = WINDOW / each;
    for (size_t at = 0; at < n && !c->left; at += most) {
        size_t k = n - at < most ? n - at : most;
        if (adds || c->rank == root)
            memcpy(hub_window(c->hub, c->rank), from + at * each, k * each);
        c->left = hub_barrier(c->hub, nullptr) < 0;
        if (!c->left && adds && c->rank == root)
            add_windows(c, to + at * each, k, type);
        else if (!c->left && !adds && c->rank != root)
            memcpy(to + at * each, hub_window(c->hub, root), k * each);
        if (!c->left) /* the windows have been read */
            c->left = hub_barrier(c->hub, nullptr) < 0;
    }
    if (c->left)
        sim_host_fault("NCCL: another rank has stopped");
}

ncclResult_t start(const void *from, void *to, size_t n, ncclDataType_t type, int root, ncclComm_t c,
                   cudaStream_t stream, bool adds)
{
    if (!c || root < 0 || root >= c->size || (type != ncclFloat32 && type != ncclBfloat16))
        return ncclInvalidArgument;
    sim_enqueue(stream, [=] { exchange(c, (const char *)from, (char *)to, n, type, root, adds); });
    return ncclSuccess;
}

ncclResult_t reduce(const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t c,
                    cudaStream_t stream)
{
    return op == ncclSum ? start(from, to, n, type, root, c, stream, true) : ncclInvalidArgument;
}

ncclResult_t broadcast(const void *from, void *to, size_t n, ncclDataType_t type, int root, ncclComm_t c,
                       cudaStream_t stream)
{
    return start(from, to, n, type, root, c, stream, false);
}

const char *error_string(ncclResult_t rc)
{
    return rc == ncclSuccess ? "no error" : rc == ncclInvalidArgument ? "invalid argument" : "unhandled system error";
}

} /* namespace */

const NcclCalls sim_nccl = {get_unique_id, comm_init_rank, comm_destroy, comm_abort, reduce, broadcast, error_string};
