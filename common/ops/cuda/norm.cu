/* LayerNorm with modulation, gates, RMSNorm.
 *
 * Rows are normalised by a group of lanes of one warp (8 lanes for short rows, 32 otherwise), each
 * pass over the row but the first from L1 or L2.
 * Column sums (parameter and modulation gradients) go through a fixed number of row ranges whose
 * sums are added in order. */
#include "common/ops/cuda/device.h"

enum { WARPS = 8, THREADS = 32 * WARPS, COLUMNS = 64, ROW_LANES = 4 };

/* Which shift, scale and gate a row of [B,S,D] takes. */
struct Mod {
    const float *mod;
    int64_t S, text_rows, chunks;
};

static Mod mod_of(const Tensor *x, const Modulation *m)
{
    Mod out = {nullptr, 1, 0, 0};
    if (m)
        out = Mod{(const float *)m->mod->data, x->dim[1], m->text_rows, m->mod->dim[1] / x->dim[2]};
    return out;
}
__device__ __forceinline__ const float *mod_chunk(const Mod &m, int64_t row, int64_t D, int chunk)
{
    const int64_t b = row / m.S, text = row - b * m.S < m.text_rows;
    return m.mod + (b * m.chunks + chunk + (text ? 3 : 0)) * D;
}

template <int LANES>
__device__ __forceinline__ float lanes_sum(float v)
{
#pragma unroll
    for (int bits = LANES / 2; bits; bits >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, bits);
    return v;
}

/* Mean and 1/sqrt(biased variance + eps) of a row; every lane of the group gets both. */
template <int LANES, int V>
__device__ __forceinline__ void row_statistics(const bf16 *x, int D, int lane, float eps, float *mean, float *rstd)
{
    float sum = 0.0f, square = 0.0f, v[V];
    for (int c = lane * V; c < D; c += LANES * V) {
        load_each(v, x + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum += v[k];
    }
    *mean = lanes_sum<LANES>(sum) / (float)D;
    for (int c = lane * V; c < D; c += LANES * V) {
        load_each(v, x + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            square += (v[k] - *mean) * (v[k] - *mean);
    }
    *rstd = rsqrtf(lanes_sum<LANES>(square) / (float)D + eps);
}

/* The row of this group of lanes; out of range: the last row again, not stored. */
template <int LANES>
__device__ __forceinline__ int64_t group_row(int64_t rows, int *lane, int *live)
{
    const int warp = threadIdx.x >> 5, l = threadIdx.x & 31;
    const int64_t row = ((int64_t)blockIdx.x * WARPS + warp) * (32 / LANES) + l / LANES;
    *lane = l % LANES;
    *live = row < rows;
    return row < rows ? row : rows - 1;
}

/* ---- LayerNorm ------------------------------------------------------------------------------- */

template <int LANES, int V>
__global__ void __launch_bounds__(THREADS)
    layernorm_rows(bf16 *y, const bf16 *x, Vec w, Vec b, Mod m, int64_t rows, int D, float eps)
{
    int lane, live;
    const int64_t row = group_row<LANES>(rows, &lane, &live);
    float mean, rstd;
    x += row * D;
    y += row * D;
    row_statistics<LANES, V>(x, D, lane, eps, &mean, &rstd);
    if (!live)
        return;
    const float *shift = m.mod ? mod_chunk(m, row, D, 0) : nullptr, *scale = m.mod ? shift + D : nullptr;
    for (int c = lane * V; c < D; c += LANES * V) {
        float v[V], factor[V], term[V];
        load_each(v, x + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = (v[k] - mean) * rstd;
        if (w.data) {
            load_each(factor, w, c);
            load_each(term, b, c);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] = v[k] * factor[k] + term[k];
        }
        if (shift) {
            load_each(factor, scale + c);
            load_each(term, shift + c);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] = v[k] * (1.0f + factor[k]) + term[k];
        }
        store_each(y + c, v);
    }
}

static unsigned row_blocks(int64_t rows, int lanes)
{
    return blocks_for(rows, WARPS * (32 / lanes));
}
static bool eights(int64_t D, const Tensor *w, const Tensor *b, const Modulation *m)
{
    return D % 8 == 0 && aligned16(vec_of(w).data, vec_of(b).data, m ? m->mod->data : nullptr);
}

static int layernorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                     const Modulation *m, Err *err)
{
    const int64_t D = x->dim[x->rank - 1], rows = tensor_count(x) / D;
    const bool wide = eights(D, w, b, m) && aligned16(x->data, y->data);
    auto run = [&](void (*kernel)(bf16 *, const bf16 *, Vec, Vec, Mod, int64_t, int, float), int lanes) {
        LAUNCH((kernel), dim3(row_blocks(rows, lanes)), dim3(THREADS), 0, device_of(be)->compute, (bf16 *)y->data,
               (const bf16 *)x->data, vec_of(w), vec_of(b), mod_of(x, m), rows, (int)D, (float)eps);
    };
    if (D <= 64)
        run(wide ? layernorm_rows<8, 8> : layernorm_rows<8, 1>, 8);
    else
        run(wide ? layernorm_rows<32, 8> : layernorm_rows<32, 1>, 32);
    return device_launched("layernorm", err);
}

