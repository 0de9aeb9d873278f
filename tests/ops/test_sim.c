/* The simulator: its wrappers against scalar code, the faults it must report, and the back end's
 * own kernels with a barrier, a wait or an event left out, which must not go unnoticed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/ops/cuda/sim/control.h"
#include "tests/ops/harness.h"
#include "tests/ops/sim_kernels.h"

#if defined(__SANITIZE_ADDRESS__)
enum { ADDRESS = 1, THREAD = 0 };
#elif defined(__SANITIZE_THREAD__)
enum { ADDRESS = 0, THREAD = 1 };
#else
enum { ADDRESS = 0, THREAD = 0 };
#endif

static int capability = 80; /* of the device */

static void configure(SimSchedule schedule, unsigned seed, int copies)
{
    const SimConfig c = {schedule, seed, 0, copies, capability};
    sim_configure(&c);
    sim_clear();
}

static void expect_whole(const char *fault)
{
    assert_string_equal(fault, "");
}

/* ---- device memory --------------------------------------------------------------------------- */

/* Small blocks and large ones: NaN until they are written, and what is written stands in one block alone. */
static void unwritten_device_memory_is_nan(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 4096, (5 << 20) + 12345};
    Backend *be = NULL;
    Err err = {0};
    CHECK_OK(backend_open(&be, "sim", 1, NULL, &err), &err);
    for (int i = 0; i < 3; i++)
        for (int again = 0; again < 2; again++) { /* the second time where the first were freed */
            int64_t n = sizes[i];
            void *block[2];
            char *got = malloc((size_t)n), *zeros = calloc((size_t)n, 1);
            assert_true(got && zeros);
            for (int k = 0; k < 2; k++)
                CHECK_OK(be->alloc(be, n, &block[k], &err), &err);
            CHECK_OK(be->upload(be, block[0], zeros, n, &err), &err);
            CHECK_OK(be->download(be, got, block[1], n, &err), &err);
            for (int64_t at = 0; at < n; at++)
                if (got[at] != (char)0xff)
                    fail_msg("byte %lld of %lld is %02x", (long long)at, (long long)n, (unsigned char)got[at]);
            CHECK_OK(be->download(be, got, block[0], n, &err), &err);
            assert_memory_equal(got, zeros, (size_t)n);
            for (int k = 0; k < 2; k++)
                be->release(be, block[k]);
            free(got);
            free(zeros);
        }
    backend_close(&be);
}

/* ---- wrappers -------------------------------------------------------------------------------- */

static void ldmatrix(void **state)
{
    (void)state;
    uint16_t tile[256];
    uint32_t out[32][4];
    for (int i = 0; i < 256; i++)
        tile[i] = (uint16_t)(i * 257);
    for (int trans = 0; trans < 2; trans++) {
        expect_whole(run_ldmatrix(out, tile, trans));
        for (int lane = 0; lane < 32; lane++)
            for (int m = 0; m < 4; m++) {
                int row = m % 2 * 8, col = m / 2 * 8, major = lane / 4, minor = lane % 4 * 2;
                uint16_t low = trans ? tile[(row + minor) * 16 + col + major] : tile[(row + major) * 16 + col + minor];
                uint16_t high = trans ? tile[(row + minor + 1) * 16 + col + major]
                                      : tile[(row + major) * 16 + col + minor + 1];
                assert_int_equal(out[lane][m], low | (uint32_t)high << 16);
            }
    }
}

static uint32_t two(const double *x, int step)
{
    return float_to_bfloat((float)x[0]) | (uint32_t)float_to_bfloat((float)x[step]) << 16;
}

/* PTX ISA, fragments of mma.m16n8k16: g = lane/4, t = lane%4. */
static void mma(void **state)
{
    (void)state;
    double a[16 * 16], b[16 * 8], c[16 * 8];
    uint32_t fa[32][4], fb[32][2];
    float d[32][4];
    ops_draw(a, 256, -1, 1, 1);
    ops_draw(b, 128, -1, 1, 2);
    ops_draw(c, 128, -4, 4, 3);
    for (int i = 0; i < 256; i++)
        a[i] = ops_bf16(a[i]);
    for (int i = 0; i < 128; i++) {
        b[i] = ops_bf16(b[i]);
        c[i] = (float)c[i];
    }
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4 * 2;
        for (int i = 0; i < 4; i++) {
            fa[lane][i] = two(&a[(g + i % 2 * 8) * 16 + t + i / 2 * 8], 1);
            d[lane][i] = (float)c[(g + i / 2 * 8) * 8 + t + i % 2];
        }
        for (int i = 0; i < 2; i++)
            fb[lane][i] = two(&b[(t + i * 8) * 8 + g], 8);
    }
    expect_whole(run_mma(d, fa, fb));
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
            double want = c[row * 8 + col];
            for (int k = 0; k < 16; k++)
                want += a[row * 16 + k] * b[k * 8 + col];
            check_value("d", d[lane][i], want, 1e-5, 0);
        }
}

