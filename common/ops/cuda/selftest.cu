/* Each wrapper of port.h against scalar code: what only a run on the hardware can tell (operand
 * order, modifiers, layouts of fragments). */
#include "common/ops/cuda/device.h"

enum { LANES = 32, ROW = 8, TILE = LANES * ROW }; /* a tile: 32 rows of 16 bytes */

/* ---- kernels: one warp ----------------------------------------------------------------------- */

__global__ void probe_ldmatrix(uint32_t *out, const bf16 *in, int trans)
{
    SMEM_DYN(bf16, tile);
    const int l = threadIdx.x;
    uint32_t r[4];
    store16(tile + l * ROW, load16(in + l * ROW));
    __syncthreads();
    if (trans)
        ldmatrix_x4_trans(r, tile + l * ROW);
    else
        ldmatrix_x4(r, tile + l * ROW);
    for (int j = 0; j < 4; j++)
        out[l * 4 + j] = r[j];
}

__device__ __forceinline__ uint32_t pair_of(const bf16 *p, int i, int k)
{
    return (uint32_t)p[i].bits | (uint32_t)p[k].bits << 16;
}

/* d[16x8] = c + a[16x16] b[16x8], all row-major. */
__global__ void probe_mma(float *d, const bf16 *a, const bf16 *b, const float *c)
{
    const int g = threadIdx.x >> 2, t = threadIdx.x & 3;
    uint32_t fa[4], fb[2];
    float s[4];
    for (int i = 0; i < 4; i++) {
        const int at = (g + 8 * (i & 1)) * 16 + 2 * t + 8 * (i >> 1);
        fa[i] = pair_of(a, at, at + 1);
    }
    for (int i = 0; i < 2; i++) {
        const int k = 2 * t + 8 * i;
        fb[i] = pair_of(b, k * 8 + g, (k + 1) * 8 + g);
    }
    for (int e = 0; e < 4; e++)
        s[e] = c[(g + 8 * (e >> 1)) * 8 + 2 * t + (e & 1)];
    mma_16816(s, fa, fb);
    for (int e = 0; e < 4; e++)
        d[(g + 8 * (e >> 1)) * 8 + 2 * t + (e & 1)] = s[e];
}

/* Two groups: after the first wait only the first need be there.  Odd lanes copy nothing and get
 * zeros; all read their neighbour's row. */
__global__ void probe_copy(bf16 *out, const bf16 *in)
{
    SMEM_DYN(bf16, tile);
    const int l = threadIdx.x, other = l ^ 1, bytes = l & 1 ? 0 : 16;
    cp_async_16(tile + l * ROW, in + l * ROW, bytes);
    cp_async_commit();
    cp_async_16(tile + TILE + l * ROW, in + TILE + l * ROW, bytes);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    store16(out + other * ROW, load16(tile + other * ROW));
    cp_async_wait<0>();
    __syncthreads();
    store16(out + TILE + other * ROW, load16(tile + TILE + other * ROW));
}

enum { SCALARS = 9 };
__global__ void probe_scalars(float *out, const float *in)
{
    const int l = threadIdx.x;
    const float x = in[l];
    const uint32_t both = pack_bf16(x, -2.0f * x);
    out[l] = exp2_fast(x);
    out[LANES + l] = to_float(to_bf16(x));
    out[2 * LANES + l] = to_float(bf16{(uint16_t)(both & 0xffffu)});
    out[3 * LANES + l] = to_float(bf16{(uint16_t)(both >> 16)});
    out[4 * LANES + l] = half_bits_to_float(float_to_half_bits(x));
    out[5 * LANES + l] = warp_sum(x);
    out[6 * LANES + l] = warp_max(x);
    out[7 * LANES + l] = (float)round_to_int(x);
    add_int((int32_t *)out + 8 * LANES + (l & 1), round_to_int(16.0f * x)); /* two words, 0 before */
}

/* ---- host ------------------------------------------------------------------------------------ */

struct Probe {
    Device *d;
    DeviceReport report;
    void *user;
    char *room; /* device memory: ROOM bytes a buffer */
    Err *err;
};
enum { ROOM = 4096, BUFFERS = 4 };

static void *buffer(const Probe *p, int i)
{
    return p->room + i * ROOM;
}
static int put(const Probe *p, int i, const void *host, size_t bytes)
{
    return p->d->be.upload(&p->d->be, buffer(p, i), host, (int64_t)bytes, p->err);
}
static int get(const Probe *p, int i, void *host, size_t bytes)
{
    return p->d->be.download(&p->d->be, host, buffer(p, i), (int64_t)bytes, p->err);
}
static float value_at(int i)
{
    return (float)((i * 37 + 11) % 61 - 30) / 16.0f;
} /* exact in bf16 */
static bf16 exact(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return bf16{(uint16_t)(u >> 16)};
}

static int try_ldmatrix(const Probe *p, int trans)
{
    bf16 in[TILE];
    uint32_t out[LANES * 4];
    int wrong = 0;
    for (int i = 0; i < TILE; i++)
        in[i].bits = (uint16_t)(i * 7 + 1);
    DEVICE_TRY(put(p, 0, in, sizeof in));
    LAUNCH((probe_ldmatrix), dim3(1), dim3(LANES), sizeof in, p->d->compute, (uint32_t *)buffer(p, 1),
           (const bf16 *)buffer(p, 0), trans);
    DEVICE_TRY(device_launched("probe_ldmatrix", p->err));
    DEVICE_TRY(get(p, 1, out, sizeof out));
    for (int l = 0; l < LANES; l++)
        for (int j = 0; j < 4; j++) {
            const bf16 *m = in + j * 8 * ROW;
            const int low = trans ? 2 * (l % 4) * ROW + l / 4 : l / 4 * ROW + 2 * (l % 4),
                      high = trans ? low + ROW : low + 1;
            wrong += out[l * 4 + j] != ((uint32_t)m[low].bits | (uint32_t)m[high].bits << 16);
        }
    p->report(p->user, trans ? "ldmatrix.trans" : "ldmatrix", wrong);
    return 0;
}