/* What flows into xhat: g = gy (1+scale) w. */
template <int V>
__device__ __forceinline__ void inner_gradient(float (&g)[V], const bf16 *gy, const float *scale, Vec w, int c)
{
    float factor[V];
    load_each(g, gy + c);
    if (scale) {
        load_each(factor, scale + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            g[k] *= 1.0f + factor[k];
    }
    if (w.data) {
        load_each(factor, w, c);
#pragma unroll
        for (int k = 0; k < V; k++)
            g[k] *= factor[k];
    }
}

/* gx = rstd (g - mean(g) - xhat mean(g xhat)) (gx may be null), and the row's mean and rstd for the
 * column sums. */
template <int LANES, int V>
__global__ void __launch_bounds__(THREADS)
    layernorm_backward_rows(bf16 *gx, float *stats, const bf16 *gy, const bf16 *x, Vec w, Mod m, int64_t rows, int D,
                            float eps, int add)
{
    int lane, live;
    const int64_t row = group_row<LANES>(rows, &lane, &live);
    float mean, rstd, sum_g = 0.0f, sum_gx = 0.0f, vx[V], g[V];
    x += row * D;
    gy += row * D;
    row_statistics<LANES, V>(x, D, lane, eps, &mean, &rstd);
    if (live && lane == 0) {
        stats[2 * row] = mean;
        stats[2 * row + 1] = rstd;
    }
    if (!gx)
        return;
    gx += row * D;
    const float *scale = m.mod ? mod_chunk(m, row, D, 1) : nullptr;
    for (int c = lane * V; c < D; c += LANES * V) {
        load_each(vx, x + c);
        inner_gradient<V>(g, gy, scale, w, c);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum_g += g[k];
            sum_gx += g[k] * (vx[k] - mean) * rstd;
        }
    }
    sum_g = lanes_sum<LANES>(sum_g) / (float)D;
    sum_gx = lanes_sum<LANES>(sum_gx) / (float)D;
    if (!live)
        return;
    for (int c = lane * V; c < D; c += LANES * V) {
        load_each(vx, x + c);
        inner_gradient<V>(g, gy, scale, w, c);
#pragma unroll
        for (int k = 0; k < V; k++)
            g[k] = rstd * (g[k] - sum_g - (vx[k] - mean) * rstd * sum_gx);
        if (add) {
            load_each(vx, gx + c);
#pragma unroll
            for (int k = 0; k < V; k++)
                g[k] += vx[k];
        }
        store_each(gx + c, g);
    }
}

