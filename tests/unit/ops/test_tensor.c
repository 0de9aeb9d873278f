/* Tensor views, 16-bit conversions, and moving floats to and from a back end. */
#include <math.h>
#include <string.h>
#include "common/ops/ops_table.h"
#include "tests/check.h"

static void views(void **state)
{
    (void)state;
    float data[24];
    char text[64];
    Tensor t = tensor_of(data, DT_F32, 3, 2, 3, 4), flat = tensor_as(&t, 1, 24), rows = tensor_rows(&t, 1, 1);
    assert_int_equal(tensor_count(&t), 24);
    assert_int_equal(tensor_bytes(&t), 96);
    assert_string_equal(tensor_describe(&t, text, sizeof text), "F32 [2, 3, 4]");
    assert_ptr_equal(flat.data, data);
    assert_ptr_equal(rows.data, data + 12);
    assert_int_equal(rows.dim[0], 1);
    assert_int_equal(tensor_count(&rows), 12);
    assert_false(tensor_same_shape(&t, &flat));
    assert_true(tensor_same_shape(&t, &t));
    Tensor scalar = tensor_view(data, DT_BF16, 0, NULL);
    assert_int_equal(tensor_count(&scalar), 1);
    assert_string_equal(tensor_describe(&scalar, text, sizeof text), "BF16 []");
}

static void long_shapes_are_cut_not_overrun(void **state)
{
    (void)state;
    char text[20];
    memset(text, 'x', sizeof text);
    Tensor t = tensor_of(NULL, DT_F32, 4, INT64_MAX, 1, INT64_MAX, 1);
    tensor_describe(&t, text, 12);
    assert_int_equal(text[11], 0);
    assert_int_equal(text[12], 'x');
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static void every_half_comes_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = half_to_float((uint16_t)h), b = bfloat_to_float((uint16_t)h);
        int half_nan = (h & 0x7fff) > 0x7c00, bfloat_nan = (h & 0x7fff) > 0x7f80;
        assert_true(isnan(f) ? half_nan : !half_nan);
        assert_true(isnan(b) ? bfloat_nan : !bfloat_nan);
        /* a NaN comes back as a NaN of its sign, made quiet */
        uint16_t half = float_to_half(f), bfloat = float_to_bfloat(b);
        assert_int_equal(half, half_nan ? h | 0x200 : h);
        assert_int_equal(bfloat, bfloat_nan ? h | 0x40 : h);
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 0x3ff); /* the value, by the definition */
        double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        value = exponent == 31 ? (double)INFINITY : value;
        if (!half_nan)
            assert_true((h & 0x8000 ? -value : value) == f);
    }
}

/* Between neighbours, at a quarter, the middle and three quarters: nearest, ties to the even one.
 * All exact in float. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double low = half_to_float((uint16_t)h), high = h == 0x7bff ? 65536 : half_to_float((uint16_t)(h + 1));
        uint32_t even = h & 1 ? h + 1 : h;
        assert_int_equal(float_to_half((float)(low + (high - low) / 4)), h);
        assert_int_equal(float_to_half((float)(low + (high - low) / 2)), even);
        assert_int_equal(float_to_half((float)(low + (high - low) * 3 / 4)), h + 1);
        assert_int_equal(float_to_half((float)-(low + (high - low) / 2)), 0x8000 | even);
    }
    for (uint32_t b = 0; b < 0x7f80; b++) {
        uint32_t low = b << 16, even = b & 1 ? b + 1 : b;
        float quarter, middle, more;
        memcpy(&quarter, &(uint32_t){low | 0x7fff}, 4);
        memcpy(&middle, &(uint32_t){low | 0x8000}, 4);
        memcpy(&more, &(uint32_t){low | 0x8001}, 4);
        assert_int_equal(float_to_bfloat(quarter), b);
        assert_int_equal(float_to_bfloat(middle), even);
        assert_int_equal(float_to_bfloat(more), b + 1);
        assert_int_equal(float_to_bfloat(-middle), 0x8000 | even);
    }
}

static void halves_at_the_edges(void **state)
{
    (void)state;
    static const struct {
        float f;
        uint16_t half;
    } known[] = {
        {65504, 0x7bff},      {65519.996f, 0x7bff}, {65520, 0x7c00}, {1e30f, 0x7c00},
        {INFINITY, 0x7c00},   {-INFINITY, 0xfc00},  {0x1p-24f, 1},   {0x1p-25f, 0},
        {0x1.000002p-25f, 1}, {-0x1p-26f, 0x8000},  {1e-45f, 0},     {0, 0},
        {-0.0f, 0x8000},      {1, 0x3c00},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_int_equal(float_to_half(known[i].f), known[i].half);
    assert_int_equal(float_to_half(NAN) & 0x7e00, 0x7e00);
    assert_int_equal(float_to_bfloat(INFINITY), 0x7f80);
    assert_int_equal(float_to_bfloat(3.4e38f), 0x7f80); /* past the largest BF16, 3.3895e38 */
    uint32_t low_nan = 0x7f800001;
    float f;
    memcpy(&f, &low_nan, sizeof f);
    assert_true(isnan(bfloat_to_float(float_to_bfloat(f))) && isnan(half_to_float(float_to_half(f))));
    assert_int_equal(bits_of(half_to_float(0x8000)), 0x80000000u);
}

