/* The T5 tokeniser on a model written here piece by piece, so that every id is known; and on one
 * that it trains. */
#include "check.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/t5_tokenizer.h"

/* ---- a model by hand (protobuf) -------------------------------------------------------------- */

static void put_field(Str *s, int number, const void *bytes, int64_t n)
{
    assert_true(n < 128 || number == 2 || number == 3);
    uint8_t head[6] = {(uint8_t)(number << 3 | 2), (uint8_t)(n & 0x7F)};
    int at = 2;
    for (int64_t rest = n >> 7; rest; rest >>= 7) {
        head[at - 1] |= 0x80;
        head[at++] = (uint8_t)(rest & 0x7F);
    }
    assert_int_equal(str_append_n(s, head, at, NULL), 0);
    assert_int_equal(str_append_n(s, bytes, n, NULL), 0);
}

static void put_varint(Str *s, int number, uint64_t v)
{
    uint8_t b[12];
    int n = 0;
    for (uint64_t tag = (uint64_t)number << 3;; tag >>= 7) {
        b[n] = tag & 0x7F;
        if (tag < 128) {
            n++;
            break;
        }
        b[n++] |= 0x80;
    }
    for (;; v >>= 7) {
        b[n] = v & 0x7F;
        if (v < 128) {
            n++;
            break;
        }
        b[n++] |= 0x80;
    }
    assert_int_equal(str_append_n(s, b, n, NULL), 0);
}

static void put_piece(Str *model, const char *text, float score, int type)
{
    Str p = {0};
    uint8_t head = 2 << 3 | 5;
    put_field(&p, 1, text, (int64_t)strlen(text));
    CHECK_OK(str_append_n(&p, &head, 1, NULL), NULL);
    CHECK_OK(str_append_n(&p, &score, 4, NULL), NULL);
    if (type != 1)
        put_varint(&p, 3, (uint64_t)type);
    put_field(model, 1, p.data, p.len);
    str_fini(&p);
}

typedef struct Build {
    int type, eos_first, no_pieces;
    const void *charsmap;
    int64_t charsmap_size;
    const char *extra_piece;
} Build;

#define SPACE "\xE2\x96\x81"
enum { ID_SPACE = 3, ID_A, ID_B, ID_SPACE_A, ID_AB, ID_C, ID_SPACE_AB, ID_EXTRA };

/* 0 <pad> 1 </s> 2 <unk> 3 _ 4 a 5 b 6 _a 7 ab 8 c 9 _ab */
static Str build_model(const Build *o)
{
    Str m = {0}, trainer = {0}, norm = {0};
    if (!o->no_pieces) {
        put_piece(&m, o->eos_first ? "</s>" : "<pad>", 0, 3);
        put_piece(&m, o->eos_first ? "<pad>" : "</s>", 0, 3);
        put_piece(&m, "<unk>", 0, 2);
        put_piece(&m, SPACE, -3, 1);
        put_piece(&m, "a", -2, 1);
        put_piece(&m, "b", -2, 1);
        put_piece(&m, SPACE "a", -2.5f, 1);
        put_piece(&m, "ab", -2.25f, 1);
        put_piece(&m, "c", -4, 1);
        put_piece(&m, SPACE "ab", -4, 1);
        if (o->extra_piece)
            put_piece(&m, o->extra_piece, -1, 1);
    }
    put_varint(&trainer, 3, (uint64_t)(o->type ? o->type : 1));
    put_varint(&trainer, 40, 2);
    put_varint(&trainer, 41, UINT64_MAX);
    put_varint(&trainer, 42, 1);
    put_varint(&trainer, 43, 0);
    put_field(&m, 2, trainer.data, trainer.len);
    put_field(&norm, 1, "identity", 8);
    if (o->charsmap)
        put_field(&norm, 2, o->charsmap, o->charsmap_size);
    put_field(&m, 3, norm.data, norm.len);
    str_fini(&trainer);
    str_fini(&norm);
    return m;
}

static T5Tokenizer *open_built(void)
{
    Err err = {0};
    T5Tokenizer *t = NULL;
    Str m = build_model(&(Build){0});
    CHECK_OK(t5_tokenizer_open_bytes(&t, m.data, m.len, &err), &err);
    str_fini(&m);
    assert_int_equal(t5_tokenizer_vocab(t), 110);
    return t;
}

