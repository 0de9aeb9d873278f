/* Moving things: embedding rows, token rows, patches, boxes, tile seams, resampling by repetition
 * and mean. */
#include <math.h>
#include <string.h>
#include "common/ops/ref/ref.h"

static int embed_ref(Backend *be, const Tensor *y, const Tensor *table, const Tensor *ids, Err *err)
{
    (void)be;
    const int32_t *id = ids->data;
    int64_t n = tensor_count(ids), rows = table->dim[0], D = table->dim[1];
    for (int64_t i = 0; i < n; i++) {
        if (id[i] < 0 || id[i] >= rows)
            return err_set(err, ERR_FORMAT,
                           "op_embed: id %d at place %" PRId64 " is outside a table of %" PRId64 " rows", (int)id[i], i,
                           rows);
        for (int64_t d = 0; d < D; d++)
            ref_set(y, i * D + d, ref_get(table, id[i] * D + d));
    }
    return 0;
}

/* Rows x0.. of each sequence of x to rows y0.. of y, bit for bit. */
static int copy_rows_ref(Backend *be, const Tensor *y, int64_t y0, const Tensor *x, int64_t x0, int64_t n, Err *err)
{
    (void)be, (void)err;
    int64_t B = y->dim[0], row = y->dim[2] * dtype_size(y->dtype);
    for (int64_t b = 0; b < B; b++)
        memcpy((char *)y->data + (b * y->dim[1] + y0) * row, (const char *)x->data + (b * x->dim[1] + x0) * row,
               (size_t)(n * row));
    return 0;
}

static int add_rows_ref(Backend *be, const Tensor *x, int64_t first, const Tensor *table, Err *err)
{
    (void)be, (void)err;
    int64_t B = x->dim[0], S = x->dim[1], D = x->dim[2], n = table->dim[0];
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t d = 0; d < D; d++)
                ref_add_to(x, (b * S + first + i) * D + d, ref_get(table, i * D + d));
    return 0;
}

/* MODEL.md 3: feature = c p^2 + row p + column (channel slowest), tokens by frame, row,
 * column.  Copies towards the tokens, or back. */
static void move_patches(const Tensor *tokens, const Tensor *latents, int64_t p, int to_tokens)
{
    int64_t B = latents->dim[0], F = latents->dim[1], H = latents->dim[2], W = latents->dim[3], C = latents->dim[4];
    int64_t rows = H / p, columns = W / p, features = C * p * p;
    for (int64_t b = 0; b < B; b++)
        for (int64_t f = 0; f < F; f++)
            for (int64_t i = 0; i < H; i++)
                for (int64_t j = 0; j < W; j++)
                    for (int64_t c = 0; c < C; c++) {
                        int64_t token = ((b * F + f) * rows + i / p) * columns + j / p;
                        int64_t feature = (c * p + i % p) * p + j % p;
                        int64_t in_latents = (((b * F + f) * H + i) * W + j) * C + c;
                        int64_t in_tokens = token * features + feature;
                        if (to_tokens)
                            ref_set(tokens, in_tokens, ref_get(latents, in_latents));
                        else
                            ref_set(latents, in_latents, ref_get(tokens, in_tokens));
                    }
}

static int patchify_ref(Backend *be, const Tensor *tokens, const Tensor *latents, int64_t p, Err *err)
{
    (void)be, (void)err;
    move_patches(tokens, latents, p, 1);
    return 0;
}

static int unpatchify_ref(Backend *be, const Tensor *latents, const Tensor *tokens, int64_t p, Err *err)
{
    (void)be, (void)err;
    move_patches(tokens, latents, p, 0);
    return 0;
}

static int64_t at4(const Tensor *x, int64_t t, int64_t i, int64_t j, int64_t c)
{
    return ((t * x->dim[1] + i) * x->dim[2] + j) * x->dim[3] + c;
}

static int copy_box_ref(Backend *be, const Tensor *dst, const int64_t d[4], const Tensor *src, const int64_t s[4],
                        const int64_t n[4], Err *err)
{
    (void)be, (void)err;
    for (int64_t t = 0; t < n[0]; t++)
        for (int64_t i = 0; i < n[1]; i++)
            for (int64_t j = 0; j < n[2]; j++)
                for (int64_t c = 0; c < n[3]; c++)
                    ref_set(dst, at4(dst, d[0] + t, d[1] + i, d[2] + j, d[3] + c),
                            ref_get(src, at4(src, s[0] + t, s[1] + i, s[2] + j, s[3] + c)));
    return 0;
}

