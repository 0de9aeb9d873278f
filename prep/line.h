/* A line of the manifest, read and changed.  Its members are named here, where prep/clip/json.c and
 * prep/picture/quality_judge.c write them, in the lists of what is parsed (report_members in
 * prep/set/report.h) and in schemas/manifest.schema.json; nowhere else in prep. */
#ifndef WEFT_PREP_LINE_H
#define WEFT_PREP_LINE_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/media/rational.h"
#include "prep/layout/source.h"
#include "prep/reason.h"

typedef struct LineProbe {
    const char *codec;
    int64_t width, height, display_width, display_height, frames;
    Rational avg_rate, first_time, last_time;
    double duration_s; /* as the file says; 0: it does not */
    int vfr;
} LineProbe;

typedef struct LineWindow {
    int64_t count; /* windows of the source */
    Rational start_time;
} LineWindow;

typedef struct LineQuality {
    uint64_t hashes[3];
    double mean_rgb[3], mean_luma, sharpness, mean_change;
    int has_visible, has_colour; /* visible_median is known; visible_rgb is known */
    double visible_median, visible_rgb[3];
} LineQuality;

typedef struct LineClip {
    const char *file, *pixels_sha256;
    int64_t size, frames, width, height;
} LineClip;

/* What a valid line (or a result of clip_process, which lacks the members of its Source) says.
 * Everything is borrowed from the JSON. */
typedef struct ManifestLine {
    const char *id, *key, *split, *category, *contact; /* NULL: null, or not there */
    int rejected;
    Reason reason; /* REASON_COUNT: none, or of another version */
    const char *reason_code, *reason_text;
    json_t *reason_json, *warnings, *captions, *attributes;
    const char *source_path, *source_sha256;
    int64_t source_size;
    int probed, placed, measured, has_clip; /* which of the following are known */
    LineProbe probe;
    LineWindow window;
    LineQuality quality;
    LineClip clip;
    double mean_error_s, max_error_s; /* of the frames' times */
} ManifestLine;

void line_read(ManifestLine *out, const json_t *line);

/* The line of a source from a result of clip_process (borrowed); NULL: no memory. */
json_t *line_build(const Source *s, const json_t *result, Err *err);
/* The reason of one of ManifestLine.warnings; REASON_COUNT: of another version. */
Reason line_note_reason(const json_t *note);
/* The code and the sentence of one of ManifestLine.warnings. */
const char *line_note_code(const json_t *note);
const char *line_note_text(const json_t *note);

/* Changes of a line: */
WEFT_MUST_CHECK int line_reject(json_t *line, Reason reason, const char *text, Err *err);
WEFT_MUST_CHECK int line_accept(json_t *line, Err *err);
WEFT_MUST_CHECK int line_add_note(json_t *line, Reason reason, const char *text, Err *err);
void line_remove_notes(json_t *line, Reason reason);
/* Copies what an earlier run found out about the pixels (facts, figures, files, notes about pixels and,
 * where it is `rejected`, the verdict) from `line` into `record`.  keep_clip 0: without the clip's
 * file. */
WEFT_MUST_CHECK int line_copy_results(json_t *record, const json_t *line, int rejected, int keep_clip, Err *err);
/* Removes what means nothing for a file alone: id, captions and a note that there are none, key and
 * files. */
void line_keep_facts(json_t *line);
#endif
