/* Causal convolution.  A 1x1x1 kernel is a product straight from x; Winograd's form (winograd.c) is taken where
 * that fits, dot products (conv_few.c) where there are few output channels, and else implicit GEMM: for
 * PIXELS output pixels at a time, the inputs under a few taps (time, row) are gathered into a panel in
 * thread scratch; one sgemm multiplies the panel with the kernel's matching columns and adds the
 * product to the output.  The panel is sized to stay in a core's second-level cache.  Where there are
 * few pixels, several threads gather the same panel, each for SLICE output channels. */
#include "common/ops/cpu/conv.h"

enum { PIXELS = 256, PANEL_WIDTH = 1152, SLICE = 128, FEW_BLOCKS = 8 }; /* the panel holds whole runs of kw * Ci */

void conv_gather_run(const Conv *c, float *to, const float *row, int64_t left)
{
    if (left >= 0 && left + c->kw <= c->W) {
        memcpy(to, row + left * c->ci, (size_t)c->run * sizeof *to);
        return;
    }
    for (int64_t d = 0; d < c->kw; d++, to += c->ci) {
        if (left + d >= 0 && left + d < c->W)
            memcpy(to, row + (left + d) * c->ci, (size_t)c->ci * sizeof *to);
        else
            memset(to, 0, (size_t)c->ci * sizeof *to);
    }
}

/* panel[n, taps * run]: inputs of output pixels [first, first+n), counted over all frames, under taps
 * [tap0, tap0+taps). */
static void gather(const Conv *c, float *panel, int64_t first, int64_t n, int64_t tap0, int64_t taps)
{
    int64_t width = taps * c->run;
    for (int64_t k = 0; k < taps; k++) {
        int64_t dt = (tap0 + k) / c->kh, dh = (tap0 + k) % c->kh;
        int64_t t = first / (c->ho * c->wo) + dt - (c->kt - 1), i = first / c->wo % c->ho, j = first % c->wo;
        const float *frame = conv_frame(c, t);
        for (int64_t q = 0; q < n; q++) {
            int64_t row = i * c->p->stride + dh - c->p->top;
            float *to = panel + q * width + k * c->run;
            if (row >= 0 && row < c->H)
                conv_gather_run(c, to, frame + row * c->W * c->ci, j * c->p->stride - c->p->left);
            else
                memset(to, 0, (size_t)c->run * sizeof *to);
            if (++j == c->wo) {
                j = 0;
                if (++i == c->ho) {
                    i = 0;
                    frame = conv_frame(c, ++t);
                }
            }
        }
    }
}

static void init_rows(const Conv *c, float *y, int64_t n, int64_t o, int64_t wide)
{
    for (int64_t q = 0; q < n; q++) {
        float *restrict row = y + q * c->co;
        if (c->p->add)
            for (int64_t k = 0; k < wide; k++)
                row[k] += c->b[o + k];
        else
            memcpy(row, c->b + o, (size_t)wide * sizeof *row);
    }
}

/* Output channels [o, o + wide) of PIXELS pixels from `first` on. */
static void conv_block(const Conv *c, int64_t first, int64_t o, int64_t wide, float *panel)
{
    int64_t n = cpu_min(PIXELS, c->T * c->ho * c->wo - first);
    float *y = c->y + first * c->co + o;
    init_rows(c, y, n, o, wide);
    for (int64_t tap = 0; tap < c->taps; tap += c->step) {
        int64_t taps = cpu_min(c->step, c->taps - tap), width = taps * c->run;
        gather(c, panel, first, n, tap, taps);
        cpu_sgemm(0, 1, n, wide, width, 1.0f, panel, width, c->w + o * c->depth + tap * c->run, c->depth, 1.0f, y,
                  c->co);
    }
}

const float *conv_kernel(Backend *be, float *room, const Tensor *w)
{
    int64_t n = tensor_count(w);
    if (w->dtype == DT_F32)
        return w->data;
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_BLOCK)
        cpu_weight(w, i, cpu_min(CPU_BLOCK, n - i), room + i);
    return room;
}

