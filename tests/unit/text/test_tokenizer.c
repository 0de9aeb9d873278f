/* Which tokeniser a folder holds, T5's or CLIP's: by its files, by tokenizer.json, by what is asked
 * for; and the files of CLIP that contradict themselves. */
#include "check.h"
#include <string.h>
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/clip_tokenizer.h"
#include "common/text/t5_tokenizer.h"
#include "common/text/tokenizer.h"

#define GOLDEN "tests/golden/clip_pipeline/"

/* A fresh folder under that name; then a file in it, of these bytes or copied. */
static char *folder_of(const char *name)
{
    Err err = {0};
    char *dir = check_tmp_path(name);
    CHECK_OK(dir_remove(dir, &err), &err);
    CHECK_OK(dir_make(dir, &err), &err);
    return dir;
}

static void put(const char *dir, const char *name, const char *text)
{
    Err err = {0};
    CHECK_OK(file_write_atomic(check_path(dir, name), text, (int64_t)strlen(text), &err), &err);
}

static void copy(const char *dir, const char *name, const char *from)
{
    Err err = {0};
    char *bytes = NULL;
    int64_t size;
    CHECK_OK(file_read(check_repo_path(from), 1 << 24, &bytes, &size, &err), &err);
    CHECK_OK(file_write_atomic(check_path(dir, name), bytes, size, &err), &err);
    mem_free(bytes);
}

static void expect(const char *path, TextKind want, TextKind kind)
{
    Err err = {0};
    Tokenizer *t = NULL;
    CHECK_OK(tokenizer_open(&t, path, want, &err), &err);
    assert_int_equal(tokenizer_kind(t), kind);
    assert_int_equal(tokenizer_first(t), kind == TEXT_T5 ? -1 : tokenizer_vocab(t) - 2);
    assert_int_equal(tokenizer_last(t), kind == TEXT_T5 ? 1 : tokenizer_vocab(t) - 1);
    assert_int_equal(tokenizer_pad(t), kind == TEXT_T5 ? 0 : tokenizer_vocab(t) - 1);
    tokenizer_close(&t);
    tokenizer_close(&t);
}

static void refuse(const char *path, TextKind want, int code, const char *part)
{
    Err err = {0};
    Tokenizer *t = NULL;
    CHECK_FAILS(tokenizer_open(&t, path, want, &err), code, part, &err);
    assert_null(t);
}

static void knows_the_kind(void **state)
{
    (void)state;
    const char *t5 = check_repo_path("tests/golden/pipeline/model/tokenizer");
    const char *t5_json = check_repo_path("tests/golden/tokenizer");
    const char *clip = check_repo_path(GOLDEN "model/tokenizer"), *clip_json = check_repo_path(GOLDEN "tokenizer_5");
    expect(t5, TEXT_AUTO, TEXT_T5);
    expect(t5, TEXT_T5, TEXT_T5);
    expect(t5_json, TEXT_AUTO, TEXT_T5);
    expect(clip, TEXT_AUTO, TEXT_CLIP);
    expect(clip, TEXT_CLIP, TEXT_CLIP);
    expect(clip_json, TEXT_AUTO, TEXT_CLIP);
    expect(check_path(clip, "merges.txt"), TEXT_AUTO, TEXT_CLIP);
    expect(check_path(clip_json, "tokenizer.json"), TEXT_AUTO, TEXT_CLIP);
    expect(check_path(t5, "spiece.model"), TEXT_AUTO, TEXT_T5);
    refuse(t5, TEXT_CLIP, ERR_USAGE, "holds the tokeniser of T5, but the text encoder is CLIP (merges.txt");
    refuse(t5_json, TEXT_CLIP, ERR_USAGE, "holds the tokeniser of T5");
    refuse(clip, TEXT_T5, ERR_USAGE, "holds the tokeniser of CLIP, but the text encoder is T5 (spiece.model");
    refuse(clip_json, TEXT_T5, ERR_USAGE, "holds the tokeniser of CLIP");

    char *dir = folder_of("both");
    refuse(dir, TEXT_AUTO, ERR_NOTFOUND, "none of spiece.model (T5), merges.txt with vocab.json (CLIP)");
    copy(dir, "spiece.model", "tests/golden/pipeline/model/tokenizer/spiece.model");
    copy(dir, "merges.txt", GOLDEN "model/tokenizer/merges.txt");
    refuse(dir, TEXT_AUTO, ERR_USAGE, "set model.text_encoder to t5 or clip");
    expect(dir, TEXT_T5, TEXT_T5);
    expect(dir, TEXT_CLIP, TEXT_CLIP);
}

