/* Norms over rows, fused with the modulation: weight, bias, scale and shift of a segment (the text
 * rows or the video rows of one sequence) are folded into one factor and one offset a column, so a
 * row is read once and written once.  Column sums (gradients of weights and modulation) are taken
 * by pieces of rows within a segment, in double, then added piece by piece. */
#include "common/ops/cpu/cpu.h"

enum { COLUMNS = 256 }; /* a piece of the final column sums */

/* Rows cut into segments and those into pieces. */
typedef struct Pieces {
    int64_t sequences, rows, text; /* rows a sequence; the first `text` are a segment of their own */
    int64_t step;                  /* rows a piece */
    int64_t n_text, n_seq, n;      /* pieces: of a sequence's text, of a sequence, in all */
} Pieces;

typedef struct Piece {
    int64_t segment, first, end;
} Piece; /* rows over all sequences */

static Pieces pieces_of(const Tensor *x, const Modulation *m)
{
    int64_t rows = tensor_count(x) / x->dim[x->rank - 1];
    Pieces p = {.sequences = 1, .rows = rows, .step = cpu_row_block(rows)};
    if (m) {
        p.sequences = x->dim[0];
        p.rows = x->dim[1];
        p.text = m->text_rows;
    }
    p.n_text = cpu_ceil(p.text, p.step);
    p.n_seq = p.n_text + cpu_ceil(p.rows - p.text, p.step);
    p.n = p.sequences * p.n_seq;
    return p;
}

static Piece piece_at(const Pieces *p, int64_t i)
{
    int64_t b = i / p->n_seq, k = i % p->n_seq, base = b * p->rows;
    if (k < p->n_text)
        return (Piece){
            .segment = 2 * b + 1, .first = base + k * p->step, .end = base + cpu_min(p->text, (k + 1) * p->step)};
    int64_t from = p->text + (k - p->n_text) * p->step;
    return (Piece){.segment = 2 * b, .first = base + from, .end = base + cpu_min(p->rows, from + p->step)};
}

/* The modulation's chunk (0 shift, 1 scale, 2 gate) of a segment (2b: video, 2b + 1: text). */
static float *chunk_of(const Tensor *mod, int64_t d, int64_t segment, int64_t chunk)
{
    return (float *)mod->data + segment / 2 * mod->dim[1] + (segment % 2 * 3 + chunk) * d;
}

/* factor = w (1 + scale), offset = b (1 + scale) + shift, for each segment in use. */
static void fold(float *factor, float *offset, int64_t d, const Pieces *p, const Tensor *w, const Tensor *b,
                 const Modulation *m)
{
    for (int64_t s = 0; s < 2 * p->sequences; s++) {
        float *f = factor + s * d, *o = offset + s * d;
        int64_t rows = s % 2 ? p->text : p->rows - p->text;
        if (rows == 0)
            continue;
        const float *wf = w ? cpu_weight(w, 0, d, f) : NULL, *bf = b ? cpu_weight(b, 0, d, o) : NULL;
        const float *shift = m ? chunk_of(m->mod, d, s, 0) : NULL, *scale = m ? chunk_of(m->mod, d, s, 1) : NULL;
        for (int64_t i = 0; i < d; i++) {
            float grow = scale ? 1.0f + scale[i] : 1.0f;
            f[i] = (wf ? wf[i] : 1.0f) * grow;
            o[i] = cpu_fma(bf ? bf[i] : 0.0f, grow, shift ? shift[i] : 0.0f);
        }
    }
}

typedef struct RowStat {
    float mean, rest, rstd;
} RowStat; /* mean + rest: the mean to double precision */

static RowStat row_stat(const float *x, int64_t d, double eps)
{
    double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < d; i++)
        sum += (double)x[i];
    double mean = sum / (double)d;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < d; i++) {
        double c = (double)x[i] - mean;
        square += c * c;
    }
    float high = (float)mean;
    return (RowStat){
        .mean = high, .rest = (float)(mean - (double)high), .rstd = (float)(1.0 / sqrt(square / (double)d + eps))};
}

