/* tokenizer.json, as transformers 5 saves it, gives SentencePiece's ids: 3,000 drawn captions with
 * combining marks, half-width kana, ligatures and odd white space. */
#include "check.h"
#include <string.h>
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/t5_tokenizer.h"
#include "golden/tokenizer_json.h"

enum { N_CAPTIONS = 3000 };

static uint32_t drawn;

static uint32_t pick(size_t n)
{
    drawn = drawn * 1664525 + 1013904223;
    return (drawn >> 16) % (uint32_t)n;
}

/* As captions() of make_tokenizer_json.py. */
static void draw_caption(Str *text, Err *err)
{
    const size_t n_words = sizeof caption_words / sizeof *caption_words;
    const size_t n_separators = sizeof caption_separators / sizeof *caption_separators;
    uint32_t n = 1 + pick(24);
    text->len = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            CHECK_OK(str_append(text, caption_separators[pick(n_separators)], err), err);
        CHECK_OK(str_append(text, caption_words[pick(n_words)], err), err);
    }
}

static void ids_agree(const char *path, const char *want)
{
    Err err = {0};
    T5Tokenizer *t = NULL;
    Sha256 h = {0};
    Digest d;
    char hex[65];
    Str text = {0};
    CHECK_OK(t5_tokenizer_open(&t, path, &err), &err);
    CHECK_OK(sha256_init(&h, &err), &err);
    drawn = 12345;
    for (int i = 0; i < N_CAPTIONS; i++) {
        int32_t *ids = NULL;
        int64_t n = 0;
        draw_caption(&text, &err);
        CHECK_OK(t5_tokenizer_encode(t, text.data, text.len, &ids, &n, &err), &err);
        sha256_update(&h, ids, n * (int64_t)sizeof *ids);
        mem_free(ids);
    }
    sha256_final(&h, &d);
    digest_hex(&d, hex);
    assert_string_equal(hex, want);
    str_fini(&text);
    t5_tokenizer_close(&t);
}

static void small_model(void **state)
{
    (void)state;
    ids_agree(check_repo_path("tests/golden/pipeline/model/tokenizer"), small_ids_sha256); /* spiece.model */
    ids_agree(check_repo_path("tests/golden/tokenizer"), small_ids_sha256);                /* tokenizer.json */
}

static void t5_model(void **state)
{
    (void)state;
    ids_agree(check_need_shared("data/tokenizers/t5/spiece.model"), t5_ids_sha256);
    ids_agree(check_need_shared("data/tokenizers/t5/tokenizer.json"), t5_ids_sha256);
}

/* The digest is of the model, not of the file's layout; and spiece.model comes first. */
static void digests(void **state)
{
    (void)state;
    Err err = {0};
    T5Tokenizer *a = NULL, *b = NULL;
    CHECK_OK(t5_tokenizer_open(&a, check_repo_path("tests/golden/tokenizer"), &err), &err);
    CHECK_OK(t5_tokenizer_open(&b, check_repo_path("tests/golden/tokenizer/tokenizer.json"), &err), &err);
    assert_string_equal(t5_tokenizer_digest(a), t5_tokenizer_digest(b));
    t5_tokenizer_close(&b);
    CHECK_OK(t5_tokenizer_open(&b, check_repo_path("tests/golden/pipeline/model/tokenizer"), &err), &err);
    assert_int_equal(t5_tokenizer_vocab(a), t5_tokenizer_vocab(b));
    assert_string_not_equal(t5_tokenizer_digest(a), t5_tokenizer_digest(b));
    t5_tokenizer_close(&a);
    t5_tokenizer_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_model),
        cmocka_unit_test(t5_model),
        cmocka_unit_test(digests),
    };
    return check_run("tokenizer_json", tests);
}
