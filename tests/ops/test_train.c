/* Posterior, diffusion, loss, sums of squares, AdamW. */
#include <float.h>
#include <math.h>
#include "tests/ops/harness.h"

static const int64_t counts[] = {1, 2, 63, 64, 65, 997, 100003};
enum { N_COUNTS = sizeof counts / sizeof counts[0] };

static int call_posterior(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_posterior(be, &t[0], &t[1], c->n > 2 ? &t[2] : NULL, *(const double *)c->param, err);
}

/* exp(l/2) is off by roundings of l/2 and of exp. */
static void bound_posterior(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    int64_t C = c->arg[0].dim[1];
    double scale = fabs(*(const double *)c->param);
    for (int64_t i = 0; i < c->arg[0].count; i++) {
        int64_t at = i / C * 2 * C + i % C;
        double logvar = fmin(fmax(value[1][at + C], -30), 20), noise = c->n > 2 ? fabs(value[2][i]) * exp(logvar / 2) : 0;
        bound[0][i] = ROUNDOFF * scale * (4 * fabs(value[1][at]) + (8 + fabs(logvar)) * noise) + FLT_MIN;
    }
}

static void posterior(void **state)
{
    (void)state;
    static const double scales[] = {1, 1.15258426};
    for (int i = 0; i < 4 * N_COUNTS; i++) {
        int64_t C = i / 4 % 2 ? 16 : 1;
        Case c = {.name = "posterior", .call = call_posterior, .f32_too = 1, .bound = bound_posterior, .param = &scales[i % 2], .huge = 1e3};
        CASE_ADD(&c, "z", OUT, ACT, 2, counts[i / 4], C);
        case_range(&c, CASE_ADD(&c, "moments", IN, ACT, 2, counts[i / 4], 2 * C), -40, 40);
        if (i % 4 < 2)
            CASE_ADD(&c, "eps", IN, ACT, 2, counts[i / 4], C);
        ops_check(&c);
    }
}

typedef struct Noise { double a[3], s[3]; } Noise;

static int call_diffuse(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Noise *n = c->param;
    return op_diffuse(be, &t[0], &t[1], &t[2], &t[3], n->a, n->s, err);
}

static void bound_diffuse(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Noise *n = c->param;
    int64_t each = c->arg[0].count / c->arg[0].dim[0];
    for (int64_t i = 0; i < c->arg[0].count; i++) {
        double a = n->a[i / each], s = n->s[i / each];
        bound[0][i] = 4 * (ROUNDOFF * (a * fabs(value[2][i]) + s * fabs(value[3][i])) + FLT_MIN);
        bound[1][i] = 4 * (ROUNDOFF * (s * fabs(value[2][i]) + a * fabs(value[3][i])) + FLT_MIN);
    }
}

static void diffuse(void **state)
{
    (void)state;
    const Noise n = {{0.0, 0.8, 0.99872635}, {1.0, 0.6, 0.05045465}}; /* the first: timestep 999 */
    for (int i = 0; i < N_COUNTS; i++) {
        Case c = {.name = "diffuse", .call = call_diffuse, .f32_too = 1, .bound = bound_diffuse, .param = &n};
        CASE_ADD(&c, "xt", OUT, ACT, 2, 3, counts[i]);
        CASE_ADD(&c, "v", OUT, ACT, 2, 3, counts[i]);
        CASE_ADD(&c, "x0", IN, ACT, 2, 3, counts[i]);
        CASE_ADD(&c, "eps", IN, ACT, 2, 3, counts[i]);
        ops_check(&c);
    }
}

/* The host's double stands as an operand of its own. */
static int call_mse(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    double loss = 0;
    int rc = op_mse(be, &loss, c->n > 3 ? &t[3] : NULL, &t[1], &t[2], *(const double *)c->param, err);
    return rc < 0 ? rc : ops_set(be, &t[0], loss, err);
}

/* Squares of differences are positive: the loss is good to a few roundings, and a sum in pieces to a hundred at most. */
static void bound_mse(const Case *c, double *const *value, double *const *want, double **bound)
{
    bound[0][0] = 100 * ROUNDOFF * want[0][0] + FLT_MIN;
    double n = (double)c->arg[1].count, weight = *(const double *)c->param;
    for (int64_t i = 0; c->n > 3 && i < c->arg[3].count; i++)
        bound[3][i] = 6 * (ROUNDOFF * (fabs(value[1][i]) + fabs(value[2][i])) * 2 * weight / n + FLT_MIN);
}

static void mse(void **state)
{
    (void)state;
    static const double weights[] = {1, 0.25};
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        Case c = {.name = "mse", .call = call_mse, .f32_too = 1, .bound = bound_mse, .param = &weights[i % 2], .huge = 1e14};
        CASE_ADD(&c, "loss", OUT, DT_F64, 1, 1);
        CASE_ADD(&c, "u", IN, ACT, 1, counts[i / 2]);
        CASE_ADD(&c, "v", IN, ACT, 1, counts[i / 2]);
        if (i % 2) {
            CASE_ADD(&c, "gu", OUT, ACT, 1, counts[i / 2]);
            case_in_place(&c, 3, 1);
        }
        ops_check(&c);
    }
}

