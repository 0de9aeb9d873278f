/* Reads and writes video; nothing else in Weft calls libav* or libswscale.  Compiles against FFmpeg
 * 5.1 to 8.
 *
 *   VideoReader *r; VideoFrame f;
 *   video_open(&r, path, &limits, err);  while ((rc = video_next(r, &f, err)) == 1) use(f);
 *   video_close(&r);
 *
 * Only regular files are opened, and only containers that name no other file (a playlist is
 * refused).  Nothing is printed.  A picture (PNG, JPEG) opens as a video of one frame.  A read that the
 * operating system refuses is ERR_IO, never the end of the file.  Only one thread at a time may use a
 * reader or a writer. */
#ifndef WEFT_COMMON_MEDIA_VIDEO_H
#define WEFT_COMMON_MEDIA_VIDEO_H
#include <stdint.h>
#include "common/base/err.h"
#include "common/media/rational.h"

typedef struct VideoLimits { /* 0 means the default, which stands in brackets */
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

/* Facts about a source, for the manifest.  Strings are the libraries' names, "" when unknown. */
typedef struct VideoInfo {
    char container[64], codec[64], pixel_format[32];
    int64_t width, height;                 /* stored */
    int64_t display_width, display_height; /* after sample aspect ratio and rotation */
    Rational sar, avg_rate, r_rate, time_base;
    Rational sar_refused; /* the file's sample aspect ratio when it lies outside 1/4 to 4 and sar is 1; else 0/0 */
    int64_t frames_hint;  /* how many frames the container says it has, 0 unknown */
    double duration_s;    /* how long the container says it is, 0 unknown */
    /* where the file's clock stands at 0, as a player counts: the earliest start of its video and sound
     * tracks, in seconds of the container's timestamps */
    Rational clock_start;
    int rotation;       /* clockwise degrees to display: 0, 90, 180, 270 */
    int flip;           /* mirror left-right after rotation */
    int matrix_refused; /* the display matrix is not a turn by quarters: the picture is not turned */
    int interlaced;     /* as the stream or its first frame says: 0 no, 1 top first, 2 bottom first */
    VideoHdr hdr;
    int dolby_profile;   /* Dolby Vision's; 0 none */
    int hdr_suspected;   /* BT.2020 matrix without a tagged transfer: the tags of an HDR source may be lost */
    int converted;       /* primaries or curve differ from BT.709's: video_to_rgb converts them */
    int profile_ignored; /* the first frame's ICC profile or cHRM is none that video_to_rgb converts */
    int alpha;           /* 1 the frames have an alpha channel, 2 the file has one that this FFmpeg cannot decode */
    int duration_shared; /* duration_s is that of the longest track, not necessarily of this one */
    char matrix[32], range[16], transfer[32], primaries[32]; /* as tagged; "" when not */
    char matrix_used[32], range_used[16];                    /* what video_to_rgb uses */
    int guessed; /* matrix_used or range_used is not tagged but assumed from size and codec */
    int vfr;     /* r_rate and avg_rate differ */
} VideoInfo;

typedef struct VideoReader VideoReader;
/* Also decodes the first frame, because some facts stand only in it.  *out is NULL on failure. */
WEFT_MUST_CHECK int video_open(VideoReader **out, const char *path, const VideoLimits *limits, Err *err);
void video_close(VideoReader **r);
const VideoInfo *video_info(const VideoReader *r);

/* One decoded frame; it belongs to the reader and lasts until the next video_next or video_close. */
typedef struct VideoFrame {
    int64_t index;   /* in output order, from 0 */
    int64_t pts;     /* in info.time_base */
    Rational time;   /* seconds since the first frame, exact */
    int pts_assumed; /* the file has no timestamp for it: counted on at the declared rate */
    /* The decoder reported an error, its packet was corrupt or refused, its FFV1 checksum is wrong, or
     * it comes after such a frame and before the next clean key frame. */
    int damaged;
    void *av; /* the library's AVFrame, for video_to_rgb; NULL: not decoded (video_skim, video_thin) */
} VideoFrame;
/* 1: a frame, 0: the end, negative: an error.  A packet that the decoder refuses is counted and is no
 * error.  A file that was cut short may end without an error: compare the counts with frames_hint and
 * duration_s. */
WEFT_MUST_CHECK int video_next(VideoReader *r, VideoFrame *out, Err *err);
/* Keeps the last frame of video_next valid until the next video_hold; *held describes it for
 * video_to_rgb.  The frame held before is released.  One that was not decoded is held as such. */
WEFT_MUST_CHECK int video_hold(VideoReader *r, const VideoFrame *f, VideoFrame *held, Err *err);
/* From here on frames are not decoded: video_next still reports each frame's time, from packet
 * timestamps (av NULL, damaged 0).  Of an undamaged stream these are the times that decoding gives;
 * damage that only a decoder notices is missed.  Returns
 *   1  from now on it is so;
 *   0  the times might differ from those of decoding, and nothing has changed.  (Only H.264 and HEVC in
 *      MP4 and Matroska are skimmed, and only when each frame so far matched one packet and none was
 *      damaged.);
 *   ERR_UNSUPPORTED  a later packet breaks that rule; only video_close may follow.  Any other negative
 *      code: the file cannot be read on. */
WEFT_MUST_CHECK int video_skim(VideoReader *r, Err *err);

/* Counts points of 1 / fps seconds from the frame given last.  From here on a frame may be passed over, reported
 * as after video_skim, when it is not the nearest to a point and no other frame refers to it; those that are
 * decoded are the same as without, but damage of the others is missed.  1: it is so; 0: nothing has changed, for
 * it is not sure (only H.264 in MP4 and Matroska, progressive and at an even rate) or pays nothing.  When
 * something odd comes later, video_next returns ERR_UNSUPPORTED, and only video_close may follow. */
int video_thin(VideoReader *r, int64_t fps);

/* Counts so far; complete after the last frame. */
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

/* How a source frame becomes an output frame (docs/video.md 3). */
typedef enum FitMode {
    FIT_COVER,  /* scale until the output is filled, cut off what is outside */
    FIT_PAD,    /* scale until all of the source is inside; the edge pixels fill the rest */
    FIT_STRETCH /* change the shape */
} FitMode;
typedef enum Deinterlace {
    DEINTERLACE_AUTO,  /* use one field of each frame that is flagged interlaced, all rows of the others */
    DEINTERLACE_NEVER, /* use all rows */
    DEINTERLACE_ALWAYS /* use one field of every frame */
} Deinterlace;
typedef struct FitPlan {
    FitMode mode;
    int64_t width, height;               /* output */
    int64_t scaled_width, scaled_height; /* upright, before crop or pad */
    int64_t crop_x, crop_y;              /* where the output begins in the scaled picture (negative: bars) */
    double lost;                         /* share of the cropped axis that is cut away */
    double bias_x, bias_y;               /* 0 keeps the left or top edge, 0.5 the centre, 1 the right or bottom edge */
    /* The caller may set what follows; fit_plan makes it 0, and the background white. */
    int64_t part[4]; /* x, y, width, height of the piece of the upright source that is used; width 0: all */
    Deinterlace deinterlace;
    int tone_map;          /* convert HDR instead of refusing it */
    uint8_t background[3]; /* red, green, blue that transparent pixels are laid over */
} FitPlan;
FitPlan fit_plan(const VideoInfo *info, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y);
/* As fit_plan for a piece of the upright source (FitPlan.part). */
FitPlan fit_plan_part(const VideoInfo *info, const int64_t part[4], int64_t width, int64_t height, FitMode mode,
                      double bias_x, double bias_y);

/* Converts a frame to rgb [height,width,3]: full-range BT.709 RGB, scaled with swscale's bicubic filter,
 * turned upright and cropped as the plan says.  A frame of another size than the first is planned anew.
 * Other primaries and curves, of tags or of an embedded profile, are converted by way of light;
 * transparent pixels are laid over the plan's background.  HDR (PQ, HLG, BT.2020 primaries) is
 * ERR_UNSUPPORTED unless the plan tone-maps: then light over 203 cd/m2 is bent down towards white.
 * video_info tells beforehand. */
WEFT_MUST_CHECK int video_to_rgb(VideoReader *r, const VideoFrame *f, const FitPlan *plan, uint8_t *rgb, Err *err);

/* All frames of a clip that Weft wrote, or of any video of this size, as RGB [n,height,width,3] without
 * scaling; a damaged frame is an error.  expect_* 0: anything will do.  The caller frees *rgb with
 * mem_free. */
WEFT_MUST_CHECK int video_read_rgb(const char *path, int64_t expect_frames, int64_t expect_width, int64_t expect_height,
                                   uint8_t **rgb, int64_t *n, int64_t *width, int64_t *height, Err *err);

/* Writing.  The file appears under its name, whole, when video_finish succeeds; video_finish frees the
 * writer whether it succeeds or not.  The same frames give the same bytes.  FFV1 needs 16 pixels or more
 * a side, H.264 even sides. */
typedef enum VideoCodec {
    VIDEO_FFV1 /* lossless RGB in Matroska, slice CRCs */,
    VIDEO_H264, /* yuv420p, bt709 tagged, MP4 */
    VIDEO_GIF,  /* 256 fixed colours, dithered; shown again and again */
    VIDEO_WEBP  /* animated, lossy, yuv420p; shown again and again */
} VideoCodec;
/* Whether this FFmpeg can write it: ERR_UNSUPPORTED, naming the encoder that is missing. */
WEFT_MUST_CHECK int video_codec_check(VideoCodec codec, Err *err);
typedef struct VideoWriterParams {
    VideoCodec codec;
    int64_t width, height;
    Rational rate;
    int64_t crf;                 /* H.264: x264's quality, 1 (best) to 51; 0 means 17 */
    int fast;                    /* H.264: encode faster into larger files */
    const char *const *metadata; /* NULL-terminated key, value, key, value... */
} VideoWriterParams;
typedef struct VideoWriter VideoWriter;
WEFT_MUST_CHECK int video_create(VideoWriter **out, const char *path, const VideoWriterParams *p, Err *err);
WEFT_MUST_CHECK int video_write(VideoWriter *w, const uint8_t *rgb /* [h,w,3] */, Err *err);
WEFT_MUST_CHECK int video_finish(VideoWriter **w, Err *err);
void video_abort(VideoWriter **w);
/* The value of a metadata key of the container, which the caller frees with mem_free; NULL when the key is
 * absent or the file cannot be opened (err then has a message). */
char *video_metadata(const char *path, const char *key, Err *err);

/* Writes an 8-bit RGB PNG, atomically. */
WEFT_MUST_CHECK int picture_write_png(const char *path, const uint8_t *rgb, int64_t width, int64_t height, Err *err);
/* Reads a picture (PNG, JPEG) as RGB, upright, without scaling.  The caller frees *rgb with mem_free. */
WEFT_MUST_CHECK int picture_read(const char *path, uint8_t **rgb, int64_t *width, int64_t *height, Err *err);
#endif
