/* Any bytes as a SentencePiece model, or as tokenizer.json when they begin with '{'; an accepted
 * one then encodes texts that reach every kind of piece, and decodes its own ids. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/text/t5_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {"", "a woman in a red dress",
                                        "ab\xFF\xC3\xA9\xEF\xBC\xA1 <extra_id_3> c</s>zz\xE2\x96\x81 1/2"};
    T5Tokenizer *t = NULL;
    int rc = size > 0 && data[0] == '{'
                 ? t5_tokenizer_open_json(&t, (const char *)data, (int64_t)size, "tokenizer.json", NULL)
                 : t5_tokenizer_open_bytes(&t, data, (int64_t)size, NULL);
    if (rc < 0)
        return 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t *ids = NULL;
        int64_t n = 0;
        if (t5_tokenizer_encode(t, texts[i], (int64_t)strlen(texts[i]), &ids, &n, NULL) == 0) {
            for (int64_t k = 0; k < n; k++)
                if (ids[k] < 0 || ids[k] >= t5_tokenizer_vocab(t))
                    abort();
            mem_free(t5_tokenizer_decode(t, ids, n, NULL));
        }
        mem_free(ids);
    }
    t5_tokenizer_close(&t);
    return 0;
}
