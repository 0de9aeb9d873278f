/* fill, copy, add, lincomb and the activations. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include "tests/ops/harness.h"

static const int64_t counts[] = {1, 2, 7, 63, 64, 65, 997, 40961}; /* the last: enough for cpu to wake its threads */
enum { N_COUNTS = sizeof counts / sizeof counts[0] };
static const ActKind acts[] = {ACT_NONE, ACT_SILU, ACT_GELU_TANH, ACT_GELU_ERF, ACT_QUICK_GELU, ACT_RELU};
enum { N_ACTS = sizeof acts / sizeof acts[0] };

static int call_fill(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_fill(be, &t[0], *(const float *)c->param, err);
}

static void fill_is_exact(void **state)
{
    (void)state;
    const DType types[] = {DT_F32, DT_F16, DT_BF16};
    const float values[] = {0, 1, -0.3f, 1e30f};
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < 12; k++) {
            Case c = {.name = "fill", .call = call_fill, .param = &values[k % 4], .input_kinds = 1, .any_shape = 1};
            CASE_ADD(&c, "y", OUT, types[k / 4], 1, counts[i]);
            ops_check(&c);
        }
}

static int call_copy(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    return op_copy(be, &t[0], &t[1], err);
}

static void copy_rounds_once(void **state)
{
    (void)state;
    const DType types[] = {DT_F32, DT_F16, DT_BF16};
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < 9; k++) {
            Case c = {.name = "copy", .call = call_copy, .any_shape = 3};
            CASE_ADD(&c, "y", OUT, types[k / 3], 1, counts[i]);
            case_range(&c, CASE_ADD(&c, "x", IN, types[k % 3], 1, counts[i]), -100, 100);
            ops_check(&c);
        }
}

static int call_add(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    return op_add(be, &t[0], &t[1], &t[2], err);
}

static void add_rounds_once(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++) {
        Case c = {.name = "add", .call = call_add, .f32_too = 1};
        int y = CASE_ADD(&c, "y", OUT, ACT, 1, counts[i]), a = CASE_ADD(&c, "a", IN, ACT, 1, counts[i]);
        case_in_place(&c, y, a);
        case_in_place(&c, y, CASE_ADD(&c, "b", IN, ACT, 1, counts[i]));
        ops_check(&c);
    }
}

typedef struct Lincomb {
    int n;
    double coef[4];
} Lincomb;

static int call_lincomb(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Lincomb *l = c->param;
    const Tensor *x[4] = {&t[1], &t[2], &t[3], &t[4]};
    return op_lincomb(be, &t[0], l->n, l->coef, x, err);
}

/* Each product and each sum rounds, the coefficient too: 2n roundings of the sum of |coef x|. */
static void bound_lincomb(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Lincomb *l = c->param;
    for (int64_t i = 0; i < c->arg[0].count; i++) {
        double size = 0;
        for (int k = 0; k < l->n; k++)
            size += fabs(l->coef[k] * value[k + 1][i]);
        bound[0][i] = 2 * l->n * (ROUNDOFF * size + FLT_MIN);
    }
}

static void lincomb_of_one_to_four(void **state)
{
    (void)state;
    const DType types[] = {DT_F32, DT_F16, DT_BF16, DT_F32};
    for (int i = 0; i < N_COUNTS; i++)
        for (int n = 1; n <= 4; n++) {
            const Lincomb l = {n, {0.75, -5.5, 6.25, 1 / 3.0}};
            Case c = {.name = "lincomb", .call = call_lincomb, .bound = bound_lincomb, .param = &l};
            CASE_ADD(&c, "y", OUT, DT_F32, 1, counts[i]);
            for (int k = 0; k < n; k++)
                CASE_ADD(&c, "x", IN, types[k], 1, counts[i]);
            case_in_place(&c, 0, 1);
            if (n == 4)
                case_in_place(&c, 0, 4);
            ops_check(&c);
        }
}

static int call_act(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_act(be, &t[0], &t[1], *(const ActKind *)c->param, err);
}

/* 1 + tanh and x s(x) lose relative, not absolute, accuracy where x is large and negative: 8
 * roundings of |x|. */
static void bound_act(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    for (int64_t i = 0; i < c->arg[0].count; i++)
        bound[0][i] = 8 * (ROUNDOFF * fabs(value[1][i]) + FLT_MIN);
}

