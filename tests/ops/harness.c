#include "tests/ops/harness.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/rng.h"
#include "common/ops/cuda/sim/control.h"
#include "common/ops/ref/ref.h"
#include "tests/ops/naive.h"

enum { GUARD = 64, GUARD_BYTE = 0xff };

static const char *const input_kind_name[INPUT_KINDS] = {"uniform", "tiny", "huge", "all equal", "outlier"};

/* ---- cases ----------------------------------------------------------------------------------- */

int case_add(Case *c, const char *name, Role role, DType dtype, int rank, const int64_t *dim)
{
    assert_true(c->n < CASE_ARGS);
    Operand *a = &c->arg[c->n];
    *a = (Operand){.name = name, .role = role, .dtype = dtype, .rank = rank, .count = 1, .low = -1, .high = 1};
    for (int i = 0; i < rank; i++) {
        a->dim[i] = dim[i];
        a->count *= dim[i];
    }
    return c->n++;
}

void case_range(Case *c, int operand, double low, double high)
{
    c->arg[operand].low = low;
    c->arg[operand].high = high;
}

void case_in_place(Case *c, int output, int input)
{
    c->pair[c->pairs][0] = output;
    c->pair[c->pairs++][1] = input;
}

static int is_float(DType t)
{
    return t == ACT || dtype_is_float(t);
}

static int is_input(const Operand *a)
{
    return a->role != OUT;
}

static int is_output(const Operand *a)
{
    return a->role == OUT || a->role == INOUT;
}

/* ---- values ---------------------------------------------------------------------------------- */

static void *grab(int64_t count, size_t size)
{
    void *p = calloc((size_t)(count > 0 ? count : 1), size);
    assert_non_null(p);
    return p;
}

void ops_draw(double *out, int64_t n, double low, double high, uint64_t stream)
{
    Philox p = philox_stream(check_seed(), RNG_TEST, 0, stream);
    for (int64_t i = 0; i < n; i++)
        out[i] = low + (high - low) * philox_uniform(&p, (uint64_t)i);
}

static double rounded(DType dtype, double value)
{
    double room;
    if (dtype == DT_F64)
        return value;
    if (dtype == DT_F32)
        return (float)value;
    if (!dtype_is_float(dtype))
        return floor(value);
    Tensor one = tensor_of(&room, dtype, 1, 1);
    tensor_set(&one, 0, value);
    return tensor_get(&one, 0);
}

double ops_bf16(double value)
{
    return rounded(DT_BF16, value);
}

int ops_set(Backend *be, const Tensor *t, double value, Err *err)
{
    double room;
    Tensor one = tensor_of(&room, t->dtype, 1, 1);
    tensor_set(&one, 0, value);
    return be->upload(be, t->data, &room, dtype_size(t->dtype), err);
}

static void draw_operand(double *out, const Operand *a, InputKind input_kind, double huge, uint64_t stream)
{
    ops_draw(out, a->count, a->low, a->high, stream);
    int drawn = a->role == IN && is_float(a->dtype);
    for (int64_t i = 0; i < a->count; i++) {
        if (drawn && input_kind == TINY)
            out[i] *= 1e-18;
        else if (drawn && input_kind == HUGE_VALUES)
            out[i] *= huge;
        else if (drawn && input_kind == ALL_EQUAL)
            out[i] = out[0];
        else if (drawn && input_kind == OUTLIER && i == a->count / 3)
            out[i] = out[i] < 0 ? -1e4 : 1e4;
        out[i] = rounded(a->dtype, out[i]);
    }
}

static int64_t room_for(const Operand *a) /* operands as tensors of ref in double */
{
    return is_float(a->dtype) ? a->count * (int64_t)sizeof(double) : a->count * dtype_size(a->dtype);
}

static void put(const Tensor *t, const double *value)
{
    for (int64_t i = 0, n = tensor_count(t); i < n; i++) {
        if (t->dtype == DT_I32)
            ((int32_t *)t->data)[i] = (int32_t)value[i];
        else
            ref_set(t, i, value[i]);
    }
}

