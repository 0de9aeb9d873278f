/* Philox against Random123's known answers; torch's stream against torch. */
#include "tests/check.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/base/rng.h"
#include "tests/golden/torch_randn.h"

static void philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t ctr[4], key[2], want[4];
    } kat[] = {
        /* Random123, kat_vectors, philox4x32 10 */
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        philox4x32(kat[i].ctr, kat[i].key, out);
        assert_memory_equal(out, kat[i].want, sizeof out);
    }
}

static void streams_differ_in_every_part_of_their_name(void **state)
{
    (void)state;
    Philox base = philox_stream(7, RNG_NOISE, 3, 5);
    const Philox others[] = {
        philox_stream(8, RNG_NOISE, 3, 5),
        philox_stream(7 + (1ull << 32), RNG_NOISE, 3, 5),
        philox_stream(7, RNG_TIMESTEP, 3, 5),
        philox_stream(7, RNG_NOISE, 4, 5),
        philox_stream(7, RNG_NOISE, 3 + (1ull << 32), 5),
        philox_stream(7, RNG_NOISE, 3, 6),
        philox_stream(7, RNG_NOISE, 3, 5 + (1ull << 32)),
        philox_stream(7, RNG_NOISE, 5, 3),
    };
    Philox again = philox_stream(7, RNG_NOISE, 3, 5);
    assert_memory_equal(&base, &again, sizeof base);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        int same = 0;
        for (uint64_t j = 0; j < 64; j++)
            same += philox_u32(&base, j) == philox_u32(&others[i], j);
        assert_true(same <= 1);
    }
}

/* Part of every run's reproducibility: these values may not change. */
static void streams_are_pinned(void **state)
{
    (void)state;
    Philox p = philox_stream(42, RNG_NOISE, 1, 2);
    const uint32_t want[4] = {0x20539a71, 0xce4141c0, 0x23a110d6, 0x6a36b9e2};
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(philox_u32(&p, i), want[i]);
}

static void philox_random_access_equals_filling(void **state)
{
    (void)state;
    Philox p = philox_stream(check_seed(), RNG_TEST, 0, 0);
    float out[40];
    for (uint64_t first = 0; first < 9; first++) {
        for (int64_t n = 0; n <= 13; n++) {
            memset(out, 0, sizeof out);
            philox_fill_normal(&p, first, out + 1, n);
            assert_true(out[0] == 0 && out[n + 1] == 0);
            for (int64_t i = 0; i < n; i++)
                assert_true(out[i + 1] == philox_normal(&p, first + (uint64_t)i));
        }
    }
}

/* Bounds: five standard errors of each statistic at n draws. */
static void philox_normals_are_normal(void **state)
{
    (void)state;
    enum { N = 200000 };
    static float x[N];
    Philox p = philox_stream(check_seed(), RNG_TEST, 1, 0);
    philox_fill_normal(&p, 0, x, N);
    double mean = 0, second = 0, fourth = 0, lag = 0, uniform = 0;
    for (int i = 0; i < N; i++) {
        mean += x[i];
        second += (double)x[i] * x[i];
        fourth += pow(x[i], 4);
        lag += i ? (double)x[i] * x[i - 1] : 0;
        float u = philox_uniform(&p, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        uniform += u;
    }
    check_value("mean", mean / N, 0, 5 / sqrt(N), 0);
    check_value("variance", second / N, 1, 5 * sqrt(2.0 / N), 0);
    check_value("fourth moment", fourth / N, 3, 5 * sqrt(96.0 / N), 0);
    check_value("lag 1", lag / N, 0, 5 / sqrt(N), 0);
    check_value("uniform mean", uniform / N, 0.5, 5 * sqrt(1.0 / 12 / N), 0);
}

static void permutation_is_one(void **state)
{
    (void)state;
    Philox p = philox_stream(check_seed(), RNG_ORDER, 0, 0);
    int64_t perm[97];
    for (int64_t n = 0; n <= 97; n++) {
        char seen[97] = {0};
        philox_permutation(&p, perm, n);
        for (int64_t i = 0; i < n; i++) {
            assert_true(perm[i] >= 0 && perm[i] < n && !seen[perm[i]]);
            seen[perm[i]] = 1;
        }
    }
    int count[6] = {0}; /* all six orders of three, about equally often: five standard errors */
    for (uint64_t s = 0; s < 6000; s++) {
        Philox q = philox_stream(s, RNG_ORDER, 0, 0);
        philox_permutation(&q, perm, 3);
        count[perm[0] * 2 + (perm[1] > perm[2])]++;
    }
    for (int i = 0; i < 6; i++)
        check_value("orders of three", count[i], 1000, 5 * sqrt(1000.0 * 5 / 6), 0);
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(philox_below(&p, i, 7) < 7);
    assert_int_equal(philox_below(&p, 0, 1), 0);
}

static void twister_known_answer(void **state)
{
    (void)state;
    TorchRng r;
    torch_seed(&r, 5489); /* the reference's default seed; its 10,000th number is in the C++ standard, [rand.predef] */
    uint32_t x = 0;
    for (int i = 0; i < 10000; i++)
        x = torch_u32(&r);
    assert_int_equal(x, 4123659995u);
}

static void torch_randn_matches_torch(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof torch_randn_cases / sizeof *torch_randn_cases; i++) {
        TorchRng r;
        const double *want = torch_randn_values + torch_randn_cases[i].at;
        torch_seed(&r, torch_randn_cases[i].seed);
        for (const int *n = torch_randn_cases[i].sizes; *n; want += *n++) {
            float *out = check_guarded(*n * (int64_t)sizeof *out);
            char what[64];
            snprintf(what, sizeof what, "case %zu, size %d", i, *n);
            torch_randn(&r, out, *n);
            check_near(what, out, want, *n, 2e-6, 0);
            check_guards(out);
            check_guarded_free(out);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),      cmocka_unit_test(streams_differ_in_every_part_of_their_name),
        cmocka_unit_test(streams_are_pinned),        cmocka_unit_test(philox_random_access_equals_filling),
        cmocka_unit_test(philox_normals_are_normal), cmocka_unit_test(permutation_is_one),
        cmocka_unit_test(twister_known_answer),      cmocka_unit_test(torch_randn_matches_torch),
    };
    return check_run_live("base_rng", tests);
}
