/* The CLIP tokeniser on a handful of merges, so that every id is known: byte order, words,
 * contractions, normalisation, specials, merge order; and the files it refuses. */
#include "check.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/text/clip_tokenizer.h"

/* Byte b alone, and b at a word's end. */
#define BYTE(b)              \
    ((b) >= 174   ? (b)-68   \
     : (b) == 173 ? 255      \
     : (b) >= 161 ? (b)-67   \
     : (b) >= 127 ? 94 + (b) \
     : (b) >= 33  ? (b)-33   \
                  : 188 + (b))
#define LAST(b) (256 + BYTE(b))
enum { M_AB = 512, M_RE, M_RED, M_DD, M_BC, M_E_ACUTE };

static const char merges[] = "#version: 0.2\n"
                             "a b\n"                    /* 512 */
                             "r e\n"                    /* 513 */
                             "re d</w>\n"               /* 514 */
                             "d d\n"                    /* 515 */
                             "b c</w>\n"                /* 516 */
                             "\xC3\x83 \xC2\xA9</w>\n"; /* 517: the bytes C3 A9 */

static ClipTokenizer *open_small(void)
{
    Err err = {0};
    ClipTokenizer *t = NULL;
    char *path = check_tmp_path("merges.txt");
    CHECK_OK(file_write_atomic(path, merges, sizeof merges - 1, &err), &err);
    CHECK_OK(clip_tokenizer_open(&t, check_tmp(), &err), &err);
    return t;
}

static void expect_ids(const ClipTokenizer *t, const char *text, int64_t size, const int32_t *want, int64_t n_want)
{
    Err err = {0};
    int32_t *ids = NULL;
    int64_t n = 0;
    CHECK_OK(clip_tokenizer_encode(t, text, size, &ids, &n, &err), &err);
    assert_int_equal(ids[0], clip_tokenizer_bos(t));
    assert_int_equal(ids[n - 1], clip_tokenizer_eos(t));
    for (int64_t i = 0; i < n - 2 && i < n_want; i++)
        if (ids[i + 1] != want[i])
            fail_msg("\"%s\": id %d is %d, expected %d", text, (int)i, ids[i + 1], want[i]);
    if (n - 2 != n_want)
        fail_msg("\"%s\": %d ids, expected %d", text, (int)n - 2, (int)n_want);
    mem_free(ids);
}
#define EXPECT(t, text, ...)                                                           \
    expect_ids((t), (text), (int64_t)sizeof(text) - 1, (const int32_t[]){__VA_ARGS__}, \
               (int64_t)(sizeof((int32_t[]){__VA_ARGS__}) / 4))

static void ids_by_hand(void **state)
{
    (void)state;
    ClipTokenizer *t = open_small();
    expect_ids(t, "", 0, NULL, 0);
    expect_ids(t, " \t\xE2\x80\x83\n", 6, NULL, 0);
    EXPECT(t, "a", LAST('a'));
    EXPECT(t, "Red  RED", M_RED, M_RED);
    EXPECT(t, "redd", M_RE, BYTE('d'), LAST('d')); /* "re d</w>" is for a word's end; "d d" is not */
    EXPECT(t, "reddx", M_RE, M_DD, LAST('x'));
    EXPECT(t, "abc", M_AB, LAST('c')); /* the lower rank first, whatever the order of places */
    EXPECT(t, "abab", M_AB, BYTE('a'), LAST('b'));
    EXPECT(t, "ddddd!", M_DD, M_DD, LAST('d'), LAST('!')); /* left to right, no overlap */
    EXPECT(t, "2024", LAST('2'), LAST('0'), LAST('2'), LAST('4'));
    EXPECT(t, "it's", BYTE('i'), LAST('t'), BYTE('\''), LAST('s'));
    EXPECT(t, "!'s", BYTE('!'), LAST('\''), LAST('s'));
    EXPECT(t, "\xC3\xA9", M_E_ACUTE);
    EXPECT(t, "E\xCC\x81", M_E_ACUTE);                        /* composed, then lower case */
    EXPECT(t, "\xC4\xB0", LAST('i'), BYTE(0xCC), LAST(0x87)); /* I with dot: i, and a mark that is no letter */
    EXPECT(t, "\xCE\xA3", BYTE(0xCF), LAST(0x83));            /* no final-sigma rule */
    EXPECT(t, "\x01\xC2\xAD", BYTE(1), BYTE(0xC2), LAST(173));
    EXPECT(t, "\0", LAST(0));
    EXPECT(t, "a\xE2\x80\x8B", LAST('a'), BYTE(0xE2), BYTE(0x80), LAST(0x8B)); /* U+200B is no white space */
    /* specials */
    EXPECT(t, "a<|endoftext|>b", LAST('a'), clip_tokenizer_eos(t), LAST('b'));
    EXPECT(t, "a<|StartOfText|>b", LAST('a'), clip_tokenizer_bos(t), LAST('b'));
    EXPECT(t, "<|ENDOFTEXT|>", BYTE('<'), LAST('|'), BYTE('e'), BYTE('n'), BYTE('d'), BYTE('o'), BYTE('f'), BYTE('t'),
           BYTE('e'), BYTE('x'), LAST('t'), BYTE('|'), LAST('>'));
    clip_tokenizer_close(&t);
    clip_tokenizer_close(&t);
}

