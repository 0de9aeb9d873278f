/* Near-duplicate search: against brute force, with planted twins among 100,000, on even and on
 * lopsided hashes; and on lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "check.h"
#include "common/base/json.h"
#include "common/base/mem.h"
#include "prep/set/duplicates.h"

enum { BITS = 12 };
static const double COLOUR = 6;

static uint64_t lcg(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 32;
}

/* lopsided: three of four bits are mostly 0, as around a head on a white wall. */
static Lookalike any(uint64_t *s, int64_t i, int lopsided)
{
    Lookalike x = {.pixels = (int64_t)(lcg(s) % 4), .bytes = (int64_t)(lcg(s) % 100), .source = i};
    for (int b = 0; b < LOOKALIKE_BITS; b++)
        x.hash[b / 64] |= (uint64_t)(lopsided && b % 4 ? lcg(s) % 4 == 0 : lcg(s) & 1) << b % 64;
    for (int c = 0; c < 3; c++)
        x.rgb[c] = (double)(lcg(s) % 256);
    return x;
}

static void flip(Lookalike *x, uint64_t *s, int bits)
{
    uint8_t done[LOOKALIKE_BITS] = {0};
    while (bits > 0) {
        int b = (int)(lcg(s) % LOOKALIKE_BITS);
        if (!done[b]) {
            x->hash[b / 64] ^= (uint64_t)1 << b % 64;
            done[b] = 1;
            bits--;
        }
    }
}

static int preferred(const Lookalike *item, int64_t a, int64_t b)
{
    if (item[a].pixels != item[b].pixels)
        return item[a].pixels > item[b].pixels;
    if (item[a].bytes != item[b].bytes)
        return item[a].bytes > item[b].bytes;
    return a < b;
}

