/* The named parameters of a model: table, loading, what is refused, saving, the filler. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "check.h"
#include "common/base/mem.h"
#include "common/model/params.h"

/* A small table: a matrix, a bias, two kernels, a scalar. */
static void table(ParamSet *ps, Err *err)
{
    memset(ps, 0, sizeof *ps);
    CHECK_OK(params_add(ps, 0, "b.weight", 2, (const int64_t[]){3, 5}, err), err);
    CHECK_OK(params_add(ps, 1, "conv.weight", 5, (const int64_t[]){2, 3, 3, 1, 2}, err), err);
    CHECK_OK(params_add(ps, 1, "a.flat.weight", 4, (const int64_t[]){2, 3, 2, 2}, err), err);
    CHECK_OK(params_addf(ps, 0, 1, (const int64_t[]){3}, err, "%s.bias", "b"), err);
    CHECK_OK(params_add(ps, 0, "scale", 0, NULL, err), err);
    CHECK_OK(params_finish(ps, err), err);
}

static Backend *host_backend(Err *err)
{
    Backend *be = NULL;
    CHECK_OK(backend_open(&be, "ref", 1, NULL, err), err);
    return be;
}

static void sorts_and_counts(void **state)
{
    (void)state;
    static const char *const order[] = {"a.flat.weight", "b.bias", "b.weight", "conv.weight", "scale"};
    ParamSet ps;
    Err err = {0};
    table(&ps, &err);
    assert_int_equal(ps.n, 5);
    for (int i = 0; i < 5; i++)
        assert_string_equal(ps.param[i].name, order[i]);
    assert_int_equal(params_count(&ps), 24 + 3 + 15 + 36 + 1);
    assert_int_equal(params_bytes(&ps, DT_BF16), 2 * 79);
    assert_int_equal(ps.flat, 32 + 16 + 16 + 48 + 16);
    assert_ptr_equal(params_find(&ps, "scale"), &ps.param[4]);
    assert_null(params_find(&ps, "nothing"));
    const Param *conv = params_find(&ps, "conv.weight");
    assert_true(conv->value.rank == 5 && conv->value.dim[1] == 3 && conv->value.dim[4] == 3 && conv->value.dim[3] == 2);
    const Param *flat = params_find(&ps, "a.flat.weight");
    assert_true(flat->value.rank == 5 && flat->value.dim[1] == 1 && flat->value.dim[4] == 3);
    params_fini(&ps);
    assert_int_equal(ps.n, 0);
}

static void refuses_bad_tables(void **state)
{
    (void)state;
    ParamSet ps = {0};
    Err err = {0};
    CHECK_FAILS(params_add(&ps, 0, "x", 6, (const int64_t[]){1, 1, 1, 1, 1, 1}, &err), ERR_USAGE, "rank 6", &err);
    CHECK_FAILS(params_add(&ps, 1, "x", 2, (const int64_t[]){1, 1}, &err), ERR_USAGE, "rank 2", &err);
    CHECK_FAILS(params_add(&ps, 0, "x", 2, (const int64_t[]){1, 0}, &err), ERR_LIMIT, "extent 0", &err);
    CHECK_FAILS(params_add(&ps, 0, "x", 2, (const int64_t[]){INT64_MAX / 2, 4}, &err), ERR_LIMIT, "'x'", &err);
    CHECK_OK(params_add(&ps, 0, "x", 0, NULL, &err), &err);
    CHECK_OK(params_add(&ps, 0, "x", 0, NULL, &err), &err);
    CHECK_FAILS(params_finish(&ps, &err), ERR_USAGE, "'x' is listed twice", &err);
    params_fini(&ps);
}

static void filler_is_the_reference(void **state)
{
    (void)state;
    static const double s0[] = {-0.072964247316, 0.172680731164, -0.361923302058, -0.234074148582};
    static const double s7[] = {-0.007179918000, 0.459544464247};
    for (uint32_t i = 0; i < 4; i++)
        check_value("S = 0", filler_u(0, i), s0[i], 5e-13, 0);
    for (uint32_t i = 0; i < 2; i++)
        check_value("S = 7", filler_u(7, i), s7[i], 5e-13, 0);
    float in[2];
    filler_input(7, in, 2);
    check_value("input", in[1], s7[1] * sqrt(12.0), 1e-7, 0);
}

