/* How samples become RGB: matrix and range, guessed where the tags are missing. */
#include <libavutil/pixdesc.h>
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

/* Which matrix untagged YUV most likely has (docs/video.md 5.1): HD sizes BT.709; SD line counts and
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
