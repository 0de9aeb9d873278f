/* Warpgroup products (wgmma, compute capability 9.0) for the simulator.
 *
 * Each warp of a warpgroup computes its own 16 of the 64 rows, and promises nothing to the other
 * three: what one of them overwrites after its own wait may still be read by another.  A product
 * reads its tiles when it is issued or, as drawn, only at the wait that covers it; its accumulators
 * hold NaN from issue to wait and, like its register operands, must not be touched in between.
 * Asked for besides: a wgmma.fence at the head of every group, fence.proxy.async between cp.async
 * (or store16) and the barrier before a product, descriptors of 128-byte-swizzled tiles inside
 * SMEM_TILES, and the same products on all four warps. */
#include "common/ops/cuda/port.h"

#include <stdio.h>

#include "common/ops/cuda/sim/runtime.h"

namespace
{

enum {
    MAX_WARPS = 32,
    MAX_PRODUCTS = 64,
    MAX_ACCUMULATORS = 8,
    MAX_COLUMNS = 128,
    WINDOW = 1024 /* where a block's shared memory begins */
};
const uint32_t POISON = 0xffffffffu;

struct Product {
    SimWgmma lane[32];
    uint32_t a[32][4];
    int accumulator, group;
    bool done;
};
/* uses: products in flight on it; 0: free */
struct Accumulator {
    float *lane[32];
    int n, uses;
    float value[16][MAX_COLUMNS];
};
struct State {
    Product product[MAX_PRODUCTS]; /* a ring */
    Accumulator accumulator[MAX_ACCUMULATORS];
    unsigned first, end;
    int groups;
    bool fenced;
    uint64_t issued; /* hash of all products, to compare the warps of a group */
} state[MAX_WARPS];

float bf16_at(const uint16_t *p)
{
    return sim_float((uint32_t)*p << 16);
}

/* Chunk i (16 bytes) of an operand: rows along m or n have two each, transposed rows (along k)
 * eight for each 64 columns. */
const uint16_t *chunk(uint64_t tile, bool transposed, int i)
{
    const uint32_t start = (uint32_t)(tile & 0x3fff) << 4, leading = (uint32_t)(tile >> 16 & 0x3fff) << 4,
                   stride = (uint32_t)(tile >> 32 & 0x3fff) << 4;
    const uint32_t row = transposed ? (uint32_t)i / 8 % 16 : (uint32_t)i / 2,
                   at = transposed ? (uint32_t)i % 8 : (uint32_t)i % 2;
    uint32_t address = start + row / 8 * stride + row % 8 * 128 + at * 16 +
                       (transposed ? (uint32_t)i / 128 * leading : 0);
    address ^= (address >> 7 & 7) << 4;
    return (const uint16_t *)sim_shared_at(address - WINDOW);
}

void check_tile(uint64_t tile, bool transposed, int chunks, const char *file, int line)
{
    if (tile >> 62 != 1 || (tile >> 49 & 7))
        sim_fail("wgmma at %s:%d: descriptor %016llx is not that of a 128-byte-swizzled tile", file, line,
                 (unsigned long long)tile);
    for (int i = 0; i < chunks; i++)
        if (!chunk(tile, transposed, i))
            sim_fail("wgmma at %s:%d reads outside this block's tiles (descriptor %016llx)", file, line,
                     (unsigned long long)tile);
}

/* x[k][i], k < 16, of operand rows or columns [first, first + n). */
template <int STRIDE>
void read_tile(float (&x)[16][STRIDE], uint64_t tile, bool transposed, int first, int n)
{
    for (int i = first; i < first + n; i += transposed ? 8 : 1)
        for (int k = 0; k < 16; k += transposed ? 1 : 8) {
            const uint16_t *c = chunk(tile, transposed, transposed ? i / 64 * 128 + k * 8 + i % 64 / 8 : i * 2 + k / 8);
            for (int e = 0; e < 8; e++)
                x[transposed ? k : k + e][transposed ? i - first + e : i - first] = bf16_at(c + e);
        }
}

void run(State *s, Product *p, int warp)
{
    alignas(64) float a[16][16], b[16][MAX_COLUMNS];
    const SimWgmma &m = p->lane[0];
    Accumulator *d = &s->accumulator[p->accumulator];
    if (p->done)
        return;
    p->done = true;
    if (m.a) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) {
                const int row = lane / 4 + (i & 1) * 8, k = lane % 4 * 2 + (i >> 1) * 8;
                a[k][row] = sim_float(p->a[lane][i] << 16);
                a[k + 1][row] = sim_float(p->a[lane][i] & 0xffff0000u);
            }
    } else {
        read_tile(a, m.tile_a, m.trans_a, warp % 4 * 16, 16);
    }
    read_tile(b, m.tile_b, m.trans_b, 0, m.n);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < m.n && !m.add; j++)
            d->value[i][j] = 0.0f;
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < m.n; j++)
                d->value[i][j] += a[k][i] * b[k][j];
    }
}

float *place(Accumulator *d, int lane, int i)
{
    return &d->value[lane / 4 + (i >> 1 & 1) * 8][i / 4 * 8 + lane % 4 * 2 + (i & 1)];
}

/* The accumulator these lanes name: one in flight already, or a new one with their values. */
int accumulator_of(State *s, const Product *p, const char *file, int line)
{
    int unused = -1;
    for (int k = 0; k < MAX_ACCUMULATORS; k++) {
        Accumulator *d = &s->accumulator[k];
        if (!d->uses)
            unused = k;
        else if (d->lane[0] == p->lane[0].d && d->n == p->lane[0].n)
            return k;
    }
    if (unused < 0)
        sim_fail("wgmma at %s:%d: more than %d accumulators in flight", file, line, MAX_ACCUMULATORS);
    Accumulator *d = &s->accumulator[unused];
    d->n = p->lane[0].n;
    for (int lane = 0; lane < 32; lane++) {
        d->lane[lane] = p->lane[lane].d;
        for (int i = 0; i < d->n / 2; i++) {
            *place(d, lane, i) = d->lane[lane][i];
            memcpy(&d->lane[lane][i], &POISON, 4);
        }
    }
    return unused;
}