/* MODEL.md 2: the first `extent` rows (axis 1) or columns (axis 2) of cur fade in from the
 * last ones of prev. */
static int blend_ref(Backend *be, const Tensor *cur, const Tensor *prev, int axis, int64_t extent, Err *err)
{
    (void)be, (void)err;
    int64_t H = axis == 1 ? extent : cur->dim[1], W = axis == 2 ? extent : cur->dim[2], back = prev->dim[axis] - extent;
    for (int64_t t = 0; t < cur->dim[0]; t++)
        for (int64_t i = 0; i < H; i++)
            for (int64_t j = 0; j < W; j++)
                for (int64_t c = 0; c < cur->dim[3]; c++) {
                    double share = (double)(axis == 1 ? i : j) / (double)extent;
                    int64_t here = at4(cur, t, i, j, c),
                            there = at4(prev, t, axis == 1 ? back + i : i, axis == 2 ? back + j : j, c);
                    ref_set(cur, here, ref_get(prev, there) * (1 - share) + ref_get(cur, here) * share);
                }
    return 0;
}

/* MODEL.md 2, the upsampler: nearest x2 in space; in time, T even: each frame twice; T odd:
 * frame 0 once. */
static int upsample_ref(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    (void)be, (void)err;
    int64_t odd = x->dim[0] % 2;
    for (int64_t t = 0; t < y->dim[0]; t++)
        for (int64_t i = 0; i < y->dim[1]; i++)
            for (int64_t j = 0; j < y->dim[2]; j++)
                for (int64_t c = 0; c < y->dim[3]; c++)
                    ref_set(y, at4(y, t, i, j, c),
                            ref_get(x, at4(x, double_time ? (t + odd) / 2 : t, i / 2, j / 2, c)));
    return 0;
}

/* MODEL.md 2, the downsampler: mean of frames (0,1),(2,3).. for T even; T odd: frame 0, then
 * (1,2),(3,4).. */
static int pool_time_ref(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    (void)be, (void)err;
    int64_t odd = x->dim[0] % 2, frame = tensor_count(x) / x->dim[0];
    for (int64_t t = 0; t < y->dim[0]; t++)
        for (int64_t i = 0; i < frame; i++) {
            int64_t second = 2 * t + 1 - odd, first = odd && t == 0 ? second : second - 1;
            ref_set(y, t * frame + i, 0.5 * (ref_get(x, first * frame + i) + ref_get(x, second * frame + i)));
        }
    return 0;
}

/* The largest value or the mean over the part of a window that lies in x. */
static double window(const Tensor *x, const PoolParams *p, const int64_t at[3], int64_t c)
{
    double sum = 0, most = -INFINITY;
    int64_t n = 0, from[3], to[3];
    for (int a = 0; a < 3; a++) {
        int64_t first = at[a] * p->stride[a] - p->before[a], end = first + p->kernel[a];
        from[a] = first < 0 ? 0 : first;
        to[a] = end > x->dim[a] ? x->dim[a] : end;
    }
    for (int64_t t = from[0]; t < to[0]; t++)
        for (int64_t i = from[1]; i < to[1]; i++)
            for (int64_t j = from[2]; j < to[2]; j++, n++) {
                double value = ref_get(x, at4(x, t, i, j, c));
                sum += value;
                most = value > most || isnan(value) ? value : most;
            }
    return p->kind == POOL_MAX ? most : sum / (double)n;
}

static int pool_ref(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err)
{
    (void)be, (void)err;
    int64_t C = y->dim[3], n = tensor_count(y) / C;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at[3] = {i / (y->dim[1] * y->dim[2]), i / y->dim[2] % y->dim[1], i % y->dim[2]};
        for (int64_t c = 0; c < C; c++)
            ref_set(y, i * C + c, window(x, p, at, c));
    }
    return 0;
}

void ops_ref_move(OpsTable *out)
{
    out->embed = embed_ref;
    out->copy_rows = copy_rows_ref;
    out->add_rows = add_rows_ref;
    out->patchify = patchify_ref;
    out->unpatchify = unpatchify_ref;
    out->copy_box = copy_box_ref;
    out->blend = blend_ref;
    out->upsample = upsample_ref;
    out->pool_time = pool_time_ref;
    out->pool = pool_ref;
}
