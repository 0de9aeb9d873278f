/* Attention and its gradient. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/ops/cuda/sim/control.h"
#include "tests/ops/harness.h"
#include "tests/ops/naive.h"

typedef struct Shape {
    int64_t B, Sq, Sk, heads, hd;
} Shape;

static const Shape shapes[] = {
    {1, 1, 1, 1, 1},     {2, 3, 5, 2, 4},      {1, 63, 64, 1, 8},     {1, 64, 65, 2, 16}, {1, 65, 63, 3, 7},
    {1, 13, 257, 2, 64}, {1, 129, 130, 2, 32}, {1, 270, 300, 1, 16},  /* one head, shared by two threads */
    {1, 200, 390, 1, 8},                                              /* two tiles of keys of every kind */
    {1, 130, 70, 1, 64}, {1, 200, 300, 1, 64}, {1, 100, 100, 30, 64}, /* CogVideoX-2B's heads */
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], LAYER = N_SHAPES - 1 };

/* bias, lse: operand numbers, 0: NULL */
typedef struct Options {
    Shape s;
    double scale;
    int causal, bias, lse;
} Options;

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

/* The largest possible sum of |q k| over a head, times the scale, plus the largest bias: what a
 * score's roundings are roundings of. */
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

/* A score is off by e = (4 + sqrt(hd)) roundings of its size; a probability, being exp of a
 * difference of scores, by the factor 2e plus roundings of exp; so the weighed mean of v by that
 * share of the largest |v|, never by more than twice |v|.  The sum over keys:
 * equal terms (inputs that are all equal) round the same way each time, half the last sum's rounding on
 * average: Sk/2 roundings. */
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

static void check_attention(const Shape *s, int causal, int bias, int lse, unsigned input_kinds)
{
    Options opt = {.s = *s, .scale = 1 / sqrt((double)s->hd), .causal = causal};
    Case c = {.name = causal ? "attention, causal"
                      : bias ? "attention with bias"
                             : "attention",
              .call = call_attention,
              .bound = bound_attention,
              .rounds_inside = 1,
              .param = &opt,
              .input_kinds = input_kinds,
              .huge = 100,
              .warpgroups = s->hd == 64 && !causal && !bias};
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
    Case c = {.name = "attention, vast scores",
              .call = call_attention,
              .bound = bound_attention,
              .rounds_inside = 1,
              .param = &opt,
              .input_kinds = 1u << HUGE_VALUES,
              .huge = 1e5};
    CASE_ADD(&c, "o", OUT, ACT, 3, s.B, s.Sq, s.heads * s.hd);
    CASE_ADD(&c, "q", IN, ACT, 3, s.B, s.Sq, s.heads * s.hd);
    CASE_ADD(&c, "k", IN, ACT, 3, s.B, s.Sk, s.heads * s.hd);
    CASE_ADD(&c, "v", IN, ACT, 3, s.B, s.Sk, s.heads * s.hd);
    opt.lse = CASE_ADD(&c, "lse", OUT, DT_F32, 3, s.B, s.heads, s.Sq);
    ops_check(&c);
}

/* Every score is near -20: a key past the end, read as zeros, would have nearly all of the weight. */
static void nothing_past_the_end(void **state)
{
    static const int64_t lengths[] = {1, 2, 33, 63, 65, 127, 129, 190};
    (void)state;
    for (int k = 0; k < 3; k++) /* the tensor cores' kernels, the plain one by its head and by its mask */
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            Options opt = {
                .s = {1, k == 2 ? lengths[i] : 67, lengths[i], 1, k == 1 ? 60 : 64}, .scale = 0.125, .causal = k == 2};
            const Shape *s = &opt.s;
            Case c = {.name = "attention, low scores",
                      .call = call_attention,
                      .bound = bound_attention,
                      .rounds_inside = 1,
                      .param = &opt,
                      .input_kinds = 1u << UNIFORM,
                      .warpgroups = k == 0};
            CASE_ADD(&c, "o", OUT, ACT, 3, s->B, s->Sq, s->hd);
            case_range(&c, CASE_ADD(&c, "q", IN, ACT, 3, s->B, s->Sq, s->hd), 0.9, 1.1);
            case_range(&c, CASE_ADD(&c, "k", IN, ACT, 3, s->B, s->Sk, s->hd), -2.6, -2.4);
            case_range(&c, CASE_ADD(&c, "v", IN, ACT, 3, s->B, s->Sk, s->hd), 1, 2);
            opt.lse = CASE_ADD(&c, "lse", OUT, DT_F32, 3, s->B, 1, s->Sq);
            ops_check(&c);
        }
}

/* ---- gradient -------------------------------------------------------------------------------- */

enum { GQ, GK, GV, GO, Q, K, V, O, LSE };