/* ---- column sums over segments of rows ------------------------------------------------------- */

/* Segments: for each sequence its text rows, then its video rows.  part[(segment*parts + p)*2 +
 * {0,1}][D] = two sums over the p-th range of the segment's rows, as F gives them for (row,
 * column). */
template <class F>
__global__ void __launch_bounds__(COLUMNS *ROW_LANES)
    segment_partials(float *part, F f, int64_t S, int64_t text_rows, int64_t D)
{
    SMEM_ARRAY(float, room, 2 * COLUMNS * ROW_LANES);
    const int tx = threadIdx.x % COLUMNS, ty = threadIdx.x / COLUMNS, parts = gridDim.y, p = blockIdx.y,
              segment = blockIdx.z;
    const int64_t c = (int64_t)blockIdx.x * COLUMNS + tx, b = segment / 2, first = segment % 2 ? text_rows : 0,
                  n = segment % 2 ? S - text_rows : text_rows;
    const int64_t per = (n + parts - 1) / parts, from = per * p, to = from + per < n ? from + per : n;
    float s0 = 0.0f, s1 = 0.0f;
    if (c < D) {
#pragma unroll 4
        for (int64_t i = from + ty; i < to; i += ROW_LANES)
            f(b * S + first + i, c, &s0, &s1);
    }
    room[threadIdx.x] = s0;
    room[COLUMNS * ROW_LANES + threadIdx.x] = s1;
    __syncthreads();
    if (ty == 0 && c < D) {
        for (int k = 1; k < ROW_LANES; k++) {
            s0 += room[k * COLUMNS + tx];
            s1 += room[COLUMNS * ROW_LANES + k * COLUMNS + tx];
        }
        float *out = part + ((int64_t)segment * parts + p) * 2 * D;
        out[c] = s0;
        out[D + c] = s1;
    }
}

struct NormColumns { /* sum gy, sum gy xhat */
    const bf16 *gy, *x;
    const float *stats;
    int64_t D;
    __device__ __forceinline__ void operator()(int64_t row, int64_t c, float *s0, float *s1) const
    {
        const float g = load(gy, row * D + c);
        *s0 += g;
        *s1 += g * (load(x, row * D + c) - stats[2 * row]) * stats[2 * row + 1];
    }
};
struct GateColumns { /* sum gx y */
    const bf16 *gx, *y;
    int64_t D;
    __device__ __forceinline__ void operator()(int64_t row, int64_t c, float *s0, float *s1) const
    {
        (void)s1;
        *s0 += load(gx, row * D + c) * load(y, row * D + c);
    }
};

/* From A = sum gy and Bx = sum gy xhat of each segment: gshift += A, gscale += w Bx + b A, gw +=
 * (1+scale) Bx, gb += (1+scale) A. */
__global__ void norm_columns_total(Grad gw, Grad gb, float *gm, const float *part, Vec w, Vec b, Mod m, int64_t B,
                                   int64_t D, int parts)
{
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= D)
        return;
    float total_w = 0.0f, total_b = 0.0f;
    for (int64_t segment = 0; segment < 2 * B; segment++) {
        float A = 0.0f, X = 0.0f;
        for (int p = 0; p < parts; p++) {
            A += part[(segment * parts + p) * 2 * D + c];
            X += part[(segment * parts + p) * 2 * D + D + c];
        }
        float scale = 1.0f;
        if (m.mod) {
            const bool text = segment % 2 == 0;
            const int64_t at = (segment / 2 * m.chunks + (text ? 3 : 0)) * D + c;
            if (text && m.text_rows == 0)
                continue;
            scale += m.mod[at + D];
            if (gm) {
                gm[at] += A;
                gm[at + D] += w.data ? vec_get(w, c) * X + vec_get(b, c) * A : X;
            }
        }
        total_w += scale * X;
        total_b += scale * A;
    }
    if (gw.data) {
        grad_add(gw, c, total_w);
        grad_add(gb, c, total_b);
    }
}

