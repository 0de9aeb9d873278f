/* Attention and its gradient. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "tests/ops/harness.h"

typedef struct Shape { int64_t B, Sq, Sk, heads, hd; } Shape;

static const Shape shapes[] = {
    {1, 1, 1, 1, 1}, {2, 3, 5, 2, 4}, {1, 63, 64, 1, 8}, {1, 64, 65, 2, 16}, {1, 65, 63, 3, 7}, {1, 13, 257, 2, 64}, {1, 129, 130, 2, 32},
    {1, 270, 300, 1, 16}, /* one head, shared by two threads */
    {1, 130, 70, 1, 64}, {1, 200, 300, 1, 64},
    {1, 100, 100, 30, 64}, /* CogVideoX-2B's heads */
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], LAYER = N_SHAPES - 1 };

typedef struct Options { Shape s; double scale; int causal, bias, lse; } Options; /* bias, lse: operand numbers, 0: NULL */

static AttnParams params_of(const Options *opt, const Tensor *t)
{
    return (AttnParams){opt->s.heads, opt->scale, opt->bias ? &t[opt->bias] : NULL, opt->causal};
}

static int call_attention(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    const Options *opt = c->param;
    AttnParams p = params_of(opt, t);
    return op_attention(be, &t[0], opt->lse ? &t[opt->lse] : NULL, &t[1], &t[2], &t[3], &p, err);
}

static double most_of(const double *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

/* The largest possible sum of |q k| over a head, times the scale, plus the largest bias: what a score's roundings are roundings of. */
static double score_size(const Options *opt, const double *q, const double *k, const double *bias)
{
    const Shape *s = &opt->s;
    int64_t D = s->heads * s->hd;
    double most = 0;
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t i = 0; i < s->Sq; i++)
            for (int64_t j = 0; j < s->Sk; j++)
                for (int64_t h = 0; h < s->heads; h++) {
                    double sum = 0;
                    for (int64_t d = h * s->hd; d < (h + 1) * s->hd; d++)
                        sum += fabs(q[(b * s->Sq + i) * D + d] * k[(b * s->Sk + j) * D + d]);
                    most = fmax(most, sum);
                }
    return most * fabs(opt->scale) + (bias ? most_of(bias, s->heads * s->Sq * s->Sk) : 0);
}

/* A score is off by e = (4 + sqrt(hd)) roundings of its size; a probability, being exp of a difference of scores, by the factor 2e
 * plus roundings of exp; so the weighed mean of v by that share of the largest |v|, never by more than twice |v|.  The sum over keys:
 * equal terms (the all-equal mood) round the same way each time, half the last sum's rounding on average: Sk/2 roundings. */
static void bound_attention(const Case *c, double *const *value, double *const *want, double **bound)
{
    const Options *opt = c->param;
    const Shape *s = &opt->s;
    double size = score_size(opt, value[1], value[2], opt->bias ? value[opt->bias] : NULL);
    double e = ROUNDOFF * (4 + sqrt((double)s->hd)) * size, v = most_of(value[3], c->arg[3].count);
    for (int64_t i = 0; i < c->arg[0].count; i++)
        bound[0][i] = fmin(2, 2 * e + ROUNDOFF * (8 + 0.5 * (double)s->Sk)) * v + FLT_MIN;
    for (int64_t i = 0; opt->lse && i < c->arg[opt->lse].count; i++)
        bound[opt->lse][i] = e + ROUNDOFF * (8 + 2 * fabs(want[opt->lse][i]));
}

/* ---- the naive bf16 version: a matrix of scores, one of probabilities, every product rounded -------------------- */

typedef struct Head { int64_t q, k, D, Sq, Sk, hd; double scale; const double *bias; int causal; } Head; /* element 0 of the head in q and k */

static Head head_of(const Options *opt, double *const *value, int64_t b, int64_t h)
{
    const Shape *s = &opt->s;
    int64_t D = s->heads * s->hd;
    return (Head){b * s->Sq * D + h * s->hd, b * s->Sk * D + h * s->hd, D, s->Sq, s->Sk, s->hd, opt->scale,
                  opt->bias ? value[opt->bias] + h * s->Sq * s->Sk : NULL, opt->causal};
}

static double naive_dot(const Head *n, const double *a, int64_t i, const double *b, int64_t j)
{
    double sum = 0;
    for (int64_t d = 0; d < n->hd; d++)
        sum += a[n->q + i * n->D + d] * b[n->k + j * n->D + d];
    return ops_bf16(sum);
}

static double naive_score(const Head *n, const double *q, int64_t i, const double *k, int64_t j)
{
    double s = ops_bf16(n->scale * naive_dot(n, q, i, k, j));
    return n->causal && j > i ? -INFINITY : n->bias ? ops_bf16(s + n->bias[i * n->Sk + j]) : s;
}

