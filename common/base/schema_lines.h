/* Objects of which only some members are read and judged; files of one JSON object a line (JSONL), each
 * judged by a schema. */
#ifndef WEFT_COMMON_BASE_SCHEMA_LINES_H
#define WEFT_COMMON_BASE_SCHEMA_LINES_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/schema.h"

/* The part of the schema that judges these members alone, for schema_validate_at; members are named as
 * json_parse_members names them.  A new reference, valid as long as the schema. */
WEFT_MUST_CHECK int schema_part(const Schema *s, const char *const *members, json_t **out, Err *err);
/* The text's members, valid by that part; `name` as in json_parse.  NULL in *out on error. */
WEFT_MUST_CHECK int schema_read_part(const Schema *s, const json_t *part, const char *const *members, const char *text,
                                     int64_t size, const char *name, json_t **out, Err *err);

/* where: "manifest.jsonl line 7". */
typedef int (*SchemaLineFn)(void *user, const json_t *line, const char *where, Err *err);

/* Calls f with each line of the file; the schema's name is as in schema_open.  members: those that f
 * reads, as json_parse_members names them; only they are in the line that f gets, and only they are
 * judged, which takes a quarter of the time.  NULL: all. */
WEFT_MUST_CHECK int schema_each_line(const char *path, const char *schema, const char *const *members, SchemaLineFn f,
                                     void *user, Err *err);

/* The same of a file that stays open, whose lines can be read again one by one. */
typedef struct SchemaFile SchemaFile;
/* Where a line lies, and what it was; size 0: nowhere. */
typedef struct LinePlace {
    uint64_t at : 38, size : 26; /* bytes: RECORD_BYTES_MAX at most */
    uint64_t check;              /* xxh3-64 of them */
} LinePlace;
/* path and members must outlive it. */
WEFT_MUST_CHECK int schema_file_open(SchemaFile **out, const char *path, const char *schema, const char *const *members,
                                     Err *err);
void schema_file_close(SchemaFile **f);
/* Of its bytes. */
WEFT_MUST_CHECK int schema_file_sha256(SchemaFile *f, Digest *out, Err *err);
/* ERR_LIMIT behind 256 GiB. */
WEFT_MUST_CHECK int schema_file_each(SchemaFile *f, SchemaLineFn line, void *user, Err *err);
/* Of the line that schema_file_each is at. */
LinePlace schema_file_place(const SchemaFile *f);
/* Reads that line again, which has been judged: a new reference.  ERR_FORMAT when it has changed. */
WEFT_MUST_CHECK int schema_file_line(SchemaFile *f, const LinePlace *place, json_t **out, Err *err);
#endif
