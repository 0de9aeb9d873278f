/* Walking a source folder: videos, texts, and folders of numbered pictures. */
#ifndef WEFT_PREP_LAYOUT_WALK_H
#define WEFT_PREP_LAYOUT_WALK_H
#include "common/base/err.h"

typedef enum WalkKind { WALK_FILE, WALK_PICTURES /* a folder with numbered pictures and no folders or videos in it */ } WalkKind;
typedef int WalkFn(void *user, const char *path, WalkKind kind, Err *err);
/* Calls `found` for each thing below root in path order (path relative to root); names with a leading '.' are passed over; the
 * pictures of a folder are not named one by one.  A return other than 0 stops and is returned. */
int walk_folder(const char *root, WalkFn *found, void *user, Err *err);
#endif
