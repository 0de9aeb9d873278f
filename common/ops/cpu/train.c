/* Diffusion, loss and optimiser: elementwise loops, and sums by pieces of CPU_BLOCK elements whose
 * partial sums are added in order. */
#include "common/ops/blockwise.h"
#include "common/ops/cpu/cpu.h"
#include "common/ops/rounding.h"

static int posterior_cpu(Backend *be, const Tensor *z, const Tensor *moments, const Tensor *eps, double scale, Err *err)
{
    (void)err;
    int64_t c_n = z->dim[z->rank - 1], rows = tensor_count(z) / c_n;
    float by = (float)scale;
#pragma omp parallel for num_threads(cpu_threads(be, rows *c_n)) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *mean = (const float *)moments->data + r * 2 * c_n, *logvar = mean + c_n;
        const float *e = eps ? (const float *)eps->data + r * c_n : NULL;
        float *to = (float *)z->data + r * c_n;
        for (int64_t c = 0; c < c_n; c++) {
            float l = logvar[c] < -30.0f ? -30.0f : logvar[c] > 20.0f ? 20.0f : logvar[c];
            to[c] = (e ? mean[c] + expf(0.5f * l) * e[c] : mean[c]) * by;
        }
    }
    return 0;
}

static int diffuse_cpu(Backend *be, const Tensor *xt, const Tensor *v, const Tensor *x0, const Tensor *eps,
                       const double *a, const double *s, Err *err)
{
    (void)err;
    int64_t each = tensor_count(xt) / xt->dim[0], blocks = cpu_ceil(each, CPU_BLOCK);
#pragma omp parallel for num_threads(cpu_threads(be, tensor_count(xt))) schedule(static)
    for (int64_t i = 0; i < xt->dim[0] * blocks; i++) {
        int64_t b = i / blocks, first = b * each + i % blocks * CPU_BLOCK,
                n = cpu_min(CPU_BLOCK, (b + 1) * each - first);
        float ka = (float)a[b], ks = (float)s[b];
        float *restrict to_x = (float *)xt->data + first, *restrict to_v = (float *)v->data + first;
        const float *restrict x = (const float *)x0->data + first, *restrict e = (const float *)eps->data + first;
        for (int64_t k = 0; k < n; k++) {
            to_x[k] = ka * x[k] + ks * e[k];
            to_v[k] = ka * e[k] - ks * x[k];
        }
    }
    return 0;
}

/* Adds up one number a piece. */
static double in_order(const double *partial, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += partial[i];
    return sum;
}

/* Never inlined: the compiler joins the loops of two blocks (unroll and jam), and then the order of
 * a sum depends on the block before. */
__attribute__((noinline)) static double squares(const float *p, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++)
        sum += (double)p[k] * (double)p[k];
    return sum;
}

/* The same of differences. */
__attribute__((noinline)) static double square_differences(const float *p, const float *q, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++) {
        double d = (double)p[k] - (double)q[k];
        sum += d * d;
    }
    return sum;
}

static int mse_cpu(Backend *be, double *loss, const Tensor *gu, const Tensor *u, const Tensor *v, double weight,
                   Err *err)
{
    int64_t n = tensor_count(u), blocks = cpu_ceil(n, CPU_BLOCK);
    CpuScratch s;
    int rc = cpu_scratch(be, blocks * (int64_t)sizeof(double), 0, &s, err);
    if (rc < 0)
        return rc;
    double *partial = s.shared;
    float by = (float)(weight * 2.0 / (double)n);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < blocks; i++) {
        int64_t first = i * CPU_BLOCK, len = cpu_min(CPU_BLOCK, n - first);
        const float *p = (const float *)u->data + first, *q = (const float *)v->data + first;
        float *g = gu ? (float *)gu->data + first : NULL;
        partial[i] = square_differences(p, q, len);
        for (int64_t k = 0; g && k < len; k++)
            g[k] = by * (p[k] - q[k]);
    }
    *loss = in_order(partial, blocks) / (double)n;
    return 0;
}

