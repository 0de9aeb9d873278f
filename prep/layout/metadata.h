/* Metadata files: metadata.jsonl, JSON lists, CSV.  The parsers accept any bytes (they are fuzzed). */
#ifndef WEFT_PREP_LAYOUT_METADATA_H
#define WEFT_PREP_LAYOUT_METADATA_H
#include <jansson.h>
#include <stdint.h>
#include "prep/layout/reader.h"

extern const Layout layout_metadata, layout_table;

/* One object (borrowed) of metadata into a new source. */
WEFT_MUST_CHECK int metadata_add(SourceList *l, json_t *o, const char *where, Err *err);
/* One line of metadata.jsonl; blank lines add nothing. */
WEFT_MUST_CHECK int metadata_parse_line(SourceList *l, const char *text, int64_t size, const char *where, Err *err);
/* A JSON array of such objects; CSV with a header line. */
WEFT_MUST_CHECK int metadata_parse_list(SourceList *l, const char *text, int64_t size, const char *name, Err *err);
WEFT_MUST_CHECK int metadata_parse_csv(SourceList *l, const char *text, int64_t size, const char *name, Err *err);
/* A file of these, by its ending. */
WEFT_MUST_CHECK int metadata_read_file(const LayoutInput *in, const char *name, SourceList *out, Err *err);
#endif
