/* The linear layer and its gradients. */
#include <float.h>
#include <math.h>
#include "tests/ops/harness.h"

static const int64_t shapes[][3] = {
    /* M, N, K */
    {1, 1, 1},
    {2, 3, 5},
    {1, 65, 64},
    {64, 1, 63},
    {63, 64, 65},
    {65, 67, 1},
    {13, 97, 129},
    {37, 72, 88}, /* what cuBLASLt takes */
    /* once each: many rows and columns, long sums (cpu converts half weights slice by slice), few
     * rows of many columns, and the projections of attention */
    {400, 530, 40},
    {5, 33, 4099},
    {5, 4099, 33},
    {3, 70, 700},
    {7, 1920, 1920},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], ONCE = 8 };
static const DType types[] = {DT_F32, DT_F16, DT_BF16};

/* Rounding errors of a sum of n terms wander: their standard deviation is sqrt(n/3) roundings where
 * one term is as large as the whole sum (inputs with one outlier).  Three sqrt(n) are five of it; and a
 * few for product, bias and store. */
static double roundings(int64_t n)
{
    return 4 + 3 * sqrt((double)n);
}

static int call_linear(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_linear(be, &t[0], &t[1], &t[2], c->n > 3 ? &t[3] : NULL, err);
}

static void linear(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (int k = 0; k < 6; k++) {
            const int64_t *s = shapes[i];
            if (i >= ONCE && k != 5)
                continue;
            Case c = {.name = "linear",
                      .call = call_linear,
                      .f32_too = 1,
                      .factor = roundings(s[2]),
                      .input_kinds = i >= ONCE ? 1 : 0};
            CASE_ADD(&c, "y", OUT, ACT, 2, s[0], s[1]);
            CASE_ADD(&c, "x", IN, ACT, 2, s[0], s[2]);
            CASE_ADD(&c, "w", WEIGHT, types[k % 3], 2, s[1], s[2]);
            if (k >= 3)
                CASE_ADD(&c, "b", WEIGHT, types[k % 3], 1, s[1]);
            ops_check(&c);
        }
}

static void leading_axes_are_folded(void **state)
{
    (void)state;
    Case c = {.name = "linear of [2,3,5,7]", .call = call_linear, .f32_too = 1, .factor = roundings(7)};
    CASE_ADD(&c, "y", OUT, ACT, 3, 2, 15, 4);
    CASE_ADD(&c, "x", IN, ACT, 4, 2, 3, 5, 7);
    CASE_ADD(&c, "w", WEIGHT, DT_F32, 2, 4, 7);
    CASE_ADD(&c, "b", WEIGHT, DT_F16, 1, 4);
    ops_check(&c);
}

static void feed_forward_layer(void **state)
{
    (void)state;
    Case c = {
        .name = "linear, 1920 to 7680", .call = call_linear, .f32_too = 1, .factor = roundings(1920), .input_kinds = 1};
    CASE_ADD(&c, "y", OUT, ACT, 2, 3, 7680);
    CASE_ADD(&c, "x", IN, ACT, 2, 3, 1920);
    CASE_ADD(&c, "w", WEIGHT, DT_BF16, 2, 7680, 1920);
    CASE_ADD(&c, "b", WEIGHT, DT_BF16, 1, 7680);
    ops_check(&c);
}

/* A bias kept as F32 beside bf16 weights, as norms' neighbours are: devices round it for cuBLASLt. */
static void exact_bias(void **state)
{
    (void)state;
    Case c = {
        .name = "linear, F32 bias", .call = call_linear, .f32_too = 1, .factor = roundings(64), .rounds_inside = 1};
    CASE_ADD(&c, "y", OUT, ACT, 2, 37, 272);
    CASE_ADD(&c, "x", IN, ACT, 2, 37, 64);
    CASE_ADD(&c, "w", WEIGHT, DT_BF16, 2, 272, 64);
    CASE_ADD(&c, "b", WEIGHT, DT_F32, 1, 272);
    ops_check(&c);
}

