/* Shared memory as kernels see it: where it lies, which accesses are allowed, asynchronous copies
 * into it, and the fences before products read it. */
#include "common/ops/cuda/sim/block.h"

using namespace sim;

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
