/* Layer norm with modulation, gates, RMS norm, group norm with the decoder's condition. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "tests/ops/harness.h"

/* ---- layer norm ------------------------------------------------------------------------------ */

enum { NONE = -1 };

typedef struct Layer { /* operand numbers, NONE: NULL */
    int64_t B, S, D, text;
    int chunks, w, b, mod;
    double eps;
    int gx, gw, gb, gm, gy, x, add; /* for the gradient */
} Layer;

static const Tensor *or_null(const Tensor *t, int k)
{
    return k == NONE ? NULL : &t[k];
}

static int call_layernorm(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Layer *l = c->param;
    const Modulation m = {or_null(t, l->mod), l->text};
    return op_layernorm(be, &t[0], &t[1], or_null(t, l->w), or_null(t, l->b), l->eps, l->chunks ? &m : NULL, err);
}

/* What a row's statistics are good for: n = (x - mean) inv is off by `e`: roundings of the mean
 * (sqrt(D) of the largest |x|), carried through inv, and roundings of n itself. */
typedef struct Row {
    double mean, inv, e;
} Row;

static Row row_of(const double *x, int64_t D, double eps)
{
    double mean = 0, var = 0, most = 0;
    for (int64_t d = 0; d < D; d++) {
        mean += x[d] / (double)D;
        most = fmax(most, fabs(x[d]));
    }
    for (int64_t d = 0; d < D; d++)
        var += (x[d] - mean) * (x[d] - mean) / (double)D;
    double inv = 1 / sqrt(var + eps);
    return (Row){mean, inv, ROUNDOFF * (4 + sqrt((double)D)) * most * inv};
}

/* Modulation chunk `chunk` of (row s of sequence b), element d; `otherwise` without modulation. */
static double chunk_of(const Layer *l, double *const *value, int64_t row, int64_t d, int chunk, double otherwise)
{
    if (!l->chunks)
        return otherwise;
    return value[l->mod][row / l->S * l->chunks * l->D + (chunk + (row % l->S < l->text ? 3 : 0)) * l->D + d];
}

static double weight_of(double *const *value, int k, int64_t d, double otherwise)
{
    return k == NONE ? otherwise : value[k][d];
}

/* The value is (n w + b)(1 + scale) + shift: the error of n through its factors, and four roundings
 * of the terms. */
static void bound_layernorm(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Layer *l = c->param;
    for (int64_t row = 0; row < l->B * l->S; row++) {
        Row r = row_of(value[1] + row * l->D, l->D, l->eps);
        for (int64_t d = 0; d < l->D; d++) {
            double n = fabs(value[1][row * l->D + d] - r.mean) * r.inv, w = fabs(weight_of(value, l->w, d, 1));
            double scale = fabs(1 + chunk_of(l, value, row, d, 1, 0)), shift = fabs(chunk_of(l, value, row, d, 0, 0));
            double size = (n * w + fabs(weight_of(value, l->b, d, 0))) * scale + shift;
            bound[0][row * l->D + d] = r.e * (1 + n) * w * scale + 6 * ROUNDOFF * size + FLT_MIN;
        }
    }
}

static const Layer layers[] = {
    {.B = 1, .S = 1, .D = 1, .eps = 1e-5},
    {.B = 2, .S = 3, .D = 5, .eps = 1e-5},
    {.B = 2, .S = 7, .D = 63, .text = 3, .chunks = 6, .eps = 1e-6},
    {.B = 1, .S = 5, .D = 64, .chunks = 2, .eps = 1e-5},
    {.B = 3, .S = 4, .D = 65, .text = 4, .chunks = 6, .eps = 1e-5},
    {.B = 2, .S = 65, .D = 17, .chunks = 6, .eps = 1e-5},
    {.B = 2, .S = 90, .D = 16, .text = 40, .chunks = 6, .eps = 1e-5},
    {.B = 1, .S = 30, .D = 64, .eps = 1e-6},
    {.B = 2, .S = 9, .D = 1920, .text = 2, .chunks = 6, .eps = 1e-5}, /* CogVideoX-2B's width */
};
enum { N_LAYERS = sizeof layers / sizeof layers[0] };
static const DType types[] = {DT_F32, DT_F16, DT_BF16};

