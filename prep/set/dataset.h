/* The prepared dataset's folder: opening it for writing, and its two index files. */
#ifndef WEFT_PREP_SET_DATASET_H
#define WEFT_PREP_SET_DATASET_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/recipe.h"
#include "common/base/schema_lines.h"
#include "prep/picture/quality.h"
#include "prep/set/record.h"

/* Makes and locks the folder; nothing in it changes.  ERR_USAGE when it holds other files, lies in
 * one of the source folders [n] or contains one. */
WEFT_MUST_CHECK int dataset_lock_folder(const char *const *sources, int64_t n, const char *dir, DirLock *lock,
                                        Err *err);
/* Whether the dataset in the folder, with these lines (id -> line, of records_load), may be
 * overwritten by one made from other sources: only when it has no clips, or when at least half of
 * them come from sources that are in the new set too.  Otherwise ERR_USAGE, since the user may still
 * need it.
 * has: 1 when a line's source is in the new set, negative: an error.  was: the old sources' folder
 * or NULL, now: the new ones'. */
WEFT_MUST_CHECK int dataset_check_same(const char *dir, const json_t *prior, const char *was, const char *now,
                                       int (*has)(void *user, const json_t *line), void *user, Err *err);
/* dataset.json goes: from here until dataset_finish the dataset is not finished. */
WEFT_MUST_CHECK int dataset_begin(const char *dir, Err *err);

typedef struct Dataset {
    const char *dir, *layout, *layout_found, *recipe_sha256; /* layout_found: why this layout was chosen */
    const Recipe *recipe;
    int64_t shard, shards;
    char **lines; /* [n], in source order; those of look-alikes are changed by dataset_finish */
    int64_t n;
    /* Of a shard only: what `merge` needs. */
    const int64_t *places;   /* [n] */
    int64_t sources;         /* of all shards */
    const char *list_sha256; /* source_list_sha256 of them */
} Dataset;
/* From the lines to the finished dataset: marks look-alikes, writes the manifest, prints the counts
 * to results, removes files that no line names, writes the report, then dataset.json.  0 all
 * accepted, 3 some rejected, negative: it is not marked finished;
 * ERR_LIMIT when more are rejected than clip.max_reject_ratio allows (the report is written then
 * too). */
WEFT_MUST_CHECK int dataset_finish(const Dataset *d, const QualityLimits *limits, const Log *log, FILE *results,
                                   Err *err);

/* A finished dataset's dataset.json, and its manifest's lines one after another; both validated,
 * and the manifest's hash compared.  members: as in schema_each_line (common/base/schema_lines.h). */
WEFT_MUST_CHECK int dataset_read(const char *dir, json_t **out, Err *err);
WEFT_MUST_CHECK int dataset_each_line(const char *dir, const json_t *dataset, const char *const *members,
                                      SchemaLineFn line, void *user, Err *err);
#endif
