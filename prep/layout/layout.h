/* Ways people keep clips and captions.  A layout reader turns a folder into a SourceList, in a
 * fixed order, without opening a video.  A mistake of the user (a broken line, an id twice, a
 * path that leaves the folder) is refused with its place;
 * what is missing or empty is a Source that will be recorded as rejected. */
#ifndef WEFT_PREP_LAYOUT_LAYOUT_H
#define WEFT_PREP_LAYOUT_LAYOUT_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/log.h"
#include "prep/layout/input.h"
#include "prep/layout/source.h"

typedef struct Layout {
    const char *name;
    const char *about;
    /* 1 with the reason in why[size], 0 no, negative error. */
    int (*detect)(const LayoutInput *in, char *why, size_t size, Err *err);
    int (*read)(const LayoutInput *in, SourceList *out, Err *err);
    int fallback;       /* any tree of videos looks like this: tried only when no other layout fits */
    int reads_all;      /* every video below the root is a source: none can be missing from a list */
    int reads_no_table; /* a table at the root (CSV, JSON) is not read, and the user is told so */
} Layout;

/* NULL-terminated, in the order of detection. */
extern const Layout *const layouts[];
extern const Layout layout_metadata, layout_fashion, layout_lists, layout_captions, layout_trees, layout_table,
    layout_ubc, layout_pairs;

/* By name, or by looking when name is NULL.  why: a sentence for the user. */
WEFT_MUST_CHECK int layout_choose(const LayoutInput *in, const char *name, const Layout **out, char *why, size_t size,
                                  Err *err);
/* Reads, checks ids and paths, rejects sources that a link leads out of the folder for, and names
 * on the log what no source stands for. */
WEFT_MUST_CHECK int layout_read(const Layout *layout, const LayoutInput *in, SourceList *out, Err *err);

/* Parsers, on bytes that may be anything (fuzzed). --------------------------------------------- */

/* One object (borrowed) of metadata into a new source. */
WEFT_MUST_CHECK int metadata_add(SourceList *l, json_t *o, const char *where, Err *err);
/* One line of metadata.jsonl; blank lines add nothing. */
WEFT_MUST_CHECK int metadata_parse_line(SourceList *l, const char *text, int64_t size, const char *where, Err *err);
/* A JSON array of such objects; CSV with a header line. */
WEFT_MUST_CHECK int metadata_parse_list(SourceList *l, const char *text, int64_t size, const char *name, Err *err);
WEFT_MUST_CHECK int metadata_parse_csv(SourceList *l, const char *text, int64_t size, const char *name, Err *err);
/* A file of these, by its ending. */
WEFT_MUST_CHECK int metadata_read_file(const LayoutInput *in, const char *name, SourceList *out, Err *err);

/* A list of videos and a list of prompts, line by line; trailing blank lines of each are left out.
 * Refuses unequal counts and blank lines inside, with the line. */
WEFT_MUST_CHECK int lists_parse(SourceList *l, const char *videos, int64_t videos_size, const char *videos_name,
                                const char *prompts, int64_t prompts_size, const char *prompts_name, Err *err);
/* ERR_USAGE when there is a list of videos without a list of prompts. */
WEFT_MUST_CHECK int lists_refuse_lone(const LayoutInput *in, Err *err);
/* {file: caption or captions}. */
WEFT_MUST_CHECK int captions_map_parse(SourceList *l, const char *text, int64_t size, const char *name, Err *err);

/* *_frame_num.txt: lines "<video> <frame count>", more fields ignored; appends to *out. */
typedef struct FrameCount {
    char *video;
    int64_t frames;
} FrameCount;
typedef struct FrameCounts {
    FrameCount *item;
    int64_t n, cap;
} FrameCounts;
WEFT_MUST_CHECK int fashion_parse_counts(FrameCounts *out, const char *text, int64_t size, const char *where, Err *err);
void fashion_counts_fini(FrameCounts *c);
/* Lines "<start> <end> <rest>" (end inclusive) become the source's segments.  With templates the
 * rest is a label number, without (NULL) it is the sentence itself.  Segments with end - start < 8
 * are left out, as the reference loader does; a malformed line rejects the source. */
WEFT_MUST_CHECK int fashion_parse_segments(Source *s, const char *text, int64_t size, const json_t *templates,
                                           uint64_t seed, const char *where, Err *err);
/* A sentence for a label, template and gender word drawn by (seed, id, start); *out is NULL for
 * label 22 ("no text") and for labels without templates, else the caller's to mem_free. */
WEFT_MUST_CHECK int fashion_motion_text(const json_t *templates, int64_t label, uint64_t seed, const char *id,
                                        int64_t start, char **out, Err *err);
/* The value of a video, borrowed; keys may be spelled with or without ".mp4" or around the
 * 11-character ID. */
json_t *fashion_lookup(const json_t *object, const char *video);
#endif
