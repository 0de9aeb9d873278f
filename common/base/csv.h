/* CSV as RFC 4180 has it: fields in quotes may hold commas, newlines and doubled quotes; lines end
 * in LF or CRLF. */
#ifndef WEFT_COMMON_BASE_CSV_H
#define WEFT_COMMON_BASE_CSV_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"

/* 1 with *row, an array of strings; 0 at the end.  *at and *line (of the row's start, from 1) start
 * at 0 and advance.  A byte order mark in front is left out, and so are empty lines.  ERR_FORMAT
 * with the line for an open quote, text after a closing one, a quote inside a bare field, and bytes
 * that are not UTF-8. */
WEFT_MUST_CHECK int csv_row(const char *text, int64_t size, int64_t *at, int64_t *line, json_t **row, const char *name,
                            Err *err);
#endif
