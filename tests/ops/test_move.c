/* Ops that move values: exact but for the sums in add_rows, blend and pool_time. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "tests/ops/harness.h"

/* ---- token rows ------------------------------------------------------------------------------ */

static int call_embed(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    return op_embed(be, &t[0], &t[1], &t[2], err);
}

static void embeds(void **state)
{
    (void)state;
    const int64_t shapes[][3] = {{1, 1, 1}, {7, 5, 3}, {65, 63, 64}, {226, 300, 97}}; /* ids, rows, width */
    const DType types[] = {DT_F32, DT_F16, DT_BF16};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 3; k++) {
            Case c = {.name = "embed", .call = call_embed, .input_kinds = 1};
            CASE_ADD(&c, "y", OUT, ACT, 2, shapes[i][0], shapes[i][2]);
            CASE_ADD(&c, "table", WEIGHT, types[k], 2, shapes[i][1], shapes[i][2]);
            case_range(&c, CASE_ADD(&c, "ids", IN, DT_I32, 1, shapes[i][0]), 0, (double)shapes[i][1]);
            ops_check(&c);
        }
}

static int call_embed_outside(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    int rc = op_embed(be, &t[0], &t[1], &t[2], err);
    (void)c;
    CHECK_FAILS(rc, ERR_FORMAT, "id ", err);
    return op_fill(be, &t[0], 0, err);
}

static void zeros(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)value, (void)bound;
    memset(want[0], 0, (size_t)c->arg[0].count * sizeof(double));
}

static void embed_refuses_ids_outside_the_table(void **state)
{
    (void)state;
    static const double bad[] = {4, -1, 1 << 30};
    if (ops_listing()) /* only who computes sees an id */
        return;
    for (int i = 0; i < 3; i++) {
        Case c = {
            .name = "embed outside", .call = call_embed_outside, .composite = 1, .bound = zeros, .input_kinds = 1};
        CASE_ADD(&c, "y", OUT, ACT, 2, 3, 2);
        CASE_ADD(&c, "table", WEIGHT, DT_F32, 2, 4, 2);
        case_range(&c, CASE_ADD(&c, "ids", IN, DT_I32, 1, 3), bad[i], bad[i]);
        ops_check(&c);
    }
}

typedef struct Rows {
    int64_t y0, x0, n;
} Rows;

static int call_copy_rows(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Rows *r = c->param;
    return op_copy_rows(be, &t[0], r->y0, &t[1], r->x0, r->n, err);
}

static void copies_rows(void **state)
{
    (void)state;
    const struct {
        int64_t B, Sy, Sx, D;
        Rows r;
    } shapes[] = {
        {1, 1, 1, 1, {0, 0, 1}},
        {2, 7, 5, 3, {2, 0, 5}},
        {3, 64, 70, 65, {0, 6, 64}},
        {2, 5, 5, 4, {3, 3, 0}},
        {1, 326, 100, 1920, {226, 0, 100}},
    };
    for (int i = 0; i < 5; i++) {
        Case c = {.name = "copy_rows", .call = call_copy_rows, .param = &shapes[i].r};
        CASE_ADD(&c, "y", INOUT, ACT, 3, shapes[i].B, shapes[i].Sy, shapes[i].D);
        CASE_ADD(&c, "x", IN, ACT, 3, shapes[i].B, shapes[i].Sx, shapes[i].D);
        ops_check(&c);
    }
}

static int call_add_rows(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_add_rows(be, &t[0], *(const int64_t *)c->param, &t[1], err);
}

static void adds_rows(void **state)
{
    (void)state;
    /* B, S, D, first, n */
    const int64_t shapes[][5] = {{1, 1, 1, 0, 1}, {2, 9, 5, 4, 5}, {3, 65, 63, 0, 64}, {1, 300, 1920, 226, 74}};
    for (int i = 0; i < 4; i++) {
        const int64_t *s = shapes[i];
        Case c = {.name = "add_rows", .call = call_add_rows, .param = &s[3]};
        CASE_ADD(&c, "x", INOUT, ACT, 3, s[0], s[1], s[2]);
        CASE_ADD(&c, "table", IN, DT_F32, 2, s[4], s[2]);
        ops_check(&c);
    }
}

/* ---- patches, boxes, seams ------------------------------------------------------------------- */

static int call_patchify(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_patchify(be, &t[0], &t[1], *(const int64_t *)c->param, err);
}

static int call_unpatchify(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_unpatchify(be, &t[0], &t[1], *(const int64_t *)c->param, err);
}

