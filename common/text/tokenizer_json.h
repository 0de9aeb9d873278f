/* T5's tokeniser from tokenizer.json, which is all that transformers 5 saves: its Unigram pieces and
 * its character map become the bytes of a SentencePiece model, so that SentencePiece's own library
 * computes the ids.  (The fast tokeniser that tokenizer.json was written for differs from it in a few
 * characters, MODEL.md 5.3; Weft gives SentencePiece's ids from either file.) */
#ifndef WEFT_COMMON_TEXT_TOKENIZER_JSON_H
#define WEFT_COMMON_TEXT_TOKENIZER_JSON_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/str.h"

/* Appends the model's bytes to *out (the caller's, also on failure).  `name` stands in messages.
 * ERR_UNSUPPORTED where the file asks for something else than T5's SentencePiece tokeniser does. */
WEFT_MUST_CHECK int tokenizer_json_to_spm(Str *out, const char *text, int64_t size, const char *name, Err *err);
#endif
