/* The tokeniser of a model's text encoder, T5's or CLIP's. */
#ifndef WEFT_COMMON_TEXT_TOKENIZER_H
#define WEFT_COMMON_TEXT_TOKENIZER_H
#include "common/base/text_kind.h"

typedef struct Tokenizer Tokenizer;
/* path: a tokenizer/ folder or one of its files: spiece.model for T5, merges.txt (with vocab.json)
 * for CLIP, tokenizer.json for either.  want: the kind that is needed (ERR_USAGE where the files
 * are the other's), or TEXT_AUTO for what is there.  Encoding is safe from several threads. */
WEFT_MUST_CHECK int tokenizer_open(Tokenizer **out, const char *path, TextKind want, Err *err);
void tokenizer_close(Tokenizer **t);
TextKind tokenizer_kind(const Tokenizer *t);
int64_t tokenizer_vocab(const Tokenizer *t);
const char *tokenizer_digest(const Tokenizer *t); /* see the two tokenisers */
/* The ids that every text begins (-1: none) and ends with, and the one of padding. */
int32_t tokenizer_first(const Tokenizer *t);
int32_t tokenizer_last(const Tokenizer *t);
int32_t tokenizer_pad(const Tokenizer *t);
/* All ids of the text with its marks, not cut, not padded.  *ids is the caller's to mem_free. */
WEFT_MUST_CHECK int tokenizer_encode(const Tokenizer *t, const char *text, int32_t **ids, int64_t *n, Err *err);
/* Exactly `length` ids, the last one before padding the end mark.  *used: ids before padding; *cut:
 * ids of the text that did not fit. */
WEFT_MUST_CHECK int tokenizer_encode_padded(const Tokenizer *t, const char *text, int32_t *ids, int64_t length,
                                            int64_t *used, int64_t *cut, Err *err);
/* The words of a text that do not fit in `length` ids; "" when all do.  *out is the caller's to
 * mem_free. */
WEFT_MUST_CHECK int tokenizer_cut_text(const Tokenizer *t, const char *text, int64_t length, char **out, Err *err);
#endif
