/* Walking a source folder: videos, texts, and folders of numbered pictures. */
#ifndef WEFT_PREP_LAYOUT_WALK_H
#define WEFT_PREP_LAYOUT_WALK_H
#include "common/base/err.h"
#include "prep/layout/input.h"
#include "prep/layout/source.h"

typedef enum WalkKind {
    WALK_FILE,
    WALK_PICTURES, /* a folder with numbered pictures and no folders or videos in it */
    WALK_AGAIN,    /* a link to a folder that the walk enters elsewhere: not entered a second time */
    WALK_LOOP,     /* a link to a folder that it, or the root, lies in: not entered */
    WALK_OUTSIDE,  /* a link to a folder outside of the root, and LayoutInput.follow_links is off: not entered */
    WALK_CLOSED,   /* a folder that may not be read */
    WALK_NAME      /* a folder or video whose name is not printable UTF-8: `path` has its odd bytes as %XX */
} WalkKind;
typedef int WalkFn(void *user, const char *path, WalkKind kind, Err *err);
/* Calls `found` for each thing below root/folder ("" for all) in path order; `path` is relative to
 * root/folder.  Names with a leading '.' are skipped; the pictures of a folder are not named one by
 * one.  Every folder is entered once, however many links lead to it, and under its own path where
 * it lies inside the root.  A return other than 0 stops the walk and is returned. */
WEFT_MUST_CHECK int walk_folder(const LayoutInput *in, const char *folder, WalkFn *found, void *user, Err *err);
/* Whether `kind` is a place that cannot be entered and that must become a rejected source, so that
 * the manifest names it. */
int walk_is_refused(WalkKind kind);
WEFT_MUST_CHECK int walk_reject(Source *s, WalkKind kind, Err *err);
#endif
