/* Warp collectives: what the lanes of a warp compute together once all of them have arrived. */
#include "common/ops/cuda/sim/block.h"

namespace sim
{

static float low_bf16(uint32_t v)
{
    return sim_float(v << 16);
}
static float high_bf16(uint32_t v)
{
    return sim_float(v & 0xffff0000u);
}

/* Fragment layouts of mma.m16n8k16, g = lane/4, t = lane%4: a0 (g,2t) a1 (g+8,2t) a2 (g,2t+8) a3
 * (g+8,2t+8); b0 (2t,g) b1 (2t+8,g);
 * d0,d1 (g,2t..) d2,d3 (g+8,2t..). */
static void compute_mma(Rendezvous *r)
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
static void compute_ldmatrix(Rendezvous *r, bool trans)
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

static void compute_shuffle(Rendezvous *r)
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

static void issue_wgmma(Rendezvous *r, int warp)
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

} // namespace sim