static void norm_row(float *y, const float *x, const float *restrict factor, const float *restrict offset, int64_t d,
                     double eps)
{
    RowStat s = row_stat(x, d, eps);
#pragma omp simd
    for (int64_t i = 0; i < d; i++)
        y[i] = ((x[i] - s.mean) - s.rest) * s.rstd * factor[i] + offset[i];
}

static int layernorm_cpu(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                         const Modulation *m, Err *err)
{
    int64_t d = x->dim[x->rank - 1];
    Pieces p = pieces_of(x, m);
    CpuScratch s;
    int rc = cpu_scratch(be, 4 * p.sequences * d * (int64_t)sizeof(float), 0, &s, err);
    if (rc < 0)
        return rc;
    float *factor = s.shared, *offset = factor + 2 * p.sequences * d;
    fold(factor, offset, d, &p, w, b, m);
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(x))) schedule(static)
    for (int64_t i = 0; i < p.n; i++) {
        Piece q = piece_at(&p, i);
        for (int64_t r = q.first; r < q.end; r++)
            norm_row((float *)y->data + r * d, (const float *)x->data + r * d, factor + q.segment * d,
                     offset + q.segment * d, d, eps);
    }
    return 0;
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct NormGrad {
    int64_t d;
    double eps;
    const float *gy, *x;
    float *gx;
    int add;
} NormGrad;

/* gx = rstd (g - mean(g) - xhat mean(g xhat)), g = gy * factor; adds gy and gy * xhat to the column
 * sums. */
static void norm_row_backward(const NormGrad *n, int64_t row, const float *restrict factor, double *restrict sum_gy,
                              double *restrict sum_gyx)
{
    const float *x = n->x + row * n->d, *gy = n->gy + row * n->d;
    RowStat s = row_stat(x, n->d, n->eps);
    double mean_g = 0, mean_gx = 0;
#pragma omp simd reduction(+ : mean_g, mean_gx)
    for (int64_t i = 0; i < n->d; i++) {
        float hat = ((x[i] - s.mean) - s.rest) * s.rstd, g = gy[i] * factor[i];
        mean_g += (double)g;
        mean_gx += (double)g * (double)hat;
        sum_gy[i] += (double)gy[i];
        sum_gyx[i] += (double)gy[i] * (double)hat;
    }
    if (!n->gx)
        return;
    float *restrict gx = n->gx + row * n->d, mg = (float)(mean_g / (double)n->d), mgx = (float)(mean_gx / (double)n->d);
    float keep = n->add ? 1.0f : 0.0f;
    if (!n->add)
        memset(gx, 0, (size_t)n->d * sizeof *gx);
#pragma omp simd
    for (int64_t i = 0; i < n->d; i++) {
        float hat = ((x[i] - s.mean) - s.rest) * s.rstd;
        gx[i] = keep * gx[i] + s.rstd * (gy[i] * factor[i] - mg - hat * mgx);
    }
}

/* Columns [c0, c0+n) of a segment's sums, over its pieces in order. */
static void sum_pieces(double *out, const double *partial, int64_t stride, const Pieces *p, int64_t segment, int64_t c0,
                       int64_t n)
{
    int64_t b = segment / 2, first = b * p->n_seq + (segment % 2 ? 0 : p->n_text);
    int64_t end = b * p->n_seq + (segment % 2 ? p->n_text : p->n_seq);
    memset(out, 0, (size_t)n * sizeof *out);
    for (int64_t i = first; i < end; i++)
        for (int64_t c = 0; c < n; c++)
            out[c] += partial[i * stride + c0 + c];
}

typedef struct NormSums {
    const Tensor *gw, *gb, *gm, *w, *b;
    const Modulation *m;
    int64_t d;
} NormSums;

/* From the two column sums of a segment to the gradients: of b, w (gw, gb: from column c0 on),
 * shift and scale. */
