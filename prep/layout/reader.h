/* What a layout is: one of the ways in which people keep clips and captions.  Each layout fills in
 * this struct; layout.c lists them. */
#ifndef WEFT_PREP_LAYOUT_READER_H
#define WEFT_PREP_LAYOUT_READER_H
#include <stddef.h>
#include "common/base/err.h"
#include "prep/layout/input.h"
#include "prep/layout/source.h"

typedef struct Layout {
    const char *name;
    /* Whether the folder looks like this layout: 1 and the reason in why[size], 0, or a negative error. */
    int (*detect)(const LayoutInput *in, char *why, size_t size, Err *err);
    int (*read)(const LayoutInput *in, SourceList *out, Err *err);
    int fallback;       /* any tree of videos looks like this: tried only when no other layout fits */
    int reads_all;      /* every video below the root is a source: none can be missing from a list */
    int reads_no_table; /* a table at the root (CSV, JSON) is not read; the log says so */
} Layout;
#endif
