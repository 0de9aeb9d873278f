/* weft-cache ls, show and verify. */
#ifndef WEFT_CACHE_INSPECT_H
#define WEFT_CACHE_INSPECT_H
#include <stdio.h>
#include "common/base/args.h"

/* Prints one line a clip, fields separated by tabs: id, split, latent frames x height x width x
 * channels, number of captions, first caption.  The last line has the totals. */
WEFT_MUST_CHECK int cache_ls(const char *dir, FILE *out, Err *err);
/* Prints the entries of the clips with these ids as JSON, with the shapes of their records; without
 * ids, the cache's meta entries.  ERR_NOTFOUND for an unknown id. */
WEFT_MUST_CHECK int cache_show(const char *dir, const StrList *ids, FILE *out, Err *err);
/* Checks every checksum, that every clip's records exist with the shapes that its entry states, and
 * that the build was finished.  Prints a line for each damaged record or entry.  Returns 0 when the
 * cache is sound, 1 when it is damaged or unfinished, negative when it cannot be read. */
WEFT_MUST_CHECK int cache_verify(const char *dir, FILE *out, Err *err);
#endif
