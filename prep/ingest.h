/* The whole of `weft-prep ingest`: sources in, a prepared dataset out. */
#ifndef WEFT_PREP_INGEST_H
#define WEFT_PREP_INGEST_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/recipe.h"

typedef struct IngestParams {
    const char *source, *out, *layout; /* folders; layout NULL: detected */
    const Recipe *recipe;
    int64_t jobs;          /* worker processes; 0: none, everything in this process, without limits */
    int64_t shard, shards; /* with shards > 1 the dataset goes to OUT/shard-K-of-N */
    int dry_run;
    int print_recipe;   /* every key, not only what differs from the preset */
    int replace;        /* overwrite a dataset in `out` that was made from other sources */
    int follow_links;   /* also links that lead out of `source`; without it their sources are rejected */
    int verify_sources; /* read every source, also unchanged ones (prep/set/hash_cache.h) */
    const Log *log;
    FILE *results; /* the counts */
} IngestParams;

/* Files in the dataset's folder: clips/ID.mkv, manifest.jsonl (one line a source, in source order),
 * and dataset.json last.
 * Each source is decoded in a process of its own (common/base/worker.h): the caller must have one
 * thread.
 * While it runs, journal.jsonl keeps the lines of finished sources.  A run that was killed goes on
 * from there; the finished dataset has the same bytes whatever was interrupted and whatever `jobs`
 * is.  Sources are only read, and unchanged ones are not hashed again: the log says how many.
 * A dataset in `out` that was made from another folder is left as it is (ERR_USAGE), unless at
 * least half of its clips come from files that this folder has under the same names with the same
 * sizes (a disk mounted elsewhere).
 * 0 all accepted, 3 some rejected, negative: nothing is marked finished. */
WEFT_MUST_CHECK int prep_ingest(const IngestParams *p, Err *err);
#endif
