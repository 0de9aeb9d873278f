/* What it is worth to sum gradients over the ranks while the backward pass goes on.
 *
 *   build/release/tests/bench/bench_ranks [ROUNDS]     default 9
 *
 * Two ranks in two processes, one thread each.  A step is the backward pass of BLOCKS feed-forward layers, of
 * which each gives its gradients to the reducer as it ends ("as they come"), or all of them at the end
 * ("after").  Between the ranks lies a wire: a sum also takes the time in which its bytes would pass it, without
 * a processor.  Its speed is chosen so that a step's sums take a quarter, a half and the whole of the backward
 * pass, measured at the start.  Both kinds take turns, and what is printed are medians' ratios: the load of
 * the machine has little part in them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "common/base/progress.h"
#include "common/ops/ops.h"
#include "common/ranks/ranks_local.h"
#include "common/ranks/reducer.h"

enum { BLOCKS = 12, WIDTH = 384, TOKENS = 128, RANKS = 2, ROUNDS_MOST = 99, BLOCK = 4 * WIDTH * WIDTH };

/* A Ranks whose sums pass a wire; the rest is the local one's. */
typedef struct Wire {
    Ranks r; /* first */
    Ranks *under;
    double bytes_per_s; /* 0: as fast as memory */
} Wire;

static int wire_sum(Ranks *r, void *data, int64_t n, DType type, int64_t root, Err *err)
{
    const Wire *w = (const Wire *)r;
    if (w->bytes_per_s > 0) {
        double s = (double)(n * dtype_size(type)) / w->bytes_per_s;
        nanosleep(&(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)(1e9 * (s - (double)(time_t)s))}, NULL);
    }
    return w->under->sum(w->under, data, n, type, root, err);
}
static int wire_gather(Ranks *r, void *all, const void *mine, int64_t bytes, Err *err)
{
    Ranks *under = ((Wire *)r)->under;
    return under->gather(under, all, mine, bytes, err);
}
static void wire_cancel(Ranks *r)
{
    Ranks *under = ((Wire *)r)->under;
    under->cancel(under);
}

typedef struct Bench {
    Backend *be;
    Wire wire;
    Reducer *reducer;
    Tensor grads;
    Tensor w[BLOCKS], gw[BLOCKS], x, gx, gy;
    int64_t bound[RANKS + 1];
} Bench;

static int place(Backend *be, Tensor *t, int64_t rows, int64_t columns, Err *err)
{
    int rc = be->alloc(be, rows * columns * 4, &t->data, err);
    *t = tensor_of(t->data, DT_F32, 2, rows, columns);
    return rc < 0 ? rc : op_fill(be, t, 0.01, err);
}

static int bench_open(Bench *b, Ranks *under, Err *err)
{
    static const int64_t samples = RANKS;
    int rc = backend_open(&b->be, "cpu", 1, NULL, err);
    b->wire = (Wire){.r = *under, .under = under};
    b->wire.r.sum = wire_sum;
    b->wire.r.gather = wire_gather;
    b->wire.r.cancel = wire_cancel;
    for (int i = 1; i <= RANKS; i++)
        b->bound[i] = (int64_t)BLOCKS * BLOCK / RANKS * i;
    if (rc < 0 || (rc = place(b->be, &b->grads, BLOCKS, BLOCK, err)) < 0 ||
        (rc = place(b->be, &b->x, TOKENS, WIDTH, err)) < 0 || (rc = place(b->be, &b->gx, TOKENS, WIDTH, err)) < 0 ||
        (rc = place(b->be, &b->gy, TOKENS, 4 * WIDTH, err)) < 0)
        return rc;
    for (int i = 0; i < BLOCKS && rc == 0; i++) {
        b->gw[i] = tensor_of((float *)b->grads.data + (int64_t)i * BLOCK, DT_F32, 2, 4 * WIDTH, WIDTH);
        rc = place(b->be, &b->w[i], 4 * WIDTH, WIDTH, err);
    }
    b->grads = tensor_of(b->grads.data, DT_F32, 1, (int64_t)BLOCKS * BLOCK);
    return rc < 0 ? rc : reducer_open(&b->reducer, &b->wire.r, b->be, &b->grads, b->bound, &samples, 1, 0, err);
}