/* The second call finds the first one's cuBLASLt plan, which must not have kept its bias. */
static int call_twice(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    int rc = op_linear(be, &t[0], &t[2], &t[3], &t[4], err);
    return rc < 0 ? rc : op_linear(be, &t[1], &t[2], &t[3], &t[5], err);
}

static void two_biases(void **state)
{
    (void)state;
    Case c = {.name = "linear, two biases", .call = call_twice, .factor = roundings(64), .composite = 1};
    CASE_ADD(&c, "y1", OUT, ACT, 2, 24, 48);
    CASE_ADD(&c, "y2", OUT, ACT, 2, 24, 48);
    CASE_ADD(&c, "x", IN, ACT, 2, 24, 64);
    CASE_ADD(&c, "w", WEIGHT, DT_BF16, 2, 48, 64);
    CASE_ADD(&c, "b1", WEIGHT, DT_BF16, 1, 48);
    CASE_ADD(&c, "b2", WEIGHT, DT_BF16, 1, 48);
    ops_check(&c);
}

/* More shapes than a device remembers: the oldest make way, and come back. */
static void many_shapes(void **state)
{
    enum { SHAPES = 300, MOST = 8 * SHAPES };
    static float ones[MOST], y[8];
    Err err = {0};
    Backend *be;
    void *p[3];
    (void)state;
    CHECK_OK(backend_open(&be, "sim", 1, NULL, &err), &err);
    for (int i = 0; i < 3; i++)
        CHECK_OK(be->alloc(be, MOST * 8 * 2, &p[i], &err), &err);
    for (int i = 0; i < MOST; i++)
        ones[i] = 1;
    for (int k = 0; k < 2 * SHAPES; k++) {
        const int64_t K = 8 * (k % SHAPES + 1);
        Tensor ty = tensor_of(p[0], DT_BF16, 2, 1, 8), tx = tensor_of(p[1], DT_BF16, 2, 1, K),
               tw = tensor_of(p[2], DT_BF16, 2, 8, K);
        CHECK_OK(backend_put_f32(be, &tx, ones, &err), &err);
        for (int64_t at = 0; k == 0 && at < 8; at++) { /* all of w once */
            Tensor part = tensor_of((char *)p[2] + at * MOST * 2, DT_BF16, 1, MOST);
            CHECK_OK(backend_put_f32(be, &part, ones, &err), &err);
        }
        CHECK_OK(op_linear(be, &ty, &tx, &tw, NULL, &err), &err);
        CHECK_OK(backend_get_f32(be, y, &ty, &err), &err);
        check_value("y", y[7], (double)K, 0, 1.0 / 128);
    }
    for (int i = 0; i < 3; i++)
        be->release(be, p[i]);
    backend_close(&be);
}

static int call_backward_x(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_linear_backward_x(be, &t[0], &t[1], &t[2], *(const int *)c->param, err);
}

static void linear_backward_x(void **state)
{
    (void)state;
    static const int add[] = {0, 1};
    for (int i = 0; i < N_SHAPES; i++)
        for (int k = 0; k < 6; k++) {
            const int64_t *s = shapes[i];
            if (i >= ONCE && k != 5)
                continue;
            Case c = {.name = "linear_backward_x",
                      .call = call_backward_x,
                      .f32_too = 1,
                      .factor = roundings(s[1]),
                      .param = &add[k / 3],
                      .input_kinds = i >= ONCE ? 1 : 0};
            CASE_ADD(&c, "gx", k < 3 ? OUT : INOUT, ACT, 2, s[0], s[2]);
            CASE_ADD(&c, "gy", IN, ACT, 2, s[0], s[1]);
            CASE_ADD(&c, "w", WEIGHT, types[k % 3], 2, s[1], s[2]);
            ops_check(&c);
        }
}

typedef struct Which {
    int gw, gb;
} Which; /* operand numbers, 0: NULL */

static int call_backward_w(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Which *which = c->param;
    return op_linear_backward_w(be, which->gw ? &t[which->gw] : NULL, which->gb ? &t[which->gb] : NULL, &t[0], &t[1],
                                err);
}

