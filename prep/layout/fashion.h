/* The files of Fashion-Text2Video.  The parsers accept any bytes (they are fuzzed). */
#ifndef WEFT_PREP_LAYOUT_FASHION_H
#define WEFT_PREP_LAYOUT_FASHION_H
#include <jansson.h>
#include <stdint.h>
#include "prep/layout/reader.h"

extern const Layout layout_fashion;

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
/* A sentence for a label: the template and the gender word are drawn by (seed, id, start).  *out is
 * NULL for label 22 ("no text") and for labels without templates; otherwise the caller frees it
 * with mem_free. */
WEFT_MUST_CHECK int fashion_motion_text(const json_t *templates, int64_t label, uint64_t seed, const char *id,
                                        int64_t start, char **out, Err *err);
/* The value of a video, borrowed; keys may be spelled with or without ".mp4" or around the
 * 11-character ID. */
json_t *fashion_lookup(const json_t *object, const char *video);
#endif