static void patches_and_back(void **state)
{
    (void)state;
    /* B, F, H, W, C, p */
    const int64_t shapes[][6] = {{1, 1, 1, 1, 1, 1}, {2, 3, 4, 6, 5, 2}, {1, 2, 9, 3, 4, 3}, {1, 3, 60, 90, 16, 2}};
    for (int i = 0; i < 8; i++) {
        const int64_t *s = shapes[i / 2], p = s[5];
        Case c = {.name = i % 2 ? "unpatchify" : "patchify",
                  .call = i % 2 ? call_unpatchify : call_patchify,
                  .param = &s[5],
                  .input_kinds = 1};
        if (i % 2)
            CASE_ADD(&c, "latents", OUT, ACT, 5, s[0], s[1], s[2], s[3], s[4]);
        CASE_ADD(&c, "tokens", i % 2 ? IN : OUT, ACT, 3, s[0], s[1] * (s[2] / p) * (s[3] / p), s[4] * p * p);
        if (!(i % 2))
            CASE_ADD(&c, "latents", IN, ACT, 5, s[0], s[1], s[2], s[3], s[4]);
        ops_check(&c);
    }
}

/* MODEL.md 3: feature c*4 + p*2 + q, channel slowest; token (frame, row, column). */
static void patch_order(void **state)
{
    (void)state;
    double latents[2 * 4 * 6 * 3], tokens[2 * 4 * 6 * 3];
    Err err = {0};
    for (int i = 0; i < 144; i++)
        latents[i] = i;
    Tensor tt = tensor_of(tokens, DT_F64, 3, 1, 12, 12), tl = tensor_of(latents, DT_F64, 5, 1, 2, 4, 6, 3);
    CHECK_OK(op_patchify(ops_double(), &tt, &tl, 2, &err), &err);
    /* frame 1, patch row 1, patch column 2 -> token 6 + 3 + 2; channel 2, row 1, column 0 ->
     * feature 8 + 2 */
    check_value("feature", tokens[11 * 12 + 10], ((1 * 4 + 3) * 6 + 4) * 3 + 2, 0, 0);
    check_value("feature", tokens[1], 3, 0, 0); /* one column to the right: the next pixel */
}

typedef struct Box {
    int64_t d[4], s[4], n[4];
} Box;

static int call_copy_box(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Box *b = c->param;
    return op_copy_box(be, &t[0], b->d, &t[1], b->s, b->n, err);
}

static void copies_boxes(void **state)
{
    (void)state;
    const struct {
        int64_t dst[4], src[4];
        Box b;
    } shapes[] = {
        {{1, 1, 1, 1}, {1, 1, 1, 1}, {{0, 0, 0, 0}, {0, 0, 0, 0}, {1, 1, 1, 1}}},
        {{2, 3, 5, 4}, {3, 4, 6, 7}, {{1, 0, 2, 1}, {0, 2, 3, 4}, {1, 2, 3, 3}}},
        {{2, 65, 64, 3}, {2, 63, 70, 3}, {{0, 1, 0, 0}, {0, 0, 6, 0}, {2, 63, 64, 3}}},
        {{2, 3, 4, 2}, {2, 3, 4, 2}, {{0, 0, 0, 0}, {0, 0, 0, 0}, {2, 0, 4, 2}}},
        {{3, 30, 45, 16}, {3, 60, 90, 16}, {{0, 0, 0, 0}, {0, 25, 36, 0}, {3, 30, 45, 16}}},
    };
    const DType types[][2] = {{DT_F32, DT_F32}, {DT_F32, DT_F16}, {DT_BF16, DT_F32}, {DT_F16, DT_F16}};
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            Case c = {.name = "copy_box", .call = call_copy_box, .param = &shapes[i].b, .any_shape = 3};
            case_add(&c, "dst", INOUT, types[k][0], 4, shapes[i].dst);
            case_add(&c, "src", IN, types[k][1], 4, shapes[i].src);
            ops_check(&c);
        }
}

typedef struct Seam {
    int axis;
    int64_t extent;
} Seam;

static int call_blend(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Seam *s = c->param;
    return op_blend(be, &t[0], &t[1], s->axis, s->extent, err);
}

/* The share and its complement are rounded, then two products and a sum: 4 roundings of the two
 * values. */
static void bound_blend(const Case *c, double *const *value, double *const *want, double **bound)
{
    const Operand *prev = &c->arg[1];
    double most = 0;
    for (int64_t i = 0; i < prev->count; i++)
        most = fmax(most, fabs(value[1][i]));
    for (int64_t i = 0; i < c->arg[0].count; i++)
        bound[0][i] = want[0][i] == value[0][i] ? 0 : 4 * (ROUNDOFF * (fabs(value[0][i]) + most) + FLT_MIN);
}

