/* Every backward op against central differences of its forward op, on ref in double; and a small
 * transformer block made of ops. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/ops/harness.h"

/* The differences are good to about 1e-11 of the values' size, less where a norm's variance is
 * small. */
static const double near_enough = 1e-8;

enum { MOST = 4096 }; /* elements an operand may have here */

typedef struct Room {
    double value[CASE_ARGS][MOST], grad[CASE_ARGS][MOST], weigh[CASE_ARGS][MOST];
} Room;
static Room room;

/* Draws inputs and the weights r of the outputs in `out`; room.grad receives dL/d(operand) for the
 * operands in `wanted`. */
static void differences(const Case *c, unsigned out, unsigned wanted)
{
    double *value[CASE_ARGS], *grad[CASE_ARGS], *weigh[CASE_ARGS];
    for (int k = 0; k < c->n; k++) {
        assert_true(c->arg[k].count <= MOST);
        ops_draw(room.value[k], c->arg[k].count, c->arg[k].low, c->arg[k].high, (uint64_t)(100 + k));
        ops_draw(room.weigh[k], c->arg[k].count, -1, 1, (uint64_t)(200 + k));
        value[k] = room.value[k];
        weigh[k] = room.weigh[k];
        grad[k] = wanted >> k & 1 ? room.grad[k] : NULL;
    }
    ops_differences(c, value, out, weigh, grad);
}

static Tensor view(const Case *c, int k, double *data)
{
    return tensor_view(data, DT_F64, c->arg[k].rank, c->arg[k].dim);
}

static void check_same(const char *what, const double *got, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        check_value(what, got[i], want[i], near_enough, near_enough);
}

/* ---- activations ----------------------------------------------------------------------------- */

static int call_act(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_act(be, &t[0], &t[1], *(const ActKind *)c->param, err);
}

