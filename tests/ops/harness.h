/* One list of cases an op, run on every back end present.
 *
 * A Case names the operands of one call (type, shape, role) and how to make the call; operands of
 * type ACT have the back end's type of activations.  ops_check() then, for each kind of input:
 *   1. draws the inputs, rounded to their types;
 *   2. computes the wanted outputs on ref in double throughout (be->act = F64);
 *   3. works out a bound for every output element (c->bound, or c->factor roundings of the sum of
 *   the terms' magnitudes,
 *      found by making the same call on absolute values);
 *   4. calls ref, cpu on one thread and cpu on two: outputs within the bound, bits equal on one
 *   thread and two, guard zones
 *      around every tensor and all inputs unchanged.  Outputs start as NaN and guards read as NaN:
 *      what is not written or is read from outside shows.  Weights lie at addresses aligned to
 *      their element only, as in a mapped file;
 *   5. does the same once more for each in-place pairing;
 * and once a case it spoils one operand at a time (an impossible type, one column more, one axis
 * less, memory shared with an output where that is not allowed): the front end must refuse each
 * with ERR_USAGE before anything is computed.
 *
 * Devices (sim; cuda with WEFT_TEST_CUDA=1) run the same cases with bf16 activations, on two kinds of input,
 * the second with all tensors at addresses aligned to their element only.  Their outputs are held
 * to two bounds:
 *   - each tensor as a whole: the relative L2 error is at most twice that of the naive bf16 version
 *   (naive.h) on the same inputs.  Where
 *     that version is right by luck, half a unit in the last place of each element, what storing
 *     the exact result may cost, is allowed;
 *   - each element: the float bound and the rounding of the store; where a kernel itself works on
 *   rounded values (rounds_inside), twice
 *     the naive version's largest error more.
 * Every call on sim is made under all four schedules of threads, with streams eager or lazy in turn
 * and cp.async early, late or by coin, and must give the same bits.  ops_summary, last in every
 * list of tests, checks that each op met all of them and prints how far it was from exact.
 * WEFT_SIM_FULL=1: all kinds of input.  WEFT_OPS_LIST=1: nothing is checked, the entries of the ops table
 * that the cases call are listed (tests/cli/test_ops_list.sh). */
#ifndef WEFT_TESTS_OPS_HARNESS_H
#define WEFT_TESTS_OPS_HARNESS_H
#include "common/ops/ops.h"
#include "tests/check.h"

#define ROUNDOFF 0x1p-24 /* half the spacing of floats at 1: one rounding's relative error */
#define CASE_ARGS 12
#ifdef __SANITIZE_THREAD__ /* a fiber costs a millisecond: test_sim.c runs every kernel over a few blocks instead */
enum { SLOW_FIBERS = 1 };
#else
enum { SLOW_FIBERS = 0 };
#endif
/* Types of operands besides the ordinary ones: ACT is the back end's type of activations; F64 a
 * number on the host, not a tensor of the op. */
#define ACT ((DType)DT_COUNT)

typedef enum Role { IN, OUT, INOUT, WEIGHT } Role; /* WEIGHT: an input that is drawn the same way for every kind */
typedef enum InputKind { UNIFORM, TINY, HUGE_VALUES, ALL_EQUAL, OUTLIER, INPUT_KINDS } InputKind;

typedef struct Operand {
    const char *name;
    Role role;
    DType dtype;
    int rank;
    int64_t dim[TENSOR_RANK_MAX], count;
    double low, high; /* the range inputs are drawn from; ids: low <= id < high */
} Operand;

typedef struct Case {
    const char *name;
    int n;
    Operand arg[CASE_ARGS];
    const void *param;
    /* Makes the call on be with tensors t in the order of the operands. */
    int (*call)(Backend *be, const Tensor *t, const struct Case *c, Err *err);
    /* Fills bound[k][i] for every output k: absolute.  value: all inputs, want: all outputs, in
     * double.  0: exactly `want` rounded to the output's type. */
    void (*bound)(const struct Case *c, double *const *value, double *const *want, double **bound);
    double factor; /* used when bound is NULL; 0: exact */
    /* bits of the outputs that are rounded stochastically: that may cost a whole unit in the last
     * place */
    unsigned stochastic;
    int rounds_inside;     /* devices compute on values rounded to bf16 */
    int f32_too;           /* bf16 back ends also take this call with all ACT operands F32 */
    double huge;           /* scale of the huge kind, 1e15 unless set */
    unsigned input_kinds;  /* bits; all unless set */
    int pairs, pair[4][2]; /* in-place variants: {output, input} operands sharing memory */
    unsigned any_shape;    /* bits of the operands whose shape the op does not look at */
    int warpgroups;        /* compute capability 9.0 has kernels of its own for it: sim runs both */
    int composite;         /* the call makes several ops: refusals are not tried */
} Case;

/* Adds an operand and returns its number. */
int case_add(Case *c, const char *name, Role role, DType dtype, int rank, const int64_t *dim);
#define CASE_ADD(c, name, role, dtype, rank, ...) \
    case_add((c), (name), (role), (dtype), (rank), (const int64_t[]){__VA_ARGS__})
void case_range(Case *c, int operand, double low, double high);
void case_in_place(Case *c, int output, int input);
void ops_check(const Case *c);
void ops_summary(void **state);
int ops_listing(void); /* WEFT_OPS_LIST=1 */

/* For calls whose result is a number on the host: the first element of t becomes value. */
int ops_set(Backend *be, const Tensor *t, double value, Err *err);
double ops_bf16(double value); /* rounded */

/* ref in double throughout, open until exit. */
Backend *ops_double(void);
/* Uniform numbers in [low, high), the same for the same stream. */
void ops_draw(double *out, int64_t n, double low, double high, uint64_t stream);

/* Gradients by central differences (five points) on ref in double.  The call takes every operand of
 * the case; outputs `out` (a bit set of operand numbers) are weighed with random r and summed to L.
 * grad[k] (NULL: not wanted) receives dL/d(operand k). */
void ops_differences(const Case *c, double *const *value, unsigned out, double *const *r, double **grad);
/* Runs the case's call on ref in double; value[k] is read for inputs, written for outputs. */
void ops_run_double(const Case *c, double *const *value);
#endif
