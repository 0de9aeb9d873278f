/* weft-cache ls, show, verify: looking at a cache. */
#ifndef WEFT_CACHE_INSPECT_H
#define WEFT_CACHE_INSPECT_H
#include <stdio.h>
#include "common/base/args.h"

/* One line a clip (id, split, latent frames x height x width x channels, number of captions, the
 * first one; by tabs), and the totals. */
int cache_ls(const char *dir, FILE *out, Err *err);
/* The entries of the ids as JSON with the shapes of their records; without ids the cache's meta.
 * ERR_NOTFOUND for an id not there. */
int cache_show(const char *dir, const StrList *ids, FILE *out, Err *err);
/* Every checksum, that every clip's records are there with the shapes its entry claims, and that no
 * clip is still to come.  Prints one line a damage; 0 sound, 1 damaged or unfinished, negative when
 * the cache cannot be read at all. */
int cache_verify(const char *dir, FILE *out, Err *err);
#endif
