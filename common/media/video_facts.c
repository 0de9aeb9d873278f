/* Facts of a source: geometry, rates, length, fields, colour tags. */
#include <libavutil/dovi_meta.h>
#include <libavutil/mastering_display_metadata.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/media/media_internal.h"

int display_matrix_read(const int32_t m[9], int *rotation, int *flip, Err *err)
{
    /* (p', q') = (a p + c q, b p + d q), q downwards.  A mirror (negative determinant) is undone
     * first: it is applied last. */
    double a = m[0], b = m[1], c = m[3], d = m[4];
    double det = a * d - b * c;
    if (det == 0)
        return err_set(err, ERR_FORMAT, "its display matrix is singular");
    *flip = det < 0;
    if (*flip)
        a = -a;
    double degrees = atan2(b, a) * 180 / M_PI;
    double quarter = nearbyint(degrees / 90);
    if (fabs(degrees - 90 * quarter) > 1)
        return err_set(err, ERR_UNSUPPORTED, "its display matrix turns by %.1f degrees, expected a multiple of 90",
                       degrees);
    *rotation = (((int)quarter % 4 + 4) % 4) * 90;
    return 0;
}

void display_size(int64_t width, int64_t height, Rational sar, int rotation, int64_t *display_width,
                  int64_t *display_height)
{
    int64_t w = (2 * width * sar.num + sar.den) / (2 * sar.den); /* width <= 2^31, sar <= 2^31 / 1 within [1/4, 4] */
    if (w < 1)
        w = 1;
    *display_width = rotation % 180 ? height : w;
    *display_height = rotation % 180 ? w : height;
}

/* Side data that the container has for the whole stream; NULL when it has none of `size` bytes. */
const uint8_t *stream_side_data(const AVStream *st, enum AVPacketSideDataType type, int64_t *size)
{
    size_t have = 0;
    const uint8_t *data = NULL;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102) /* FFmpeg 6.1 */
    const AVPacketSideData *sd = av_packet_side_data_get(st->codecpar->coded_side_data,
                                                         st->codecpar->nb_coded_side_data, type);
    if (sd)
        data = sd->data, have = sd->size;
#else
    data = av_stream_get_side_data(st, type, &have);
#endif
    *size = (int64_t)have;
    return data;
}

static const void *stream_data(const AVStream *st, enum AVPacketSideDataType type, size_t size)
{
    int64_t have;
    const uint8_t *data = stream_side_data(st, type, &have);
    return data && have >= (int64_t)size ? data : NULL;
}

static const void *frame_data(const AVFrame *first, enum AVFrameSideDataType type, size_t size)
{
    const AVFrameSideData *sd = first ? av_frame_get_side_data(first, type) : NULL;
    return sd && sd->size >= size ? sd->data : NULL;
}

/* ---- orientation ----------------------------------------------------------------------------- */
/* From the container, else from the picture (Exif).  A matrix that is no turn by quarters is ignored, as
 * players do. */
static void orientation_facts(VideoInfo *info, const AVStream *st, const AVFrame *first)
{
    const int32_t *matrix = stream_data(st, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof *matrix);
    if (!matrix)
        matrix = frame_data(first, AV_FRAME_DATA_DISPLAYMATRIX, 9 * sizeof *matrix);
    if (matrix && display_matrix_read(matrix, &info->rotation, &info->flip, NULL) < 0) {
        info->matrix_refused = 1;
        info->rotation = info->flip = 0;
    }
}

/* ---- interlacing ----------------------------------------------------------------------------- */
static int field_flag(const AVFrame *f)
{
#ifdef AV_FRAME_FLAG_INTERLACED /* FFmpeg 6.1 */
    return f->flags & AV_FRAME_FLAG_INTERLACED ? (f->flags & AV_FRAME_FLAG_TOP_FIELD_FIRST ? 1 : 2) : 0;
#else
    return f->interlaced_frame ? (f->top_field_first ? 1 : 2) : 0;
#endif
}