static void add_weights(Case *c, Layer *l, int with, DType type)
{
    l->w = l->b = l->mod = NONE;
    if (with) {
        l->w = CASE_ADD(c, "w", WEIGHT, type, 1, l->D);
        l->b = CASE_ADD(c, "b", WEIGHT, type, 1, l->D);
    }
    if (l->chunks)
        l->mod = CASE_ADD(c, "mod", WEIGHT, DT_F32, 2, l->B, l->chunks * l->D);
}

static void layernorm(void **state)
{
    (void)state;
    for (int i = 0; i < N_LAYERS; i++)
        for (int k = 0; k < 4; k++) {
            Layer l = layers[i];
            Case c = {.name = l.chunks ? "layernorm, modulated" : "layernorm",
                      .call = call_layernorm,
                      .bound = bound_layernorm,
                      .param = &l,
                      .huge = 1e12};
            CASE_ADD(&c, "y", OUT, ACT, 3, l.B, l.S, l.D);
            CASE_ADD(&c, "x", IN, ACT, 3, l.B, l.S, l.D);
            add_weights(&c, &l, k < 3, types[k % 3]);
            case_in_place(&c, 0, 1);
            ops_check(&c);
        }
}

/* Rows far from zero: E[x^2] - E[x]^2 in floats would have no digit left. */
static void layernorm_of_rows_far_from_zero(void **state)
{
    (void)state;
    Layer l = layers[N_LAYERS - 1];
    Case c = {.name = "layernorm, x near 3000",
              .call = call_layernorm,
              .bound = bound_layernorm,
              .param = &l,
              .input_kinds = 1};
    CASE_ADD(&c, "y", OUT, ACT, 3, l.B, l.S, l.D);
    case_range(&c, CASE_ADD(&c, "x", IN, ACT, 3, l.B, l.S, l.D), 2999, 3001);
    case_in_place(&c, 0, 1);
    add_weights(&c, &l, 1, DT_F32);
    ops_check(&c);
}

static int call_layernorm_backward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Layer *l = c->param;
    const Modulation m = {or_null(t, l->mod), l->text};
    return op_layernorm_backward(be, or_null(t, l->gx), or_null(t, l->gw), or_null(t, l->gb), or_null(t, l->gm),
                                 &t[l->gy], &t[l->x], or_null(t, l->w), or_null(t, l->b), l->eps, l->chunks ? &m : NULL,
                                 l->add, err);
}

/* gx = inv (g - mean(g) - n mean(g n)), g = gy (1 + scale) w: roundings of each term, sqrt(D) for
 * the means, and the error e of n and of inv in each.  The sums over rows: sqrt(rows) roundings of
 * each term, and e. */
static void bound_layernorm_backward(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Layer *l = c->param;
    const double rows = ROUNDOFF * (6 + sqrt((double)(l->B * l->S)));
    for (int64_t row = 0; row < l->B * l->S; row++) {
        const double *x = value[l->x] + row * l->D, *gy = value[l->gy] + row * l->D;
        Row r = row_of(x, l->D, l->eps);
        double mean_g = 0, mean_gn = 0, most = 0;
        for (int64_t d = 0; d < l->D; d++) {
            double g = fabs(gy[d] * (1 + chunk_of(l, value, row, d, 1, 0)) * weight_of(value, l->w, d, 1));
            mean_g += g / (double)l->D;
            mean_gn += g * fabs((x[d] - r.mean) * r.inv) / (double)l->D;
            most = fmax(most, g);
        }
        for (int64_t d = 0; d < l->D; d++) {
            double n = fabs((x[d] - r.mean) * r.inv), scale = fabs(1 + chunk_of(l, value, row, d, 1, 0));
            double w = fabs(weight_of(value, l->w, d, 1)), b = fabs(weight_of(value, l->b, d, 0)),
                   terms = most + mean_g + n * mean_gn;
            if (l->gx != NONE)
                bound[l->gx][row * l->D + d] = FLT_MIN +
                                               r.inv * (terms * (ROUNDOFF * (8 + sqrt((double)l->D)) + 3 * r.e) +
                                                        r.e * (mean_gn + n * mean_g)) +
                                               (l->add ? 2 * ROUNDOFF * fabs(value[l->gx][row * l->D + d]) : 0);
            if (l->gw != NONE) {
                bound[l->gw][d] += FLT_MIN + fabs(gy[d]) * scale * (rows * n + r.e * (1 + n)) +
                                   rows * fabs(value[l->gw][d]);
                bound[l->gb][d] += FLT_MIN + fabs(gy[d]) * scale * rows + rows * fabs(value[l->gb][d]);
            }
            if (l->gm != NONE) {
                int64_t at = row / l->S * l->chunks * l->D + (row % l->S < l->text ? 3 : 0) * l->D + d;
                bound[l->gm][at] += FLT_MIN + fabs(gy[d]) * rows + rows * fabs(value[l->gm][at]);
                bound[l->gm][at + l->D] += FLT_MIN + fabs(gy[d]) * (w * (rows * n + r.e * (1 + n)) + rows * b) +
                                           rows * fabs(value[l->gm][at + l->D]);
            }
        }
    }
}

