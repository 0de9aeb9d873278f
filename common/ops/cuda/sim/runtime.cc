/* Fibers, schedules, barriers, warp collectives, shared memory: one block at a time.  Compiled
 * without ThreadSanitizer even in its builds:
 * it tells the sanitizers about fibers itself, and makes no libc call on a fiber's behalf that they
 * would take for the fiber's own. */
#include "common/ops/cuda/port.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <vector>

#include "common/base/err.h"
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

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
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
    Copy copy[MAX_COPIES]; /* a ring */
    int copies, copies_done, group;
    bool copied, unfenced; /* cp.async since its last wait; shared memory written since the last fence_async */
};

struct Rendezvous {
    SimWarpOp op;
    unsigned mask, arrived;
    void *operands[32];
    const char *file;
    int line;
};
/* slot: by the lowest lane of the mask */
struct Warp {
    unsigned ready, exist, exited;
    Rendezvous slot[32];
    int rotation, phase;
    char sync[2];
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

struct Block {
    std::vector<Fiber> fiber;
    std::vector<Warp> warp;
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
} B;

SimConfig config = {SIM_GREEDY, 1, 0, 2, 80};
SimStats stats;
struct {
    SimSkip what;
    int which;
    uint64_t hits;
    int events;
} skip;
char fault[512];
uint64_t rng_state = 88172645463325252ull;
char *stacks, *shared_arena;
size_t stack_size = 1 << 16, shared_used;

uint32_t draw(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32);
}

void fill_ff(void *p, size_t n) /* not memset: the thread sanitizer intercepts it */
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(0xff) : "memory");
}

/* Whether this barrier or wait is the one to leave out. */
bool skipped(SimSkip what, const char *file, int line)
{
    int i = 0;
    if (skip.what != what)
        return false;
    while (i < B.places && (B.place[i].file != file || B.place[i].line != line))
        i++;
    if (i == B.places && i < MAX_PLACES)
        B.place[B.places++] = Place{file, line};
    if (i != skip.which)
        return false;
    skip.hits++;
    return true;
}

/* ---- switching (System V x86-64: callee-saved registers and the stack pointer) --------------- */

extern "C" void sim_switch(void **from, void *to);
__asm__(".text\n.globl sim_switch\n.type sim_switch,@function\nsim_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");

void go(Fiber *from, Fiber *to, bool dying)
{
    stats.switches++;
    B.current = to;
    threadIdx = to->index;
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(dying ? nullptr : &from->asan, to->stack, to->stack_size);
    if (__tsan_switch_to_fiber)
        __tsan_switch_to_fiber(to->tsan, 1 /* no synchronisation by the switch */);
    sim_switch(&from->sp, to->sp);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(from->asan, nullptr, nullptr);
}

/* Leaves the block for good: fibers hold nothing that needs unwinding. */
[[noreturn]] void abandon(void)
{
    B.failed = true;
    go(B.current, &B.host, true);
    __builtin_unreachable();
}

int first_lane(unsigned ready, int rotation)
{
    unsigned r = rotation ? ready >> rotation | ready << (32 - rotation) : ready;
    return (__builtin_ctz(r) + rotation) & 31;
}

Fiber *pick_in_warp(int w, int rotation)
{
    return &B.fiber[w * 32 + first_lane(B.warp[w].ready, rotation)];
}

Fiber *pick_greedy(void)
{
    int n = (int)B.warp.size(), w = B.current->id >= 0 ? B.current->warp : -1;
    if (w < 0 || !B.warp[w].ready) {
        int start = (int)(draw() % (unsigned)n);
        w = -1;
        for (int i = 0; i < n && w < 0; i++)
            if (B.warp[(start + i) % n].ready)
                w = (start + i) % n;
        if (w < 0)
            return nullptr;
        B.warp[w].rotation = (int)(draw() & 31);
    }
    return pick_in_warp(w, B.warp[w].rotation);
}