static int try_mma(const Probe *p)
{
    bf16 a[16 * 16], b[16 * 8];
    float c[16 * 8], d[16 * 8];
    int wrong = 0;
    for (int i = 0; i < 16 * 16; i++)
        a[i] = exact(value_at(i));
    for (int i = 0; i < 16 * 8; i++)
        b[i] = exact(value_at(3 * i + 5)), c[i] = value_at(5 * i + 2);
    DEVICE_TRY(put(p, 0, a, sizeof a));
    DEVICE_TRY(put(p, 1, b, sizeof b));
    DEVICE_TRY(put(p, 2, c, sizeof c));
    LAUNCH((probe_mma), dim3(1), dim3(LANES), 0, p->d->compute, (float *)buffer(p, 3), (const bf16 *)buffer(p, 0),
           (const bf16 *)buffer(p, 1), (const float *)buffer(p, 2));
    DEVICE_TRY(device_launched("probe_mma", p->err));
    DEVICE_TRY(get(p, 3, d, sizeof d));
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            double want = value_at(5 * (i * 8 + j) + 2);
            for (int k = 0; k < 16; k++)
                want += (double)value_at(i * 16 + k) * value_at(3 * (k * 8 + j) + 5);
            wrong += !(fabs(d[i * 8 + j] - want) <= 1e-4); /* sums of 16ths of 16ths: exact in fp32 */
        }
    p->report(p->user, "mma.m16n8k16", wrong);
    return 0;
}

static int try_copy(const Probe *p)
{
    bf16 in[2 * TILE], out[2 * TILE];
    int wrong = 0;
    for (int i = 0; i < 2 * TILE; i++)
        in[i].bits = (uint16_t)(i + 1);
    DEVICE_TRY(put(p, 0, in, sizeof in));
    LAUNCH((probe_copy), dim3(1), dim3(LANES), sizeof in, p->d->compute, (bf16 *)buffer(p, 1),
           (const bf16 *)buffer(p, 0));
    DEVICE_TRY(device_launched("probe_copy", p->err));
    DEVICE_TRY(get(p, 1, out, sizeof out));
    for (int i = 0; i < 2 * TILE; i++)
        wrong += out[i].bits != (i / ROW % 2 ? 0 : in[i].bits);
    p->report(p->user, "cp.async, groups, zero fill", wrong);
    return 0;
}

static int try_scalars(const Probe *p)
{
    static const char *const names[SCALARS] = {"ex2.approx",      "bf16 round trip",  "pack, low half",
                                               "pack, high half", "fp16 round trip",  "warp sum",
                                               "warp maximum",    "float to integer", "integer atomics"};
    float in[LANES], out[SCALARS * LANES] = {}, sum = 0, top = -1e30f;
    int32_t sums[LANES] = {};
    for (int i = 0; i < LANES; i++) {
        in[i] = value_at(i);
        sum += in[i];
        top = in[i] > top ? in[i] : top;
        sums[i & 1] += (int32_t)(16 * in[i]);
    }
    DEVICE_TRY(put(p, 0, in, sizeof in));
    DEVICE_TRY(put(p, 1, out, sizeof out));
    LAUNCH((probe_scalars), dim3(1), dim3(LANES), 0, p->d->compute, (float *)buffer(p, 1), (const float *)buffer(p, 0));
    DEVICE_TRY(device_launched("probe_scalars", p->err));
    DEVICE_TRY(get(p, 1, out, sizeof out));
    for (int k = 0; k < SCALARS; k++) {
        int wrong = 0;
        for (int l = 0; l < LANES; l++) {
            int32_t whole;
            memcpy(&whole, &out[k * LANES + l], sizeof whole);
            const double want[SCALARS] = {exp2(in[l]), in[l], in[l],       -2.0 * in[l],   in[l],
                                          sum,         top,   rint(in[l]), (double)sums[l]},
                         got = k == 8 ? whole : out[k * LANES + l], bound = k == 0 ? 1e-6 * want[0] : 0;
            wrong += !(fabs(got - want[k]) <= bound);
        }
        p->report(p->user, names[k], wrong);
    }
    return 0;
}

int device_selftest(Backend *be, DeviceReport report, void *user, Err *err)
{
    Probe p = {device_of(be), report, user, nullptr, err};
    void *room;
    DEVICE_TRY(be->alloc(be, BUFFERS * ROOM, &room, err));
    p.room = (char *)room;
    int rc = try_ldmatrix(&p, 0);
    if (rc == 0)
        rc = try_ldmatrix(&p, 1);
    if (rc == 0)
        rc = try_mma(&p);
    if (rc == 0)
        rc = try_copy(&p);
    if (rc == 0)
        rc = try_scalars(&p);
    be->release(be, room);
    if (rc == 0 && p.d->capability == 90)
        rc = device_selftest_90(p.d, report, user, err);
    return rc;
}
