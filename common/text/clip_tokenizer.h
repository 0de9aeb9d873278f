/* The CLIP tokeniser (HF fast behaviour): byte-level BPE on merges.txt; utf8proc for NFC and lower
 * case, PCRE2 for the pattern.
 * MODEL.md 5.4. */
#ifndef WEFT_COMMON_TEXT_CLIP_TOKENIZER_H
#define WEFT_COMMON_TEXT_CLIP_TOKENIZER_H
#include <stdint.h>
#include "common/base/err.h"
enum { CLIP_BOS = 49406, CLIP_EOS = 49407, CLIP_LENGTH = 77 };
typedef struct ClipTokenizer ClipTokenizer;
WEFT_MUST_CHECK int clip_tokenizer_open(ClipTokenizer **out, const char *path /* merges.txt or a folder */, Err *err);
/* From the bytes of a merges.txt. */
WEFT_MUST_CHECK int clip_tokenizer_open_bytes(ClipTokenizer **out, const char *text, int64_t size, Err *err);
void clip_tokenizer_close(ClipTokenizer **t);
/* bos, ids, eos; not cut. *ids mem_free.  Text must be UTF-8 (ERR_FORMAT otherwise). */
WEFT_MUST_CHECK int clip_tokenizer_encode(const ClipTokenizer *t, const char *text, int64_t size, int32_t **ids,
                                          int64_t *n, Err *err);
/* Exactly 77: bos + first 75 + eos, padded with 49407. */
WEFT_MUST_CHECK int clip_tokenizer_encode_padded(const ClipTokenizer *t, const char *text, int64_t size,
                                                 int32_t ids[CLIP_LENGTH], int64_t *used, int64_t *cut, Err *err);
#endif
