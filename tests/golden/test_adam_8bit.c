/* AdamW with 8-bit moments against the paper in numpy, and bitsandbytes (tests/golden/make_adam_8bit.py). */
#include <math.h>

#include "check.h"
#include "common/base/json.h"
#include "train/optimizer.h"

enum { N = 5000, STEPS = 30, STRIDE = 7 };

static Err err;

static void train(const char *backend, OptimizerKind kind, int decades, float *values)
{
    Backend *be = NULL;
    ParamSet ps = {0};
    Optimizer o;
    OptimizerConfig c = {.kind = kind, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 1e-2};
    Tensor grads, flat;
    static float host[N];

    CHECK_OK(backend_open(&be, backend, 2, NULL, &err), &err);
    CHECK_OK(params_addf(&ps, 0, 1, (int64_t[]){N}, &err, "p"), &err);
    CHECK_OK(params_finish(&ps, &err), &err);
    CHECK_OK(params_fill(&ps, be, &err), &err);
    CHECK_OK(params_alloc_grads(&ps, &err), &err);
    for (int i = 0; i < N; i++)
        host[i] = (float)filler_u(0, (uint32_t)i);
    CHECK_OK(params_put(&ps, ps.param, host, &err), &err);
    CHECK_OK(optimizer_init(&o, be, &ps, &c, 0, ps.flat, &err), &err);
    grads = params_flat_grads(&ps);
    flat = params_flat_values(&ps);
    for (int k = 1; k <= STEPS; k++) {
        Tensor g = ps.param[0].grad;
        for (int i = 0; i < N; i++) {
            double u = filler_u((uint32_t)k, (uint32_t)i);
            host[i] = (float)((u + copysign(0.3, u)) * pow(10, -(i % decades)));
        }
        CHECK_OK(backend_put_f32(be, &g, host, &err), &err);
        CHECK_OK(optimizer_step(&o, &grads, k, 1e-2, 1, &err), &err);
    }
    flat = tensor_rows(&flat, 0, N);
    CHECK_OK(backend_get_f32(be, values, &flat, &err), &err);
    optimizer_fini(&o);
    params_fini(&ps);
    backend_close(&be);
}

/* Root of the mean square of the difference; b NULL: of a's difference to values. */
static double distance(const float *values, const json_t *a, const json_t *b)
{
    double sum = 0;
    size_t n = json_array_size(a);

    assert_int_equal(n, (N + STRIDE - 1) / STRIDE);
    for (size_t i = 0; i < n; i++) {
        double other = b ? json_number_value(json_array_get(b, i)) : (double)values[i * STRIDE];
        sum += pow(json_number_value(json_array_get(a, i)) - other, 2);
    }
    return sqrt(sum / (double)n);
}

/* Ours are the paper's numbers (floats against double: a moment in the middle between two of the 256
 * values may become the other one).  Over two decades of gradients bitsandbytes lies as near; over four,
 * squares of the smallest ones are less than 8 bits hold: it stores nothing below 1.56e-5 of the largest and
 * takes steps that are too short, while ours go down to 3.25e-7 of it and never to zero. */
static void like_the_paper(void **state)
{
    static const char *const backend[] = {"ref", "cpu", "sim"};
    json_t *want = NULL;

    (void)state;
    CHECK_OK(json_read_file(&want, check_repo_path("tests/golden/adam_8bit.json"), &err), &err);
    assert_int_equal(json_array_size(want), 2);
    for (int i = 0; i < 6; i++) {
        const json_t *c = json_array_get(want, (size_t)i % 2), *paper = json_object_get(c, "paper"),
                     *exact = json_object_get(c, "adamw"), *bitsandbytes = json_object_get(c, "bitsandbytes");
        int decades = (int)json_integer_value(json_object_get(c, "decades"));
        double apart = distance(NULL, paper, exact);
        static float values[N];
        train(backend[i / 2], OPTIMIZER_ADAMW, decades, values);
        assert_true(distance(values, exact, NULL) < 1e-6);
        train(backend[i / 2], OPTIMIZER_ADAMW_8BIT, decades, values);
        print_message("# %s, %d decades, from exact moments: the paper's %.3g, bitsandbytes' %.3g; ours from the "
                      "paper's: %.3g\n",
                      backend[i / 2], decades, apart, distance(NULL, bitsandbytes, exact),
                      distance(values, paper, NULL));
        assert_true(distance(values, paper, NULL) < 0.01 * apart);
        if (decades == 2)
            assert_true(distance(values, bitsandbytes, NULL) < 0.5 * distance(NULL, bitsandbytes, exact));
        else
            assert_true(apart < 0.5 * distance(NULL, bitsandbytes, exact));
    }
    json_decref(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(like_the_paper)};

    return check_run("golden: AdamW with 8-bit moments", tests);
}
