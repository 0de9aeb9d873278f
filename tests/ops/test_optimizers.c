/* SGD, and the block-wise quantisation that 8-bit moments are kept in. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/ops/blockwise.h"
#include "tests/ops/harness.h"

static const int64_t counts[] = {1, 2, 255, 256, 257, 997, 100003};
enum { N_COUNTS = sizeof counts / sizeof counts[0] };

/* ---- SGD ------------------------------------------------------------------------------------- */

enum { P, G, M };

typedef struct SgdCase {
    SgdParams a;
    int m, copy; /* operands, or 0 */
} SgdCase;

static int call_sgd(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const SgdCase *s = c->param;
    return op_sgd(be, &t[P], s->copy ? &t[s->copy] : NULL, &t[G], s->m ? &t[s->m] : NULL, &s->a, err);
}

/* Roundings of the terms; rounded stochastically, one of the two neighbours, a spacing at most. */
static void bound_sgd(const Case *c, double *const *value, double *const *want, double **bound)
{
    const SgdCase *s = c->param;
    for (int64_t i = 0; i < c->arg[P].count; i++) {
        double d = s->a.grad_scale * fabs(value[G][i]) + s->a.weight_decay * fabs(value[P][i]);
        d += s->m ? s->a.momentum * fabs(value[s->m][i]) : 0;
        if (s->m)
            bound[s->m][i] = 6 * ROUNDOFF * d + FLT_MIN;
        bound[P][i] = 2 * ROUNDOFF * fabs(value[P][i]) + 8 * ROUNDOFF * s->a.lr * d + FLT_MIN;
        if (c->arg[P].dtype == DT_BF16)
            bound[P][i] += 0x1p-7 * (fabs(want[P][i]) + bound[P][i]);
        if (s->copy)
            bound[s->copy][i] = bound[P][i];
    }
}

static void sgd(void **state)
{
    (void)state;
    static const SgdParams params[] = {
        {1e-2, 0.9, 1e-4, 1, 1, 0, 0}, {1e-1, 0, 0, 0.5, 7, 11, 0}, {0, 0.5, 1e-2, 0.037, 10000, 12, (int64_t)1 << 33}};
    for (int i = 0; i < N_COUNTS; i++)
        for (int k = 0; k < 3 * 5; k++) {
            /* with and without momentum; masters with copies; bf16 alone; bf16 gradients as well */
            static const char *const name[] = {"sgd", "sgd, no momentum", "sgd, copies", "sgd, bf16", "sgd, all bf16"};
            int way = k / 3, half = way >= 3;
            SgdCase s = {params[k % 3], way == 1 ? 0 : M, way == 2 ? M + 1 : 0};
            Case c = {.name = name[way],
                      .call = call_sgd,
                      .bound = bound_sgd,
                      .param = &s,
                      .huge = 1e12,
                      .stochastic = half ? 1u << P : 0};
            if (k >= 3 && (k + i) % 2)
                continue;
            CASE_ADD(&c, "p", INOUT, half ? DT_BF16 : DT_F32, 1, counts[i]);
            CASE_ADD(&c, "g", IN, way == 4 ? DT_BF16 : DT_F32, 1, counts[i]);
            if (s.m)
                CASE_ADD(&c, "m", INOUT, DT_F32, 1, counts[i]);
            if (s.copy)
                CASE_ADD(&c, "copy", OUT, DT_BF16, 1, counts[i]);
            ops_check(&c);
        }
}

