/* The causal convolution. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/ops/harness.h"

typedef struct Conv {
    int64_t x[4], w[4]; /* T, H, W, Ci; Co, kt, kh, kw */
    ConvParams p;
} Conv;

static int call_conv(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Conv *v = c->param;
    return op_conv(be, &t[0], &t[1], c->n > 4 ? &t[4] : NULL, &t[2], &t[3], &v->p, err);
}

static void check_conv(const Conv *v, DType type, int prefix, unsigned input_kinds)
{
    int64_t Ho = (v->x[1] + v->p.top + v->p.bottom - v->w[2]) / v->p.stride + 1;
    int64_t Wo = (v->x[2] + v->p.left + v->p.right - v->w[3]) / v->p.stride + 1;
    int64_t terms = v->w[1] * v->w[2] * v->w[3] * v->x[3];
    Case c = {.name = prefix ? "conv with prefix" : "conv",
              .call = call_conv,
              .param = v,
              .input_kinds = input_kinds,
              .warpgroups = type == DT_BF16 && v->x[3] % 64 == 0 && v->w[0] > 64,
              .factor = 4 + 3 * sqrt((double)terms)}; /* as in test_linear.c */
    CASE_ADD(&c, "y", v->p.add ? INOUT : OUT, ACT, 4, v->x[0], Ho, Wo, v->w[0]);
    CASE_ADD(&c, "x", IN, ACT, 4, v->x[0], v->x[1], v->x[2], v->x[3]);
    CASE_ADD(&c, "w", WEIGHT, type, 5, v->w[0], v->w[1], v->w[2], v->w[3], v->x[3]);
    CASE_ADD(&c, "b", WEIGHT, type, 1, v->w[0]);
    if (prefix)
        CASE_ADD(&c, "prefix", IN, ACT, 4, v->w[1] - 1, v->x[1], v->x[2], v->x[3]);
    ops_check(&c);
}

