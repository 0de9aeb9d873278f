/* Names of files from texts. */
#include "tests/check.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/slug.h"

static void slug_is(const char *text, const char *want)
{
    Err err = {0};
    char *slug = slug_of(text, &err);
    assert_non_null(slug);
    assert_string_equal(slug, want);
    mem_free(slug);
}

static void words(void **state)
{
    (void)state;
    slug_is("A red dress.", "a-red-dress");
    slug_is("  \"T-shirt\" / 100% cotton... ", "t-shirt-100-cotton");
    slug_is("../../etc/passwd", "etc-passwd");
    slug_is("\xc3\x9c"
            "ber \xe7\xba\xa2\xe8\xa3\x99",
            "\xc3\xbc"
            "ber-\xe7\xba\xa2\xe8\xa3\x99"); /* Über 红裙 */
    slug_is("a\xe2\x80\xae"
            "b\n\tc",
            "a-b-c"); /* a right-to-left override is no letter */
}

/* sha256sum of the texts gave the digits. */
static void marked(void **state)
{
    (void)state;
    slug_is("", "e3b0c442");
    slug_is("...", "ab5df625");
    slug_is("A woman in a long red striped dress turns slowly around to the right side",
            "a-woman-in-a-long-red-striped-dress-turns-slowly-around-to-0a2b91ee");
}

static void stays_within_its_bytes(void **state)
{
    (void)state;
    char text[300] = "";
    for (int n = 0; n < 90; n++) {
        Err err = {0};
        strcat(text, n % 7 == 3 ? " " : "\xe7\xba\xa2");
        char *slug = slug_of(text, &err);
        assert_non_null(slug);
        assert_true(strlen(slug) <= SLUG_BYTES + 9 && str_is_utf8(slug, (int64_t)strlen(slug)));
        mem_free(slug);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(words), cmocka_unit_test(marked),
                                       cmocka_unit_test(stays_within_its_bytes)};
    return check_run_live("slug", tests);
}