/* Whether the codec's frames say themselves whether they are interlaced; of others only the container
 * does. */
static int flags_each_frame(enum AVCodecID codec)
{
    switch (codec) {
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO:
    case AV_CODEC_ID_MPEG4:
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC:
    case AV_CODEC_ID_VC1:
    case AV_CODEC_ID_WMV3:
    case AV_CODEC_ID_DVVIDEO:
    case AV_CODEC_ID_PRORES:
    case AV_CODEC_ID_DNXHD: return 1;
    default: return 0;
    }
}

int frame_field(const VideoReader *r, const AVFrame *f)
{
    return flags_each_frame(r->stream->codecpar->codec_id) ? field_flag(f) : r->info.interlaced;
}

/* A pixel stands out from both its neighbours above and below, which are alike.  Where fields of two
 * moments meet at a moving edge this is so for a quarter of a block and more; of progressive videos no
 * block of those looked at (people walking, animation, a hiker in grass) had more than an eighth. */
int frame_is_combed(const AVFrame *f)
{
    enum { STAND_OUT = 10, ALIKE = 8, BLOCK = 16, ENOUGH = BLOCK * BLOCK / 6 };
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    if (!d || d->comp[0].depth > 8 || d->comp[0].step != 1 ||
        d->flags & (AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM))
        return 1; /* not measured in other formats: treat it as interlaced */
    for (int top = 1; top + BLOCK < f->height; top += BLOCK)
        for (int left = 0; left + BLOCK <= f->width; left += BLOCK) {
            int combed = 0;
            for (int y = top; y < top + BLOCK; y++) {
                const uint8_t *row = f->data[0] + (ptrdiff_t)y * f->linesize[0];
                const uint8_t *above = row - f->linesize[0], *below = row + f->linesize[0];
                for (int x = left; x < left + BLOCK; x++) {
                    int up = row[x] - above[x], down = row[x] - below[x], sides = above[x] - below[x];
                    combed += ((up > STAND_OUT && down > STAND_OUT) || (up < -STAND_OUT && down < -STAND_OUT)) &&
                              sides <= ALIKE && sides >= -ALIKE;
                }
            }
            if (combed >= ENOUGH)
                return 1;
        }
    return 0;
}

static int interlace_order(const AVStream *st, const AVFrame *first)
{
    switch (st->codecpar->field_order) {
    case AV_FIELD_TT:
    case AV_FIELD_BT: return 1;
    case AV_FIELD_BB:
    case AV_FIELD_TB: return 2;
    default: break;
    }
    return first ? field_flag(first) : 0;
}

/* ---- colour ---------------------------------------------------------------------------------- */
static void put_name(char *out, size_t size, const char *name, int known)
{
    snprintf(out, size, "%s", known && name ? name : "");
}

/* Whether metadata speak of more light than an SDR picture has (cd/m2).  Its mere presence means
 * nothing: a PNG's chromaticities arrive as a mastering display without luminance. */
static int says_bright(const AVStream *st, const AVFrame *first)
{
    enum { SDR_MOST = 203 };
    const AVMasteringDisplayMetadata *display = stream_data(st, AV_PKT_DATA_MASTERING_DISPLAY_METADATA,
                                                            sizeof *display);
    const AVContentLightMetadata *level = stream_data(st, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, sizeof *level);
    if (!display)
        display = frame_data(first, AV_FRAME_DATA_MASTERING_DISPLAY_METADATA, sizeof *display);
    if (!level)
        level = frame_data(first, AV_FRAME_DATA_CONTENT_LIGHT_LEVEL, sizeof *level);
    return (display && display->has_luminance && av_q2d(display->max_luminance) > SDR_MOST) ||
           (level && (level->MaxCLL > SDR_MOST || level->MaxFALL > SDR_MOST));
}

