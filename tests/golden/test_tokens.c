/* The 92 texts of the shared vectors through both tokenisers: ids exact, and the padded, truncated
 * form that the models get. */
#include "check.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/base/mem.h"
#include "common/text/clip_tokenizer.h"
#include "common/text/t5_tokenizer.h"

static json_t *vectors(void)
{
    Err err = {0};
    json_t *all = NULL;
    CHECK_OK(json_read_file(&all, check_need_shared("data/tokenizers/vectors.json"), &err), &err);
    json_t *list = json_incref(json_object_get(all, "vectors"));
    json_decref(all);
    assert_int_equal(json_array_size(list), 92);
    return list;
}

static void same_ids(const char *name, const int32_t *ids, int64_t n, const json_t *want)
{
    assert_true(json_is_array(want));
    int64_t n_want = (int64_t)json_array_size(want);
    for (int64_t i = 0; i < n && i < n_want; i++)
        if (ids[i] != json_integer_value(json_array_get(want, (size_t)i)))
            fail_msg("%s: id %lld is %d, expected %lld", name, (long long)i, ids[i],
                     (long long)json_integer_value(json_array_get(want, (size_t)i)));
    if (n != n_want)
        fail_msg("%s: %lld ids, expected %lld", name, (long long)n, (long long)n_want);
}

static void t5_vectors(void **state)
{
    (void)state;
    Err err = {0};
    T5Tokenizer *t = NULL;
    json_t *list = vectors();
    CHECK_OK(t5_tokenizer_open(&t, check_need_shared("data/tokenizers/t5"), &err), &err);
    assert_int_equal(t5_tokenizer_vocab(t), 32100);
    assert_string_equal(t5_tokenizer_digest(t), "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86");
    size_t i, cut_ones = 0;
    json_t *v;
    json_array_foreach (list, i, v) {
        const char *name = json_string_value(json_object_get(v, "name")),
                   *text = json_string_value(json_object_get(v, "text"));
        int64_t size = (int64_t)json_string_length(json_object_get(v, "text")), n, used, cut;
        int32_t *ids = NULL, padded[226];
        CHECK_OK(t5_tokenizer_encode(t, text, size, &ids, &n, &err), &err);
        same_ids(name, ids, n, json_object_get(json_object_get(v, "t5"), "ids"));
        mem_free(ids);
        CHECK_OK(t5_tokenizer_encode_padded(t, text, size, padded, 226, &used, &cut, &err), &err);
        const json_t *want = json_object_get(v, "t5_226");
        same_ids(name, padded, used, want ? want : json_object_get(json_object_get(v, "t5"), "ids"));
        for (int64_t k = used; k < 226; k++)
            assert_int_equal(padded[k], 0);
        assert_int_equal(cut, n > 226 ? n - 226 : 0);
        cut_ones += cut > 0;
    }
    assert_true(cut_ones >= 2);
    t5_tokenizer_close(&t);
    json_decref(list);
}

static void clip_vectors(void **state)
{
    (void)state;
    Err err = {0};
    ClipTokenizer *t = NULL;
    json_t *list = vectors();
    CHECK_OK(clip_tokenizer_open(&t, check_need_shared("data/tokenizers/clip"), &err), &err);
    size_t i;
    json_t *v;
    json_array_foreach (list, i, v) {
        const char *name = json_string_value(json_object_get(v, "name")),
                   *text = json_string_value(json_object_get(v, "text"));
        int64_t size = (int64_t)json_string_length(json_object_get(v, "text")), n, used, cut;
        int32_t *ids = NULL, padded[CLIP_LENGTH];
        CHECK_OK(clip_tokenizer_encode(t, text, size, &ids, &n, &err), &err);
        same_ids(name, ids, n, json_object_get(json_object_get(v, "clip"), "ids"));
        mem_free(ids);
        CHECK_OK(clip_tokenizer_encode_padded(t, text, size, padded, CLIP_LENGTH, &used, &cut, &err), &err);
        const json_t *want = json_object_get(v, "clip_77");
        same_ids(name, padded, used, want ? want : json_object_get(json_object_get(v, "clip"), "ids"));
        for (int64_t k = used; k < CLIP_LENGTH; k++)
            assert_int_equal(padded[k], CLIP_EOS);
    }
    clip_tokenizer_close(&t);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(t5_vectors), cmocka_unit_test(clip_vectors)};
    return check_run("tokens", tests);
}
