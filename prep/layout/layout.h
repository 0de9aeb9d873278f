/* Finds and runs the layout of a source folder.  A layout turns a folder into a SourceList, in a
 * fixed order, without opening a video.  A mistake of the user (a broken line, an id twice, a path
 * that leaves the folder) is an error that names its place; a source whose video or caption is
 * missing or empty stays in the list and will be recorded as rejected. */
#ifndef WEFT_PREP_LAYOUT_LAYOUT_H
#define WEFT_PREP_LAYOUT_LAYOUT_H
#include "prep/layout/reader.h"

/* All layouts, NULL-terminated, in the order of detection. */
extern const Layout *const layouts[];

/* The layout of this name, or with name NULL the one that the folder's files fit.  why: a sentence
 * that tells the user why it was chosen. */
WEFT_MUST_CHECK int layout_choose(const LayoutInput *in, const char *name, const Layout **out, char *why, size_t size,
                                  Err *err);
/* Reads the sources, checks their ids and paths, and rejects those whose path leads out of the folder
 * through a link.  Files that belong to no source are named on the log. */
WEFT_MUST_CHECK int layout_read(const Layout *layout, const LayoutInput *in, SourceList *out, Err *err);
#endif
