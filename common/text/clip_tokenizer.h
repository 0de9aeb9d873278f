/* The CLIP tokeniser (HF fast behaviour): byte-level BPE on merges.txt; utf8proc for NFC and lower
 * case, PCRE2 for the pattern.
 * MODEL.md 5.4. */
#ifndef WEFT_COMMON_TEXT_CLIP_TOKENIZER_H
#define WEFT_COMMON_TEXT_CLIP_TOKENIZER_H
#include <stdint.h>
#include "common/base/err.h"
enum { CLIP_BOS = 49406, CLIP_EOS = 49407, CLIP_LENGTH = 77 }; /* ids of CLIP's own 48,894 merges */
typedef struct ClipTokenizer ClipTokenizer;
/* path: merges.txt or tokenizer.json, or a folder that holds one of them (merges.txt comes first; a
 * vocab.json beside it must give the same ids). */
WEFT_MUST_CHECK int clip_tokenizer_open(ClipTokenizer **out, const char *path, Err *err);
/* From the bytes of a merges.txt, and of a tokenizer.json (`name` stands in messages). */
WEFT_MUST_CHECK int clip_tokenizer_open_bytes(ClipTokenizer **out, const char *text, int64_t size, Err *err);
WEFT_MUST_CHECK int clip_tokenizer_open_json(ClipTokenizer **out, const char *text, int64_t size, const char *name,
                                             Err *err);
void clip_tokenizer_close(ClipTokenizer **t);
/* The begin and end marks, which come after the 512 bytes and the merges: CLIP_BOS and CLIP_EOS for
 * CLIP's own files.  The vocabulary has eos + 1 ids. */
int32_t clip_tokenizer_bos(const ClipTokenizer *t);
int32_t clip_tokenizer_eos(const ClipTokenizer *t);
/* SHA-256 (hex) of the merges, as pairs of ids: the same from either file. */
const char *clip_tokenizer_digest(const ClipTokenizer *t);
/* bos, ids, eos; not cut. *ids mem_free.  Text must be UTF-8 (ERR_FORMAT otherwise). */
WEFT_MUST_CHECK int clip_tokenizer_encode(const ClipTokenizer *t, const char *text, int64_t size, int32_t **ids,
                                          int64_t *n, Err *err);
/* Exactly `length` ids (CLIP_LENGTH in CLIP's own models, at least 2): bos, the first length - 2 of
 * the text, eos, padded with eos.  *used: ids before padding; *cut: ids of the text that did not
 * fit. */
WEFT_MUST_CHECK int clip_tokenizer_encode_padded(const ClipTokenizer *t, const char *text, int64_t size, int32_t *ids,
                                                 int64_t length, int64_t *used, int64_t *cut, Err *err);
/* Words of ids, in lower case and a blank between, for showing what was cut.  mem_free. */
char *clip_tokenizer_decode(const ClipTokenizer *t, const int32_t *ids, int64_t n, Err *err);
#endif
