/* Arenas: the plan's high-water mark is what the call uses, the limit holds, marks give back. */
#include <stdint.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/ops/arena.h"
#include "common/ops/ops.h"
#include "tests/check.h"

static Backend *opened(const char *name)
{
    Backend *be = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, name, 1, NULL, &err), &err);
    return be;
}

/* A call like a model's: temporaries inside temporaries, given back. */
static int some_model(Backend *be, Arena *a, float *out, Err *err)
{
    Tensor x, y, w, t;
    int64_t mark = arena_mark(a);
    int rc = arena_tensor(a, &x, DT_F32, 2, err, 3, 5);
    rc = rc < 0 ? rc : arena_tensor(a, &y, DT_F32, 2, err, 3, 7);
    rc = rc < 0 ? rc : op_fill(be, &x, 2, err);
    for (int i = 0; i < 3 && rc == 0; i++) {
        int64_t inner = arena_mark(a);
        rc = arena_tensor(a, &w, DT_F16, 2, err, 7, 5);
        rc = rc < 0 ? rc : arena_tensor(a, &t, DT_F32, 2, err, 3, 7);
        rc = rc < 0 ? rc : op_fill(be, &w, 0.5f, err);
        rc = rc < 0 ? rc : op_linear(be, &t, &x, &w, NULL, err);
        rc = rc < 0 ? rc : i ? op_add(be, &y, &y, &t, err) : op_copy(be, &y, &t, err);
        arena_reset(a, inner);
    }
    rc = rc < 0 ? rc : backend_get_f32(be, out, &y, err);
    arena_reset(a, mark);
    return rc;
}

static void the_plan_is_exact(void **state)
{
    (void)state;
    Backend *plan = opened("plan"), *cpu = opened("cpu");
    Arena *a = NULL;
    float out[21];
    Err err = {0};
    CHECK_OK(arena_new(&a, plan, 0, "test", &err), &err);
    CHECK_OK(some_model(plan, a, out, &err), &err);
    int64_t need = arena_high(a);
    assert_int_equal(need, 64 + 128 + 128 + 128); /* 60, 84, 70 and 84 bytes in pieces of 64 */
    assert_int_equal(arena_mark(a), 0);
    assert_true(out[0] == 0); /* nothing is computed */
    arena_free(&a);
    assert_null(a);

    CHECK_OK(arena_new(&a, cpu, need, "test", &err), &err);
    CHECK_OK(some_model(cpu, a, out, &err), &err);
    assert_int_equal(arena_high(a), need);
    for (int i = 0; i < 21; i++)
        assert_true(out[i] == 15);
    arena_free(&a);

    CHECK_OK(arena_new(&a, cpu, need - 1, "test", &err), &err);
    CHECK_FAILS(some_model(cpu, a, out, &err), ERR_LIMIT, "test memory: no room for a tensor F32 [3, 7]", &err);
    arena_free(&a);
    backend_close(&plan);
    backend_close(&cpu);
}

static void tensors_are_aligned_and_apart(void **state)
{
    (void)state;
    const char *const names[] = {"cpu", "plan"};
    for (int k = 0; k < 2; k++) {
        Backend *be = opened(names[k]);
        Arena *a = NULL;
        Tensor t[10];
        Err err = {0};
        CHECK_OK(arena_new(&a, be, 10 * 64, "test", &err), &err);
        for (int i = 0; i < 10; i++) {
            CHECK_OK(arena_tensor(a, &t[i], DT_U8, 1, &err, i ? 7 * i : 1), &err);
            assert_int_equal((uintptr_t)t[i].data % 64, 0);
            for (int j = 0; j < i; j++)
                assert_true(t[i].data != t[j].data);
            if (be->plan)
                continue;
            memset(t[i].data, i, (size_t)tensor_bytes(&t[i]));
        }
        for (int i = 0; !be->plan && i < 10; i++)
            for (int64_t n = 0; n < tensor_bytes(&t[i]); n++)
                assert_int_equal(((unsigned char *)t[i].data)[n], i);
        CHECK_OK(arena_tensor(a, &t[0], DT_F32, 2, &err, 3, 0), &err); /* nothing takes nothing */
        assert_int_equal(arena_mark(a), 640);
        arena_free(&a);
        backend_close(&be);
    }
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    const char *const names[] = {"cpu", "plan"};
    for (int k = 0; k < 2; k++) {
        Backend *be = opened(names[k]);
        Arena *a = NULL;
        Tensor t;
        Err err = {0};
        CHECK_OK(arena_new(&a, be, 1000, "test", &err), &err);
        CHECK_FAILS(arena_tensor(a, &t, DT_F32, 2, &err, INT64_MAX / 2, 3), ERR_LIMIT, "cannot be sized", &err);
        CHECK_FAILS(arena_tensor(a, &t, DT_F32, 1, &err, INT64_MAX / 4), ERR_LIMIT, "test memory", &err);
        CHECK_FAILS(arena_tensor(a, &t, DT_F32, 2, &err, -1, 5), ERR_LIMIT, "cannot be sized", &err);
        assert_int_equal(arena_high(a), 0);
        arena_free(&a);
        backend_close(&be);
    }
    Backend *be = opened("cpu");
    Arena *a = NULL;
    Err err = {0};
    CHECK_FAILS(arena_new(&a, be, -1, "test", &err), ERR_USAGE, "-1 bytes", &err);
    assert_null(a);
    backend_close(&be);
}

static void memory_that_cannot_be_had_is_reported(void **state)
{
    (void)state;
    Backend *be = NULL;
    Arena *a = NULL;
    Err err = {0};
    mem_fail_after(1);
    CHECK_FAILS(backend_open(&be, "cpu", 1, NULL, &err), ERR_NOMEM, "", &err);
    mem_fail_after(0);
    be = opened("cpu");
    for (int n = 1; n <= 2; n++) {
        Tensor t;
        mem_fail_after(n);
        int rc = arena_new(&a, be, 256, "test", &err);
        rc = rc < 0 ? rc : arena_tensor(a, &t, DT_F32, 1, &err, 3); /* in split builds the second allocation is here */
        mem_fail_after(0);
        assert_int_equal(rc, ERR_NOMEM);
        err_clear(&err);
        arena_free(&a);
    }
    backend_close(&be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_is_exact),
        cmocka_unit_test(tensors_are_aligned_and_apart),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(memory_that_cannot_be_had_is_reported),
    };
    return check_run_live("arenas", tests);
}