/* Three steps of torch.optim.SGD (2.15.0): p = 2, gradients 1, -2, 0.5; lr 0.1, momentum 0.5, decay 0.25. */
static void sgd_like_torch(void **state)
{
    (void)state;
    static const double grad[] = {1, -2, 0.5}, want[2][3] = {{1.85, 1.92875, 1.86990625}, {1.85, 2.00375, 1.90365625}};
    for (int way = 0; way < 2; way++) { /* with momentum, and without */
        double p = 2, m = 0;
        Err err = {0};
        for (int k = 0; k < 3; k++) {
            double g = grad[k] / 2; /* grad_scale 2 */
            Tensor tp = tensor_of(&p, DT_F64, 1, 1), tg = tensor_of(&g, DT_F64, 1, 1), tm = tensor_of(&m, DT_F64, 1, 1);
            SgdParams a = {.lr = 0.1, .momentum = 0.5, .weight_decay = 0.25, .grad_scale = 2, .step = k + 1};
            CHECK_OK(op_sgd(ops_double(), &tp, NULL, &tg, way ? NULL : &tm, &a, &err), &err);
            check_value("p", p, want[way][k], 1e-15, 0);
        }
    }
}

/* ---- block-wise quantisation ----------------------------------------------------------------- */

/* The values as the paper gives them: each decade's interval [0.1, 1] in equal parts. */
static void map_is_the_papers(void **state)
{
    (void)state;
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        BlockwiseMap map;
        int seen = 2; /* 0 and 1 */
        blockwise_map(&map, is_signed);
        assert_true(map.value[is_signed ? 127 : 0] == 0 && map.value[255] == 1);
        for (int i = 1; i < 256; i++)
            assert_true(map.value[i] > map.value[i - 1]);
        for (int e = 0; e < 7; e++) {
            int parts = is_signed ? 1 << (6 - e) : 2 << (6 - e), here = 0;
            double low = 0.1 * pow(10, -e), high = pow(10, -e);
            for (int i = 0; i < 255; i++)
                if (fabs(map.value[i]) > low && fabs(map.value[i]) < high) {
                    double part = (fabs(map.value[i]) - low) / (high - low) * parts;
                    check_value("middle of a part", part - floor(part), 0.5, 1e-4, 0);
                    here++;
                }
            assert_int_equal(here, is_signed ? 2 * parts : parts);
            seen += here;
        }
        assert_int_equal(seen, 256);
    }
    /* the first and last of bitsandbytes 0.50.2's create_dynamic_map(signed), made with torch 2.15.0 */
    BlockwiseMap s, u;
    blockwise_map(&s, 1);
    blockwise_map(&u, 0);
    check_value("most negative", s.value[0], -0.99296874, 0, 1e-6);
    check_value("below one", u.value[254], 0.99648440, 0, 1e-6);
    check_value("least", s.value[128], 5.5e-7, 0, 1e-6);
    check_value("least without a sign", u.value[1], 3.25e-7, 0, 1e-6);
}

/* Every code's value has that code; a number between two has the nearer one; of numbers that are never
 * negative, only 0 becomes 0. */
static void codes_are_the_nearest(void **state)
{
    (void)state;
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        BlockwiseMap map;
        blockwise_map(&map, is_signed);
        for (int i = 0; i < 256; i++)
            assert_int_equal(blockwise_code(map.bound, map.value[i]), i);
        for (int i = is_signed ? 0 : 1; i < 255; i++) {
            float a = map.value[i], b = map.value[i + 1];
            assert_int_equal(blockwise_code(map.bound, a + 0.49f * (b - a)), i);
            assert_int_equal(blockwise_code(map.bound, a + 0.51f * (b - a)), i + 1);
        }
        assert_int_equal(blockwise_code(map.bound, 1e-30f), is_signed ? 127 : 1);
        assert_int_equal(blockwise_code(map.bound, -1), 0);
    }
}

/* There and back: what a block holds comes back as the value nearest to it. */
static int call_blocks(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    int is_signed = *(const int *)c->param;
    Tensor codes = tensor_of(NULL, DT_U8, 1, tensor_count(&t[0]));
    int rc = be->alloc(be, tensor_count(&codes), &codes.data, err);
    if (rc == 0)
        rc = op_quantize(be, &codes, &t[1], &t[2], is_signed, err);
    if (rc == 0)
        rc = op_dequantize(be, &t[0], &codes, &t[1], is_signed, err);
    if (rc == 0)
        rc = be->sync(be, err);
    be->release(be, codes.data);
    return rc;
}

