/* Fibers: every CUDA thread of a block is one.  They take turns under a schedule, and wait for
 * each other at barriers and at warp collectives. */
#include "common/ops/cuda/sim/block.h"

/* ---- switching (System V x86-64: callee-saved registers and the stack pointer) --------------- */

extern "C" void sim_switch(void **from, void *to);
__asm__(".text\n.globl sim_switch\n.type sim_switch,@function\nsim_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");

namespace sim
{

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

void abandon(void)
{
    B.failed = true;
    go(B.current, &B.host, true);
    __builtin_unreachable();
}

static int first_lane(unsigned ready, int rotation)
{
    unsigned r = rotation ? ready >> rotation | ready << (32 - rotation) : ready;
    return (__builtin_ctz(r) + rotation) & 31;
}

static Fiber *pick_in_warp(int w, int rotation)
{
    return &B.fiber[w * 32 + first_lane(B.warp[w].ready, rotation)];
}

static Fiber *pick_greedy(void)
{
    int w = B.current->id >= 0 ? B.current->warp : -1;
    if (w < 0 || !(B.ready >> w & 1)) {
        w = first_lane(B.ready, (int)(draw() % B.warp.size()));
        B.warp[w].rotation = (int)(draw() & 31);
    }
    return pick_in_warp(w, B.warp[w].rotation);
}

Fiber *pick(void)
{
    if (!B.ready)
        return nullptr;
    if (config.schedule == SIM_GREEDY)
        return pick_greedy();
    if (config.schedule == SIM_RANDOM) {
        for (int tries = 0; tries < 64; tries++) {
            Fiber *f = &B.fiber[draw() % (unsigned)B.threads];
            if (f->state == READY)
                return f;
        }
    }
    const bool last = config.schedule == SIM_DESCENDING;
    int w = last ? 31 - __builtin_clz(B.ready) : __builtin_ctz(B.ready);
    unsigned ready = B.warp[w].ready;
    return &B.fiber[w * 32 + (last ? 31 - __builtin_clz(ready) : __builtin_ctz(ready))];
}

void mark_ready(Fiber *f)
{
    f->state = READY;
    B.warp[f->warp].ready |= 1u << f->lane;
    B.ready |= 1u << f->warp;
}

void mark_waiting(Fiber *f, FiberState state)
{
    Warp &w = B.warp[f->warp];
    f->state = state;
    w.ready &= ~(1u << f->lane);
    if (!w.ready)
        B.ready &= ~(1u << f->warp);
}

void report_deadlock(void)
{
    for (Fiber &f : B.fiber)
        if (f.state != EXITED) {
            sim_fail("deadlock: thread %d waits for ever at %s:%d (%s)", f.id, f.file, f.line,
                     f.state == AT_BARRIER ? "barrier" : "warp collective");
        }
    sim_fail("deadlock");
}

static void wait_as(FiberState state)
{
    Fiber *f = B.current;
    mark_waiting(f, state);
    Fiber *next = pick();
    if (!next)
        report_deadlock();
    if (next != f)
        go(f, next, false);
}

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

} // namespace sim

using namespace sim;

/* ---- what kernels call ----------------------------------------------------------------------- */

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
        w.meets |= 1u << __builtin_ctz(mask);
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
        w.meets &= ~(1u << __builtin_ctz(mask));
        w.phase += op == SIM_SYNCWARP;
        for (unsigned others = mask & ~(1u << f->lane); others; others &= others - 1)
            mark_ready(&B.fiber[f->warp * 32 + __builtin_ctz(others)]);
    }
    if (op == SIM_SYNCWARP && __tsan_acquire)
        __tsan_acquire(order);
}
