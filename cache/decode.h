/* Decoding prepared clips.  They come from a disk that others may write to, so each is decoded in a
 * process of its own, with the recipe's limits: a crash or a hang of a decoder costs that clip. */
#ifndef WEFT_CACHE_DECODE_H
#define WEFT_CACHE_DECODE_H
#include "cache/prepared.h"
#include "common/base/recipe.h"

typedef struct ClipDecoder ClipDecoder;
/* For clips of at most `bytes` bytes of RGB. */
WEFT_MUST_CHECK int clip_decoder_open(ClipDecoder **out, const Recipe *recipe, int64_t bytes, Err *err);
void clip_decoder_close(ClipDecoder **d);
/* rgb [frames,height,width,3] of the clip, valid until the next call; its pixels are those that the
 * manifest names.  ERR_FORMAT and ERR_LIMIT are faults of the clip. */
WEFT_MUST_CHECK int clip_decode(ClipDecoder *d, const PreparedClip *c, const uint8_t **rgb, Err *err);
/* Where the pixels of the last clip lie, also when another process called clip_decode. */
const uint8_t *clip_decoder_pixels(const ClipDecoder *d);
#endif