/* Rows of o and lse [Sq] of one head. */
static void naive_head(const Head *n, const double *q, const double *k, const double *v, double *o, double *lse)
{
    double *p = malloc((size_t)n->Sk * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n->Sq; i++) {
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < n->Sk; j++)
            top = fmax(top, p[j] = naive_score(n, q, i, k, j));
        for (int64_t j = 0; j < n->Sk; j++)
            total += p[j] = exp(p[j] - top);
        for (int64_t d = 0; d < n->hd; d++) {
            double sum = 0;
            for (int64_t j = 0; j < n->Sk; j++)
                sum += ops_bf16(p[j] / total) * v[n->k + j * n->D + d];
            o[n->q + i * n->D + d] = ops_bf16(sum);
        }
        lse[i] = ops_bf16(top + log(total));
    }
    free(p);
}

static void naive_attention(const Case *c, double *const *value, double **out)
{
    const Options *opt = c->param;
    const Shape *s = &opt->s;
    double *room = malloc((size_t)s->Sq * sizeof *room);
    assert_non_null(room);
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t h = 0; h < s->heads; h++) {
            Head n = head_of(opt, value, b, h);
            naive_head(&n, value[1], value[2], value[3], out[0], opt->lse ? out[opt->lse] + (b * s->heads + h) * s->Sq : room);
        }
    free(room);
}

static void check_attention(const Shape *s, int causal, int bias, int lse, unsigned moods)
{
    Options opt = {.s = *s, .scale = 1 / sqrt((double)s->hd), .causal = causal};
    Case c = {.name = causal ? "attention, causal" : bias ? "attention with bias" : "attention", .call = call_attention,
              .bound = bound_attention, .naive = naive_attention, .param = &opt, .moods = moods, .huge = 100, .warpgroups = s->hd == 64 && !causal && !bias};
    CASE_ADD(&c, "o", OUT, ACT, 3, s->B, s->Sq, s->heads * s->hd);
    case_range(&c, CASE_ADD(&c, "q", IN, ACT, 3, s->B, s->Sq, s->heads * s->hd), -3, 3);
    case_range(&c, CASE_ADD(&c, "k", IN, ACT, 3, s->B, s->Sk, s->heads * s->hd), -3, 3);
    CASE_ADD(&c, "v", IN, ACT, 3, s->B, s->Sk, s->heads * s->hd);
    if (bias) {
        opt.bias = CASE_ADD(&c, "bias", WEIGHT, DT_F32, 3, s->heads, s->Sq, s->Sk);
        case_range(&c, opt.bias, -4, 4);
    }
    if (lse)
        opt.lse = CASE_ADD(&c, "lse", OUT, DT_F32, 3, s->B, s->heads, s->Sq);
    ops_check(&c);
}

static void attention(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (int k = 0; k < 6; k++)
            if (i != LAYER || k == 1)
                check_attention(&shapes[i], k >= 4, k == 2 || k == 3 || k == 5, k % 2, i == LAYER ? 1 : 0);
}

/* Scores of 1e8 and more: softmax picks the largest key; nothing may overflow. */
static void attention_of_vast_scores(void **state)
{
    (void)state;
    const Shape s = {1, 17, 70, 2, 8};
    Options opt = {.s = s, .scale = 1};
    Case c = {.name = "attention, vast scores", .call = call_attention, .bound = bound_attention, .naive = naive_attention, .param = &opt, .moods = 1u << HUGE_VALUES,
              .huge = 1e5};
    CASE_ADD(&c, "o", OUT, ACT, 3, s.B, s.Sq, s.heads * s.hd);
    CASE_ADD(&c, "q", IN, ACT, 3, s.B, s.Sq, s.heads * s.hd);
    CASE_ADD(&c, "k", IN, ACT, 3, s.B, s.Sk, s.heads * s.hd);
    CASE_ADD(&c, "v", IN, ACT, 3, s.B, s.Sk, s.heads * s.hd);
    opt.lse = CASE_ADD(&c, "lse", OUT, DT_F32, 3, s.B, s.heads, s.Sq);
    ops_check(&c);
}

/* ---- gradient --------------------------------------------------------------------------------------------------- */

enum { GQ, GK, GV, GO, Q, K, V, O, LSE };

static int call_backward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    AttnParams p = params_of(c->param, t);
    return op_attention_backward(be, &t[GQ], &t[GK], &t[GV], &t[GO], &t[Q], &t[K], &t[V], &t[O], &t[LSE], &p, err);
}

/* P is off by the share e (roundings of score and lse), G = P (go.v - go.o) by that share of P (sum |go v| + sum |go o|); the sums
 * over keys or queries add their own roundings. */
