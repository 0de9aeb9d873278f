/* The optimiser's state: memory, ranges of the flat arena, parts for checkpoints, and that 8-bit
 * moments learn like exact ones. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/model/dit.h"
#include "train/optimizer.h"
#include "dit_2b.h"

static Err err;

/* Parameters of many sizes, among them 4095 and 4096 elements and ends within a block. */
typedef struct Case {
    Backend *be;
    ParamSet params;
} Case;

static void case_open_as(Case *k, const char *backend, int64_t large, DType values)
{
    static const int64_t size[] = {1, 17, 4095, 4096, 4097, 5000, 8191};

    memset(k, 0, sizeof *k);
    CHECK_OK(backend_open(&k->be, backend, 2, NULL, &err), &err);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        CHECK_OK(params_addf(&k->params, 0, 1, (int64_t[]){size[i]}, &err, "p%zu", i), &err);
    CHECK_OK(params_addf(&k->params, 0, 1, (int64_t[]){large}, &err, "q"), &err);
    CHECK_OK(params_finish(&k->params, &err), &err);
    k->params.values = values;
    CHECK_OK(params_fill(&k->params, k->be, &err), &err);
    CHECK_OK(params_alloc_grads(&k->params, &err), &err);
}

static void case_open(Case *k, const char *backend, int64_t large)
{
    case_open_as(k, backend, large, DT_F32);
}

static void case_close(Case *k)
{
    params_fini(&k->params);
    backend_close(&k->be);
}

/* Gradients of step `step`; the gaps between parameters stay zero. */
static void draw_gradients(Case *k, int64_t step)
{
    for (int64_t i = 0; i < k->params.n; i++) {
        Philox rng = philox_stream(1, RNG_TEST, (uint64_t)step, (uint64_t)i);
        Tensor t = k->params.param[i].grad;
        float *host = mem_calloc(tensor_count(&t), sizeof *host, &err);
        philox_fill_normal(&rng, 0, host, tensor_count(&t));
        CHECK_OK(backend_put_f32(k->be, &t, host, &err), &err);
        mem_free(host);
    }
}

static OptimizerConfig config(OptimizerKind kind)
{
    return (OptimizerConfig){
        .kind = kind, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .momentum = 0.9, .weight_decay = 1e-2, .seed = 5};
}

/* Updates with n optimisers, one for each range between cuts near equal parts. */
static void update(Case *k, OptimizerKind kind, int n, int steps, float *values)
{
    Optimizer o[5];
    OptimizerConfig c = config(kind);
    Tensor grads = params_flat_grads(&k->params), flat = params_flat_values(&k->params);
    int64_t at = 0;

    for (int i = 0; i < n; i++) {
        int64_t end = i + 1 < n ? optimizer_cut(&k->params, &c, k->params.flat * (i + 1) / n) : k->params.flat;
        int64_t before = k->be->allocated;
        CHECK_OK(optimizer_init(&o[i], k->be, &k->params, &c, at, end - at, &err), &err);
        assert_int_equal(k->be->allocated - before, optimizer_bytes(&k->params, &c, at, end - at));
        at = end;
    }
    for (int step = 1; step <= steps; step++) {
        draw_gradients(k, step);
        for (int i = 0; i < n; i++) {
            Tensor g = tensor_rows(&grads, o[i].first, o[i].n);
            CHECK_OK(optimizer_step(&o[i], &g, step, 1e-2, 0.5, &err), &err);
        }
    }
    for (int i = 0; i < n; i++)
        optimizer_fini(&o[i]);
    CHECK_OK(backend_get_f32(k->be, values, &flat, &err), &err);
}

/* One range or five: the same bits, for each optimiser, on the simulated device too, and where weights
 * without masters are rounded stochastically. */
