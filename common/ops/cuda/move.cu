/* Gathers, row and box copies, patches, tile seams: pure moves, exact. */
#include "common/ops/cuda/device.h"

enum { THREADS = 256 };

/* ---- embedding ------------------------------------------------------------------------------- */

/* bad[0] becomes 1 + position of some id outside the table. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    gather(T *y, Vec table, const int32_t *ids, int64_t n, int64_t D, int64_t rows, int *bad)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * D)
        return;
    const int64_t row = i / D;
    const int32_t id = ids[row];
    if (id < 0 || id >= rows) {
        *bad = (int)row + 1;
        store(y, i, 0.0f);
    } else {
        store(y, i, vec_get(table, (int64_t)id * D + (i - row * D)));
    }
}

static int embed(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    Device *d = device_of(be);
    const int64_t n = tensor_count(ids), D = table->dim[1];
    char *room;
    int bad = 0;
    DEVICE_TRY(device_scratch(d, sizeof bad, &room, err));
    DEVICE_TRY(device_check(cudaMemsetAsync(room, 0, sizeof bad, d->compute), "embed", err));
    LAUNCH((gather<bf16>), dim3(blocks_for(n * D, THREADS)), dim3(THREADS), 0, d->compute, (bf16 *)y->data,
           vec_of(table), (const int32_t *)ids->data, n, D, table->dim[0], (int *)room);
    DEVICE_TRY(device_launched("embed", err));
    DEVICE_TRY(be->download(be, &bad, room, sizeof bad, err));
    if (bad)
        return err_set(err, ERR_FORMAT, "embed: id number %d lies outside the table of %" PRId64 " rows", bad - 1,
                       table->dim[0]);
    return 0;
}

/* ---- rows of token sequences ----------------------------------------------------------------- */

template <class T>
__global__ void __launch_bounds__(THREADS)
    rows_copy(T *y, const T *x, int64_t n, int64_t D, int64_t y_rows, int64_t y0, int64_t x_rows, int64_t x0)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, b = blockIdx.y;
    if (i < n * D)
        y[(b * y_rows + y0) * D + i] = x[(b * x_rows + x0) * D + i];
}

static int copy_rows(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    int64_t D = y->dim[2];
    cudaStream_t s = device_of(be)->compute;
    if (n == 0)
        return 0;
    bool wide = D % 8 == 0 && aligned16(y->data) && aligned16(x->data);
    int64_t count = wide ? n * D / 8 : n * D;
    dim3 grid(blocks_for(count, THREADS), (unsigned)y->dim[0]);
    if (wide)
        LAUNCH((rows_copy<uint4>), grid, dim3(THREADS), 0, s, (uint4 *)y->data, (const uint4 *)x->data, n, D / 8,
               y->dim[1], y0, x->dim[1], x0);
    else
        LAUNCH((rows_copy<bf16>), grid, dim3(THREADS), 0, s, (bf16 *)y->data, (const bf16 *)x->data, n, D, y->dim[1],
               y0, x->dim[1], x0);
    return device_launched("copy_rows", err);
}

template <int V>
__global__ void __launch_bounds__(THREADS)
    rows_add(bf16 *x, const float *table, int64_t n, int64_t D, int64_t rows, int64_t first)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V, b = blockIdx.y;
    if (i >= n * D)
        return;
    bf16 *at = x + (b * rows + first) * D + i;
    float v[V], add[V];
    load_each(v, (const bf16 *)at);
    load_each(add, table + i);
#pragma unroll
    for (int k = 0; k < V; k++)
        v[k] += add[k];
    store_each(at, v);
}

static int add_rows(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    const int64_t n = table->dim[0], D = table->dim[1];
    const bool wide = D % 8 == 0 && aligned16(x->data, table->data);
    auto run = [&](void (*kernel)(bf16 *, const float *, int64_t, int64_t, int64_t, int64_t), int width) {
        LAUNCH((kernel), dim3(blocks_for(n * D / width, THREADS), (unsigned)x->dim[0]), dim3(THREADS), 0,
               device_of(be)->compute, (bf16 *)x->data, (const float *)table->data, n, D, x->dim[1], first);
    };
    run(wide ? rows_add<8> : rows_add<1>, wide ? 8 : 1);
    return device_launched("add_rows", err);
}

/* ---- patches --------------------------------------------------------------------------------- */

