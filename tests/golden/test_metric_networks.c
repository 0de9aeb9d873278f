/* Inception v3 and I3D against torch-fidelity and a torch module (tests/golden/make_metric_networks.py), with weights
 * that both sides make by one rule; and what their files must hold. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/model/i3d.h"
#include "common/model/inception.h"
#include "common/model/resize.h"
#include "common/store/torch_file.h"
#include "tests/golden/generator.h"
#include "tests/golden/named_weights.h"

/* ---- weights --------------------------------------------------------------------------------- */

static void rule_of_the_weights(void **state)
{
    (void)state;
    static const double test[] = {0.79321796, 0.79837179, 0.61226732, 0.71386695};
    assert_int_equal(named_crc("test"), 0xd87f7e0c);
    for (uint32_t i = 0; i < 4; i++)
        check_value("u", named_u(named_crc("test"), i), test[i], 1e-8, 0);
}

/* ---- networks -------------------------------------------------------------------------------- */

static json_t *golden(void)
{
    json_t *root = NULL;
    Err err = {0};
    CHECK_OK(json_read_file(&root, check_repo_path("tests/golden/metric_networks.json"), &err), &err);
    return root;
}

/* ((7w + 13h + 29t + 101c) mod 256) of [T,H,W,3]. */
static uint8_t *pattern(int64_t T, int64_t H, int64_t W)
{
    uint8_t *out = malloc((size_t)(T * H * W * 3)), *to = out;
    assert_non_null(out);
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t w = 0; w < W; w++)
                for (int64_t c = 0; c < 3; c++)
                    *to++ = (uint8_t)((7 * w + 13 * h + 29 * t + 101 * c) % 256);
    return out;
}

static Backend *plan_be, *cpu_be;

static int open_backends(void **state)
{
    (void)state;
    Err err = {0};
    CHECK_OK(backend_open(&plan_be, "plan", 1, NULL, &err), &err);
    CHECK_OK(backend_open(&cpu_be, "cpu", 0, NULL, &err), &err);
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    backend_close(&plan_be);
    backend_close(&cpu_be);
    return 0;
}

/* The largest error against a golden array, in units of the array's root mean square. */
static void check_features(const char *what, const float *got, const json_t *want, double bound)
{
    double most = 0, square = 0;
    size_t n = json_array_size(want);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        double w = json_number_value(json_array_get(want, i));
        most = fmax(most, fabs((double)got[i] - w));
        square += w * w;
    }
    double error = most / sqrt(square / (double)n);
    printf("# %s: error %.2g of the root mean square\n", what, error);
    if (!(error <= bound))
        fail_msg("%s: the largest error is %g of the root mean square, expected at most %g", what, error, bound);
}

/* An arena as large as a call on the plan back end takes. */
static Arena *arena_for_inception(int64_t n)
{
    Inception *m = NULL;
    Arena *a = NULL, *out = NULL;
    Err err = {0};
    CHECK_OK(inception_open(&m, plan_be, NULL, &err), &err);
    CHECK_OK(arena_new(&a, plan_be, 0, "Inception", &err), &err);
    CHECK_OK(inception_run(m, a, NULL, NULL, NULL, NULL, n, &err), &err);
    CHECK_OK(arena_new(&out, cpu_be, arena_high(a), "Inception", &err), &err);
    printf("# Inception, %d pictures: %.1f MB\n", (int)n, (double)arena_high(a) / 1e6);
    arena_free(&a);
    inception_close(&m);
    return out;
}

/* Bounds: sums of up to 2,048 products in float32 over 20 layers, a random walk of 2^-24 each; 1e-5 of
 * the features' root mean square is five times what was seen. */
