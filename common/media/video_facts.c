/* Facts of a source: geometry, rates, colour tags, and the rule that fills in missing tags. */
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/media/media_internal.h"

enum AVPixelFormat plain_format(enum AVPixelFormat fmt)
{
    switch (fmt) {
    case AV_PIX_FMT_YUVJ420P: return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ411P: return AV_PIX_FMT_YUV411P;
    case AV_PIX_FMT_YUVJ422P: return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ440P: return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ444P: return AV_PIX_FMT_YUV444P;
    default: return fmt;
    }
}

/* Which matrix untagged YUV most likely has (dataset.md 8.3): HD sizes BT.709; SD line counts and
 * codecs of the SD age BT.601; other web and portrait sizes by their longer side. */
static int guess_space(enum AVCodecID codec, int64_t width, int64_t height)
{
    if (codec == AV_CODEC_ID_MJPEG)
        return SWS_CS_ITU601;
    if (height >= 720 || width >= 1280)
        return SWS_CS_ITU709;
    if (width > height && (height == 480 || height == 576))
        return SWS_CS_ITU601;
    if (codec == AV_CODEC_ID_MPEG1VIDEO || codec == AV_CODEC_ID_MPEG2VIDEO || codec == AV_CODEC_ID_DVVIDEO ||
        codec == AV_CODEC_ID_MPEG4)
        return SWS_CS_ITU601;
    return width >= 720 || height >= 720 ? SWS_CS_ITU709 : SWS_CS_ITU601;
}

ColourRule colour_rule(enum AVPixelFormat fmt, enum AVCodecID codec, int64_t width, int64_t height,
                       enum AVColorSpace space, enum AVColorRange range)
{
    ColourRule r = {0};
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(fmt);
    if (!d || (d->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL))) {
        r.name = "rgb";
        r.full = 1;
        return r;
    }
    int grey = d->nb_components <= 2;
    int jpeg = codec == AV_CODEC_ID_MJPEG;
    if (range == AVCOL_RANGE_JPEG || plain_format(fmt) != fmt)
        r.full = 1;
    else if (range == AVCOL_RANGE_MPEG)
        r.full = 0;
    else
        r.full = grey || jpeg, r.guessed = !grey && !jpeg;
    if (grey) {
        r.name = "grey";
        r.space = SWS_CS_ITU709; /* only its range matters */
        return r;
    }
    switch (space) {
    case AVCOL_SPC_BT709: r.space = SWS_CS_ITU709; break;
    case AVCOL_SPC_FCC: r.space = SWS_CS_FCC; break;
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M: r.space = SWS_CS_ITU601; break;
    case AVCOL_SPC_SMPTE240M: r.space = SWS_CS_SMPTE240M; break;
    case AVCOL_SPC_BT2020_NCL: r.space = SWS_CS_BT2020; break;
    case AVCOL_SPC_UNSPECIFIED:
    case AVCOL_SPC_RESERVED:
    case AVCOL_SPC_RGB: /* a zero left in the tag: these samples are YUV */
        r.space = guess_space(codec, width, height);
        r.guessed |= !jpeg;
        break;
    default: /* ICtCp, YCgCo, constant luminance */
        r.unsupported = 1;
        r.name = "unsupported";
        return r;
    }
    r.name = r.space == SWS_CS_ITU709   ? "bt709"
             : r.space == SWS_CS_ITU601 ? "bt601"
             : r.space == SWS_CS_FCC    ? "fcc"
             : r.space == SWS_CS_BT2020 ? "bt2020nc"
                                        : "smpte240m";
    return r;
}

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

static const int32_t *stream_matrix(const AVStream *st)
{
    size_t size = 0;
    const uint8_t *data = NULL;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102) /* FFmpeg 6.1 */
    const AVPacketSideData *sd = av_packet_side_data_get(st->codecpar->coded_side_data,
                                                         st->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    if (sd)
        data = sd->data, size = sd->size;
#else
    data = av_stream_get_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, &size);
#endif
    return data && size >= 9 * sizeof(int32_t) ? (const int32_t *)(const void *)data : NULL;
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
    if (!first)
        return 0;
#ifdef AV_FRAME_FLAG_INTERLACED /* FFmpeg 6.1 */
    return first->flags & AV_FRAME_FLAG_INTERLACED ? (first->flags & AV_FRAME_FLAG_TOP_FIELD_FIRST ? 1 : 2) : 0;
#else
    return first->interlaced_frame ? (first->top_field_first ? 1 : 2) : 0;
#endif
}

static void put_name(char *out, size_t size, const char *name, int known)
{
    snprintf(out, size, "%s", known && name ? name : "");
}

/* The tags the libraries found, and what conversion will use. */
static void colour_facts(VideoInfo *info, const AVCodecContext *dec, const AVCodecParameters *par, const AVFrame *first)
{
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
}

static Rational rate_of(AVRational r)
{
    return r.num > 0 && r.den > 0 ? (Rational){r.num, r.den} : (Rational){0, 1};
}

int facts_read(VideoInfo *info, AVFormatContext *fmt, AVStream *st, const AVCodecContext *dec, AVFrame *first, Err *err)
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
    if (st->duration > 0)
        info->duration_s = (double)st->duration * av_q2d(st->time_base);
    else if (fmt->duration > 0)
        info->duration_s = (double)fmt->duration / AV_TIME_BASE;
    const int32_t *matrix = stream_matrix(st);
    if (!matrix && first) {
        const AVFrameSideData *sd = av_frame_get_side_data(first, AV_FRAME_DATA_DISPLAYMATRIX);
        if (sd && sd->size >= 9 * sizeof(int32_t))
            matrix = (const int32_t *)(const void *)sd->data;
    }
    int rc = matrix ? display_matrix_read(matrix, &info->rotation, &info->flip, err) : 0;
    if (rc < 0)
        return rc;
    display_size(info->width, info->height, info->sar, info->rotation, &info->display_width, &info->display_height);
    info->interlaced = interlace_order(st, first);
    colour_facts(info, dec, st->codecpar, first);
    return 0;
}