static void layernorm_backward(void **state)
{
    (void)state;
    for (int i = 0; i < N_LAYERS; i++)
        /* 0: all, 1: half weights and their gradients, add; 2: no weights; 3: frozen weights; 4: no
         * gx */
        for (int k = 0; k < 5; k++) {
            Layer l = layers[i];
            Case c = {.name = l.chunks ? "layernorm_backward, modulated" : "layernorm_backward",
                      .call = call_layernorm_backward,
                      .bound = bound_layernorm_backward,
                      .param = &l,
                      .huge = 1e10};
            l.add = k == 1;
            l.gw = l.gb = l.gm = l.gx = NONE;
            if (k != 4)
                l.gx = CASE_ADD(&c, "gx", l.add ? INOUT : OUT, ACT, 3, l.B, l.S, l.D);
            l.gy = CASE_ADD(&c, "gy", IN, ACT, 3, l.B, l.S, l.D);
            l.x = CASE_ADD(&c, "x", IN, ACT, 3, l.B, l.S, l.D);
            if (k != 2 && k != 3) {
                l.gw = CASE_ADD(&c, "gw", INOUT, k == 1 ? DT_BF16 : DT_F32, 1, l.D);
                l.gb = CASE_ADD(&c, "gb", INOUT, k == 1 ? DT_BF16 : DT_F32, 1, l.D);
            }
            if (l.chunks)
                l.gm = CASE_ADD(&c, "gm", INOUT, DT_F32, 2, l.B, l.chunks * l.D);
            add_weights(&c, &l, k != 2, k == 1 ? DT_F16 : DT_F32);
            ops_check(&c);
        }
}

/* ---- gates ----------------------------------------------------------------------------------- */

static int call_gate_add(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Modulation m = {&t[2], *(const int64_t *)c->param};
    return op_gate_add(be, &t[0], &t[1], &m, err);
}

static int call_gate_add_backward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Modulation m = {&t[3], *(const int64_t *)c->param};
    return op_gate_add_backward(be, &t[0], c->n > 4 ? &t[4] : NULL, &t[1], &t[2], &m, err);
}

static void gates(void **state)
{
    (void)state;
    const int64_t shapes[][4] = {
        /* B, S, D, text */
        {1, 1, 1, 0}, {2, 7, 5, 3}, {3, 5, 65, 5}, {1, 64, 63, 0}, {2, 90, 17, 40}, {2, 20, 1920, 13},
    };
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 3; k++) {
            const int64_t *s = shapes[i];
            Case c = {.name = k ? "gate_add_backward" : "gate_add",
                      .call = k ? call_gate_add_backward : call_gate_add,
                      .param = &s[3],
                      .factor = k ? 3 + sqrt((double)s[1]) : 3};
            CASE_ADD(&c, k ? "gy" : "x", k ? OUT : INOUT, ACT, 3, s[0], s[1], s[2]);
            if (k)
                CASE_ADD(&c, "gx", IN, ACT, 3, s[0], s[1], s[2]);
            CASE_ADD(&c, "y", IN, ACT, 3, s[0], s[1], s[2]);
            CASE_ADD(&c, "mod", WEIGHT, DT_F32, 2, s[0], 6 * s[2]);
            if (k == 2)
                CASE_ADD(&c, "gm", INOUT, DT_F32, 2, s[0], 6 * s[2]);
            ops_check(&c);
        }
}