__global__ void gate_columns_total(float *gm, const float *part, Mod m, int64_t B, int64_t D, int parts)
{
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= D)
        return;
    for (int64_t segment = 0; segment < 2 * B; segment++) {
        const bool text = segment % 2 == 0;
        if (text && m.text_rows == 0)
            continue;
        float sum = 0.0f;
        for (int p = 0; p < parts; p++)
            sum += part[(segment * parts + p) * 2 * D + c];
        gm[(segment / 2 * m.chunks + (text ? 5 : 2)) * D + c] += sum;
    }
}

static size_t partial_bytes(int64_t B, int64_t S, int64_t D)
{
    return (size_t)(2 * B * reduce_parts(S) * 2 * D) * sizeof(float);
}

template <class F>
static void launch_partials(Device *d, float *part, F f, int64_t B, int64_t S, int64_t text_rows, int64_t D)
{
    LAUNCH((segment_partials<F>), dim3(blocks_for(D, COLUMNS), (unsigned)reduce_parts(S), (unsigned)(2 * B)),
           dim3(COLUMNS * ROW_LANES), 0, d->compute, part, f, S, text_rows, D);
}

static int layernorm_backward(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                              const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                              const Modulation *m, int add, Err *err)
{
    Device *d = device_of(be);
    const int64_t D = x->dim[x->rank - 1], rows = tensor_count(x) / D, B = m ? x->dim[0] : 1, S = m ? x->dim[1] : rows;
    const bool wide = eights(D, w, nullptr, m) && aligned16(x->data, gy->data, vec_of(gx).data);
    const size_t stats_bytes = ((size_t)rows * 2 * sizeof(float) + 255) / 256 * 256;
    char *room;
    DEVICE_TRY(device_scratch(d, stats_bytes + partial_bytes(B, S, D), &room, err));
    float *stats = (float *)room, *part = (float *)(room + stats_bytes);
    auto run = [&](void (*kernel)(bf16 *, float *, const bf16 *, const bf16 *, Vec, Mod, int64_t, int, float, int),
                   int lanes) {
        LAUNCH((kernel), dim3(row_blocks(rows, lanes)), dim3(THREADS), 0, d->compute, gx ? (bf16 *)gx->data : nullptr,
               stats, (const bf16 *)gy->data, (const bf16 *)x->data, vec_of(w), mod_of(x, m), rows, (int)D, (float)eps,
               add);
    };
    if (D <= 64)
        run(wide ? layernorm_backward_rows<8, 8> : layernorm_backward_rows<8, 1>, 8);
    else
        run(wide ? layernorm_backward_rows<32, 8> : layernorm_backward_rows<32, 1>, 32);
    if (gw || gm) {
        const NormColumns f = {(const bf16 *)gy->data, (const bf16 *)x->data, stats, D};
        launch_partials(d, part, f, B, S, m ? m->text_rows : 0, D);
        LAUNCH((norm_columns_total), dim3(blocks_for(D, 128)), dim3(128), 0, d->compute, grad_of(gw), grad_of(gb),
               gm ? (float *)gm->data : nullptr, (const float *)part, vec_of(w), vec_of(b), mod_of(x, m), B, D,
               reduce_parts(S));
    }
    return device_launched("layernorm_backward", err);
}

/* ---- gates ----------------------------------------------------------------------------------- */

/* out = (add ? out : 0) + gate * in, rows of [B,S,D]. */
template <int V>
__global__ void __launch_bounds__(THREADS) gate_rows(bf16 *out, const bf16 *in, Mod m, int64_t n, int64_t D, int add)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n)
        return;
    const int64_t row = i / D, c = i - row * D;
    float v[V], gate[V];
    load_each(v, in + i);
    load_each(gate, mod_chunk(m, row, D, 2) + c);
