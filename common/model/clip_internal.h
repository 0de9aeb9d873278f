/* Shared by clip.c (both towers) and clip_text.c (the text tower alone). */
#ifndef WEFT_COMMON_MODEL_CLIP_INTERNAL_H
#define WEFT_COMMON_MODEL_CLIP_INTERNAL_H
#include "common/model/clip.h"

/* One tower's part of a config; an absent value is *dflt's (the class's default in transformers).
 * */
WEFT_MUST_CHECK int clip_parse_tower(ClipTower *t, const ClipTower *dflt, const json_t *json, const char *where,
                                     Err *err);
/* The table of parameters, without values; clip_close frees *out, also after a failure.
 * text_prefix (borrowed) stands in front of the text tower's names: "text_model." or "". */
WEFT_MUST_CHECK int clip_new(Clip **out, Backend *be, const ClipConfig *c, const char *text_prefix, Err *err);
#endif
