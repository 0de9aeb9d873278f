/* The one table of reason codes, and what is made from it. */
#include <ctype.h>
#include <string.h>
#include "check.h"
#include "reason_text.h"
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/schema.h"
#include "prep/picture/quality.h"

static void table(void **state)
{
    (void)state;
    for (int i = 0; i < REASON_COUNT; i++) {
        Reason r = (Reason)i;
        const char *code = reason_code(r), *sentence = reason_sentence(r);
        assert_int_equal(reason_find(code), r); /* no code twice */
        for (const char *c = code; *c; c++)
            assert_true(islower((unsigned char)*c) || *c == '_');
        assert_true(reason_rejects(r) || reason_notes(r));
        assert_true(isupper((unsigned char)sentence[0]) || strncmp(sentence, "captions_app", 12) == 0);
        assert_int_equal(sentence[strlen(sentence) - 1], '.');
    }
    assert_int_equal(reason_find("no_such_code"), REASON_COUNT);
    assert_int_equal(reason_find(""), REASON_COUNT);
}

/* Verdicts that depend on the machine or on captions are looked at again; notes about captions and
 * annotations are made by every run, so that none occurs twice. */
static void what_lasts(void **state)
{
    static const Reason redone[] = {REASON_MISSING, REASON_UNREADABLE,   REASON_HASH_MISMATCH, REASON_LIMIT,
                                    REASON_TIMEOUT, REASON_WORKER_CRASH, REASON_MEMORY,        REASON_EMPTY_CAPTION,
                                    REASON_CHANGED, REASON_BAD_CAPTION,  REASON_BAD_SEGMENTS};
    static const Reason kept[] = {REASON_DAMAGED, REASON_TOO_SHORT, REASON_DARK, REASON_NEAR_DUPLICATE, REASON_HDR};
    static const Reason pixels[] = {REASON_WINDOW_MOVED, REASON_COLOUR_GUESSED, REASON_DAMAGE_OUTSIDE, REASON_BLUR};
    static const Reason other[] = {REASON_EMPTY_CAPTION, REASON_NEAR_DUPLICATE, REASON_NO_CAPTION_FILE,
                                   REASON_ID_CHANGED, REASON_UNLISTED};
    (void)state;
    for (size_t i = 0; i < sizeof redone / sizeof *redone; i++)
        assert_true(reason_is_redone(redone[i]));
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        assert_false(reason_is_redone(kept[i]));
    for (size_t i = 0; i < sizeof pixels / sizeof *pixels; i++)
        assert_true(reason_is_about_pixels(pixels[i]));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(reason_is_about_pixels(other[i]));
    for (int c = 0; c < QUALITY_CODES; c++) {
        assert_true(reason_is_about_pixels(quality_reason((QualityCode)c)));
        assert_false(reason_is_redone(quality_reason((QualityCode)c)));
    }
    assert_string_equal(reason_code(quality_reason(QUALITY_DARK)), "dark");
    assert_string_equal(reason_code(quality_reason(QUALITY_VISIBLE)), "little_visible");
}

static void holds(const char *path, const char *head, const Str *part, const char *tail)
{
    Err err = {0};
    char *text;
    int64_t size;
    CHECK_OK(file_read(check_repo_path(path), 1 << 20, &text, &size, &err), &err);
    const char *at = strstr(text, head);
    if (!at || strncmp(at + strlen(head), part->data, (size_t)part->len) != 0 ||
        strncmp(at + strlen(head) + part->len, tail, strlen(tail)) != 0)
        fail_msg("%s does not hold what prep/reasons.def says; run %s", path,
                 "build/release/tests/tools/reasons --write");
    mem_free(text);
}

static void made_from_it(void **state)
{
    Err err = {0};
    Str rows = {0}, codes = {0};
    (void)state;
    CHECK_OK(reason_table(&rows, &err), &err);
    CHECK_OK(reason_enum(&codes, &err), &err);
    holds("datasets.md", REASON_TABLE_HEAD, &rows, "\n\n");
    holds("schemas/manifest.schema.json", REASON_ENUM_HEAD, &codes, "\n    ]}");
    str_fini(&rows);
    str_fini(&codes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(what_lasts),
                                       cmocka_unit_test(made_from_it)};
    return check_run_live("prep reasons", tests);
}