static void shuffles(void **state)
{
    (void)state;
    float value[32], out[3][32];
    for (int i = 0; i < 32; i++)
        value[i] = (float)(i * i);
    expect_whole(run_shuffles(out, value));
    for (int i = 0; i < 32; i++) {
        assert_true(out[0][i] == value[i ^ 5]);
        assert_true(out[1][i] == value[7]);
        assert_true(out[2][i] == value[i + 3 < 32 ? i + 3 : i]);
    }
}

static void asynchronous_copies(void **state)
{
    (void)state;
    static _Alignas(16) uint8_t in[3][512], out[3][512];
    for (int i = 0; i < 3 * 512; i++)
        in[i / 512][i % 512] = (uint8_t)(i * 7 + 1);
    for (int copies = 0; copies < 3; copies++) {
        configure(SIM_GREEDY, 3, copies);
        memset(out, 0xee, sizeof out);
        expect_whole(run_copies(out, in));
        for (int i = 0; i < 3 * 512; i++)
            assert_int_equal(out[i / 512][i % 512], i / 16 % 2 ? 0 : in[i / 512][i % 512]);
    }
}

static void conversions(void **state)
{
    (void)state;
    enum { N = THREAD ? 512 : 1 << 16 };
    static uint16_t bf[N], half[N], h[N];
    static float value[N], back[N], from_half[N], exp2_of[N];
    for (int i = 0; i < N; i++) {
        /* every sign and exponent, ties too */
        uint32_t bits = (uint32_t)i * (65536 / N) << 16 | ((uint32_t)i * 40503u >> 3 & 0xffff);
        if (i % 5 == 0)
            bits = (bits & 0xffff0000u) | 0x8000u;
        memcpy(&value[i], &bits, 4);
        h[i] = (uint16_t)i;
    }
    expect_whole(run_conversions(bf, back, half, from_half, exp2_of, value, h, N));
    for (int i = 0; i < N; i++) {
        float wide = half_to_float(h[i]);
        if (isnan(value[i])) {
            assert_true(isnan(bfloat_to_float(bf[i])) && isnan(half_to_float(half[i])));
            continue;
        }
        assert_int_equal(bf[i], float_to_bfloat(value[i]));
        assert_int_equal(half[i], float_to_half(value[i]));
        assert_true(back[i] == bfloat_to_float(bf[i]));
        assert_true(isnan(wide) ? isnan(from_half[i]) : from_half[i] == wide);
        if (fabsf(value[i]) < 120)
            check_value("exp2", exp2_of[i], exp2((double)value[i]), 0, 3e-7);
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

static const struct {
    Mistake mistake;
    const char *sentence;
} faults[] = {
    {DIVERGENT_BARRIER, "divergent barrier"},
    {RETURN_BEFORE_BARRIER, "returned before it"},
    {SHUFFLE_IN_A_BRANCH, ""},
    {DIFFERENT_COLLECTIVES, "different collectives"},
    {DEADLOCK, "deadlock"},
    {ODD_LDMATRIX, "not 16-byte aligned"},
    {LDMATRIX_OUTSIDE, "outside this block's shared memory"},
    {ODD_LOAD16, "not 16-byte aligned"},
    {ODD_COPY, "not 16-byte aligned"},
    {PENDING_COPY, "cp.async copies pending"},
    {TOO_MUCH_SHARED, "is not possible"},
    {TOO_MANY_THREADS, "is not possible"},
};

static void whole_kernel(void **state)
{
    (void)state;
    _Alignas(16) float out[64];
    for (int schedule = 0; schedule < SIM_SCHEDULES; schedule++) {
        configure((SimSchedule)schedule, 5, 2);
        expect_whole(run_mistake(out, WHOLE));
        for (int t = 0; t < 64; t++)
            assert_true(out[t] == 2.0f * (float)t);
    }
}

static void faults_are_reported(void **state)
{
    (void)state;
    _Alignas(16) float out[64];
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        for (int schedule = 0; schedule < SIM_SCHEDULES; schedule++) {
            configure((SimSchedule)schedule, 7, 0);
            const char *fault = run_mistake(out, faults[i].mistake);
            if (!fault[0] || !strstr(fault, faults[i].sentence))
                fail_msg("mistake %d, schedule %d: '%s', expected '%s'", (int)faults[i].mistake, schedule, fault,
                         faults[i].sentence);
        }
    configure(SIM_GREEDY, 1, 2);
    expect_whole(run_mistake(out, WHOLE)); /* one fault does not spoil what comes after */
}

static void unwritten_shared_memory_is_nan(void **state)
{
    (void)state;
    _Alignas(16) float out[64];
    configure(SIM_GREEDY, 1, 2);
    expect_whole(run_mistake(out, UNWRITTEN));
    assert_true(isnan(out[63 - 5]));
}

static void bank_conflicts_are_counted(void **state)
{
    (void)state;
    uint32_t out[32][4];
    configure(SIM_GREEDY, 1, 2);
    sim_stats_reset();
    expect_whole(run_rows(out, 0));
    assert_int_equal(sim_stats().bank_conflicts, 28); /* rows of 128 bytes: all eight of a phase in one bank group */
    sim_stats_reset();
    expect_whole(run_rows(out, 1));
    assert_int_equal(sim_stats().bank_conflicts, 0);
    assert_int_equal(sim_stats().ldmatrix_phases, 4);
}

/* ---- warpgroup products ---------------------------------------------------------------------- */

static const struct {
    WgmmaMistake mistake;
    const char *sentence;
} wgmma_faults[] = {
    {WGMMA_NO_FENCE, "no wgmma.fence"},
    {WGMMA_NO_ASYNC_FENCE, "without fence_async"},
    {WGMMA_NO_WAIT, "returned with wgmma in flight"},
    {WGMMA_READ_EARLY, "register operand changed"},
    {WGMMA_WRITTEN_EARLY, "accumulator was written"},
    {WGMMA_OPERAND_CHANGED, "register operand changed"},
    {WGMMA_THREE_WARPS, "issued different wgmma"},
    {WGMMA_NO_SWIZZLE_BITS, "128-byte-swizzled"},
    {WGMMA_OUTSIDE, "outside this block's tiles"},
    {WGMMA_UNALIGNED_MEMORY, "no tile in SMEM_TILES"},
};

/* Whether out = a b^T. */
static int wgmma_right(float out[64][64], uint16_t a[64][64], uint16_t b[64][64])
{
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 64; j++) {
            double want = 0;
            for (int k = 0; k < 64; k++)
                want += (double)bfloat_to_float(a[i][k]) * bfloat_to_float(b[j][k]);
            if (!(fabs(out[i][j] - want) <= 1e-4))
                return 0;
        }
    return 1;
}

static void warpgroup_products(void **state)
{
    (void)state;
    static _Alignas(16) uint16_t a[64][64], b[64][64];
    static float out[64][64];
    double x[4096];
    ops_draw(x, 4096, -1, 1, 1);
    for (int i = 0; i < 4096; i++)
        a[i / 64][i % 64] = float_to_bfloat((float)x[i]);
    ops_draw(x, 4096, -1, 1, 2);
    for (int i = 0; i < 4096; i++)
        b[i / 64][i % 64] = float_to_bfloat((float)x[i]);
    capability = 90;
    for (int copies = 0; copies < 3; copies++)
        for (int schedule = 0; schedule < SIM_SCHEDULES; schedule++) {
            configure((SimSchedule)schedule, 5, copies);
            memset(out, 0, sizeof out);
            expect_whole(run_wgmma(out, a, b, WGMMA_WHOLE));
            assert_true(wgmma_right(out, a, b));
            for (size_t i = 0; i < sizeof wgmma_faults / sizeof wgmma_faults[0]; i++) {
                configure((SimSchedule)schedule, 5, copies);
                const char *fault = run_wgmma(out, a, b, wgmma_faults[i].mistake);
                if (!strstr(fault, wgmma_faults[i].sentence))
                    fail_msg("mistake %d, schedule %d: '%s', expected '%s'", (int)wgmma_faults[i].mistake, schedule,
                             fault, wgmma_faults[i].sentence);
            }
            for (WgmmaMistake mistake = WGMMA_TILE_OVERWRITTEN; mistake < WGMMA_MISTAKES && !THREAD; mistake++) {
                int late_only = mistake < WGMMA_WRONG_STRIDE, seen = 0;
                for (unsigned seed = 0; seed < 4; seed++) {
                    configure((SimSchedule)schedule, seed, copies);
                    expect_whole(run_wgmma(out, a, b, mistake));
                    seen += !wgmma_right(out, a, b);
                }
                if (!seen && !(late_only && copies == 1))
                    fail_msg("mistake %d, schedule %d, copies %d: right numbers", (int)mistake, schedule, copies);
            }
        }
    capability = 80;
    configure(SIM_GREEDY, 1, 2);
    assert_non_null(strstr(run_wgmma(out, a, b, WGMMA_WHOLE), "compute capability 8.0"));
    configure(SIM_GREEDY, 1, 2);
}

/* ---- faults that a sanitizer finds: in a child, whose last words are read -------------------- */

static void child(Mistake mistake, char *text, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _Alignas(16) float out[64];
        dup2(ends[1], 2);
        close(ends[0]);
        run_mistake(out, mistake);
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; n + 1 < size && (got = read(ends[0], text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = 0;
    close(ends[0]);
    waitpid(pid, NULL, 0);
}

static void writes_past_shared_memory(void **state)
{
    (void)state;
    static char text[1 << 16];
    _Alignas(16) float out[64];
    for (int k = 0; k < 2; k++) {
        Mistake mistake = k ? PAST_DYNAMIC : PAST_ARRAY;
        configure(SIM_GREEDY, 1, 2);
        if (ADDRESS) {
            child(mistake, text, sizeof text);
            assert_non_null(strstr(text, "heap-buffer-overflow"));
            assert_non_null(strstr(text, "sim_kernels.cu"));
        } else if (!THREAD) { /* the thread sanitizer's shared memory has no canaries */
            assert_non_null(strstr(run_mistake(out, mistake), "past the end"));
        }
    }
}

/* Every block writes the same words: the last one wins, and schedules differ in which that is.  The
 * thread sanitizer names both lines. */
static void race_between_blocks(void **state)
{
    (void)state;
    static char text[1 << 16];
    _Alignas(16) float out[64];
    if (THREAD) {
        child(BLOCK_RACE, text, sizeof text);
        assert_non_null(strstr(text, "data race"));
        assert_non_null(strstr(text, "sim_kernels.cu"));
        return;
    }
    int differ = 0;
    for (unsigned seed = 0; seed < 8; seed++) {
        configure(seed ? SIM_GREEDY : SIM_ASCENDING, seed, 2);
        expect_whole(run_mistake(out, BLOCK_RACE));
        differ += out[0] != 7.0f;
    }
    assert_true(differ > 0);
}

/* ---- the back end's kernels, broken ---------------------------------------------------------- */

enum { MOST = 1 << 15 };

typedef struct Broken {
    const char *name;
    /* room: four bf16 tensors of MOST numbers, four F32 ones; the first of each is compared */
    int (*call)(Backend *be, Tensor *room, Err *err);
    int barriers, waits;    /* in the source of its kernels, at most: each must matter */
    int fences, capability; /* 0: 8.0 */
} Broken;

static Tensor part(const Tensor *room, int rank, const int64_t *dim)
{
    return tensor_view(room->data, room->dtype, rank, dim);
}
#define PART(room, rank, ...) part((room), (rank), (const int64_t[]){__VA_ARGS__})

static int call_attention(Backend *be, Tensor *room, Err *err)
{
    Tensor o = PART(&room[0], 3, 1, 150, 64), q = PART(&room[1], 3, 1, 150, 64), k = PART(&room[2], 3, 1, 170, 64),
           v = PART(&room[3], 3, 1, 170, 64);
    const AttnParams p = {1, 0.125, NULL, 0};
    return op_attention(be, &o, NULL, &q, &k, &v, &p, err);
}

/* Three tiles of keys, so that its loop runs twice. */
static int call_attention_90(Backend *be, Tensor *room, Err *err)
{
    Tensor o = PART(&room[0], 3, 1, 200, 64), q = PART(&room[1], 3, 1, 200, 64), k = PART(&room[2], 3, 1, 300, 64),
           v = PART(&room[3], 3, 1, 300, 64);
    const AttnParams p = {1, 0.125, NULL, 0};
    return op_attention(be, &o, NULL, &q, &k, &v, &p, err);
}

static int call_attention_backward(Backend *be, Tensor *room, Err *err)
{
    enum { S = 140, N = S * 64 };
    Tensor x[8], lse = PART(&room[5], 3, 1, 1, S);
    const AttnParams p = {1, 0.125, NULL, 0};
    for (int i = 0; i < 8; i++) {
        x[i] = PART(&room[i < 3 ? 0 : 1 + i % 3], 3, 1, S, 64);
        x[i].data = (char *)x[i].data + (i < 3 ? i : (i - 3) / 3) * N * 2;
    }
    return op_attention_backward(be, &x[0], &x[1], &x[2], &x[3], &x[4], &x[5], &x[6], &x[7], &lse, &p, err);
}

static int call_conv(Backend *be, Tensor *room, Err *err)
{
    Tensor y = PART(&room[0], 4, 2, 9, 8, 40), x = PART(&room[1], 4, 2, 9, 8, 64),
           w = PART(&room[2], 5, 40, 1, 2, 2, 64), b = PART(&room[5], 1, 40);
    const ConvParams p = {1, 1, 0, 1, 0, 0};
    return op_conv(be, &y, &x, NULL, &w, &b, &p, err);
}

/* Six steps of 64. */
static int call_conv_90(Backend *be, Tensor *room, Err *err)
{
    Tensor y = PART(&room[0], 4, 3, 9, 11, 72), x = PART(&room[1], 4, 3, 9, 11, 64),
           w = PART(&room[2], 5, 72, 1, 2, 3, 64), b = PART(&room[5], 1, 72);
    const ConvParams p = {1, 1, 0, 1, 1, 0};
    return op_conv(be, &y, &x, NULL, &w, &b, &p, err);
}

static int call_conv_gathered(Backend *be, Tensor *room, Err *err)
{
    Tensor y = PART(&room[0], 4, 2, 9, 8, 40), x = PART(&room[1], 4, 2, 9, 8, 5), w = PART(&room[2], 5, 40, 3, 3, 3, 5),
           b = PART(&room[5], 1, 40);
    const ConvParams p = {1, 1, 1, 1, 1, 0};
    return op_conv(be, &y, &x, NULL, &w, &b, &p, err);
}

static int call_plain_linear(Backend *be, Tensor *room, Err *err)
{
    Tensor y = PART(&room[4], 2, 20, 33), x = PART(&room[5], 2, 20, 70), w = PART(&room[6], 2, 33, 70);
    return op_linear(be, &y, &x, &w, NULL, err);
}

static int call_layernorm_backward(Backend *be, Tensor *room, Err *err)
{
    Tensor gx = PART(&room[0], 2, 90, 70), gy = PART(&room[1], 2, 90, 70), x = PART(&room[2], 2, 90, 70),
           gw = PART(&room[4], 1, 70), gb = gw, w = PART(&room[5], 1, 70);
    gb.data = (float *)gw.data + 70;
    return op_layernorm_backward(be, &gx, &gw, &gb, NULL, &gy, &x, &w, &w, 1e-5, NULL, 0, err);
}

static int call_groupnorm(Backend *be, Tensor *room, Err *err)
{
    Tensor y = PART(&room[0], 4, 2, 9, 11, 24), x = PART(&room[1], 4, 2, 9, 11, 24), w = PART(&room[5], 1, 24);
    return op_groupnorm(be, &y, &x, &w, &w, 3, 1e-6, NULL, ACT_SILU, err);
}

static int call_mse(Backend *be, Tensor *room, Err *err)
{
    Tensor u = PART(&room[1], 1, 9000), v = PART(&room[2], 1, 9000), first = PART(&room[4], 1, 1);
    double loss = 0;
    int rc = op_mse(be, &loss, NULL, &u, &v, 1, err);
    return rc < 0 ? rc : ops_set(be, &first, loss, err);
}

/* ---- the rest: nothing in them can be left out; the thread sanitizer looks at them, each with several blocks ---- */

static int call_rows(Backend *be, Tensor *room, Err *err)
{
    enum { S = 30, D = 136 };
    Tensor y = PART(&room[0], 3, 1, S, D), x = PART(&room[1], 3, 1, S, D), mod = PART(&room[5], 2, 1, 6 * D),
           gm = PART(&room[4], 2, 1, 6 * D), w = PART(&room[6], 1, D), gw = PART(&room[7], 1, D), gb = gw,
           h = PART(&room[3], 2, 18, 32), hx = PART(&room[1], 2, 18, 32), gx = PART(&room[2], 3, 1, S, D);
    const Modulation m = {&mod, 4};
    gb.data = (float *)gw.data + D;
    int rc = op_layernorm(be, &y, &x, &w, &w, 1e-5, &m, err);
    rc = rc < 0 ? rc : op_layernorm(be, &h, &hx, NULL, NULL, 1e-5, NULL, err);
    rc = rc < 0 ? rc : op_gate_add(be, &y, &x, &m, err);
    rc = rc < 0 ? rc : op_gate_add_backward(be, &y, &gm, &gx, &x, &m, err);
    rc = rc < 0 ? rc : op_layernorm_backward(be, &y, &gw, &gb, &gm, &gx, &x, &w, &w, 1e-5, &m, 1, err);
    return rc < 0 ? rc : op_rmsnorm(be, &gx, &x, &w, 1e-6, err);
}

/* Two heads of that size; S rows. */
static int attention_heads(Backend *be, Tensor *room, int64_t S, int64_t head, Err *err)
{
    Tensor x[8], lse = PART(&room[4], 3, 1, 2, S);
    const AttnParams p = {2, 0.25, NULL, 0};
    for (int i = 0; i < 8; i++) {
        x[i] = PART(&room[i < 3 || i == 7 ? 0 : 1 + i % 3], 3, 1, S, 2 * head);
        x[i].data = (char *)x[i].data + (i == 7 ? 3 : i < 3 ? i : (i - 3) / 3) * S * head * 4;
    }
    int rc = op_attention(be, &x[7], &lse, &x[4], &x[5], &x[6], &p, err);
    return rc < 0 ? rc
                  : op_attention_backward(be, &x[0], &x[1], &x[2], &x[3], &x[4], &x[5], &x[6], &x[7], &lse, &p, err);
}
static int call_small_attention(Backend *be, Tensor *room, Err *err)
{
    return attention_heads(be, room, 5, 16, err);
}
static int call_two_heads(Backend *be, Tensor *room, Err *err)
{
    return attention_heads(be, room, 33, 64, err);
}

static int call_linear(Backend *be, Tensor *room, Err *err)
{
    enum { M = 16, N = 264, K = 8 };
    Tensor y = PART(&room[0], 2, M, N), x = PART(&room[1], 2, M, K), w = PART(&room[2], 2, N, K),
           b = PART(&room[5], 1, N), gx = PART(&room[3], 2, M, K), gw = PART(&room[7], 2, N, K),
           gb = PART(&room[4], 1, N);
    int rc = op_linear(be, &y, &x, &w, &b, err);
    rc = rc < 0 ? rc : op_linear_backward_x(be, &gx, &y, &w, 0, err);
    return rc < 0 ? rc : op_linear_backward_w(be, &gw, &gb, &y, &gx, err);
}

static int call_training(Backend *be, Tensor *room, Err *err)
{
    Tensor p = PART(&room[4], 1, 2056), g = PART(&room[5], 1, 2056), m = PART(&room[6], 1, 2056),
           v = PART(&room[7], 1, 2056), first = PART(&room[4], 1, 1), a = PART(&room[0], 1, 2056),
           x = PART(&room[1], 1, 2056), z = PART(&room[0], 2, 2, 2056), moments = PART(&room[1], 2, 2, 2 * 2056),
           eps = PART(&room[2], 2, 2, 2056), xt = PART(&room[3], 2, 2, 2056), velocity = PART(&room[1], 2, 2, 2056);
    const AdamParams adam = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-3, .step = 1, .grad_scale = 1};
    const SgdParams sgd = {.lr = 1e-3, .momentum = 0.9, .step = 1, .grad_scale = 1};
    const Tensor codes = tensor_of(room[2].data, DT_U8, 1, 2056), scale = PART(&room[7], 1, 9);
    const Tensor *const terms[] = {&a, &x};
    const double coef[] = {1, 2};
    double sum = 0;
    int rc = op_sum_squares(be, &sum, &g, err);
    rc = rc < 0 ? rc : op_fill(be, &v, 0.5f, err);
    rc = rc < 0 ? rc : op_adamw(be, &p, NULL, &g, &m, &v, &adam, err);
    rc = rc < 0 ? rc : op_quantize(be, &codes, &scale, &m, 1, err);
    rc = rc < 0 ? rc : op_dequantize(be, &m, &codes, &scale, 1, err);
    rc = rc < 0 ? rc : op_sgd(be, &p, NULL, &g, &m, &sgd, err);
    rc = rc < 0 ? rc : op_posterior(be, &z, &moments, &eps, 0.7, err);
    rc = rc < 0 ? rc : op_diffuse(be, &xt, &velocity, &z, &eps, coef, coef, err);
    rc = rc < 0 ? rc : op_add(be, &a, &a, &x, err);
    rc = rc < 0 ? rc : op_lincomb(be, &a, 2, coef, terms, err);
    rc = rc < 0 ? rc : op_act(be, &a, &a, ACT_GELU_TANH, err);
    return rc < 0 ? rc : ops_set(be, &first, sum, err);
}

static int call_moves(Backend *be, Tensor *room, Err *err)
{
    enum { S = 264, D = 8 };
    static const int32_t ids[40] = {3, 1, 4, 1, 5, 9, 2, 6};
    Tensor rows = PART(&room[0], 3, 1, S, D), other = PART(&room[1], 3, 1, S, D), table = PART(&room[5], 2, S, D),
           found = PART(&room[2], 2, 40, D), latents = PART(&room[2], 5, 1, 2, 4, 6, D),
           tokens = PART(&room[3], 3, 1, 12, 4 * D), which = tensor_of(room[7].data, DT_I32, 1, 40);
    int rc = be->upload(be, which.data, ids, sizeof ids, err);
    rc = rc < 0 ? rc : op_embed(be, &found, &table, &which, err);
    rc = rc < 0 ? rc : op_copy_rows(be, &rows, 0, &other, 0, S, err);
    rc = rc < 0 ? rc : op_add_rows(be, &rows, 0, &table, err);
    return rc < 0 ? rc : op_patchify(be, &tokens, &latents, 2, err);
}

static int call_frames(Backend *be, Tensor *room, Err *err)
{
    Tensor half = PART(&room[1], 4, 2, 4, 9, 8), up = PART(&room[0], 4, 2, 8, 18, 8),
           twice = PART(&room[2], 4, 4, 8, 18, 8), box = PART(&room[4], 4, 2, 4, 9, 8),
           y = PART(&room[3], 4, 2, 4, 9, 8), x = PART(&room[1], 4, 2, 4, 9, 5), prev = PART(&room[2], 4, 2, 8, 18, 8),
           w = PART(&room[5], 5, 8, 1, 3, 3, 5), b = PART(&room[6], 1, 8);
    static const int64_t zero[4] = {0}, all[4] = {2, 4, 9, 8};
    const ConvParams p = {1, 1, 1, 1, 1, 0};
    const PoolParams window = {POOL_MAX, {1, 3, 3}, {1, 2, 2}, {0, 0, 0}, {0, 1, 1}};
    int rc = op_upsample(be, &up, &half, 0, err);
    rc = rc < 0 ? rc : op_pool_time(be, &up, &twice, err);
    rc = rc < 0 ? rc : op_blend(be, &up, &prev, 2, 3, err);
    rc = rc < 0 ? rc : op_pool(be, &half, &up, &window, err);
    rc = rc < 0 ? rc : op_conv(be, &y, &x, NULL, &w, &b, &p, err);
    return rc < 0 ? rc : op_copy_box(be, &box, zero, &y, zero, all, err);
}

static void expect_passed(void *user, const char *what, int wrong)
{
    (void)user;
    if (wrong)
        fail_msg("%s: %d numbers are wrong", what, wrong);
}

static int call_selftest(Backend *be, Tensor *room, Err *err)
{
    (void)room;
    return be->selftest(be, expect_passed, NULL, err);
}

static const Broken broken[] = {
    {"attention", call_attention, 2, 2, 0, 0},
    {"attention_backward", call_attention_backward, 1, 1, 0, 0},
    {"conv", call_conv, 1, 1, 0, 0},
    {"conv, gathered", call_conv_gathered, 2, 0, 0, 0},
    {"linear", call_plain_linear, 2, 0, 0, 0},
    {"layernorm_backward", call_layernorm_backward, 1, 0, 0, 0},
    {"groupnorm", call_groupnorm, 1, 0, 0, 0},
    {"mse", call_mse, 2, 0, 0, 0},
    {"rows", call_rows, 0, 0, 0, 0},
    {"small attention", call_small_attention, 0, 0, 0, 0},
    {"attention, two heads", call_two_heads, 0, 0, 0, 0},
    {"linear and its gradients", call_linear, 0, 0, 0, 0},
    {"training", call_training, 0, 0, 0, 0},
    {"moves", call_moves, 0, 0, 0, 0},
    {"frames", call_frames, 0, 0, 0, 0},
    {"attention, 9.0", call_attention_90, 1, 5, 3, 90},
    {"attention_backward, 9.0", call_attention_backward, 1, 5, 4, 90},
    {"conv, 9.0", call_conv_90, 1, 3, 2, 90},
    {"selftest", call_selftest, 0, 0, 0, 0},
    {"selftest, 9.0", call_selftest, 0, 0, 0, 90},
};
enum { BROKEN = sizeof broken / sizeof broken[0] };

/* 0 and the bits of the first bf16 and the first F32 tensor; or the call's error. */
static int outcome(const Broken *b, char *bits, Err *err)
{
    Backend *be = NULL;
    Tensor room[8];
    static float numbers[MOST];
    static double drawn[MOST];
    int rc = backend_open(&be, "sim", 1, NULL, err);
    assert_int_equal(rc, 0);
    for (int i = 0; i < 8; i++) {
        void *p = NULL;
        const DType type = i < 4 ? DT_BF16 : DT_F32;
        CHECK_OK(be->alloc(be, MOST * dtype_size(type), &p, err), err);
        room[i] = tensor_of(p, type, 1, MOST);
        ops_draw(drawn, MOST, -1, 1, (uint64_t)i);
        for (int n = 0; n < MOST; n++)
            numbers[n] = (float)drawn[n] * (i % 4 ? 1.0f : 0.0f);
        if (rc == 0)
            rc = backend_put_f32(be, &room[i], numbers, err);
    }
    rc = rc < 0 ? rc : b->call(be, room, err);
    rc = rc < 0 ? rc : be->download(be, bits, room[0].data, MOST * 2, err);
    rc = rc < 0 ? rc : be->download(be, bits + MOST * 2, room[4].data, MOST * 4, err);
    for (int i = 0; i < 8; i++)
        be->release(be, room[i].data);
    backend_close(&be);
    return rc;
}

/* Runs with something left out differ from the whole one, or fail: in some order of threads. */
static void expect_noticed(const Broken *b, SimSkip what, int which, const char *whole)
{
    static char bits[MOST * 6];
    uint64_t effect = 0;
    int noticed = 0;
    for (int run = 0; run < 12 && !noticed; run++) {
        Err err = {0};
        configure((SimSchedule)(run % SIM_SCHEDULES), (unsigned)run, run / SIM_SCHEDULES);
        sim_skip(what, which);
        int rc = outcome(b, bits, &err);
        effect += sim_skipped();
        sim_skip(SIM_SKIP_NOTHING, 0);
        noticed = rc < 0 || memcmp(bits, whole, sizeof bits) != 0;
    }
    if (!effect || !noticed)
        fail_msg("%s without its %s %d: %s", b->name,
                 what == SIM_SKIP_BARRIER ? "barrier"
                 : what == SIM_SKIP_WAIT  ? "wait"
                 : what == SIM_SKIP_FENCE ? "fence"
                                          : "event",
                 which, effect ? "nothing was noticed" : "there is no such place");
}

static void nothing_can_be_left_out(void **state)
{
    (void)state;
    static char whole[MOST * 6], bits[MOST * 6];
    for (int i = 0; i < BROKEN; i++) {
        Err err = {0};
        capability = broken[i].capability;
        configure(SIM_ASCENDING, 1, 1);
        CHECK_OK(outcome(&broken[i], whole, &err), &err);
        configure(SIM_GREEDY, 9, 0);
        CHECK_OK(outcome(&broken[i], bits, &err), &err);
        assert_memory_equal(whole, bits, sizeof whole);
        if (THREAD) /* it sees the two runs above; its own test is race_between_blocks */
            continue;
        for (int k = 0; k < broken[i].barriers; k++)
            expect_noticed(&broken[i], SIM_SKIP_BARRIER, k, whole);
        for (int k = 0; k < broken[i].waits; k++)
            expect_noticed(&broken[i], SIM_SKIP_WAIT, k, whole);
        for (int k = 0; k < broken[i].fences; k++)
            expect_noticed(&broken[i], SIM_SKIP_FENCE, k, whole);
    }
    capability = 80;
}

/* Two uploads into the same place with work on it between them: the copy must wait for the work,
 * and the work for the copy. */
static int call_uploads(Backend *be, Tensor *room, Err *err)
{
    static const float ones[MOST] = {1};
    Tensor y = room[4], x = room[5], z = room[6];
    int rc = op_add(be, &z, &x, &x, err);
    rc = rc < 0 ? rc : be->upload(be, x.data, ones, sizeof ones, err);
    return rc < 0 ? rc : op_add(be, &y, &x, &z, err);
}

static void no_event_can_be_left_out(void **state)
{
    (void)state;
    static char whole[MOST * 6];
    const Broken b = {"uploads", call_uploads, 0, 0, 0, 0};
    Err err = {0};
    configure(SIM_GREEDY, 1, 2);
    CHECK_OK(outcome(&b, whole, &err), &err);
    if (THREAD)
        return;
    /* eight uploads of the inputs come first, each with two waits; then ours */
    expect_noticed(&b, SIM_SKIP_EVENT, 16, whole);
    expect_noticed(&b, SIM_SKIP_EVENT, 17, whole);
}

static void no_bank_conflicts(void **state)
{
    (void)state;
    static char bits[MOST * 6];
    for (int i = 0; i < 4; i++) {
        Err err = {0};
        configure(SIM_GREEDY, 1, 2);
        sim_stats_reset();
        CHECK_OK(outcome(&broken[i], bits, &err), &err);
        assert_true(sim_stats().mma > 0 && sim_stats().ldmatrix_phases > 0);
        assert_int_equal(sim_stats().bank_conflicts, 0);
    }
}

/* Calls every entry of the table once and lists the kernels that ran: tests/cli/test_ops_list.sh
 * looks whether one is missing. */
static int list_launched(void)
{
    static char bits[MOST * 6];
    for (int i = 0; i < BROKEN; i++) {
        Err err = {0};
        capability = broken[i].capability;
        configure(SIM_ASCENDING, 1, 1);
        if (outcome(&broken[i], bits, &err) < 0) {
            fprintf(stderr, "%s: %s\n", broken[i].name, err.msg);
            return 1;
        }
    }
    sim_list_launched(stdout);
    return 0;
}

int main(void)
{
    if (getenv("WEFT_OPS_LIST"))
        return list_launched();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unwritten_device_memory_is_nan),
        cmocka_unit_test(ldmatrix),
        cmocka_unit_test(mma),
        cmocka_unit_test(shuffles),
        cmocka_unit_test(asynchronous_copies),
        cmocka_unit_test(conversions),
        cmocka_unit_test(whole_kernel),
        cmocka_unit_test(faults_are_reported),
        cmocka_unit_test(unwritten_shared_memory_is_nan),
        cmocka_unit_test(bank_conflicts_are_counted),
        cmocka_unit_test(warpgroup_products),
        cmocka_unit_test(writes_past_shared_memory),
        cmocka_unit_test(race_between_blocks),
        cmocka_unit_test(nothing_can_be_left_out),
        cmocka_unit_test(no_event_can_be_left_out),
        cmocka_unit_test(no_bank_conflicts),
    };
    return check_run("ops: the simulator", tests);
}
