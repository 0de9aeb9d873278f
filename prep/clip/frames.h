/* The pictures of a source one after another, whether it is a video or a folder of numbered
 * pictures.
 *
 *   frame_reader_open(&r, path, kind, rate, err);
 *   while ((rc = frame_reader_next(r, &mark, err)) == 1)  if (wanted(mark.index))
 *   frame_reader_rgb(r, &plan, rgb, err);
 *   frame_reader_close(&r);
 */
#ifndef WEFT_PREP_CLIP_FRAMES_H
#define WEFT_PREP_CLIP_FRAMES_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/media/video.h"
#include "prep/layout/pictures.h"
#include "prep/layout/source.h"

typedef struct FrameReader FrameReader;

typedef struct FrameMark {
    int64_t index;  /* from 0; of a folder: the place in numeric order */
    Rational time;  /* seconds since the first; of a folder: (number - first number) / rate */
    double clock_s; /* seconds on the container's own clock */
    int damaged, assumed;
} FrameMark;

/* limits: of each video and picture; NULL: the media library's own. */
WEFT_MUST_CHECK int frame_reader_open(FrameReader **out, const char *path, SourceKind kind, Rational rate,
                                      const VideoLimits *limits, Err *err);
void frame_reader_close(FrameReader **r);
const VideoInfo *frame_reader_info(const FrameReader *r);
/* 1 a frame, 0 clean end, negative error. */
WEFT_MUST_CHECK int frame_reader_next(FrameReader *r, FrameMark *out, Err *err);
/* The frame frame_reader_next gave last, as the plan says: rgb [height,width,3]. */
WEFT_MUST_CHECK int frame_reader_rgb(FrameReader *r, const FitPlan *plan, uint8_t *rgb, Err *err);
/* For videos only.  hold: keeps the frame that was given last while frame_reader_next reads one more;
 * held_rgb: the kept frame as pixels. */
WEFT_MUST_CHECK int frame_reader_hold(FrameReader *r, Err *err);
WEFT_MUST_CHECK int frame_reader_held_rgb(FrameReader *r, const FitPlan *plan, uint8_t *rgb, Err *err);
/* As video_skim; a folder of pictures is never decoded here: 0. */
WEFT_MUST_CHECK int frame_reader_skim(FrameReader *r, Err *err);
/* Once a frame was given: the first frame's time on the file's clock, which starts with the file's
 * earliest track; of a folder: 0. */
Rational frame_reader_first_time(const FrameReader *r);
/* As video_thin, for videos only. */
int frame_reader_thin(FrameReader *r, int64_t fps);
VideoCounts frame_reader_counts(const FrameReader *r);
#endif