/* The next fiber to run, nullptr when none can. */
Fiber *pick(void)
{
    int n = (int)B.warp.size();
    if (config.schedule == SIM_GREEDY)
        return pick_greedy();
    if (config.schedule == SIM_RANDOM) {
        for (int tries = 0; tries < 64; tries++) {
            Fiber *f = &B.fiber[draw() % (unsigned)B.threads];
            if (f->state == READY)
                return f;
        }
    }
    for (int i = 0; i < n; i++) {
        int w = config.schedule == SIM_DESCENDING ? n - 1 - i : i;
        unsigned ready = B.warp[w].ready;
        if (!ready)
            continue;
        int lane = config.schedule == SIM_DESCENDING ? 31 - __builtin_clz(ready) : __builtin_ctz(ready);
        return &B.fiber[w * 32 + lane];
    }
    return nullptr;
}

void mark_ready(Fiber *f)
{
    f->state = READY;
    B.warp[f->warp].ready |= 1u << f->lane;
}

[[noreturn]] void report_deadlock(void)
{
    for (Fiber &f : B.fiber)
        if (f.state != EXITED) {
            sim_fail("deadlock: thread %d waits for ever at %s:%d (%s)", f.id, f.file, f.line,
                     f.state == AT_BARRIER ? "barrier" : "warp collective");
        }
    sim_fail("deadlock");
}

void wait_as(FiberState state)
{
    Fiber *f = B.current;
    f->state = state;
    B.warp[f->warp].ready &= ~(1u << f->lane);
    Fiber *next = pick();
    if (!next)
        report_deadlock();
    if (next != f)
        go(f, next, false);
}

/* All live threads have arrived: they must have arrived at the same place. */
void release_barrier(bool by_exit)
{
    const Fiber *first = nullptr;
    for (Fiber &f : B.fiber) {
        if (f.state != AT_BARRIER)
            continue;
        if (!first)
            first = &f;
        else if (f.file != first->file || f.line != first->line)
            sim_fail("divergent barrier: thread %d at %s:%d, thread %d at %s:%d", first->id, first->file, first->line,
                     f.id, f.file, f.line);
    }
    if (by_exit || B.live < B.threads)
        sim_fail("barrier at %s:%d released by threads that returned before it", first->file, first->line);
    B.at_barrier = 0;
    B.phase++;
    for (Fiber &f : B.fiber)
        if (f.state == AT_BARRIER)
            mark_ready(&f);
}

/* ---- warp collectives ------------------------------------------------------------------------ */

float low_bf16(uint32_t v)
{
    return sim_float(v << 16);
}
float high_bf16(uint32_t v)
{
    return sim_float(v & 0xffff0000u);
}

/* Fragment layouts of mma.m16n8k16, g = lane/4, t = lane%4: a0 (g,2t) a1 (g+8,2t) a2 (g,2t+8) a3
 * (g+8,2t+8); b0 (2t,g) b1 (2t+8,g);
 * d0,d1 (g,2t..) d2,d3 (g+8,2t..). */
void compute_mma(Rendezvous *r)
{
    alignas(64) float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const SimMma *m = (const SimMma *)r->operands[lane];
        int g = lane >> 2, t = (lane & 3) * 2;
        for (int i = 0; i < 4; i++) {
            float *at = &a[g + (i & 1) * 8][t + (i >> 1) * 8];
            at[0] = low_bf16(m->a[i]);
            at[1] = high_bf16(m->a[i]);
        }
        for (int i = 0; i < 2; i++) {
            b[t + i * 8][g] = low_bf16(m->b[i]);
            b[t + i * 8 + 1][g] = high_bf16(m->b[i]);
        }
        for (int i = 0; i < 4; i++)
            d[g + (i >> 1) * 8][t + (i & 1)] = m->d[i];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                d[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < 32; lane++) {
        SimMma *m = (SimMma *)r->operands[lane];
        int g = lane >> 2, t = (lane & 3) * 2;
        for (int i = 0; i < 4; i++)
            m->d[i] = d[g + (i >> 1) * 8][t + (i & 1)];
    }
}

/* Eight rows of one matrix are one phase over the 32 banks; two rows in the same 16-byte bank group
 * conflict. */
void compute_ldmatrix(Rendezvous *r, bool trans)
{
    for (int matrix = 0; matrix < 4; matrix++) {
        const uint16_t *row[8];
        unsigned banks = 0;
        for (int i = 0; i < 8; i++) {
            const SimLdmatrix *m = (const SimLdmatrix *)r->operands[matrix * 8 + i];
            row[i] = (const uint16_t *)m->row;
            unsigned bank = 1u << ((uintptr_t)m->address >> 4 & 7);
            if (banks & bank)
                stats.bank_conflicts++;
            banks |= bank;
        }
        stats.ldmatrix_phases++;
        for (int lane = 0; lane < 32; lane++) {
            int major = lane >> 2, minor = (lane & 3) * 2;
            uint16_t lo = trans ? row[minor][major] : row[major][minor],
                     hi = trans ? row[minor + 1][major] : row[major][minor + 1];
            ((SimLdmatrix *)r->operands[lane])->result[matrix] = lo | (uint32_t)hi << 16;
        }
    }
}