static void inception(void **state)
{
    (void)state;
    enum { S = INCEPTION_SIZE, P = S * S * 3 };
    Inception *m = NULL;
    Err err = {0};
    json_t *g = golden();
    const char *path = check_tmp_path("inception.safetensors");
    Inception *shape = NULL;
    CHECK_OK(inception_open(&shape, plan_be, NULL, &err), &err);
    assert_int_equal(inception_params(shape)->n, 472);
    assert_int_equal(params_count(inception_params(shape)), 23850960 + 2 * 17216); /* and means and variances */
    NamedFile f = named_file(inception_params(shape));
    CHECK_OK(safetensors_write(path, f.source, f.n, NULL, &err), &err);
    CHECK_OK(inception_open(&m, cpu_be, path, &err), &err);
    Arena *work = arena_for_inception(2);
    uint8_t *square = pattern(1, S, S), *portrait = pattern(1, 36, 24);
    float *pixels = malloc(2 * P * sizeof *pixels);
    float pool3[2 * INCEPTION_FEATURES], logits[2 * INCEPTION_CLASSES], bias[INCEPTION_CLASSES];
    CHECK_OK(resize_scaled(pixels, S, S, square, S, S, RESIZE_TF1, SCALE_INCEPTION, &err), &err);
    CHECK_OK(resize_scaled(pixels + P, S, S, portrait, 36, 24, RESIZE_TF1, SCALE_INCEPTION, &err), &err);
    CHECK_OK(inception_run(m, work, pool3, logits, bias, pixels, 2, &err), &err);
    const json_t *first = json_object_get(g, "inception"), *second = json_object_get(g, "inception_portrait");
    check_features("pool3", pool3, json_object_get(first, "pool3"), 1e-5);
    check_features("logits_unbiased", logits, json_object_get(first, "logits_unbiased"), 1e-5);
    check_features("pool3, portrait", pool3 + INCEPTION_FEATURES, json_object_get(second, "pool3"), 1e-5);
    check_features("logits_unbiased, portrait", logits + INCEPTION_CLASSES, json_object_get(second, "logits_unbiased"),
                   1e-5);
    for (int i = 0; i < INCEPTION_CLASSES; i++)
        logits[i] += bias[i];
    check_features("logits", logits, json_object_get(first, "logits"), 1e-5);
    inception_close(&m);
    /* What a file must hold. */
    const char *bad = check_tmp_path("bad.safetensors");
    CHECK_OK(safetensors_write(bad, f.source + 1, f.n - 1, NULL, &err), &err);
    CHECK_FAILS(inception_open(&m, cpu_be, bad, &err), ERR_FORMAT, "missing 1: Conv2d_1a_3x3.bn.bias", &err);
    const char *name = f.source[0].name;
    f.source[0].name = "Conv2d_1a_3x3.bn.num_batches_tracked"; /* ignored, whatever its shape */
    CHECK_OK(safetensors_write(bad, f.source, f.n, NULL, &err), &err);
    CHECK_FAILS(inception_open(&m, cpu_be, bad, &err), ERR_FORMAT, "missing 1: Conv2d_1a_3x3.bn.bias", &err);
    f.source[0].name = "AuxLogits.fc.bias";
    CHECK_OK(safetensors_write(bad, f.source, f.n, NULL, &err), &err);
    CHECK_FAILS(inception_open(&m, cpu_be, bad, &err), ERR_FORMAT, "unexpected 1: AuxLogits.fc.bias", &err);
    f.source[0].name = name;
    f.source[0].tensor.dim[0]--;
    CHECK_OK(safetensors_write(bad, f.source, f.n, NULL, &err), &err);
    CHECK_FAILS(inception_open(&m, cpu_be, bad, &err), ERR_FORMAT,
                "misshapen 1: Conv2d_1a_3x3.bn.bias is F32 [31], expected F32 [32]", &err);
    f.source[0].tensor.dim[0]++;
    for (int64_t i = 0; i < f.n; i++)
        if (!strcmp(f.source[i].name, "Conv2d_1a_3x3.bn.running_var"))
            ((float *)f.source[i].tensor.data)[3] = -1;
    CHECK_OK(safetensors_write(bad, f.source, f.n, NULL, &err), &err);
    CHECK_FAILS(inception_open(&m, cpu_be, bad, &err), ERR_FORMAT, "'Conv2d_1a_3x3.bn': running_var -1 and weight",
                &err);
    CHECK_FAILS(inception_open(&m, cpu_be, check_repo_path("tests/golden/torch_file/zip.pt"), &err), ERR_FORMAT,
                "tensors do not fit", &err);
    inception_close(&shape);
    arena_free(&work);
    named_file_free(&f);
    free(square);
    free(portrait);
    free(pixels);
    json_decref(g);
}