static void refuses_other_padding(void **state)
{
    (void)state;
    char *dir = folder_of("pad");
    copy(dir, "merges.txt", GOLDEN "model/tokenizer/merges.txt");
    expect(dir, TEXT_AUTO, TEXT_CLIP);
    /* what transformers writes where no length is known: int(1e30) */
    put(dir, "tokenizer_config.json",
        "{\"model_max_length\": 1000000000000000019884624838656, \"pad_token\": \"<|endoftext|>\"}");
    expect(dir, TEXT_AUTO, TEXT_CLIP);
    put(dir, "tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656, \"pad_token\": \"!\"}");
    refuse(dir, TEXT_AUTO, ERR_UNSUPPORTED, "pads with '!'");
    put(dir, "special_tokens_map.json", "{\"pad_token\": {\"content\": \"<|endoftext|>\"}}"); /* counts first */
    expect(dir, TEXT_AUTO, TEXT_CLIP);
    put(dir, "special_tokens_map.json", "{\"pad_token\": {\"content\": \"<pad>\"}}");
    refuse(dir, TEXT_AUTO, ERR_UNSUPPORTED, "pads with '<pad>'");
    put(dir, "special_tokens_map.json", "{");
    refuse(dir, TEXT_AUTO, ERR_FORMAT, "special_tokens_map.json");
}

/* One change to a right tokenizer.json. */
static void refuses_json(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *part;
        int code;
    } bad[] = {
        {"\"type\": \"BPE\"", "\"type\": \"WordPiece\"", "model type 'WordPiece'", ERR_UNSUPPORTED},
        {"\"end_of_word_suffix\": \"</w>\"", "\"end_of_word_suffix\": \"\"", "the BPE is not CLIP's", ERR_UNSUPPORTED},
        {"\"byte_fallback\": false", "\"byte_fallback\": true", "the BPE is not CLIP's", ERR_UNSUPPORTED},
        {"\"type\": \"NFC\"", "\"type\": \"NFKC\"", "normalizer or pre_tokenizer is not CLIP's", ERR_UNSUPPORTED},
        {"\"type\": \"ByteLevel\"", "\"type\": \"Digits\"", "normalizer or pre_tokenizer is not CLIP's",
         ERR_UNSUPPORTED},
        {"\"content\": \"<|startoftext|>\"", "\"content\": \"<sks>\"", "added token '<sks>'", ERR_UNSUPPORTED},
        {"\"<|endoftext|>\": 573", "\"<|endoftext|>\": 574", "'<|endoftext|>' has the id 574", ERR_FORMAT},
        {"\"<|startoftext|>\": 572", "\"<sot>\": 572", "'<|startoftext|>' has no id", ERR_FORMAT},
        {"\"!\": 0", "\"!\": 1", "token '!' has the id 1, but the order of the merges gives it the id 0", ERR_FORMAT},
        {"\"!\": 0,", "", "573 tokens, but the merges make 574", ERR_FORMAT},
        {"\"vocab\":", "\"words\":", "0 tokens, but the merges make 574", ERR_FORMAT},
        {"\"merges\":", "\"rules\":", "no merges", ERR_FORMAT},
    };
    Err err = {0};
    Str text = {0};
    char *bytes = NULL, *dir = folder_of("json");
    int64_t size;
    CHECK_OK(file_read(check_repo_path(GOLDEN "tokenizer_5/tokenizer.json"), 1 << 24, &bytes, &size, &err), &err);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *at = strstr(bytes, bad[i].from);
        assert_non_null(at);
        text.len = 0;
        CHECK_OK(str_append_n(&text, bytes, at - bytes, &err), &err);
        CHECK_OK(str_append(&text, bad[i].to, &err), &err);
        CHECK_OK(str_append(&text, at + strlen(bad[i].from), &err), &err);
        put(dir, "tokenizer.json", text.data);
        refuse(dir, TEXT_AUTO, bad[i].code, bad[i].part);
    }
    str_fini(&text);
    mem_free(bytes);
}