/* MODEL.md 3: shift_v, scale_v, gate_v, shift_e, scale_e, gate_e; text rows first. */
static void modulation_order(void **state)
{
    (void)state;
    double x[4] = {1, -1, 3, 1}, y[4], mod[12], gated[4] = {0}; /* one text row, one video row, D = 2 */
    for (int i = 0; i < 12; i++)
        mod[i] = 10 * (i / 2) + i % 2;
    Err err = {0};
    Tensor tx = tensor_of(x, DT_F64, 3, 1, 2, 2), ty = tensor_of(y, DT_F64, 3, 1, 2, 2),
           tm = tensor_of(mod, DT_F64, 2, 1, 12), tg = tensor_of(gated, DT_F64, 3, 1, 2, 2);
    const Modulation m = {&tm, 1};
    CHECK_OK(op_layernorm(ops_double(), &ty, &tx, NULL, NULL, 0, &m, &err), &err); /* normalised rows: 1, -1 */
    const double want[4] = {1 * (1 + 40) + 30, -1 * (1 + 41) + 31, 1 * (1 + 10) + 0, -1 * (1 + 11) + 1};
    const double gate[4] = {50 * 1, 51 * -1, 20 * 3, 21 * 1};
    CHECK_OK(op_gate_add(ops_double(), &tg, &tx, &m, &err), &err);
    for (int i = 0; i < 4; i++) {
        check_value("modulated", y[i], want[i], 1e-13, 0);
        check_value("gated", gated[i], gate[i], 1e-13, 0);
    }
}

/* ---- RMS norm -------------------------------------------------------------------------------- */

static int call_rmsnorm(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_rmsnorm(be, &t[0], &t[1], &t[2], *(const double *)c->param, err);
}

/* All terms of the mean are positive: sqrt(D) roundings at most halved by the root, and a few. */
static void bound_rmsnorm(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)value;
    double D = (double)c->arg[2].count;
    for (int64_t i = 0; i < c->arg[0].count; i++)
        bound[0][i] = ROUNDOFF * (6 + sqrt(D)) * fabs(want[0][i]) + FLT_MIN;
}

static void rmsnorm(void **state)
{
    (void)state;
    const int64_t shapes[][2] = {{1, 1}, {5, 3}, {3, 63}, {2, 65}, {65, 64}, {9, 4096}};
    const double eps = 1e-6;
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 3; k++) {
            Case c = {.name = "rmsnorm", .call = call_rmsnorm, .bound = bound_rmsnorm, .param = &eps};
            CASE_ADD(&c, "y", OUT, ACT, 2, shapes[i][0], shapes[i][1]);
            CASE_ADD(&c, "x", IN, ACT, 2, shapes[i][0], shapes[i][1]);
            CASE_ADD(&c, "w", WEIGHT, types[k], 1, shapes[i][1]);
            case_in_place(&c, 0, 1);
            ops_check(&c);
        }
}

/* ---- group norm ------------------------------------------------------------------------------ */

typedef struct Group {
    int64_t x[4], groups, z[3]; /* T, H, W, C; Tz, h, w, 0: no condition */
    ActKind act;
} Group;

static int call_groupnorm(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Group *g = c->param;
    const SpatialCond cond = {&t[4], &t[5]};
    return op_groupnorm(be, &t[0], &t[1], &t[2], &t[3], g->groups, 1e-6, g->z[0] ? &cond : NULL, g->act, err);
}

