/* The page and the pictures of a preview. */
#ifndef WEFT_CACHE_PREVIEW_PAGE_H
#define WEFT_CACHE_PREVIEW_PAGE_H
#include <stdint.h>
#include "common/base/err.h"

typedef struct PreviewClip {
    char *id;        /* owned */
    int64_t index;   /* in the prepared dataset */
    double psnr;     /* dB; 99 for equal pixels */
    double worst_db; /* of the frame that is worst */
    int64_t worst_frame;
} PreviewClip;

/* Up to six frames of a clip, evenly spread: source above decoded, both [T,H,W,3], scaled down by a whole
 * number to at most 2160 pixels in width. */
WEFT_MUST_CHECK int preview_sheet(const char *path, const uint8_t *source, const uint8_t *decoded, int64_t T, int64_t H,
                                  int64_t W, Err *err);
/* OUT/index.html; clip i's picture is "0001.png" for i = 0. */
WEFT_MUST_CHECK int preview_page(const char *out, const char *cache, const PreviewClip *clip, int64_t n, Err *err);
#endif
