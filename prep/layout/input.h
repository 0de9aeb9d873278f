/* The folder a layout reader reads, and the rules for files below it: only regular files are
 * opened, and a link that leads out of the folder is followed only when the user asked for that. */
#ifndef WEFT_PREP_LAYOUT_INPUT_H
#define WEFT_PREP_LAYOUT_INPUT_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/lines.h"
#include "common/base/log.h"
#include "prep/layout/source.h"

/* In messages: what to do about a link that is refused. */
#define LAYOUT_LINKS_HINT "--follow-links follows such links"

typedef struct LayoutInput {
    const char *root; /* the source folder */
    uint64_t seed;
    int follow_links; /* also links that lead out of root; without it they are refused */
    const Log *log;
} LayoutInput;

/* Whether root/path, with all links resolved, lies outside of root: 1 with the real path in *target
 * (mem_free), 0 inside or absent (*target NULL), negative error. */
WEFT_MUST_CHECK int layout_leads_out(const char *root, const char *path, char **target, Err *err);

/* 1 when root/path exists, 0 when it does not, ERR_NOMEM. */
WEFT_MUST_CHECK int layout_has(const LayoutInput *in, const char *path, Err *err);
/* 0 when root/path may be opened as a text file.  ERR_FORMAT: it is a folder, a pipe or a device;
 * ERR_USAGE: it leads out of root and follow_links is off. */
WEFT_MUST_CHECK int layout_check_text(const LayoutInput *in, const char *path, Err *err);
/* The checks above, then the whole file.  *text is the caller's to mem_free. */
WEFT_MUST_CHECK int layout_read_text(const LayoutInput *in, const char *path, int64_t max_bytes, char **text,
                                     int64_t *size, Err *err);
/* The same for the file of one source's caption: a fault of the file rejects the source. */
WEFT_MUST_CHECK int layout_read_caption(const LayoutInput *in, Source *s, const char *path, Err *err);
/* The same for a JSON file, and for a file line by line (lines_read). */
WEFT_MUST_CHECK int layout_read_json(const LayoutInput *in, const char *path, json_t **out, Err *err);
WEFT_MUST_CHECK int layout_read_lines(const LayoutInput *in, const char *path, LineFn *line, void *user, Err *err);
#endif