static void spread_sums(const NormSums *n, float *gw, float *gb, const double *gy, const double *gyx, int64_t segment,
                        int64_t c0, int64_t len)
{
    float room_w[COLUMNS], room_b[COLUMNS];
    const float *w = n->w ? cpu_weight(n->w, c0, len, room_w) : NULL,
                *b = n->b ? cpu_weight(n->b, c0, len, room_b) : NULL;
    const float *scale = n->m ? chunk_of(n->m->mod, n->d, segment, 1) + c0 : NULL;
    for (int64_t c = 0; c < len; c++) {
        double grow = scale ? 1.0 + (double)scale[c] : 1.0;
        if (n->gw) {
            gw[c] += (float)(grow * gyx[c]);
            gb[c] += (float)(grow * gy[c]);
        }
        if (n->gm) {
            chunk_of(n->gm, n->d, segment, 0)[c0 + c] += (float)gy[c];
            chunk_of(n->gm, n->d, segment,
                     1)[c0 + c] += (float)((w ? (double)w[c] : 1.0) * gyx[c] + (b ? (double)b[c] : 0.0) * gy[c]);
        }
    }
}

static int layernorm_backward_cpu(Backend *be, const Tensor *gx, const Tensor *gw, const Tensor *gb, const Tensor *gm,
                                  const Tensor *gy, const Tensor *x, const Tensor *w, const Tensor *b, double eps,
                                  const Modulation *m, int add, Err *err)
{
    NormGrad n = {
        .d = x->dim[x->rank - 1], .eps = eps, .gy = gy->data, .x = x->data, .gx = gx ? gx->data : NULL, .add = add};
    NormSums sums = {.gw = gw, .gb = gb, .gm = gm, .w = w, .b = b, .m = m, .d = n.d};
    Pieces p = pieces_of(x, m);
    CpuScratch s;
    int64_t d = n.d, segments = 2 * p.sequences;
    int rc = cpu_scratch(be, p.n * 2 * d * (int64_t)sizeof(double) + 2 * segments * d * (int64_t)sizeof(float), 0, &s,
                         err);
    if (rc < 0)
        return rc;
    double *partial = s.shared;
    float *factor = (float *)(partial + p.n * 2 * d), *offset = factor + segments * d;
    fold(factor, offset, d, &p, w, b, m);
    int threads = cpu_threads(be, 2 * tensor_count(x));
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < p.n; i++) {
            Piece q = piece_at(&p, i);
            double *sum = partial + i * 2 * d;
            memset(sum, 0, (size_t)(2 * d) * sizeof *sum);
            for (int64_t r = q.first; r < q.end; r++)
                norm_row_backward(&n, r, factor + q.segment * d, sum, sum + d);
        }
#pragma omp for schedule(static)
        for (int64_t c0 = 0; c0 < d; c0 += COLUMNS) {
            int64_t len = cpu_min(COLUMNS, d - c0);
            double total_gy[COLUMNS], total_gyx[COLUMNS];
            /* BF16 gradients are added to once, F32 ones where they are */
            float room_w[COLUMNS] = {0}, room_b[COLUMNS] = {0};
            int in_place = gw && gw->dtype == DT_F32;
            float *sum_w = in_place ? (float *)gw->data + c0 : room_w,
                  *sum_b = in_place ? (float *)gb->data + c0 : room_b;
            for (int64_t seg = 0; seg < segments; seg++) {
                if ((seg % 2 ? p.text : p.rows - p.text) == 0)
                    continue;
                sum_pieces(total_gy, partial, 2 * d, &p, seg, c0, len);
                sum_pieces(total_gyx, partial + d, 2 * d, &p, seg, c0, len);
                spread_sums(&sums, sum_w, sum_b, total_gy, total_gyx, seg, c0, len);
            }
            if (gw && !in_place) {
                cpu_add_to(gw, c0, sum_w, len);
                cpu_add_to(gb, c0, sum_b, len);
            }
        }
    }
    return 0;
}

/* ---- the gates ------------------------------------------------------------------------------- */

