/* What the recipe's section `captions` does to the sources a layout has found: clean-up rules,
 * guessed attributes, splits. */
#ifndef WEFT_PREP_LAYOUT_CAPTIONS_H
#define WEFT_PREP_LAYOUT_CAPTIONS_H
#include "common/base/err.h"
#include "common/base/recipe.h"
#include "prep/layout/source.h"

typedef struct CaptionRules {
    int wrappers;        /* remove b'...' and a pair of quotes around the whole */
    int preambles;       /* remove "This video shows" and the like */
    const char *trigger; /* put in front, or NULL */
} CaptionRules;

/* The caption under the rules; empty when nothing is left.  mem_free. */
char *caption_rules(const char *text, const CaptionRules *rules, Err *err);

/* The category and the attributes that are not given, from whole words of all captions and
 * sentences, the longest match first; where several values of one fit nothing is set.  Each is
 * marked: attributes "<key>_source": "caption". */
WEFT_MUST_CHECK int captions_guess(Source *s, Err *err);

/* Applies the recipe to all sources.  Motion sentences get no trigger. */
WEFT_MUST_CHECK int captions_apply(SourceList *l, const Recipe *recipe, Err *err);

/* A category's or attribute's value as it is counted: trimmed, blanks as one, ASCII letters small,
 * "&" as "and", "/" as "-", so that "Tops " and "tops" are one.  mem_free. */
char *label_counted(const char *value, Err *err);

/* The split of a source whose bytes have this SHA-256: the same whatever the other sources are. */
const char *split_by_hash(const char *sha256, double val_ratio, double test_ratio);
#endif