/* The latent pixel that conditions pixel (t, i, j), written from the ratios: MODEL.md 2. */
static int64_t latent_pixel(const Group *g, int64_t t, int64_t i, int64_t j)
{
    int64_t T = g->x[0], tz;
    if (T > 1 && T % 2 == 1)
        tz = t < 1 ? 0 : (int64_t)floor(1 + (double)((t - 1) * (g->z[0] - 1)) / (double)(T - 1) + 1e-9);
    else
        tz = (int64_t)floor((double)(t * g->z[0]) / (double)T + 1e-9);
    return (tz * g->z[1] + i * g->z[1] / g->x[1]) * g->z[2] + j * g->z[2] / g->x[2];
}

/* As the layer norm's; sums of millions of values are kept in double or in pieces, so that their
 * roundings do not grow with the
 * length: 8 roundings of the largest |x|.  The activation adds 8 roundings of its argument. */
static void bound_groupnorm(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Group *g = c->param;
    int64_t C = g->x[3], per = C / g->groups, pixels = g->x[0] * g->x[1] * g->x[2], n = pixels * per;
    double *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t k = 0; k < g->groups; k++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = value[1][i / per * C + k * per + i % per];
        Row r = row_of(x, n, 1e-6);
        double most = 0;
        for (int64_t i = 0; i < n; i++)
            most = fmax(most, fabs(x[i]));
        r.e = 8 * ROUNDOFF * most * r.inv;
        for (int64_t i = 0; i < n; i++) {
            int64_t pixel = i / per, ch = k * per + i % per, t = pixel / (g->x[1] * g->x[2]);
            int64_t z = g->z[0] ? latent_pixel(g, t, pixel / g->x[2] % g->x[1], pixel % g->x[2]) * C + ch : 0;
            double norm = fabs(x[i] - r.mean) * r.inv, scale = g->z[0] ? fabs(value[4][z]) : 1,
                   shift = g->z[0] ? fabs(value[5][z]) : 0;
            double w = fabs(value[2][ch]), b = fabs(value[3][ch]), size = (norm * w + b) * scale + shift;
            bound[0][pixel * C + ch] = 1.1 * r.e * (1 + norm) * w * scale + 16 * ROUNDOFF * size + FLT_MIN;
        }
    }
    free(x);
}

static void groupnorm(void **state)
{
    (void)state;
    const Group shapes[] = {
        {{1, 1, 1, 1}, 1, {0, 0, 0}, ACT_NONE},
        {{1, 1, 1, 4}, 4, {0, 0, 0}, ACT_SILU},
        {{2, 3, 5, 6}, 3, {0, 0, 0}, ACT_NONE},
        {{3, 7, 9, 32}, 32, {0, 0, 0}, ACT_SILU},
        {{5, 4, 6, 64}, 32, {3, 2, 3}, ACT_SILU},
        {{9, 8, 8, 8}, 4, {3, 1, 1}, ACT_NONE},
        {{8, 6, 4, 12}, 2, {2, 3, 2}, ACT_SILU},
        {{1, 16, 8, 16}, 4, {1, 2, 1}, ACT_SILU},
        {{3, 4, 4, 65}, 5, {3, 4, 4}, ACT_NONE},
        {{9, 24, 16, 128}, 32, {3, 3, 2}, ACT_SILU}, /* a layer of the decoder, at a small size */
        {{2, 63, 65, 128}, 32, {0, 0, 0}, ACT_SILU},
    };
    for (int i = 0; i < 11; i++)
        for (int k = 0; k < 2; k++) {
            const Group *g = &shapes[i];
            int large = i >= 9;
            Case c = {.name = g->z[0] ? "groupnorm, conditioned" : "groupnorm",
                      .call = call_groupnorm,
                      .bound = bound_groupnorm,
                      .param = g,
                      .huge = 1e12,
                      .input_kinds = large ? (k ? 1u << OUTLIER : 1) : 0};
            CASE_ADD(&c, "y", OUT, ACT, 4, g->x[0], g->x[1], g->x[2], g->x[3]);
            CASE_ADD(&c, "x", IN, ACT, 4, g->x[0], g->x[1], g->x[2], g->x[3]);
            CASE_ADD(&c, "w", WEIGHT, k ? DT_F16 : DT_F32, 1, g->x[3]);
            CASE_ADD(&c, "b", WEIGHT, k ? DT_F16 : DT_F32, 1, g->x[3]);
            if (g->z[0]) {
                CASE_ADD(&c, "scale", WEIGHT, ACT, 4, g->z[0], g->z[1], g->z[2], g->x[3]);
                CASE_ADD(&c, "shift", WEIGHT, ACT, 4, g->z[0], g->z[1], g->z[2], g->x[3]);
            }
            case_in_place(&c, 0, 1);
            ops_check(&c);
        }
}

