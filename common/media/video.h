/* Video in and out: the only user of libav* and libswscale.  Compiles against FFmpeg 5.1 to 8.
 *
 *   VideoReader *r; VideoFrame f;
 *   video_open(&r, path, &limits, err);  while ((rc = video_next(r, &f, err)) == 1) use(f);
 *   video_close(&r);
 *
 * Sources are only read; only regular files open, only containers that follow no references (a
 * playlist is refused), and nothing is printed.  A picture (PNG, JPEG) opens as a video of one
 * frame.  A reader or writer belongs to one thread at a time. */
#ifndef WEFT_COMMON_MEDIA_VIDEO_H
#define WEFT_COMMON_MEDIA_VIDEO_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/media/rational.h"

typedef struct VideoLimits { /* zero: the default in brackets */
    int64_t max_pixels;      /* a frame [4096*4096] */
    int64_t max_frames;      /* decoded [100000] */
    double max_seconds;      /* wall clock [120] */
    int threads;             /* decoder threads [1] */
} VideoLimits;

/* Why a source's colours reach beyond what BT.709 can show. */
typedef enum VideoHdr {
    VIDEO_SDR,
    VIDEO_HDR_PQ,
    VIDEO_HDR_HLG,
    VIDEO_HDR_WIDE,     /* BT.2020 primaries */
    VIDEO_HDR_METADATA, /* facts about the mastering display or light levels, but no PQ or HLG tag */
    VIDEO_HDR_DOLBY     /* Dolby Vision that only its own players can show; it is never converted */
} VideoHdr;

/* Facts of a source, for the manifest.  Strings are constants of the libraries or "" when unknown. */
typedef struct VideoInfo {
    char container[64], codec[64], pixel_format[32];
    int64_t width, height;                 /* stored */
    int64_t display_width, display_height; /* after sample aspect ratio and rotation */
    Rational sar, avg_rate, r_rate, time_base;
    Rational sar_refused; /* a sample aspect ratio outside 1/4 to 4, in place of which sar is 1; 0/0 none */
    int64_t frames_hint;  /* container's count, 0 unknown */
    double duration_s;    /* container's, 0 unknown */
    /* where the file's clock stands at 0, as a player counts: the earliest start of its video and sound
     * tracks, in seconds of the container's timestamps */
    Rational clock_start;
    int rotation;         /* clockwise degrees to display: 0, 90, 180, 270 */
    int flip;             /* mirror left-right after rotation */
    int matrix_refused;   /* the display matrix is not a turn by quarters: the picture is not turned */
    int interlaced;       /* as the stream or its first frame says: 0 no, 1 top first, 2 bottom first */
    VideoHdr hdr;
    int dolby_profile;   /* Dolby Vision's; 0 none */
    int hdr_suspected;   /* BT.2020 matrix without a tagged transfer: the tags of an HDR source may be lost */
    int converted;       /* primaries or curve differ from BT.709's: video_to_rgb converts them */
    int alpha;           /* 1 the frames have an alpha channel, 2 the file has one that this FFmpeg cannot decode */
    int duration_shared; /* duration_s is that of the longest track, not necessarily of this one */
    char matrix[32], range[16], transfer[32], primaries[32]; /* as tagged; "" when not */
    char matrix_used[32], range_used[16];
    int guessed; /* what conversion will use and whether it was guessed */
    int vfr;     /* r_rate and avg_rate differ */
} VideoInfo;

typedef struct VideoReader VideoReader;
/* Decodes the first frame too: the facts are those of the stream and of that frame. */
int video_open(VideoReader **out, const char *path, const VideoLimits *limits, Err *err);
void video_close(VideoReader **r);
const VideoInfo *video_info(const VideoReader *r);

/* One decoded frame, borrowed until the next video_next or video_close. */
typedef struct VideoFrame {
    int64_t index;   /* in output order, from 0 */
    int64_t pts;     /* in info.time_base */
    Rational time;   /* seconds since the first frame, exact */
    int pts_assumed; /* no timestamp in the file: declared rate used */
    /* decode error flags, corrupt or refused packet, failed FFV1 CRC, or later up to a clean key
     * frame */
    int damaged;
    void *av; /* the library's frame, for video_to_rgb; NULL after video_skim */
} VideoFrame;
/* 1 a frame, 0 clean end, negative error.  A packet that the decoder refuses is counted, not an
 * error.  A truncated file may end
 * cleanly: compare the counts with frames_hint. */
int video_next(VideoReader *r, VideoFrame *out, Err *err);
/* Keeps the frame that video_next gave last through the next video_next, in place of the one kept
 * before; *held is what video_to_rgb takes for it. */
int video_hold(VideoReader *r, const VideoFrame *f, VideoFrame *held, Err *err);
/* From here on frames are told, not decoded: video_next gives their times from the packets'
 * timestamps (av NULL, damaged 0), the same as decoding would of a sound stream; damage that only a
 * decoder can see stays unseen.  1 done; 0 it cannot be known that this is exact (only H.264 and
 * HEVC in MP4 and Matroska, whose packets and frames have matched one to one so far, undamaged),
 * and nothing has happened; ERR_UNSUPPORTED: packets further on do not fit, and the reader is only
 * good for video_close. */