static void ranges_add_up(void **state)
{
    static const char *const backend[] = {"cpu", "sim", "cpu"};

    (void)state;
    for (int b = 0; b < 3; b++)
        for (int kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_SGD; kind++) {
            float *values[3] = {NULL};
            for (int i = 0; i < 3; i++) {
                Case k;
                case_open_as(&k, backend[b], 10000, b < 2 ? DT_F32 : DT_BF16);
                values[i] = mem_calloc(k.params.flat, sizeof(float), &err);
                update(&k, (OptimizerKind)kind, i == 0 ? 1 : i == 1 ? 2 : 5, 3, values[i]);
                if (i > 0)
                    assert_memory_equal(values[0], values[i], sizeof(float) * (size_t)k.params.flat);
                case_close(&k);
            }
            for (int i = 0; i < 3; i++)
                mem_free(values[i]);
        }
}

static void cuts(void **state)
{
    Case k;
    OptimizerConfig c = config(OPTIMIZER_ADAMW_8BIT);
    Optimizer o;
    int64_t p3 = 16 + 32 + 4096; /* where the first parameter of 4096 elements starts */

    (void)state;
    case_open(&k, "cpu", 10000);
    assert_int_equal(optimizer_cut(&k.params, &c, 0), 0);
    assert_int_equal(optimizer_cut(&k.params, &c, 100), 96);
    assert_int_equal(optimizer_cut(&k.params, &c, p3), p3);
    assert_int_equal(optimizer_cut(&k.params, &c, p3 + 255), p3);
    assert_int_equal(optimizer_cut(&k.params, &c, p3 + 300), p3 + 256);
    c.kind = OPTIMIZER_ADAMW;
    assert_int_equal(optimizer_cut(&k.params, &c, p3 + 300), p3 + 288);
    c.kind = OPTIMIZER_ADAMW_8BIT;
    CHECK_FAILS(optimizer_init(&o, k.be, &k.params, &c, 0, p3 + 16, &err), ERR_USAGE, "cannot be cut", &err);
    case_close(&k);
}

/* Copies o's parts into `to`, whose parts must have the same names, types and shapes. */
static void copy_parts(const Optimizer *o, const Optimizer *to)
{
    assert_int_equal(optimizer_parts(o), optimizer_parts(to));
    for (int64_t i = 0; i < optimizer_parts(o); i++) {
        OptimizerPart a = optimizer_part(o, i), b = optimizer_part(to, i);
        assert_string_equal(a.kind, b.kind);
        assert_ptr_equal(a.param, b.param);
        assert_true(tensor_same_shape(&a.whole, &b.whole) && a.whole.dtype == b.whole.dtype);
        if (b.n) { /* `o` holds all of it */
            assert_int_equal(a.n, tensor_count(&a.whole));
            memcpy(b.data, (const char *)a.data + b.first * dtype_size(a.whole.dtype),
                   (size_t)(b.n * dtype_size(a.whole.dtype)));
        }
    }
}