/* What parameter `name` of the table holds after filling, in file order. */
static double filled(const char *name, uint32_t k, uint32_t i)
{
    double u = filler_u(k, i);
    if (!strcmp(name, "b.bias"))
        return 0.2 * u;
    if (!strcmp(name, "scale"))
        return 1 + 0.2 * u;
    double fan_in = !strcmp(name, "b.weight") ? 5 : !strcmp(name, "conv.weight") ? 18 : 12;
    return u * sqrt(12 / fan_in);
}

static void check_filled(const ParamSet *ps, double rtol)
{
    Err err = {0};
    float host[64];
    for (int64_t k = 0; k < ps->n; k++) {
        CHECK_OK(params_get(ps, &ps->param[k], host, &err), &err);
        for (int64_t i = 0; i < tensor_count(&ps->param[k].value); i++)
            check_value(ps->param[k].name, host[i], filled(ps->param[k].name, (uint32_t)k, (uint32_t)i), 1e-7, rtol);
    }
}

static void fills_flat(void **state)
{
    (void)state;
    ParamSet ps;
    Err err = {0};
    Backend *be = host_backend(&err);
    table(&ps, &err);
    CHECK_OK(params_fill(&ps, be, &err), &err);
    check_filled(&ps, 0);
    /* the kernel lies channels-last: [co,t,y,x,ci] */
    const Param *conv = params_find(&ps, "conv.weight");
    const float *v = conv->value.data;
    for (uint32_t co = 0; co < 2; co++)
        for (uint32_t ci = 0; ci < 3; ci++)
            for (uint32_t tap = 0; tap < 6; tap++)
                check_value("packed", v[(co * 6 + tap) * 3 + ci], filled("conv.weight", 3, (co * 3 + ci) * 6 + tap),
                            1e-7, 0);
    CHECK_OK(params_alloc_grads(&ps, &err), &err);
    Tensor values = params_flat_values(&ps), grads = params_flat_grads(&ps);
    assert_int_equal(tensor_count(&values), ps.flat);
    assert_ptr_equal(values.data, ps.param[0].value.data);
    for (int64_t i = 0; i < ps.n; i++) {
        assert_int_equal((uintptr_t)ps.param[i].value.data % 64, 0);
        assert_int_equal((char *)ps.param[i].grad.data - (char *)grads.data,
                         (char *)ps.param[i].value.data - (char *)values.data);
    }
    for (int64_t i = 0; i < ps.flat; i++)
        assert_true(((const float *)grads.data)[i] == 0);
    assert_true(((const float *)values.data)[24] == 0 && ((const float *)values.data)[31] == 0); /* the gap */
    params_fini(&ps);
    backend_close(&be);
}

static void saves_and_loads(void **state)
{
    (void)state;
    static const struct {
        DType dtype;
        double rtol;
        const char *file;
    } kinds[] = {{DT_F32, 0, "f32.safetensors"},
                 {DT_F16, 1.0 / 2048, "f16.safetensors"},
                 {DT_BF16, 1.0 / 256, "bf16.safetensors"}};
    for (int k = 0; k < 3; k++) {
        ParamSet ps, mapped, flat;
        Err err = {0};
        SafeTensors *file = NULL;
        Backend *be = host_backend(&err);
        char *path = check_tmp_path(kinds[k].file);
        table(&ps, &err);
        CHECK_OK(params_fill(&ps, be, &err), &err);
        CHECK_OK(params_save(&ps, path, kinds[k].dtype, &err), &err);
        CHECK_OK(safetensors_open(&file, path, &err), &err);
        assert_string_equal(safetensors_meta(file, "format"), "pt");
        const SafeEntry *e = safetensors_find(file, "conv.weight"), *b = safetensors_find(file, "b.weight");
        assert_int_equal(e->tensor.dtype, kinds[k].dtype);
        assert_int_equal(e->tensor.dim[1], 3); /* the file keeps the file's shape */
        const void *in_file = b->tensor.data;
        table(&flat, &err);
        CHECK_OK(params_load_flat(&flat, be, file, path, &err), &err);
        check_filled(&flat, kinds[k].rtol);
        table(&mapped, &err);
        CHECK_OK(params_load_mapped(&mapped, be, &file, path, &err), &err);
        assert_null(file);
        check_filled(&mapped, kinds[k].rtol);
        assert_ptr_equal(params_find(&mapped, "b.weight")->value.data, in_file); /* in place */
        assert_int_equal(params_find(&mapped, "conv.weight")->value.dtype, kinds[k].dtype);
        float host[15] = {0};
        CHECK_FAILS(params_put(&mapped, params_find(&mapped, "b.weight"), host, &err), ERR_USAGE, "read-only", &err);
        params_fini(&ps);
        params_fini(&mapped);
        params_fini(&flat);
        backend_close(&be);
    }
}