/* Seconds of a step in *s; `come`: ranges as they come. */
static int step(Bench *b, int come, double *s, Err *err)
{
    char me = 0, all[RANKS];
    int rc = b->wire.r.gather(&b->wire.r, all, &me, 1, err); /* both begin at once */
    double start = time_now_s();
    reducer_begin(b->reducer, RANKS);
    for (int i = BLOCKS - 1; i >= 0 && rc == 0; i--) {
        rc = op_linear_backward_x(b->be, &b->gx, &b->gy, &b->w[i], 0, err);
        if (rc == 0)
            rc = op_linear_backward_w(b->be, &b->gw[i], NULL, &b->gy, &b->x, err);
        if (come)
            reducer_range(b->reducer, (int64_t)i * BLOCK, BLOCK);
    }
    for (int i = BLOCKS - 1; i >= 0 && !come; i--)
        reducer_range(b->reducer, (int64_t)i * BLOCK, BLOCK);
    if (rc == 0)
        rc = reducer_finish(b->reducer, err);
    *s = time_now_s() - start;
    return rc;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *s, int n)
{
    qsort(s, (size_t)n, sizeof *s, ascending);
    return s[n / 2];
}

/* The backward pass alone, of both ranks at once: the slower one's. */
static int backward_s(Bench *b, int rounds, double *out, Err *err)
{
    double s[ROUNDS_MOST], all[RANKS];
    int rc = 0;
    for (int k = 0; k < rounds && rc == 0; k++) {
        double start = time_now_s();
        for (int i = 0; i < BLOCKS && rc == 0; i++)
            if ((rc = op_linear_backward_x(b->be, &b->gx, &b->gy, &b->w[i], 0, err)) == 0)
                rc = op_linear_backward_w(b->be, &b->gw[i], NULL, &b->gy, &b->x, err);
        s[k] = time_now_s() - start;
    }
    *out = median(s, rounds);
    if (rc == 0)
        rc = b->wire.r.gather(&b->wire.r, all, out, sizeof *out, err);
    *out = all[0] > all[1] ? all[0] : all[1];
    return rc;
}

static int bench(Ranks *under, int rounds, Err *err)
{
    static const double parts[] = {0.25, 0.5, 1};
    Bench b = {0};
    double alone = 0, come[ROUNDS_MOST], after[ROUNDS_MOST];
    int rc = bench_open(&b, under, err);
    if (rc == 0)
        rc = backward_s(&b, rounds, &alone, err);
    if (rc == 0 && under->rank == 0)
        printf("%d blocks of %d weights, backward pass %.1f ms\n%-26s %12s %12s %8s\n", BLOCKS, BLOCK, 1e3 * alone,
               "the sums take, of it", "as they come", "after", "ratio");
    for (size_t p = 0; p < sizeof parts / sizeof *parts && rc == 0; p++) {
        b.wire.bytes_per_s = (double)BLOCKS * BLOCK * 4 / (parts[p] * alone);
        for (int k = 0; k < rounds && rc == 0; k++)
            if ((rc = step(&b, 1, &come[k], err)) == 0)
                rc = step(&b, 0, &after[k], err);
        if (rc == 0 && under->rank == 0) {
            double c = median(come, rounds), a = median(after, rounds);
            printf("%-26.2f %9.2f    %9.2f    %8.3f\n", parts[p], c / alone, a / alone, c / a);
        }
    }
    reducer_close(&b.reducer);
    backend_close(&b.be);
    return rc;
}

static int rank_main(Hub *hub, int64_t rank, int rounds)
{
    Ranks *r = NULL;
    Err err = {0};
    int rc = ranks_local(&r, hub, rank, &err);
    if (rc == 0)
        rc = bench(r, rounds, &err);
    if (rc < 0)
        fprintf(stderr, "bench_ranks: rank %lld: %s\n", (long long)rank, err.msg);
    ranks_close(&r);
    return rc < 0;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 9, status = 0;
    Hub *hub = NULL;
    Err err = {0};
    if (rounds < 1 || rounds > ROUNDS_MOST || hub_new(&hub, RANKS, 1 << 22, &err) < 0) {
        fprintf(stderr, "usage: bench_ranks [ROUNDS], 1 to %d\n", ROUNDS_MOST);
        return 2;
    }
    pid_t other = fork();
    if (other == 0)
        _exit(rank_main(hub, 1, rounds));
    int failed = rank_main(hub, 0, rounds);
    waitpid(other, &status, 0);
    hub_close(&hub);
    return failed || status != 0;
}