static void conv(void **state)
{
    (void)state;
    static const Conv convs[] = {
        {{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 0, 0, 0, 0, 0}},
        {{1, 1, 1, 1}, {1, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{3, 5, 4, 3}, {7, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{2, 7, 5, 5}, {3, 1, 3, 3}, {2, 0, 1, 0, 1, 0}}, /* the downsampler: bottom and right only */
        {{2, 8, 6, 4}, {4, 1, 3, 3}, {2, 0, 1, 0, 1, 0}},
        {{4, 9, 11, 16}, {17, 3, 3, 3}, {1, 1, 1, 1, 1, 1}}, /* added to the residual */
        {{2, 6, 7, 13}, {65, 1, 1, 1}, {1, 0, 0, 0, 0, 0}},
        {{3, 4, 5, 64}, {63, 1, 1, 1}, {1, 0, 0, 0, 0, 1}},
        {{1, 10, 9, 6}, {5, 2, 5, 4}, {3, 2, 0, 1, 3, 0}},
        {{5, 3, 65, 2}, {3, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{2, 17, 19, 3}, {4, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        /* few outputs, as cpu has them of its own: rows of no multiple of four, shorter than the kernel, strides */
        {{3, 5, 9, 16}, {3, 3, 3, 3}, {1, 1, 1, 1, 1, 1}},
        {{2, 7, 6, 32}, {2, 1, 3, 3}, {2, 0, 1, 0, 1, 0}},
        {{2, 3, 2, 48}, {1, 2, 5, 4}, {1, 2, 2, 3, 1, 0}},
    };
    for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
        for (int k = 0; k < 3; k++)
            for (int prefix = 0; prefix < (convs[i].w[1] > 1 ? 2 : 1); prefix++)
                check_conv(&convs[i], (DType[]){DT_F32, DT_F16, DT_BF16}[k], prefix, 0);
}

static void layers_of_the_vae(void **state)
{
    (void)state;
    static const Conv convs[] = {
        {{2, 6, 5, 128}, {128, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{2, 4, 6, 3}, {128, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{2, 6, 8, 128}, {3, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{1, 8, 6, 256}, {256, 1, 3, 3}, {2, 0, 1, 0, 1, 0}},
        /* ragged tiles */
        {{2, 5, 4, 128}, {256, 1, 1, 1}, {1, 0, 0, 0, 0, 0}},
        {{2, 13, 11, 64}, {137, 3, 3, 3}, {1, 1, 1, 1, 1, 1}},
        {{1, 4, 3, 512}, {32, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
        {{2, 4, 3, 512}, {16, 3, 3, 3}, {1, 1, 1, 1, 1, 1}},
    };
    for (size_t i = 0; i < sizeof convs / sizeof convs[0]; i++)
        for (int k = 0; k < 2; k++)
            check_conv(&convs[i],
                       k       ? DT_BF16
                       : i % 2 ? DT_F16
                               : DT_F32,
                       (i + k) % 2 == 0 && convs[i].w[1] > 1, 1u << UNIFORM);
}

/* Shapes that the cpu back end does by Winograd's form: ragged edges, one frame, kernels of one frame,
 * more frames and more tiles than a panel holds, several slices of output channels, few channels. */
static const Conv winograd_convs[] = {
    {{1, 61, 37, 64}, {64, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},  {{2, 24, 22, 16}, {80, 3, 3, 3}, {1, 1, 1, 1, 1, 1}},
    {{3, 17, 15, 80}, {64, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},  {{19, 9, 10, 32}, {16, 3, 3, 3}, {1, 1, 1, 1, 1, 1}},
    {{3, 15, 12, 64}, {272, 1, 3, 3}, {1, 1, 1, 1, 1, 0}}, {{8, 36, 35, 128}, {128, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
    {{1, 16, 16, 16}, {16, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},  {{5, 23, 21, 48}, {32, 3, 3, 3}, {1, 1, 1, 1, 1, 1}},
    {{2, 30, 31, 32}, {48, 1, 3, 3}, {1, 1, 1, 1, 1, 0}},  {{10, 47, 45, 16}, {64, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
    {{19, 4, 4, 16}, {48, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},   {{10, 4, 8, 32}, {16, 3, 3, 3}, {1, 1, 1, 1, 1, 0}},
    {{1, 64, 64, 16}, {32, 3, 3, 3}, {1, 1, 1, 1, 1, 0}}, /* two full panels whose rows are no multiple of a block's */
};

static void winograd(void **state)
{
    (void)state;
    check_conv(&winograd_convs[0], DT_F32, 0, 1u << UNIFORM);
    check_conv(&winograd_convs[2], DT_BF16, 1, 1u << UNIFORM);
    check_conv(&winograd_convs[6], DT_F32, 0, 1u << UNIFORM);
    check_conv(&winograd_convs[7], DT_F16, 1, 1u << UNIFORM);
}

/* y of one convolution on the cpu back end with float32 drawn values. */
static float *convolve(Backend *be, const Conv *v, int direct, int64_t *n)
{
    Err err = {0};
    int64_t nx = v->x[0] * v->x[1] * v->x[2] * v->x[3], nw = v->w[0] * v->w[1] * 9 * v->x[3];
    *n = v->x[0] * v->x[1] * v->x[2] * v->w[0];
    float *all = calloc((size_t)(nx + nw + v->w[0]), sizeof *all), *y = calloc((size_t)*n, sizeof *y);
    uint32_t state = 1;
    assert_true(all && y);
    for (int64_t i = 0; i < nx + nw + v->w[0]; i++) {
        state = state * 1664525u + 1013904223u;
        all[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    Tensor x = tensor_of(all, DT_F32, 4, v->x[0], v->x[1], v->x[2], v->x[3]),
           w = tensor_of(all + nx, DT_F32, 5, v->w[0], v->w[1], v->w[2], v->w[3], v->x[3]),
           b = tensor_of(all + nx + nw, DT_F32, 1, v->w[0]),
           ty = tensor_of(y, DT_F32, 4, v->x[0], v->x[1], v->x[2], v->w[0]);
    be->direct_conv = direct;
    CHECK_OK(op_conv(be, &ty, &x, NULL, &w, &b, &v->p, &err), &err);
    free(all);
    return y;
}

/* Both forms are there, near each other and not the same; the number of threads changes no bit. */
static void winograd_against_direct(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof winograd_convs / sizeof winograd_convs[0]; i++) {
        Backend *be[2];
        Err err = {0};
        int64_t n;
        double error = 0, size = 0;
        for (int k = 0; k < 2; k++)
            CHECK_OK(backend_open(&be[k], "cpu", k ? 3 : 1, NULL, &err), &err);
        float *fast = convolve(be[0], &winograd_convs[i], 0, &n), *threads = convolve(be[1], &winograd_convs[i], 0, &n),
              *direct = convolve(be[0], &winograd_convs[i], 1, &n);
        for (int64_t k = 0; k < n; k++) {
            error += pow((double)fast[k] - (double)direct[k], 2);
            size += pow((double)direct[k], 2);
        }
        assert_memory_equal(fast, threads, (size_t)n * sizeof *fast);
        assert_true(error > 0);
        assert_true(error < 4e-12 * size); /* 2e-6 relative */
        free(fast);
        free(threads);
        free(direct);
        for (int k = 0; k < 2; k++)
            backend_close(&be[k]);
    }
}

static void threads_change_no_bit_of_few_outputs(void **state)
{
    (void)state;
    static const Conv few = {{3, 11, 14, 32}, {3, 3, 3, 3}, {1, 1, 1, 1, 1, 0}};
    float *y[3];
    int64_t n;
    for (int k = 0; k < 3; k++) {
        Backend *be;
        Err err = {0};
        CHECK_OK(backend_open(&be, "cpu", k + 1, NULL, &err), &err);
        y[k] = convolve(be, &few, 0, &n);
        backend_close(&be);
    }
    assert_memory_equal(y[0], y[1], (size_t)n * sizeof *y[0]);
    assert_memory_equal(y[0], y[2], (size_t)n * sizeof *y[0]);
    for (int k = 0; k < 3; k++)
        free(y[k]);
}

/* A chunk with the last two frames of the chunk before as its prefix gives what one long chunk
 * gives: the rule of the caches. */
static void two_chunks_equal_one(void **state)
{
    (void)state;
    enum { T = 5, FIRST = 3, HW = 6, CI = 3, CO = 2 };
    double x[T * HW * CI], w[CO * 27 * CI], b[CO] = {0.5, -1}, whole[T * HW * CO], parts[T * HW * CO];
    Err err = {0};
    ops_draw(x, T * HW * CI, -1, 1, 1);
    ops_draw(w, CO * 27 * CI, -1, 1, 2);
    const ConvParams p = {1, 1, 1, 1, 1, 0};
    Tensor tx = tensor_of(x, DT_F64, 4, T, 2, 3, CI), tw = tensor_of(w, DT_F64, 5, CO, 3, 3, 3, CI),
           tb = tensor_of(b, DT_F64, 1, CO), ty = tensor_of(whole, DT_F64, 4, T, 2, 3, CO),
           tp = tensor_of(parts, DT_F64, 4, T, 2, 3, CO);
    Tensor x1 = tensor_rows(&tx, 0, FIRST), x2 = tensor_rows(&tx, FIRST, T - FIRST),
           cache = tensor_rows(&tx, FIRST - 2, 2);
    Tensor y1 = tensor_rows(&tp, 0, FIRST), y2 = tensor_rows(&tp, FIRST, T - FIRST);
    CHECK_OK(op_conv(ops_double(), &ty, &tx, NULL, &tw, &tb, &p, &err), &err);
    CHECK_OK(op_conv(ops_double(), &y1, &x1, NULL, &tw, &tb, &p, &err), &err);
    CHECK_OK(op_conv(ops_double(), &y2, &x2, &cache, &tw, &tb, &p, &err), &err);
    assert_memory_equal(whole, parts, sizeof whole);
}

/* ref against the other way round: every input pixel scattered to the outputs it takes part in,
 * weights in the file's order. */
static void ref_against_scattering(void **state)
{
    (void)state;
    enum { T = 3, H = 4, W = 5, CI = 2, CO = 3, K = 3, HO = 2, WO = 3 };
    double x[T * H * W * CI], prefix[2 * H * W * CI], file[CO * CI * 27], w[CO * 27 * CI], b[CO], y[T * HO * WO * CO];
    double want[T * HO * WO * CO];
    const ConvParams p = {2, 0, 1, 1, 1, 0};
    Err err = {0};
    ops_draw(x, T * H * W * CI, -1, 1, 1);
    ops_draw(prefix, 2 * H * W * CI, -1, 1, 2);
    ops_draw(file, CO * CI * 27, -1, 1, 3);
    ops_draw(b, CO, -1, 1, 4);
    Tensor tf = tensor_of(file, DT_F64, 5, CO, CI, K, K, K), tw = tensor_of(w, DT_F64, 5, CO, K, K, K, CI);
    op_conv_pack(&tw, &tf);
    Tensor tx = tensor_of(x, DT_F64, 4, T, H, W, CI), tp = tensor_of(prefix, DT_F64, 4, 2, H, W, CI),
           tb = tensor_of(b, DT_F64, 1, CO), ty = tensor_of(y, DT_F64, 4, T, HO, WO, CO);
    CHECK_OK(op_conv(ops_double(), &ty, &tx, &tp, &tw, &tb, &p, &err), &err);
    for (int i = 0; i < T * HO * WO * CO; i++)
        want[i] = b[i % CO];
    for (int t = -2; t < T; t++)
        for (int n = 0; n < H * W * CI; n++) {
            int i = n / (W * CI), j = n / CI % W, ci = n % CI;
            double value = t < 0 ? prefix[(t + 2) * H * W * CI + n] : x[t * H * W * CI + n];
            for (int tap = 0; tap < 27 * CO; tap++) {
                int co = tap / 27, a = tap / 9 % 3, e = tap / 3 % 3, f = tap % 3;
                int to = t + 2 - a, row = i + (int)p.top - e, column = j + (int)p.left - f;
                if (to < 0 || to >= T || row < 0 || row % 2 || row / 2 >= HO || column < 0 || column % 2 ||
                    column / 2 >= WO)
                    continue;
                want[((to * HO + row / 2) * WO + column / 2) * CO + co] +=
                    value * file[(co * CI + ci) * 27 + (a * 3 + e) * 3 + f];
            }
        }
    for (int i = 0; i < T * HO * WO * CO; i++)
        check_value("y", y[i], want[i], 1e-14, 1e-14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_against_scattering),
        cmocka_unit_test(two_chunks_equal_one),
        cmocka_unit_test(conv),
        cmocka_unit_test(layers_of_the_vae),
        cmocka_unit_test(winograd),
        cmocka_unit_test(winograd_against_direct),
        cmocka_unit_test(threads_change_no_bit_of_few_outputs),
        cmocka_unit_test(ops_summary),
    };
    return check_run("ops: convolution", tests);
}