static int call_sum_squares(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    double sum = 0;
    int rc = op_sum_squares(be, &sum, &t[1], err);
    return rc < 0 ? rc : ops_set(be, &t[0], sum, err);
}

static void bound_sum_squares(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)c, (void)value;
    bound[0][0] = 100 * ROUNDOFF * want[0][0] + FLT_MIN;
}

static void sum_squares(void **state)
{
    (void)state;
    for (int i = 0; i < N_COUNTS; i++) {
        Case c = {.name = "sum_squares", .call = call_sum_squares, .bound = bound_sum_squares, .huge = 1e16, .any_shape = 2};
        CASE_ADD(&c, "sum", OUT, DT_F64, 1, 1);
        CASE_ADD(&c, "g", IN, DT_F32, 1, counts[i]);
        ops_check(&c);
    }
}

enum { P, G, M, V };

static int call_adamw(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_adamw(be, &t[P], &t[G], &t[M], &t[V], c->param, err);
}

/* m and v: roundings of their terms.  The step lr m^/(sqrt(v^) + eps): those of m, and 16 of its own; p: 4. */
static void bound_adamw(const Case *c, double *const *value, double *const *want, double **bound)
{
    const AdamParams *a = c->param;
    double correct_m = 1 - pow(a->beta1, (double)a->step), correct_v = 1 - pow(a->beta2, (double)a->step);
    for (int64_t i = 0; i < c->arg[P].count; i++) {
        double g = a->grad_scale * fabs(value[G][i]), terms = a->beta1 * fabs(value[M][i]) + (1 - a->beta1) * g;
        double under = sqrt(want[V][i] / correct_v) + a->eps;
        bound[M][i] = 4 * ROUNDOFF * terms + FLT_MIN;
        bound[V][i] = 6 * ROUNDOFF * fabs(want[V][i]) + FLT_MIN;
        bound[P][i] = 4 * ROUNDOFF * fabs(value[P][i]) +
                      a->lr * (16 * ROUNDOFF * (terms / correct_m) / under + FLT_MIN / under) + FLT_MIN;
    }
}

static void adamw(void **state)
{
    (void)state;
    static const AdamParams params[] = {
        {1e-3, 0.9, 0.95, 1e-8, 1e-4, 1, 1}, {1e-4, 0.9, 0.999, 1e-8, 0, 7, 0.5}, {2e-5, 0.9, 0.95, 1e-8, 1e-2, 10000, 0.037},
        {0, 0.9, 0.95, 1e-8, 1e-4, 1, 1}, /* the first step of a warm-up */
    };
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < 4; k++) {
            Case c = {.name = "adamw", .call = call_adamw, .bound = bound_adamw, .param = &params[k], .huge = 1e12};
            CASE_ADD(&c, "p", INOUT, DT_F32, 1, counts[i]);
            CASE_ADD(&c, "g", IN, DT_F32, 1, counts[i]);
            case_range(&c, CASE_ADD(&c, "m", INOUT, DT_F32, 1, counts[i]), -0.1, 0.1);
            case_range(&c, CASE_ADD(&c, "v", INOUT, DT_F32, 1, counts[i]), 0, 0.1);
            ops_check(&c);
        }
}

/* Two steps by hand: g = 1, then -2; lr 0.1, betas 0.5 and 0.75, decay 0.1, eps 0.5 (so that its place shows). */
static void adamw_by_hand(void **state)
{
    (void)state;
    double p = 2, g = 1, m = 0, v = 0;
    Err err = {0};
    Tensor tp = tensor_of(&p, DT_F64, 1, 1), tg = tensor_of(&g, DT_F64, 1, 1), tm = tensor_of(&m, DT_F64, 1, 1),
           tv = tensor_of(&v, DT_F64, 1, 1);
    AdamParams a = {0.1, 0.5, 0.75, 0.5, 0.1, 1, 1};
    CHECK_OK(op_adamw(ops_double(), &tp, &tg, &tm, &tv, &a, &err), &err);
    double first = 2 * 0.99 - 0.1 * (0.5 / 0.5) / (sqrt(0.25 / 0.25) + 0.5);
    check_value("p after 1", p, first, 1e-15, 0);
    g = -4;
    a.grad_scale = 0.5; /* -2 */
    a.step = 2;
    CHECK_OK(op_adamw(ops_double(), &tp, &tg, &tm, &tv, &a, &err), &err);
    check_value("m", m, 0.25 - 1, 1e-15, 0);
    check_value("v", v, 0.1875 + 1, 1e-15, 0);
    check_value("p after 2", p, first * 0.99 - 0.1 * (-0.75 / 0.75) / (sqrt(1.1875 / 0.4375) + 0.5), 1e-15, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posterior), cmocka_unit_test(diffuse), cmocka_unit_test(mse), cmocka_unit_test(sum_squares),
        cmocka_unit_test(adamw), cmocka_unit_test(adamw_by_hand),
    };
    return check_run("ops: diffusion, loss, optimiser", tests);
}
