/* The bits of the two places of the cpu back end where compilers used to differ (cpu_fma in
 * common/ops/cpu/cpu.h): the product and the sum are rounded once on processors with fused
 * multiply-add, twice on others, and the same way for every element. */
#include <math.h>
#include "check.h"
#include "common/ops/ops.h"

enum { N = 1003 };

static float twice(float a, float b, float c)
{
    return a * b + c; /* tests are compiled without contraction */
}

/* Which of the two roundings gives all of `got`: 2 fused, 1 not, 0 neither. */
static int rounding_of(const float *got, const float *fused, const float *plain)
{
    int differ = 0, is_fused = 1, is_plain = 1;
    for (int i = 0; i < N; i++) {
        differ += fused[i] != plain[i];
        is_fused &= got[i] == fused[i];
        is_plain &= got[i] == plain[i];
    }
    assert_true(differ > N / 20); /* else nothing would be shown */
    return is_fused ? 2 : is_plain;
}

static float draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

static void adamw(float (*fma_)(float, float, float), float *p, const float *g, float *m, float *v, const AdamParams *a)
{
    float decay = (float)(1.0 - a->lr * a->weight_decay), beta1 = (float)a->beta1, beta2 = (float)a->beta2;
    float rest1 = (float)(1.0 - a->beta1), rest2 = (float)(1.0 - a->beta2);
    float rate = (float)(a->lr / (1.0 - pow(a->beta1, (double)a->step)));
    float root = (float)(1.0 / sqrt(1.0 - pow(a->beta2, (double)a->step)));
    for (int i = 0; i < N; i++) {
        float grad = g[i] * (float)a->grad_scale;
        m[i] = fma_(beta1, m[i], rest1 * grad);
        v[i] = fma_(beta2, v[i], rest2 * (grad * grad));
        p[i] = fma_(p[i], decay, -(rate * (m[i] / fma_(sqrtf(v[i]), root, (float)a->eps))));
    }
}

static Tensor vector(float *data)
{
    return (Tensor){.data = data, .dtype = DT_F32, .rank = 1, .dim = {N}};
}

static int fused_update; /* what adamw found: one processor rounds everywhere alike */

static void adamw_bits(void **state)
{
    (void)state;
    static float p[3][N], g[N], m[3][N], v[3][N];
    Backend *be = NULL;
    Err err = {0};
    uint32_t seed = 1;
    AdamParams a = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-4, .weight_decay = 0.1, .grad_scale = 0.7};
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    for (int i = 0; i < N; i++)
        p[0][i] = p[1][i] = p[2][i] = draw(&seed);
    Tensor tp = vector(p[0]), tg = vector(g), tm = vector(m[0]), tv = vector(v[0]);
    for (a.step = 1; a.step <= 8; a.step++) {
        for (int i = 0; i < N; i++)
            g[i] = draw(&seed);
        CHECK_OK(op_adamw(be, &tp, NULL, &tg, &tm, &tv, &a, &err), &err);
        adamw(fmaf, p[1], g, m[1], v[1], &a);
        adamw(twice, p[2], g, m[2], v[2], &a);
    }
    backend_close(&be);
    fused_update = rounding_of(p[0], p[1], p[2]);
    assert_true(fused_update > 0);
    assert_int_equal(rounding_of(m[0], m[1], m[2]), fused_update);
    assert_int_equal(rounding_of(v[0], v[1], v[2]), fused_update);
}

/* A row of equal numbers has nothing but the offset in its norm: b*(1 + scale) + shift. */
static void layernorm_offset_bits(void **state)
{
    (void)state;
    static float x[N], y[N], b[N], mod[2 * N], fused[N], plain[N];
    Backend *be = NULL;
    Err err = {0};
    uint32_t seed = 2;
    for (int i = 0; i < N; i++) {
        x[i] = 1;
        b[i] = draw(&seed);
        mod[i] = draw(&seed);
        mod[N + i] = draw(&seed);
        fused[i] = fmaf(b[i], 1.0f + mod[N + i], mod[i]);
        plain[i] = twice(b[i], 1.0f + mod[N + i], mod[i]);
    }
    Tensor tx = {.data = x, .dtype = DT_F32, .rank = 3, .dim = {1, 1, N}}, ty = tx, tb = vector(b);
    Tensor ones = tb, tm = {.data = mod, .dtype = DT_F32, .rank = 2, .dim = {1, 2 * N}};
    float one[N];
    for (int i = 0; i < N; i++)
        one[i] = 1;
    ones.data = one;
    ty.data = y;
    Modulation modulation = {.mod = &tm};
    CHECK_OK(backend_open(&be, "cpu", 1, NULL, &err), &err);
    CHECK_OK(op_layernorm(be, &ty, &tx, &ones, &tb, 1e-5, &modulation, &err), &err);
    backend_close(&be);
    assert_int_equal(rounding_of(y, fused, plain), fused_update);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_bits),
        cmocka_unit_test(layernorm_offset_bits),
    };
    return check_run("ops: bits of the cpu back end", tests);
}