static void expect_ids(const T5Tokenizer *t, const char *text, int64_t size, const int32_t *want, int64_t n_want)
{
    Err err = {0};
    int32_t *ids = NULL;
    int64_t n = 0;
    CHECK_OK(t5_tokenizer_encode(t, text, size, &ids, &n, &err), &err);
    for (int64_t i = 0; i < n && i < n_want; i++)
        if (ids[i] != want[i])
            fail_msg("\"%s\": id %d is %d, expected %d", text, (int)i, ids[i], want[i]);
    if (n != n_want)
        fail_msg("\"%s\": %d ids, expected %d", text, (int)n, (int)n_want);
    mem_free(ids);
}
#define EXPECT(t, text, ...)                                                           \
    expect_ids((t), (text), (int64_t)sizeof(text) - 1, (const int32_t[]){__VA_ARGS__}, \
               (int64_t)(sizeof((int32_t[]){__VA_ARGS__}) / 4))

static void ids_by_hand(void **state)
{
    (void)state;
    T5Tokenizer *t = open_built();
    EXPECT(t, "", 1);
    EXPECT(t, "   ", 1);
    EXPECT(t, "a", ID_SPACE_A, 1);
    EXPECT(t, "ab", ID_SPACE_AB, 1); /* -4 against _a b at -4.5, _ ab at -5.25 */
    EXPECT(t, "b  a", ID_SPACE, ID_B, ID_SPACE_A, 1);
    EXPECT(t, "zz", ID_SPACE, 2, 1);       /* a run of unknown characters is one id */
    EXPECT(t, "a\xFFz", ID_SPACE_A, 2, 1); /* any bytes */
    EXPECT(t, "a\0b", ID_SPACE_A, 2, ID_B, 1);
    /* special tokens: each chunk has its own leading space */
    EXPECT(t, "a</s>b", ID_SPACE_A, 1, ID_SPACE, ID_B, 1);
    EXPECT(t, "a</s>", ID_SPACE_A, 1); /* </s> is there already */
    EXPECT(t, "</s>", 1);
    EXPECT(t, "</s></s>", 1, 1);
    EXPECT(t, "<pad>a<unk>", 0, ID_SPACE_A, 2, 1);
    EXPECT(t, "<extra_id_0>", 109, 1);
    EXPECT(t, "<extra_id_99>", 10, 1);
    EXPECT(t, "<extra_id_7><extra_id_42>", 102, 67, 1);
    EXPECT(t, "<</s>", ID_SPACE, 2, 1);
    /* no sentinels */
    EXPECT(t, "<extra_id_100>", ID_SPACE, 2, ID_A, 2, 1);
    EXPECT(t, "<extra_id_07>", ID_SPACE, 2, ID_A, 2, 1);
    EXPECT(t, "<extra_id_>", ID_SPACE, 2, ID_A, 2, 1);
    EXPECT(t, "<extra_id_1", ID_SPACE, 2, ID_A, 2, 1);
    /* a sentinel swallows white space on both sides, also the kinds this model's (empty) character
     * map leaves alone */
    EXPECT(t,
           "a\xC2\x85\t<extra_id_0>\xE2\x80\x83 \xE3\x80\x80"
           "b",
           ID_SPACE_A, 109, ID_SPACE, ID_B, 1);
    EXPECT(t, "a\xC2\x85</s>b", ID_SPACE_A, 2, 1, ID_SPACE, ID_B, 1);
    EXPECT(t, "\xE2\x80\xA8<extra_id_0>\xC2\xA0", 109, 1);
    t5_tokenizer_close(&t);
    t5_tokenizer_close(&t);
}