/* One rounding of the product; the scale is a number of the block.  No input lies within a rounding of
 * the middle between two values. */
static void bound_blocks(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)value;
    for (int64_t i = 0; i < c->arg[0].count; i++)
        bound[0][i] = 2 * ROUNDOFF * fabs(want[0][i]) + FLT_MIN;
    for (int64_t i = 0; i < c->arg[1].count; i++)
        bound[1][i] = 0;
}

static void blocks(void **state)
{
    (void)state;
    static const int way[] = {0, 1};
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        int64_t n = counts[i / 2];
        Case c = {.name = i % 2 ? "quantize" : "quantize, never negative",
                  .call = call_blocks,
                  .bound = bound_blocks,
                  .param = &way[i % 2],
                  .composite = 1};
        CASE_ADD(&c, "y", OUT, DT_F32, 1, n);
        CASE_ADD(&c, "scale", OUT, DT_F32, 1, (n + 255) / 256);
        case_range(&c, CASE_ADD(&c, "x", IN, DT_F32, 1, n), i % 2 ? -1 : 0, 1);
        ops_check(&c);
    }
}

/* Codes and scales of every back end, for any number of threads, are ref's; blocks of zeros stay zeros. */
static void blocks_are_the_same_everywhere(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t threads;
    } run[] = {{"ref", 1}, {"cpu", 1}, {"cpu", 2}, {"cpu", 3}, {"sim", 1}};
    enum { N = 40007, B = (N + 255) / 256 };
    static float x[N], scale[2][B];
    static double drawn[N];
    static uint8_t codes[2][N];
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        ops_draw(drawn, N, is_signed ? -1 : 0, 1, 5);
        for (int i = 0; i < N; i++) /* all decades, and a block of zeros */
            x[i] = i / 256 == 3 ? 0 : (float)(drawn[i] * pow(10, -(i % 11)));
        for (size_t r = 0; r < sizeof run / sizeof *run; r++) {
            Backend *be = NULL;
            Err err = {0};
            Tensor t[3] = {tensor_of(NULL, DT_U8, 1, N), tensor_of(NULL, DT_F32, 1, B), tensor_of(NULL, DT_F32, 1, N)};
            CHECK_OK(backend_open(&be, run[r].name, run[r].threads, NULL, &err), &err);
            for (int k = 0; k < 3; k++)
                CHECK_OK(be->alloc(be, tensor_bytes(&t[k]), &t[k].data, &err), &err);
            CHECK_OK(backend_put_f32(be, &t[2], x, &err), &err);
            CHECK_OK(op_quantize(be, &t[0], &t[1], &t[2], is_signed, &err), &err);
            CHECK_OK(be->download(be, codes[r > 0], t[0].data, N, &err), &err);
            CHECK_OK(be->download(be, scale[r > 0], t[1].data, sizeof scale[0], &err), &err);
            for (int k = 0; k < 3; k++)
                be->release(be, t[k].data);
            backend_close(&be);
            assert_int_equal(codes[r > 0][3 * 256 + 5], is_signed ? 127 : 0);
            assert_true(scale[r > 0][3] == 0);
            if (r > 0) {
                assert_memory_equal(codes[0], codes[1], N);
                assert_memory_equal(scale[0], scale[1], sizeof scale[0]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sgd),
        cmocka_unit_test(sgd_like_torch),
        cmocka_unit_test(map_is_the_papers),
        cmocka_unit_test(codes_are_the_nearest),
        cmocka_unit_test(blocks),
        cmocka_unit_test(blocks_are_the_same_everywhere),
        cmocka_unit_test(ops_summary),
    };
    return check_run("ops: SGD and block-wise quantisation", tests);
}
