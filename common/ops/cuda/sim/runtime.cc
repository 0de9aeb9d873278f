/* One block from start to end: its stacks, shared memory and fibers, the run, and the first fault. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/ops/cuda/sim/block.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace sim
{

Block B;
SimStats stats;
char fault[512];
static char *stacks, *shared_arena;
static size_t stack_size = 1 << 16, shared_used;

static void fill_ff(void *p, size_t n) /* not memset: the thread sanitizer intercepts it */
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(0xff) : "memory");
}

static void fiber_main(void)
{
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
    if (__tsan_acquire)
        __tsan_acquire(&B.sync[2]);
    (*B.body)();
    Fiber *f = B.current;
    if (f->copies_done != f->copies)
        sim_fail("thread returns with %d cp.async copies pending", f->copies - f->copies_done);
    if (__tsan_release)
        __tsan_release(&B.sync[3]);
    Warp &w = B.warp[f->warp];
    mark_waiting(f, EXITED);
    w.exited |= 1u << f->lane;
    for (unsigned meets = w.meets; meets; meets &= meets - 1) {
        const Rendezvous &r = w.slot[__builtin_ctz(meets)];
        if (r.mask >> f->lane & 1)
            sim_fail("thread returns while its warp waits for it at %s:%d", r.file, r.line);
    }
    B.live--;
    if (B.at_barrier && B.at_barrier == B.live)
        release_barrier(true);
    Fiber *next = B.live ? pick() : &B.host;
    if (!next)
        report_deadlock();
    go(f, next, true);
    __builtin_unreachable();
}

static int guarded; /* stacks that have their guard page */

static void map_stacks(void)
{
    const size_t bytes = MAX_THREADS * stack_size;
    const int fixed = stacks ? MAP_FIXED : 0;
    stacks = (char *)mmap(stacks, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed,
                          -1, 0);
    if (stacks == (char *)MAP_FAILED)
        abort();
    guarded = 0;
}

static char *take_shared(size_t bytes)
{
    char *p = shared_arena + shared_used;
    shared_used += (bytes + 255) & ~(size_t)255;
    if (shared_used > SHARED_ARENA)
        sim_fail("shared memory of one block exceeds the simulator's %d bytes", SHARED_ARENA);
    fill_ff(p, bytes);
    return p;
}

/* Under the thread sanitizer from a fresh mapping
 * (it forgets old accesses then, so that blocks stay unordered without false reports), else from
 * the heap, where the address sanitizer puts red zones around it; without that one a canary
 * follows. */
char *new_shared(size_t bytes)
{
    void *p = nullptr;
    if (__tsan_create_fiber)
        return take_shared(bytes);
    const size_t canary = __sanitizer_start_switch_fiber ? 0 : CANARY;
    if (posix_memalign(&p, 128, bytes + canary ? bytes + canary : 1) != 0)
        abort();
    fill_ff(p, bytes);
    memset((char *)p + bytes, CANARY_BYTE, canary);
    return (char *)p;
}

static void drop_shared(char *p, size_t bytes, const char *what)
{
    for (size_t i = 0; !__sanitizer_start_switch_fiber && i < CANARY; i++)
        if ((unsigned char)p[bytes + i] != CANARY_BYTE) {
            sim_host_fault("%s block (%u,%u,%u): wrote %zu bytes past the end of %s of %zu bytes", B.kernel, blockIdx.x,
                           blockIdx.y, blockIdx.z, i, what, bytes);
            B.failed = true;
            break;
        }
    free(p);
}

static void prepare_memory(size_t smem)
{
    if (!stacks) {
        if (__sanitizer_start_switch_fiber || __tsan_create_fiber)
            stack_size = 1 << 18;
        map_stacks();
    } else if (__tsan_create_fiber) {
        map_stacks();
    }
    if (__tsan_create_fiber) {
        shared_arena = (char *)mmap(shared_arena, SHARED_ARENA, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | (shared_arena ? MAP_FIXED : 0), -1, 0);
        if (shared_arena == (char *)MAP_FAILED)
            abort();
        shared_used = 0;
    }
    B.sites = 0;
    B.dynamic_bytes = smem;
    B.dynamic = new_shared(smem);
}