/* ---- the double reference -------------------------------------------------------------------- */

static Backend *open_backend(const char *name, int64_t threads)
{
    Backend *be = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, name, threads, NULL, &err), &err);
    return be;
}

Backend *ops_double(void)
{
    static Backend *be;
    if (!be) {
        be = open_backend("ref", 1);
        be->act = DT_F64;
    }
    return be;
}

void ops_run_double(const Case *c, double *const *value)
{
    Tensor t[CASE_ARGS];
    Err err = {0};
    for (int k = 0; k < c->n; k++) {
        const Operand *a = &c->arg[k];
        t[k] = tensor_view(grab(room_for(a), 1), is_float(a->dtype) ? DT_F64 : a->dtype, a->rank, a->dim);
        if (is_input(a))
            put(&t[k], value[k]);
        else
            memset(t[k].data, GUARD_BYTE, (size_t)tensor_bytes(&t[k]));
    }
    CHECK_OK(c->call(ops_double(), t, c, &err), &err);
    for (int k = 0; k < c->n; k++) {
        for (int64_t i = 0; is_output(&c->arg[k]) && i < c->arg[k].count; i++)
            value[k][i] = ref_get(&t[k], i);
        free(t[k].data);
    }
}

/* L = sum of r y over the chosen outputs, from inputs `value` (which stay). */
static double weighed(const Case *c, double *const *value, unsigned out, double *const *r)
{
    double *copy[CASE_ARGS], sum = 0;
    for (int k = 0; k < c->n; k++) {
        copy[k] = grab(c->arg[k].count, sizeof(double));
        if (is_input(&c->arg[k]))
            memcpy(copy[k], value[k], (size_t)c->arg[k].count * sizeof(double));
    }
    ops_run_double(c, copy);
    for (int k = 0; k < c->n; k++) {
        for (int64_t i = 0; (out >> k & 1) && i < c->arg[k].count; i++)
            sum += r[k][i] * copy[k][i];
        free(copy[k]);
    }
    return sum;
}

void ops_differences(const Case *c, double *const *value, unsigned out, double *const *r, double **grad)
{
    /* truncation h^4 of a fifth derivative, cancellation 1e-16/h: about 1e-11 for values of size 1 */
    const double h = 1e-4;
    for (int k = 0; k < c->n; k++)
        for (int64_t i = 0; grad[k] && i < c->arg[k].count; i++) {
            const double keep = value[k][i], step[4] = {1, -1, 2, -2}, part[4] = {8, -8, -1, 1};
            double slope = 0;
            for (int s = 0; s < 4; s++) {
                value[k][i] = keep + step[s] * h;
                slope += part[s] * weighed(c, value, out, r);
            }
            value[k][i] = keep;
            grad[k][i] = slope / (12 * h);
        }
}

/* ---- one call on one back end, between guards ------------------------------------------------ */

typedef struct Block {
    char *dev, *host;
    int64_t bytes, at;
    int shared;
} Block; /* tensor bytes lie at `at` */

static Block block_new(Backend *be, const Operand *a, InputKind input_kind, const double *value, Tensor *t)
{
    Err err = {0};
    int askew = be->host ? a->role == WEIGHT : input_kind != UNIFORM;
    Block b = {.at = GUARD + (askew ? dtype_size(a->dtype) : 0)};
    int64_t size = a->count * dtype_size(a->dtype);
    b.bytes = b.at + size + GUARD;
    b.host = grab(b.bytes, 1);
    memset(b.host, GUARD_BYTE, (size_t)b.bytes);
    if (is_input(a)) { /* filled through a copy at an aligned address */
        Tensor fill = tensor_view(grab(size, 1), a->dtype, a->rank, a->dim);
        put(&fill, value);
        memcpy(b.host + b.at, fill.data, (size_t)size);
        free(fill.data);
    }
    void *p = NULL;
    CHECK_OK(be->alloc(be, b.bytes, &p, &err), &err);
    b.dev = p;
    CHECK_OK(be->upload(be, b.dev, b.host, b.bytes, &err), &err);
    *t = tensor_view(b.dev + b.at, a->dtype, a->rank, a->dim);
    return b;
}

