/* The static report of the CUDA kernels, and its gate.
 *
 *   main_report [--compiler TEXT] [--json OUT.json] [--check GOLDEN.json] ARCH CUBIN PTXAS.txt
 *   [ARCH CUBIN PTXAS.txt ...]
 *
 * prints a table to standard output; --json writes what the gate remembers; --check compares with
 * it: exit 1 when a kernel began to spill (or spills more) or uses more than 8 registers more. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/mem.h"
#include "tests/cuda/count.h"
#include "tests/cuda/cubin.h"

extern char *__cxa_demangle(const char *name, char *buffer, size_t *size, int *status); /* the C++ runtime's */

enum { MORE_REGISTERS = 8 };
#define LEAST_SHARE 0.98 /* of what the tensor-core instructions were of their loop */

/* ---- what one launch does at the size of CogVideoX-2B: 49 frames of 480 x 720, batch 2 ------- */

#define TOKENS (2.0 * 17776)                 /* rows of a batch */
#define U (TOKENS * 1920 * 2)                /* bytes of one activation of width 1920 */
#define SCORES (2.0 * TOKENS * 17776 * 1920) /* FLOPs of one product of all queries with all keys */
#define PARAMS 1.694e9
#define FULL (8.0 * 480 * 720) /* positions of a chunk of 8 frames */

/* Threads and dynamic shared memory as the launchers give them; threads 0: __launch_bounds__ says. */
typedef struct Use {
    const char *kernel;
    int threads, shared;
    double flops, bytes;
    const char *what;
} Use;
static const Use uses[] = {
    {"attention_64_forward", 0, 32768, 2 * SCORES, 4 * U, "2 x 17776 tokens, 30 heads"},
    {"attention_90_forward", 0, 90112, 2 * SCORES, 4 * U, "2 x 17776 tokens, 30 heads"},
    {"attention_64_backward_products", 0, 66304, 5 * SCORES / 3, 10 * U / 3, "a third of it: 20 of 60 slices"},
    {"attention_90_backward", 0, 169984, 5 * SCORES / 3, 10 * U / 3, "a third of it: 20 of 60 slices"},
    {"attention_64_key_facts", 0, 0, 0, 2 * U, "2 x 17776 tokens, 30 heads"},
    {"attention_64_query_facts", 0, 0, 0, 3 * U, "the same"},
    {"attention_64_gq", 0, 0, 0, 3 * U / 3, "a third of it"},
    {"conv_streamed<ConvTile<256, 128,", 0, 0, 2 * FULL * 128 * 3456, 4 * FULL * 128, "3x3x3, 128 to 128, 8x480x720"},
    {"conv_90_streamed", 0, 196608, 2 * FULL * 128 * 3456, 4 * FULL * 128, "3x3x3, 128 to 128, 8x480x720"},
    {"conv_streamed<ConvTile<128, 256,", 0, 0, 2 * FULL / 4 * 256 * 6912, 4 * FULL / 4 * 256,
     "3x3x3, 256 to 256, 8x240x360"},
    {"conv_streamed<ConvTile<128, 32,", 0, 0, 2 * 2 * 5400. * 32 * 13824, 2 * 2 * 5400. * (512 + 32),
     "3x3x3, 512 to 32, 2x60x90"},
    {"conv_streamed<ConvTile<128, 16,", 0, 0, 2 * FULL * 3 * 3456, 2 * FULL *(128 + 3), "3x3x3, 128 to 3, 8x480x720"},
    {"conv_gathered<ConvTile<128, 128,", 0, 0, 2 * FULL * 128 * 81, 2 * FULL *(3 + 128), "3x3x3, 3 to 128, 8x480x720"},
    {"layernorm_rows<8, 8>", 0, 0, 0, 2 * U, "q or k, heads of 64"},
    {"layernorm_rows<32, 8>", 0, 0, 0, 2 * U, "rows of 1920, modulated"},
    {"layernorm_backward_rows<8, 8>", 0, 0, 0, 3 * U, "q or k"},
    {"layernorm_backward_rows<32, 8>", 0, 0, 0, 4 * U, "rows of 1920, added"},
    {"segment_partials<", 0, 0, 0, 2 * U, "rows of 1920"},
    {"gate_rows<8>", 0, 0, 0, 3 * U, "rows of 1920, added"},
    {"column_partials<bf16>", 128, 0, 0, 4 * U, "bias gradient of 7680"},
    {"map1<bf16, bf16, Act<2>", 0, 0, 0, 8 * U, "gelu of 7680"},
    {"map2<bf16, bf16, bf16, ActSlope<2>", 0, 0, 0, 12 * U, "gelu's gradient of 7680"},
    {"channel_partials<8>", 0, 0, 0, 2 * FULL * 128, "128 channels, 8x480x720"},
    {"groupnorm_apply<8>", 0, 0, 0, 4 * FULL * 128, "the same"},
    {"upsample_nearest<uint4>", 0, 0, 0, 2 * FULL * 256 * 1.25, "256 channels to 8x480x720"},
    {"mean_of_pairs<8>", 0, 0, 0, 2 * FULL * 128 * 1.5, "128 channels, 8x480x720"},
    {"square_partials<float, 8>", 0, 0, 0, 4 * PARAMS, "all gradients"},
    {"square_partials<bf16, 8>", 0, 0, 0, 2 * PARAMS, "all gradients in bf16"},
    {"adamw_step<float, float, 8>", 0, 0, 0, 30 * PARAMS, "all masters, and their copies"},
    {"adamw_step<float, bf16, 8>", 0, 0, 0, 28 * PARAMS, "the same, gradients in bf16"},
    {"adamw_step<bf16, float, 8>", 0, 0, 0, 24 * PARAMS, "all weights in bf16"},
    {"adamw_step<bf16, bf16, 8>", 0, 0, 0, 22 * PARAMS, "the same, gradients too"},
    {"rmsnorm_rows<8>", 0, 0, 0, 2 * 226. * 4096 * 2, "a caption of 226"},
    {"map1<bf16, float, Same>", 0, 0, 0, 6 * PARAMS, "master weights to bf16"},
    {"convert_bias", 256, 0, 0, 0, NULL},
    {"column_total", 128, 0, 0, 0, NULL},
    {"norm_columns_total", 128, 0, 0, 0, NULL},
    {"gate_columns_total", 128, 0, 0, 0, NULL},
    {"group_statistics", 32, 0, 0, 0, NULL},
};

