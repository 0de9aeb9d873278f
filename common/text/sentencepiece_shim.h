/* SentencePiece's C++ library as C: the only user of its headers.  No exception crosses; the
 * model's bytes are checked before the library sees them, since it follows the character map's
 * offsets without looking. */
#ifndef WEFT_COMMON_TEXT_SENTENCEPIECE_SHIM_H
#define WEFT_COMMON_TEXT_SENTENCEPIECE_SHIM_H
#include <stdint.h>
#include "common/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Spm Spm;
typedef struct SpmIds {
    int64_t pieces, pad, eos, unk;
} SpmIds;

/* The caller has run spm_check on these bytes. */
WEFT_MUST_CHECK int spm_open(Spm **out, const void *bytes, int64_t size, Err *err);
void spm_close(Spm **p);
SpmIds spm_ids(const Spm *p);
/* Appends the ids of one chunk (no </s>) to (*ids)[*n], grown with mem_realloc.  Any bytes; safe
 * for concurrent calls. */
WEFT_MUST_CHECK int spm_encode(const Spm *p, const char *text, int64_t size, int32_t **ids, int64_t *n, Err *err);
/* Text of ids, each below pieces.  mem_free. */
char *spm_decode(const Spm *p, const int32_t *ids, int64_t n, Err *err);
/* The bytes of a unigram model trained with T5's settings on one thread (the same lines give the
 * same bytes).  mem_free. */
WEFT_MUST_CHECK int spm_train(const char *const *lines, int64_t n, int64_t vocab, char **model, int64_t *size,
                              Err *err);

/* The structure of a model file: protobuf framing, unigram, and every offset of the character maps
 * within bounds. */
WEFT_MUST_CHECK int spm_check(const void *bytes, int64_t size, Err *err);

#ifdef __cplusplus
}
#endif
#endif