/* Whether the source is HDR, which is not only said by its tags. */
static void hdr_facts(VideoInfo *info, const AVStream *st, const AVFrame *first, enum AVColorSpace space,
                      enum AVColorTransferCharacteristic trc, enum AVColorPrimaries primaries)
{
    const AVDOVIDecoderConfigurationRecord *dolby = stream_data(st, AV_PKT_DATA_DOVI_CONF, sizeof *dolby);
    HdrKind kind = hdr_kind(trc, primaries);
    LightJob light = light_job(trc, primaries);
    info->dolby_profile = dolby ? dolby->dv_profile : 0;
    if (dolby && dolby->bl_present_flag && dolby->dv_bl_signal_compatibility_id == 0)
        info->hdr = VIDEO_HDR_DOLBY;
    else if (kind == HDR_PQ)
        info->hdr = VIDEO_HDR_PQ;
    else if (kind == HDR_HLG)
        info->hdr = VIDEO_HDR_HLG;
    else if (kind == HDR_WIDE)
        info->hdr = VIDEO_HDR_WIDE;
    else if (says_bright(st, first) || (!dolby && (frame_data(first, AV_FRAME_DATA_DOVI_METADATA, 1) ||
                                                   frame_data(first, AV_FRAME_DATA_DOVI_RPU_BUFFER, 1))))
        info->hdr = VIDEO_HDR_METADATA;
    info->hdr_suspected = info->hdr == VIDEO_SDR && trc == AVCOL_TRC_UNSPECIFIED && space == AVCOL_SPC_BT2020_NCL;
    info->converted = light.change && kind == HDR_NONE;
}

/* The tags the libraries found, and what conversion will use. */
static void colour_facts(VideoInfo *info, const AVCodecContext *dec, const AVStream *st, const AVFrame *first)
{
    const AVCodecParameters *par = st->codecpar;
    enum AVPixelFormat fmt = first                             ? (enum AVPixelFormat)first->format
                             : dec->pix_fmt != AV_PIX_FMT_NONE ? dec->pix_fmt
                                                               : (enum AVPixelFormat)par->format;
    enum AVColorSpace space = par->color_space;
    enum AVColorRange range = par->color_range;
    enum AVColorTransferCharacteristic trc = par->color_trc;
    enum AVColorPrimaries primaries = par->color_primaries;
    if (first) {
        if (first->colorspace != AVCOL_SPC_UNSPECIFIED)
            space = first->colorspace;
        if (first->color_range != AVCOL_RANGE_UNSPECIFIED)
            range = first->color_range;
        if (first->color_trc != AVCOL_TRC_UNSPECIFIED)
            trc = first->color_trc;
        if (first->color_primaries != AVCOL_PRI_UNSPECIFIED)
            primaries = first->color_primaries;
        enum AVColorPrimaries profile_primaries;
        enum AVColorTransferCharacteristic profile_trc;
        info->profile_ignored = profile_read(first, st, &profile_primaries, &profile_trc) == PROFILE_OTHER;
    }
    put_name(info->pixel_format, sizeof info->pixel_format, av_get_pix_fmt_name(fmt), 1);
    put_name(info->matrix, sizeof info->matrix, av_color_space_name(space), space != AVCOL_SPC_UNSPECIFIED);
    put_name(info->range, sizeof info->range, av_color_range_name(range), range != AVCOL_RANGE_UNSPECIFIED);
    put_name(info->transfer, sizeof info->transfer, av_color_transfer_name(trc), trc != AVCOL_TRC_UNSPECIFIED);
    put_name(info->primaries, sizeof info->primaries, av_color_primaries_name(primaries),
             primaries != AVCOL_PRI_UNSPECIFIED);
    ColourRule rule = colour_rule(fmt, par->codec_id, info->width, info->height, space, range);
    put_name(info->matrix_used, sizeof info->matrix_used, rule.name, 1);
    put_name(info->range_used, sizeof info->range_used, rule.full ? "full" : "limited", 1);
    info->guessed = rule.guessed;
    const AVDictionaryEntry *mode = av_dict_get(st->metadata, "alpha_mode", NULL, 0);
    info->alpha = format_has_alpha(fmt) ? 1 : mode && strcmp(mode->value, "1") == 0 ? 2 : 0;
    hdr_facts(info, st, first, space, trc, primaries);
}