/* Where activations are BF16: matrices and kernels as BF16, vectors and scalars as F32, whatever
 * the file holds; training keeps the exact values beside. */
static void keeps_16_bits(void **state)
{
    (void)state;
    static const DType in_file[] = {DT_F32, DT_F16, DT_BF16};
    ParamSet ps, loaded;
    Err err = {0};
    float host[64], again[64];
    Backend *be = host_backend(&err);
    table(&ps, &err);
    be->act = DT_BF16;
    CHECK_OK(params_fill(&ps, be, &err), &err);
    check_filled(&ps, 0); /* params_get reads the exact values */
    for (int64_t k = 0; k < ps.n; k++) {
        const Param *p = &ps.param[k];
        int64_t n = tensor_count(&p->value);
        assert_int_equal(p->value.dtype, p->rank >= 2 ? DT_BF16 : DT_F32);
        assert_int_equal(p->master.dtype, DT_F32);
        for (int64_t i = 0; i < n; i++) {
            float exact = (float)tensor_get(&p->master, i);
            assert_true((float)tensor_get(&p->value, i) ==
                        (p->rank >= 2 ? bfloat_to_float(float_to_bfloat(exact)) : exact));
        }
    }
    const Param *conv = params_find(&ps, "conv.weight");
    for (int i = 0; i < 36; i++)
        host[i] = 1.0f + (float)i / 1024;
    CHECK_OK(params_put(&ps, conv, host, &err), &err);
    CHECK_OK(params_get(&ps, conv, again, &err), &err);
    assert_memory_equal(host, again, 36 * sizeof *host);
    assert_true(tensor_get(&conv->value, 3) == bfloat_to_float(float_to_bfloat((float)tensor_get(&conv->master, 3))));
    Tensor all = params_flat_values(&ps);
    ((float *)all.data)[0] = 3;
    CHECK_OK(params_refresh(&ps, &err), &err);
    assert_true(tensor_get(&ps.param[0].value, 0) == 3);
    for (int k = 0; k < 3; k++) {
        SafeTensors *file = NULL;
        char *path = check_tmp_path("kept.safetensors");
        CHECK_OK(params_save(&ps, path, in_file[k], &err), &err);
        CHECK_OK(safetensors_open(&file, path, &err), &err);
        table(&loaded, &err);
        CHECK_OK(params_load_mapped(&loaded, be, &file, path, &err), &err);
        for (int64_t i = 0; i < ps.n; i++)
            assert_int_equal(loaded.param[i].value.dtype, ps.param[i].value.dtype);
        CHECK_OK(params_get(&loaded, params_find(&loaded, "conv.weight"), again, &err), &err);
        for (int i = 0; i < 36; i++)
            check_value("loaded", again[i], host[i], 0, 1.0 / 256);
        params_fini(&loaded);
    }
    params_fini(&ps);
    backend_close(&be);
}

