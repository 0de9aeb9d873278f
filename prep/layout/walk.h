/* Walking a source folder: videos, texts, and folders of numbered pictures. */
#ifndef WEFT_PREP_LAYOUT_WALK_H
#define WEFT_PREP_LAYOUT_WALK_H
#include "common/base/err.h"
#include "prep/layout/source.h"

typedef enum WalkKind {
    WALK_FILE,
    WALK_PICTURES, /* a folder with numbered pictures and no folders or videos in it */
    WALK_LOOP,     /* a link to a folder that it, or the root, lies in: not entered; other links are followed */
    WALK_CLOSED,   /* a folder that may not be read */
    WALK_NAME      /* a folder or video whose name is no text: `path` has its odd bytes as %XX */
} WalkKind;
typedef int WalkFn(void *user, const char *path, WalkKind kind, Err *err);
/* Calls `found` for each thing below root in path order (path relative to root); names with a
 * leading '.' are passed over; the pictures of a folder are not named one by one.  A return other
 * than 0 stops and is returned. */
int walk_folder(const char *root, WalkFn *found, void *user, Err *err);
/* What cannot be entered becomes a rejected source, so that the run goes on and the manifest tells
 * of it. */
int walk_reject(Source *s, WalkKind kind, Err *err);
/* A file that can be read to its end: no pipe, no device. */
int walk_is_regular(const char *path);
#endif
