/* GroupNorm with the spatial condition, and a SiLU after it: sums of each channel over ranges of
 * positions, from these in order the groups' statistics, then the normalisation. */
#include "common/ops/cuda/device.h"

enum { THREADS = 256, GN_PARTS = 512 };

/* Sum and sum of squares of each channel over a range of positions, in double: part[p][C][2].
 * STRIP lanes of V channels side by side. */
template <int V>
__global__ void __launch_bounds__(THREADS) channel_partials(double *part, const bf16 *x, int64_t positions, int64_t C)
{
    enum { STRIP = 8, LINES = THREADS / STRIP };
    SMEM_ARRAY(double, room, THREADS *V * 2);
    const int tx = threadIdx.x % STRIP, ty = threadIdx.x / STRIP;
    const int64_t c = ((int64_t)blockIdx.x * STRIP + tx) * V;
    const int64_t per = (positions + gridDim.y - 1) / gridDim.y, from = per * blockIdx.y,
                  to = from + per < positions ? from + per : positions;
    double sum[V], square[V];
#pragma unroll
    for (int k = 0; k < V; k++)
        sum[k] = square[k] = 0.0;
    if (c < C)
        for (int64_t i = from + ty; i < to; i += LINES) {
            float v[V];
            load_each(v, x + i * C + c);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum[k] += v[k];
                square[k] += (double)v[k] * v[k];
            }
        }
#pragma unroll
    for (int k = 0; k < V; k++) {
        room[(2 * k) * THREADS + threadIdx.x] = sum[k];
        room[(2 * k + 1) * THREADS + threadIdx.x] = square[k];
    }
    __syncthreads();
    /* each thread: whole columns of the room, line by line */
    for (int at = threadIdx.x; at < STRIP * V * 2; at += THREADS) {
        const int lane = at % STRIP, which = at / STRIP;
        const int64_t channel = ((int64_t)blockIdx.x * STRIP + lane) * V + which / 2;
        double total = 0.0;
        for (int line = 0; line < LINES; line++)
            total += room[which * THREADS + line * STRIP + lane];
        if (channel < C)
            part[((int64_t)blockIdx.y * C + channel) * 2 + which % 2] = total;
    }
}

/* stats[group] = mean, rstd: one warp a group; lanes take parts in turn, then a fixed tree. */
__global__ void group_statistics(float *stats, const double *part, int parts, int64_t C, int64_t groups, double count,
                                 float eps)
{
    SMEM_ARRAY(double, room, 64);
    const int64_t group = blockIdx.x, per = C / groups;
    const int lane = threadIdx.x;
    double sum = 0.0, square = 0.0;
    for (int p = lane; p < parts; p += 32)
        for (int64_t c = group * per; c < (group + 1) * per; c++) {
            sum += part[((int64_t)p * C + c) * 2];
            square += part[((int64_t)p * C + c) * 2 + 1];
        }
    room[lane] = sum;
    room[32 + lane] = square;
    __syncthreads();
    if (lane == 0) {
        for (int k = 1; k < 32; k++) {
            sum += room[k];
            square += room[32 + k];
        }
        const double mean = sum / count, variance = square / count - mean * mean;
        stats[2 * group] = (float)mean;
        stats[2 * group + 1] = (float)(1.0 / sqrt((variance > 0.0 ? variance : 0.0) + (double)eps));
    }
}

struct Spatial {
    const bf16 *scale, *shift;
    int64_t Tz, h, w;
};

template <int V>
__global__ void __launch_bounds__(THREADS)
    groupnorm_apply(bf16 *y, const bf16 *x, const float *stats, Vec w, Vec b, Spatial z, int64_t T, int64_t H,
                    int64_t W, int64_t C, int64_t per, int silu)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= T * H * W * C)
        return;
    const int64_t position = i / C, c = i - position * C;
    float v[V], factor[V], term[V];
    load_each(v, x + i);
    load_each(factor, w, c);
    load_each(term, b, c);
    int64_t group = c / per, left = per - (c - group * per); /* channels of this group still to come */
#pragma unroll
    for (int k = 0; k < V; k++, left--) {
        if (left == 0) {
            group++;
            left = per;
        }
        v[k] = (v[k] - stats[2 * group]) * stats[2 * group + 1] * factor[k] + term[k];
    }
    if (z.scale) {
        const int64_t col = position % W, row = position / W % H, t = position / (W * H);
        const int64_t tz = T > 1 && T % 2 ? (t == 0 ? 0 : 1 + (t - 1) * (z.Tz - 1) / (T - 1)) : t * z.Tz / T;
        const int64_t at = ((tz * z.h + row * z.h / H) * z.w + col * z.w / W) * C + c;
        load_each(factor, z.scale + at);
        load_each(term, z.shift + at);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = v[k] * factor[k] + term[k];
    }
    if (silu) {
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] *= sigmoid(v[k]);
    }
    store_each(y + i, v);
}

/* Ranges of positions: at most GN_PARTS, few for few positions. */
static int group_parts(int64_t positions)
{
    return positions >= 64 * GN_PARTS ? (int)GN_PARTS : (int)((positions + 63) / 64);
}

static int groupnorm(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, int64_t groups,
                     double eps, const SpatialCond *cond, ActKind act, Err *err)
{
    Device *d = device_of(be);
    const int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3], positions = T * H * W;
    const int parts = group_parts(positions);
    const size_t part_bytes = (size_t)(parts * C * 2) * sizeof(double);
    Spatial z = {nullptr, nullptr, 0, 0, 0};
    char *room;
    if (act != ACT_NONE && act != ACT_SILU)
        return err_set(err, ERR_UNSUPPORTED, "groupnorm: only SiLU can follow it");
    DEVICE_TRY(device_scratch(d, part_bytes + (size_t)groups * 2 * sizeof(float), &room, err));
    double *part = (double *)room;
    float *stats = (float *)(room + part_bytes);
    if (cond)
        z = Spatial{(const bf16 *)cond->scale->data, (const bf16 *)cond->shift->data, cond->scale->dim[0],
                    cond->scale->dim[1], cond->scale->dim[2]};
    const bool wide = C % 8 == 0 && aligned16(vec_of(w).data, vec_of(b).data) &&
                      aligned16(x->data, y->data, z.scale, z.shift);
    auto run = [&](void (*sums)(double *, const bf16 *, int64_t, int64_t),
                   void (*apply)(bf16 *, const bf16 *, const float *, Vec, Vec, Spatial, int64_t, int64_t, int64_t,
                                 int64_t, int64_t, int),
                   int width) {
        LAUNCH((sums), dim3(blocks_for(C, 8 * width), (unsigned)parts), dim3(THREADS), 0, d->compute, part,
               (const bf16 *)x->data, positions, C);
        LAUNCH((group_statistics), dim3((unsigned)groups), dim3(32), 0, d->compute, stats, (const double *)part, parts,
               C, groups, (double)positions * (double)(C / groups), (float)eps);
        LAUNCH((apply), dim3(blocks_for(positions * C / width, THREADS)), dim3(THREADS), 0, d->compute, (bf16 *)y->data,
               (const bf16 *)x->data, (const float *)stats, vec_of(w), vec_of(b), z, T, H, W, C, C / groups,
               act == ACT_SILU);
    };
    if (wide)
        run(channel_partials<8>, groupnorm_apply<8>, 8);
    else
        run(channel_partials<1>, groupnorm_apply<1>, 1);
    return device_launched("groupnorm", err);
}

void device_groupnorm_table(OpsTable *t)
{
    t->groupnorm = groupnorm;
}
