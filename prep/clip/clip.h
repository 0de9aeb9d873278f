/* One source clip through the whole pipeline: identity, decoding, judgement, choice of frames,
 * geometry, pixels, FFV1.
 *
 * Two passes over the source: the first decodes everything and keeps only times and damage (so that
 * a truncated or damaged file is known before anything is written, and windows may lie anywhere);
 * the second converts the chosen frames.
 * To save the second pass, the first one already converts the frames of the first window.  After that
 * window it only reads packets (video_skim) where their times are exact.  If they turn out not to be,
 * or if frames after the window are needed, the source is started over and every frame decoded
 * (restart_full).
 * Whatever is wrong with the source ends as a rejection in the result; a negative return means the
 * run cannot go on (no memory, the output cannot be written). */
#ifndef WEFT_PREP_CLIP_CLIP_H
#define WEFT_PREP_CLIP_CLIP_H
#include <jansson.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/recipe.h"
#include "prep/picture/quality.h"
#include "prep/layout/source.h"

/* Changes when the same source and recipe would give other pixels or another decision; part of
 * every key. */
enum { PREP_REVISION = 5 };

/* Which parts of a source become clips; from WINDOW_CHUNKS on a source may have several, whose ids
 * end in "#k". */
typedef enum WindowPolicy { WINDOW_FIRST, WINDOW_MIDDLE, WINDOW_CHUNKS, WINDOW_SLIDE, WINDOW_UNIFORM } WindowPolicy;

typedef struct PrepConfig {
    int64_t width, height, fps, frames; /* frames: clip.model_frames */
    WindowPolicy window;
    int64_t window_stride, window_count;
    int hold, max_hold;
    FitMode fit;
    double bias_x, bias_y, max_lost, min_fps;
    Deinterlace deinterlace;
    uint8_t background[3]; /* under transparent pixels */
    char background_name[16];
    int hdr_convert, trim_bars, even_white, even_exposure;
    double evening_strength, evening_luma;
    int64_t min_side, frames_fps;
    int allow_vfr, allow_empty_caption;
    int64_t cpu_s, wall_s, memory_bytes, max_file_bytes, max_pixels, max_frames; /* the recipe's limits */
    QualityLimits quality;
    /* decode every frame, also after the first window; no recipe key, because the result is the
     * same */
    int decode_all;
    const json_t *seen; /* source_identify's `remembered`; NULL: every source is read */
    char recipe_sha256[65];
} PrepConfig;

WEFT_MUST_CHECK int prep_config(PrepConfig *out, const Recipe *recipe, Err *err);

/* *out: an array, one object a window, or one for a source that is rejected as a whole, with the
 * manifest's members id, decision, reason, warnings, captions, key, recipe_sha256, source, probe,
 * window, geometry, ledger, timing, evening, quality, contact and clip; and, where out_dir is given
 * and the source could be read, `seen`: {hashed, entry} of SourceIdentity.
 * prior: the valid manifest lines of the same source from an earlier run, or NULL.  They are used
 * again when their key is the same and their clips exist.
 * out_dir: the dataset's folder (clips/ and thumbs/ exist); NULL: nothing is written, `clip` and
 * `contact` are null. */
WEFT_MUST_CHECK int clip_process(const PrepConfig *cfg, const char *root, const Source *s, const json_t *prior,
                                 const char *out_dir, json_t **out, Err *err);
/* *out as above for a source whose processing gave no result. */
WEFT_MUST_CHECK int clip_failed(const PrepConfig *cfg, const Source *s, const char *code, const char *text,
                                json_t **out, Err *err);
#endif