/* Downloads; guards must be whole, and an input the same. */
static void block_check(Backend *be, const char *what, Block *b, const Operand *a, int written)
{
    Err err = {0};
    char *back = grab(b->bytes, 1);
    CHECK_OK(be->download(be, back, b->dev, b->bytes, &err), &err);
    int64_t end = b->bytes - GUARD;
    int same = written ? !memcmp(back, b->host, (size_t)b->at) && !memcmp(back + end, b->host + end, GUARD)
                       : !memcmp(back, b->host, (size_t)b->bytes);
    for (int64_t i = 0; !same && i < b->bytes; i++)
        if ((i < b->at || i >= end || !written) && back[i] != b->host[i])
            fail_msg("%s: %s: byte %lld of %lld changed (the tensor lies at %lld..%lld)", what, a->name, (long long)i,
                     (long long)b->bytes, (long long)b->at, (long long)end);
    memcpy(b->host, back, (size_t)b->bytes);
    free(back);
}

static void block_free(Backend *be, Block *b)
{
    if (!b->shared) {
        be->release(be, b->dev);
        free(b->host);
    }
}

typedef struct Inputs {
    double *value[CASE_ARGS], *want[CASE_ARGS], *bound[CASE_ARGS];
    /* of each output: the naive version's error and a correct rounding's, as L2; devices only */
    double naive[CASE_ARGS], least[CASE_ARGS];
    int has_naive;
    NaiveRan ran; /* the entries that the call made */
} Inputs;

static void compare(const char *what, const Operand *a, const Tensor *got, const double *want, const double *bound)
{
    int64_t worst = -1;
    double most = 1;
    for (int64_t i = 0; i < a->count; i++) {
        double value = ref_get(got, i), nearest = rounded(a->dtype, want[i]);
        if (value == nearest)
            continue;
        double off = fabs(value - want[i]) / (bound[i] + (bound[i] > 0 ? fabs(nearest - want[i]) : 0) + 1e-300);
        if (!(off <= most)) {
            worst = i;
            most = isnan(off) ? INFINITY : off;
        }
    }
    if (worst >= 0)
        fail_msg("%s: %s[%lld] is %.9g, wanted %.9g: off by %.3g, the bound is %.3g", what, a->name, (long long)worst,
                 tensor_get(got, worst), want[worst], fabs(tensor_get(got, worst) - want[worst]), bound[worst]);
}

/* ---- devices: the naive version as yardstick, and what each op has met ----------------------- */

enum { MEETINGS = 2 * SIM_SCHEDULES }; /* schedule + SIM_SCHEDULES * eager */
typedef struct Seen {
    const char *op;
    int64_t runs, meetings[MEETINGS];
    double worst; /* error over the naive version's */
    char where[384];
} Seen;
static Seen seen[NAIVE_OPS];

static Seen *seen_of(const char *op)
{
    int i = 0;
    while (seen[i].op && strcmp(seen[i].op, op) != 0)
        i++;
    assert_true(i < NAIVE_OPS);
    seen[i].op = op;
    return &seen[i];
}

static double distance(const Tensor *got, const double *want)
{
    double sum = 0;
    for (int64_t i = 0, n = tensor_count(got); i < n; i++) {
        double off = ref_get(got, i) - want[i];
        if (ref_get(got, i) != want[i]) /* an infinity that is wanted is no distance */
            sum += off * off;
    }
    return sqrt(sum);
}

static void compare_with_naive(const char *what, const Operand *a, const Tensor *got, const Inputs *in, int k)
{
    double off = distance(got, in->want[k]), size = 0;
    for (int64_t i = 0; i < a->count; i++)
        size += in->want[k][i] * in->want[k][i];
    if (!(off <= fmax(2 * in->naive[k], in->least[k])))
        fail_msg("%s: %s is %.3e from exact (relative L2), a naive bf16 version %.3e, the rounding of the result at "
                 "most %.3e",
                 what, a->name, off / sqrt(size), in->naive[k] / sqrt(size), in->least[k] / sqrt(size));
    for (int i = 0; i < NAIVE_OPS && in->ran.op[i]; i++) {
        Seen *s = seen_of(in->ran.op[i]);
        if (off > s->worst * in->naive[k] && in->naive[k] > 0) {
            s->worst = off / in->naive[k];
            snprintf(s->where, sizeof s->where, "%s, %s[%lld]", what, a->name, (long long)a->count);
        }
    }
}

