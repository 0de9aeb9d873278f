/* Times the search for near duplicates among hashes of studio pictures: few silhouettes with noise of
 * their own, on backgrounds of nearly one pale colour, a few planted twins.
 *
 *   build/release/tests/bench/bench_duplicates [N...]     processor seconds for N clips each; default 100000 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/base/err.h"
#include "common/base/mem.h"
#include "prep/set/duplicates.h"

enum { SILHOUETTES = 200, NOISE = 8 /* 1 of so many bits differs from the silhouette's */, BITS = 12 };
static const double COLOUR = 6;

static uint64_t lcg(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 33;
}

static Lookalike studio(uint64_t *s, int64_t i, const Lookalike *shape)
{
    Lookalike x = shape[lcg(s) % SILHOUETTES];
    double light = (double)(lcg(s) % 300) / 10;
    x.pixels = (int64_t)(lcg(s) % 4);
    x.bytes = (int64_t)(lcg(s) % 1000);
    x.source = i;
    for (int b = 0; b < LOOKALIKE_BITS; b++)
        x.hash[b / 64] ^= (uint64_t)(lcg(s) % NOISE == 0) << b % 64;
    for (int c = 0; c < 3; c++)
        x.rgb[c] = 210 + light + (double)(lcg(s) % 50) / 10;
    return x;
}

static void measure(int64_t n)
{
    Err err = {0};
    uint64_t seed = 1;
    static Lookalike shape[SILHOUETTES];
    Lookalike *item = mem_calloc(n, sizeof *item, &err);
    int64_t *of = mem_calloc(n, sizeof *of, &err), found = 0, sum = 0;
    if (!item || !of) {
        fprintf(stderr, "bench_duplicates: %s\n", err.msg);
        exit(1);
    }
    memset(shape, 0, sizeof shape);
    for (int k = 0; k < SILHOUETTES; k++)
        for (int b = 0; b < LOOKALIKE_BITS; b++)
            shape[k].hash[b / 64] |= (lcg(&seed) & 1) << b % 64;
    for (int64_t i = 0; i < n; i++) {
        item[i] = studio(&seed, i, shape);
        if (i > 100 && lcg(&seed) % 100 == 0) {
            item[i] = item[lcg(&seed) % (uint64_t)i];
            item[i].source = i;
            for (int k = 0; k < 8; k++)
                item[i].hash[lcg(&seed) % 3] ^= (uint64_t)1 << lcg(&seed) % 64;
        }
    }
    clock_t start = clock();
    if (duplicates_find(item, n, BITS, COLOUR, of, &err) < 0)
        fprintf(stderr, "bench_duplicates: %s\n", err.msg);
    double took = (double)(clock() - start) / CLOCKS_PER_SEC;
    for (int64_t i = 0; i < n; i++) {
        found += of[i] >= 0;
        sum = (int64_t)((uint64_t)sum * 31 + (uint64_t)of[i]);
    }
    printf("| %lld | %.2f s | %lld found, sum %016llx |\n", (long long)n, took, (long long)found,
           (unsigned long long)sum);
    fflush(stdout);
    mem_free(item);
    mem_free(of);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        measure(atoll(argv[i]));
    if (argc < 2)
        measure(100000);
    return 0;
}
