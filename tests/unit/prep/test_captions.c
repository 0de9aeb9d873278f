/* Clean-up rules, guesses from whole words, splits from hashes. */
#include <stdio.h>
#include <string.h>
#include "check.h"
#include "common/base/mem.h"
#include "prep/layout/captions.h"

static void rules(void **state)
{
    static const struct {
        CaptionRules rules;
        const char *in, *out;
    } cases[] = {{{0, 0, NULL}, "b'A dress'", "b'A dress'"},
                 {{1, 0, NULL}, "b'A dress'", "A dress"},
                 {{1, 0, NULL}, "\"A dress\"", "A dress"},
                 {{1, 0, NULL}, "\"A\" and \"B\"", "\"A\" and \"B\""},
                 {{1, 0, NULL}, "b''", ""},
                 {{0, 1, NULL}, "This video shows a red dress.", "A red dress."},
                 {{0, 1, NULL}, "In this video, the video", "The video"},
                 {{0, 1, NULL}, "The videographer walks.", "The videographer walks."},
                 {{0, 1, NULL}, "this video shows", "this video shows"},
                 {{1, 1, "TOK"}, "b'The video features: a coat'", "TOK A coat"},
                 {{1, 0, "TOK"}, "''", ""}};
    Err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = caption_rules(cases[i].in, &cases[i].rules, &err);
        assert_non_null(text);
        assert_string_equal(text, cases[i].out);
        mem_free(text);
    }
}

static void guesses(void **state)
{
    static const struct {
        const char *caption, *key, *value;
    } cases[] = {{"A flowing red evening dress with long sleeves", "category", "Dresses"},
                 {"A flowing red evening dress with long sleeves", "color", "red"},
                 {"A flowing red evening dress with long sleeves", "sleeve", "long"},
                 {"A flowing red evening dress with long sleeves", "style", "evening wear"},
                 {"A flowing red evening dress with long sleeves", "length", NULL},
                 {"The address is desktop", "category", NULL}, /* no whole word */
                 {"A jacket over a dress", "category", NULL},  /* two */
                 {"A crop top", "category", "Tops"},
                 {"A T-Shirt, black.", "category", "Tops"},
                 {"blackboard", "color", NULL},
                 {"It has no sleeves", "sleeve", "sleeveless"},
                 {"Its pattern is pure color.", "pattern", "pure color"}};
    Err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SourceList l = {0};
        Source *s;
        char mark[32];
        CHECK_OK(source_list_add(&l, &s, &err), &err);
        CHECK_OK(source_add_caption(s, cases[i].caption, (int64_t)strlen(cases[i].caption), &err), &err);
        CHECK_OK(captions_guess(s, &err), &err);
        const char *got = strcmp(cases[i].key, "category") == 0
                              ? s->category
                              : json_string_value(json_object_get(s->attributes, cases[i].key));
        if ((got == NULL) != (cases[i].value == NULL) || (got && strcmp(got, cases[i].value) != 0))
            fail_msg("'%s': %s is '%s', expected '%s'", cases[i].caption, cases[i].key, got ? got : "-",
                     cases[i].value ? cases[i].value : "-");
        snprintf(mark, sizeof mark, "%s_source", cases[i].key);
        if (got)
            assert_string_equal(json_string_value(json_object_get(s->attributes, mark)), "caption");
        source_list_fini(&l);
    }
    SourceList l = {0};
    Source *s;
    CHECK_OK(source_list_add(&l, &s, &err), &err);
    s->category = mem_strdup("Tops", &err); /* what is given stays, unmarked */
    CHECK_OK(source_add_caption(s, "A dress", 7, &err), &err);
    CHECK_OK(captions_guess(s, &err), &err);
    assert_string_equal(s->category, "Tops");
    assert_null(json_object_get(s->attributes, "category_source"));
    source_list_fini(&l);
}

static void splits(void **state)
{
    int test = 0, val = 0;
    char hex[65];
    (void)state;
    for (int i = 0; i < 10000; i++) {
        snprintf(hex, sizeof hex, "%08x%056d", (unsigned)i * 2654435761u, 0);
        const char *split = split_by_hash(hex, 0.2, 0.1);
        assert_string_equal(split, split_by_hash(hex, 0.2, 0.1));
        test += strcmp(split, "test") == 0;
        val += strcmp(split, "val") == 0;
    }
    assert_true(test >= 950 && test <= 1050);
    assert_true(val >= 1950 && val <= 2050);
    assert_string_equal(split_by_hash("ffffffffffffffff", 0, 1), "test");
    assert_string_equal(split_by_hash("0000000000000000", 0, 0), "train");
}

static void labels(void **state)
{
    static const char *const cases[][2] = {{"Dresses", "dresses"},
                                           {"  Pants & \t Skirts\n", "pants and skirts"},
                                           {"Pants/Skirts", "pants-skirts"},
                                           {"\u00c9t\u00e9 Kleid", "\u00c9t\u00e9 kleid"},
                                           {"", ""},
                                           {" \n", ""},
                                           {"&", "and"}};
    Err err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = label_counted(cases[i][0], &err);
        assert_string_equal(got, cases[i][1]);
        mem_free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules), cmocka_unit_test(guesses), cmocka_unit_test(splits),
                                       cmocka_unit_test(labels)};
    return check_run_live("prep captions", tests);
}
