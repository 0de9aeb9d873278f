/* The two text encoders that a transformer can be conditioned by, and what a recipe says about
 * them. */
#ifndef WEFT_COMMON_BASE_TEXT_KIND_H
#define WEFT_COMMON_BASE_TEXT_KIND_H
#include "common/base/recipe.h"

/* TEXT_AUTO: as the files say. */
typedef enum TextKind { TEXT_AUTO, TEXT_T5, TEXT_CLIP } TextKind;
enum { TEXT_CLIP_LONGEST = 77 /* tokens that CLIP has positions for, its two marks included */ };

const char *text_kind_name(TextKind kind); /* for people: "T5", "CLIP" */
const char *text_kind_key(TextKind kind);  /* in files: "auto", "t5", "clip" */
TextKind text_kind_parse(const char *key); /* of such a key; TEXT_AUTO for any other word and for NULL */
/* model.text_encoder of the recipe. */
TextKind text_kind_wanted(const Recipe *recipe);
/* ERR_USAGE where a recipe wants the other kind than `where` (a folder, a cache) holds. */
WEFT_MUST_CHECK int text_kind_check(TextKind wanted, TextKind found, const char *where, Err *err);
/* *length: model.text_length, the tokens of a text with padding.  For CLIP TEXT_CLIP_LONGEST where
 * the recipe's number is larger and nobody gave it (the presets' is T5's); ERR_USAGE where somebody
 * did. */
WEFT_MUST_CHECK int text_length(const Recipe *recipe, TextKind kind, int64_t *length, Err *err);
#endif
