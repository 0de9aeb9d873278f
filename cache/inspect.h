/* weft-cache ls and show. */
#ifndef WEFT_CACHE_INSPECT_H
#define WEFT_CACHE_INSPECT_H
#include <stdio.h>
#include "common/base/args.h"

/* text: fields separated by tabs (id, split, latent frames x height x width x channels, number of
 * captions, first caption), and a last line of totals; json: each clip's entry with its id as one
 * object a line; csv: RFC 4180, with a header and the category. */
typedef enum CacheList { CACHE_LIST_TEXT, CACHE_LIST_JSON, CACHE_LIST_CSV } CacheList;
/* Prints one line a clip, in the order of the ids. */
WEFT_MUST_CHECK int cache_ls(const char *dir, CacheList form, FILE *out, Err *err);
/* Prints the entries of the clips with these ids as JSON, with the shapes of their records; without
 * ids, the cache's meta entries.  ERR_NOTFOUND for an unknown id. */
WEFT_MUST_CHECK int cache_show(const char *dir, const StrList *ids, FILE *out, Err *err);
#endif
