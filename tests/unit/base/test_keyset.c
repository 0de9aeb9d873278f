/* Digests in a table: each has the number of its first coming. */
#include "check.h"
#include <string.h>
#include "common/base/keyset.h"

static Digest digest(int64_t i)
{
    Err err = {0};
    Digest d;
    CHECK_OK(sha256_bytes(&i, sizeof i, &d, &err), &err);
    return d;
}

static void numbers(void **state)
{
    (void)state;
    Err err = {0};
    KeySet s = {0};
    Digest d = digest(0);
    assert_int_equal(keyset_find(&s, &d), -1);
    for (int64_t i = 0; i < 3000; i++) { /* each comes twice */
        d = digest(i / 2);
        CHECK_OK(keyset_add(&s, &d, &err), &err);
        assert_int_equal(s.n, i / 2 + 1);
    }
    assert_true(s.room * (int64_t)sizeof *s.key + s.slots * (int64_t)sizeof *s.slot <= 40 * s.n);
    for (int64_t i = 0; i < 3000; i++) {
        d = digest(i);
        assert_int_equal(keyset_find(&s, &d), i < 1500 ? i : -1);
    }
    keyset_fini(&s);
    assert_int_equal(keyset_find(&s, &d), -1);
}

/* Keys that all belong to one slot, at the end of the table too. */
static void passes_over_taken_slots(void **state)
{
    (void)state;
    Err err = {0};
    KeySet s = {0};
    Digest d;
    for (int64_t i = 0; i < 400; i++) {
        memset(&d, 0xff, sizeof d);
        memcpy(&d.byte[8], &i, sizeof i);
        CHECK_OK(keyset_add(&s, &d, &err), &err);
        assert_int_equal(keyset_find(&s, &d), i);
        d.byte[31] = 0; /* the second half is not kept */
        assert_int_equal(keyset_find(&s, &d), i);
        d.byte[15] = 1;
        assert_int_equal(keyset_find(&s, &d), -1);
    }
    keyset_fini(&s);
}

static void takes_hex(void **state)
{
    (void)state;
    Err err = {0};
    KeySet s = {0};
    char hex[65];
    Digest d = digest(7);
    digest_hex(&d, hex);
    CHECK_OK(keyset_add_hex(&s, hex, &err), &err);
    assert_int_equal(keyset_find(&s, &d), 0);
    CHECK_FAILS(keyset_add_hex(&s, "12", &err), ERR_FORMAT, "64 hex digits", &err);
    keyset_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers), cmocka_unit_test(passes_over_taken_slots),
                                       cmocka_unit_test(takes_hex)};
    return check_run_live("base_keyset", tests);
}
