/* Captions of a cache (weft-cache build) and their embeddings: prompts for which no text encoder is
 * needed. */
#ifndef WEFT_INFER_CACHED_H
#define WEFT_INFER_CACHED_H
#include <jansson.h>
#include "infer/prompts.h"

typedef struct Cached Cached;
/* Reads the captions, and no embedding yet. */
WEFT_MUST_CHECK int cached_open(Cached **out, const char *cache, Err *err);
void cached_close(Cached **c);

/* A prompt a clip, in the order of the clips' ids: its first caption, with the clip's category.  split:
 * "train", "val", "test" or NULL for all; limit 0: all of them, else the first ones.  ERR_USAGE where
 * there is none.  Seeds and names as prompts_read has them. */
WEFT_MUST_CHECK int cached_prompts(Cached *c, const char *split, int64_t limit, int64_t seed, int64_t per_prompt,
                                   PromptList *out, Err *err);

/* Whether embeddings are [text_len, text_dim]: ERR_USAGE. */
WEFT_MUST_CHECK int cached_check_shape(const Cached *c, int64_t text_len, int64_t text_dim, Err *err);
/* Whether the cache has an embedding of the text (a caption, one of validation.prompts, or ""): ERR_USAGE, or
 * ERR_FORMAT where it should.  Reads the record's head only. */
WEFT_MUST_CHECK int cached_check_text(const Cached *c, const char *text, Err *err);
/* The embedding into out [text_len, text_dim]. */
WEFT_MUST_CHECK int cached_text(Cached *c, const char *text, float *out, Err *err);
/* The key of its record in hex, borrowed; NULL where the cache has none. */
const char *cached_key(const Cached *c, const char *text);
/* The meta entry "text" (schemas/cache-meta), borrowed: what made the embeddings. */
const json_t *cached_facts(const Cached *c);
#endif
