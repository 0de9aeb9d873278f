/* Reports the files of a source folder that become no source, so that nothing is left out silently. */
#ifndef WEFT_PREP_LAYOUT_UNUSED_H
#define WEFT_PREP_LAYOUT_UNUSED_H
#include "common/base/err.h"
#include "common/base/log.h"
#include "prep/layout/input.h"
#include "prep/layout/source.h"

/* One line on the log for each kind of file below the root that belongs to no source, with the
 * number and the first names: videos and folders of pictures (listed: when the layout reads only
 * those that a list names), Parquet tables, links to folders that are read under their own path,
 * and files that are neither videos, pictures, texts nor tables by their names. tables: also tables
 * at the root or in a folder there that are not named metadata.*, since the layout does not read
 * them. */
WEFT_MUST_CHECK int layout_unused(const LayoutInput *in, const SourceList *l, int listed, int tables, Err *err);
/* "WHAT: N, such as a, b, c" from an object's keys; nothing for an empty one. */
void layout_report(const Log *log, const char *what, const json_t *paths);
#endif