void retire(State *s, Product *p, const char *file, int line)
{
    Accumulator *d = &s->accumulator[p->accumulator];
    for (int lane = 0; lane < 32; lane++) {
        if (p->lane[0].a && memcmp(p->a[lane], p->lane[lane].a, 16) != 0)
            sim_fail("wgmma: lane %d's register operand changed before the wait at %s:%d", lane, file, line);
        for (int i = 0; i < d->n / 2; i++)
            if (memcmp(&d->lane[lane][i], &POISON, 4) != 0)
                sim_fail("wgmma: lane %d's accumulator was written before the wait at %s:%d", lane, file, line);
        for (int i = 0; i < d->n / 2 && d->uses == 1; i++)
            d->lane[lane][i] = *place(d, lane, i);
    }
    d->uses--;
}

void mix(State *s, uint64_t v)
{
    s->issued = (s->issued ^ v) * 0x9E3779B97F4A7C15ull;
}

} /* namespace */

void sim_wgmma_begin(int warps)
{
    for (int w = 0; w < warps && w < MAX_WARPS; w++) {
        State *s = &state[w];
        s->first = s->end = 0;
        s->groups = 0;
        s->fenced = false;
        s->issued = 0;
        for (Accumulator &d : s->accumulator)
            d.uses = 0;
    }
}

const char *sim_wgmma_end(int warps)
{
    for (int w = 0; w < warps; w++) {
        if (state[w].first != state[w].end)
            return "a warp returned with wgmma in flight";
        if (state[w].issued != state[w / 4 * 4].issued)
            return "the warps of a warpgroup issued different wgmma";
    }
    return nullptr;
}

void sim_wgmma_issue(int warp, int warps, void *const operands[32], bool at_once, const char *file, int line)
{
    State *s = &state[warp];
    const SimWgmma *first = (const SimWgmma *)operands[0];
    if (warps % 4)
        sim_fail("wgmma at %s:%d in a block of %d warps, not whole warpgroups", file, line, warps);
    if (!s->fenced)
        sim_fail("wgmma at %s:%d: no wgmma.fence since the last group or wait", file, line);
    if (s->end - s->first == MAX_PRODUCTS)
        sim_fail("wgmma at %s:%d: more than %d in flight", file, line, MAX_PRODUCTS);
    Product *p = &s->product[s->end % MAX_PRODUCTS];
    for (int lane = 0; lane < 32; lane++) {
        p->lane[lane] = *(const SimWgmma *)operands[lane];
        if (p->lane[lane].tile_a != first->tile_a || p->lane[lane].tile_b != first->tile_b)
            sim_fail("wgmma at %s:%d: lanes give different descriptors", file, line);
        if (first->a)
            memcpy(p->a[lane], p->lane[lane].a, 16);
    }
    if (!first->a)
        check_tile(first->tile_a, first->trans_a, 128, file, line);
    check_tile(first->tile_b, first->trans_b, 2 * first->n, file, line);
    p->group = s->groups;
    p->done = false;
    p->accumulator = accumulator_of(s, p, file, line);
    s->accumulator[p->accumulator].uses++;
    s->end++;
    mix(s, first->tile_b);
    mix(s, first->tile_a);
    mix(s, (uint64_t)line << 8 | (uint64_t)first->add << 2 | (uint64_t)first->trans_a << 1 | (uint64_t)first->trans_b);
    for (unsigned i = s->first; at_once && i < s->end; i++)
        run(s, &s->product[i % MAX_PRODUCTS], warp);
}

void sim_wgmma_fence(int warp)
{
    state[warp].fenced = true;
}

void sim_wgmma_commit(int warp)
{
    state[warp].groups++;
    state[warp].fenced = false;
}

void sim_wgmma_wait(int warp, int pending, const char *file, int line)
{
    State *s = &state[warp];
    s->fenced = false;
    for (; s->first < s->end && s->product[s->first % MAX_PRODUCTS].group < s->groups - pending; s->first++) {
        Product *p = &s->product[s->first % MAX_PRODUCTS];
        run(s, p, warp);
        retire(s, p, file, line);
    }
}

extern "C" {

uint64_t sim_wgmma_tile(const void *tile, const char *file, int line)
{
    const char *from = sim_shared_at(0);
    const int64_t at = (const char *)tile - from;
    if (!from || at < 0 || !sim_shared_at((uint32_t)at) || at % 16)
        sim_fail("wgmma_tile at %s:%d: %p is no tile in SMEM_TILES", file, line, tile);
    return WGMMA_TILE_BITS | (uint64_t)(at + WINDOW) >> 4;
}

const void *sim_wgmma_read(int pending, int operand, int i)
{
    State *s = &state[sim_warp_index()];
    for (unsigned at = s->first; at < s->end; at++) {
        const Product *p = &s->product[at % MAX_PRODUCTS];
        const SimWgmma &m = p->lane[0];
        if (p->group >= s->groups - pending)
            break;
        if (operand-- == 0)
            return i < 2 * m.n                 ? chunk(m.tile_b, m.trans_b, i)
                   : i < 2 * m.n + 128 && !m.a ? chunk(m.tile_a, m.trans_a, i - 2 * m.n)
                                               : nullptr;
    }
    return nullptr;
}
}