static void blends_seams(void **state)
{
    (void)state;
    const struct {
        int64_t cur[4], prev[4];
        Seam s;
    } shapes[] = {
        {{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1}},     {{2, 5, 3, 4}, {2, 7, 3, 4}, {1, 4}},
        {{2, 5, 6, 3}, {2, 5, 9, 3}, {2, 5}},     {{1, 4, 4, 2}, {1, 4, 4, 2}, {2, 0}},
        {{3, 30, 45, 3}, {3, 30, 45, 3}, {2, 9}}, {{2, 65, 17, 3}, {2, 64, 17, 3}, {1, 63}},
    };
    for (int i = 0; i < 6; i++) {
        Case c = {.name = "blend",
                  .call = call_blend,
                  .bound = bound_blend,
                  .param = &shapes[i].s,
                  .input_kinds = ~(1u << OUTLIER)};
        case_add(&c, "cur", INOUT, ACT, 4, shapes[i].cur);
        case_add(&c, "prev", IN, ACT, 4, shapes[i].prev);
        ops_check(&c);
    }
}

/* cur[y] = above[Ha - e + y](1 - y/e) + cur[y] y/e, by hand */
static void seam_by_hand(void **state)
{
    (void)state;
    double cur[3] = {10, 20, 30}, prev[4] = {1, 2, 3, 4};
    Err err = {0};
    Tensor tc = tensor_of(cur, DT_F64, 4, 1, 3, 1, 1), tp = tensor_of(prev, DT_F64, 4, 1, 4, 1, 1);
    CHECK_OK(op_blend(ops_double(), &tc, &tp, 1, 2, &err), &err);
    check_value("row 0", cur[0], 3, 0, 0);
    check_value("row 1", cur[1], 4 * 0.5 + 20 * 0.5, 0, 0);
    check_value("row 2", cur[2], 30, 0, 0);
}

/* ---- resampling ------------------------------------------------------------------------------ */

static int call_upsample(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_upsample(be, &t[0], &t[1], *(const int *)c->param, err);
}

static int call_pool_time(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    return op_pool_time(be, &t[0], &t[1], err);
}

static void resamples(void **state)
{
    (void)state;
    static const int flags[] = {0, 1};
    const int64_t shapes[][4] = {{1, 1, 1, 1},  {2, 1, 3, 5}, {3, 5, 2, 7},  {4, 3, 3, 64},
                                 {5, 2, 2, 65}, {7, 3, 1, 3}, {8, 2, 3, 63}, {9, 15, 10, 128}};
    for (int i = 0; i < 8; i++) {
        const int64_t *s = shapes[i], T = s[0];
        for (int k = 0; k < 2; k++) {
            int64_t To = !k || T == 1 ? T : T % 2 ? 1 + 2 * (T - 1) : 2 * T;
            Case c = {.name = k ? "upsample, time too" : "upsample",
                      .call = call_upsample,
                      .param = &flags[k],
                      .input_kinds = 1};
            CASE_ADD(&c, "y", OUT, ACT, 4, To, 2 * s[1], 2 * s[2], s[3]);
            CASE_ADD(&c, "x", IN, ACT, 4, s[0], s[1], s[2], s[3]);
            ops_check(&c);
        }
        Case c = {.name = "pool_time", .call = call_pool_time}; /* one sum, an exact half: rounded once */
        CASE_ADD(&c, "y", OUT, ACT, 4, T % 2 ? 1 + (T - 1) / 2 : T / 2, s[1], s[2], s[3]);
        CASE_ADD(&c, "x", IN, ACT, 4, s[0], s[1], s[2], s[3]);
        ops_check(&c);
    }
}

/* MODEL.md 2 spelled out, frame by frame: one pixel, frames 1, 2, 3, ... */
static void frames_by_hand(void **state)
{
    (void)state;
    static const struct {
        int T, n;
        double pooled[3];
        int m;
        double doubled[8];
    } known[] = {
        {1, 1, {1}, 1, {1}},
        {2, 1, {1.5}, 4, {1, 1, 2, 2}},
        {3, 2, {1, 2.5}, 5, {1, 2, 2, 3, 3}},
        {4, 2, {1.5, 3.5}, 8, {1, 1, 2, 2, 3, 3, 4, 4}},
        {5, 3, {1, 2.5, 4.5}, 0, {0}},
    };
    for (int i = 0; i < 5; i++) {
        double x[5] = {1, 2, 3, 4, 5}, y[4 * 8];
        Err err = {0};
        Tensor tx = tensor_of(x, DT_F64, 4, known[i].T, 1, 1, 1), tp = tensor_of(y, DT_F64, 4, known[i].n, 1, 1, 1);
        CHECK_OK(op_pool_time(ops_double(), &tp, &tx, &err), &err);
        for (int t = 0; t < known[i].n; t++)
            check_value("pooled", y[t], known[i].pooled[t], 0, 0);
        if (!known[i].m)
            continue;
        Tensor tu = tensor_of(y, DT_F64, 4, known[i].m, 2, 2, 1);
        CHECK_OK(op_upsample(ops_double(), &tu, &tx, 1, &err), &err);
        for (int n = 0; n < 4 * known[i].m; n++)
            check_value("doubled", y[n], known[i].doubled[n / 4], 0, 0);
    }
}

