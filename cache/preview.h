/* weft-cache preview: cached clips decoded, beside their source frames. */
#ifndef WEFT_CACHE_PREVIEW_H
#define WEFT_CACHE_PREVIEW_H
#include <stdio.h>
#include "common/base/args.h"
#include "common/base/log.h"
#include "common/ops/backend.h"

typedef struct PreviewParams {
    const char *dir, *prepared, *model, *out; /* folders */
    StrList ids;                              /* these clips, or none with worst > 0 */
    int64_t worst;                            /* decode all clips and show the N of lowest PSNR */
    Backend *be;
    const Log *log;
    FILE *results;
} PreviewParams;

/* Decodes the latents (of moments: the mean) as weft-infer would and writes OUT/index.html with a PNG a
 * clip: some source frames above the decoded ones.  PSNR is over all values of all frames.  Prints a line
 * a clip.  Before anything is decoded: ERR_NOTFOUND for an id that is not there, ERR_USAGE where the cache
 * knows of other pixels than the dataset's. */
WEFT_MUST_CHECK int cache_preview(const PreviewParams *params, Err *err);
#endif
