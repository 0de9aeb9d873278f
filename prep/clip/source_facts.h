/* What the facts of a source mean for its clips: whether its colours can be used, and the notes that go
 * into the manifest. */
#ifndef WEFT_PREP_CLIP_SOURCE_FACTS_H
#define WEFT_PREP_CLIP_SOURCE_FACTS_H
#include "common/media/video.h"
#include "prep/reason.h"

typedef struct SourceNote {
    Reason reason;
    char text[400];
} SourceNote;
enum { SOURCE_NOTES_MAX = 12 };

/* Whether the colours cannot be used: 1 and in *why the reason, or 0.  hdr_convert: clip.hdr=convert. */
int source_colours_refused(const VideoInfo *v, int hdr_convert, SourceNote *why);
/* The notes about a source that is used; returns how many.  background: as the recipe names it. */
int source_notes(const VideoInfo *v, const VideoCounts *c, const char *background, SourceNote notes[SOURCE_NOTES_MAX]);
/* "white", "black", "grey" or "#rrggbb" as red, green, blue: 1, or 0 when it is none of these. */
int colour_parse(const char *name, uint8_t rgb[3]);
#endif