/* ---- occupancy ------------------------------------------------------------------------------- */

/* CUDA programming guide, compute capabilities 8.0 and 9.0. */
typedef struct Limits {
    const char *arch;
    int machine;
    int shared, warps, blocks, registers;
} Limits;
static const Limits limits[] = {
    {"sm_80", MACHINE_A100, 164 << 10, 64, 32, 65536},
    {"sm_90", MACHINE_H100, 228 << 10, 64, 32, 65536},
};
enum { SYSTEM_SHARED = 1024, SHARED_STEP = 128, REGISTER_STEP = 256, SUBCORES = 4 };

static int round_up(int n, int step)
{
    return (n + step - 1) / step * step;
}

static int blocks_per_sm(const Limits *l, int threads, int registers, int shared)
{
    int warps = (threads + 31) / 32, per_warp = round_up(registers * 32, REGISTER_STEP);
    int by_registers = l->registers / SUBCORES / per_warp * SUBCORES / warps;
    int by_shared = l->shared / round_up(shared + SYSTEM_SHARED, SHARED_STEP), by_warps = l->warps / warps;
    int n = by_registers < by_shared ? by_registers : by_shared;

    n = n < by_warps ? n : by_warps;
    return n < l->blocks ? n : l->blocks;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* "void conv_plain<3>(ConvArgs)" -> "conv_plain<3>". */
static void short_name(const char *mangled, char *out, size_t size)
{
    int status = -1, depth = 0;
    char *full = __cxa_demangle(mangled, NULL, NULL, &status);
    const char *from = status == 0 ? full : mangled;
    size_t n = 0;

    if (strncmp(from, "void ", 5) == 0)
        from += 5;
    for (; *from && n + 1 < size; from++) {
        if (*from == '(' && depth == 0)
            break;
        depth += *from == '<';
        depth -= *from == '>';
        out[n++] = *from;
    }
    out[n] = 0;
    free(full);
}

static const Use *use_of(const char *name)
{
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        size_t n = strlen(uses[i].kernel);
        if (strncmp(name, uses[i].kernel, n) == 0 &&
            (uses[i].kernel[n - 1] == '<' || strchr(uses[i].kernel, ',') || !name[n]))
            return &uses[i];
    }
    return NULL;
}

