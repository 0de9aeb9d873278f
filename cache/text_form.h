/* What texts must be like for a model: whose ids, which marks, how many. */
#ifndef WEFT_CACHE_TEXT_FORM_H
#define WEFT_CACHE_TEXT_FORM_H
#include "cache/prepared.h"
#include "common/text/tokenizer.h"

/* The kind of MODEL/text_encoder (ERR_USAGE where the recipe asks for the other one), the marks of
 * MODEL/tokenizer, and the recipe's length.  Reads no weights. */
WEFT_MUST_CHECK int text_form_read(TextForm *out, const Recipe *recipe, const char *model, Err *err);
/* The same, and the tokeniser, which the caller closes, also after a failure. */
WEFT_MUST_CHECK int text_form_open(Tokenizer **out, TextForm *form, const Recipe *recipe, const char *model, Err *err);
/* Puts that length into the recipe's model.text_length. */
WEFT_MUST_CHECK int text_form_adopt(Recipe *recipe, const char *model, Err *err);
#endif