static void padded(void **state)
{
    (void)state;
    Err err = {0};
    T5Tokenizer *t = open_built();
    int32_t ids[4];
    int64_t used, cut;
    static const struct {
        const char *text;
        int64_t length;
        int32_t want[4];
        int64_t used, cut;
    } cases[] = {
        {"a a", 4, {ID_SPACE_A, ID_SPACE_A, 1, 0}, 3, 0},
        {"a a a", 4, {ID_SPACE_A, ID_SPACE_A, ID_SPACE_A, 1}, 4, 0},
        {"a a a ab", 4, {ID_SPACE_A, ID_SPACE_A, ID_SPACE_A, 1}, 4, 1},
        {"a a a ab ab ab", 4, {ID_SPACE_A, ID_SPACE_A, ID_SPACE_A, 1}, 4, 3},
        {"", 4, {1, 0, 0, 0}, 1, 0},
        {"a", 1, {1}, 1, 1},
        {"a a</s> a ab", 4, {ID_SPACE_A, ID_SPACE_A, 1, 0}, 3, 2}, /* the kept part ends in </s>: no second one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t size = (int64_t)strlen(cases[i].text);
        CHECK_OK(t5_tokenizer_encode_padded(t, cases[i].text, size, ids, cases[i].length, &used, &cut, &err), &err);
        assert_memory_equal(ids, cases[i].want, (size_t)cases[i].length * 4);
        assert_int_equal(used, cases[i].used);
        assert_int_equal(cut, cases[i].cut);
    }
    CHECK_FAILS(t5_tokenizer_encode_padded(t, "a", 1, ids, 0, &used, &cut, &err), ERR_USAGE, "at least 1", &err);
    CHECK_FAILS(t5_tokenizer_encode_padded(t, "a", 1 << 25, ids, 4, &used, &cut, &err), ERR_LIMIT, "at most", &err);

    char *text = t5_tokenizer_decode(t, (const int32_t[]){ID_SPACE_A, ID_B, ID_SPACE_AB, 109, ID_SPACE_A, 1}, 6, &err);
    assert_non_null(text);
    assert_string_equal(text, "ab ab<extra_id_0>a");
    mem_free(text);
    assert_null(t5_tokenizer_decode(t, (const int32_t[]){110}, 1, &err));
    assert_non_null(strstr(err.msg, "110 is outside"));
    t5_tokenizer_close(&t);
}

static void refuse(const Build *o, int code, const char *part)
{
    Err err = {0};
    T5Tokenizer *t = NULL;
    Str m = build_model(o);
    CHECK_FAILS(t5_tokenizer_open_bytes(&t, m.data, m.len, &err), code, part, &err);
    assert_null(t);
    str_fini(&m);
}

static void bad_models(void **state)
{
    (void)state;
    Err err = {0};
    T5Tokenizer *t = NULL;
    refuse(&(Build){.type = 2}, ERR_UNSUPPORTED, "type 2");
    refuse(&(Build){.eos_first = 1}, ERR_UNSUPPORTED, "expected pad 0, eos 1, unk 2, found 1, 0, 2");
    refuse(&(Build){.no_pieces = 1}, ERR_FORMAT, "no pieces");
    refuse(&(Build){.extra_piece = ""}, ERR_FORMAT, "empty piece");
    refuse(&(Build){.extra_piece = "ab"}, ERR_FORMAT, "ab is already defined");
    CHECK_FAILS(t5_tokenizer_open_bytes(&t, "", 0, &err), ERR_FORMAT, "no pieces", &err);
    CHECK_FAILS(t5_tokenizer_open_bytes(&t, "\xFF\xFF\xFF", 3, &err), ERR_FORMAT, "cut", &err);
    CHECK_FAILS(t5_tokenizer_open_bytes(&t, "<html></html>", 13, &err), ERR_FORMAT, "not a SentencePiece model", &err);
    CHECK_FAILS(t5_tokenizer_open(&t, check_tmp(), &err), ERR_NOTFOUND, "neither spiece.model nor tokenizer.json",
                &err);
    Str m = build_model(&(Build){0});
    char *path = check_tmp_path("cut.model");
    CHECK_OK(file_write_atomic(path, m.data, m.len - 7, &err), &err);
    CHECK_FAILS(t5_tokenizer_open(&t, path, &err), ERR_FORMAT, "cut.model", &err);
    str_fini(&m);
}

#define JSON_HEAD "{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"vocab\":["
#define JSON_FIXED "[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0]"
#define JSON_VOCAB                                                            \
    JSON_FIXED ",[\"\xE2\x96\x81\",-3],[\"a\",-2],[\"b\",-2],[\"\xE2\x96\x81" \
               "a\",-2.5]"
#define METASPACE "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"always\"}"
#define JSON_TAIL "]},\"pre_tokenizer\":" METASPACE
#define JSON_OK JSON_HEAD JSON_VOCAB JSON_TAIL

/* tokenizer.json by hand: read, or refused with what is not T5's. */
static void json_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *part;
    } bad[] = {
        {"{", ERR_FORMAT, "tokenizer:1"},
        {"[]", ERR_UNSUPPORTED, "model type ''"},
        {"{\"model\":{\"type\":\"BPE\"}}", ERR_UNSUPPORTED, "model type 'BPE'"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0}}", ERR_UNSUPPORTED, "unk_id is 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":2,\"byte_fallback\":true}}", ERR_UNSUPPORTED, "byte_fallback"},
        {JSON_HEAD "[\"<pad>\",0]" JSON_TAIL "}", ERR_FORMAT, "a vocab of 1 pieces"},
        {JSON_HEAD JSON_FIXED ",[\"a\"]" JSON_TAIL "}", ERR_FORMAT, "vocab[3] is not [piece, score]"},
        {JSON_HEAD JSON_FIXED ",[\"a\",1e99]" JSON_TAIL "}", ERR_FORMAT, "vocab[3]"},
        {JSON_HEAD "[\"</s>\",0],[\"<pad>\",0],[\"<unk>\",0]" JSON_TAIL "}", ERR_UNSUPPORTED,
         "vocab[0] is '</s>', expected '<pad>'"},
        {JSON_HEAD JSON_VOCAB "]}}", ERR_UNSUPPORTED, "pre_tokenizer"},
        {JSON_HEAD JSON_VOCAB "]},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"never\"}}",
         ERR_UNSUPPORTED, "pre_tokenizer"},
        {JSON_OK ",\"normalizer\":{\"type\":\"Lowercase\"}}", ERR_UNSUPPORTED, "normalizer 'Lowercase'"},
        {JSON_OK ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A*==\"}}", ERR_FORMAT, "base64"},
        {JSON_OK ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}}", ERR_FORMAT,
         "character map cut short"},
        {JSON_OK ",\"added_tokens\":[{\"id\":7,\"content\":\"<brand>\"}]}", ERR_UNSUPPORTED, "added token '<brand>'"},
        {JSON_OK ",\"added_tokens\":[{\"id\":7,\"content\":\"<extra_id_0>\"}]}", ERR_UNSUPPORTED, "<extra_id_0> 106"},
    };
    Err err = {0};
    T5Tokenizer *t = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t size = (int64_t)strlen(bad[i].text);
        CHECK_FAILS(t5_tokenizer_open_json(&t, bad[i].text, size, "tokenizer", &err), bad[i].code, bad[i].part, &err);
        assert_null(t);
    }
    static const char good[] = JSON_OK ",\"normalizer\":null,\"added_tokens\":[{\"id\":0,\"content\":\"<pad>\"},"
                                       "{\"id\":106,\"content\":\"<extra_id_0>\"}]}";
    CHECK_OK(t5_tokenizer_open_json(&t, good, sizeof good - 1, "tokenizer", &err), &err);
    assert_int_equal(t5_tokenizer_vocab(t), 107);
    EXPECT(t, "a ba<extra_id_0>", 6, 3, 5, 4, 106, 1);
    t5_tokenizer_close(&t);
}