static int gate_add_cpu(Backend *be, const Tensor *x, const Tensor *y, const Modulation *m, Err *err)
{
    (void)err;
    int64_t d = x->dim[2];
    Pieces p = pieces_of(x, m);
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(x))) schedule(static)
    for (int64_t i = 0; i < p.n; i++) {
        Piece q = piece_at(&p, i);
        const float *gate = chunk_of(m->mod, d, q.segment, 2);
        for (int64_t r = q.first; r < q.end; r++) {
            float *restrict to = (float *)x->data + r * d;
            const float *restrict from = (const float *)y->data + r * d;
#pragma omp simd
            for (int64_t c = 0; c < d; c++)
                to[c] += gate[c] * from[c];
        }
    }
    return 0;
}

static int gate_add_backward_cpu(Backend *be, const Tensor *gy, const Tensor *gm, const Tensor *gx, const Tensor *y,
                                 const Modulation *m, Err *err)
{
    int64_t d = gx->dim[2];
    Pieces p = pieces_of(gx, m);
    CpuScratch s;
    int rc = cpu_scratch(be, p.n * d * (int64_t)sizeof(double), 0, &s, err);
    if (rc < 0)
        return rc;
    double *partial = s.shared;
#pragma omp parallel for num_threads(cpu_threads(be, 2 * tensor_count(gx))) schedule(static)
    for (int64_t i = 0; i < p.n; i++) {
        Piece q = piece_at(&p, i);
        const float *gate = chunk_of(m->mod, d, q.segment, 2);
        double *restrict sum = partial + i * d;
        memset(sum, 0, (size_t)d * sizeof *sum);
        for (int64_t r = q.first; r < q.end; r++) {
            float *restrict to = (float *)gy->data + r * d;
            const float *restrict g = (const float *)gx->data + r * d, *restrict v = (const float *)y->data + r * d;
#pragma omp simd
            for (int64_t c = 0; c < d; c++) {
                to[c] = gate[c] * g[c];
                sum[c] += (double)g[c] * (double)v[c];
            }
        }
    }
    for (int64_t seg = 0; gm && seg < 2 * p.sequences; seg++)
        for (int64_t c0 = 0; c0 < d && (seg % 2 ? p.text : p.rows - p.text) > 0; c0 += COLUMNS) {
            double total[COLUMNS];
            int64_t len = cpu_min(COLUMNS, d - c0);
            sum_pieces(total, partial, d, &p, seg, c0, len);
            float *to = chunk_of(gm, d, seg, 2) + c0;
            for (int64_t c = 0; c < len; c++)
                to[c] += (float)total[c];
        }
    return 0;
}

/* ---- rms norm -------------------------------------------------------------------------------- */

static int rmsnorm_cpu(Backend *be, const Tensor *y, const Tensor *x, const Tensor *w, double eps, Err *err)
{
    int64_t d = x->dim[x->rank - 1], rows = tensor_count(x) / d;
    CpuScratch s;
    int rc = cpu_scratch(be, d * (int64_t)sizeof(float), 0, &s, err);
    if (rc < 0)
        return rc;
    const float *weight = cpu_weight(w, 0, d, s.shared);
#pragma omp parallel for num_threads(cpu_threads(be, rows *d)) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = (const float *)x->data + r * d;
        float *to = (float *)y->data + r * d;
        double square = 0;
#pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < d; i++)
            square += (double)from[i] * (double)from[i];
        float rstd = (float)(1.0 / sqrt(square / (double)d + eps));
#pragma omp simd
        for (int64_t i = 0; i < d; i++)
            to[i] = weight[i] * (from[i] * rstd);
    }
    return 0;
}

void cpu_table_norm(OpsTable *t)
{
    t->layernorm = layernorm_cpu;
    t->layernorm_backward = layernorm_backward_cpu;
    t->gate_add = gate_add_cpu;
    t->gate_add_backward = gate_add_backward_cpu;
    t->rmsnorm = rmsnorm_cpu;
}
