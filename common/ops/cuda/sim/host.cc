/* The host side of the simulated device: memory, streams, events, launches.
 *
 * Streams are queues that run only when something waits for them (or at once, when configured so):
 * a missing event, or a host buffer reused too early, then gives the same wrong answer every time.
 * Device memory is of exactly the size asked for and filled with 0xff (NaN): memory.cc. */
#include "common/ops/cuda/port.h"

#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "common/ops/cuda/sim/runtime.h"

struct CUevent_st {
    uint64_t recorded, reached;
    double time_ms;
}; /* counts of records enqueued and executed */

namespace
{

enum { SHARED_DEFAULT = 48 << 10, SHARED_OPTIN_80 = 163 << 10, SHARED_OPTIN_90 = 227 << 10 };

bool hopper(void)
{
    return sim_config().capability == 90;
}
int shared_optin(void)
{
    return hopper() ? SHARED_OPTIN_90 : SHARED_OPTIN_80;
}

struct Work {
    std::function<void()> run;
    CUevent_st *wait, *record;
    uint64_t count; /* of the event: wait until reached, or set on record */
};

} /* namespace */

struct CUstream_st {
    std::deque<Work> queue;
};

namespace
{

CUstream_st default_stream;
std::vector<CUstream_st *> streams{&default_stream};
std::map<const void *, int> shared_limit;
cudaError_t last_error = cudaSuccess;

double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

bool stuck(const CUstream_st *s)
{
    return s->queue.front().wait && s->queue.front().wait->reached < s->queue.front().count;
}

void step(CUstream_st *s)
{
    Work w = std::move(s->queue.front());
    s->queue.pop_front();
    if (w.run && !sim_fault()[0])
        w.run();
    if (w.record) {
        w.record->reached = w.count;
        w.record->time_ms = now_ms();
    }
}

bool step_another(CUstream_st *s)
{
    for (CUstream_st *other : streams)
        if (other != s && !other->queue.empty() && !stuck(other)) {
            step(other);
            return true;
        }
    return false;
}

/* Runs s to its end; where it waits for an event, the streams before that event first.  Other
 * streams may run ahead at any time: whether they do is drawn, but for the ascending schedule,
 * where they never do. */
void drain(CUstream_st *s)
{
    while (!s->queue.empty()) {
        if (sim_config().schedule != SIM_ASCENDING && (sim_draw() & 1) && step_another(s))
            continue;
        if (!stuck(s)) {
            step(s);
            continue;
        }
        if (!step_another(s)) {
            sim_host_fault("deadlock: a stream waits for an event that nothing will record");
            s->queue.clear();
        }
    }
}

void drain_all(void)
{
    for (CUstream_st *s : streams)
        drain(s);
}

cudaError_t status(void)
{
    return sim_fault()[0] ? cudaErrorLaunchFailure : cudaSuccess;
}

void put(cudaStream_t s, Work w)
{
    if (!s) { /* the legacy default stream waits for all others */
        drain_all();
        default_stream.queue.push_back(std::move(w));
        drain(&default_stream);
        return;
    }
    s->queue.push_back(std::move(w));
    if (sim_config().eager_streams)
        drain(s);
}

std::map<const void *, size_t> launched; /* kernels that ran, and the most blocks of each */

void run_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t smem,
                const std::function<void()> &body)
{
    size_t n = (size_t)grid.x * grid.y * grid.z;
    launched[kernel] = std::max(launched[kernel], n);
    std::vector<uint32_t> order(n);
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    if (sim_config().schedule != SIM_ASCENDING)
        for (size_t i = n; i > 1; i--)
            std::swap(order[i - 1], order[sim_draw() % i]);
    gridDim = grid;
    blockDim = block;
    sim_order_launch(true);
    for (uint32_t k : order) {
        blockIdx.x = k % grid.x;
        blockIdx.y = k / grid.x % grid.y;
        blockIdx.z = k / (grid.x * grid.y);
        if (!sim_run_block(name, body, smem))
            break;
    }
    sim_order_launch(false);
}

} /* namespace */

void sim_enqueue(cudaStream_t stream, std::function<void()> work)
{
    put(stream, Work{std::move(work), nullptr, nullptr, 0});
}

void sim_launch_erased(const char *name, const void *kernel, dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
                       std::function<void()> body)
{
    size_t threads = (size_t)block.x * block.y * block.z;
    auto limit = shared_limit.find(kernel);
    if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
        smem > (size_t)(limit == shared_limit.end() ? SHARED_DEFAULT : limit->second)) {
        sim_host_fault("%s: launch of grid %u,%u,%u block %u,%u,%u with %zu bytes of shared memory is not possible",
                       name, grid.x, grid.y, grid.z, block.x, block.y, block.z, smem);
        last_error = cudaErrorInvalidConfiguration;
        return;
    }
    sim_enqueue(stream, [=] { run_launch(name, kernel, grid, block, smem, body); });
}

extern "C" {

void sim_list_launched(FILE *out)
{
    for (const auto &l : launched)
        fprintf(out, "%ld %zu\n", (long)((const char *)l.first - (const char *)&sim_list_launched), l.second);
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    (void)device;
    memset(p, 0, sizeof *p);
    strcpy(p->name, hopper() ? "simulated sm_90" : "simulated sm_80");
    p->major = hopper() ? 9 : 8;
    p->multiProcessorCount = hopper() ? 132 : 108;
    p->sharedMemPerBlockOptin = (size_t)shared_optin();
    p->totalGlobalMem = (size_t)80 << 30;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = *total_bytes = (size_t)80 << 30;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n)
{
    *p = sim_memory_new(n);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void *p)
{
    drain_all();
    sim_memory_free(p);
    return status();
}
cudaError_t cudaMallocHost(void **p, size_t n)
{
    return cudaMalloc(p, n);
}
cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)kind;
    sim_enqueue(stream, [=] { memcpy(d, s, n); });
    return status();
}
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, enum cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(d, s, n, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void *d, int value, size_t n, cudaStream_t stream)
{
    sim_enqueue(stream, [=] { memset(d, value, n); });
    return status();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    (void)flags;
    *s = new CUstream_st;
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    drain(s);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return status();
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s)
        drain(s);
    else
        drain_all();
    return status();
}
cudaError_t cudaDeviceSynchronize(void)
{
    drain_all();
    return status();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    (void)flags;
    *e = new CUevent_st{0, 0, 0};
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    drain_all();
    delete e;
    return status();
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    put(s, Work{nullptr, nullptr, e, ++e->recorded});
    return status();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
    (void)flags;
    if (!sim_event_is_skipped())
        put(s, Work{nullptr, e, nullptr, e->recorded});
    return status();
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    for (CUstream_st *s : streams)
        while (e->reached < e->recorded && !s->queue.empty() && !stuck(s))
            step(s);
    if (e->reached < e->recorded)
        drain_all();
    return status();
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    *ms = (float)(b->time_ms - a->time_ms);
    return status();
}
cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e != cudaSuccess ? e : status();
}
const char *cudaGetErrorString(cudaError_t e)
{
    if (e == cudaErrorLaunchFailure || e == cudaErrorInvalidConfiguration)
        return sim_fault();
    return e == cudaSuccess ? "no error" : e == cudaErrorMemoryAllocation ? "out of memory" : "invalid value";
}
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute a, int value)
{
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize || value > shared_optin())
        return cudaErrorInvalidValue;
    shared_limit[kernel] = value;
    return cudaSuccess;
}
}