static void every_byte(void **state)
{
    (void)state;
    int seen[256] = {0}; /* the order of bytes is a permutation */
    for (int b = 0; b < 256; b++)
        seen[BYTE(b)]++;
    for (int i = 0; i < 256; i++)
        assert_int_equal(seen[i], 1);
}

static void padded(void **state)
{
    (void)state;
    Err err = {0};
    ClipTokenizer *t = open_small();
    int32_t ids[CLIP_LENGTH];
    int64_t used, cut;
    char text[2 * 76];
    for (int i = 0; i < 76; i++)
        memcpy(text + 2 * i, "x ", 2);
    for (int64_t words = 74; words <= 76; words++) {
        CHECK_OK(clip_tokenizer_encode_padded(t, text, 2 * words, ids, CLIP_LENGTH, &used, &cut, &err), &err);
        assert_int_equal(used, words < 75 ? words + 2 : 77);
        assert_int_equal(cut, words > 75 ? 1 : 0);
        assert_int_equal(ids[0], clip_tokenizer_bos(t));
        assert_int_equal(ids[74], LAST('x'));
        assert_int_equal(ids[75], words < 75 ? clip_tokenizer_eos(t) : LAST('x'));
        assert_int_equal(ids[76], clip_tokenizer_eos(t));
    }
    CHECK_FAILS(clip_tokenizer_encode_padded(t, "\xC3(", 2, ids, CLIP_LENGTH, &used, &cut, &err), ERR_FORMAT, "UTF-8",
                &err);
    CHECK_FAILS(clip_tokenizer_encode_padded(t, "a", 1 << 21, ids, CLIP_LENGTH, &used, &cut, &err), ERR_LIMIT,
                "at most", &err);
    clip_tokenizer_close(&t);
}

/* A word of 10^5 characters: quadratic merging would take minutes. */
static void long_word(void **state)
{
    (void)state;
    Err err = {0};
    ClipTokenizer *t = open_small();
    int64_t size = 100000, n;
    char *text = malloc((size_t)size);
    int32_t *ids;
    memset(text, 'd', (size_t)size);
    CHECK_OK(clip_tokenizer_encode(t, text, size, &ids, &n, &err), &err);
    assert_int_equal(n, 2 + size / 2 + 1); /* dd pairs; the last two stay: the end mark keeps them apart */
    mem_free(ids);
    free(text);
    clip_tokenizer_close(&t);
}

static void bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "no merges"},
        {"#version: 0.2\n", "no merges"},
        {"ab\n", "left right"},
        {"a b c\n", "left right"},
        {"a  b\n", "left right"},
        {" b\n", "empty token"},
        {"ab c\n", "is not a token of the lines before"},
        {"a b\na b\n", "line 2: this token exists already"},
        {"a b\nb c\nab c\na bc\n", "line 4: this token exists already"},
        {"a</w> b\n", "end-of-word mark"},
        {"\xFF b\n", "not one of the 256 byte symbols"},
        {"\xE4\xBD\xA0 b\n", "not one of the 256 byte symbols"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        ClipTokenizer *t = NULL;
        char *path = check_tmp_path("bad.txt");
        CHECK_OK(file_write_atomic(path, bad[i].text, (int64_t)strlen(bad[i].text), &err), &err);
        CHECK_FAILS(clip_tokenizer_open(&t, path, &err), ERR_FORMAT, bad[i].part, &err);
        assert_null(t);
    }
    Err err = {0};
    ClipTokenizer *t = NULL;
    CHECK_FAILS(clip_tokenizer_open(&t, check_tmp_path("absent"), &err), ERR_NOTFOUND, "absent", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_by_hand), cmocka_unit_test(every_byte), cmocka_unit_test(padded),
        cmocka_unit_test(long_word),   cmocka_unit_test(bad_files),
    };
    return check_run_live("text_clip", tests);
}