static int call_backward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    AttnParams p = params_of(c->param, t);
    return op_attention_backward(be, &t[GQ], &t[GK], &t[GV], &t[GO], &t[Q], &t[K], &t[V], &t[O], &t[LSE], &p, err);
}

/* P is off by the share e (roundings of score and lse), G = P (go.v - go.o) by that share of P (sum
 * |go v| + sum |go o|); the sums over keys or queries add their own roundings. */
static void bound_backward(const Case *c, double *const *value, double *const *want, double **bound)
{
    (void)want;
    const Options *opt = c->param;
    const Shape *s = &opt->s;
    int64_t D = s->heads * s->hd;
    double size = score_size(opt, value[Q], value[K], NULL) + most_of(value[LSE], c->arg[LSE].count);
    double e = ROUNDOFF * ((4 + sqrt((double)s->hd)) * size + 8 + sqrt((double)s->hd) +
                           0.5 * (double)(s->Sq > s->Sk ? s->Sq : s->Sk));
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

/* o and lse are given: those of the forward pass, so both are fed through ranges and replaced here
 * by what q, k, v give. */
static int call_backward_after_forward(Backend *be, const Tensor *t, const Case *c, Err *err)
{
    AttnParams p = params_of(c->param, t);
    int rc = op_attention(be, &t[O], &t[LSE], &t[Q], &t[K], &t[V], &p, err);
    return rc < 0 ? rc : call_backward(be, t, c, err);
}

static Case backward_case(const Options *opt, int (*call)(Backend *, const Tensor *, const Case *, Err *), Role forward)
{
    const Shape *s = &opt->s;
    static const char *const names[] = {"gq", "gk", "gv", "go", "q", "k", "v", "o"};
    Case c = {.name = "attention_backward",
              .call = call,
              .bound = bound_backward,
              .rounds_inside = 1,
              .param = opt,
              .warpgroups = s->hd == 64};
    for (int k = 0; k < 8; k++) {
        int key = k == GK || k == GV || k == K || k == V;
        CASE_ADD(&c, names[k],
                 k <= GV  ? OUT
                 : k == O ? forward
                          : IN,
                 ACT, 3, s->B, key ? s->Sk : s->Sq, s->heads * s->hd);
    }
    CASE_ADD(&c, "lse", forward, DT_F32, 3, s->B, s->heads, s->Sq);
    return c;
}

/* Forward and backward together: o and lse are outputs too, and the wanted gradients those of the
 * exact forward pass.  The gradients see the forward pass's rounding of o and lse, which the
 * bound's roundings of both cover. */
static void bound_both(const Case *c, double *const *value, double *const *want, double **bound)
{
    double *with[CASE_ARGS];
    for (int k = 0; k < c->n; k++)
        with[k] = k >= O ? want[k] : value[k];
    bound_backward(c, with, want, bound);
    const Options *opt = c->param;
    double e = ROUNDOFF * ((4 + sqrt((double)opt->s.hd)) * score_size(opt, value[Q], value[K], NULL) + 8 +
                           0.5 * (double)opt->s.Sk);
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
        c.input_kinds = i == LAYER ? 1 : 1u << UNIFORM | 1u << TINY | 1u << ALL_EQUAL;
        ops_check(&c);
    }
}

/* Without the rounding of a forward pass: o and lse as inputs, any numbers (the formula is the
 * same). */
static void attention_backward_alone(void **state)
{
    (void)state;
    for (int i = 0; i < LAYER; i++) {
        const Options opt = {.s = shapes[i], .scale = 1 / sqrt((double)shapes[i].hd)};
        Case c = backward_case(&opt, call_backward, IN);
        c.input_kinds = 1;
        case_range(&c, LSE, log((double)shapes[i].Sk), log((double)shapes[i].Sk) + 1);
        ops_check(&c);
    }
}

/* ---- gradients of hard numbers on the simulated GPU: gq is summed in fixed point there ------- */

enum { HARD_Q = 45, HARD_K = 300, HARD_HEADS = 2, HARD_DIM = 64 * HARD_HEADS };
static const Options hard = {.s = {1, HARD_Q, HARD_K, HARD_HEADS, 64}, .scale = 0.125};

typedef struct Hard {
    const char *name;
    void (*make)(double *const *value);
} Hard;

static void stretch(double *x, int64_t n, double by)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= by;
}