void compute_shuffle(Rendezvous *r)
{
    for (int lane = 0; lane < 32; lane++) {
        if (!(r->mask >> lane & 1))
            continue;
        SimShuffle *s = (SimShuffle *)r->operands[lane];
        if (!(r->mask >> s->source & 1))
            sim_fail("shuffle at %s:%d reads lane %d, which is not in its mask", r->file, r->line, s->source);
        s->result = ((SimShuffle *)r->operands[s->source])->value;
    }
}

void issue_wgmma(Rendezvous *r, int warp)
{
    stats.warpgroup++;
    B.products = true;
    if (config.capability != 90)
        sim_fail("wgmma at %s:%d on a device of compute capability 8.0", r->file, r->line);
    if (B.published.file)
        sim_fail("wgmma at %s:%d: shared memory was written without fence_async before the barrier at %s:%d", r->file,
                 r->line, B.published.file, B.published.line);
    sim_wgmma_issue(warp, (int)B.warp.size(), r->operands, config.copies == 2 ? draw() & 1 : config.copies, r->file,
                    r->line);
}

void compute(Rendezvous *r, int warp)
{
    switch (r->op) {
    case SIM_SHUFFLE:
        stats.shuffles++;
        compute_shuffle(r);
        break;
    case SIM_SYNCWARP: break;
    case SIM_LDMATRIX:
    case SIM_LDMATRIX_TRANS:
        stats.ldmatrix++;
        compute_ldmatrix(r, r->op == SIM_LDMATRIX_TRANS);
        break;
    case SIM_MMA:
        stats.mma++;
        compute_mma(r);
        break;
    case SIM_WGMMA: issue_wgmma(r, warp); break;
    case SIM_WGMMA_FENCE: sim_wgmma_fence(warp); break;
    case SIM_WGMMA_COMMIT: sim_wgmma_commit(warp); break;
    case SIM_WGMMA_WAIT: sim_wgmma_wait(warp, *(const int *)r->operands[0], r->file, r->line); break;
    }
}

/* ---- one block ------------------------------------------------------------------------------- */

void fiber_main(void)
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
    f->state = EXITED;
    w.ready &= ~(1u << f->lane);
    w.exited |= 1u << f->lane;
    for (Rendezvous &r : w.slot)
        if (r.arrived && (r.mask >> f->lane & 1))
            sim_fail("thread returns while its warp waits for it at %s:%d", r.file, r.line);
    B.live--;
    if (B.at_barrier && B.at_barrier == B.live)
        release_barrier(true);
    Fiber *next = B.live ? pick() : &B.host;
    if (!next)
        report_deadlock();
    go(f, next, true);
    __builtin_unreachable();
}

int guarded; /* stacks that have their guard page */

void map_stacks(void)
{
    const size_t bytes = MAX_THREADS * stack_size;
    const int fixed = stacks ? MAP_FIXED : 0;
    stacks = (char *)mmap(stacks, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed,
                          -1, 0);
    if (stacks == (char *)MAP_FAILED)
        abort();
    guarded = 0;
}

char *take_shared(size_t bytes)
{
    char *p = shared_arena + shared_used;
    shared_used += (bytes + 255) & ~(size_t)255;
    if (shared_used > SHARED_ARENA)
        sim_fail("shared memory of one block exceeds the simulator's %d bytes", SHARED_ARENA);
    fill_ff(p, bytes);
    return p;
}

/* Shared memory of exactly that size, NaN inside.  Under the thread sanitizer from a fresh mapping
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

void drop_shared(char *p, size_t bytes, const char *what)
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

void prepare_memory(size_t smem)
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

void prepare_fiber(Fiber *f, int i)
{
    f->id = i;
    f->warp = i / 32;
    f->lane = i & 31;
    f->state = READY;
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
    Warp &w = B.warp[f->warp];
    w.exist |= 1u << f->lane;
    w.ready |= 1u << f->lane;
}

} /* namespace */

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
    B.warp.assign((size_t)(n + 31) / 32, Warp{});
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

