/* A merges file, a NUL, and a text (or all of it a tokenizer.json): ids stay in range, framed by
 * the two marks, and the padded form agrees with the whole. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/text/clip_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    int64_t n_merges = nul ? nul - data : (int64_t)size, n = 0, used, cut;
    const char *text = nul ? (const char *)nul + 1 : "";
    int64_t n_text = nul ? (int64_t)size - n_merges - 1 : 0;
    ClipTokenizer *t = NULL;
    int32_t *ids = NULL, padded[CLIP_LENGTH];
    if (clip_tokenizer_open_json(&t, (const char *)data, (int64_t)size, "fuzz", NULL) == 0)
        clip_tokenizer_close(&t);
    if (clip_tokenizer_open_bytes(&t, (const char *)data, n_merges, NULL) < 0)
        return 0;
    if (clip_tokenizer_encode(t, text, n_text, &ids, &n, NULL) == 0) {
        if (n < 2 || ids[0] != clip_tokenizer_bos(t) || ids[n - 1] != clip_tokenizer_eos(t))
            abort();
        for (int64_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] > clip_tokenizer_eos(t))
                abort();
        if (clip_tokenizer_encode_padded(t, text, n_text, padded, CLIP_LENGTH, &used, &cut, NULL) < 0 ||
            used + cut != n)
            abort();
        char *words = clip_tokenizer_decode(t, ids, n, NULL);
        if (words && !str_is_utf8(words, (int64_t)strlen(words)))
            abort();
        mem_free(words);
    }
    mem_free(ids);
    clip_tokenizer_close(&t);
    return 0;
}
