/* Predicted time by operation on an A100 and an H100, and the memory, of what CogVideoX-2B is used
 * for: the models' own code run on a back end that counts.  Prints Markdown. */
#include <stdio.h>

#include "tests/cuda/count.h"
#include "tests/cuda/task.h"

/* The device's own: cuBLASLt workspace, scratch, and what the CUDA context and its modules take (an
 * assumption). */
#define FIXED_BYTES ((32 << 20) + (128 << 20) + 600e6)
#define SMALL 0.002 /* operations below this share of the time are summed up */

typedef struct Result {
    CountRow total;
    Counter rows;
    double memory;
} Result;

static int measure(TaskKind kind, Result *out, Err *err)
{
    Task *t = NULL;
    Counter c;
    int rc = count_open(&c, err);

    if (rc == 0)
        rc = task_open(&t, c.be, &size_2b, kind, 0, err);
    count_reset(&c); /* setting up is not the task */
    if (rc == 0)
        rc = task_run(t, err);
    if (rc == 0) {
        out->rows = c;
        out->total = count_total(&c);
        out->memory = (double)(task_work_bytes(t) + task_kept_bytes(t)) + FIXED_BYTES;
    }
    task_close(&t);
    count_close(&c);
    return rc;
}

static void print_row(const CountRow *r)
{
    printf("| %s | %lld | %.4g | %.4g | %.4g | %.4g | %.4g | %.4g |\n", r->op, (long long)r->calls, r->flops * 1e-12,
           r->bytes * 1e-9, r->roof[0] * 1e3, r->plan[0] * 1e3, r->roof[1] * 1e3, r->plan[1] * 1e3);
}

static void add_to(CountRow *sum, const CountRow *r)
{
    sum->calls += r->calls;
    sum->flops += r->flops;
    sum->bytes += r->bytes;
    for (int m = 0; m < MACHINES; m++) {
        sum->roof[m] += r->roof[m];
        sum->plan[m] += r->plan[m];
    }
}

static void print_detail(const char *name, const Result *r)
{
    CountRow rest = {.op = "the rest"}, all = r->total;

    printf("\n## %s\n\n| operation | calls | TFLOP | GB | A100 limit ms | A100 predicted ms | H100 limit ms | H100 "
           "predicted ms |\n"
           "|---|---|---|---|---|---|---|---|\n",
           name);
    for (int i = 0; i < r->rows.n; i++) {
        const CountRow *row = &r->rows.row[i];
        if (row->plan[0] < SMALL * all.plan[0])
            add_to(&rest, row);
        else
            print_row(row);
    }
    print_row(&rest);
    all.op = "**all**";
    print_row(&all);
}

static void print_assumptions(void)
{
    printf("# Predicted times and memory of CogVideoX-2B on one GPU\n\n"
           "**A prediction. Nothing here was timed.** Made by `make cuda-report`: the models' own code runs on a back "
           "end that only counts "
           "the FLOPs and\n"
           "the passes over memory of every operation, as the kernels of common/ops/cuda make them (attention's "
           "backward: 5 products, gQ's "
           "sums in 4 bytes; norms' backward\n"
           "reads its operands twice). A call takes the longer of FLOP/(peak x share) and bytes/(bandwidth x share), "
           "and %.0f us a launch. "
           "Calls do not overlap.\n"
           "\"Limit\" is the same at shares of 1 and without launches. MFU counts what the maths needs: no "
           "recomputation, 5 products in "
           "attention's backward.\n"
           "49 frames of 480 x 720, batch 2, bf16 activations. Copies from and to the host, and the host's own work, "
           "are not counted.\n\n"
           "Assumed shares of the peak, from what published kernels of the same make reach (attention forward on H100: "
           "wgmma without TMA, held to be "
           "near\nTriton's and cuDNN's 403 and 413 TFLOP/s at head dimension 64 and 16k tokens in arXiv 2407.08608, "
           "below FlashAttention-3's 497; its backward below cuDNN's 0.44 there; its convolution: wgmma "
           "fed by\ncp.async, no published figure, held to be below cuBLASLt):\n\n"
           "| | peak TFLOP/s | products (cuBLASLt) | attention | its backward | convolution | products outside the "
           "tensor cores | peak "
           "TB/s | memory |\n"
           "|---|---|---|---|---|---|---|---|---|\n",
           machines[0].launch * 1e6);
    for (int m = 0; m < MACHINES; m++) {
        const double *s = machines[m].reached;
        printf("| %s | %.0f | %.2f | %.2f | %.2f | %.2f | %.4f | %.2f | %.2f |\n", machines[m].name,
               machines[m].peak * 1e-12, s[COST_PRODUCT], s[COST_ATTENTION], s[COST_ATTENTION_BACK], s[COST_CONV],
               s[COST_PLAIN], machines[m].bandwidth * 1e-12, s[COST_MEMORY]);
    }
}

/* The forward and backward pass without recomputation: what every policy is rated by. */
static void print_summary(const Result *r)
{
    double useful = r[TASK_TRAIN_NONE].total.useful;

    printf("\n## Summary\n\n| | A100 limit s | A100 predicted s | H100 limit s | H100 predicted s | device memory GB | "
           "A100 / H100 MFU "
           "|\n|---|---|---|---|---|---|---|\n");
    for (int k = 0; k < TASKS; k++) {
        const CountRow *t = &r[k].total;
        double times = k == TASK_SAMPLE ? (double)size_2b.sampling_steps : 1,
               maths = k <= TASK_TRAIN_BLOCK_ATTENTION ? useful : t->useful;
        printf("| %s%s | %.3f | %.3f | %.3f | %.3f | %.1f | %.0f %% / %.0f %% |\n", task_names[k],
               k == TASK_SAMPLE ? " x 50" : "", times * t->roof[0], times * t->plan[0], times * t->roof[1],
               times * t->plan[1], r[k].memory * 1e-9, 100 * maths / t->plan[0] / machines[0].peak,
               100 * maths / t->plan[1] / machines[1].peak);
    }
    const CountRow *t = &r[TASK_TRAIN_BLOCK_ATTENTION].total;
    double n = (double)size_2b.batch;
    printf("\nA training step is %.0f samples: with block+attention one takes %.2f s on an A100, %.2f s on an H100. "
           "Memory: weights (bf16; in "
           "training F32 master weights,\n"
           "gradients and both moments too), planned working memory, 168 MB of the back end's own and 600 MB assumed "
           "for the CUDA context.\n",
           n, t->plan[0] / n, t->plan[1] / n);
}

int main(void)
{
    static Result r[TASKS];
    Err err = {0};

    for (int k = 0; k < TASKS; k++)
        if (measure((TaskKind)k, &r[k], &err) < 0) {
            fprintf(stderr, "main_prediction: %s: %s\n", task_names[k], err.msg);
            return 1;
        }
    print_assumptions();
    print_summary(r);
    for (int k = 0; k < TASKS; k++)
        print_detail(task_names[k], &r[k]);
    return 0;
}