static void run_i3d(const char *path, const json_t *want, double eps, int64_t frames, const char *what)
{
    enum { S = I3D_SIZE };
    I3d *m = NULL, *shape = NULL;
    Arena *plan = NULL, *work = NULL;
    Err err = {0};
    float logits[I3D_CLASSES], *pixels = malloc((size_t)frames * S * S * 3 * sizeof *pixels);
    uint8_t *picture = pattern(frames, S, S);
    CHECK_OK(i3d_open(&shape, plan_be, NULL, 0, &err), &err);
    CHECK_OK(arena_new(&plan, plan_be, 0, "I3D", &err), &err);
    CHECK_OK(i3d_run(shape, plan, NULL, NULL, frames, &err), &err);
    CHECK_OK(i3d_open(&m, cpu_be, path, eps, &err), &err);
    check_value("eps", i3d_eps(m), eps ? eps : 1e-3, 0, 0);
    CHECK_OK(arena_new(&work, cpu_be, arena_high(plan), "I3D", &err), &err);
    printf("# I3D, %d frames: %.1f MB\n", (int)frames, (double)arena_high(plan) / 1e6);
    for (int64_t t = 0; t < frames; t++)
        CHECK_OK(
            resize_scaled(pixels + t * S * S * 3, S, S, picture + t * S * S * 3, S, S, RESIZE_TF1, SCALE_SIGNED, &err),
            &err);
    CHECK_OK(i3d_run(m, work, logits, pixels, frames, &err), &err);
    check_features(what, logits, want, 1e-5);
    CHECK_FAILS(i3d_run(m, work, logits, pixels, 8, &err), ERR_USAGE, "8 frames; it needs 9 or more", &err);
    arena_free(&plan);
    arena_free(&work);
    i3d_close(&m);
    i3d_close(&shape);
    free(pixels);
    free(picture);
}

static void i3d(void **state)
{
    (void)state;
    I3d *shape = NULL, *m = NULL;
    Err err = {0};
    json_t *g = golden(), *meta = json_pack("{s:s}", "bn_eps", "1e-05"), *odd = json_pack("{s:s}", "bn_eps", "no");
    const char *path = check_tmp_path("i3d.safetensors");
    CHECK_OK(i3d_open(&shape, plan_be, NULL, 0, &err), &err);
    assert_int_equal(i3d_params(shape)->n, 287);
    assert_int_equal(params_count(i3d_params(shape)), 12697264 + 2 * 7280); /* and means and variances */
    NamedFile f = named_file(i3d_params(shape));
    CHECK_OK(safetensors_write(path, f.source, f.n, NULL, &err), &err);
    const json_t *want = json_object_get(g, "i3d");
    run_i3d(path, json_object_get(want, "eps0.001_T9"), 0, 9, "eps 1e-3, 9 frames");
    run_i3d(path, json_object_get(want, "eps1e-05_T9"), 1e-5, 9, "eps 1e-5, 9 frames");
    run_i3d(path, json_object_get(want, "eps0.001_T17"), 1e-3, 17, "eps 1e-3, 17 frames");
    CHECK_OK(safetensors_write(path, f.source, f.n, meta, &err), &err);
    CHECK_OK(i3d_open(&m, cpu_be, path, 0, &err), &err);
    check_value("the file's eps", i3d_eps(m), 1e-5, 0, 0);
    i3d_close(&m);
    CHECK_OK(safetensors_write(path, f.source, f.n, odd, &err), &err);
    CHECK_FAILS(i3d_open(&m, cpu_be, path, 0, &err), ERR_FORMAT, "its bn_eps is 'no'", &err);
    named_file_free(&f);
    i3d_close(&shape);
    json_decref(meta);
    json_decref(odd);
    json_decref(g);
}

