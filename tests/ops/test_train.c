/* Posterior, diffusion, loss, sums of squares, AdamW. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/ops/rounding.h"
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
        double logvar = fmin(fmax(value[1][at + C], -30), 20),
               noise = c->n > 2 ? fabs(value[2][i]) * exp(logvar / 2) : 0;
        bound[0][i] = ROUNDOFF * scale * (4 * fabs(value[1][at]) + (8 + fabs(logvar)) * noise) + FLT_MIN;
    }
}

static void posterior(void **state)
{
    (void)state;
    static const double scales[] = {1, 1.15258426};
    for (int i = 0; i < 4 * N_COUNTS; i++) {
        int64_t C = i / 4 % 2 ? 16 : 1;
        Case c = {.name = "posterior",
                  .call = call_posterior,
                  .f32_too = 1,
                  .bound = bound_posterior,
                  .param = &scales[i % 2],
                  .huge = 1e3};
        CASE_ADD(&c, "z", OUT, ACT, 2, counts[i / 4], C);
        case_range(&c, CASE_ADD(&c, "moments", IN, ACT, 2, counts[i / 4], 2 * C), -40, 40);
        if (i % 4 < 2)
            CASE_ADD(&c, "eps", IN, ACT, 2, counts[i / 4], C);
        ops_check(&c);
    }
}

typedef struct Noise {
    double a[3], s[3];
} Noise;

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

/* Squares of differences are positive: the loss is good to a few roundings, and a sum in pieces to
 * a hundred at most. */
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
        Case c = {
            .name = "mse", .call = call_mse, .f32_too = 1, .bound = bound_mse, .param = &weights[i % 2], .huge = 1e14};
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
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        Case c = {
            .name = "sum_squares", .call = call_sum_squares, .bound = bound_sum_squares, .huge = 1e16, .any_shape = 2};
        CASE_ADD(&c, "sum", OUT, DT_F64, 1, 1);
        CASE_ADD(&c, "g", IN, i % 2 ? DT_BF16 : DT_F32, 1, counts[i / 2]);
        ops_check(&c);
    }
}

enum { P, G, M, V, COPY };

static int call_adamw(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_adamw(be, &t[P], c->n > COPY ? &t[COPY] : NULL, &t[G], &t[M], &t[V], c->param, err);
}

/* m and v: roundings of their terms.  The step lr m^/(sqrt(v^) + eps): those of m, and 16 of its
 * own; p: 4.  Rounded stochastically: one of the two neighbours, a spacing at most. */
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
        if (c->arg[P].dtype == DT_BF16)
            bound[P][i] += 0x1p-7 * (fabs(want[P][i]) + bound[P][i]);
        if (c->n > COPY)
            bound[COPY][i] = bound[P][i];
    }
}

static void adamw(void **state)
{
    (void)state;
    static const AdamParams params[] = {
        {1e-3, 0.9, 0.95, 1e-8, 1e-4, 1, 1, 0, 0},
        {1e-4, 0.9, 0.999, 1e-8, 0, 7, 0.5, 11, 0},
        /* the first step of a warm-up */
        {2e-5, 0.9, 0.95, 1e-8, 1e-2, 10000, 0.037, 12, 1},
        {0, 0.9, 0.95, 1e-8, 1e-4, 1, 1, 13, (int64_t)1 << 33},
    };
    for (int i = 0; i < N_COUNTS; i++)
        /* each with: masters, masters and copies, bf16 alone; the last two with bf16 gradients as
         * well */
        for (int k = 0; k < 4 * 5; k++) {
            if (k >= 4 && (k + i) % 2)
                continue;
            static const char *const name[] = {"adamw", "adamw, copies", "adamw, bf16", "adamw, copies, bf16 gradients",
                                               "adamw, all bf16"};
            Case c = {.name = name[k / 4],
                      .call = call_adamw,
                      .bound = bound_adamw,
                      .param = &params[k % 4],
                      .huge = 1e12,
                      .stochastic = k / 4 == 2 || k / 4 == 4 ? 1u << P : 0};
            CASE_ADD(&c, "p", INOUT, k / 4 == 2 || k / 4 == 4 ? DT_BF16 : DT_F32, 1, counts[i]);
            CASE_ADD(&c, "g", IN, k / 4 < 3 ? DT_F32 : DT_BF16, 1, counts[i]);
            case_range(&c, CASE_ADD(&c, "m", INOUT, DT_F32, 1, counts[i]), -0.1, 0.1);
            case_range(&c, CASE_ADD(&c, "v", INOUT, DT_F32, 1, counts[i]), 0, 0.1);
            if (k / 4 == 1 || k / 4 == 3)
                CASE_ADD(&c, "copy", OUT, DT_BF16, 1, counts[i]);
            ops_check(&c);
        }
}

