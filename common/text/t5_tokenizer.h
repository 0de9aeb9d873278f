/* The T5 tokeniser as CogVideoX uses it (slow T5Tokenizer, legacy): SentencePiece's own library
 * behind a C shim.  MODEL.md 5.3. */
#ifndef WEFT_COMMON_TEXT_T5_TOKENIZER_H
#define WEFT_COMMON_TEXT_T5_TOKENIZER_H
#include <stdint.h>
#include "common/base/err.h"

typedef struct T5Tokenizer T5Tokenizer;
/* path: spiece.model or tokenizer.json, or a folder that holds one of them (spiece.model comes
 * first).  Encoding is safe from several threads. */
WEFT_MUST_CHECK int t5_tokenizer_open(T5Tokenizer **out, const char *path, Err *err);
/* From the bytes of a spiece.model, and of a tokenizer.json (`name` stands in messages). */
WEFT_MUST_CHECK int t5_tokenizer_open_bytes(T5Tokenizer **out, const void *bytes, int64_t size, Err *err);
WEFT_MUST_CHECK int t5_tokenizer_open_json(T5Tokenizer **out, const char *text, int64_t size, const char *name,
                                           Err *err);
void t5_tokenizer_close(T5Tokenizer **t);
int64_t t5_tokenizer_vocab(const T5Tokenizer *t); /* pieces + 100 sentinels */
/* SHA-256 (hex) of the SentencePiece model's bytes; of a tokenizer.json, of the model that was made
 * from it, so that the file's layout does not count. */
const char *t5_tokenizer_digest(const T5Tokenizer *t);
/* All ids of the text with </s>, not cut, not padded.  *ids is the caller's to mem_free. Any bytes
 * are accepted. */
WEFT_MUST_CHECK int t5_tokenizer_encode(const T5Tokenizer *t, const char *text, int64_t size, int32_t **ids, int64_t *n,
                                        Err *err);
/* Exactly `length` ids: the first length-1 content ids, </s>, padding 0.  *used: ids before
 * padding; *cut: content ids that did not fit. */
WEFT_MUST_CHECK int t5_tokenizer_encode_padded(const T5Tokenizer *t, const char *text, int64_t size, int32_t *ids,
                                               int64_t length, int64_t *used, int64_t *cut, Err *err);
/* Text of ids (pieces joined), for showing what was cut. mem_free. */
char *t5_tokenizer_decode(const T5Tokenizer *t, const int32_t *ids, int64_t n, Err *err);
/* Trains a unigram model on captions with SentencePiece's own trainer and T5's settings (pad 0, eos
 * 1, unk 2, nmt_nfkc); the demo and tests use it.  Writes PATH atomically. */
WEFT_MUST_CHECK int t5_tokenizer_train(const char *path, const char *const *lines, int64_t n, int64_t vocab, Err *err);
#endif