static void prepare_fiber(Fiber *f, int i)
{
    f->id = i;
    f->warp = i / 32;
    f->lane = i & 31;
    f->copies = f->copies_done = f->group = 0;
    f->copied = f->unfenced = false;
    f->asan = nullptr;
    f->index = uint3{i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    f->stack = stacks + (size_t)i * stack_size + 4096;
    f->stack_size = stack_size - 4096;
    if (i >= guarded) { /* once a mapping: as many system calls as threads would be half of the run */
        mprotect(f->stack - 4096, 4096, PROT_NONE);
        guarded = i + 1;
    }
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(f->stack, f->stack_size);
    /* staggered: equal offsets would alias in L1 */
    void **sp = (void **)(f->stack + f->stack_size - (size_t)i * 704 % 16384 / 64 * 64);
    *--sp = nullptr;
    *--sp = (void *)fiber_main;
    for (int k = 0; k < 6; k++)
        *--sp = nullptr;
    f->sp = sp;
    if (__tsan_create_fiber)
        f->tsan = __tsan_create_fiber(0);
    B.warp[f->warp].exist |= 1u << f->lane;
    mark_ready(f);
}

} // namespace sim

using namespace sim;

/* After a fault, fibers have not said that what they did comes before what the host does next. */
static void end_in_tsan(Fiber *f)
{
    if (B.failed) {
        __tsan_switch_to_fiber(f->tsan, 1);
        __tsan_release(&B.sync[3]);
        __tsan_switch_to_fiber(B.host.tsan, 1);
    }
    __tsan_destroy_fiber(f->tsan);
}

void sim_fail(const char *fmt, ...)
{
    if (!fault[0]) {
        va_list ap;
        int n = snprintf(fault, sizeof fault, "%s block (%u,%u,%u) thread (%u,%u,%u): ", B.kernel ? B.kernel : "host",
                         blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
        va_start(ap, fmt);
        vsnprintf(fault + n, sizeof fault - (size_t)n, fmt, ap);
        va_end(ap);
    }
    abandon();
}

void sim_host_fault(const char *fmt, ...)
{
    if (fault[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fault, sizeof fault, fmt, ap);
    va_end(ap);
}

bool sim_run_block(const char *kernel, const std::function<void()> &body, size_t smem)
{
    int n = (int)(blockDim.x * blockDim.y * blockDim.z);
    if (B.fiber.capacity() < MAX_THREADS)
        B.fiber.reserve(MAX_THREADS);
    B.fiber.resize((size_t)n);
    B.warp.resize((size_t)(n + 31) / 32);
    for (Warp &w : B.warp) { /* its slots are empty but after a failure */
        for (unsigned meets = w.meets; meets; meets &= meets - 1)
            w.slot[__builtin_ctz(meets)].arrived = 0;
        w.ready = w.exist = w.exited = w.meets = 0;
        w.rotation = w.phase = 0;
    }
    B.ready = 0;
    B.threads = B.live = n;
    B.at_barrier = 0;
    B.places = 0;
    B.kernel = kernel;
    B.body = &body;
    B.failed = B.tiles = B.products = false;
    B.published = Place{};
    sim_wgmma_begin((int)B.warp.size());
    stats.blocks++;
    stats.threads += (uint64_t)n;
    prepare_memory(smem);
    if (__tsan_get_current_fiber)
        B.host.tsan = __tsan_get_current_fiber();
    B.host.id = B.host.warp = -1;
    for (int i = 0; i < n; i++)
        prepare_fiber(&B.fiber[(size_t)i], i);
    B.current = &B.host;
    go(&B.host, pick(), false);
    B.current = &B.host;
    for (Fiber &f : B.fiber)
        if (__tsan_destroy_fiber)
            end_in_tsan(&f);
    if (!__tsan_create_fiber) {
        drop_shared(B.dynamic, B.dynamic_bytes, "dynamic shared memory");
        for (int i = 0; i < B.sites; i++)
            drop_shared(B.site[i].data, B.site[i].bytes, "a shared array");
    }
    B.sites = 0;
    const char *wrong = B.products && !B.failed ? sim_wgmma_end((int)B.warp.size()) : nullptr;
    if (wrong) {
        sim_host_fault("%s block (%u,%u,%u): %s", kernel, blockIdx.x, blockIdx.y, blockIdx.z, wrong);
        B.failed = true;
    }
    return !B.failed;
}

void sim_order_launch(bool begin)
{
    if (begin && __tsan_release)
        __tsan_release(&B.sync[2]);
    if (!begin && __tsan_acquire)
        __tsan_acquire(&B.sync[3]);
}

uint32_t sim_draw(void)
{
    return draw();
}

char *sim_shared_at(uint32_t offset)
{
    return B.tiles && (size_t)offset + 16 <= B.dynamic_bytes ? B.dynamic + offset : nullptr;
}

int sim_warp_index(void)
{
    return B.current->warp;
}