static int sum_squares_cpu(Backend *be, double *sum, const Tensor *g, Err *err)
{
    int64_t n = tensor_count(g), blocks = cpu_ceil(n, CPU_BLOCK);
    CpuScratch s;
    int rc = cpu_scratch(be, blocks * (int64_t)sizeof(double), 0, &s, err);
    if (rc < 0)
        return rc;
    double *partial = s.shared;
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < blocks; i++) {
        float room[CPU_BLOCK];
        int64_t len = cpu_min(CPU_BLOCK, n - i * CPU_BLOCK);
        partial[i] = squares(cpu_weight(g, i * CPU_BLOCK, len, room), len);
    }
    *sum = in_order(partial, blocks);
    return 0;
}

enum { ADAM_PIECE = 2048 };
typedef struct AdamFactors {
    float decay, beta1, beta2, rest1, rest2, rate, root, eps, grad_scale;
} AdamFactors;

static void adam_block(float *restrict p, const float *restrict g, float *restrict m, float *restrict v, int64_t n,
                       const AdamFactors *f)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float grad = g[i] * f->grad_scale;
        m[i] = cpu_fma(f->beta1, m[i], f->rest1 * grad);
        v[i] = cpu_fma(f->beta2, v[i], f->rest2 * (grad * grad));
        p[i] = cpu_fma(p[i], f->decay, -(f->rate * (m[i] / cpu_fma(sqrtf(v[i]), f->root, f->eps))));
    }
}

/* n parameters from `first` on as floats: themselves, or converted into `room`. */
static float *open_values(const Tensor *p, int64_t first, int64_t n, float *room)
{
    if (p->dtype == DT_F32)
        return (float *)p->data + first;
    cpu_to_f32(room, (const uint16_t *)p->data + first, p->dtype, n);
    return room;
}

/* Rounds what open_values gave, once it is updated; number: that of element `first` among all. */
static void close_values(const Tensor *p, const Tensor *copy, const float *value, int64_t first, int64_t n,
                         uint64_t key, int64_t number)
{
    for (int64_t i = 0; p->dtype != DT_F32 && i < n; i++) /* what the noise left is a bf16: cpu_bfloat drops zeros */
        ((uint16_t *)p->data)[first + i] = cpu_bfloat(round_stochastic(value[i], rounding_noise(key, number + i)));
    for (int64_t i = 0; copy && i < n; i++)
        ((uint16_t *)copy->data)[first + i] = cpu_bfloat(value[i]);
}

static void adam_piece(const Tensor *p, const Tensor *copy, const Tensor *g, float *m, float *v, int64_t first,
                       int64_t n, const AdamFactors *f, uint64_t key, int64_t number)
{
    float room_g[ADAM_PIECE], room_p[ADAM_PIECE];
    float *value = open_values(p, first, n, room_p);
    adam_block(value, cpu_weight(g, first, n, room_g), m + first, v + first, n, f);
    close_values(p, copy, value, first, n, key, number);
}

static int adamw_cpu(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                     const Tensor *v, const AdamParams *a, Err *err)
{
    (void)err;
    double step = (double)a->step;
    AdamFactors f = {.decay = (float)(1.0 - a->lr * a->weight_decay),
                     .beta1 = (float)a->beta1,
                     .beta2 = (float)a->beta2,
                     .rest1 = (float)(1.0 - a->beta1),
                     .rest2 = (float)(1.0 - a->beta2),
                     .rate = (float)(a->lr / (1.0 - pow(a->beta1, step))),
                     .root = (float)(1.0 / sqrt(1.0 - pow(a->beta2, step))),
                     .eps = (float)a->eps,
                     .grad_scale = (float)a->grad_scale};
    int64_t n = tensor_count(p);
    uint64_t key = rounding_key(a->seed, a->step);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i += ADAM_PIECE)
        adam_piece(p, copy, g, m->data, v->data, i, cpu_min(ADAM_PIECE, n - i), &f, key, a->first + i);
    return 0;
}

