/* Matrix products on a grid of output tiles, each tile one single-threaded sgemm (or one a slice of
 * k where the weights are half
 * precision: the slice is converted into thread scratch first).  A few rows only, as in time
 * embeddings and modulations, is a matter of reading the weights once: those go through loops of
 * their own. */
#include "common/ops/cpu/cpu.h"

#include <limits.h>

enum {
    TILE_M = 384,
    TILE_N = 512,
    TILE_LEAST = 64,
    TILES_WANTED = 16,
    SLICE_K = 2048, /* of half-precision weights at a time: 512 * 2048 floats of scratch */
    FEW_ROWS = 4,
    FEW_COLUMNS = 256 /* a piece of a row in the loops for few rows */
};

/* Tile height (width): near `most`, a multiple of 16, equal pieces. */
static int64_t even_pieces(int64_t size, int64_t most)
{
    int64_t piece = cpu_ceil(size, cpu_ceil(size, most));
    return cpu_min(size, cpu_ceil(piece, 16) * 16);
}

static void choose_tiles(int64_t m, int64_t n, int64_t *tile_m, int64_t *tile_n)
{
    int64_t tm = TILE_M, tn = TILE_N;
    while (cpu_ceil(m, tm) * cpu_ceil(n, tn) < TILES_WANTED && (tm > TILE_LEAST || tn > TILE_LEAST)) {
        if (tn > TILE_LEAST && (tn >= tm || tm <= TILE_LEAST))
            tn /= 2;
        else
            tm = cpu_max(tm / 2, TILE_LEAST);
    }
    *tile_m = even_pieces(m, tm);
    *tile_n = even_pieces(n, tn);
}

/* What C holds before the products are added. */
static void init_tile(const CpuProduct *p, int64_t m0, int64_t m, int64_t n0, int64_t n, float *room)
{
    if (p->keep && !p->bias)
        return;
    const float *bias = p->bias ? cpu_weight(p->bias, n0, n, room) : NULL;
    for (int64_t i = 0; i < m; i++) {
        float *row = (float *)p->c + (m0 + i) * p->ldc + n0;
        if (!bias)
            memset(row, 0, (size_t)n * sizeof *row);
        else if (!p->keep)
            memcpy(row, bias, (size_t)n * sizeof *row);
        else
            for (int64_t j = 0; j < n; j++)
                row[j] += bias[j];
    }
}

static void convert_slice(const CpuProduct *p, int64_t k0, int64_t k, int64_t n0, int64_t n, float *room)
{
    const uint16_t *b = p->b;
    int64_t rows = p->tb ? n : k, columns = p->tb ? k : n;
    const uint16_t *from = p->tb ? b + n0 * p->ldb + k0 : b + k0 * p->ldb + n0;
    for (int64_t i = 0; i < rows; i++)
        cpu_to_f32(room + i * columns, from + i * p->ldb, p->b_type, columns);
}

/* A tile of a BF16 matrix: its sums in room, then added. */
static void half_tile(const CpuProduct *p, int64_t m0, int64_t m, int64_t n0, int64_t n, float *room)
{
    const Tensor c = tensor_of(p->c, DT_BF16, 1, p->m * p->ldc);
    const float *b = (const float *)p->b + (p->tb ? n0 * p->ldb : n0);
    cpu_sgemm(p->ta, p->tb, m, n, p->k, 1.0f, p->a + (p->ta ? m0 : m0 * p->lda), p->lda, b, p->ldb, 0.0f, room, n);
    for (int64_t i = 0; i < m; i++)
        cpu_add_to(&c, (m0 + i) * p->ldc + n0, room + i * n, n);
}

static void one_tile(const CpuProduct *p, int64_t m0, int64_t m, int64_t n0, int64_t n, float *room)
{
    if (p->c_type == DT_BF16) {
        half_tile(p, m0, m, n0, n, room);
        return;
    }
    const float *a = p->a + (p->ta ? m0 : m0 * p->lda);
    float *c = (float *)p->c + m0 * p->ldc + n0;
    init_tile(p, m0, m, n0, n, room);
    if (p->b_type == DT_F32) {
        const float *b = (const float *)p->b + (p->tb ? n0 * p->ldb : n0);
        cpu_sgemm(p->ta, p->tb, m, n, p->k, 1.0f, a, p->lda, b, p->ldb, 1.0f, c, p->ldc);
        return;
    }
    for (int64_t k0 = 0; k0 < p->k; k0 += SLICE_K) {
        int64_t k = cpu_min(SLICE_K, p->k - k0);
        convert_slice(p, k0, k, n0, n, room);
        cpu_sgemm(p->ta, p->tb, m, n, k, 1.0f, a + (p->ta ? k0 * p->lda : k0), p->lda, room, p->tb ? k : n, 1.0f, c,
                  p->ldc);
    }
}