/* Half a unit in the last place of each element. */
static double least_error(const Operand *a, const double *want)
{
    const int digits = a->dtype == DT_BF16 ? 8 : a->dtype == DT_F16 ? 11 : a->dtype == DT_F32 ? 24 : 53;
    double sum = 0;
    for (int64_t i = 0; i < a->count; i++)
        if (isfinite(want[i]) && want[i] != 0)
            sum += pow(fmax(FLT_MIN, ldexp(0.5, ilogb(want[i]) + 1 - digits)), 2);
    return sqrt(sum);
}

/* The call on the naive back end; out[k] (NULL: not wanted) receives outputs. */
static void run_naive(const Case *c, double *const *value, NaiveRan *into, Tensor t[CASE_ARGS])
{
    Backend *be = naive_open(into);
    Err err = {0};
    assert_non_null(be);
    if (naive_lacks() >= 0)
        fail_msg("entry number %d of the ops table has no version in tests/ops/naive.c", naive_lacks());
    for (int k = 0; k < c->n; k++) {
        const Operand *a = &c->arg[k];
        size_t size = (size_t)dtype_size(a->dtype);
        /* calloc may write to all of it */
        t[k] = tensor_view(into->names_only ? malloc((size_t)a->count * size) : grab(a->count, size), a->dtype, a->rank,
                           a->dim);
        if (is_input(a) && !into->names_only)
            put(&t[k], value[k]);
    }
    CHECK_OK(c->call(be, t, c, &err), &err);
    naive_open(NULL);
}

static void measure_naive(const Case *c, Inputs *in)
{
    Tensor t[CASE_ARGS];
    run_naive(c, in->value, &in->ran, t);
    in->has_naive = 1;
    for (int k = 0; k < c->n; k++) {
        const Operand *a = &c->arg[k];
        if (is_output(a)) {
            double most = 0;
            /* the naive version's rounding to nearest is no yardstick for it */
            const int stochastic = c->stochastic >> k & 1;
            in->naive[k] = stochastic ? 0 : distance(&t[k], in->want[k]);
            in->least[k] = least_error(a, in->want[k]) * (stochastic ? 2 : 1);
            for (int64_t i = 0; i < a->count; i++)
                most = fmax(most, fabs(tensor_get(&t[k], i) - in->want[k][i]));
            for (int64_t i = 0; c->rounds_inside && i < a->count; i++)
                in->bound[k][i] += 2 * most;
        }
        free(t[k].data);
    }
}

/* ---- one call -------------------------------------------------------------------------------- */

/* pair: {output, input} to share memory, or NULL.  bits: a copy of every output's bytes, made or
 * compared. */
