#include "prep/clip/frames.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "common/base/file.h"
#include "common/base/mem.h"

struct FrameReader {
    char *path;
    VideoReader *video; /* NULL: a folder */
    VideoFrame frame, held;
    Picture *pictures;
    int64_t n, at; /* at: pictures handed out */
    int64_t first_pts;
    Rational rate;
    VideoLimits limits;
    VideoInfo info;
};

/* ---- reading --------------------------------------------------------------------------------- */
/* Opens picture i as a video of one frame, so that PNG and JPEG of every kind, with their colour
 * tags, are read by the same code as videos. */
static int open_picture(const FrameReader *r, int64_t i, VideoReader **out, VideoFrame *frame, Err *err)
{
    char *path = path_join(r->path, r->pictures[i].name, err);
    int rc = path ? video_open(out, path, &r->limits, err) : ERR_NOMEM;
    if (rc == 0)
        rc = video_next(*out, frame, err);
    if (rc == 0 || (rc == 1 && frame->damaged))
        rc = err_set(err, ERR_FORMAT, "'%s': the picture is damaged", path);
    mem_free(path);
    return rc < 0 ? rc : 0;
}

static int open_folder(FrameReader *r, Rational rate, Err *err)
{
    VideoReader *first = NULL;
    VideoFrame frame;
    int rc = pictures_list(r->path, &r->pictures, &r->n, err);
    if (rc == 0 && r->limits.max_frames && r->n > r->limits.max_frames)
        rc = err_set(err, ERR_LIMIT, "'%s': more than %" PRId64 " pictures", r->path, r->limits.max_frames);
    if (rc == 0 && (rc = open_picture(r, 0, &first, &frame, err)) == 0) {
        r->rate = rate;
        r->info = *video_info(first);
        snprintf(r->info.container, sizeof r->info.container, "folder");
        r->info.avg_rate = r->info.r_rate = rate;
        r->info.time_base = (Rational){rate.den, rate.num};
        r->info.frames_hint = r->n;
        r->info.duration_s = 0;
        r->info.vfr = 0;
    }
    video_close(&first);
    return rc;
}

int frame_reader_open(FrameReader **out, const char *path, SourceKind kind, Rational rate, const VideoLimits *limits,
                      Err *err)
{
    *out = NULL;
    FrameReader *r = mem_calloc(1, sizeof *r, err);
    if (!r)
        return ERR_NOMEM;
    int rc = ERR_NOMEM;
    if (limits)
        r->limits = *limits;
    if ((r->path = mem_strdup(path, err)))
        rc = kind == SOURCE_FRAMES ? open_folder(r, rate, err) : video_open(&r->video, path, &r->limits, err);
    if (rc < 0) {
        frame_reader_close(&r);
        return rc;
    }
    if (r->video)
        r->info = *video_info(r->video);
    *out = r;
    return 0;
}

void frame_reader_close(FrameReader **reader)
{
    FrameReader *r = *reader;
    if (!r)
        return;
    video_close(&r->video);
    pictures_free(&r->pictures, r->n);
    mem_free(r->path);
    mem_free(r);
    *reader = NULL;
}

const VideoInfo *frame_reader_info(const FrameReader *r)
{
    return &r->info;
}

int frame_reader_next(FrameReader *r, FrameMark *out, Err *err)
{
    if (r->video) {
        int rc = video_next(r->video, &r->frame, err);
        if (rc == 1 && r->frame.index == 0)
            r->first_pts = r->frame.pts;
        if (rc == 1)
            *out = (FrameMark){r->frame.index, r->frame.time,
                               (double)r->frame.pts * (double)r->info.time_base.num / (double)r->info.time_base.den,
                               r->frame.damaged, r->frame.pts_assumed};
        return rc;
    }
    if (r->at == r->n)
        return 0;
    int64_t i = r->at++, after = r->pictures[i].number - r->pictures[0].number;
    *out = (FrameMark){i, {after * r->rate.den, r->rate.num}, 0, 0, 0};
    return 1;
}

int frame_reader_rgb(FrameReader *r, const FitPlan *plan, uint8_t *rgb, Err *err)
{
    if (r->video)
        return video_to_rgb(r->video, &r->frame, plan, rgb, err);
    VideoReader *picture = NULL;
    VideoFrame frame;
    int rc = open_picture(r, r->at - 1, &picture, &frame, err);
    if (rc == 0) {
        const VideoInfo *v = video_info(picture);
        if (v->display_width != r->info.display_width || v->display_height != r->info.display_height)
            rc = err_set(err, ERR_FORMAT, "picture %s is %" PRId64 "x%" PRId64 ", the first is %" PRId64 "x%" PRId64,
                         r->pictures[r->at - 1].name, v->display_width, v->display_height, r->info.display_width,
                         r->info.display_height);
        else
            rc = video_to_rgb(picture, &frame, plan, rgb, err);
    }
    video_close(&picture);
    return rc;
}

int frame_reader_hold(FrameReader *r, Err *err)
{
    return video_hold(r->video, &r->frame, &r->held, err);
}

int frame_reader_held_rgb(FrameReader *r, const FitPlan *plan, uint8_t *rgb, Err *err)
{
    return video_to_rgb(r->video, &r->held, plan, rgb, err);
}

int frame_reader_skim(FrameReader *r, Err *err)
{
    return r->video ? video_skim(r->video, err) : 0;
}

int frame_reader_thin(FrameReader *r, int64_t fps)
{
    return video_thin(r->video, fps);
}

Rational frame_reader_first_time(const FrameReader *r)
{
    const Rational tb = r->info.time_base;
    Rational at;
    if (!r->video || !rational_make((__int128)r->first_pts * tb.num, tb.den, &at))
        return (Rational){0, 1};
    return rational_sub(at, r->info.clock_start);
}

VideoCounts frame_reader_counts(const FrameReader *r)
{
    return r->video ? video_counts(r->video) : (VideoCounts){.packets = r->at, .frames = r->at};
}
