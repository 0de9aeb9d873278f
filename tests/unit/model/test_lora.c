/* LoRA adapters: which layers get them, what is computed for them and what is not.  Their numbers are
 * held against torch and peft by tests/golden/test_lora.c. */
#include <math.h>

#include "common/ops/ops_table.h"
#include "tests/unit/model/lora_case.h"

static const Recompute policies[] = {RECOMPUTE_NONE, RECOMPUTE_BLOCK, RECOMPUTE_BLOCK_ATTENTION};

static float *backward(Case *k, Recompute policy)
{
    DitTape *tape = NULL;
    int64_t mark = arena_mark(k->work);
    Tensor g = params_flat_grads(dit_trainable(k->dit));

    CHECK_OK(op_fill(k->be, &g, 0, &k->err), &k->err);
    CHECK_OK(dit_forward_train(k->dit, k->work, &tape, policy, &k->v, &k->latents, &k->text, (int64_t[]){500}, &k->err),
             &k->err);
    CHECK_OK(dit_backward(k->dit, k->work, &tape, &k->grad_v, NULL, NULL, &k->err), &k->err);
    arena_reset(k->work, mark);
    return host_of(k, &g);
}

/* ---- layers ---------------------------------------------------------------------------------- */

static void targets(void **state)
{
    static const struct {
        const char *target, *says;
    } bad[] = {{"to_x", "'to_x' ends no name"},
               {"o_q", "'o_q' ends no name"}, /* part of a name */
               {"norm_q", "'norm_q' ends no name"},
               {"proj", "a convolution"}};
    Case k;

    (void)state;
    case_open(&k, "cpu");
    add(&k, attention, 4, 3);
    assert_int_equal(dit_trainable(k.dit)->n, 2 * 4 * 2);
    assert_int_equal(params_count(dit_trainable(k.dit)), 2 * 4 * (3 * 32 + 3 * 32));
    assert_null(params_flat_grads(dit_params(k.dit)).data);
    assert_non_null(params_find(dit_trainable(k.dit), "transformer_blocks.1.attn1.to_out.0.lora_A.weight"));
    case_close(&k);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        DitLora l = {.rank = 2, .alpha = 2, .target = &bad[i].target, .targets = 1};
        case_open(&k, "cpu");
        CHECK_FAILS(dit_add_lora(k.dit, &l, DIT_TRAIN, &k.err), ERR_USAGE, bad[i].says, &k.err);
        case_close(&k);
    }
}

/* B = 0: the model is the base model. */
static void fresh_is_identity(void **state)
{
    Case k;
    float *before, *after;
    DitLora l = {.rank = 4, .alpha = 8, .target = every, .targets = 11, .seed = 1};

    (void)state;
    case_open(&k, "cpu");
    before = forward(&k);
    CHECK_OK(dit_add_lora(k.dit, &l, DIT_TRAIN, &k.err), &k.err);
    after = forward(&k);
    for (int i = 0; i < VALUES; i++)
        assert_true(before[i] == after[i]);
    mem_free(before);
    mem_free(after);
    case_close(&k);
}

/* ---- gradients ------------------------------------------------------------------------------- */

static void policies_same_bits(void **state)
{
    static const char *const backends[] = {"ref", "cpu", "sim"};

    (void)state;
    for (int b = 0; b < 3; b++) {
        Case k;
        float *first;
        int64_t n;
        case_open(&k, backends[b]);
        add(&k, every, 11, 3);
        n = dit_trainable(k.dit)->flat;
        first = backward(&k, RECOMPUTE_NONE);
        for (int p = 1; p < 3; p++) {
            float *other = backward(&k, policies[p]);
            assert_memory_equal(first, other, (size_t)n * sizeof *first);
            mem_free(other);
        }
        mem_free(first);
        case_close(&k);
    }
}

/* The back end's table with counters in front of three entries. */
static int weight_gradients, input_gradients, attentions;
static const OpsTable *real;

static int count_w(Backend *be, const Tensor *gw, const Tensor *gb, const Tensor *gy, const Tensor *x, Err *err)
{
    weight_gradients++;
    return real->linear_backward_w(be, gw, gb, gy, x, err);
}

static int count_x(Backend *be, const Tensor *gx, const Tensor *gy, const Tensor *w, int sum, Err *err)
{
    input_gradients++;
    return real->linear_backward_x(be, gx, gy, w, sum, err);
}

static int count_attention(Backend *be, const Tensor *gq, const Tensor *gk, const Tensor *gv, const Tensor *go,
                           const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *o, const Tensor *lse,
                           const AttnParams *p, Err *err)
{
    attentions++;
    return real->attention_backward(be, gq, gk, gv, go, q, k, v, o, lse, p, err);
}

/* Fresh adapters (B = 0, so the model's output does not depend on which there are), one backward pass,
 * counted.  Returns the gradients of A and B at block 1's to_q. */
static float *counted_backward(const char *const *target, int64_t n, int *products_w, int *products_x, int *attention_n)
{
    DitLora l = {.rank = 3, .alpha = 6, .target = target, .targets = n, .seed = 4};
    OpsTable counted;
    const Param *p;
    float *a, *b, *both;
    Case k;

    case_open(&k, "cpu");
    CHECK_OK(dit_add_lora(k.dit, &l, DIT_TRAIN, &k.err), &k.err);
    real = k.be->ops;
    counted = *real;
    counted.linear_backward_w = count_w;
    counted.linear_backward_x = count_x;
    counted.attention_backward = count_attention;
    k.be->ops = &counted;
    weight_gradients = input_gradients = attentions = 0;
    mem_free(backward(&k, RECOMPUTE_NONE));
    k.be->ops = real;
    *products_w = weight_gradients, *products_x = input_gradients, *attention_n = attentions;
    p = params_find(dit_trainable(k.dit), "transformer_blocks.1.attn1.to_q.lora_A.weight");
    a = host_of(&k, &p[0].grad);
    b = host_of(&k, &p[1].grad);
    both = mem_calloc(192, sizeof *both, &k.err);
    memcpy(both, a, 96 * sizeof *a);
    memcpy(both + 96, b, 96 * sizeof *b);
    mem_free(a);
    mem_free(b);
    case_close(&k);
    return both;
}

/* Nothing is computed for frozen weights, nor below the lowest adapter; what is left has the bits that it
 * has when all is computed. */
static void only_what_is_needed(void **state)
{
    static const char *const last[] = {"transformer_blocks.1.attn1.to_q"};
    int w, x, n, moved = 0;
    float *all = counted_backward(attention, 4, &w, &x, &n), *few;

    (void)state;
    assert_int_equal(w, 2 * 8); /* A and B of eight layers */
    assert_int_equal(n, 2);
    few = counted_backward(last, 1, &w, &x, &n);
    assert_int_equal(w, 2);
    assert_int_equal(n, 1);
    /* forward: B (A x) is added; backward: proj_out, ff.net.2, ff.net.0.proj and to_out.0 of block 1 */
    assert_int_equal(x, 1 + 4);
    assert_memory_equal(all, few, 192 * sizeof *all);
    for (int i = 96; i < 192; i++)
        moved += all[i] != 0;
    assert_true(moved > 90);
    mem_free(all);
    mem_free(few);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets),
        cmocka_unit_test(fresh_is_identity),
        cmocka_unit_test(policies_same_bits),
        cmocka_unit_test(only_what_is_needed),
    };
    return check_run_live("lora", tests);
}