static int call_pool(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_pool(be, &t[0], &t[1], c->param, err);
}

/* The windows of I3D (SAME padding: more behind than in front) and Inception v3, and odd ones. */
static void pools(void **state)
{
    (void)state;
    static const struct {
        int64_t x[4], kernel[3], stride[3], before[3], after[3];
    } cases[] = {
        {{1, 1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}},
        {{4, 6, 6, 8}, {3, 3, 3}, {2, 2, 2}, {0, 0, 0}, {1, 1, 1}},
        {{3, 7, 5, 65}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
        {{2, 9, 7, 64}, {1, 3, 3}, {1, 2, 2}, {0, 0, 0}, {0, 0, 0}},
        {{2, 5, 4, 3}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},
        {{2, 7, 7, 33}, {2, 7, 7}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}},
        {{5, 4, 9, 2}, {2, 3, 4}, {3, 1, 2}, {1, 2, 0}, {0, 2, 3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int k = 0; k < 2; k++) {
            const int64_t *x = cases[i].x;
            PoolParams p = {.kind = k ? POOL_MEAN : POOL_MAX};
            int64_t out[3], n = 1;
            for (int a = 0; a < 3; a++) {
                p.kernel[a] = cases[i].kernel[a];
                p.stride[a] = cases[i].stride[a];
                p.before[a] = cases[i].before[a];
                p.after[a] = cases[i].after[a];
                out[a] = (x[a] + p.before[a] + p.after[a] - p.kernel[a]) / p.stride[a] + 1;
                n *= p.kernel[a];
            }
            Case c = {.name = k ? "pool, mean" : "pool, max", /* the largest is exact */
                      .call = call_pool,
                      .param = &p,
                      .factor = k ? 2 + sqrt((double)n) : 0};
            CASE_ADD(&c, "y", OUT, ACT, 4, out[0], out[1], out[2], x[3]);
            CASE_ADD(&c, "x", IN, ACT, 4, x[0], x[1], x[2], x[3]);
            ops_check(&c);
        }
}

/* Padding is not there: it is no zero for the largest value, and not counted in the mean. */
static void pools_by_hand(void **state)
{
    (void)state;
    double x[4] = {-1, -2, -3, -6}, y[4];
    static const double most[4] = {-1, -1, -1, -1}, mean[4] = {-3, -3, -3, -3};
    Err err = {0};
    Tensor tx = tensor_of(x, DT_F64, 4, 1, 2, 2, 1), ty = tensor_of(y, DT_F64, 4, 1, 2, 2, 1);
    PoolParams p = {POOL_MAX, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}};
    CHECK_OK(op_pool(ops_double(), &ty, &tx, &p, &err), &err);
    assert_memory_equal(y, most, sizeof most);
    p.kind = POOL_MEAN;
    CHECK_OK(op_pool(ops_double(), &ty, &tx, &p, &err), &err);
    assert_memory_equal(y, mean, sizeof mean);
    const PoolParams outside = {POOL_MAX, {1, 3, 3}, {1, 1, 1}, {0, 3, 0}, {0, 0, 0}};
    CHECK_FAILS(op_pool(ops_double(), &ty, &tx, &outside, &err), ERR_USAGE, "every window must reach into x", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeds),           cmocka_unit_test(embed_refuses_ids_outside_the_table),
        cmocka_unit_test(copies_rows),      cmocka_unit_test(adds_rows),
        cmocka_unit_test(patches_and_back), cmocka_unit_test(patch_order),
        cmocka_unit_test(copies_boxes),     cmocka_unit_test(blends_seams),
        cmocka_unit_test(seam_by_hand),     cmocka_unit_test(resamples),
        cmocka_unit_test(frames_by_hand),   cmocka_unit_test(pools),
        cmocka_unit_test(pools_by_hand),    cmocka_unit_test(ops_summary),
    };
    return check_run("ops: moves", tests);
}