int cpu_product(Backend *be, const CpuProduct *p, Err *err)
{
    if (p->m > INT_MAX || p->n > INT_MAX || p->k > INT_MAX || p->lda > INT_MAX || p->ldb > INT_MAX || p->ldc > INT_MAX)
        return err_set(err, ERR_LIMIT,
                       "a product of %" PRId64 " x %" PRId64 " x %" PRId64 " passes BLAS's 32-bit sizes", p->m, p->n,
                       p->k);
    int64_t tm, tn;
    choose_tiles(p->m, p->n, &tm, &tn);
    int64_t across = cpu_ceil(p->n, tn), tiles = cpu_ceil(p->m, tm) * across;
    int64_t room = p->c_type == DT_BF16 ? tm * tn : p->b_type != DT_F32 ? tn * cpu_min(p->k, SLICE_K) : 0;
    CpuScratch s;
    int rc = cpu_scratch(be, 0, cpu_max(room, tn) * (int64_t)sizeof(float), &s, err);
    if (rc < 0)
        return rc;
#pragma omp parallel for num_threads(cpu_threads(be, p->m * p->n * p->k / 32)) schedule(dynamic, 1)
    for (int64_t i = 0; i < tiles; i++) {
        int64_t m0 = i / across * tm, n0 = i % across * tn;
        one_tile(p, m0, cpu_min(tm, p->m - m0), n0, cpu_min(tn, p->n - n0), cpu_own(&s));
    }
    return 0;
}

/* ---- few rows -------------------------------------------------------------------------------- */

static float dot(const float *a, const float *b, int64_t n)
{
    double total = 0;
    for (int64_t i0 = 0; i0 < n; i0 += FEW_COLUMNS) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = i0; i < cpu_min(n, i0 + FEW_COLUMNS); i++)
            sum += a[i] * b[i];
        total += (double)sum;
    }
    return (float)total;
}

static void axpy(float *restrict y, float a, const float *restrict x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static int few_forward(Backend *be, float *y, const float *x, const Tensor *w, const Tensor *bias, int64_t m, Err *err)
{
    int64_t n = w->dim[0], k = w->dim[1];
    CpuScratch s;
    int rc = cpu_scratch(be, 0, cpu_max(k, 1) * (int64_t)sizeof(float), &s, err);
    if (rc < 0)
        return rc;
#pragma omp parallel for num_threads(cpu_threads(be, n *k)) schedule(static)
    for (int64_t j = 0; j < n; j++) {
        const float *row = cpu_weight(w, j * k, k, cpu_own(&s));
        float room, start = bias ? *cpu_weight(bias, j, 1, &room) : 0.0f;
        for (int64_t i = 0; i < m; i++)
            y[i * n + j] = start + dot(x + i * k, row, k);
    }
    return 0;
}

static void few_backward_x(Backend *be, float *gx, const float *gy, const Tensor *w, int64_t m, int add)
{
    int64_t n = w->dim[0], k = w->dim[1];
#pragma omp parallel for num_threads(cpu_threads(be, n *k)) schedule(static)
    for (int64_t k0 = 0; k0 < k; k0 += FEW_COLUMNS) {
        int64_t len = cpu_min(FEW_COLUMNS, k - k0);
        float sum[FEW_ROWS][FEW_COLUMNS] = {{0}}, room[FEW_COLUMNS];
        for (int64_t j = 0; j < n; j++) {
            const float *part = cpu_weight(w, j * k + k0, len, room);
            for (int64_t i = 0; i < m; i++)
                axpy(sum[i], gy[i * n + j], part, len);
        }
        for (int64_t i = 0; i < m; i++) {
            float *out = gx + i * k + k0;
            for (int64_t c = 0; c < len; c++)
                out[c] = add ? out[c] + sum[i][c] : sum[i][c];
        }
    }
}

static int few_backward_w(Backend *be, const Tensor *gw, const float *gy, const float *x, int64_t m, Err *err)
{
    int64_t n = gw->dim[0], k = gw->dim[1];
    CpuScratch s;
    int rc = cpu_scratch(be, 0, k * (int64_t)sizeof(float), &s, err);
    if (rc < 0)
        return rc;
#pragma omp parallel for num_threads(cpu_threads(be, n *k)) schedule(static)
    for (int64_t j = 0; j < n; j++) {
        float *row = gw->dtype == DT_F32 ? (float *)gw->data + j * k
                                         : memset(cpu_own(&s), 0, (size_t)k * sizeof(float));
        for (int64_t i = 0; i < m; i++)
            axpy(row, gy[i * n + j], x + i * k, k);
        if (gw->dtype != DT_F32)
            cpu_add_to(gw, j * k, row, k);
    }
    return 0;
}

/* gb += column sums of gy [m,n]: row blocks in double, then their sums in order. */
static int add_column_sums(Backend *be, const Tensor *gb, const float *gy, int64_t m, int64_t n, Err *err)
{
    int64_t rows = cpu_row_block(m), blocks = cpu_ceil(m, rows);
    CpuScratch s;
    int rc = cpu_scratch(be, blocks * n * (int64_t)sizeof(double), 0, &s, err);
    if (rc < 0)
        return rc;
    double *partial = s.shared;
#pragma omp parallel for num_threads(cpu_threads(be, m *n)) schedule(static)
    for (int64_t i = 0; i < blocks; i++) {
        double *sum = partial + i * n;
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t r = i * rows; r < cpu_min(m, (i + 1) * rows); r++) {
            const float *row = gy + r * n;
#pragma omp simd
            for (int64_t c = 0; c < n; c++)
                sum[c] += (double)row[c];
        }
    }
    for (int64_t c = 0; c < n; c++) {
        double sum = 0;
        for (int64_t i = 0; i < blocks; i++)
            sum += partial[i * n + c];
        cpu_add_to(gb, c, &(float){(float)sum}, 1);
    }
    return 0;
}