static void linear_backward_w(void **state)
{
    (void)state;
    static const Which variants[] = {{2, 3}, {2, 0}, {0, 2}, {2, 3} /* BF16 */};
    for (int i = 0; i < N_SHAPES; i++)
        for (int k = 0; k < 4; k++) {
            const int64_t *s = shapes[i];
            const DType type = k == 3 ? DT_BF16 : DT_F32;
            if (i >= ONCE && k != 0 && k != 3)
                continue;
            Case c = {.name = k == 3 ? "linear_backward_w, bf16 gradients" : "linear_backward_w",
                      .call = call_backward_w,
                      .f32_too = 1,
                      .factor = roundings(s[0]),
                      .param = &variants[k],
                      .input_kinds = i >= ONCE ? 1 : 0};
            CASE_ADD(&c, "gy", IN, ACT, 2, s[0], s[1]);
            CASE_ADD(&c, "x", IN, ACT, 2, s[0], s[2]);
            if (variants[k].gw)
                CASE_ADD(&c, "gw", INOUT, type, 2, s[1], s[2]);
            if (variants[k].gb)
                CASE_ADD(&c, "gb", INOUT, type, 1, s[1]);
            if (!variants[k].gw)
                c.any_shape = 1u << 1; /* x: its rows are looked at, its width is not */
            ops_check(&c);
        }
}

/* The column sums are our own, in pairs or blocks.  The products are the BLAS's, which may add the
 * 5,000 terms one after another (OpenBLAS 0.3.26 does for so few columns): up to n roundings, all to
 * one side when the terms are equal. */
static void column_sums_of_many_rows(void **state)
{
    (void)state;
    static const Which both[] = {{2, 3}}, sums[] = {{0, 2}};
    Case c = {.name = "linear_backward_w, column sums of 5000 rows",
              .call = call_backward_w,
              .f32_too = 1,
              .factor = roundings(5000),
              .any_shape = 1u << 1, /* x: its rows are looked at, its width is not */
              .param = sums};
    CASE_ADD(&c, "gy", IN, ACT, 2, 5000, 3);
    CASE_ADD(&c, "x", IN, ACT, 2, 5000, 5);
    CASE_ADD(&c, "gb", INOUT, DT_F32, 1, 3);
    ops_check(&c);

    Case p = {
        .name = "linear_backward_w, 5000 rows", .call = call_backward_w, .f32_too = 1, .factor = 5000, .param = both};
    CASE_ADD(&p, "gy", IN, ACT, 2, 5000, 3);
    CASE_ADD(&p, "x", IN, ACT, 2, 5000, 5);
    CASE_ADD(&p, "gw", INOUT, DT_F32, 2, 3, 5);
    CASE_ADD(&p, "gb", INOUT, DT_F32, 1, 3);
    ops_check(&p);
}

static void linear_by_hand(void **state)
{
    (void)state;
    double x[6] = {1, 2, 3, 4, 5, 6}, w[6] = {1, 0, -1, 2, 1, 0.5}, b[2] = {10, 20}, y[4];
    const double want[4] = {10 - 2, 20 + 5.5, 10 - 2, 20 + 16};
    Err err = {0};
    Tensor ty = tensor_of(y, DT_F64, 2, 2, 2), tx = tensor_of(x, DT_F64, 2, 2, 3), tw = tensor_of(w, DT_F64, 2, 2, 3),
           tb = tensor_of(b, DT_F64, 1, 2);
    CHECK_OK(op_linear(ops_double(), &ty, &tx, &tw, &tb, &err), &err);
    for (int i = 0; i < 4; i++)
        check_value("y", y[i], want[i], 1e-15, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear),
        cmocka_unit_test(leading_axes_are_folded),
        cmocka_unit_test(feed_forward_layer),
        cmocka_unit_test(exact_bias),
        cmocka_unit_test(two_biases),
        cmocka_unit_test(many_shapes),
        cmocka_unit_test(linear_backward_x),
        cmocka_unit_test(linear_backward_w),
        cmocka_unit_test(column_sums_of_many_rows),
        cmocka_unit_test(linear_by_hand),
        cmocka_unit_test(ops_summary),
    };
    return check_run("ops: linear", tests);
}