static void floats_travel_to_a_back_end_and_back(void **state)
{
    (void)state;
    enum { N = 5000 }; /* more than one piece of the conversion */
    static float out[N], in[N];
    static double room[N];
    const DType types[] = {DT_F32, DT_F16, DT_BF16, DT_F64};
    Backend *be = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, "ref", 1, NULL, &err), &err);
    for (int i = 0; i < N; i++)
        out[i] = (float)(i % 256) / 16 - 8; /* exact in every type */
    for (int k = 0; k < 4; k++) {
        Tensor t = tensor_of(room, types[k], 2, 50, 100);
        CHECK_OK(backend_put_f32(be, &t, out, &err), &err);
        memset(in, 0xff, sizeof in);
        CHECK_OK(backend_get_f32(be, in, &t, &err), &err);
        assert_memory_equal(in, out, sizeof in);
    }
    Tensor ids = tensor_of(room, DT_I32, 1, 4);
    CHECK_FAILS(backend_put_f32(be, &ids, out, &err), ERR_USAGE, "I32 [4]", &err);
    CHECK_FAILS(backend_get_f32(be, in, &ids, &err), ERR_USAGE, "I32 [4]", &err);
    backend_close(&be);
    assert_null(be);
    backend_close(&be);
}

static void take_line(void *user, LogLevel level, const char *line)
{
    (void)level;
    strncat(user, line, 599 - strlen(user)); /* all lines: the cpu back end may have one of its own */
}

static void back_ends_open_or_say_why(void **state)
{
    (void)state;
    char line[600] = "";
    const Log log = {.write = take_line, .user = line, .level = LOG_INFO};
    Backend *be = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, "auto", 2, &log, &err), &err);
    assert_string_equal(be->name, "cpu");
    assert_int_equal(be->threads, 2);
    assert_non_null(strstr(line, "cpu"));
    backend_close(&be);
    /* not beside this program */
    CHECK_FAILS(backend_open(&be, "cuda", 0, NULL, &err), ERR_UNSUPPORTED, "libweft-cuda.so", &err);
    CHECK_OK(backend_open(&be, "sim", 0, NULL, &err), &err);
    assert_string_equal(be->name, "sim");
    assert_int_equal(be->act, DT_BF16);
    backend_close(&be);
    CHECK_FAILS(backend_open(&be, "gpu", 0, NULL, &err), ERR_USAGE, "'gpu'", &err);
    CHECK_FAILS(backend_open(&be, "cpu", -1, NULL, &err), ERR_USAGE, "-1 threads", &err);
    assert_null(be);
    const char *const names[] = {"ref", "cpu", "plan"};
    for (int i = 0; i < 3; i++) {
        CHECK_OK(backend_open(&be, names[i], 1, NULL, &err), &err);
        assert_string_equal(be->name, names[i]);
        assert_int_equal(be->plan, i == 2);
        static int (*entry[sizeof(OpsTable) / sizeof(int (*)(void))])(void);
        memcpy(entry, be->ops, sizeof entry);
        for (size_t k = 0; k < sizeof entry / sizeof entry[0]; k++)
            assert_true(entry[k] != NULL); /* every op has an entry */
        backend_close(&be);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views),
        cmocka_unit_test(long_shapes_are_cut_not_overrun),
        cmocka_unit_test(every_half_comes_back),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(halves_at_the_edges),
        cmocka_unit_test(floats_travel_to_a_back_end_and_back),
        cmocka_unit_test(back_ends_open_or_say_why),
    };
    return check_run_live("tensors and back ends", tests);
}