bool sim_event_is_skipped(void)
{
    const bool now = skip.what == SIM_SKIP_EVENT && skip.events++ == skip.which;
    skip.hits += now;
    return now;
}

extern "C" {

void sim_barrier(const char *file, int line)
{
    if (skipped(SIM_SKIP_BARRIER, file, line))
        return;
    Fiber *f = B.current;
    char *order = &B.sync[B.phase & 1];
    f->file = file;
    f->line = line;
    if (f->unfenced)
        B.published = Place{file, line};
    stats.barriers++;
    if (__tsan_release)
        __tsan_release(order);
    if (++B.at_barrier == B.live) {
        f->state = AT_BARRIER;
        release_barrier(false);
        Fiber *next = pick(); /* the last to arrive is not the first to go on */
        if (next != f)
            go(f, next, false);
    } else {
        wait_as(AT_BARRIER);
    }
    if (__tsan_acquire)
        __tsan_acquire(order);
}

void sim_warp(SimWarpOp op, unsigned mask, void *operands, const char *file, int line)
{
    Fiber *f = B.current;
    Warp &w = B.warp[f->warp];
    f->file = file;
    f->line = line;
    if (!(mask >> f->lane & 1))
        sim_fail("lane %d is not in its own mask %08x at %s:%d", f->lane, mask, file, line);
    if (mask & ~w.exist)
        sim_fail("mask %08x names lanes the block does not have at %s:%d", mask, file, line);
    if (mask & w.exited)
        sim_fail("mask %08x names lanes that have returned (%08x) at %s:%d", mask, w.exited, file, line);
    Rendezvous &r = w.slot[__builtin_ctz(mask)];
    if (!r.arrived) {
        r.op = op;
        r.mask = mask;
        r.file = file;
        r.line = line;
    } else if (r.op != op || r.mask != mask || r.line != line || r.file != file) {
        sim_fail("lanes of one warp meet at different collectives: %s:%d and %s:%d", file, line, r.file, r.line);
    }
    r.operands[f->lane] = operands;
    r.arrived |= 1u << f->lane;
    char *order = &w.sync[w.phase & 1]; /* __syncwarp orders memory within the warp; the other collectives do not */
    if (op == SIM_SYNCWARP && __tsan_release)
        __tsan_release(order);
    if (r.arrived != mask) {
        wait_as(IN_WARP);
    } else {
        compute(&r, f->warp);
        r.arrived = 0;
        w.phase += op == SIM_SYNCWARP;
        for (unsigned others = mask & ~(1u << f->lane); others; others &= others - 1)
            mark_ready(&B.fiber[f->warp * 32 + __builtin_ctz(others)]);
    }
    if (op == SIM_SYNCWARP && __tsan_acquire)
        __tsan_acquire(order);
}

void *sim_shared_dynamic(void)
{
    return B.dynamic;
}
void *sim_shared_tiles(void)
{
    B.tiles = true;
    return B.dynamic;
}

void *sim_shared_array(const void *site, size_t bytes)
{
    for (int i = 0; i < B.sites; i++)
        if (B.site[i].key == site)
            return B.site[i].data;
    if (B.sites == MAX_SITES)
        sim_fail("more than %d shared arrays in one kernel", MAX_SITES);
    B.site[B.sites] = Site{site, new_shared(bytes), bytes};
    return B.site[B.sites++].data;
}

void sim_check_shared(const void *p, const char *what, const char *file, int line)
{
    const char *c = (const char *)p;
    if ((uintptr_t)p & 15)
        sim_fail("%s %p is not 16-byte aligned at %s:%d", what, p, file, line);
    if (c >= B.dynamic && c + 16 <= B.dynamic + B.dynamic_bytes)
        return;
    for (int i = 0; i < B.sites; i++)
        if (c >= B.site[i].data && c + 16 <= B.site[i].data + B.site[i].bytes)
            return;
    sim_fail("%s %p lies outside this block's shared memory at %s:%d", what, p, file, line);
}

void sim_check_aligned(const void *p, const char *file, int line)
{
    if ((uintptr_t)p & 15)
        sim_fail("16-byte access to %p, which is not 16-byte aligned, at %s:%d", p, file, line);
}

int sim_copy_now(void)
{
    B.current->copied = true;
    stats.copies++;
    return config.copies == 2 ? (int)(draw() & 1) : config.copies;
}

void sim_copy_later(void *shared, const void *global, int bytes)
{
    Fiber *f = B.current;
    if (f->copies - f->copies_done == MAX_COPIES)
        sim_fail("more than %d cp.async copies pending in one thread", MAX_COPIES);
    f->copy[f->copies++ % MAX_COPIES] = Copy{shared, global, bytes, f->group};
}

void sim_copy_commit(void)
{
    B.current->group++;
}

int sim_copy_due(int pending, void **shared, const void **global, int *bytes)
{
    Fiber *f = B.current;
    if (f->copies_done == f->copies || f->copy[f->copies_done % MAX_COPIES].group >= f->group - pending)
        return 0;
    const Copy &c = f->copy[f->copies_done++ % MAX_COPIES];
    *shared = c.shared;
    *global = c.global;
    *bytes = c.bytes;
    return 1;
}

int sim_wait_is_skipped(const char *file, int line)
{
    B.current->unfenced |= B.current->copied;
    B.current->copied = false;
    return skipped(SIM_SKIP_WAIT, file, line);
}

int sim_fence_is_skipped(const char *file, int line)
{
    return skipped(SIM_SKIP_FENCE, file, line);
}

void sim_shared_written(const void *p)
{
    if ((const char *)p >= B.dynamic && (const char *)p < B.dynamic + B.dynamic_bytes)
        B.current->unfenced = true;
}

void sim_fence_async(void)
{
    B.current->unfenced = false;
}

void sim_skip(SimSkip what, int which)
{
    skip.what = what;
    skip.which = which;
    skip.hits = 0;
    skip.events = 0;
}
uint64_t sim_skipped(void)
{
    return skip.hits;
}

SimConfig sim_config(void)
{
    return config;
}
void sim_configure(const SimConfig *c)
{
    config = *c;
    rng_state = 88172645463325252ull ^ c->seed * 0x9E3779B97F4A7C15ull;
    if (!rng_state)
        rng_state = 1;
}
SimStats sim_stats(void)
{
    return stats;
}
void sim_stats_reset(void)
{
    stats = SimStats{};
}
const char *sim_fault(void)
{
    return fault;
}
void sim_clear(void)
{
    fault[0] = 0;
}
}

