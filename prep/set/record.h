/* Manifest lines: keeping finished ones through a crash, finding them again, counting them. */
#ifndef WEFT_PREP_SET_RECORD_H
#define WEFT_PREP_SET_RECORD_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"

/* Lines of an earlier run by id: those of OUT/manifest.jsonl, then those of OUT/journal.jsonl.
 * Lines that are no valid records (a torn last line) are passed over: their clips are done again.
 * *out: id -> line. */
WEFT_MUST_CHECK int records_load(const char *out_dir, json_t **out, Err *err);

/* OUT/journal.jsonl: each finished clip's line, written to the disk before the next clip begins. */
typedef struct Journal Journal;
WEFT_MUST_CHECK int journal_open(Journal **out, const char *out_dir, Err *err);
WEFT_MUST_CHECK int journal_add(Journal *j, const char *line, Err *err);
void journal_close(Journal **j);
/* Removes the file; the dataset is complete without it. */
WEFT_MUST_CHECK int journal_remove(const char *out_dir, Err *err);

/* Counts for dataset.json over lines in order. */
typedef struct Tally {
    int64_t accepted, rejected;
    json_t *reasons, *warnings, *splits, *categories;
} Tally;
WEFT_MUST_CHECK int tally_init(Tally *t, Err *err);
WEFT_MUST_CHECK int tally_add(Tally *t, const json_t *record, Err *err);
void tally_fini(Tally *t);
#endif
