/* Captions apart from the clips: two lists line by line, a map from file to caption, two trees.
 * The parsers accept any bytes (they are fuzzed). */
#ifndef WEFT_PREP_LAYOUT_LISTS_H
#define WEFT_PREP_LAYOUT_LISTS_H
#include <stdint.h>
#include "prep/layout/reader.h"

extern const Layout layout_lists, layout_captions, layout_trees;

/* A list of videos and a list of prompts, line by line; trailing blank lines of each are left out.
 * Refuses unequal counts and blank lines inside, with the line. */
WEFT_MUST_CHECK int lists_parse(SourceList *l, const char *videos, int64_t videos_size, const char *videos_name,
                                const char *prompts, int64_t prompts_size, const char *prompts_name, Err *err);
/* ERR_USAGE when there is a list of videos without a list of prompts. */
WEFT_MUST_CHECK int lists_refuse_lone(const LayoutInput *in, Err *err);
/* {file: caption or captions}. */
WEFT_MUST_CHECK int captions_map_parse(SourceList *l, const char *text, int64_t size, const char *name, Err *err);
#endif