static void bound_backward(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Options *opt = c->param;
    const Shape *s = &opt->s;
    int64_t D = s->heads * s->hd;
    double size = score_size(opt, value[Q], value[K], NULL) + most_of(value[LSE], c->arg[LSE].count);
    double e = ROUNDOFF * ((4 + sqrt((double)s->hd)) * size + 8 + sqrt((double)s->hd) + 0.5 * (double)(s->Sq > s->Sk ? s->Sq : s->Sk));
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t i = 0; i < s->Sq; i++)
                for (int64_t j = 0; j < s->Sk; j++) {
                    int64_t qi = (b * s->Sq + i) * D + h * s->hd, kj = (b * s->Sk + j) * D + h * s->hd;
                    double score = 0, terms = 0;
                    for (int64_t d = 0; d < s->hd; d++) {
                        score += value[Q][qi + d] * value[K][kj + d];
                        terms += fabs(value[GO][qi + d]) * (fabs(value[V][kj + d]) + fabs(value[O][qi + d]));
                    }
                    double P = exp(opt->scale * score - value[LSE][(b * s->heads + h) * s->Sq + i]);
                    for (int64_t d = 0; d < s->hd; d++) {
                        bound[GQ][qi + d] += e * opt->scale * P * terms * fabs(value[K][kj + d]) + FLT_MIN;
                        bound[GK][kj + d] += e * opt->scale * P * terms * fabs(value[Q][qi + d]) + FLT_MIN;
                        bound[GV][kj + d] += e * P * fabs(value[GO][qi + d]) + FLT_MIN;
                    }
                }
}

/* o and lse are given: those of the forward pass, so both are fed through ranges and replaced here by what q, k, v give. */
static int call_backward_after_forward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    AttnParams p = params_of(c->param, t);
    int rc = op_attention(be, &t[O], &t[LSE], &t[Q], &t[K], &t[V], &p, err);
    return rc < 0 ? rc : call_backward(be, t, c, err);
}

/* One head: P, dP, dS rounded; gradients rounded once. */
static void naive_backward_head(const Head *n, double *const *value, const double *o, const double *lse, double **out)
{
    for (int64_t i = 0; i < n->Sq; i++) {
        double delta = 0;
        for (int64_t d = 0; d < n->hd; d++)
            delta += value[GO][n->q + i * n->D + d] * o[n->q + i * n->D + d];
        delta = ops_bf16(delta);
        for (int64_t j = 0; j < n->Sk; j++) {
            double p = ops_bf16(exp(naive_score(n, value[Q], i, value[K], j) - lse[i]));
            double ds = ops_bf16(p * ops_bf16(naive_dot(n, value[GO], i, value[V], j) - delta));
            for (int64_t d = 0; d < n->hd; d++) {
                out[GQ][n->q + i * n->D + d] += n->scale * ds * value[K][n->k + j * n->D + d];
                out[GK][n->k + j * n->D + d] += n->scale * ds * value[Q][n->q + i * n->D + d];
                out[GV][n->k + j * n->D + d] += p * value[GO][n->q + i * n->D + d];
            }
        }
    }
}

static void naive_backward(const Case *c, double *const *value, double **out)
{
    const Options *opt = c->param;
    const Shape *s = &opt->s;
    int forward = c->arg[O].role == OUT;
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t h = 0; h < s->heads; h++) {
            Head n = head_of(opt, value, b, h);
            int64_t at = (b * s->heads + h) * s->Sq;
            if (forward)
                naive_head(&n, value[Q], value[K], value[V], out[O], out[LSE] + at);
            naive_backward_head(&n, value, forward ? out[O] : value[O], (forward ? out[LSE] : value[LSE]) + at, out);
        }
    for (int k = GQ; k <= GV; k++)
        for (int64_t i = 0; i < c->arg[k].count; i++)
            out[k][i] = ops_bf16(out[k][i]);
}

static Case backward_case(const Options *opt, int (*call)(Backend *, const Tensor *, const Case *, Err *), Role forward)
{
    const Shape *s = &opt->s;
    static const char *const names[] = {"gq", "gk", "gv", "go", "q", "k", "v", "o"};
    Case c = {.name = "attention_backward", .call = call, .bound = bound_backward, .naive = naive_backward, .param = opt};
    for (int k = 0; k < 8; k++) {
        int key = k == GK || k == GV || k == K || k == V;
        CASE_ADD(&c, names[k], k <= GV ? OUT : k == O ? forward : IN, ACT, 3, s->B, key ? s->Sk : s->Sq, s->heads * s->hd);
    }
    CASE_ADD(&c, "lse", forward, DT_F32, 3, s->B, s->heads, s->Sq);
    return c;
}

