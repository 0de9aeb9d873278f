/* A merges file, a NUL, and a text: ids stay in range, framed by the two marks, and the padded form
 * agrees with the whole. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
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
    if (clip_tokenizer_open_bytes(&t, (const char *)data, n_merges, NULL) < 0)
        return 0;
    if (clip_tokenizer_encode(t, text, n_text, &ids, &n, NULL) == 0) {
        if (n < 2 || ids[0] != CLIP_BOS || ids[n - 1] != CLIP_EOS)
            abort();
        for (int64_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] > CLIP_EOS)
                abort();
        if (clip_tokenizer_encode_padded(t, text, n_text, padded, &used, &cut, NULL) < 0 || used + cut != n)
            abort();
    }
    mem_free(ids);
    clip_tokenizer_close(&t);
    return 0;
}
