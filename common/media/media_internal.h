/* What the files of common/media share.  Nothing outside this folder includes it but its own tests. */
#ifndef WEFT_COMMON_MEDIA_MEDIA_INTERNAL_H
#define WEFT_COMMON_MEDIA_MEDIA_INTERNAL_H
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <time.h>
#include "common/media/video.h"

/* ---- errors of the libraries (av_error.c) ---------------------------------------------------- */
/* Keeps the libraries' log off stderr.  Each thread remembers the last error line for err_av; this
 * forgets it, so call it before whatever err_av will report. */
void av_quiet(void);
/* Whether, since then and in this thread, a demuxer logged that the file ends before its contents do. */
int av_log_early_end(void);
/* Whether this thread's last error line has these words. */
int av_log_said(const char *part);
/* err_set with ": " and the library's reason for its code `av`.  Returns `code`, or a more exact one when
 * the library's says it (memory, not found, input/output, time). */
int err_av(Err *err, int code, int av, const char *fmt, ...) WEFT_PRINTF(4, 5);

/* ---- colour (video_colour.c) ------------------------------------------------------------------ */
/* How samples become RGB. */
typedef struct ColourRule {
    int space;        /* the matrix as SWS_CS_*; 0: none is needed (RGB) */
    int full;         /* full range */
    int guessed;      /* matrix or range is not tagged */
    int unsupported;  /* the tagged matrix is not linear (ICtCp, YCgCo, constant luminance) */
    const char *name; /* of the matrix, for VideoInfo.matrix_used */
} ColourRule;
ColourRule colour_rule(enum AVPixelFormat fmt, enum AVCodecID codec, int64_t width, int64_t height,
                       enum AVColorSpace space, enum AVColorRange range);
/* The format without the deprecated "full range" in its name (yuvj420p: yuv420p); others unchanged. */
enum AVPixelFormat plain_format(enum AVPixelFormat fmt);
/* ---- facts (video_facts.c) ------------------------------------------------------------------- */
/* The rotation (clockwise degrees, 0 to 270) and mirroring of a 3x3 display matrix.  ERR_UNSUPPORTED for
 * angles between, ERR_FORMAT for a matrix that maps everything onto a line. */
WEFT_MUST_CHECK int display_matrix_read(const int32_t m[9], int *rotation, int *flip, Err *err);
/* Upright size of a stored picture: sample aspect, then rotation. */
void display_size(int64_t width, int64_t height, Rational sar, int rotation, int64_t *display_width,
                  int64_t *display_height);
/* A stream's side data and its size; NULL when there is none. */
const uint8_t *stream_side_data(const AVStream *st, enum AVPacketSideDataType type, int64_t *size);
/* Fills `info` from an opened stream and its first frame (NULL: not decoded). */
void facts_read(VideoInfo *info, AVFormatContext *fmt, AVStream *st, const AVCodecContext *dec, AVFrame *first);

/* 1: top field first, 2: bottom field first, 0: progressive.  Decoders that flag each frame decide for this
 * frame; for other codecs the container decides for all. */
int frame_field(const VideoReader *r, const AVFrame *f);
/* Whether rows alternate somewhere, as they do when the two fields show different moments. */
int frame_is_combed(const AVFrame *f);

/* ---- geometry (fit_plan.c) ------------------------------------------------------------------- */
int64_t round_ratio(int64_t a, int64_t b, int64_t c); /* round(a*b/c), halves up */
/* The plan for a source that is shown at w x h. */
FitPlan fit_plan_size(int64_t w, int64_t h, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y);

/* ---- scaling (video_convert.c) --------------------------------------------------------------- */
/* One swscale context, made anew when any field of the job changes. */
typedef struct ScaleJob {
    int src_width, src_height, src_format, dst_width, dst_height, dst_format;
    int space, src_full, dst_full; /* space 0: no matrix */
    int contrast;                  /* gain on the source, 65536 is 1; 0 means 65536 */
} ScaleJob;
typedef struct Scaler {
    struct SwsContext *sws;
    ScaleJob job;
    /* The output; rows are longer than the picture, because swscale may write past its last pixel.  With
     * job.dst_format GBRP a row is one of green, one of blue and one of red, each a third of rgb_stride. */
    uint8_t *rgb;
    int rgb_stride;
    int64_t rgb_bytes;
} Scaler;
WEFT_MUST_CHECK int scaler_prepare(Scaler *s, const ScaleJob *job, Err *err);
/* Makes s->rgb large enough for width x height pixels of 3 bytes, in rows of s->rgb_stride bytes. */
WEFT_MUST_CHECK int scaler_room(Scaler *s, int64_t width, int64_t height, Err *err);
void scaler_fini(Scaler *s);