/* ---- stochastic rounding --------------------------------------------------------------------- */

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Over all 65536 noises the mean is x exactly; each result is a neighbour of x; the two of them are
 * as often as their distances say. */
static void rounding_has_no_bias(void **state)
{
    (void)state;
    const uint32_t bits[] = {0x3f800001, 0x3f80ffff, 0x3f808000, 0xbf812345, 0x00000001, 0x0000ffff, 0x007fffff,
                             0x80012345, 0x7f7effff, 0x3fffffff, 0x42f6e979, 0xc2f6e979, 0x00800001, 0x38d1b717};
    for (size_t k = 0; k < sizeof bits / sizeof *bits; k++) {
        double x = float_of(bits[k]), down = float_of(bits[k] & 0xffff0000u),
               up = float_of((bits[k] & 0xffff0000u) + 0x10000u), sum = 0;
        for (uint32_t noise = 0; noise < 65536; noise++) {
            double y = round_stochastic((float)x, noise);
            assert_true(y == down || y == up);
            sum += (y - down) / (up - down); /* 0 or 1: exact */
        }
        assert_true(sum == 65536 * ((x - down) / (up - down)));
    }
}

/* What bf16 holds never changes, infinities and NaNs included; what lies beyond the largest becomes
 * it. */
static void rounding_keeps(void **state)
{
    (void)state;
    const uint32_t noise[] = {0, 1, 0x7fff, 0x8000, 0xffff};
    for (int n = 0; n < 5; n++) {
        for (uint32_t b = 0; b < 65536; b++)
            assert_int_equal(bits_of(round_stochastic(float_of(b << 16), noise[n])), b << 16);
        assert_int_equal(bits_of(round_stochastic(float_of(0x7f7fffff), noise[n])), 0x7f7f0000);
        assert_int_equal(bits_of(round_stochastic(float_of(0xff7f0001), noise[n])), 0xff7f0000);
        assert_true(isnan(round_stochastic(float_of(0x7f800001), noise[n])) &&
                    isnan(round_stochastic(float_of(0xffffffff), noise[n])));
    }
}

/* The noise itself: its mean and every bit even over elements, steps and seeds, and no two of these
 * alike. */
static void noise_is_even(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    const double sigma = 4; /* 54 checks: a generator without a fault passes all with 99.7 % */
    for (int way = 0; way < 3; way++) {
        int64_t ones[16] = {0}, like_next = 0;
        double sum = 0;
        for (int64_t i = 0; i < N; i++) {
            uint32_t u[2];
            for (int64_t k = 0; k < 2; k++)
                u[k] = way == 0 ? rounding_noise(rounding_key(7, 3), ((int64_t)1 << 32) - 100 + i + k)
                                : rounding_noise(
                                      rounding_key(way == 1 ? 7 : (uint64_t)(i + k), way == 1 ? 1 + i + k : 3), 5);
            assert_true(u[0] < 65536);
            sum += u[0];
            for (int b = 0; b < 16; b++)
                ones[b] += u[0] >> b & 1;
            like_next += (u[0] & 0x8000) == (u[1] & 0x8000);
        }
        check_value("mean", sum / N, 32767.5, sigma * 18918.6 / sqrt(N), 0); /* of a uniform one: 65536/sqrt(12) */
        for (int b = 0; b < 16; b++)
            check_value("ones", (double)ones[b], N / 2.0, sigma * sqrt(N) / 2, 0);
        check_value("neighbours alike", (double)like_next, N / 2.0, sigma * sqrt(N) / 2, 0);
    }
}