/* The library follows the character map without bounds: each of these would lead it outside. */
static void bad_charsmaps(void **state)
{
    (void)state;
    uint32_t map[1 + 256 + 1] = {1024};
    int64_t size = sizeof map;
    memset(map + 257, 0, 4);
    Build o = {.charsmap = map, .charsmap_size = size};
    Err err = {0};
    T5Tokenizer *t = NULL;
    Str m = build_model(&o);
    CHECK_OK(t5_tokenizer_open_bytes(&t, m.data, m.len, &err), &err); /* sound, and empty */
    EXPECT(t, "a", ID_SPACE_A, 1);
    t5_tokenizer_close(&t);
    str_fini(&m);
    refuse(&(Build){.charsmap = map, .charsmap_size = 3}, ERR_FORMAT, "cut short");
    refuse(&(Build){.charsmap = map, .charsmap_size = 4 + 1024}, ERR_FORMAT, "strings without an end");
    map[0] = 1020;
    refuse(&o, ERR_FORMAT, "wrong trie size");
    map[0] = 2048;
    refuse(&o, ERR_FORMAT, "wrong trie size");
    map[0] = 1024;
    map[1] = 256 << 10; /* the root leads to unit 256 of 256 */
    refuse(&o, ERR_FORMAT, "leads outside");
    map[1] |= 0x80000000;
    refuse(&o, ERR_FORMAT, "leads outside");
    map[1] = 1 << 8 | 1 << 10; /* the root has a value at unit 1, which points at string 4 of 4 bytes */
    map[2] = 0x80000004;
    refuse(&o, ERR_FORMAT, "string outside");
    map[1] = 0;
    map[2] = 0;
    map[257] = 0x01000000;
    refuse(&o, ERR_FORMAT, "strings without an end");
}