static void of_activations(void **state)
{
    (void)state;
    static const ActKind kinds[] = {ACT_NONE, ACT_SILU, ACT_GELU_TANH, ACT_GELU_ERF, ACT_QUICK_GELU, ACT_RELU};
    for (int i = 0; i < 6; i++) {
        double gx[50];
        Case c = {.name = "act", .call = call_act, .param = &kinds[i]};
        CASE_ADD(&c, "y", OUT, DT_F32, 1, 50);
        case_range(&c, CASE_ADD(&c, "x", IN, DT_F32, 1, 50), -5, 5);
        differences(&c, 1, 2);
        Err err = {0};
        Tensor tx = view(&c, 1, room.value[1]), tg = view(&c, 1, gx), ty = view(&c, 0, room.weigh[0]);
        CHECK_OK(op_act_backward(ops_double(), &tg, &ty, &tx, kinds[i], &err), &err);
        check_same("gx", gx, room.grad[1], 50);
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

static int call_linear(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    return op_linear(be, &t[0], &t[1], &t[2], &t[3], err);
}

static void of_linear(void **state)
{
    (void)state;
    enum { ROWS = 3, N = 4, K = 5 };
    double gx[ROWS * K], gw[N * K] = {0}, gb[N] = {0};
    Case c = {.name = "linear", .call = call_linear};
    CASE_ADD(&c, "y", OUT, DT_F32, 2, ROWS, N);
    CASE_ADD(&c, "x", IN, DT_F32, 2, ROWS, K);
    CASE_ADD(&c, "w", IN, DT_F32, 2, N, K);
    CASE_ADD(&c, "b", IN, DT_F32, 1, N);
    differences(&c, 1, 2 | 4 | 8);
    Err err = {0};
    Tensor tx = view(&c, 1, room.value[1]), tw = view(&c, 2, room.value[2]), gy = view(&c, 0, room.weigh[0]),
           tgx = view(&c, 1, gx), tgw = view(&c, 2, gw), tgb = view(&c, 3, gb);
    CHECK_OK(op_linear_backward_x(ops_double(), &tgx, &gy, &tw, 0, &err), &err);
    CHECK_OK(op_linear_backward_w(ops_double(), &tgw, &tgb, &gy, &tx, &err), &err);
    check_same("gx", gx, room.grad[1], ROWS * K);
    check_same("gw", gw, room.grad[2], N * K);
    check_same("gb", gb, room.grad[3], N);
    CHECK_OK(op_linear_backward_x(ops_double(), &tgx, &gy, &tw, 1, &err), &err); /* and once more, added */
    CHECK_OK(op_linear_backward_w(ops_double(), &tgw, &tgb, &gy, &tx, &err), &err);
    check_value("gx added", gx[7], 2 * room.grad[1][7], near_enough, near_enough);
    check_value("gw added", gw[7], 2 * room.grad[2][7], near_enough, near_enough);
    check_value("gb added", gb[2], 2 * room.grad[3][2], near_enough, near_enough);
}

/* ---- attention ------------------------------------------------------------------------------- */

static int call_attention(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    return op_attention(be, &t[0], &t[4], &t[1], &t[2], &t[3], c->param, err);
}

static void of_attention(void **state)
{
    (void)state;
    enum { B = 2, SQ = 4, SK = 5, HEADS = 2, D = 6 };
    const AttnParams p = {HEADS, 0.6, NULL, 0};
    double gq[B * SQ * D], gk[B * SK * D], gv[B * SK * D];
    Case c = {.name = "attention", .call = call_attention, .param = &p};
    CASE_ADD(&c, "o", OUT, DT_F32, 3, B, SQ, D);
    CASE_ADD(&c, "q", IN, DT_F32, 3, B, SQ, D);
    CASE_ADD(&c, "k", IN, DT_F32, 3, B, SK, D);
    CASE_ADD(&c, "v", IN, DT_F32, 3, B, SK, D);
    CASE_ADD(&c, "lse", OUT, DT_F32, 3, B, HEADS, SQ);
    for (int k = 1; k <= 3; k++)
        case_range(&c, k, -2, 2);
    differences(&c, 1, 2 | 4 | 8);
    Err err = {0};
    Tensor t[5], go = view(&c, 0, room.weigh[0]), tgq = view(&c, 1, gq), tgk = view(&c, 2, gk), tgv = view(&c, 3, gv);
    for (int k = 0; k < 5; k++)
        t[k] = view(&c, k, room.value[k]);
    CHECK_OK(call_attention(ops_double(), t, &c, &err), &err);
    CHECK_OK(op_attention_backward(ops_double(), &tgq, &tgk, &tgv, &go, &t[1], &t[2], &t[3], &t[0], &t[4], &p, &err),
             &err);
    check_same("gq", gq, room.grad[1], B * SQ * D);
    check_same("gk", gk, room.grad[2], B * SK * D);
    check_same("gv", gv, room.grad[3], B * SK * D);
}

/* ---- norms ----------------------------------------------------------------------------------- */

typedef struct Norm {
    int weights, chunks;
    int64_t text;
} Norm;

static int call_layernorm(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Norm *n = c->param;
    const Modulation m = {&t[2 + 2 * n->weights], n->text};
    return op_layernorm(be, &t[0], &t[1], n->weights ? &t[2] : NULL, n->weights ? &t[3] : NULL, 1e-3,
                        n->chunks ? &m : NULL, err);
}

static void of_layernorm(void **state)
{
    (void)state;
    enum { B = 2, S = 5, D = 7 };
    static const Norm norms[] = {{0, 0, 0}, {1, 0, 0}, {1, 6, 2}, {1, 2, 0}, {0, 6, 3}};
    for (int i = 0; i < 5; i++) {
        const Norm *n = &norms[i];
        double gx[B * S * D], gw[D] = {0}, gb[D] = {0}, gm[B * 6 * D] = {0};
        Case c = {.name = "layernorm", .call = call_layernorm, .param = n};
        CASE_ADD(&c, "y", OUT, DT_F32, 3, B, S, D);
        CASE_ADD(&c, "x", IN, DT_F32, 3, B, S, D);
        for (int k = 0; k < 2 * n->weights; k++)
            CASE_ADD(&c, k ? "b" : "w", IN, DT_F32, 1, D);
        if (n->chunks)
            CASE_ADD(&c, "mod", IN, DT_F32, 2, B, n->chunks * D);
        differences(&c, 1, ~1u);
        Tensor t[CASE_ARGS], gy = view(&c, 0, room.weigh[0]), tgx = view(&c, 1, gx), tgw = tensor_of(gw, DT_F64, 1, D),
                             tgb = tensor_of(gb, DT_F64, 1, D), tgm = tensor_of(gm, DT_F64, 2, B, n->chunks * D);
        for (int k = 0; k < c.n; k++)
            t[k] = view(&c, k, room.value[k]);
        int mod = 2 + 2 * n->weights;
        const Modulation m = {&t[mod], n->text};
        Err err = {0};
        CHECK_OK(op_layernorm_backward(ops_double(), &tgx, n->weights ? &tgw : NULL, n->weights ? &tgb : NULL,
                                       n->chunks ? &tgm : NULL, &gy, &t[1], n->weights ? &t[2] : NULL,
                                       n->weights ? &t[3] : NULL, 1e-3, n->chunks ? &m : NULL, 0, &err),
                 &err);
        check_same("gx", gx, room.grad[1], B * S * D);
        if (n->weights) {
            check_same("gw", gw, room.grad[2], D);
            check_same("gb", gb, room.grad[3], D);
        }
        if (n->chunks)
            check_same("gm", gm, room.grad[mod], B * n->chunks * D);
    }
}

static int call_gate_add(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Modulation m = {&t[2], *(const int64_t *)c->param};
    return op_gate_add(be, &t[0], &t[1], &m, err);
}

static void of_gates(void **state)
{
    (void)state;
    enum { B = 2, S = 5, D = 3 };
    const int64_t text = 2;
    double gy[B * S * D], gm[B * 6 * D] = {0};
    Case c = {.name = "gate_add", .call = call_gate_add, .param = &text};
    CASE_ADD(&c, "x", INOUT, DT_F32, 3, B, S, D);
    CASE_ADD(&c, "y", IN, DT_F32, 3, B, S, D);
    CASE_ADD(&c, "mod", IN, DT_F32, 2, B, 6 * D);
    differences(&c, 1, 1 | 2 | 4);
    Tensor gx = view(&c, 0, room.weigh[0]), y = view(&c, 1, room.value[1]), mod = view(&c, 2, room.value[2]),
           tgy = view(&c, 1, gy), tgm = view(&c, 2, gm);
    const Modulation m = {&mod, text};
    Err err = {0};
    CHECK_OK(op_gate_add_backward(ops_double(), &tgy, &tgm, &gx, &y, &m, &err), &err);
    check_same("gx", room.weigh[0], room.grad[0], B * S * D);
    check_same("gy", gy, room.grad[1], B * S * D);
    check_same("gm", gm, room.grad[2], B * 6 * D);
}

/* ---- loss ------------------------------------------------------------------------------------ */

static int call_mse(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    return op_mse(be, t[0].data, NULL, &t[1], &t[2], 1, err);
}

static void of_mse(void **state)
{
    (void)state;
    double gu[30], loss;
    Case c = {.name = "mse", .call = call_mse};
    CASE_ADD(&c, "loss", OUT, DT_F32, 1, 1);
    CASE_ADD(&c, "u", IN, DT_F32, 2, 5, 6);
    CASE_ADD(&c, "v", IN, DT_F32, 2, 5, 6);
    differences(&c, 1, 2);
    Tensor u = view(&c, 1, room.value[1]), v = view(&c, 2, room.value[2]), tgu = view(&c, 1, gu);
    Err err = {0};
    CHECK_OK(op_mse(ops_double(), &loss, &tgu, &u, &v, room.weigh[0][0], &err), &err); /* weight: L = r loss */
    check_same("gu", gu, room.grad[1], 30);
}

/* ---- a block: x + gate attn(LN q, LN k, v) then + gate ff, as MODEL.md 3 --------------- */

enum { B = 2, S = 5, TEXT = 2, HEADS = 2, HD = 3, D = HEADS * HD, FF = 8 };
enum { X, MOD1, MOD2, LN1W, LN1B, QW, QB, KW, KB, VW, PARTS }; /* X is input and output; the parameters are drawn */
enum { A_IN, A_Q, A_K, A_V, A_QN, A_KN, A_O, A_OUT, A_X1, A_N2, A_H, A_G, A_F, ACTS }; /* activations */

static const int64_t act_width[ACTS] = {D, D, D, D, D, D, D, D, D, D, FF, FF, D};
static double act_data[ACTS][B * S * FF], grad_data[ACTS][B * S * FF], lse_data[B * HEADS * S];
static double ff_in[FF * D], ff_out[D * FF];

typedef struct Block {
    Tensor a[ACTS], g[ACTS], lse, w1, w2;
} Block;

static Block block_views(void)
{
    Block k;
    for (int i = 0; i < ACTS; i++) {
        k.a[i] = tensor_of(act_data[i], DT_F64, 3, B, S, act_width[i]);
        k.g[i] = tensor_of(grad_data[i], DT_F64, 3, B, S, act_width[i]);
    }
    k.lse = tensor_of(lse_data, DT_F64, 3, B, HEADS, S);
    k.w1 = tensor_of(ff_in, DT_F64, 2, FF, D);
    k.w2 = tensor_of(ff_out, DT_F64, 2, D, FF);
    return k;
}

static Tensor by_head(const Tensor *t)
{
    return tensor_as(t, 2, B * S * HEADS, HD);
}

static const AttnParams block_attention = {HEADS, 0.57735026918962576, NULL, 0};

static int call_block(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    (void)c;
    Block k = block_views();
    Tensor *a = k.a, q = by_head(&a[A_Q]), qn = by_head(&a[A_QN]), kk = by_head(&a[A_K]), kn = by_head(&a[A_KN]);
    const Modulation m1 = {&t[MOD1], TEXT}, m2 = {&t[MOD2], TEXT};
    int rc = op_layernorm(be, &a[A_IN], &t[X], &t[LN1W], &t[LN1B], 1e-3, &m1, err);
    rc = rc < 0 ? rc : op_linear(be, &a[A_Q], &a[A_IN], &t[QW], &t[QB], err);
    rc = rc < 0 ? rc : op_linear(be, &a[A_K], &a[A_IN], &t[KW], &t[KB], err);
    rc = rc < 0 ? rc : op_linear(be, &a[A_V], &a[A_IN], &t[VW], NULL, err);
    rc = rc < 0 ? rc : op_layernorm(be, &qn, &q, NULL, NULL, 1e-3, NULL, err);
    rc = rc < 0 ? rc : op_layernorm(be, &kn, &kk, NULL, NULL, 1e-3, NULL, err);
    rc = rc < 0 ? rc : op_attention(be, &a[A_O], &k.lse, &a[A_QN], &a[A_KN], &a[A_V], &block_attention, err);
    rc = rc < 0 ? rc : op_copy(be, &a[A_X1], &t[X], err);
    rc = rc < 0 ? rc : op_gate_add(be, &a[A_X1], &a[A_O], &m1, err);
    rc = rc < 0 ? rc : op_layernorm(be, &a[A_N2], &a[A_X1], NULL, NULL, 1e-3, &m2, err);
    rc = rc < 0 ? rc : op_linear(be, &a[A_H], &a[A_N2], &k.w1, NULL, err);
    rc = rc < 0 ? rc : op_act(be, &a[A_G], &a[A_H], ACT_GELU_TANH, err);
    rc = rc < 0 ? rc : op_linear(be, &a[A_F], &a[A_G], &k.w2, NULL, err);
    rc = rc < 0 ? rc : op_copy(be, &t[X], &a[A_X1], err);
    return rc < 0 ? rc : op_gate_add(be, &t[X], &a[A_F], &m2, err);
}

/* Gradients in reverse.  t: inputs (X the block's input), g: gradients of the operands; g[X] comes
 * in as that of the output. */
static void block_backward(const Tensor *t, const Tensor *g)
{
    Backend *be = ops_double();
    Err err = {0};
    Block k = block_views();
    Tensor *a = k.a, *ga = k.g, q = by_head(&a[A_Q]), kk = by_head(&a[A_K]), gq = by_head(&ga[A_Q]),
           gk = by_head(&ga[A_K]), gqn = by_head(&ga[A_QN]), gkn = by_head(&ga[A_KN]);
    const Modulation m1 = {&t[MOD1], TEXT}, m2 = {&t[MOD2], TEXT};
    CHECK_OK(op_gate_add_backward(be, &ga[A_F], &g[MOD2], &g[X], &a[A_F], &m2, &err), &err);
    CHECK_OK(op_linear_backward_x(be, &ga[A_G], &ga[A_F], &k.w2, 0, &err), &err);
    CHECK_OK(op_act_backward(be, &ga[A_H], &ga[A_G], &a[A_H], ACT_GELU_TANH, &err), &err);
    CHECK_OK(op_linear_backward_x(be, &ga[A_N2], &ga[A_H], &k.w1, 0, &err), &err);
    CHECK_OK(
        op_layernorm_backward(be, &g[X], NULL, NULL, &g[MOD2], &ga[A_N2], &a[A_X1], NULL, NULL, 1e-3, &m2, 1, &err),
        &err);
    CHECK_OK(op_gate_add_backward(be, &ga[A_O], &g[MOD1], &g[X], &a[A_O], &m1, &err), &err);
    CHECK_OK(op_attention_backward(be, &ga[A_QN], &ga[A_KN], &ga[A_V], &ga[A_O], &a[A_QN], &a[A_KN], &a[A_V], &a[A_O],
                                   &k.lse, &block_attention, &err),
             &err);
    CHECK_OK(op_layernorm_backward(be, &gq, NULL, NULL, NULL, &gqn, &q, NULL, NULL, 1e-3, NULL, 0, &err), &err);
    CHECK_OK(op_layernorm_backward(be, &gk, NULL, NULL, NULL, &gkn, &kk, NULL, NULL, 1e-3, NULL, 0, &err), &err);
    CHECK_OK(op_linear_backward_w(be, &g[QW], &g[QB], &ga[A_Q], &a[A_IN], &err), &err);
    CHECK_OK(op_linear_backward_w(be, &g[KW], &g[KB], &ga[A_K], &a[A_IN], &err), &err);
    CHECK_OK(op_linear_backward_w(be, &g[VW], NULL, &ga[A_V], &a[A_IN], &err), &err);
    CHECK_OK(op_linear_backward_x(be, &ga[A_IN], &ga[A_Q], &t[QW], 0, &err), &err);
    CHECK_OK(op_linear_backward_x(be, &ga[A_IN], &ga[A_K], &t[KW], 1, &err), &err);
    CHECK_OK(op_linear_backward_x(be, &ga[A_IN], &ga[A_V], &t[VW], 1, &err), &err);
    CHECK_OK(op_layernorm_backward(be, &g[X], &g[LN1W], &g[LN1B], &g[MOD1], &ga[A_IN], &t[X], &t[LN1W], &t[LN1B], 1e-3,
                                   &m1, 1, &err),
             &err);
}

static void of_a_whole_block(void **state)
{
    (void)state;
    static double grad[PARTS][MOST], after[B * S * D];
    Case c = {.name = "block", .call = call_block};
    CASE_ADD(&c, "x", INOUT, DT_F32, 3, B, S, D);
    CASE_ADD(&c, "mod1", IN, DT_F32, 2, B, 6 * D);
    CASE_ADD(&c, "mod2", IN, DT_F32, 2, B, 6 * D);
    CASE_ADD(&c, "ln1.w", IN, DT_F32, 1, D);
    CASE_ADD(&c, "ln1.b", IN, DT_F32, 1, D);
    CASE_ADD(&c, "q.w", IN, DT_F32, 2, D, D);
    CASE_ADD(&c, "q.b", IN, DT_F32, 1, D);
    CASE_ADD(&c, "k.w", IN, DT_F32, 2, D, D);
    CASE_ADD(&c, "k.b", IN, DT_F32, 1, D);
    CASE_ADD(&c, "v.w", IN, DT_F32, 2, D, D);
    ops_draw(ff_in, FF * D, -1, 1, 301);
    ops_draw(ff_out, D * FF, -1, 1, 302);
    differences(&c, 1, (1u << PARTS) - 1);

    Tensor t[PARTS], g[PARTS];
    for (int k = 0; k < PARTS; k++) {
        t[k] = view(&c, k, room.value[k]);
        g[k] = view(&c, k, grad[k]);
    }
    memcpy(after, room.value[X], sizeof after);
    Tensor kept = t[X];
    Err err = {0};
    t[X].data = after; /* forward once more at the point itself, for the activations */
    CHECK_OK(call_block(ops_double(), t, &c, &err), &err);
    t[X] = kept;
    memcpy(grad[X], room.weigh[X], sizeof after);
    block_backward(t, g);
    for (int k = 0; k < PARTS; k++)
        check_same(c.arg[k].name, grad[k], room.grad[k], c.arg[k].count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_activations),   cmocka_unit_test(of_linear), cmocka_unit_test(of_attention),
        cmocka_unit_test(of_layernorm),     cmocka_unit_test(of_gates),  cmocka_unit_test(of_mse),
        cmocka_unit_test(of_a_whole_block),
    };
    return check_run("ops: gradients", tests);
}