static void run_on(Backend *be, const char *label, const Case *c, InputKind input_kind, const int *pair,
                   const Inputs *in, char **bits)
{
    Block block[CASE_ARGS];
    Tensor t[CASE_ARGS];
    Err err = {0};
    char what[256];
    snprintf(what, sizeof what, "%s, %s, %s%s", c->name, label, input_kind_name[input_kind], pair ? ", in place" : "");
    for (int k = 0; k < c->n; k++)
        block[k] = block_new(be, &c->arg[k], input_kind, in->value[k], &t[k]);
    if (pair) {
        block_free(be, &block[pair[0]]);
        block[pair[0]] = block[pair[1]];
        block[pair[0]].shared = 1;
        t[pair[0]].data = t[pair[1]].data;
    }
    int rc = c->call(be, t, c, &err);
    if (rc < 0)
        fail_msg("%s: %s", what, err.msg);
    for (int k = 0; k < c->n; k++)
        if (!block[k].shared)
            block_check(be, what, &block[k], &c->arg[k], is_output(&c->arg[k]) || (pair && k == pair[1]));
    for (int k = 0; k < c->n; k++) {
        const Operand *a = &c->arg[k];
        int64_t size = a->count * dtype_size(a->dtype);
        if (!is_output(a))
            continue;
        char *bytes = block[k].shared ? block[pair[1]].host + block[pair[1]].at : block[k].host + block[k].at;
        Tensor got = tensor_view(grab(size, 1), a->dtype, a->rank, a->dim); /* at an aligned address */
        memcpy(got.data, bytes, (size_t)size);
        compare(what, a, &got, in->want[k], in->bound[k]);
        if (!be->host && in->has_naive)
            compare_with_naive(what, a, &got, in, k);
        free(got.data);
        if (bits && !bits[k])
            memcpy(bits[k] = grab(size, 1), bytes, (size_t)size);
        else if (bits && memcmp(bits[k], bytes, (size_t)size) != 0)
            fail_msg("%s: %s: the bits differ from the run before: they depend on threads or their order", what,
                     a->name);
    }
    for (int k = 0; k < c->n; k++)
        block_free(be, &block[k]);
}

/* ---- bounds ---------------------------------------------------------------------------------- */

/* factor roundings of the output's magnitude: the same call on absolute values; FLT_MIN for what
 * underflows. */
static void bound_by_magnitude(const Case *c, double *const *value, double **bound)
{
    double *absolute[CASE_ARGS];
    for (int k = 0; k < c->n; k++) {
        absolute[k] = grab(c->arg[k].count, sizeof(double));
        for (int64_t i = 0; is_input(&c->arg[k]) && i < c->arg[k].count; i++)
            absolute[k][i] = fabs(value[k][i]);
    }
    if (c->factor > 0)
        ops_run_double(c, absolute);
    for (int k = 0; k < c->n; k++) {
        for (int64_t i = 0; c->factor > 0 && is_output(&c->arg[k]) && i < c->arg[k].count; i++)
            bound[k][i] = c->factor * (ROUNDOFF * absolute[k][i] + FLT_MIN);
        free(absolute[k]);
    }
}

static Case with_act(const Case *c, DType act)
{
    Case typed = *c;
    for (int k = 0; k < c->n; k++)
        if (c->arg[k].dtype == ACT)
            typed.arg[k].dtype = act;
    return typed;
}

/* ---- what the front end must refuse ---------------------------------------------------------- */

static void expect_refusal(Backend *be, const Case *c, const Tensor *t, int k, const char *spoiled)
{
    Err err = {0};
    int rc = c->call(be, t, c, &err);
    if (rc != ERR_USAGE)
        fail_msg("%s: accepted with %s %s (%d %s)", c->name, c->arg[k].name, spoiled, rc, err.msg);
}

static int may_share(const Case *c, int output, int input)
{
    for (int i = 0; i < c->pairs; i++)
        if (c->pair[i][0] == output && c->pair[i][1] == input)
            return 1;
    return 0;
}

static void check_refusals(Backend *be, const Case *c)
{
    Tensor good[CASE_ARGS], t[CASE_ARGS];
    for (int k = 0; k < c->n; k++)
        good[k] = tensor_view(grab(2 * c->arg[k].count + 8, 8), c->arg[k].dtype, c->arg[k].rank, c->arg[k].dim);
    for (int k = 0; k < c->n; k++) {
        const Operand *a = &c->arg[k];
        int last = a->rank - 1;
        if (a->dtype == DT_F64)
            continue;
        memcpy(t, good, sizeof t);
        t[k].dtype = DT_U8;
        expect_refusal(be, c, t, k, "as U8");
        t[k] = good[k];
        t[k].dim[last]++;
        if (!(c->any_shape >> k & 1))
            expect_refusal(be, c, t, k, "one column wider");
        t[k] = good[k];
        if (!(c->any_shape >> k & 1) && last > 0 && a->dim[last - 1] > 1) {
            t[k].dim[last - 1] *= t[k].dim[last];
            t[k].rank--;
            expect_refusal(be, c, t, k, "of one axis less");
            t[k] = good[k];
        }
        for (int j = 0; is_output(a) && j < c->n; j++) {
            if (j == k || c->arg[j].dtype == DT_F64 || (may_share(c, k, j) && a->count == 1))
                continue;
            t[k].data = (char *)good[j].data + (may_share(c, k, j) ? dtype_size(a->dtype) : 0);
            expect_refusal(be, c, t, k, "overlapping another operand");
        }
    }
    for (int k = 0; k < c->n; k++)
        free(good[k].data);
}