static const char *const captions[] = {
    "A woman in a red sleeveless dress walks forward.",
    "A woman in a blue striped shirt walks forward and turns.",
    "A man in a black jacket walks to the left.",
    "A woman in a floral long-sleeve dress turns around.",
    "A man in grey trousers walks forward.",
    "A woman in a white lace top walks to the right.",
    "A woman in a green skirt with pleats.",
    "The dress the person wears has short sleeves and it is of short length.",
};

static void trains(void **state)
{
    (void)state;
    Err err = {0};
    int64_t n_lines = sizeof captions / sizeof *captions, n, n1, n2;
    char *p1 = check_tmp_path("1.model"), *p2 = check_tmp_path("2.model"), *b1, *b2;
    CHECK_OK(t5_tokenizer_train(p1, captions, n_lines, 120, &err), &err);
    CHECK_OK(t5_tokenizer_train(p2, captions, n_lines, 120, &err), &err);
    CHECK_OK(file_read(p1, 1 << 24, &b1, &n1, &err), &err);
    CHECK_OK(file_read(p2, 1 << 24, &b2, &n2, &err), &err);
    assert_int_equal(n1, n2);
    assert_memory_equal(b1, b2, (size_t)n1); /* the same lines, the same model */
    mem_free(b1);
    mem_free(b2);

    T5Tokenizer *t = NULL;
    CHECK_OK(t5_tokenizer_open(&t, p1, &err), &err);
    assert_true(t5_tokenizer_vocab(t) > 140 && t5_tokenizer_vocab(t) <= 220);
    for (int64_t i = 0; i < n_lines; i++) {
        int32_t *ids;
        CHECK_OK(t5_tokenizer_encode(t, captions[i], (int64_t)strlen(captions[i]), &ids, &n, &err), &err);
        assert_int_equal(ids[n - 1], 1);
        for (int64_t k = 0; k < n - 1; k++)
            assert_true(ids[k] > 2);
        char *text = t5_tokenizer_decode(t, ids, n, &err);
        assert_string_equal(text, captions[i]);
        mem_free(text);
        mem_free(ids);
    }
    /* nmt_nfkc is in the model: full width, ligatures and line breaks fold; case stays */
    static const char *const same[][2] = {
        {"\xEF\xBC\xB2\xEF\xBC\xA5\xEF\xBC\xA4", "RED"}, {"\xEF\xAC\x81t", "fit"}, {" a\n\tred  ", "a red"}};
    for (size_t i = 0; i < 3; i++) {
        int32_t *x, *y;
        CHECK_OK(t5_tokenizer_encode(t, same[i][0], (int64_t)strlen(same[i][0]), &x, &n1, &err), &err);
        CHECK_OK(t5_tokenizer_encode(t, same[i][1], (int64_t)strlen(same[i][1]), &y, &n2, &err), &err);
        assert_int_equal(n1, n2);
        assert_memory_equal(x, y, (size_t)n1 * 4);
        mem_free(x);
        mem_free(y);
    }
    t5_tokenizer_close(&t);
    CHECK_FAILS(t5_tokenizer_train(p1, captions, 0, 120, &err), ERR_USAGE, "training a tokeniser", &err);
    CHECK_FAILS(t5_tokenizer_train(check_tmp_path("no/such/dir/m"), captions, n_lines, 120, &err), ERR_NOTFOUND,
                "no/such/dir", &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_by_hand), cmocka_unit_test(padded),        cmocka_unit_test(bad_models),
        cmocka_unit_test(json_files),  cmocka_unit_test(bad_charsmaps), cmocka_unit_test(trains),
    };
    return check_run_live("text_t5", tests);
}