static int conv_cpu(Backend *be, const Tensor *y, const Tensor *x, const Tensor *prefix, const Tensor *w,
                    const Tensor *b, const ConvParams *p, Err *err)
{
    const int64_t *xd = x->dim, *yd = y->dim, *wd = w->dim;
    Conv c = {.T = xd[0],
              .H = xd[1],
              .W = xd[2],
              .ci = xd[3],
              .ho = yd[1],
              .wo = yd[2],
              .co = yd[3],
              .kt = wd[1],
              .kh = wd[2],
              .kw = wd[3],
              .x = x->data,
              .prefix = prefix ? prefix->data : NULL,
              .y = y->data,
              .p = p};
    c.run = c.kw * c.ci;
    c.taps = c.kt * c.kh;
    c.depth = c.taps * c.run;
    c.step = cpu_max(1, cpu_min(c.taps, PANEL_WIDTH / c.run));
    if (c.taps == 1 && c.kw == 1 && p->stride == 1 && p->top + p->bottom + p->left + p->right == 0) {
        CpuProduct whole = {.m = c.T * c.H * c.W,
                            .n = c.co,
                            .k = c.ci,
                            .a = c.x,
                            .lda = c.ci,
                            .b = w->data,
                            .b_type = w->dtype,
                            .ldb = c.ci,
                            .tb = 1,
                            .c = c.y,
                            .ldc = c.co,
                            .bias = b,
                            .keep = p->add};
        return cpu_product(be, &whole, err);
    }
    if (!be->direct_conv && winograd_fits(&c))
        return winograd_conv(be, &c, w, b, err);
    int64_t kernel = w->dtype == DT_F32 ? 0 : c.co * c.depth;
    CpuScratch s;
    int rc = cpu_scratch(be, (kernel + c.co) * (int64_t)sizeof(float), PIXELS * c.step * c.run * (int64_t)sizeof(float),
                         &s, err);
    if (rc < 0)
        return rc;
    c.w = conv_kernel(be, s.shared, w);
    c.b = cpu_weight(b, 0, c.co, (float *)s.shared + kernel);
    if (conv_few_fits(&c)) {
        conv_few(be, &c, &s);
        return 0;
    }
    int64_t blocks = cpu_ceil(c.T * c.ho * c.wo, PIXELS), slice = blocks < FEW_BLOCKS ? SLICE : c.co;
    int64_t slices = cpu_ceil(c.co, slice);
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(y) * c.depth / 32)) schedule(dynamic, 1)
    for (int64_t i = 0; i < blocks * slices; i++) {
        int64_t o = i % slices * slice;
        conv_block(&c, i / slices * PIXELS, o, cpu_min(slice, c.co - o), cpu_own(&s));
    }
    return 0;
}

/* ---- resampling ------------------------------------------------------------------------------ */

static int upsample_cpu(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    (void)err;
    int64_t T = x->dim[0], H = x->dim[1], W = x->dim[2], C = x->dim[3], rows = y->dim[0] * 2 * H;
    int doubled = double_time && T > 1;
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(y))) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t t = r / (2 * H), i = r % (2 * H) / 2;
        int64_t from_t = !doubled ? t : T % 2 == 0 ? t / 2 : (t + 1) / 2;
        const float *from = (const float *)x->data + (from_t * H + i) * W * C;
        float *to = (float *)y->data + r * 2 * W * C;
        for (int64_t j = 0; j < W; j++, from += C, to += 2 * C) {
            memcpy(to, from, (size_t)C * sizeof *to);
            memcpy(to + C, from, (size_t)C * sizeof *to);
        }
    }
    return 0;
}

static int pool_time_cpu(Backend *be, const Tensor *y, const Tensor *x, Err *err)
{
    (void)err;
    int64_t row = x->dim[2] * x->dim[3], frame = x->dim[1] * row, rows = y->dim[0] * x->dim[1];
    int odd = x->dim[0] % 2 != 0;
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(x))) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int64_t t = r / x->dim[1], i = r % x->dim[1], from_t = odd ? cpu_max(0, 2 * t - 1) : 2 * t;
        const float *restrict a = (const float *)x->data + from_t * frame + i * row;
        const float *restrict b = odd && t == 0 ? a : a + frame;
        float *restrict to = (float *)y->data + r * row;
        for (int64_t c = 0; c < row; c++)
            to[c] = 0.5f * (a[c] + b[c]);
    }
    return 0;
}

/* One output pixel: the channels of every input pixel under the window. */
static void pool_pixel(float *restrict y, const Tensor *x, const PoolParams *p, const int64_t at[3])
{
    const int64_t *d = x->dim, C = d[3];
    int64_t from[3], to[3], n = 1;
    for (int a = 0; a < 3; a++) {
        int64_t first = at[a] * p->stride[a] - p->before[a];
        from[a] = cpu_max(first, 0);
        to[a] = cpu_min(first + p->kernel[a], d[a]);
        n *= to[a] - from[a];
    }
    int begun = 0;
    for (int64_t t = from[0]; t < to[0]; t++)
        for (int64_t i = from[1]; i < to[1]; i++)
            for (int64_t j = from[2]; j < to[2]; j++, begun = 1) {
                const float *restrict v = (const float *)x->data + ((t * d[1] + i) * d[2] + j) * C;
                if (!begun)
                    memcpy(y, v, (size_t)C * sizeof *y);
                else if (p->kind == POOL_MEAN)
                    for (int64_t c = 0; c < C; c++)
                        y[c] += v[c];
                else
                    for (int64_t c = 0; c < C; c++)
                        y[c] = y[c] > v[c] ? y[c] : v[c];
            }
    for (int64_t c = 0; p->kind == POOL_MEAN && c < C; c++)
        y[c] /= (float)n;
}

static int pool_cpu(Backend *be, const Tensor *y, const Tensor *x, const PoolParams *p, Err *err)
{
    (void)err;
    int64_t rows = y->dim[0] * y->dim[1], window = p->kernel[0] * p->kernel[1] * p->kernel[2];
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(y) * window)) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < y->dim[2]; j++) {
            const int64_t at[3] = {r / y->dim[1], r % y->dim[1], j};
            pool_pixel((float *)y->data + (r * y->dim[2] + j) * y->dim[3], x, p, at);
        }
    return 0;
}

void cpu_table_conv(OpsTable *t)
{
    t->pool = pool_cpu;
    t->conv = conv_cpu;
    t->upsample = upsample_cpu;
    t->pool_time = pool_time_cpu;
}