/* The rule as the header says it, each against each. */
static void brute(const Lookalike *item, int64_t n, int64_t bits, int64_t *of)
{
    int64_t *order = malloc((size_t)n * sizeof *order);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i;
        for (; at > 0 && preferred(item, i, order[at - 1]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (int64_t r = 0; r < n; r++) {
        int64_t i = order[r];
        of[i] = -1;
        for (int64_t q = 0; q < r && of[i] < 0; q++) {
            int64_t k = order[q], distance = 0;
            for (int w = 0; w < 3; w++)
                distance += __builtin_popcountll(item[i].hash[w] ^ item[k].hash[w]);
            if (of[k] < 0 && distance <= bits && item[k].source != item[i].source &&
                lookalike_colour(&item[i], &item[k]) < COLOUR)
                of[i] = k;
        }
    }
    free(order);
}

static void as_brute_force(void **state)
{
    enum { N = 2000 };
    static Lookalike item[N];
    static int64_t got[N], want[N];
    uint64_t seed = check_seed();
    Err err = {0};
    (void)state;
    for (int round = 0; round < 6; round++) {
        int64_t bits = round == 3 ? 2 : round == 4 ? 24 : BITS, found = 0;
        int64_t n = round == 5 ? 400 : N; /* so few that each is compared with each */
        for (int64_t i = 0; i < n; i++) {
            item[i] = any(&seed, i, round & 1);
            /* near and not so near twins, chains of them, some of the same source */
            if (i > 20 && lcg(&seed) % 3 == 0) {
                Lookalike twin = item[lcg(&seed) % (uint64_t)i];
                twin.bytes = (int64_t)(lcg(&seed) % 100);
                twin.source = lcg(&seed) % 8 ? i : twin.source;
                twin.rgb[0] += (double)(lcg(&seed) % 9);
                flip(&twin, &seed, (int)(lcg(&seed) % (uint64_t)(bits + 5)));
                item[i] = twin;
            }
        }
        CHECK_OK(duplicates_find(item, n, bits, COLOUR, got, &err), &err);
        brute(item, n, bits, want);
        for (int64_t i = 0; i < n; i++) {
            if (got[i] != want[i])
                fail_msg("round %d, clip %d: %d, each against each says %d", round, (int)i, (int)got[i], (int)want[i]);
            found += got[i] >= 0;
        }
        assert_true(found > n / 40);
    }
    CHECK_OK(duplicates_find(item, 0, BITS, COLOUR, got, &err), &err);
    CHECK_FAILS(duplicates_find(item, 1, 25, COLOUR, got, &err), ERR_USAGE, "24", &err);
}

static void hundred_thousand(void **state)
{
    enum { N = 100000, TWINS = 1000 };
    uint64_t seed = check_seed() + 1;
    Err err = {0};
    (void)state;
    Lookalike *item = calloc(N, sizeof *item);
    int64_t *of = calloc(N, sizeof *of);
    for (int lopsided = 0; lopsided < 2; lopsided++) {
        for (int64_t i = 0; i < N; i++) {
            item[i] = any(&seed, i, lopsided);
            if (i >= N - TWINS) {
                item[i] = item[(i - (N - TWINS)) * 7];
                item[i].pixels = -1; /* smaller than all */
                item[i].source = i;
                flip(&item[i], &seed, (int)(lcg(&seed) % (BITS + 1)));
            }
        }
        clock_t start = clock(); /* of this process alone: other programs may be running */
        CHECK_OK(duplicates_find(item, N, BITS, COLOUR, of, &err), &err);
        double took = (double)(clock() - start) / CLOCKS_PER_SEC;
        print_message("100000 clips, %s hashes: %.2f s\n", lopsided ? "lopsided" : "even", took);
        assert_true(took < 10);
        for (int64_t i = N - TWINS; i < N; i++)
            if (of[i] < 0 || lookalike_distance(&item[i], &item[of[i]]) > BITS)
                fail_msg("twin %d was not found", (int)i);
    }
    free(item);
    free(of);
}

static char *line(const char *id, const char *decision, int64_t width, const char *path)
{
    return mem_printf(
        NULL,
        "{\"id\":\"%s\",\"decision\":\"%s\",\"reason\":%s,\"warnings\":[],\"source\":{\"path\":\"%s\",\"size\":9},"
        "\"probe\":{\"width\":%lld,\"height\":10},\"quality\":{\"mean_rgb\":[1.0,2.0,3.0],"
        "\"hashes\":[\"fffffef8f1e78f3f\",\"00000000000000ff\",\"0000000000000%s\"]},\"clip\":{}}",
        id, decision, strcmp(decision, "accept") == 0 ? "null" : "{\"code\":\"too_short\",\"text\":\"x\"}", path,
        (long long)width, id);
}

static void lines_are_marked(void **state)
{
    QualityLimits l = {.duplicates = FOUND_REJECT, .duplicate_bits = 12, .duplicate_colour = 6};
    Err err = {0};
    (void)state;
    for (int round = 0; round < 3; round++) {
        char *lines[] = {line("00a", "accept", 10, "a"), line("00b", "accept", 20, "b"), line("00c", "reject", 30, "c"),
                         line("00d", "accept", 20, "b"), line("fff", "accept", 10, "e")};
        l.duplicates = round == 0 ? FOUND_REJECT : round == 1 ? FOUND_WARN : FOUND_IGNORE;
        CHECK_OK(duplicates_mark(lines, 5, &l, NULL, &err), &err);
        for (int i = 0; i < 5; i++) {
            int alike = i == 0 || i == 4; /* c is rejected already, d is of b's source */
            assert_int_equal(strstr(lines[i], "looks like '00b'") != NULL, alike && round < 2);
            assert_int_equal(strstr(lines[i], "\"decision\":\"reject\"") != NULL, i == 2 || (alike && round == 0));
            mem_free(lines[i]);
        }
    }
    l.duplicates = FOUND_REJECT;
    for (int64_t n = 1;; n++) { /* without memory: an error, and whole lines */
        char *lines[] = {line("00a", "accept", 10, "a"), line("00b", "accept", 20, "b")};
        mem_fail_after(n);
        int rc = duplicates_mark(lines, 2, &l, NULL, &err), failed = mem_failed();
        mem_fail_after(0);
        assert_true(lines[0][strlen(lines[0]) - 1] == '}');
        mem_free(lines[0]);
        mem_free(lines[1]);
        if (!failed) {
            CHECK_OK(rc, &err);
            assert_true(n > 5);
            break;
        }
        CHECK_FAILS(rc, ERR_NOMEM, "", &err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_brute_force), cmocka_unit_test(hundred_thousand),
                                       cmocka_unit_test(lines_are_marked)};
    return check_run_live("prep duplicates", tests);
}
