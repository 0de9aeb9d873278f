/* Ops whose n-th allocation fails, for n = 1, 2, 3, ...: ERR_NOMEM, nothing leaked, and the next
 * call works. */
#include "common/base/mem.h"
#include "common/ops/ops.h"
#include "tests/check.h"

enum { B = 1, S = 40, HEADS = 2, D = 8, N = B * S * D };

static float x[8][N], mod[B * 6 * D], grad_mod[B * 6 * D], lse[B * HEADS * S], w[D * D];

static int all_that_allocate(Backend *be, Err *err)
{
    Tensor t[8], tm = tensor_of(mod, DT_F32, 2, B, 6 * D), tg = tensor_of(grad_mod, DT_F32, 2, B, 6 * D),
                 tl = tensor_of(lse, DT_F32, 3, B, HEADS, S), tw = tensor_of(w, DT_F32, 2, D, D),
                 tv = tensor_of(w, DT_F32, 1, D);
    for (int i = 0; i < 8; i++)
        t[i] = tensor_of(x[i], DT_F32, 3, B, S, D);
    const AttnParams p = {HEADS, 0.5, NULL, 0};
    const Modulation m = {&tm, 3};
    Tensor frames = tensor_of(x[0], DT_F32, 4, 1, S, 1, D), kernel = tensor_of(w, DT_F32, 5, D, 1, 3, 1, 2),
           in = tensor_of(x[1], DT_F32, 4, 1, S, 4, 2), out = tensor_of(x[2], DT_F32, 4, 1, S / 2, 2, D);
    const ConvParams down = {2, 1, 0, 0, 0, 0};
    double loss;
    int rc = op_attention(be, &t[7], &tl, &t[0], &t[1], &t[2], &p, err);
    rc = rc < 0 ? rc : op_attention_backward(be, &t[3], &t[4], &t[5], &t[6], &t[0], &t[1], &t[2], &t[7], &tl, &p, err);
    rc = rc < 0 ? rc : op_layernorm(be, &t[3], &t[0], &tv, &tv, 1e-5, &m, err);
    rc = rc < 0 ? rc : op_layernorm_backward(be, &t[3], NULL, NULL, &tg, &t[1], &t[0], &tv, &tv, 1e-5, &m, 0, err);
    rc = rc < 0 ? rc : op_gate_add_backward(be, &t[3], &tg, &t[0], &t[1], &m, err);
    rc = rc < 0 ? rc : op_linear(be, &t[3], &t[0], &tw, &tv, err);
    rc = rc < 0 ? rc : op_groupnorm(be, &frames, &frames, &tv, &tv, 2, 1e-6, NULL, ACT_SILU, err);
    rc = rc < 0 ? rc : op_conv(be, &out, &in, NULL, &kernel, &tv, &down, err);
    return rc < 0 ? rc : op_mse(be, &loss, NULL, &t[0], &t[1], 1, err);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *const names[] = {"ref", "cpu"};
    for (int k = 0; k < 2; k++) {
        int failed = 1, n = 0;
        while (failed) { /* a fresh back end each time: cpu keeps its scratch */
            Backend *be = NULL;
            Err err = {0};
            CHECK_OK(backend_open(&be, names[k], 1, NULL, &err), &err);
            mem_fail_after(++n);
            int rc = all_that_allocate(be, &err);
            failed = mem_failed();
            mem_fail_after(0);
            assert_int_equal(rc, failed ? ERR_NOMEM : 0);
            err_clear(&err);
            CHECK_OK(all_that_allocate(be, &err), &err);
            backend_close(&be);
        }
        assert_true(n > 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_may_fail)};
    return check_run("ops: out of memory", tests);
}