/* Without m the momentum is 0 and `m` zeros that are not read again. */
static void sgd_block(float *restrict p, const float *restrict g, float *restrict m, int64_t n, float scale,
                      float momentum, float decay, float rate)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        m[i] = cpu_fma(momentum, m[i], cpu_fma(decay, p[i], scale * g[i]));
        p[i] = cpu_fma(-rate, m[i], p[i]);
    }
}

static void sgd_piece(const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m, int64_t first, int64_t n,
                      const SgdParams *a, uint64_t key)
{
    float room_g[ADAM_PIECE], room_p[ADAM_PIECE], none[ADAM_PIECE];
    float *value = open_values(p, first, n, room_p);
    if (!m)
        memset(none, 0, sizeof *none * (size_t)n);
    sgd_block(value, cpu_weight(g, first, n, room_g), m ? (float *)m->data + first : none, n, (float)a->grad_scale,
              m ? (float)a->momentum : 0, (float)a->weight_decay, (float)a->lr);
    close_values(p, copy, value, first, n, key, a->first + first);
}

static int sgd_cpu(Backend *be, const Tensor *p, const Tensor *copy, const Tensor *g, const Tensor *m,
                   const SgdParams *a, Err *err)
{
    (void)err;
    int64_t n = tensor_count(p);
    uint64_t key = rounding_key(a->seed, a->step);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t i = 0; i < n; i += ADAM_PIECE)
        sgd_piece(p, copy, g, m, i, cpu_min(ADAM_PIECE, n - i), a, key);
    return 0;
}

static int quantize_cpu(Backend *be, const Tensor *codes, const Tensor *scale, const Tensor *x, int is_signed, Err *err)
{
    (void)err;
    int64_t n = tensor_count(x);
    BlockwiseMap map;
    blockwise_map(&map, is_signed);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t first = 0; first < n; first += BLOCKWISE_BLOCK) {
        const float *from = (const float *)x->data + first;
        uint8_t *to = (uint8_t *)codes->data + first;
        int64_t len = cpu_min(BLOCKWISE_BLOCK, n - first);
        float most = 0;
        for (int64_t i = 0; i < len; i++)
            most = fabsf(from[i]) > most ? fabsf(from[i]) : most;
        ((float *)scale->data)[first / BLOCKWISE_BLOCK] = most;
        for (int64_t i = 0; i < len; i++)
            to[i] = blockwise_code(map.bound, most > 0 ? from[i] / most : 0.0f);
    }
    return 0;
}

static int dequantize_cpu(Backend *be, const Tensor *y, const Tensor *codes, const Tensor *scale, int is_signed,
                          Err *err)
{
    (void)err;
    int64_t n = tensor_count(y);
    BlockwiseMap map;
    blockwise_map(&map, is_signed);
#pragma omp parallel for num_threads(cpu_threads(be, n)) schedule(static)
    for (int64_t first = 0; first < n; first += BLOCKWISE_BLOCK) {
        float by = ((const float *)scale->data)[first / BLOCKWISE_BLOCK];
        for (int64_t i = first; i < cpu_min(first + BLOCKWISE_BLOCK, n); i++)
            ((float *)y->data)[i] = map.value[((const uint8_t *)codes->data)[i]] * by;
    }
    return 0;
}

void cpu_table_train(OpsTable *t)
{
    t->posterior = posterior_cpu;
    t->diffuse = diffuse_cpu;
    t->mse = mse_cpu;
    t->sum_squares = sum_squares_cpu;
    t->adamw = adamw_cpu;
    t->sgd = sgd_cpu;
    t->quantize = quantize_cpu;
    t->dequantize = dequantize_cpu;
}
