/* What a folder of samples holds, for people and programs: OUT/index.json (schemas/sample-index), the
 * page OUT/index.html, and OUT/contact.png, a few frames of each of the first samples.  They are made
 * from the records in OUT and OUT/CATEGORY, whichever run wrote them, and say nothing of when: the
 * same samples give the same bytes. */
#ifndef WEFT_INFER_SAMPLE_INDEX_H
#define WEFT_INFER_SAMPLE_INDEX_H
#include <jansson.h>
#include "common/base/log.h"

enum { CONTACT_SAMPLES = 48 }; /* at most, on contact.png */

/* Writes all three, or with `quick` not the contact sheet, for which videos are decoded.  A record
 * that cannot be read, or whose video is missing, is left out with a warning.  *n: samples listed. */
WEFT_MUST_CHECK int sample_index_write(const char *out, int quick, const Log *log, int64_t *n, Err *err);

/* ---- the parts, for rows sorted by id: the "samples" of index.json ---- */
WEFT_MUST_CHECK int sample_rows(const char *out, const Log *log, json_t **rows, Err *err); /* new reference */
WEFT_MUST_CHECK int sample_page(const char *out, const json_t *rows, Err *err);
WEFT_MUST_CHECK int sample_sheet(const char *out, const json_t *rows, const Log *log, Err *err);
#endif
