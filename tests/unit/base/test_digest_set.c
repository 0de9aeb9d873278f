/* A set of digests against its definition: what was added is in it, and nothing else. */
#include "check.h"
#include <stdio.h>
#include <string.h>
#include "common/base/digest_set.h"

static Digest digest_of(int i)
{
    char text[32];
    Digest d;
    Err err = {0};
    snprintf(text, sizeof text, "%d", i);
    CHECK_OK(sha256_bytes(text, (int64_t)strlen(text), &d, &err), &err);
    return d;
}

static void each_once(void **state)
{
    (void)state;
    Err err = {0};
    DigestSet s = {0};
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 10000; i++) {
            Digest d = digest_of(i);
            assert_int_equal(digest_set_add(&s, &d, &err), round == 0);
        }
    assert_int_equal(s.n, 10000);
    assert_true(s.slots * (int64_t)sizeof *s.slot <= 86 * s.n);
    digest_set_fini(&s);
}

/* Digests that begin alike, one of zeros, and one behind the last slot. */
static void alike(void **state)
{
    (void)state;
    Err err = {0};
    DigestSet s = {0};
    for (int round = 0; round < 2; round++)
        for (int first = 0; first < 256; first += 255)
            for (int last = 0; last < 256; last++) {
                Digest d = {{0}};
                memset(d.byte, first, 8);
                d.byte[31] = (uint8_t)last;
                assert_int_equal(digest_set_add(&s, &d, &err), round == 0);
            }
    digest_set_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_once), cmocka_unit_test(alike)};
    return check_run_live("base_digest_set", tests);
}
