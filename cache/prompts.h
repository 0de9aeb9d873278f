/* The prompts that weft-train samples while it trains (validation.prompts, and
 * sampling.negative_prompt for them): encoded like captions, and found again by their text in the
 * meta entry "prompts". */
#ifndef WEFT_CACHE_PROMPTS_H
#define WEFT_CACHE_PROMPTS_H
#include "cache/prepared.h"
#include "common/base/hash.h"
#include "common/base/recipe.h"
#include "common/text/tokenizer.h"

/* Adds those that no caption is to p's texts, with the ids of the model's tokeniser. */
WEFT_MUST_CHECK int prompts_add(Prepared *p, const Recipe *recipe, const Tokenizer *t, Err *err);
/* The meta entry: {prompt: {"text": key, "tokens": key}}; text, tokens: the keys of p's texts.  New reference. */
WEFT_MUST_CHECK int prompts_meta(const Prepared *p, const Recipe *recipe, const Digest *text, const Digest *tokens,
                                 json_t **out, Err *err);
#endif