/* Merges in their other form, "left right", and broken ones. */
static void reads_both_forms_of_merges(void **state)
{
    (void)state;
    static const char head[] =
        "{\"normalizer\":{\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\"},{\"type\":\"Lowercase\"}]},"
        "\"pre_tokenizer\":{\"pretokenizers\":[{\"type\":\"Split\"},{\"type\":\"ByteLevel\"}]},"
        "\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"merges\":";
    static const struct {
        const char *merges, *part;
    } bad[] = {{"[1]", "merges[0] is neither"},
               {"[[\"a\"]]", "merges[0] is neither"},
               {"[[\"a\",1]]", "merges[0] is neither"},
               {"[\"a b\",[\"a\\n\",\"b\"]]", "merges[1] is neither"},
               {"[\"a\"]", "left right"},
               {"[\"a b\",[\"ab\",\"c d\"]]", "left right"},
               {"[\"a b\"]", "0 tokens, but the merges make 515"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Err err = {0};
        Str text = {0};
        ClipTokenizer *t = NULL;
        CHECK_OK(str_printf(&text, &err, "%s%s}}", head, bad[i].merges), &err);
        CHECK_FAILS(clip_tokenizer_open_json(&t, text.data, text.len, "t", &err), ERR_FORMAT, bad[i].part, &err);
        assert_null(t);
        str_fini(&text);
    }
}

/* Bytes of a character that the cut divides are shown as U+FFFD. */
static void shows_what_was_cut(void **state)
{
    (void)state;
    Err err = {0};
    Tokenizer *t = NULL;
    char *cut = NULL;
    CHECK_OK(tokenizer_open(&t, check_repo_path(GOLDEN "model/tokenizer"), TEXT_CLIP, &err), &err);
    CHECK_OK(tokenizer_cut_text(t, "\xC3\xA9", 3, &cut, &err), &err); /* two tokens of one byte, room for one */
    assert_string_equal(cut, "\xEF\xBF\xBD");
    mem_free(cut);
    CHECK_OK(tokenizer_cut_text(t, "A<|endoftext|>B c", 3, &cut, &err), &err);
    assert_string_equal(cut, "<|endoftext|> b c");
    mem_free(cut);
    CHECK_FAILS(tokenizer_cut_text(t, "\xC3(", 3, &cut, &err), ERR_FORMAT, "UTF-8", &err);
    assert_null(cut);
    tokenizer_close(&t);
}

/* CLIP's own files, where they are at hand: vocab.json agrees with the merges, and tokenizer.json
 * is the same tokeniser. */
static void reads_clips_own_files(void **state)
{
    (void)state;
    Err err = {0};
    ClipTokenizer *t = NULL, *json = NULL;
    char *dir = check_need_shared("data/tokenizers/clip");
    CHECK_OK(clip_tokenizer_open(&t, dir, &err), &err);
    CHECK_OK(clip_tokenizer_open(&json, check_path(dir, "tokenizer.json"), &err), &err);
    assert_int_equal(clip_tokenizer_bos(t), CLIP_BOS);
    assert_int_equal(clip_tokenizer_eos(t), CLIP_EOS);
    assert_string_equal(clip_tokenizer_digest(t), clip_tokenizer_digest(json));
    clip_tokenizer_close(&t);
    clip_tokenizer_close(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_kind),     cmocka_unit_test(refuses_other_padding),
        cmocka_unit_test(refuses_json),       cmocka_unit_test(reads_both_forms_of_merges),
        cmocka_unit_test(shows_what_was_cut), cmocka_unit_test(reads_clips_own_files),
    };
    return check_run_live("tokenizer", tests);
}
