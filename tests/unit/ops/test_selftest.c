/* The back end's test of itself: passes on sim and cpu, and sees an operation that is wrong, one
 * that fails, one that gives no number. */
#include <math.h>

#include "common/ops/ops_table.h"
#include "common/ops/selftest.h"
#include "tests/check.h"

static int wrong_add(Backend *be, const Tensor *y, const Tensor *a, const Tensor *b, Err *err)
{
    const Tensor *x[] = {a, b};
    return op_lincomb(be, y, 2, (const double[]){1, 1.05}, x, err);
}

static int no_number(Backend *be, const Tensor *y, const Tensor *x, ActKind kind, Err *err)
{
    (void)x, (void)kind;
    return op_fill(be, y, NAN, err);
}

static int fails(Backend *be, const Tensor *y, const Tensor *x, int double_time, Err *err)
{
    (void)be, (void)y, (void)x, (void)double_time;
    return err_set(err, ERR_DEVICE, "made to fail");
}

static int failures(Backend *be, int *failed, Err *err)
{
    FILE *out = fopen("/dev/null", "w");
    assert_non_null(out);
    int rc = selftest_run(be, out, failed, err);
    fclose(out);
    return rc;
}

static void sound(const char *name)
{
    Backend *be;
    Err err = {0};
    int failed = -1;

    CHECK_OK(backend_open(&be, name, 1, NULL, &err), &err);
    CHECK_OK(failures(be, &failed, &err), &err);
    assert_int_equal(failed, 0);
    backend_close(&be);
}

/* Under the thread sanitizer a simulated block takes a fifth of a second: tests/ops/test_sim.c is
 * what looks for races there. */
#ifdef __SANITIZE_THREAD__
#define DEVICE "cpu"
#else
#define DEVICE "sim"
#endif

static void test_device(void **state)
{
    (void)state;
    sound(DEVICE);
}

static void test_cpu(void **state)
{
    (void)state;
    sound("cpu");
}

static void test_faults(void **state)
{
    Backend *be;
    Err err = {0};
    OpsTable broken;
    int failed = -1;

    (void)state;
    CHECK_OK(backend_open(&be, DEVICE, 1, NULL, &err), &err);
    broken = *be->ops;
    be->ops = &broken;
    broken.add = wrong_add;
    broken.act = no_number;
    CHECK_OK(failures(be, &failed, &err), &err);
    assert_int_equal(failed, 2);
    broken.upsample = fails;
    CHECK_FAILS(failures(be, &failed, &err), ERR_DEVICE, "upsampling", &err);
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_device), cmocka_unit_test(test_cpu),
                                       cmocka_unit_test(test_faults)};
    return check_run_live("selftest", tests);
}