/* ---- light (video_light.c) ------------------------------------------------------------------- */
typedef enum HdrKind { HDR_NONE, HDR_PQ, HDR_HLG, HDR_WIDE /* SDR curve, BT.2020 primaries */ } HdrKind;
HdrKind hdr_kind(enum AVColorTransferCharacteristic transfer, enum AVColorPrimaries primaries);
typedef enum Curve { CURVE_BT709, CURVE_SRGB, CURVE_GAMMA22, CURVE_GAMMA28, CURVE_SMPTE240M } Curve;
/* What must happen to RGB of this curve and these primaries so that it is BT.709's. */
typedef struct LightJob {
    int change; /* 0: nothing */
    HdrKind hdr;
    Curve from, to; /* without HDR */
    int turn;       /* primaries differ: light is multiplied by to_709 */
    double to_709[3][3];
} LightJob;
/* The primaries of a matrix from linear RGB to XYZ under D50 (an ICC profile's columns), or of the x, y of
 * red, green, blue and white: 1, or 0 when they are none that light_job knows. */
int primaries_of_xyz(double xyz[3][3], enum AVColorPrimaries *out);
int primaries_of_xy(double xy[4][2], enum AVColorPrimaries *out);
/* Light of an SDR signal. */
double curve_to_light(double v, enum AVColorTransferCharacteristic transfer);
LightJob light_job(enum AVColorTransferCharacteristic transfer, enum AVColorPrimaries primaries);
/* In place: rows of width 16-bit RGB triples become rows of 8-bit BT.709 ones, stride in bytes. */
void light_convert(const LightJob *job, uint8_t *rows, int64_t stride, int64_t width, int64_t height);

/* ---- embedded profiles (video_profile.c) ----------------------------------------------------- */
typedef enum ProfileKind { PROFILE_NONE, PROFILE_READ, PROFILE_OTHER /* none that light_job knows */ } ProfileKind;
/* The ICC profile of a frame or of its stream, or PNG's cHRM: with PROFILE_READ its primaries and curve. */
ProfileKind profile_read(const AVFrame *f, const AVStream *st, enum AVColorPrimaries *primaries,
                         enum AVColorTransferCharacteristic *transfer);

/* ---- transparency (video_alpha.c) ------------------------------------------------------------ */
/* The rows of a frame that are used: all, or of an interlaced frame those of the field shown first. */
typedef struct Rows {
    const uint8_t *data[4];
    int stride[4], height;
} Rows;
int format_has_alpha(enum AVPixelFormat fmt);
/* 1: some pixel is not opaque, 0: all are, negative: an error. */
WEFT_MUST_CHECK int alpha_find(const AVFrame *f, Err *err);
/* Blends the background into rgb where alpha is not opaque.  rgb holds the colours of `rows` (8-bit RGB, or
 * 16-bit when deep), `stride` bytes a row. */
WEFT_MUST_CHECK int alpha_cover(enum AVPixelFormat format, const Rows *rows, int width, const uint8_t background[3],
                                int deep, uint8_t *rgb, int64_t stride, Err *err);