static void as_drawn(double *const *value)
{
    (void)value;
}
static void one_huge_value_row(double *const *value)
{
    stretch(value[V] + 70 * HARD_DIM, HARD_DIM, 3e4);
}
static void one_huge_key_row(double *const *value)
{
    stretch(value[K] + 270 * HARD_DIM, HARD_DIM, 200);
}
static void tiny_go(double *const *value)
{
    stretch(value[GO], HARD_Q * HARD_DIM, 1e-30);
}
static void vast_go(double *const *value)
{
    stretch(value[GO], HARD_Q * HARD_DIM, 1e30);
}
static void zero_go_rows(double *const *value)
{
    for (int i = 0; i < HARD_Q; i += 2)
        stretch(value[GO] + i * HARD_DIM, HARD_DIM, 0);
}
static void one_hot(double *const *value)
{
    stretch(value[Q], HARD_Q * HARD_DIM, 300);
}
static void flat(double *const *value)
{
    stretch(value[Q], HARD_Q * HARD_DIM, 1e-6);
}
/* Every key occurs twice, the second time with its sign changed, and q is tiny: dS K nearly cancels
 * between the blocks of 128 keys. */
static void cancelling(double *const *value)
{
    flat(value);
    for (int j = 0; j < HARD_K / 2; j++)
        for (int d = 0; d < HARD_DIM; d++) {
            value[K][(HARD_K / 2 + j) * HARD_DIM + d] = -value[K][j * HARD_DIM + d];
            value[V][(HARD_K / 2 + j) * HARD_DIM + d] = 1.03 * value[V][j * HARD_DIM + d];
        }
}

/* value, of the backward pass alone: o and lse filled in by ref from q, k, v. */
static void hard_values(const Case *c, double **value, void (*make)(double *const *value))
{
    for (int k = 0; k < c->n; k++) {
        value[k] = malloc((size_t)c->arg[k].count * sizeof(double));
        assert_non_null(value[k]);
        ops_draw(value[k], c->arg[k].count, -1, 1, (uint64_t)k + 50);
    }
    make(value);
    for (int k = GO; k <= V; k++)
        for (int64_t i = 0; i < c->arg[k].count; i++)
            value[k][i] = ops_bf16(value[k][i]);
    Case both = backward_case(&hard, call_backward_after_forward, OUT);
    double *copy[CASE_ARGS];
    for (int k = 0; k < both.n; k++)
        copy[k] = value[k];
    ops_run_double(&both, copy);
    for (int64_t i = 0; i < c->arg[O].count; i++)
        value[O][i] = ops_bf16(value[O][i]);
}

/* One call on a back end. */
static void hard_call(const Case *c, double *const *value, Backend *be, float **got)
{
    Err err = {0};
    Tensor t[CASE_ARGS];
    assert_non_null(be);
    for (int k = 0; k < c->n; k++) {
        const Operand *a = &c->arg[k];
        DType type = a->dtype == ACT ? DT_BF16 : a->dtype;
        void *p = NULL;
        float *numbers = malloc((size_t)a->count * sizeof *numbers);
        assert_non_null(numbers);
        for (int64_t i = 0; i < a->count; i++)
            numbers[i] = (float)value[k][i];
        CHECK_OK(be->alloc(be, a->count * dtype_size(type), &p, &err), &err);
        t[k] = tensor_view(p, type, a->rank, a->dim);
        CHECK_OK(backend_put_f32(be, &t[k], numbers, &err), &err);
        free(numbers);
    }
    CHECK_OK(call_backward(be, t, c, &err), &err);
    for (int k = GQ; k <= GV; k++)
        CHECK_OK(backend_get_f32(be, got[k], &t[k], &err), &err);
    for (int k = 0; k < c->n; k++)
        be->release(be, t[k].data);
}

/* One call on sim under a schedule. */
static void hard_run(const Case *c, double *const *value, SimSchedule schedule, float **got)
{
    Err err = {0};
    Backend *be = NULL;
    SimConfig config = sim_config();
    config.schedule = schedule;
    config.seed = 7 + (unsigned)schedule;
    sim_configure(&config);
    sim_clear();
    CHECK_OK(backend_open(&be, "sim", 1, NULL, &err), &err);
    hard_call(c, value, be, got);
    backend_close(&be);
}

static void hard_buffers(const Case *c, float **got)
{
    for (int k = GQ; k <= GV; k++)
        assert_non_null(got[k] = malloc((size_t)c->arg[k].count * sizeof(float)));
}

static void free_all(void **p, int n)
{
    for (int i = 0; i < n; i++)
        free(p[i]);
}

/* No gradient is further off than twice the naive bf16 version's worst, and all schedules give the
 * same bits. */
