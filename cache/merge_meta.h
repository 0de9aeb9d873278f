/* The meta entries of a merged cache. */
#ifndef WEFT_CACHE_MERGE_META_H
#define WEFT_CACHE_MERGE_META_H
#include "cache/view.h"

/* Zero-initialise. */
typedef struct MergedMeta {
    json_t *same;     /* vae, text, encoding: equal in all sources; recipe: the first source's */
    json_t *datasets; /* the sources' entries "dataset" */
    json_t *dataset;  /* of the merged cache */
    json_t *rejected;
} MergedMeta;
/* Refuses a source that is unfinished, or was made with another VAE, text encoder or stored type. */
WEFT_MUST_CHECK int merged_meta_add(MergedMeta *m, View *v, const char *name, Err *err);
/* With the clips of all sources: makes dataset and rejected; refuses an incomplete set of shards. */
WEFT_MUST_CHECK int merged_meta_finish(MergedMeta *m, const json_t *ids, Err *err);
/* Writes all but "rejected"; ERR_USAGE when the cache holds something else. */
WEFT_MUST_CHECK int merged_meta_put(const MergedMeta *m, Cache *out, const char *name, Err *err);
void merged_meta_fini(MergedMeta *m);
#endif