/* One thread a latent element; to_tokens 1: tokens <- latents, else latents <- tokens. */
__global__ void __launch_bounds__(THREADS)
    patches(bf16 *tokens, bf16 *latents, int64_t n, int64_t H, int64_t W, int64_t C, int64_t p, int to_tokens)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    /* frame: over batch and time */
    const int64_t c = i % C, w = i / C % W, h = i / (C * W) % H, frame = i / (C * W * H);
    const int64_t token = (frame * (H / p) + h / p) * (W / p) + w / p,
                  at = token * C * p * p + c * p * p + h % p * p + w % p;
    if (to_tokens)
        tokens[at] = latents[i];
    else
        latents[i] = tokens[at];
}

static int launch_patches(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, int to_tokens, Err *err)
{
    const int64_t n = tensor_count(latents);
    LAUNCH((patches), dim3(blocks_for(n, THREADS)), dim3(THREADS), 0, device_of(be)->compute, (bf16 *)tokens->data,
           (bf16 *)latents->data, n, latents->dim[2], latents->dim[3], latents->dim[4], p, to_tokens);
    return device_launched("patches", err);
}
static int patchify(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err)
{
    return launch_patches(be, tokens, latents, p, 1, err);
}
static int unpatchify(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    return launch_patches(be, tokens, latents, p, 0, err);
}

/* ---- boxes and seams ------------------------------------------------------------------------- */

struct Box {
    int64_t d[4], s[4], n[4], d_dim[4], s_dim[4];
};

__global__ void __launch_bounds__(THREADS) box_copy(void *dst, int dtype, Vec src, Box b, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    const int64_t c = i % b.n[3], w = i / b.n[3] % b.n[2], h = i / (b.n[3] * b.n[2]) % b.n[1],
                  t = i / (b.n[3] * b.n[2] * b.n[1]);
    const int64_t to = ((b.d[0] + t) * b.d_dim[1] + b.d[1] + h) * b.d_dim[2] + b.d[2] + w,
                  from = ((b.s[0] + t) * b.s_dim[1] + b.s[1] + h) * b.s_dim[2] + b.s[2] + w;
    any_set(dst, dtype, to * b.d_dim[3] + b.d[3] + c, vec_get(src, from * b.s_dim[3] + b.s[3] + c));
}

static int copy_box(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                    const int64_t n[4], Err *err)
{
    Box b;
    const int64_t count = n[0] * n[1] * n[2] * n[3];
    DEVICE_TRY(device_check_kept("copy_box", dst, err));
    DEVICE_TRY(device_check_kept("copy_box", src, err));
    if (count == 0)
        return 0;
    for (int i = 0; i < 4; i++)
        b.d[i] = d[i], b.s[i] = s[i], b.n[i] = n[i], b.d_dim[i] = dst->dim[i], b.s_dim[i] = src->dim[i];
    LAUNCH((box_copy), dim3(blocks_for(count, THREADS)), dim3(THREADS), 0, device_of(be)->compute, dst->data,
           (int)dst->dtype, vec_of(src), b, count);
    return device_launched("copy_box", err);
}

__global__ void __launch_bounds__(THREADS)
    seam(bf16 *cur, const bf16 *prev, int64_t outer, int64_t inner, int64_t cur_n, int64_t prev_n, int64_t extent)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= outer * extent * inner)
        return;
    const int64_t k = i % inner, e = i / inner % extent, o = i / (inner * extent), at = (o * cur_n + e) * inner + k;
    const float f = (float)e / (float)extent;
    store(cur, at, load(prev, (o * prev_n + prev_n - extent + e) * inner + k) * (1.0f - f) + load(cur, at) * f);
}

static int blend(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < axis; i++)
        outer *= cur->dim[i];
    for (int i = axis + 1; i < 4; i++)
        inner *= cur->dim[i];
    if (extent == 0)
        return 0;
    LAUNCH((seam), dim3(blocks_for(outer * extent * inner, THREADS)), dim3(THREADS), 0, device_of(be)->compute,
           (bf16 *)cur->data, (const bf16 *)prev->data, outer, inner, cur->dim[axis], prev->dim[axis], extent);
    return device_launched("blend", err);
}

void device_move_table(OpsTable *t)
{
    t->embed = embed;
    t->copy_rows = copy_rows;
    t->add_rows = add_rows;
    t->patchify = patchify;
    t->unpatchify = unpatchify;
    t->copy_box = copy_box;
    t->blend = blend;
}