static Rational rate_of(AVRational r)
{
    return r.num > 0 && r.den > 0 ? (Rational){r.num, r.den} : (Rational){0, 1};
}

/* ---- duration -------------------------------------------------------------------------------- */
/* "00:00:07.033000000" in seconds; 0 when it is not that. */
static double clock_seconds(const char *text)
{
    int hours, minutes, used = 0;
    double seconds;
    if (sscanf(text, "%d:%d:%lf%n", &hours, &minutes, &seconds, &used) != 3 || text[used] || hours < 0 || minutes < 0 ||
        minutes > 59 || !(seconds >= 0 && seconds < 60))
        return 0;
    return hours * 3600.0 + minutes * 60.0 + seconds;
}

/* Matroska, WebM, FLV and ASF give one length, that of the longest track, and the library hands it on
 * as every stream's.  Matroska files mostly have the track's own as a tag. */
static void duration_facts(VideoInfo *info, const AVFormatContext *fmt, const AVStream *st)
{
    static const char *const shared[] = {"matroska", "flv", "asf"};
    if (st->duration > 0)
        info->duration_s = (double)st->duration * av_q2d(st->time_base);
    else if (fmt->duration > 0)
        info->duration_s = (double)fmt->duration / AV_TIME_BASE;
    if (fmt->nb_streams < 2)
        return;
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        info->duration_shared |= strncmp(fmt->iformat->name, shared[i], strlen(shared[i])) == 0;
    const AVDictionaryEntry *tag = av_dict_get(st->metadata, "DURATION", NULL, 0);
    double own = info->duration_shared && tag ? clock_seconds(tag->value) : 0;
    if (own > 0 && own <= info->duration_s) {
        info->duration_s = own;
        info->duration_shared = 0;
    }
}

void facts_read(VideoInfo *info, AVFormatContext *fmt, AVStream *st, const AVCodecContext *dec, AVFrame *first)
{
    *info = (VideoInfo){0};
    put_name(info->container, sizeof info->container, fmt->iformat->name, 1);
    put_name(info->codec, sizeof info->codec, avcodec_get_name(st->codecpar->codec_id), 1);
    info->width = first ? first->width : st->codecpar->width;
    info->height = first ? first->height : st->codecpar->height;
    AVRational sar = av_guess_sample_aspect_ratio(fmt, st, first);
    int valid = sar.num > 0 && sar.den > 0 && (int64_t)sar.num <= 4 * (int64_t)sar.den &&
                (int64_t)sar.den <= 4 * (int64_t)sar.num;
    if (!valid && sar.num > 0 && sar.den > 0)
        info->sar_refused = (Rational){sar.num, sar.den};
    info->sar = valid ? (Rational){sar.num, sar.den} : (Rational){1, 1};
    info->avg_rate = rate_of(st->avg_frame_rate);
    info->r_rate = rate_of(st->r_frame_rate);
    info->vfr = info->avg_rate.num && info->r_rate.num && av_cmp_q(st->avg_frame_rate, st->r_frame_rate) != 0;
    info->time_base = (Rational){st->time_base.num, st->time_base.den};
    info->frames_hint = st->nb_frames > 0 ? st->nb_frames : 0;
    duration_facts(info, fmt, st);
    orientation_facts(info, st, first);
    display_size(info->width, info->height, info->sar, info->rotation, &info->display_width, &info->display_height);
    info->interlaced = interlace_order(st, first);
    colour_facts(info, dec, st, first);
}