/* Updates of a sixteenth of the distance between neighbours: rounded to nearest they would all be
 * lost; 64 of them move 4096 weights by 2^-6 in the mean.  One element's deviation: 2^-8 sqrt(64 /
 * 16 * 15 / 16). */
static void small_steps_add_up(void **state)
{
    (void)state;
    enum { N = 4096, STEPS = 64 };
    Backend *be = NULL;
    Err err = {0};
    static uint16_t p[N], g[N];
    static float m[N], v[N];
    Tensor t[4] = {tensor_of(p, DT_BF16, 1, N), tensor_of(g, DT_BF16, 1, N), tensor_of(m, DT_F32, 1, N),
                   tensor_of(v, DT_F32, 1, N)};
    /* betas of 0: the step is lr times the gradient's sign */
    AdamParams a = {.lr = 0x1p-12, .grad_scale = 1, .seed = 1};
    double sum = 0;
    CHECK_OK(backend_open(&be, "cpu", 2, NULL, &err), &err);
    CHECK_OK(op_fill(be, &t[0], 1, &err), &err);
    CHECK_OK(op_fill(be, &t[1], 1, &err), &err);
    for (a.step = 1; a.step <= STEPS; a.step++)
        CHECK_OK(op_adamw(be, &t[0], NULL, &t[1], &t[2], &t[3], &a, &err), &err);
    for (int i = 0; i < N; i++)
        sum += bfloat_to_float(p[i]);
    check_value("mean", sum / N, 1 - STEPS * 0x1p-12, 4 * 0x1p-8 * sqrt(STEPS * 15.0 / 256) / sqrt(N), 0);
    backend_close(&be);
}

/* One update without gradient, p <- p (1 - 2^-9): exact as a float everywhere, so that the rounding
 * alone shows. */
static void decay_on(const char *name, int64_t threads, int64_t n, int64_t split, const float *start, uint16_t *out)
{
    Backend *be = NULL;
    Err err = {0};
    void *room[4];
    AdamParams a = {.lr = 1,
                    .beta1 = 0.9,
                    .beta2 = 0.95,
                    .eps = 1e-8,
                    .weight_decay = 0x1p-9,
                    .step = 5,
                    .grad_scale = 1,
                    .seed = 99};
    CHECK_OK(backend_open(&be, name, threads, NULL, &err), &err);
    for (int k = 0; k < 4; k++) {
        CHECK_OK(be->alloc(be, 4 * n, &room[k], &err), &err);
        Tensor t = tensor_of(room[k], k < 2 ? DT_BF16 : DT_F32, 1, n);
        CHECK_OK(op_fill(be, &t, 0, &err), &err);
        if (k == 0)
            CHECK_OK(backend_put_f32(be, &t, start, &err), &err);
    }
    for (int64_t first = 0; first < n; first = first == 0 && split ? split : n) {
        Tensor t[4], whole;
        for (int k = 0; k < 4; k++) {
            whole = tensor_of(room[k], k < 2 ? DT_BF16 : DT_F32, 1, n);
            t[k] = tensor_rows(&whole, first, split && first == 0 ? split : n - first);
        }
        a.first = ((int64_t)1 << 33) + first;
        CHECK_OK(op_adamw(be, &t[0], NULL, &t[1], &t[2], &t[3], &a, &err), &err);
    }
    CHECK_OK(be->download(be, out, room[0], 2 * n, &err), &err);
    for (int k = 0; k < 4; k++)
        be->release(be, room[k]);
    backend_close(&be);
}

