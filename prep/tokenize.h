/* `weft-prep tokenize`: PREPARED/tokens.jsonl, one line a distinct caption of the accepted clips,
 * in order of first use;
 * and the report anew, now with token counts. */
#ifndef WEFT_PREP_TOKENIZE_H
#define WEFT_PREP_TOKENIZE_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/log.h"
#include "common/base/recipe.h"

/* tokenizer: T5's or CLIP's files (tokenizer.h).  recipe: its model.text_encoder says which of the
 * two is wanted, its model.text_length how many ids a caption may have, the end mark included;
 * what was not given of it is the dataset's, as all is with NULL.  A caption that does not fit is
 * cut, warned about, and the cut text shown. clip_tokenizer (merges.txt or a folder, or NULL): CLIP's
 * 77 tokens are counted beside, each caption that evaluation would cut is warned about.  results: the
 * counts, with how many captions have how many tokens. */
WEFT_MUST_CHECK int prep_tokenize(const char *dir, const char *tokenizer, const char *clip_tokenizer, Recipe *recipe,
                                  const Log *log, FILE *results, Err *err);
#endif