/* A convolution's tile is in its name: shared memory is STAGES tiles of 32 bf16 for each of BM + BN
 * rows. */
static int dynamic_shared(const char *name, const Use *u)
{
    int bm, bn, stages;
    const char *tile = strstr(name, "ConvTile<");

    if (tile && sscanf(tile, "ConvTile<%d, %d, %*d, %*d, %d>", &bm, &bn, &stages) == 3)
        return stages * (bm + bn) * 32 * 2;
    return u ? u->shared : 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_number(double x)
{
    if (x > 0)
        printf(x < 100 ? "| %.3g " : "| %.0f ", x);
    else
        printf("| ");
}

static void print_kernel(const Limits *l, const Kernel *k)
{
    char name[256];
    short_name(k->name, name, sizeof name);
    const Use *u = use_of(name);
    int dynamic = dynamic_shared(name, u), threads = u && u->threads ? u->threads : k->threads ? k->threads : 256;
    const LoopCounts *c = &k->loop;

    printf("| `%s` | %d | %d/%d | %d | %.1f | %d | %d | %s%lld ", name, k->registers, k->spill_stores, k->spill_loads,
           k->stack, (k->shared + dynamic) / 1024.0, threads,
           blocks_per_sm(l, threads, k->registers, k->shared + dynamic), k->has_loop ? "" : "all ",
           (long long)c->total);
    /* an m16n8k16 takes 8 cycles of a tensor core on A100, 4 on H100; a warp's share of an
     * m64nNk16, N/2 */
    if (c->hmma || c->hgmma) {
        int64_t cycles = (l->machine == MACHINE_A100 ? 8 : 4) * c->hmma + c->hgmma_columns / 2;
        printf("| %lld%s | %lld | %lld | %.2f ", (long long)(c->hmma + c->hgmma), c->hgmma ? " HGMMA" : "",
               (long long)c->ldsm, (long long)c->ldgsts, (double)cycles / (double)c->total);
    } else
        printf("| | | | ");
    printf("| %lld/%lld (%lld/%lld) ", (long long)c->ldl, (long long)c->stl, (long long)k->ldl, (long long)k->stl);
    if (u && u->what) {
        Cost cost = {.kind = u->flops > 0 ? COST_PRODUCT : COST_MEMORY, .flops = u->flops, .bytes = u->bytes};
        print_number(u->flops / 1e9);
        print_number(u->bytes / 1e6);
        print_number(cost_roof(&machines[l->machine], &cost) * 1e3);
        printf("| %s |\n", u->what);
    } else
        printf("| | | | |\n");
}

static int by_weight(const void *a, const void *b)
{
    const Kernel *x = a, *y = b;
    int d = (y->loop.hmma + y->loop.hgmma > 0) - (x->loop.hmma + x->loop.hgmma > 0);
    return d ? d : strcmp(x->name, y->name);
}

static void print_table(const Limits *l, KernelList *kernels)
{
    qsort(kernels->item, (size_t)kernels->n, sizeof *kernels->item, by_weight);
    printf("\n## %s (%s)\n\n", l->arch, machines[l->machine].name);
    printf("| kernel | registers | spill B st/ld | stack B | shared KB | threads | blocks/SM | loop instr | HMMA | "
           "LDSM | cp.async | "
           "tensor/issue "
           "| LDL/STL loop (all) | GFLOP | MB | roofline ms | one launch at 2B "
           "|\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int64_t i = 0; i < kernels->n; i++)
        print_kernel(l, &kernels->item[i]);
}

/* ---- the gate -------------------------------------------------------------------------------- */

static json_t *facts(const KernelList *kernels)
{
    json_t *all = json_object();

    for (int64_t i = 0; i < kernels->n; i++) {
        const Kernel *k = &kernels->item[i];
        json_object_set_new(all, k->name,
                            json_pack("{s:i, s:i, s:i, s:i}", "registers", k->registers, "spill_bytes",
                                      k->spill_stores + k->spill_loads, "hmma", (int)(k->loop.hmma + k->loop.hgmma),
                                      "loop", (int)k->loop.total));
    }
    return all;
}

static int gate(const char *arch, const json_t *golden, const KernelList *kernels)
{
    int failed = 0;

    for (int64_t i = 0; i < kernels->n; i++) {
        const Kernel *k = &kernels->item[i];
        const json_t *was = json_object_get(golden, k->name);
        int spill = k->spill_stores + k->spill_loads,
            registers = (int)json_integer_value(json_object_get(was, "registers"));
        int spilled = (int)json_integer_value(json_object_get(was, "spill_bytes"));
        if (spill > spilled)
            failed |= fprintf(stderr, "%s %s: %d bytes of spills, %d before\n", arch, k->name, spill, spilled) > 0;
        if (was && k->registers > registers + MORE_REGISTERS)
            failed |= fprintf(stderr, "%s %s: %d registers, %d before\n", arch, k->name, k->registers, registers) > 0;
        const double products = (double)(k->loop.hmma + k->loop.hgmma),
                     before = json_number_value(json_object_get(was, "hmma"));
        if (before > 0 &&
            products * json_number_value(json_object_get(was, "loop")) < LEAST_SHARE * before * (double)k->loop.total)
            failed |= fprintf(stderr, "%s %s: %g tensor-core instructions in a loop of %d, before %g in %d\n", arch,
                              k->name, products, (int)k->loop.total, before,
                              (int)json_integer_value(json_object_get(was, "loop"))) > 0;
        if (!was)
            fprintf(stderr, "note: %s %s is not in the golden file\n", arch, k->name);
    }
    return failed;
}

/* ---- main ------------------------------------------------------------------------------------ */

static int collect(KernelList *out, const char *arch, char **triple, int n, Err *err)
{
    int rc = 0;

    for (int i = 0; i + 2 < n && rc == 0; i += 3) {
        int64_t first = out->n;
        if (strcmp(triple[i], arch) != 0)
            continue;
        rc = cubin_read(out, triple[i + 1], err);
        if (rc == 0)
            rc = cubin_ptxas(out, first, triple[i + 2], err);
    }
    return rc;
}

static int run(const char *compiler, const char *out, const char *check, char **triple, int n, Err *err)
{
    json_t *golden = NULL, *made = json_pack("{s:s, s:{}}", "compiler", compiler, "kernels");
    int rc = check ? json_read_file(&golden, check, err) : 0, failed = 0;

    for (size_t i = 0; i < sizeof limits / sizeof *limits && rc == 0; i++) {
        KernelList kernels = {0};
        rc = collect(&kernels, limits[i].arch, triple, n, err);
        if (rc == 0 && check)
            failed |= gate(limits[i].arch, json_object_get(json_object_get(golden, "kernels"), limits[i].arch),
                           &kernels);
        else if (rc == 0 && kernels.n)
            print_table(&limits[i], &kernels);
        if (rc == 0)
            json_object_set_new(json_object_get(made, "kernels"), limits[i].arch, facts(&kernels));
        cubin_free(&kernels);
    }
    if (rc == 0 && out)
        rc = json_write_file(made, out, err);
    json_decref(golden);
    json_decref(made);
    return rc < 0 ? rc : failed;
}

int main(int argc, char **argv)
{
    const char *compiler = "unknown", *out = NULL, *check = NULL;
    int at = 1;
    Err err = {0};

    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (strcmp(argv[at], "--compiler") == 0)
            compiler = argv[at + 1];
        else if (strcmp(argv[at], "--json") == 0)
            out = argv[at + 1];
        else if (strcmp(argv[at], "--check") == 0)
            check = argv[at + 1];
        else
            break;
    }
    if (argc - at < 3 || (argc - at) % 3) {
        fprintf(stderr, "usage: main_report [--compiler TEXT] [--json FILE] [--check FILE] ARCH CUBIN PTXAS.txt ...\n");
        return 2;
    }
    if (!check)
        printf("# CUDA kernels, compiled by %s\n\nMade by `make cuda-report`; nothing here was timed. Loop: the "
               "largest loop with HMMA or HGMMA, "
               "else the whole kernel"
               " (\"all\"). tensor/issue: cycles its HMMA keep the tensor core busy\nfor each instruction issued (8 "
               "cycles each on A100, 4 "
               "on H100; HGMMA, of wgmma: half its columns). Files *_90.cu are compiled for sm_90a alone. Roofline:"
               " the longer of FLOP/peak and bytes/bandwidth.\n",
               compiler);
    int rc = run(compiler, out, check, argv + at, argc - at, &err);
    if (rc < 0)
        fprintf(stderr, "main_report: %s\n", err.msg);
    return rc != 0;
}