static void check_hard(const Case *c, const Hard *h, int schedules)
{
    double *value[CASE_ARGS], *want[CASE_ARGS];
    float *got[3], *again[3], *naive[3];
    hard_values(c, value, h->make);
    for (int k = 0; k < c->n; k++) {
        size_t bytes = (size_t)c->arg[k].count * sizeof(double);
        assert_non_null(want[k] = malloc(bytes));
        memcpy(want[k], value[k], bytes);
    }
    ops_run_double(c, want);
    hard_buffers(c, naive);
    hard_call(c, value, naive_open(NULL), naive);
    hard_buffers(c, got);
    hard_buffers(c, again);
    hard_run(c, value, SIM_ASCENDING, got);
    for (int k = GQ; k <= GV; k++) {
        double worst = 0, off = 0;
        for (int64_t i = 0; i < c->arg[k].count; i++) {
            worst = fmax(worst, fabs((double)naive[k][i] - want[k][i]));
            double d = fabs((double)got[k][i] - want[k][i]);
            off = d <= off ? off : d; /* NaN stays */
        }
        if (!(off <= 2 * worst + FLT_MIN))
            fail_msg("%s: %s is off by %.3g, the naive bf16 version by %.3g", h->name, c->arg[k].name, off, worst);
    }
    for (int schedule = 1; schedule < schedules; schedule++) {
        hard_run(c, value, (SimSchedule)schedule, again);
        for (int k = GQ; k <= GV; k++)
            if (memcmp(got[k], again[k], (size_t)c->arg[k].count * sizeof(float)) != 0)
                fail_msg("%s: %s: the bits depend on the order of threads", h->name, c->arg[k].name);
    }
    free_all((void **)value, c->n);
    free_all((void **)want, c->n);
    free_all((void **)naive, 3);
    free_all((void **)got, 3);
    free_all((void **)again, 3);
}

static void gradients_of_hard_numbers(void **state)
{
    (void)state;
    static const Hard list[] = {
        {"as drawn", as_drawn},
        {"one huge value row", one_huge_value_row},
        {"one huge key row", one_huge_key_row},
        {"tiny go", tiny_go},
        {"vast go", vast_go},
        {"zero go rows", zero_go_rows},
        {"one-hot", one_hot},
        {"flat", flat},
        {"cancelling", cancelling},
    };
    Case c = backward_case(&hard, call_backward, IN);
    if (SLOW_FIBERS || ops_listing())
        return;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        check_hard(&c, &list[i], i == 0 ? SIM_SCHEDULES : 1);
}

/* A number that is none must come out as NaN in gq, never vanish in the fixed point: in its row,
 * or, of a key or value, in the head. */
static void not_a_number_stays(void **state)
{
    (void)state;
    static const double bad[] = {NAN, -INFINITY};
    static const int where[] = {GO, Q, K, V, O, LSE};
    Case c = backward_case(&hard, call_backward, IN);
    double *value[CASE_ARGS];
    float *got[3];
    if (SLOW_FIBERS || ops_listing())
        return;
    hard_values(&c, value, as_drawn);
    hard_buffers(&c, got);
    for (int n = 0; n < 6; n++)
        for (int b = 0; b < 2; b++) {
            int k = where[n], key = k == K || k == V, row = 37;
            /* in the second head */
            double *at = &value[k][k == LSE ? HARD_Q + row : row * HARD_DIM + 64 + 5], keep = *at;
            *at = bad[b];
            hard_run(&c, value, (SimSchedule)(n % SIM_SCHEDULES), got);
            *at = keep;
            for (int i = 0; i < HARD_Q; i++)
                for (int d = 0; d < HARD_DIM; d++) {
                    int nan = d >= 64 && (key || i == row);
                    if (!isnan(got[GQ][i * HARD_DIM + d]) != !nan)
                        fail_msg("%s with %g: gq[%d, %d] is %g", c.arg[k].name, bad[b], i, d,
                                 (double)got[GQ][i * HARD_DIM + d]);
                }
        }
    free_all((void **)value, c.n);
    free_all((void **)got, 3);
}

/* ---- ref against the textbook form: the whole matrix of scores, softmax without a shift ------ */

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
        Tensor to = tensor_of(o, DT_F64, 3, 1, SQ, D), tl = tensor_of(lse, DT_F64, 3, 1, HEADS, SQ),
               tq = tensor_of(q, DT_F64, 3, 1, SQ, D), tk = tensor_of(k, DT_F64, 3, 1, SK, D),
               tv = tensor_of(v, DT_F64, 3, 1, SK, D), tb = tensor_of(bias, DT_F64, 3, HEADS, SQ, SK);
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
        cmocka_unit_test(ref_against_the_textbook),
        cmocka_unit_test(attention),
        cmocka_unit_test(attention_of_vast_scores),
        cmocka_unit_test(nothing_past_the_end),
        cmocka_unit_test(attention_backward),
        cmocka_unit_test(attention_backward_alone),
        cmocka_unit_test(gradients_of_hard_numbers),
        cmocka_unit_test(not_a_number_stays),
        cmocka_unit_test(ops_summary),
    };
    return check_run("ops: attention", tests);
}