/* State copied part by part into optimisers of other ranges goes on with the same bits. */
static void parts_are_all_of_the_state(void **state)
{
    (void)state;
    for (int kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_SGD; kind++) {
        Case k;
        OptimizerConfig c = config((OptimizerKind)kind);
        Optimizer o, half[2];
        Tensor grads, flat;
        int64_t at, bytes = 0;
        float *before, *want, *got;

        case_open(&k, "cpu", 10000);
        before = mem_calloc(3 * k.params.flat, sizeof(float), &err);
        want = before + k.params.flat;
        got = want + k.params.flat;
        grads = params_flat_grads(&k.params);
        flat = params_flat_values(&k.params);
        at = optimizer_cut(&k.params, &c, k.params.flat / 2);
        CHECK_OK(optimizer_init(&o, k.be, &k.params, &c, 0, k.params.flat, &err), &err);
        CHECK_OK(optimizer_init(&half[0], k.be, &k.params, &c, 0, at, &err), &err);
        CHECK_OK(optimizer_init(&half[1], k.be, &k.params, &c, at, k.params.flat - at, &err), &err);
        draw_gradients(&k, 1);
        CHECK_OK(optimizer_step(&o, &grads, 1, 1e-2, 1, &err), &err);
        for (int64_t i = 0; i < optimizer_parts(&o); i++) {
            Tensor whole = optimizer_part(&o, i).whole;
            bytes += tensor_bytes(&whole);
        }
        assert_int_equal(bytes, optimizer_file_bytes(&k.params, &c));
        copy_parts(&o, &half[0]);
        copy_parts(&o, &half[1]);
        CHECK_OK(backend_get_f32(k.be, before, &flat, &err), &err);
        CHECK_OK(optimizer_step(&o, &grads, 2, 1e-2, 1, &err), &err);
        CHECK_OK(backend_get_f32(k.be, want, &flat, &err), &err);
        CHECK_OK(backend_put_f32(k.be, &flat, before, &err), &err);
        for (int i = 0; i < 2; i++) {
            Tensor g = tensor_rows(&grads, half[i].first, half[i].n);
            CHECK_OK(optimizer_step(&half[i], &g, 2, 1e-2, 1, &err), &err);
            optimizer_fini(&half[i]);
        }
        CHECK_OK(backend_get_f32(k.be, got, &flat, &err), &err);
        assert_memory_equal(want, got, sizeof(float) * (size_t)k.params.flat);
        optimizer_fini(&o);
        mem_free(before);
        case_close(&k);
    }
}

/* 8-bit moments take at most 0.27 of fp32's, with the room for restored ones: with one large parameter
 * among small ones, and with CogVideoX-2B's. */
static void memory(void **state)
{
    static const DitConfig large = DIT_2B(30);
    Case k;
    Dit *dit = NULL;
    const ParamSet *ps;
    OptimizerConfig exact = config(OPTIMIZER_ADAMW), small = config(OPTIMIZER_ADAMW_8BIT);
    double ratio;

    (void)state;
    case_open(&k, "plan", 1 << 28);
    ratio = (double)optimizer_bytes(&k.params, &small, 0, k.params.flat) /
            (double)optimizer_bytes(&k.params, &exact, 0, k.params.flat);
    assert_true(ratio > 0.25 && ratio < 0.27);
    CHECK_OK(dit_new_filled(&dit, k.be, &large, 0, &err), &err);
    ps = dit_params(dit);
    ratio = (double)optimizer_bytes(ps, &small, 0, ps->flat) / (double)optimizer_bytes(ps, &exact, 0, ps->flat);
    print_message("# CogVideoX-2B: %.3f GB of moments in fp32, %.3f GB in 8 bits: %.4f\n",
                  (double)optimizer_bytes(ps, &exact, 0, ps->flat) / 1e9,
                  (double)optimizer_bytes(ps, &small, 0, ps->flat) / 1e9, ratio);
    assert_true(ratio > 0.25 && ratio < 0.27);
    dit_close(&dit);
    case_close(&k);
}

static void names(void **state)
{
    OptimizerKind kind;

    (void)state;
    CHECK_OK(optimizer_kind(&kind, "adamw", 1, &err), &err);
    assert_int_equal(kind, OPTIMIZER_ADAMW_8BIT);
    CHECK_OK(optimizer_kind(&kind, "sgd", 0, &err), &err);
    assert_int_equal(kind, OPTIMIZER_SGD);
    CHECK_FAILS(optimizer_kind(&kind, "sgd", 1, &err), ERR_USAGE, "use_8bit_adam", &err);
    CHECK_FAILS(optimizer_kind(&kind, "lion", 0, &err), ERR_USAGE, "'lion'; there are adamw and sgd", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ranges_add_up), cmocka_unit_test(cuts),
                                       cmocka_unit_test(parts_are_all_of_the_state), cmocka_unit_test(memory),
                                       cmocka_unit_test(names)};

    return check_run_live("train-optimizer", tests);
}