/* Forward and backward together: o and lse are outputs too, and the wanted gradients those of the exact forward pass.  The gradients
 * see the forward pass's rounding of o and lse, which the bound's roundings of both cover. */
static void bound_both(const Case *c, double *const *value, double *const *want, double **bound)
{
    double *with[CASE_ARGS];
    for (int k = 0; k < c->n; k++)
        with[k] = k >= O ? want[k] : value[k];
    bound_backward(c, with, want, bound);
    const Options *opt = c->param;
    double e = ROUNDOFF * ((4 + sqrt((double)opt->s.hd)) * score_size(opt, value[Q], value[K], NULL) + 8 + 0.5 * (double)opt->s.Sk);
    double v = most_of(value[V], c->arg[V].count);
    for (int k = GQ; k <= GV; k++)
        for (int64_t i = 0; i < c->arg[k].count; i++)
            bound[k][i] *= 4;
    for (int64_t i = 0; i < c->arg[O].count; i++)
        bound[O][i] = 2 * e * v + FLT_MIN;
    for (int64_t i = 0; i < c->arg[LSE].count; i++)
        bound[LSE][i] = e + ROUNDOFF * 2 * fabs(want[LSE][i]);
}

static void attention_backward(void **state)
{
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        const Options opt = {.s = shapes[i], .scale = 1 / sqrt((double)shapes[i].hd)};
        Case c = backward_case(&opt, call_backward_after_forward, OUT);
        c.bound = bound_both;
        c.composite = 1;
        c.moods = i == LAYER ? 1 : 1u << UNIFORM | 1u << TINY | 1u << ALL_EQUAL;
        ops_check(&c);
    }
}

/* Without the rounding of a forward pass: o and lse as inputs, any numbers (the formula is the same). */
static void attention_backward_alone(void **state)
{
    (void)state;
    for (int i = 0; i < LAYER; i++) {
        const Options opt = {.s = shapes[i], .scale = 1 / sqrt((double)shapes[i].hd)};
        Case c = backward_case(&opt, call_backward, IN);
        c.moods = 1;
        case_range(&c, LSE, log((double)shapes[i].Sk), log((double)shapes[i].Sk) + 1);
        ops_check(&c);
    }
}

/* ---- ref against the textbook form: the whole matrix of scores, softmax without a shift ------------------------- */

static void ref_against_the_textbook(void **state)
{
    (void)state;
    enum { SQ = 5, SK = 7, HD = 3, HEADS = 2, D = HD * HEADS };
    for (int causal = 0; causal < 2; causal++) {
        double q[SQ * D], k[SK * D], v[SK * D], bias[HEADS * SQ * SK], o[SQ * D], lse[HEADS * SQ];
        Err err = {0};
        ops_draw(q, SQ * D, -2, 2, 1);
        ops_draw(k, SK * D, -2, 2, 2);
        ops_draw(v, SK * D, -2, 2, 3);
        ops_draw(bias, HEADS * SQ * SK, -2, 2, 4);
        Tensor to = tensor_of(o, DT_F64, 3, 1, SQ, D), tl = tensor_of(lse, DT_F64, 3, 1, HEADS, SQ), tq = tensor_of(q, DT_F64, 3, 1, SQ, D),
               tk = tensor_of(k, DT_F64, 3, 1, SK, D), tv = tensor_of(v, DT_F64, 3, 1, SK, D),
               tb = tensor_of(bias, DT_F64, 3, HEADS, SQ, SK);
        AttnParams p = {HEADS, 0.4, &tb, causal};
        CHECK_OK(op_attention(ops_double(), &to, &tl, &tq, &tk, &tv, &p, &err), &err);
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < SQ; i++) {
                double e[SK], total = 0;
                for (int j = 0; j < SK; j++) {
                    double s = 0;
                    for (int d = 0; d < HD; d++)
                        s += q[i * D + h * HD + d] * k[j * D + h * HD + d];
                    e[j] = causal && j > i ? 0 : exp(0.4 * s + bias[(h * SQ + i) * SK + j]);
                    total += e[j];
                }
                check_value("lse", lse[h * SQ + i], log(total), 1e-14, 1e-14);
                for (int d = 0; d < HD; d++) {
                    double sum = 0;
                    for (int j = 0; j < SK; j++)
                        sum += e[j] / total * v[j * D + h * HD + d];
                    check_value("o", o[i * D + h * HD + d], sum, 1e-14, 1e-14);
                }
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_against_the_textbook), cmocka_unit_test(attention), cmocka_unit_test(attention_of_vast_scores),
        cmocka_unit_test(attention_backward), cmocka_unit_test(attention_backward_alone),
    };
    return check_run("ops: attention", tests);
}