#pragma unroll
    for (int k = 0; k < V; k++)
        v[k] *= gate[k];
    if (add) {
        load_each(gate, out + i);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] += gate[k];
    }
    store_each(out + i, v);
}

static int launch_gate(Backend *be, const Tensor *out, const Tensor *in, const Modulation *m, int add, const char *op,
                       Err *err)
{
    const int64_t n = tensor_count(out), D = out->dim[2];
    const bool wide = eights(D, nullptr, nullptr, m) && aligned16(out->data, in->data);
    auto run = [&](void (*kernel)(bf16 *, const bf16 *, Mod, int64_t, int64_t, int), int width) {
        LAUNCH((kernel), dim3(blocks_for(n / width, THREADS)), dim3(THREADS), 0, device_of(be)->compute,
               (bf16 *)out->data, (const bf16 *)in->data, mod_of(out, m), n, D, add);
    };
    run(wide ? gate_rows<8> : gate_rows<1>, wide ? 8 : 1);
    return device_launched(op, err);
}

static int gate_add(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    return launch_gate(be, x, y, m, 1, "gate_add", err);
}

static int gate_add_backward(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                             const Modulation *m, Err *err)
{
    Device *d = device_of(be);
    const int64_t B = gx->dim[0], S = gx->dim[1], D = gx->dim[2];
    if (gm) { /* before gy is written: it may be y or gx */
        char *room;
        DEVICE_TRY(device_scratch(d, partial_bytes(B, S, D), &room, err));
        const GateColumns f = {(const bf16 *)gx->data, (const bf16 *)y->data, D};
        launch_partials(d, (float *)room, f, B, S, m->text_rows, D);
        LAUNCH((gate_columns_total), dim3(blocks_for(D, 128)), dim3(128), 0, d->compute, (float *)gm->data,
               (const float *)room, mod_of(gx, m), B, D, reduce_parts(S));
        DEVICE_TRY(device_launched("gate_add_backward", err));
    }
    return launch_gate(be, gy, gx, m, 0, "gate_add_backward", err);
}

/* ---- RMSNorm --------------------------------------------------------------------------------- */

template <int V>
__global__ void __launch_bounds__(THREADS)
    rmsnorm_rows(bf16 *y, const bf16 *x, Vec w, int64_t rows, int64_t D, float eps)
{
    int lane, live;
    const int64_t row = group_row<32>(rows, &lane, &live);
    float sum = 0.0f, v[V], factor[V];
    x += row * D;
    y += row * D;
    for (int64_t c = lane * V; c < D; c += 32 * V) {
        load_each(v, x + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum += v[k] * v[k];
    }
    const float r = rsqrtf(warp_sum(sum) / (float)D + eps);
    if (!live)
        return;
    for (int64_t c = lane * V; c < D; c += 32 * V) {
        load_each(v, x + c);
        load_each(factor, w, c);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = factor[k] * v[k] * r;
        store_each(y + c, v);
    }
}

static int rmsnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    const int64_t D = x->dim[x->rank - 1], rows = tensor_count(x) / D;
    const bool wide = eights(D, w, nullptr, nullptr) && aligned16(y->data, x->data);
    auto run = [&](void (*kernel)(bf16 *, const bf16 *, Vec, int64_t, int64_t, float)) {
        LAUNCH((kernel), dim3(row_blocks(rows, 32)), dim3(THREADS), 0, device_of(be)->compute, (bf16 *)y->data,
               (const bf16 *)x->data, vec_of(w), rows, D, (float)eps);
    };
    run(wide ? rmsnorm_rows<8> : rmsnorm_rows<1>);
    return device_launched("rmsnorm", err);
}

void device_norm_table(OpsTable *t)
{
    t->layernorm = layernorm;
    t->layernorm_backward = layernorm_backward;
    t->gate_add = gate_add;
    t->gate_add_backward = gate_add_backward;
    t->rmsnorm = rmsnorm;
}
