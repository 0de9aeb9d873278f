/* Whether files are what they were: a digest of what the file system says about them.
 *
 * Files count as unchanged while device, inode, size, mtime and ctime (nanoseconds) are what they were;
 * a program that writes new bytes and restores the old mtime still changes the ctime.  A file that was
 * changed within two seconds before it was looked at is not settled: it could change once more within
 * the same tick of the file system's clock, and nothing about it should be remembered.
 *
 *   file_stamp_begin(&s);  file_stamp_add(&s, path, err); ...  file_stamp_end(&s, err);   then s.hex
 *
 * and what was found by reading the files, for later programs: a JSON object in a file of its own. */
#ifndef WEFT_COMMON_BASE_FILE_STAMP_H
#define WEFT_COMMON_BASE_FILE_STAMP_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/str.h"

typedef struct FileStamp {
    Str lines, still_lines;
    int64_t now;    /* when file_stamp_begin was called, ns */
    int64_t size;   /* bytes of all files */
    int settled;    /* nothing was changed just before */
    char hex[65];   /* SHA-256 of all that was added */
    char still[65]; /* the same without the ctimes, which a hard link changes as well */
} FileStamp;

void file_stamp_begin(FileStamp *s);
/* ERR_FORMAT for what is not a regular file: a pipe or a device would never end. */
WEFT_MUST_CHECK int file_stamp_add(FileStamp *s, const char *path, Err *err);
/* Sets s->hex and s->still.  Frees what begin and add took, as file_stamp_fini does where the end is not reached. */
WEFT_MUST_CHECK int file_stamp_end(FileStamp *s, Err *err);
void file_stamp_fini(FileStamp *s);

/* The object that remembered_save wrote to `path`; an empty one when the file is missing, torn, damaged
 * or another program's (`kind` tells them apart): that costs only the reading.  New reference. */
WEFT_MUST_CHECK int remembered_load(json_t **out, const char *path, const char *kind, Err *err);
/* Atomically. */
WEFT_MUST_CHECK int remembered_save(const json_t *object, const char *path, const char *kind, Err *err);
#endif