/* ---- entries --------------------------------------------------------------------------------- */

static int linear_cpu(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, Err *err)
{
    int64_t n = w->dim[0], k = w->dim[1], m = k > 0 ? tensor_count(x) / k : 0;
    if (m <= FEW_ROWS)
        return few_forward(be, y->data, x->data, w, b, m, err);
    CpuProduct p = {.m = m,
                    .n = n,
                    .k = k,
                    .a = x->data,
                    .lda = k,
                    .b = w->data,
                    .b_type = w->dtype,
                    .ldb = k,
                    .tb = 1,
                    .c = y->data,
                    .ldc = n,
                    .bias = b};
    return cpu_product(be, &p, err);
}

static int linear_backward_x_cpu(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int add, Err *err)
{
    int64_t n = w->dim[0], k = w->dim[1], m = n > 0 ? tensor_count(gy) / n : 0;
    if (m <= FEW_ROWS) {
        few_backward_x(be, gx->data, gy->data, w, m, add);
        return 0;
    }
    CpuProduct p = {.m = m,
                    .n = k,
                    .k = n,
                    .a = gy->data,
                    .lda = n,
                    .b = w->data,
                    .b_type = w->dtype,
                    .ldb = k,
                    .c = gx->data,
                    .ldc = k,
                    .keep = add};
    return cpu_product(be, &p, err);
}

static int linear_backward_w_cpu(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x,
                                 Err *err)
{
    int64_t n = gy->dim[gy->rank - 1], k = x->dim[x->rank - 1], m = n > 0 ? tensor_count(gy) / n : 0;
    int rc = gb ? add_column_sums(be, gb, gy->data, m, n, err) : 0;
    if (rc < 0 || !gw)
        return rc;
    if (m <= FEW_ROWS)
        return few_backward_w(be, gw, gy->data, x->data, m, err);
    CpuProduct p = {.m = n,
                    .n = k,
                    .k = m,
                    .a = gy->data,
                    .lda = n,
                    .ta = 1,
                    .b = x->data,
                    .b_type = DT_F32,
                    .ldb = k,
                    .c = gw->data,
                    .c_type = gw->dtype,
                    .ldc = k,
                    .keep = 1};
    return cpu_product(be, &p, err);
}

void cpu_table_linear(OpsTable *t)
{
    t->linear = linear_cpu;
    t->linear_backward_x = linear_backward_x_cpu;
    t->linear_backward_w = linear_backward_w_cpu;
}
