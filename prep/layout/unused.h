/* What lies in a source folder and is not taken: it must not go unsaid. */
#ifndef WEFT_PREP_LAYOUT_UNUSED_H
#define WEFT_PREP_LAYOUT_UNUSED_H
#include "common/base/err.h"
#include "common/base/log.h"
#include "prep/layout/source.h"

/* One line on the log for each kind of file below root that no source stands for, with the number
 * and the first names: videos and folders of pictures, unless the layout takes all that it finds;
 * and files that are neither videos, pictures, texts nor tables by their names.
 * tables: also tables at the root or in a folder there that are not named metadata.*, since the
 * layout does not read them. */
int layout_tell_rest(const char *root, const SourceList *l, int takes_all, int tables, const Log *log, Err *err);
/* "WHAT: N, such as a, b, c" from an object's keys; nothing for an empty one. */
void layout_tell(const Log *log, const char *what, const json_t *paths);
#endif
