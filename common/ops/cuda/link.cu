/* Sums and broadcasts between the devices of several processes, by NCCL on a stream of its own:
 * ordered behind what was enqueued so far, and before what follows link_wait. */
#include "common/ops/cuda/device.h"

#include <dlfcn.h>
#include <stdio.h>

#define NCCL_OBJECT "libnccl.so.2"

static NcclCalls nccl; /* of the loaded library */

static int check(ncclResult_t rc, const char *what, Err *err)
{
    return rc == ncclSuccess ? 0 : err_set(err, ERR_DEVICE, "NCCL: %s: %s", what, nccl.GetErrorString(rc));
}

#ifdef WEFT_SIM
static int load(Err *err)
{
    (void)err;
    nccl = sim_nccl;
    return 0;
}
#else
/* It stays loaded until the program ends. */
static int load(Err *err)
{
    static const char *const names[] = {"ncclGetUniqueId", "ncclCommInitRank", "ncclCommDestroy",   "ncclCommAbort",
                                        "ncclReduce",      "ncclBroadcast",    "ncclGetErrorString"};
    void **const to[] = {(void **)&nccl.GetUniqueId,   (void **)&nccl.CommInitRank, (void **)&nccl.CommDestroy,
                         (void **)&nccl.CommAbort,     (void **)&nccl.Reduce,       (void **)&nccl.Broadcast,
                         (void **)&nccl.GetErrorString};
    void *object = dlopen(NCCL_OBJECT, RTLD_NOW | RTLD_LOCAL);
    if (!object)
        return err_set(err, ERR_UNSUPPORTED, "%s", dlerror());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*to[i] = dlsym(object, names[i])))
            return err_set(err, ERR_UNSUPPORTED, "%s has no %s", NCCL_OBJECT, names[i]);
    return 0;
}
#endif

static int link_open(Backend *be, Err *err)
{
    Device *d = device_of(be);
    DEVICE_TRY(load(err));
    DEVICE_TRY(device_check(cudaStreamCreateWithFlags(&d->link, cudaStreamNonBlocking), "NCCL's stream", err));
    return device_check(cudaEventCreateWithFlags(&d->link_event, cudaEventDisableTiming), "event", err);
}

static int link_id(Backend *be, void *id, Err *err)
{
    static_assert(sizeof(ncclUniqueId) == DEVICE_LINK_ID, "an id's size");
    (void)be;
    return check(nccl.GetUniqueId((ncclUniqueId *)id), "an id", err);
}

static int link_join(Backend *be, const void *id, int64_t rank, int64_t size, Err *err)
{
    ncclUniqueId same;
    memcpy(&same, id, sizeof same);
    return check(nccl.CommInitRank(&device_of(be)->comm, (int)size, same, (int)rank), "communicator", err);
}

/* `after` does what it does next when `before` has done all that it was given. */
static int follow(Device *d, cudaStream_t after, cudaStream_t before, Err *err)
{
    DEVICE_TRY(device_check(cudaEventRecord(d->link_event, before), "NCCL's event", err));
    return device_check(cudaStreamWaitEvent(after, d->link_event, 0), "NCCL's event", err);
}

static ncclDataType_t type_of(const Tensor *t)
{
    return t->dtype == DT_BF16 ? ncclBfloat16 : ncclFloat32;
}

static int link_sum(Backend *be, const Tensor *t, int64_t root, Err *err)
{
    Device *d = device_of(be);
    DEVICE_TRY(follow(d, d->link, d->compute, err));
    return check(
        nccl.Reduce(t->data, t->data, (size_t)tensor_count(t), type_of(t), ncclSum, (int)root, d->comm, d->link), "sum",
        err);
}

static int link_broadcast(Backend *be, const Tensor *t, int64_t root, Err *err)
{
    Device *d = device_of(be);
    DEVICE_TRY(follow(d, d->link, d->compute, err));
    return check(nccl.Broadcast(t->data, t->data, (size_t)tensor_count(t), type_of(t), (int)root, d->comm, d->link),
                 "broadcast", err);
}

static int link_wait(Backend *be, Err *err)
{
    Device *d = device_of(be);
    return follow(d, d->compute, d->link, err);
}

void device_link_close(Device *d, int failed)
{
    if (d->comm && failed)
        nccl.CommAbort(d->comm);
    else if (d->comm)
        nccl.CommDestroy(d->comm);
    d->comm = nullptr;
    if (d->link_event)
        cudaEventDestroy(d->link_event);
    if (d->link)
        cudaStreamDestroy(d->link);
    d->link_event = nullptr;
    d->link = nullptr;
}

static void link_close(Backend *be, int failed)
{
    device_link_close(device_of(be), failed);
}

const DeviceLink device_link = {link_open, link_id, link_join, link_sum, link_broadcast, link_wait, link_close};
