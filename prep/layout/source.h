/* A source clip as a layout reader found it: everything that is known before anything is decoded.
 *
 *   SourceList list = {0}; Source *s;
 *   source_list_add(&list, &s, err); s->path = ...; s->id = source_id_from_path(s->path, err);
 *   source_add_caption(s, text, n, err);
 *   source_list_settle(&list, err);  ids are valid and unique
 *   source_list_fini(&list);
 */
#ifndef WEFT_PREP_LAYOUT_SOURCE_H
#define WEFT_PREP_LAYOUT_SOURCE_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/media/video.h"
#include "prep/reason.h"

enum { SOURCE_ID_MAX = 200, CAPTION_BYTES_MAX = 65536, CAPTIONS_MAX = 64 };

typedef enum SourceKind { SOURCE_VIDEO, SOURCE_FRAMES /* a folder of numbered pictures */ } SourceKind;

/* A sentence about part of the source: pictures start..end (end inclusive) at Source.rate a second,
 * or microseconds. */
typedef struct Segment {
    int64_t start, end;
    char *text;
} Segment;

typedef struct Source { /* strings owned; NULL where unknown unless said otherwise */
    char *id, *path;    /* path: relative to the source folder */
    char *where;        /* for messages: "metadata.jsonl line 3" */
    SourceKind kind;
    Rational rate;                  /* of numbered pictures and of segments; den 0: the recipe's clip.frames_fps */
    Rational start, end;            /* only this part of the source is used, seconds; den 0: no limit */
    char *category, *expect_sha256; /* expect_sha256: 64 hex digits the bytes must have */
    int id_given;                   /* by the metadata; others are made from paths and may be changed to be unique */
    const char *split;              /* constant: "train", "val", "test"; never NULL */
    int split_given;
    char **captions; /* cleaned, none empty */
    int64_t n_captions;
    Segment *segments; /* by start */
    int64_t n_segments, segment_bytes;
    int segments_us;                 /* segments are in microseconds */
    int64_t crop[4];                 /* x, y, width, height of the upright picture that is used; width 0: all of it */
    json_t *attributes, *extra;      /* objects or NULL */
    json_t *warnings;                /* array of {code, text} or NULL */
    char *reject_code, *reject_text; /* decided by the layout: not decoded at all */
} Source;

typedef struct SourceList {
    Source *item;
    int64_t n, cap;
} SourceList;

/* A zeroed slot (split "train") at the end; *out is good until the next add. */
WEFT_MUST_CHECK int source_list_add(SourceList *l, Source **out, Err *err);
void source_list_fini(SourceList *l);
/* Where ids made from paths are equal, all but the first by path get "-" and eight hex digits of
 * their path's hash, and a note.  ERR_FORMAT when a given id is invalid, or two of them are equal,
 * or one path has two sources without ids: the sentence names both places. */
WEFT_MUST_CHECK int source_list_settle(SourceList *l, Err *err);
/* Only the sources with keep[i] stay. */
void source_list_keep(SourceList *l, const uint8_t *keep);

/* SHA-256 in hex of all facts of the list's sources, in order: two runs with the same value read
 * the same list. */
WEFT_MUST_CHECK int source_list_sha256(const SourceList *l, char hex[65], Err *err);

/* At most 200 bytes of UTF-8, not empty, no '/', no control characters, no "..", no leading '.'. */
WEFT_MUST_CHECK int source_id_check(const char *id, Err *err);
/* In place: "./a//b" becomes "a/b", as find and shells write names; a leading '/' stays. */
void source_path_clean(char *path);
/* "train/a b.mp4" -> "train_a b": one trailing video extension off; '/', '#' (which numbers
 * windows), control characters, a leading '.' and the second of ".." become '_'; what is longer
 * than 180 bytes ends in "-" and eight hex digits of the path's hash.  mem_free. */
char *source_id_from_path(const char *path, Err *err);
/* Whether the name ends as those of videos do (.mp4 .mov .mkv .mpg ...); the length without it. */
int source_is_video_name(const char *name, int64_t *stem);
/* "train", "val" ("valid", "validation", "dev", "eval"), "test", whatever the case; NULL for
 * anything else. */
const char *source_split(const char *name);

/* Adds a cleaned caption; an empty one is not added.  A caption that is not UTF-8 or is too long,
 * or one too many, rejects the source. */
WEFT_MUST_CHECK int source_add_caption(Source *s, const char *text, int64_t size, Err *err);
/* The same for a sentence; all of a source's sentences together have the length limit of one
 * caption. */
WEFT_MUST_CHECK int source_add_segment(Source *s, int64_t start, int64_t end, const char *text, int64_t size, Err *err);
/* Surrounding blanks and a byte order mark off; inner blanks and newlines to one space. 
 * mem_free. */
char *caption_clean(const char *text, int64_t size, Err *err);
/* The captions of a window [start, end] in seconds: each caption, followed by the sentences of the
 * segments that overlap the window by half of themselves or by a second.  Nothing but blanks gives
 * n = 0.  captions_free. */
WEFT_MUST_CHECK int source_window_captions(const Source *s, int64_t frames_fps, double start_s, double end_s,
                                           char ***out, int64_t *n, Err *err);
void captions_free(char ***captions, int64_t n);

/* First rejection wins. */
int source_reject(Source *s, Reason reason, Err *err, const char *fmt, ...) WEFT_PRINTF(4, 5);
int source_warn(Source *s, Reason reason, Err *err, const char *fmt, ...) WEFT_PRINTF(4, 5);
/* {code, text}. */
json_t *note_new(Reason reason, const char *text, Err *err);
#endif