/* A tensor of tests/golden/i3d_script.json as named_weights.h makes it; what counts batches is a whole number. */
static Tensor storage_of(const json_t *storage)
{
    const char *name = json_string_value(json_array_get(storage, 0));
    const json_t *shape = json_array_get(storage, 1);
    int64_t dim[5];
    size_t rank = json_array_size(shape);
    for (size_t a = 0; a < rank; a++)
        dim[a] = json_integer_value(json_array_get(shape, a));
    if (!rank)
        return tensor_of(calloc(1, 8), DT_U8, 1, (int64_t)8);
    return tensor_view(named_weights(name, (int)rank, dim), DT_F32, (int)rank, dim);
}

/* torch.jit.script of an I3D with the names of kinetics_i3d_pytorch (tests/golden/make_i3d_script.py), as an archive of
 * its pickle and its storages. */
static void i3d_script(void **state)
{
    (void)state;
    const char *path = check_tmp_path("i3d_torchscript.pt");
    json_t *g = NULL;
    Err err = {0};
    int failed = 0;
    CHECK_OK(json_read_file(&g, check_repo_path("tests/golden/i3d_script.json"), &err), &err);
    const json_t *storages = json_object_get(g, "storages");
    size_t n = json_array_size(storages);
    assert_int_equal(n, 344);
    Tensor *tensor = calloc(n, sizeof *tensor);
    zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &failed);
    assert_non_null(tensor);
    assert_non_null(z);
    zip_source_t *pickle = zip_source_file(z, check_repo_path("tests/golden/i3d_script.pkl"), 0, -1);
    assert_true(zip_file_add(z, "i3d/data.pkl", pickle, 0) >= 0);
    for (size_t i = 0; i < n; i++) {
        char member[40];
        tensor[i] = storage_of(json_array_get(storages, i));
        snprintf(member, sizeof member, "i3d/data/%zu", i);
        zip_source_t *bytes = zip_source_buffer(z, tensor[i].data, (zip_uint64_t)tensor_bytes(&tensor[i]), 0);
        zip_int64_t at = zip_file_add(z, member, bytes, 0);
        assert_true(at >= 0);
        assert_int_equal(zip_set_file_compression(z, (zip_uint64_t)at, ZIP_CM_STORE, 0), 0);
    }
    assert_int_equal(zip_close(z), 0);
    run_i3d(path, json_object_get(g, "logits"), 0, 16, "TorchScript, 16 frames");
    for (size_t i = 0; i < n; i++)
        free(tensor[i].data);
    free(tensor);
    remove(path);
    json_decref(g);
}

/* ---- pictures -------------------------------------------------------------------------------- */

static void resizes_as_others(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        ResizeKind kind;
        double bound; /* torch computes in double, Pillow in float32 */
    } kinds[] = {{"tf1", RESIZE_TF1, 2e-5},
                 {"half_pixel", RESIZE_HALF_PIXEL, 2e-5},
                 {"triangle", RESIZE_TRIANGLE, 5e-5},
                 {"bicubic", RESIZE_BICUBIC, 5e-5}};
    static const char *const sizes[] = {"smaller", "larger"};
    json_t *g = golden();
    uint8_t *picture = pattern(1, 7, 10);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 4; k++) {
            const json_t *one = json_object_get(json_object_get(g, "resized"), sizes[i]),
                         *size = json_object_get(one, "size");
            int64_t h = json_integer_value(json_array_get(size, 0)), w = json_integer_value(json_array_get(size, 1)), n;
            double *want = GOLDEN_ARRAY(one, &n, kinds[k].name);
            float got[9 * 13 * 3];
            Err err = {0};
            assert_int_equal(n, h * w * 3);
            CHECK_OK(resize_scaled(got, h, w, picture, 7, 10, kinds[k].kind, SCALE_NONE, &err), &err);
            check_near(kinds[k].name, got, want, n, kinds[k].bound, 5e-7); /* 7 digits are recorded */
            free(want);
        }
    free(picture);
    json_decref(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rule_of_the_weights), cmocka_unit_test(resizes_as_others),
        cmocka_unit_test(inception),           cmocka_unit_test(i3d),
        cmocka_unit_test(i3d_script),
    };
    return cmocka_run_group_tests_name("golden: networks of metrics", tests, open_backends, close_backends);
}