int video_skim(VideoReader *r, Err *err);
/* Counts after the last frame. */
typedef struct VideoCounts {
    int64_t packets, frames, refused_packets, damaged_frames, dropped_unordered;
    int64_t size_changes;   /* decoded frames of another size than the one before */
    int64_t before_key;     /* frames before the first key frame, left out: their references are missing */
    int64_t decoded_frames; /* of `frames`; the three below are of these */
    int64_t interlaced_frames, combed_frames; /* flagged interlaced; of these, whose fields differ in time */
    int64_t transparent_frames;
    double end_s;    /* where the last packet of any track ends on the container's clock; only with duration_shared */
    int ended_early; /* the container says that it is longer than the file */
} VideoCounts;
VideoCounts video_counts(const VideoReader *r);

/* Geometry from a source frame to the output (dataset.md 7). */
typedef enum FitMode { FIT_COVER, FIT_PAD /* bars repeat the edge */, FIT_STRETCH } FitMode;
typedef enum Deinterlace {
    DEINTERLACE_AUTO /* what is flagged interlaced */,
    DEINTERLACE_NEVER,
    DEINTERLACE_ALWAYS
} Deinterlace;
typedef struct FitPlan {
    FitMode mode;
    int64_t width, height;               /* output */
    int64_t scaled_width, scaled_height; /* upright, before crop or pad */
    int64_t crop_x, crop_y;              /* offset of the output in the scaled picture (negative: bars) */
    double lost;                         /* share of the cropped axis that is cut away */
    double bias_x, bias_y;               /* as asked for: 0 keeps left or top, 0.5 the centre, 1 right or bottom */
    /* What follows is zero unless said; the caller sets it. */
    int64_t part[4]; /* x, y, width, height of the upright source that is fitted; width 0: all */
    Deinterlace deinterlace;
    int tone_map;          /* HDR is converted instead of refused */
    uint8_t background[3]; /* red, green, blue under transparent pixels; the fit_plan functions say white */
} FitPlan;
/* The same with a part of the upright source. */
FitPlan fit_plan_part(const VideoInfo *info, const int64_t part[4], int64_t width, int64_t height, FitMode mode,
                      double bias_x, double bias_y);
FitPlan fit_plan(const VideoInfo *info, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y);

/* HDR (PQ, HLG) and BT.2020 primaries: ERR_UNSUPPORTED (video_info tells beforehand), unless the
 * plan tone-maps: then light over 203 cd/m2 is bent down towards white, BT.2020 primaries become
 * BT.709's.
 * rgb [height,width,3] <- frame: right matrix and range, full-range BT.709 RGB, accurate bicubic
 * swscale, rotation, flip, crop.
 * A change of size mid-stream re-plans the scaler. */
int video_to_rgb(VideoReader *r, const VideoFrame *f, const FitPlan *plan, uint8_t *rgb, Err *err);

/* All frames of a clip Weft wrote (or any video whose size is width x height) as RGB, no scaling:
 * [n,height,width,3].
 * expect_* 0: any.  *rgb mem_free. */
int video_read_rgb(const char *path, int64_t expect_frames, int64_t expect_width, int64_t expect_height, uint8_t **rgb,
                   int64_t *n, int64_t *width, int64_t *height, Err *err);

/* Writing.  Atomic: the file appears under its name on video_finish, which frees the writer in
 * every case.  The same frames give the same bytes.  FFV1 wants 16 pixels or more a side, H.264
 * even sides. */
typedef enum VideoCodec {
    VIDEO_FFV1 /* lossless RGB in Matroska, slice CRCs */,
    VIDEO_H264 /* yuv420p, bt709 tagged, MP4 */
} VideoCodec;
typedef struct VideoWriterParams {
    VideoCodec codec;
    int64_t width, height;
    Rational rate;
    int64_t crf;                 /* H.264 quality, default 17 when 0 */
    int fast;                    /* H.264: quicker to make, larger files */
    const char *const *metadata; /* NULL-terminated key, value, key, value... */
} VideoWriterParams;
typedef struct VideoWriter VideoWriter;
int video_create(VideoWriter **out, const char *path, const VideoWriterParams *p, Err *err);
int video_write(VideoWriter *w, const uint8_t *rgb /* [h,w,3] */, Err *err);
int video_finish(VideoWriter **w, Err *err);
void video_abort(VideoWriter **w);
/* Value of a container metadata key; mem_free; NULL when absent. */
char *video_metadata(const char *path, const char *key, Err *err);

/* Pictures: 8-bit RGB PNG. */
int picture_write_png(const char *path, const uint8_t *rgb, int64_t width, int64_t height, Err *err);
int picture_read(const char *path, uint8_t **rgb, int64_t *width, int64_t *height, Err *err);
#endif