static void activations(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < N_ACTS; k++) {
            Case c = {.name = "act", .call = call_act, .f32_too = 1, .bound = bound_act, .param = &acts[k]};
            CASE_ADD(&c, "y", OUT, ACT, 1, counts[i]);
            case_range(&c, CASE_ADD(&c, "x", IN, ACT, 1, counts[i]), -12, 12);
            case_in_place(&c, 0, 1);
            ops_check(&c);
        }
}

static int call_act_backward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_act_backward(be, &t[0], &t[1], &t[2], *(const ActKind *)c->param, err);
}

/* In the slope of gelu the factor 1 - tanh^2, good to a few roundings of 1, is multiplied by up to
 * 0.11|x|^3 before it dies out near |x| = 5: 4 roundings of (1 + |x|^3), x at most 5. */
static void bound_act_backward(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    for (int64_t i = 0; i < c->arg[0].count; i++) {
        double x = fmin(fabs(value[2][i]), 5);
        bound[0][i] = 4 * (ROUNDOFF * (1 + x * x * x) * fabs(value[1][i]) + FLT_MIN);
    }
}

static void activation_slopes(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < N_ACTS; k++) {
            Case c = {.name = "act_backward",
                      .call = call_act_backward,
                      .f32_too = 1,
                      .bound = bound_act_backward,
                      .param = &acts[k]};
            CASE_ADD(&c, "gx", OUT, ACT, 1, counts[i]);
            CASE_ADD(&c, "gy", IN, ACT, 1, counts[i]);
            case_range(&c, CASE_ADD(&c, "x", IN, ACT, 1, counts[i]), -12, 12);
            case_in_place(&c, 0, 1);
            ops_check(&c);
        }
}

static int call_act_gate(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_act_gate(be, &t[0], &t[1], &t[2], *(const ActKind *)c->param, err);
}

static void bound_act_gate(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    for (int64_t i = 0; i < c->arg[0].count; i++)
        bound[0][i] = 9 * (ROUNDOFF * fabs(value[1][i] * value[2][i]) + FLT_MIN * (1 + fabs(value[2][i])));
}

static void gated_activations(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < N_ACTS; k++) {
            Case c = {
                .name = "act_gate", .call = call_act_gate, .f32_too = 1, .bound = bound_act_gate, .param = &acts[k]};
            CASE_ADD(&c, "y", OUT, ACT, 1, counts[i]);
            case_range(&c, CASE_ADD(&c, "a", IN, ACT, 1, counts[i]), -12, 12);
            CASE_ADD(&c, "b", IN, ACT, 1, counts[i]);
            case_in_place(&c, 0, 1);
            case_in_place(&c, 0, 2);
            ops_check(&c);
        }
}

/* Values of the formulas from elsewhere (Python's math module). */
static void activations_by_hand(void **state)
{
    (void)state;
    static const struct {
        ActKind kind;
        double x, y;
    } known[] = {
        {ACT_SILU, 1, 0.73105857863000487926},
        {ACT_SILU, -2, -0.23840584404423511752},
        {ACT_GELU_ERF, 1, 0.84134474606854294859},
        {ACT_GELU_ERF, -0.5, -0.15426876936299344818},
        {ACT_GELU_TANH, 1, 0.8411919906082768},
        {ACT_GELU_TANH, -0.5, -0.15428599017485606},
        {ACT_QUICK_GELU, 1, 0.8457957659328212},
        {ACT_QUICK_GELU, -1, -0.1542042340671787},
        {ACT_NONE, -3.25, -3.25},
        {ACT_RELU, 1.5, 1.5},
        {ACT_RELU, -1.5, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        double y = 0, x = known[i].x;
        Err err = {0};
        Tensor ty = tensor_of(&y, DT_F64, 1, 1), tx = tensor_of(&x, DT_F64, 1, 1);
        CHECK_OK(op_act(ops_double(), &ty, &tx, known[i].kind, &err), &err);
        check_value("act", y, known[i].y, 1e-15, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fill_is_exact),     cmocka_unit_test(copy_rounds_once),
        cmocka_unit_test(add_rounds_once),   cmocka_unit_test(lincomb_of_one_to_four),
        cmocka_unit_test(activations),       cmocka_unit_test(activation_slopes),
        cmocka_unit_test(gated_activations), cmocka_unit_test(activations_by_hand),
        cmocka_unit_test(ops_summary),
    };
    return check_run("ops: elementwise", tests);
}
