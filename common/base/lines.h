/* Reading a text file line by line with a bound on the line. */
#ifndef WEFT_BASE_LINES_H
#define WEFT_BASE_LINES_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

enum { LINE_BYTES_MAX = 1 << 20 /* people's files */, RECORD_BYTES_MAX = 1 << 25 /* manifest lines */ };

typedef int LineFn(void *user, const char *text, int64_t size, const char *where, Err *err);
/* Calls `line` for each line (without its LF or CRLF, NUL-terminated; the first one without a byte order
 * mark) with "NAME line N" in `where`; a negative return stops and is returned.  A line of max_bytes
 * or more is refused (ERR_LIMIT); the last line needs no newline. */
WEFT_MUST_CHECK int lines_read(const char *path, int64_t max_bytes, LineFn *line, void *user, Err *err);
/* The same of a file that is open, at its beginning; *at: where the text of the line at hand begins in it. */
WEFT_MUST_CHECK int lines_read_file(FILE *f, const char *path, int64_t max_bytes, int64_t *at, LineFn *line, void *user,
                                    Err *err);
/* The next line of a block: 1 with *line and *size, 0 at the end; *at starts at 0. */
int lines_next(const char *text, int64_t text_size, int64_t *at, const char **line, int64_t *size);
#endif
