/* The decoder wrapper on hostile bytes: open, facts, the first frames to RGB, the others only decoded; of
 * inputs of odd size what follows the second frame is only skimmed; of every third size frames are passed
 * over after the first.
 *
 * An input takes 2 to 7 ms (8 with the sanitizers, 120 a second), where targets of plain parsers take
 * microseconds: the library tries every demuxer, opens the decoder once to probe and once for us, and
 * both clear about a megabyte each time.  That is its price of opening a file; what is ours and can run
 * without it is the target `ebml`.
 *
 * Corpus: tiny clips of many containers and codecs (FFmpeg's test picture, 3 to 6 frames of 32x48 or
 * less; rotated, with pixel aspect, interlaced, without timestamps), and those of
 * tests/tools/video_corpus.c. */
#include <stdlib.h>
#include "common/media/media_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const VideoLimits limits = {.max_pixels = 1 << 18, .max_frames = 16, .max_seconds = 5};
    enum { W = 24, H = 36 };
    Err err = {0};
    VideoReader *r = NULL;
    VideoFrame f;
    if (video_open_memory(&r, data, (int64_t)size, &limits, &err) < 0) {
        if (!err.code || !err.msg[0] || r)
            abort(); /* a refusal has a code and a sentence */
        return 0;
    }
    const VideoInfo *info = video_info(r);
    if (info->width < 1 || info->height < 1 || info->display_width < 1 || info->display_height < 1 || info->sar.den < 1)
        abort();
    uint8_t *rgb = malloc(W * H * 3);
    int64_t last = INT64_MIN;
    for (int mode = FIT_COVER; video_next(r, &f, &err) == 1; mode = (mode + 1) % 3) {
        FitPlan plan = fit_plan(info, W, H, (FitMode)mode, 0.5, 0.3);
        if (f.pts <= last || f.time.num < 0 || f.time.den < 1)
            abort();
        last = f.pts;
        Err refused = {0};
        if (rgb && f.index < 4 && video_to_rgb(r, &f, &plan, rgb, &refused) < 0 && !refused.msg[0])
            abort();
        if (size % 3 == 0 && f.index == 0)
            video_thin(r, 1 + (int64_t)(size % 7));
        if (size % 2 && f.index == 1 && video_skim(r, &refused) < 0)
            break;
    }
    VideoCounts c = video_counts(r);
    if (c.frames > limits.max_frames || c.damaged_frames > c.frames)
        abort();
    free(rgb);
    video_close(&r);
    return 0;
}