/* More than is converted at a time: each part lands in its place. */
static void moves_large_tensors(void **state)
{
    (void)state;
    const int64_t rows = 1100, cols = 1000, co = 3, ci = 400, side = 30;
    Err err = {0};
    Backend *be = host_backend(&err);
    be->act = DT_BF16;
    ParamSet ps = {0};
    CHECK_OK(params_addf(&ps, 0, 2, (const int64_t[]){rows, cols}, &err, "a"), &err);
    CHECK_OK(params_addf(&ps, 1, 4, (const int64_t[]){co, ci, side, side}, &err, "b"), &err);
    CHECK_OK(params_finish(&ps, &err), &err);
    CHECK_OK(params_fill(&ps, be, &err), &err);
    float *host = mem_calloc(rows * cols, sizeof *host, &err);
    for (int k = 0; k < 2; k++) {
        int64_t n = tensor_count(&ps.param[k].value), fan_in = k ? ci * side * side : cols;
        CHECK_OK(params_get(&ps, &ps.param[k], host, &err), &err);
        for (int64_t i = 0; i < n; i += 997)
            check_value("part", host[i], filler_u((uint32_t)k, (uint32_t)i) * sqrt(12.0 / (double)fan_in), 1e-7, 0);
    }
    const float *packed = ps.param[1].master.data; /* [co,y,x,ci] */
    for (int64_t i = 0; i < co * ci * side * side; i += 991) {
        int64_t o = i / (ci * side * side), c = i / (side * side) % ci, tap = i % (side * side);
        assert_true(packed[(o * side * side + tap) * ci + c] == host[i]);
    }
    mem_free(host);
    params_fini(&ps);
    backend_close(&be);
}

/* A file with these tensors, by hand. */
static SafeTensors *file_of(const char *name, const SafeSource *source, int64_t n)
{
    Err err = {0};
    SafeTensors *file = NULL;
    char *path = check_tmp_path(name);
    CHECK_OK(safetensors_write(path, source, n, NULL, &err), &err);
    CHECK_OK(safetensors_open(&file, path, &err), &err);
    return file;
}

static int is_foreign(const char *name)
{
    return !strncmp(name, "foreign.", 8);
}

static void names_everything_that_is_wrong(void **state)
{
    (void)state;
    static float zeros[64];
    const SafeSource source[] = {{"b.weight", tensor_of(zeros, DT_F32, 2, 5, 3)},
                                 {"scale", tensor_of(zeros, DT_I32, 0, 1)},
                                 {"foreign.x", tensor_of(zeros, DT_F32, 1, 2)},
                                 {"stray", tensor_of(zeros, DT_F32, 1, 2)},
                                 {"conv.weight", tensor_of(zeros, DT_F32, 5, 2, 3, 3, 1, 2)}};
    ParamSet ps;
    Err err = {0};
    Backend *be = host_backend(&err);
    SafeTensors *file = file_of("wrong.safetensors", source, 5);
    table(&ps, &err);
    ps.ignore = is_foreign;
    int rc = params_load_mapped(&ps, be, &file, "the folder", &err);
    assert_int_equal(rc, ERR_FORMAT);
    assert_non_null(file); /* still the caller's */
    static const char *const parts[] = {"the folder", "missing 2: a.flat.weight, b.bias;",
                                        "misshapen 2: b.weight is F32 [5, 3], expected F32 [3, 5]", "scale is I32 []",
                                        "unexpected 1: stray"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(err.msg, parts[i]))
            fail_msg("'%s' is not in: %s", parts[i], err.msg);
    assert_null(strstr(err.msg, "foreign"));
    err_clear(&err);
    CHECK_FAILS(params_load_flat(&ps, be, file, "again", &err), ERR_FORMAT, "again", &err);
    safetensors_close(&file);
    params_fini(&ps);
    /* so many names that they do not fit: the count stays true */
    memset(&ps, 0, sizeof ps);
    for (int i = 0; i < 500; i++)
        CHECK_OK(params_addf(&ps, 0, 1, (const int64_t[]){1}, &err, "a.rather.long.parameter.name.%d", i), &err);
    CHECK_OK(params_finish(&ps, &err), &err);
    file = file_of("few.safetensors", source + 3, 1);
    CHECK_FAILS(params_load_flat(&ps, be, file, "few", &err), ERR_FORMAT,
                "missing 500: a.rather.long.parameter.name.0, ", &err);
    safetensors_close(&file);
    params_fini(&ps);
    backend_close(&be);
}