/* ---- the whole case -------------------------------------------------------------------------- */

static Inputs inputs_of(const Case *c, InputKind input_kind, int naive)
{
    Inputs in = {0};
    for (int k = 0; k < c->n; k++) {
        in.value[k] = grab(c->arg[k].count, sizeof(double));
        in.want[k] = grab(c->arg[k].count, sizeof(double));
        in.bound[k] = grab(c->arg[k].count, sizeof(double));
        if (is_input(&c->arg[k]))
            draw_operand(in.value[k], &c->arg[k], input_kind, c->huge > 0 ? c->huge : 1e15,
                         (uint64_t)(input_kind * CASE_ARGS + k));
        memcpy(in.want[k], in.value[k], (size_t)c->arg[k].count * sizeof(double));
    }
    ops_run_double(c, in.want);
    if (c->bound)
        c->bound(c, in.value, in.want, in.bound);
    else
        bound_by_magnitude(c, in.value, in.bound);
    if (naive)
        measure_naive(c, &in);
    return in;
}

static void inputs_free(Inputs *in, int n)
{
    for (int k = 0; k < n; k++) {
        free(in->value[k]);
        free(in->want[k]);
        free(in->bound[k]);
    }
}

static void run_on_hosts(const Case *c, InputKind input_kind, const int *pair, const Inputs *in, char **bits)
{
    static Backend *ref, *cpu1, *cpu2; /* open until exit */
    if (!ref) {
        ref = open_backend("ref", 1);
        cpu1 = open_backend("cpu", 1);
        cpu2 = open_backend("cpu", 2);
    }
    run_on(ref, "ref", c, input_kind, pair, in, NULL);
    run_on(cpu1, "cpu on 1 thread", c, input_kind, pair, in, bits);
    run_on(cpu2, "cpu on 2 threads", c, input_kind, pair, in, bits);
}

static int asked_for(const char *variable)
{
    const char *value = getenv(variable);
    return value && strcmp(value, "1") == 0;
}

int ops_listing(void)
{
    return asked_for("WEFT_OPS_LIST");
}

/* All four schedules.  capability: 80 or 90, the device's. */
static void run_on_sim(const Case *c, InputKind input_kind, const int *pair, const Inputs *in, int capability,
                       char **bits)
{
    static const char *const names[] = {"sim, ascending", "sim, descending", "sim, random", "sim, greedy"};
    static Backend *sims[2];
    static unsigned turn;
    Backend **sim = &sims[capability == 90];
    if (SLOW_FIBERS)
        return;
    for (int runs = 0; runs < SIM_SCHEDULES; runs++, turn++) {
        const int schedule = (int)turn % SIM_SCHEDULES;
        const int64_t *met = in->ran.op[0] ? seen_of(in->ran.op[0])->meetings : NULL;
        /* what it met less often */
        const int eager = met ? met[schedule] > met[schedule + SIM_SCHEDULES] : (int)(turn / SIM_SCHEDULES) % 2;
        const SimConfig config = {(SimSchedule)schedule, turn, eager, (int)turn % 3, capability};
        sim_configure(&config);
        sim_clear();
        if (!*sim)
            *sim = open_backend("sim", 1);
        run_on(*sim, names[schedule], c, input_kind, pair, in, bits);
        for (int i = 0; i < NAIVE_OPS && in->ran.op[i]; i++) {
            Seen *s = seen_of(in->ran.op[i]);
            s->runs++;
            s->meetings[schedule + SIM_SCHEDULES * eager]++;
        }
    }
}

