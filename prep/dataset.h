/* The prepared dataset's folder: opening it for writing, and its two index files. */
#ifndef WEFT_PREP_DATASET_H
#define WEFT_PREP_DATASET_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"
#include "common/base/file.h"
#include "common/base/recipe.h"
#include "prep/record.h"

/* Makes and locks the folder.  Refuses one that holds other things, and one that lies in the source folder or around it.
 * dataset.json goes: from here until dataset_finish the dataset is not finished. */
int dataset_open_folder(const char *source, const char *dir, DirLock *lock, Err *err);

typedef struct Dataset {
    const char *dir, *layout, *recipe_sha256;
    const Recipe *recipe;
    int64_t shard, shards;
    char **lines; /* [n], in source order */
    int64_t n;
    Tally tally;  /* filled by dataset_write_manifest */
    char manifest_sha256[65];
} Dataset;
int dataset_write_manifest(Dataset *d, Err *err);
/* Removes clips that no line names, then writes the report, then dataset.json. */
int dataset_finish(Dataset *d, Err *err);
void dataset_print(const Dataset *d, FILE *out);
void dataset_fini(Dataset *d);

/* A finished dataset's dataset.json, and its manifest's lines one after another; both validated, and the manifest's hash
 * compared. */
int dataset_read(const char *dir, json_t **out, Err *err);
int dataset_each_line(const char *dir, const json_t *dataset, int (*line)(void *user, const json_t *record, Err *err), void *user,
                      Err *err);
#endif