/* ---- the reader ------------------------------------------------------------------------------ */
enum { MEDIA_SENT_MAX = 64 }; /* more than any decoder's delay with one thread */
/* The bytes of a container: an open file, or a block of memory. */
typedef struct ByteSource {
    const uint8_t *data; /* NULL: a file */
    int64_t size, at;
    int fd;
    int error; /* errno of the first read that failed; never cleared, because no later byte can be trusted */
    int64_t error_at;
} ByteSource;
typedef struct ByteRange {
    int64_t from, to;
} ByteRange;
typedef struct ByteRanges {
    ByteRange *range;
    int64_t n;
} ByteRanges;
struct VideoReader {
    AVFormatContext *fmt;
    AVCodecContext *dec;
    AVStream *stream; /* borrowed from fmt */
    AVIOContext *io;
    ByteSource source;
    AVPacket *packet;
    AVFrame *frame, *held, *part; /* held: see video_hold; part: the plan's part of the frame */
    char *path;
    VideoLimits limits;
    VideoInfo info;
    VideoCounts counts;
    /* time spent inside our calls, against limits.max_seconds */
    struct timespec entered;
    double spent_s;
    /* decoding */
    /* a result of decoding that video_next has yet to tell: of the first frame, which video_open decodes to
     * know the facts, and of a frame behind one that was passed over */
    int waiting, waiting_rc;
    Err waiting_err;
    int draining, read_rc;
    int drain_errors;
    int64_t decoded;
    int before_key; /* no key frame has come yet, and the frames that came need one */
    int damaged;    /* until a clean key frame later than damaged_pts */
    int64_t damaged_pts;
    int frame_damaged;
    int width, height; /* of the frame before; 0 none */
    /* packets whose frames are still to come, for video_skim */
    int64_t sent[MEDIA_SENT_MAX];
    int n_sent, unmatched; /* unmatched: packets and frames do not match one to one by their timestamps */
    /* video_thin: points lie at thin_from + k / thin_fps seconds (0: every frame is decoded), frames thin_period /
     * thin_fps apart; the decoder's delay; times that video_next has yet to tell of packets passed over */
    double thin_fps, thin_period;
    int64_t thin_from, passed[MEDIA_SENT_MAX];
    int thin_delay, n_passed;
    /* the first frame that was handed on; leading: the packets up to the next key frame may come before it */
    int given, leading;
    int64_t given_pts;
    /* [n_ahead] timestamps of the frames that video_skim found, increasing; NULL: frames are
     * decoded */
    int64_t *ahead;
    int64_t n_ahead, cap_ahead, at_ahead;
    /* times */
    int have_first;
    int64_t index, first_pts, last_pts, anchor_pts, since_anchor;
    Rational assumed_rate;
    Scaler scaler, cover; /* cover: a transparent picture at its own size, laid over the background */
    ByteRanges bad;       /* bytes of the file whose checksum is wrong */
};
/* video_reader.c: the time spent inside our calls. */
void reader_clock_enter(VideoReader *r);
void reader_clock_leave(VideoReader *r);
int reader_over_time(void *reader);
/* video_source.c: opens the container, from r->source.data or else the file r->path. */
WEFT_MUST_CHECK int source_open(VideoReader *r, Err *err);
void source_close(VideoReader *r);
/* ERR_IO when a read from the file has failed, else 0.  The library's demuxers often treat a failed read
 * as the end of the file, so we call this after each of their calls. */
WEFT_MUST_CHECK int source_check(const VideoReader *r, Err *err);
/* video_decode.c.  As av_read_frame: packets within bytes of a wrong checksum are marked corrupt. */
int reader_packet(VideoReader *r);
/* The next decoded frame into r->frame: 1, 0 at the end, negative. */
WEFT_MUST_CHECK int reader_decode(VideoReader *r, Err *err);
/* video_skim.c: remember a packet whose frame has not come out yet, 1 when it is to be passed over instead;
 * match a frame with its packet. */
int skim_sent(VideoReader *r);
void skim_received(VideoReader *r);
void skim_given(VideoReader *r);
/* The first packet passed over whose frame comes before `before`: 1 and its time, 0 none. */
int skim_passed(VideoReader *r, int64_t before, int64_t *pts);
/* ERR_UNSUPPORTED when video_thin is on and what came since the frame of time `before` speaks against it. */
WEFT_MUST_CHECK int skim_check(const VideoReader *r, int64_t before, Err *err);
/* ---- checksums of Matroska and WebM (ebml_crc.c) --------------------------------------------- */
/* Reads the file's checksums and fills r->bad with the ranges whose checksum is wrong; then goes back to
 * where the demuxer was.  Does nothing for other containers and for files without checksums. */
WEFT_MUST_CHECK int ebml_check(VideoReader *r, Err *err);
/* Whether the byte at pos lies in a range whose checksum is wrong. */
int ebml_bad(const VideoReader *r, int64_t pos);
/* As video_open over bytes in memory, which must outlive the reader. */
WEFT_MUST_CHECK int video_open_memory(VideoReader **out, const uint8_t *data, int64_t size, const VideoLimits *limits,
                                      Err *err);
#endif