/* Every back end, any threads, whole or in pieces: the bits that the rule says. */
static void rounding_is_the_same_everywhere(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 7, 8, 1000, 4099, 70001};
    for (int s = 0; s < 6; s++) {
        int64_t n = sizes[s];
        float *start = calloc((size_t)n, sizeof *start);
        uint16_t *want = calloc((size_t)n, sizeof *want), *got = calloc((size_t)n, sizeof *got);
        double *value = calloc((size_t)n, sizeof *value);
        assert_true(start && want && got && value);
        ops_draw(value, n, -3, 3, (uint64_t)s);
        for (int64_t i = 0; i < n; i++) {
            start[i] = i % 97 == 3   ? 0
                       : i % 97 == 4 ? (i & 1 ? -INFINITY : INFINITY)
                                     : (float)ops_bf16(value[i] * (i % 97 == 5 ? 1e38 : 1));
            want[i] = float_to_bfloat(round_stochastic(start[i] * (1 - 0x1p-9f),
                                                       rounding_noise(rounding_key(99, 5), ((int64_t)1 << 33) + i)));
        }
        const struct {
            const char *name;
            int64_t threads, split;
        } run[] = {{"ref", 1, 0}, {"cpu", 1, 0},          {"cpu", 2, 0},    {"cpu", 3, n / 3},
                   {"sim", 1, 0}, {"sim", 1, n / 16 * 8}, {"sim", 1, n / 3}};
        for (size_t r = 0; r < sizeof run / sizeof *run; r++) {
            decay_on(run[r].name, run[r].threads, n, run[r].split, start, got);
            for (int64_t i = 0; i < n; i++)
                if (got[i] != want[i])
                    fail_msg("%s, %lld of %lld split at %lld: %04x, expected %04x", run[r].name, (long long)i,
                             (long long)n, (long long)run[r].split, got[i], want[i]);
        }
        free(start);
        free(want);
        free(got);
        free(value);
    }
}

/* Two steps by hand: g = 1, then -2; lr 0.1, betas 0.5 and 0.75, decay 0.1, eps 0.5 (so that its
 * place shows). */
static void adamw_by_hand(void **state)
{
    (void)state;
    double p = 2, g = 1, m = 0, v = 0;
    Err err = {0};
    Tensor tp = tensor_of(&p, DT_F64, 1, 1), tg = tensor_of(&g, DT_F64, 1, 1), tm = tensor_of(&m, DT_F64, 1, 1),
           tv = tensor_of(&v, DT_F64, 1, 1);
    AdamParams a = {
        .lr = 0.1, .beta1 = 0.5, .beta2 = 0.75, .eps = 0.5, .weight_decay = 0.1, .step = 1, .grad_scale = 1};
    CHECK_OK(op_adamw(ops_double(), &tp, NULL, &tg, &tm, &tv, &a, &err), &err);
    double first = 2 * 0.99 - 0.1 * (0.5 / 0.5) / (sqrt(0.25 / 0.25) + 0.5);
    check_value("p after 1", p, first, 1e-15, 0);
    g = -4;
    a.grad_scale = 0.5; /* -2 */
    a.step = 2;
    CHECK_OK(op_adamw(ops_double(), &tp, NULL, &tg, &tm, &tv, &a, &err), &err);
    check_value("m", m, 0.25 - 1, 1e-15, 0);
    check_value("v", v, 0.1875 + 1, 1e-15, 0);
    check_value("p after 2", p, first * 0.99 - 0.1 * (-0.75 / 0.75) / (sqrt(1.1875 / 0.4375) + 0.5), 1e-15, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posterior),
        cmocka_unit_test(diffuse),
        cmocka_unit_test(mse),
        cmocka_unit_test(sum_squares),
        cmocka_unit_test(adamw),
        cmocka_unit_test(adamw_by_hand),
        cmocka_unit_test(rounding_has_no_bias),
        cmocka_unit_test(rounding_keeps),
        cmocka_unit_test(noise_is_even),
        cmocka_unit_test(small_steps_add_up),
        cmocka_unit_test(rounding_is_the_same_everywhere),
        cmocka_unit_test(ops_summary),
    };
    return check_run("ops: diffusion, loss, optimiser", tests);
}