static void run_on_cuda(const Case *c, InputKind input_kind, const int *pair, const Inputs *in, char **bits)
{
    static Backend *cuda;
    if (!asked_for("WEFT_TEST_CUDA"))
        return;
    if (!cuda)
        cuda = open_backend("cuda", 1);
    char *again[CASE_ARGS] = {0};
    (void)bits; /* sim's sums run in another order */
    for (int runs = 0; runs < 2; runs++)
        run_on(cuda, "cuda", c, input_kind, pair, in, again);
    for (int k = 0; k < c->n; k++)
        free(again[k]);
}

static int has_act(const Case *c)
{
    for (int k = 0; k < c->n; k++)
        if (c->arg[k].dtype == ACT)
            return 1;
    return 0;
}

/* c with its ACT operands made `act`; on host back ends, devices or both. */
static void check_input_kind(const Case *c, InputKind input_kind, DType act, int hosts, int devices)
{
    Case typed = with_act(c, act);
    Inputs in = inputs_of(&typed, input_kind, devices && (act == DT_BF16 || !has_act(c)));
    for (int v = -1; v < c->pairs; v++) {
        const int *pair = v < 0 ? NULL : c->pair[v];
        char *bits[3][CASE_ARGS] = {0};
        if (hosts)
            run_on_hosts(&typed, input_kind, pair, &in, bits[0]);
        if (devices) {
            run_on_sim(&typed, input_kind, pair, &in, 80, bits[1]);
            if (c->warpgroups)
                run_on_sim(&typed, input_kind, pair, &in, 90, bits[2]);
            run_on_cuda(&typed, input_kind, pair, &in, bits[1]);
        }
        for (int k = 0; k < c->n; k++) {
            free(bits[0][k]);
            free(bits[1][k]);
            free(bits[2][k]);
        }
    }
    inputs_free(&in, c->n);
}

static void list_entries(const Case *c)
{
    Case typed = with_act(c, DT_BF16);
    Tensor t[CASE_ARGS];
    NaiveRan names = {.names_only = 1};
    run_naive(&typed, NULL, &names, t);
    for (int i = 0; names.op[i]; i++)
        seen_of(names.op[i]);
    for (int k = 0; k < c->n; k++)
        free(t[k].data);
}

void ops_check(const Case *c)
{
    static Backend *ref; /* open until exit */
    if (ops_listing()) {
        list_entries(c);
        return;
    }
    if (!ref)
        ref = open_backend("ref", 1);
    if (!c->composite) {
        Case typed = with_act(c, DT_F32);
        check_refusals(ref, &typed);
    }
    unsigned input_kinds = c->input_kinds ? c->input_kinds : (1u << INPUT_KINDS) - 1,
             few = 1u << UNIFORM | 1u << OUTLIER;
    unsigned on_devices = asked_for("WEFT_SIM_FULL") || !(input_kinds & few) ? input_kinds : input_kinds & few;
    int half = has_act(c);
    for (InputKind input_kind = 0; input_kind < INPUT_KINDS; input_kind++) {
        int device = on_devices >> input_kind & 1;
        if (input_kinds >> input_kind & 1)
            check_input_kind(c, input_kind, DT_F32, 1, device && (!half || c->f32_too));
        if (device && half)
            check_input_kind(c, input_kind, DT_BF16, 0, 1);
    }
}

void ops_summary(void **state)
{
    int list = ops_listing();
    (void)state;
    for (int i = 0; i < NAIVE_OPS && seen[i].op; i++) {
        const Seen *s = &seen[i];
        if (list)
            printf("op %s\n", s->op);
        else
            print_message("%s: %lld runs on sim, at most %.2f of a naive bf16 version's error (%s)\n", s->op,
                          (long long)s->runs, s->worst, s->where[0] ? s->where : "exact");
        for (int m = 0; m < MEETINGS && !list && !SLOW_FIBERS; m++)
            if (!s->meetings[m])
                fail_msg("%s never ran on sim under schedule %d with %s streams", s->op, m % SIM_SCHEDULES,
                         m < SIM_SCHEDULES ? "lazy" : "eager");
    }
}
