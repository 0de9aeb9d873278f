/* weft-cache export and import: a cache as a folder of safetensors.
 *
 *   DIR/export.json          the cache's meta entries (schemas/export.schema.json)
 *   DIR/clips.jsonl          a line a clip (schemas/export-clip.schema.json)
 *   DIR/clips/00000.safetensors ...
 *       moments [2C,F,h,w]   mean, then log-variance: diffusers' latent_dist.parameters[0]; or
 *       latents [C,F,h,w]    one draw of it; neither is multiplied by the scaling factor
 *       text.0  [L,dim]      a caption's embedding, as text.1 ... in the order of the captions
 *       tokens.0 [L]         its ids, I32
 *   DIR/empty.safetensors    text [L,dim]: the empty prompt's embedding */
#ifndef WEFT_CACHE_EXPORT_H
#define WEFT_CACHE_EXPORT_H
#include <stdio.h>
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "common/ops/backend.h"
#include "common/store/cache.h"

/* Each file is atomic; clips.jsonl comes last, so that a stopped export does not look like a whole one. */
WEFT_MUST_CHECK int cache_export(const char *dir, const char *out, FILE *results, Err *err);

typedef struct ImportParams {
    const char *from, *out;
    const char *model; /* NULL where export.json has the meta entries and each clip its texts */
    const Recipe *recipe;
    Backend *be;    /* with model */
    CacheMode mode; /* CACHE_WRITE or CACHE_WRITE_ANYWHERE */
    const Log *log;
    FILE *results;
} ImportParams;

/* A cache of that folder's clips.  A line of clips.jsonl needs only id, file and captions.
 * With a model: its VAE is recorded as the one that made the latents, and its text encoder makes the
 * embeddings that a file lacks.  A record gets the key that its line names when it is, bit for bit, what was exported
 * under it, else a key of its own (SHA-256 of its bytes), so that nothing changed passes for what Weft
 * made.  Before anything is written all lines are looked at, and type and shape of the latents in each file.
 * A stopped import, run again, goes on. */
WEFT_MUST_CHECK int cache_import(const ImportParams *params, Err *err);
#endif