/* A million values near 100: float sums of squares would lose the variance. */
static void groupnorm_of_a_large_group_far_from_zero(void **state)
{
    (void)state;
    const Group g = {{4, 256, 256, 4}, 1, {0, 0, 0}, ACT_NONE};
    Case c = {.name = "groupnorm, x near 100",
              .call = call_groupnorm,
              .bound = bound_groupnorm,
              .param = &g,
              .input_kinds = 1};
    CASE_ADD(&c, "y", OUT, ACT, 4, 4, 256, 256, 4);
    case_range(&c, CASE_ADD(&c, "x", IN, ACT, 4, 4, 256, 256, 4), 99, 101);
    case_in_place(&c, 0, 1);
    CASE_ADD(&c, "w", WEIGHT, DT_F32, 1, 4);
    CASE_ADD(&c, "b", WEIGHT, DT_F32, 1, 4);
    ops_check(&c);
}

/* The condition's pixel, by hand: scale 0 leaves shift[z], which is z's number. */
static void condition_by_hand(void **state)
{
    (void)state;
    static const struct {
        int T, Tz, z[9];
    } known[] = {
        {1, 1, {0}},
        {2, 2, {0, 1}},
        {3, 3, {0, 1, 2}},
        {5, 3, {0, 1, 1, 2, 2}},
        {9, 3, {0, 1, 1, 1, 1, 2, 2, 2, 2}},
        {4, 2, {0, 0, 1, 1}},
        {8, 2, {0, 0, 0, 0, 1, 1, 1, 1}},
    };
    for (int i = 0; i < 7; i++) {
        double x[9 * 4 * 2], y[9 * 4 * 2], one = 1, zero = 0, scale[3 * 2] = {0}, shift[3 * 2];
        for (int n = 0; n < 9 * 4 * 2; n++)
            x[n] = n;
        for (int n = 0; n < 6; n++)
            shift[n] = n;
        Err err = {0};
        Tensor tx = tensor_of(x, DT_F64, 4, known[i].T, 4, 2, 1), ty = tensor_of(y, DT_F64, 4, known[i].T, 4, 2, 1),
               tw = tensor_of(&one, DT_F64, 1, 1), tb = tensor_of(&zero, DT_F64, 1, 1),
               ts = tensor_of(scale, DT_F64, 4, known[i].Tz, 2, 1, 1),
               th = tensor_of(shift, DT_F64, 4, known[i].Tz, 2, 1, 1);
        const SpatialCond cond = {&ts, &th};
        CHECK_OK(op_groupnorm(ops_double(), &ty, &tx, &tw, &tb, 1, 1e-6, &cond, ACT_NONE, &err), &err);
        for (int t = 0; t < known[i].T; t++)
            for (int n = 0; n < 8; n++)
                check_value("z", y[t * 8 + n], known[i].z[t] * 2 + n / 4, 0, 0); /* rows 0, 1 -> 0; rows 2, 3 -> 1 */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layernorm),          cmocka_unit_test(layernorm_of_rows_far_from_zero),
        cmocka_unit_test(layernorm_backward), cmocka_unit_test(gates),
        cmocka_unit_test(modulation_order),   cmocka_unit_test(rmsnorm),
        cmocka_unit_test(groupnorm),          cmocka_unit_test(groupnorm_of_a_large_group_far_from_zero),
        cmocka_unit_test(condition_by_hand),  cmocka_unit_test(ops_summary),
    };
    return check_run("ops: norms", tests);
}
