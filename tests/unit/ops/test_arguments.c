/* What the front end refuses: the sentence names the op, the rule and the shapes. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/ops/ops.h"
#include "tests/check.h"

static Backend *be;
static float data[8][4096];
static Err err;

static Tensor make(int which, DType type, int rank, const int64_t *dim)
{
    return tensor_view(data[which], type, rank, dim);
}
#define T(which, type, rank, ...) make((which), (type), (rank), (const int64_t[]){__VA_ARGS__})
#define F(which, rank, ...) make((which), DT_F32, (rank), (const int64_t[]){__VA_ARGS__})
#define REFUSED(call, part) CHECK_FAILS((call), ERR_USAGE, (part), &err)

static void the_sentence_names_op_and_shapes(void **state)
{
    (void)state;
    Tensor y = F(0, 2, 2, 4), x = F(1, 2, 2, 3), w = F(2, 2, 4, 5);
    REFUSED(op_linear(be, &y, &x, &w, NULL, &err), "op_linear: ");
    REFUSED(op_linear(be, &y, &x, &w, NULL, &err), "y F32 [2, 4], x F32 [2, 3], w F32 [4, 5]");
    REFUSED(op_linear(be, &y, NULL, &w, NULL, &err), "x missing");
    Tensor none = y, empty = F(1, 2, 0, 3), odd = x;
    none.data = NULL;
    odd.data = (char *)data[1] + 1;
    REFUSED(op_act(be, &none, &y, ACT_SILU, &err), "no memory");
    REFUSED(op_act(be, &empty, &empty, ACT_SILU, &err), "at least 1");
    REFUSED(op_act(be, &odd, &odd, ACT_SILU, &err), "not aligned");
}

static void types(void **state)
{
    (void)state;
    Tensor y = F(0, 1, 8), h = T(1, DT_F16, 1, 8), d = T(2, DT_F64, 1, 8), i = T(3, DT_I32, 1, 8), f = F(4, 1, 8),
           g = F(5, 1, 8);
    REFUSED(op_add(be, &y, &h, &f, &err), "activations' type");
    REFUSED(op_add(be, &y, &d, &f, &err), "activations' type");
    REFUSED(op_fill(be, &i, 1, &err), "float");
    REFUSED(op_copy(be, &y, &i, &err), "only float");
    Tensor short_y = F(0, 1, 7);
    REFUSED(op_copy(be, &short_y, &f, &err), "counts must be equal");
    CHECK_OK(op_copy(be, &h, &f, &err), &err);
    Tensor x2 = F(0, 2, 2, 4), y2 = F(1, 2, 2, 4), wd = T(2, DT_F64, 2, 4, 4), w = F(2, 2, 4, 4),
           gh = T(3, DT_F16, 2, 4, 4);
    REFUSED(op_linear(be, &y2, &x2, &wd, NULL, &err), "weights must be");
    REFUSED(op_linear_backward_w(be, &gh, NULL, &y2, &x2, &err), "must be F32");
    CHECK_OK(op_linear(be, &y2, &x2, &w, NULL, &err), &err);
    REFUSED(op_sum_squares(be, &(double){0}, &h, &err), "must be F32");
    REFUSED(op_adamw(be, &h, NULL, &f, &y, &g, &(AdamParams){.step = 1}, &err), "must be F32");
    Tensor table = F(2, 2, 4, 4), ids = F(3, 1, 2);
    REFUSED(op_embed(be, &x2, &table, &ids, &err), "ids must be I32");
}

static void overlap(void **state)
{
    (void)state;
    Tensor x = F(0, 2, 4, 4), w = F(1, 2, 4, 4), shifted = x, gx = x;
    shifted.data = data[0] + 1;
    REFUSED(op_linear(be, &x, &x, &w, NULL, &err), "overlaps");
    REFUSED(op_act(be, &shifted, &x, ACT_SILU, &err), "overlaps");
    CHECK_OK(op_act(be, &x, &x, ACT_SILU, &err), &err);
    REFUSED(op_copy(be, &shifted, &x, &err), "overlaps");
    REFUSED(op_act_backward(be, &gx, &w, &x, ACT_SILU, &err), "overlaps");
    Tensor v = F(0, 4, 1, 4, 4, 1), up = F(0, 4, 1, 8, 8, 1);
    REFUSED(op_upsample(be, &up, &v, 0, &err), "overlaps");
}

static void moves(void **state)
{
    (void)state;
    Tensor y = F(0, 3, 2, 5, 3), x = F(1, 3, 2, 4, 3), table = F(2, 2, 3, 3), ids = T(3, DT_I32, 1, 3);
    REFUSED(op_copy_rows(be, &y, 3, &x, 0, 3, &err), "rows outside");
    REFUSED(op_copy_rows(be, &y, -1, &x, 0, 1, &err), "rows outside");
    REFUSED(op_copy_rows(be, &y, 0, &x, 0, INT64_MAX, &err), "rows outside");
    REFUSED(op_add_rows(be, &x, 2, &table, &err), "rows outside");
    REFUSED(op_embed(be, &y, &table, &ids, &err), "one table row an id");
    Tensor latents = F(1, 5, 1, 2, 4, 5, 3), tokens = F(0, 3, 1, 8, 12);
    REFUSED(op_patchify(be, &tokens, &latents, 2, &err), "multiples of p");
    REFUSED(op_unpatchify(be, &latents, &tokens, 0, &err), "multiples of p");
    Tensor a = F(0, 4, 2, 3, 4, 5), b = F(1, 4, 2, 3, 4, 5);
    const int64_t zero[4] = {0}, one[4] = {1, 1, 1, 1}, all[4] = {2, 3, 4, 5};
    REFUSED(op_copy_box(be, &a, one, &b, zero, all, &err), "outside");
    REFUSED(op_copy_box(be, &a, zero, &b, one, all, &err), "outside");
    Tensor flat = F(0, 3, 2, 3, 20);
    REFUSED(op_copy_box(be, &flat, zero, &b, zero, one, &err), "[T,H,W,C]");
    REFUSED(op_blend(be, &a, &b, 3, 1, &err), "axis");
    REFUSED(op_blend(be, &a, &b, 1, 4, &err), "extent");
    Tensor c = F(1, 4, 2, 3, 5, 5);
    REFUSED(op_blend(be, &a, &c, 1, 1, &err), "equal but for the axis");
    Tensor up = F(0, 4, 6, 6, 8, 5), x3 = F(1, 4, 3, 3, 4, 5);
    REFUSED(op_upsample(be, &up, &x3, 1, &err), "2T-1");
    REFUSED(op_pool_time(be, &up, &x3, &err), "(T+1)/2");
    const double coef[5] = {0};
    const Tensor *terms[5] = {&a, &a, &a, &a, &a};
    REFUSED(op_lincomb(be, &b, 5, coef, terms, &err), "5 terms");
    REFUSED(op_lincomb(be, &b, 0, coef, terms, &err), "0 terms");
}

static void attention(void **state)
{
    (void)state;
    Tensor q = F(0, 3, 1, 3, 6), k = F(1, 3, 1, 5, 6), v = F(2, 3, 1, 5, 6), o = F(3, 3, 1, 3, 6),
           bias = F(4, 3, 2, 3, 5), lse = F(5, 3, 1, 2, 3);
    AttnParams p = {4, 1, NULL, 0};
    REFUSED(op_attention(be, &o, NULL, &q, &k, &v, &p, &err), "heads*hd");
    p.heads = 2;
    CHECK_OK(op_attention(be, &o, &lse, &q, &k, &v, &p, &err), &err);
    p.scale = NAN;
    REFUSED(op_attention(be, &o, NULL, &q, &k, &v, &p, &err), "finite");
    p.scale = 1;
    Tensor narrow = F(4, 3, 2, 3, 4);
    p.bias = &narrow;
    REFUSED(op_attention(be, &o, NULL, &q, &k, &v, &p, &err), "bias F32 [2, 3, 4]");
    p.bias = &bias;
    Tensor gq = F(4, 3, 1, 3, 6), gk = F(6, 3, 1, 5, 6), gv = F(7, 3, 1, 5, 6);
    CHECK_FAILS(op_attention_backward(be, &gq, &gk, &gv, &o, &q, &k, &v, &o, &lse, &p, &err), ERR_UNSUPPORTED, "bias",
                &err);
    p = (AttnParams){2, INFINITY, NULL, 0};
    REFUSED(op_attention_backward(be, &gq, &gk, &gv, &o, &q, &k, &v, &o, &lse, &p, &err), "finite");
    p = (AttnParams){2, 1, NULL, 1};
    CHECK_FAILS(op_attention_backward(be, &gq, &gk, &gv, &o, &q, &k, &v, &o, &lse, &p, &err), ERR_UNSUPPORTED, "causal",
                &err);
}

static void norms(void **state)
{
    (void)state;
    Tensor x = F(0, 3, 2, 3, 4), y = F(1, 3, 2, 3, 4), w = F(2, 1, 4), b = F(3, 1, 4), bad = F(2, 1, 5),
           mod6 = F(4, 2, 2, 24), mod2 = F(4, 2, 2, 8);
    REFUSED(op_layernorm(be, &y, &x, &bad, &b, 1e-5, NULL, &err), "w and b must be [D]");
    REFUSED(op_layernorm(be, &y, &x, &w, &b, -1, NULL, &err), "eps");
    Modulation m = {&mod2, 1};
    REFUSED(op_layernorm(be, &y, &x, &w, &b, 1e-5, &m, &err), "text_rows");
    m = (Modulation){&mod6, 4};
    REFUSED(op_layernorm(be, &y, &x, &w, &b, 1e-5, &m, &err), "text_rows");
    m = (Modulation){NULL, 0};
    REFUSED(op_layernorm(be, &y, &x, &w, &b, 1e-5, &m, &err), "modulation");
    m = (Modulation){&mod2, 0};
    CHECK_OK(op_layernorm(be, &y, &x, &w, &b, 1e-5, &m, &err), &err);
    REFUSED(op_gate_add(be, &x, &y, &m, &err), "6*D");
    Tensor gx = F(5, 3, 2, 3, 4), gw = F(6, 1, 4), gb = F(7, 1, 4);
    REFUSED(op_layernorm_backward(be, &gx, &gw, NULL, NULL, &y, &x, &w, &b, 1e-5, NULL, 0, &err), "go together");
    REFUSED(op_layernorm_backward(be, &gx, &gw, &gb, NULL, &y, &x, &w, &b, 1e-5, &m, 0, &err), "gm goes with");
    CHECK_OK(op_layernorm_backward(be, &gx, &gw, &gb, NULL, &y, &x, &w, &b, 1e-5, NULL, 0, &err), &err);
    REFUSED(op_layernorm_backward(be, &gx, NULL, NULL, NULL, &y, &x, &w, &b, -1, NULL, 0, &err), "eps");
    Tensor gm = F(7, 2, 2, 24);
    m = (Modulation){&mod6, 4};
    REFUSED(op_layernorm_backward(be, &gx, NULL, NULL, &gm, &y, &x, &w, &b, 1e-5, &m, 0, &err), "text_rows");
    REFUSED(op_rmsnorm(be, &y, &x, &bad, 1e-6, &err), "w must be [D]");
    REFUSED(op_rmsnorm(be, &y, &x, &w, -1, &err), "eps");
    Tensor f = F(0, 4, 2, 3, 2, 4), z = F(4, 4, 1, 3, 2, 4), z5 = F(5, 4, 1, 3, 2, 5);
    REFUSED(op_groupnorm(be, &f, &f, &w, &b, 3, 1e-6, NULL, ACT_SILU, &err), "divide into the groups");
    REFUSED(op_groupnorm(be, &f, &f, &w, &b, 2, 1e-6, NULL, ACT_GELU_ERF, &err), "none or silu");
    REFUSED(op_groupnorm(be, &f, &f, &w, &b, 2, -1, NULL, ACT_SILU, &err), "eps");
    REFUSED(op_groupnorm(be, &f, &f, &w, &b, 2, 1e-6, &(SpatialCond){&z, &z5}, ACT_SILU, &err), "[Tz,h,w,C]");
}

static void convolution_and_training(void **state)
{
    (void)state;
    Tensor x = F(0, 4, 2, 4, 4, 3), w = F(1, 5, 2, 3, 3, 3, 3), b = F(2, 1, 2), y = F(3, 4, 2, 4, 4, 2),
           prefix = F(4, 4, 1, 4, 4, 3);
    const ConvParams p = {1, 1, 1, 1, 1, 0}, none = {1, 0, 0, 0, 0, 0}, still = {0, 1, 1, 1, 1, 0};
    CHECK_OK(op_conv(be, &y, &x, NULL, &w, &b, &p, &err), &err);
    REFUSED(op_conv(be, &y, &x, NULL, &w, &b, &none, &err), "[T,Ho,Wo,Co]");
    REFUSED(op_conv(be, &y, &x, NULL, &w, &b, &still, &err), "stride");
    REFUSED(op_conv(be, &y, &x, &prefix, &w, &b, &p, &err), "[kt-1,H,W,Ci]");
    Tensor small = F(0, 4, 2, 2, 2, 3);
    REFUSED(op_conv(be, &y, &small, NULL, &w, &b, &none, &err), "larger than the padded frame");
    Tensor z = F(0, 2, 3, 4), moments = F(1, 2, 3, 4), a = F(2, 2, 3, 4), c = F(3, 2, 3, 4), v = F(4, 1, 12);
    REFUSED(op_posterior(be, &z, &moments, NULL, 1, &err), "[..,2C]");
    REFUSED(op_diffuse(be, &z, &z, &a, &c, &(double){1}, &(double){0}, &err), "overlaps");
    REFUSED(op_mse(be, &(double){0}, NULL, &a, &v, 1, &err), "equal");
    REFUSED(op_adamw(be, &z, NULL, &a, &c, &v, &(AdamParams){.step = 0}, &err), "counts from 1");
    REFUSED(op_sgd(be, &z, NULL, &a, &c, &(SgdParams){.step = 0}, &err), "counts from 1");
    REFUSED(op_sgd(be, &z, NULL, &a, &z, &(SgdParams){.step = 1}, &err), "overlaps");
    Tensor codes = tensor_of(z.data, DT_U8, 1, 12), scale = F(4, 1, 1), two = F(4, 1, 2), few = F(3, 1, 11);
    CHECK_OK(op_quantize(be, &codes, &scale, &a, 1, &err), &err);
    REFUSED(op_quantize(be, &c, &scale, &a, 1, &err), "codes must be U8");
    REFUSED(op_quantize(be, &codes, &two, &a, 1, &err), "one for every 256");
    REFUSED(op_dequantize(be, &few, &codes, &scale, 1, &err), "one an element");
    REFUSED(op_dequantize(be, &scale, &codes, &scale, 1, &err), "one an element");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sentence_names_op_and_shapes),
        cmocka_unit_test(types),
        cmocka_unit_test(overlap),
        cmocka_unit_test(moves),
        cmocka_unit_test(attention),
        cmocka_unit_test(norms),
        cmocka_unit_test(convolution_and_training),
    };
    if (backend_open(&be, "ref", 1, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    int failed = check_run_live("arguments of ops", tests);
    backend_close(&be);
    return failed;
}
