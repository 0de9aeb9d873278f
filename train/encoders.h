/* Compares the encoders that made a cache with those of other caches and of the base model. */
#ifndef WEFT_TRAIN_ENCODERS_H
#define WEFT_TRAIN_ENCODERS_H
#include "common/base/log.h"
#include "common/base/text_kind.h"
#include "common/store/safetensors.h"
#include "train/dataset.h"

/* Stores meta 'vae' and 'text' of the first cache, dirs[0], in *d.  For the other caches: refuses
 * (ERR_USAGE) another VAE, text encoder or tokeniser (weights or config) than the first one's.  For
 * each: embeddings of another shape than the transformer reads (d->text_len, d->text_dim). */
WEFT_MUST_CHECK int encoders_read(Dataset *d, CacheTxn *t, const char *const *dirs, int64_t cache, Err *err);
/* Refuses (ERR_USAGE) a base model whose VAE, text encoder or tokeniser is not the one that made
 * the caches: final/ would ship it.  Reads their weights for the digest, which MEMORY/.weights
 * remembers.  A part that the base model does not have is not compared, and the log says so. */
WEFT_MUST_CHECK int encoders_check(const Dataset *d, const char *cache, const char *base, const char *memory,
                                   const Log *log, Err *err);
/* final/ links the base model's VAE and text encoder, which changes their files' ctimes: hold before and keep
 * after, so that MEMORY/.weights still has their digests.  encoders_keep is called in any case, and frees. */
typedef struct EncodersHold {
    SafeTensors *file[2];
    DigestHold digest[2];
} EncodersHold;
WEFT_MUST_CHECK int encoders_hold(EncodersHold *h, const char *base, const char *memory, Err *err);
WEFT_MUST_CHECK int encoders_keep(EncodersHold *h, const char *memory, Err *err);
/* Refuses (ERR_USAGE) embeddings of another kind of text encoder than a recipe wants. */
WEFT_MUST_CHECK int encoders_wanted(const Dataset *d, const char *cache, TextKind wanted, Err *err);
#endif
