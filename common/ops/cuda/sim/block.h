/* The state of the running block, between the files that run it: fibers.cc (switching, schedules,
 * barriers and rendezvous), collectives.cc (what a warp computes together), shared.cc (shared
 * memory, cp.async, fences), runtime.cc (a block from start to end), settings.cc. These files are
 * compiled without ThreadSanitizer even in its builds: they announce fibers to the sanitizers
 * themselves, and make no libc call on a fiber's behalf that a sanitizer would count as the
 * fiber's own. */
#ifndef WEFT_COMMON_OPS_CUDA_SIM_BLOCK_H
#define WEFT_COMMON_OPS_CUDA_SIM_BLOCK_H
#include <vector>

#include "common/ops/cuda/port.h"
#include "common/ops/cuda/sim/runtime.h"

extern "C" { /* present when the program is built with the sanitizer, null otherwise */
__attribute__((weak)) void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *p, size_t n);
__attribute__((weak)) void *__tsan_get_current_fiber(void);
__attribute__((weak)) void *__tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void *fiber);
__attribute__((weak)) void __tsan_switch_to_fiber(void *fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void *p);
__attribute__((weak)) void __tsan_release(void *p);
}

namespace sim
{

enum {
    MAX_THREADS = 1024,
    MAX_SITES = 64,
    MAX_PLACES = 64,
    MAX_COPIES = 512,
    SHARED_ARENA = 1 << 20,
    CANARY = 64,
    CANARY_BYTE = 0xa5
};
enum FiberState { READY, IN_WARP, AT_BARRIER, EXITED };

struct Copy {
    void *shared;
    const void *global;
    int bytes, group;
};

struct Fiber {
    void *sp; /* saved stack pointer */
    char *stack;
    size_t stack_size;
    void *asan, *tsan;
    uint3 index;
    int id, warp, lane; /* id -1: the host */
    FiberState state;
    const char *file; /* where it waits */
    int line;
    int copies, copies_done, group;
    bool copied, unfenced; /* cp.async since its last wait; shared memory written since the last fence_async */
    Copy copy[MAX_COPIES]; /* a ring */
};

struct Rendezvous {
    SimWarpOp op;
    unsigned mask, arrived;
    void *operands[32];
    const char *file;
    int line;
};
/* slot: by the lowest lane of the mask; meets: those where lanes wait */
struct Warp {
    unsigned ready, exist, exited, meets;
    int rotation, phase;
    char sync[2];
    Rendezvous slot[32];
};
struct Site {
    const void *key;
    char *data;
    size_t bytes;
};
struct Place {
    const char *file;
    int line;
};

/* The block that runs: the simulator runs one at a time, on one thread. */
struct Block {
    std::vector<Fiber> fiber;
    std::vector<Warp> warp;
    unsigned ready; /* warps with lanes that are ready */
    int threads, live, at_barrier, phase;
    Fiber *current;
    Fiber host;
    char *dynamic;
    size_t dynamic_bytes;
    Site site[MAX_SITES];
    int sites;
    Place place[MAX_PLACES]; /* of barriers or waits, while one of them is skipped */
    int places;
    const std::function<void()> *body;
    const char *kernel;
    bool failed, tiles, products; /* SMEM_TILES is used; a product was issued */
    Place published;              /* the barrier that made writes known which no fence_async preceded */
    char sync[4];                 /* addresses the thread sanitizer orders by: barrier phases 0 and 1, start, end */
};

struct Skip {
    SimSkip what;
    int which;
    uint64_t hits;
    int events;
};

extern Block B;
extern SimConfig config;
extern SimStats stats;
extern Skip skip;
extern char fault[512];
extern uint64_t rng_state;

static inline uint32_t draw(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32);
}

/* settings.cc: whether this barrier, wait or fence is the one to leave out. */
bool skipped(SimSkip what, const char *file, int line);

/* fibers.cc */
void go(Fiber *from, Fiber *to, bool dying); /* switches fibers; a dying one is never switched to again */
[[noreturn]] void abandon(void);             /* leaves the block for good: fibers hold nothing that needs unwinding */
Fiber *pick(void);                           /* the next fiber to run, nullptr when none can */
void mark_ready(Fiber *f);
void mark_waiting(Fiber *f, FiberState state); /* or returned */
void release_barrier(bool by_exit); /* all live threads have arrived: they must have arrived at the same place */
[[noreturn]] void report_deadlock(void);

/* collectives.cc: all lanes of the mask have arrived. */
void compute(Rendezvous *r, int warp);

/* runtime.cc: shared memory of exactly that size, filled with NaN. */
char *new_shared(size_t bytes);

} // namespace sim
#endif