static void takes_aliases(void **state)
{
    (void)state;
    static float seven[1] = {7};
    const SafeSource source[] = {{"other", tensor_of(seven, DT_F32, 1, 1)}};
    ParamSet ps = {0};
    Err err = {0};
    float got = 0;
    Backend *be = host_backend(&err);
    SafeTensors *file = file_of("alias.safetensors", source, 1);
    CHECK_OK(params_add(&ps, 0, "name", 1, (const int64_t[]){1}, &err), &err);
    ps.param[0].alias = "other";
    CHECK_OK(params_finish(&ps, &err), &err);
    CHECK_OK(params_load_mapped(&ps, be, &file, "alias", &err), &err);
    CHECK_OK(params_get(&ps, &ps.param[0], &got, &err), &err);
    assert_true(got == 7);
    params_fini(&ps);
    backend_close(&be);
}

/* Both names in one file: the same tensor passes; another value or type is refused by both names. */
static void compares_aliases(void **state)
{
    (void)state;
    static float seven[1] = {7}, eight[1] = {8};
    static uint16_t half[1] = {0};
    const SafeSource sources[3][2] = {
        {{"name", tensor_of(seven, DT_F32, 1, 1)}, {"other", tensor_of(seven, DT_F32, 1, 1)}},
        {{"name", tensor_of(seven, DT_F32, 1, 1)}, {"other", tensor_of(eight, DT_F32, 1, 1)}},
        {{"name", tensor_of(seven, DT_F32, 1, 1)}, {"other", tensor_of(half, DT_F16, 1, 1)}},
    };
    ParamSet ps = {0};
    Err err = {0};
    CHECK_OK(params_add(&ps, 0, "name", 1, (const int64_t[]){1}, &err), &err);
    CHECK_OK(params_finish(&ps, &err), &err);
    ps.param[0].alias = "other";
    for (int i = 0; i < 3; i++) {
        SafeTensors *file = file_of("aliases.safetensors", sources[i], 2);
        if (i == 0)
            CHECK_OK(params_check(&ps, file, "aliases", &err), &err);
        else
            CHECK_FAILS(params_check(&ps, file, "aliases", &err), ERR_UNSUPPORTED, "'name' and 'other' differ", &err);
        safetensors_close(&file);
    }
    params_fini(&ps);
}

/* Every allocation on the way fails once: an error, no leak, no crash. */
static void survives_lack_of_memory(void **state)
{
    (void)state;
    Err err = {0};
    Backend *be = host_backend(&err);
    char *path = check_tmp_path("oom.safetensors");
    ParamSet ps;
    table(&ps, &err);
    CHECK_OK(params_fill(&ps, be, &err), &err);
    CHECK_OK(params_save(&ps, path, DT_F16, &err), &err);
    for (int64_t n = 1, failed = 1; failed; n++) {
        ParamSet again = {0};
        SafeTensors *file = NULL;
        CHECK_OK(safetensors_open(&file, path, &err), &err);
        mem_fail_after(n);
        int rc = params_add(&again, 1, "conv.weight", 5, (const int64_t[]){2, 3, 3, 1, 2}, &err);
        if (!rc)
            rc = params_finish(&again, &err);
        if (!rc)
            rc = params_save(&ps, path, DT_BF16, &err);
        again.ignore = is_foreign;
        if (!rc && (rc = params_load_mapped(&again, be, &file, "file", &err)) == ERR_FORMAT)
            rc = 0; /* the table is not the file's: the message was built */
        failed = mem_failed();
        mem_fail_after(0);
        assert_int_equal(rc, failed ? ERR_NOMEM : 0);
        err_clear(&err);
        safetensors_close(&file);
        params_fini(&again);
    }
    params_fini(&ps);
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts_and_counts),        cmocka_unit_test(refuses_bad_tables),
        cmocka_unit_test(filler_is_the_reference), cmocka_unit_test(fills_flat),
        cmocka_unit_test(saves_and_loads),         cmocka_unit_test(names_everything_that_is_wrong),
        cmocka_unit_test(takes_aliases),           cmocka_unit_test(compares_aliases),
        cmocka_unit_test(survives_lack_of_memory), cmocka_unit_test(keeps_16_bits),
        cmocka_unit_test(moves_large_tensors),
    };
    return check_run_live("params", tests);
}