namespace
{
const char *refused, *expected, *value; /* a variable of the environment, NULL none */
__attribute__((constructor)) void configure_from_environment(void)
{
    static const char *const names[] = {"ascending", "descending", "random", "greedy"};
    SimConfig c = config;
    const char *schedule = getenv("WEFT_SIM_SCHEDULE"), *seed = getenv("WEFT_SIM_SEED"),
               *streams = getenv("WEFT_SIM_STREAMS"), *capability = getenv("WEFT_SIM_CAPABILITY");
    char *end = nullptr;
    int known = !schedule;
    for (int i = 0; schedule && i < 4; i++)
        if (strcmp(schedule, names[i]) == 0)
            c.schedule = (SimSchedule)i, known = 1;
    if (!known)
        refused = "WEFT_SIM_SCHEDULE", expected = "ascending, descending, random or greedy", value = schedule;
    if (seed)
        c.seed = strtoull(seed, &end, 10);
    if (seed && (!*seed || *end))
        refused = "WEFT_SIM_SEED", expected = "a whole number", value = seed;
    if (capability)
        c.capability = strcmp(capability, "90") == 0 ? 90 : 80;
    if (capability && strcmp(capability, "80") != 0 && strcmp(capability, "90") != 0)
        refused = "WEFT_SIM_CAPABILITY", expected = "80 or 90", value = capability;
    if (streams)
        c.eager_streams = strcmp(streams, "eager") == 0;
    if (streams && !c.eager_streams && strcmp(streams, "lazy") != 0)
        refused = "WEFT_SIM_STREAMS", expected = "lazy or eager", value = streams;
    sim_configure(&c);
}
} // namespace

extern "C" int sim_environment(Err *err)
{
    return refused ? err_set(err, ERR_USAGE, "%s is '%s', expected %s", refused, value, expected) : 0;
}
