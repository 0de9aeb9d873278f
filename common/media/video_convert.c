/* Geometry and colour: a decoded frame becomes upright full-range RGB of the planned size. */
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/media/media_internal.h"

enum { MAX_SCALED_BYTES = 1 << 29 }; /* a 1 x 4096 source, scaled to cover, would want gigabytes */
/* Bicubic; the other four make results exact, unbiased and the same on every processor (dataset.md 8.4). */
enum { SCALE_FLAGS = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT };

/* ---- plan ---- */
static int64_t round_ratio(int64_t a, int64_t b, int64_t c) /* round(a*b/c), halves up */
{
    return (int64_t)(((__int128)2 * a * b + c) / ((__int128)2 * c));
}

static FitPlan plan_size(int64_t w, int64_t h, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y)
{
    FitPlan p = {.mode = mode, .width = width, .height = height, .scaled_width = width, .scaled_height = height,
                 .bias_x = bias_x, .bias_y = bias_y};
    if (mode == FIT_STRETCH) return p;
    int wider = (__int128)w * height >= (__int128)h * width;
    if (wider == (mode == FIT_COVER)) p.scaled_width = round_ratio(height, w, h);
    else p.scaled_height = round_ratio(width, h, w);
    if (mode == FIT_COVER) {
        if (p.scaled_width < width) p.scaled_width = width;
        if (p.scaled_height < height) p.scaled_height = height;
        p.crop_x = (int64_t)floor((double)(p.scaled_width - width) * bias_x);
        p.crop_y = (int64_t)floor((double)(p.scaled_height - height) * bias_y);
        p.lost = 1 - (double)(width * height) / ((double)p.scaled_width * (double)p.scaled_height);
    } else {
        if (p.scaled_width < 1) p.scaled_width = 1;
        if (p.scaled_height < 1) p.scaled_height = 1;
        if (p.scaled_width > width) p.scaled_width = width;
        if (p.scaled_height > height) p.scaled_height = height;
        p.crop_x = -(int64_t)floor((double)(width - p.scaled_width) * bias_x);
        p.crop_y = -(int64_t)floor((double)(height - p.scaled_height) * bias_y);
    }
    return p;
}

FitPlan fit_plan(const VideoInfo *info, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y)
{
    return plan_size(info->display_width, info->display_height, width, height, mode, bias_x, bias_y);
}

/* ---- scaler ---- */
void scaler_fini(Scaler *s)
{
    sws_freeContext(s->sws);
    av_freep(&s->rgb);
    *s = (Scaler){0};
}

int scaler_prepare(Scaler *s, const ScaleJob *job, Err *err)
{
    if (s->sws && memcmp(&s->job, job, sizeof *job) == 0) return 0;
    sws_freeContext(s->sws);
    s->job = *job;
    s->sws = sws_getContext(job->src_width, job->src_height, (enum AVPixelFormat)job->src_format, job->dst_width, job->dst_height,
                            (enum AVPixelFormat)job->dst_format, SCALE_FLAGS, NULL, NULL, NULL);
    if (!s->sws)
        return err_set(err, ERR_UNSUPPORTED, "cannot convert %dx%d %s to %dx%d %s", job->src_width, job->src_height,
                       av_get_pix_fmt_name((enum AVPixelFormat)job->src_format), job->dst_width, job->dst_height,
                       av_get_pix_fmt_name((enum AVPixelFormat)job->dst_format));
    if (!job->space) return 0;
    const int *matrix = sws_getCoefficients(job->space);
    int contrast = job->contrast ? job->contrast : 1 << 16;
    if (sws_setColorspaceDetails(s->sws, matrix, job->src_full, matrix, job->dst_full, 0, contrast, 1 << 16) < 0) {
        sws_freeContext(s->sws);
        s->sws = NULL;
        return err_set(err, ERR_UNSUPPORTED, "no colour conversion from %s to %s",
                       av_get_pix_fmt_name((enum AVPixelFormat)job->src_format),
                       av_get_pix_fmt_name((enum AVPixelFormat)job->dst_format));
    }
    return 0;
}

int scaler_room(Scaler *s, int64_t width, int64_t height, Err *err)
{
    int64_t stride = (width * 3 + 63) / 64 * 64 + 64, bytes;
    if (mem_mul(stride, height, &bytes) < 0 || bytes > MAX_SCALED_BYTES)
        return err_set(err, ERR_LIMIT, "a scaled picture of %lldx%lld is too large", (long long)width, (long long)height);
    s->rgb_stride = (int)stride;
    if (bytes <= s->rgb_bytes) return 0;
    av_freep(&s->rgb);
    s->rgb_bytes = 0;
    s->rgb = av_mallocz((size_t)bytes);
    if (!s->rgb) return err_set(err, ERR_NOMEM, "no memory for a picture of %lldx%lld", (long long)width, (long long)height);
    s->rgb_bytes = bytes;
    return 0;
}

/* out [plan.height, plan.width, 3] <- the stored-orientation picture, turned, mirrored, cropped; outside it the edge repeats. */
static void turn_and_crop(const Scaler *s, int64_t stored_w, int64_t stored_h, const FitPlan *plan, int rotation, int flip, uint8_t *out)
{
    for (int64_t y = 0; y < plan->height; y++) {
        int64_t uy = y + plan->crop_y;
        uy = uy < 0 ? 0 : uy >= plan->scaled_height ? plan->scaled_height - 1 : uy;
        if (rotation == 0 && !flip && plan->crop_x >= 0 && plan->crop_x + plan->width <= stored_w) {
            memcpy(out + y * plan->width * 3, s->rgb + uy * s->rgb_stride + plan->crop_x * 3, (size_t)(plan->width * 3));
            continue;
        }
        for (int64_t x = 0; x < plan->width; x++) {
            int64_t ux = x + plan->crop_x;
            ux = ux < 0 ? 0 : ux >= plan->scaled_width ? plan->scaled_width - 1 : ux;
            if (flip) ux = plan->scaled_width - 1 - ux;
            int64_t p = ux, q = uy;
            if (rotation == 90) p = uy, q = stored_h - 1 - ux;
            else if (rotation == 180) p = stored_w - 1 - ux, q = stored_h - 1 - uy;
            else if (rotation == 270) p = stored_w - 1 - uy, q = ux;
            memcpy(out + (y * plan->width + x) * 3, s->rgb + q * s->rgb_stride + p * 3, 3);
        }
    }
}

/* ---- frames ---- */
static int check_transfer(const VideoReader *r, const AVFrame *f, Err *err)
{
    enum AVColorTransferCharacteristic trc = f->color_trc != AVCOL_TRC_UNSPECIFIED ? f->color_trc : r->stream->codecpar->color_trc;
    enum AVColorPrimaries pri = f->color_primaries != AVCOL_PRI_UNSPECIFIED ? f->color_primaries : r->stream->codecpar->color_primaries;
    if (trc == AVCOL_TRC_SMPTE2084 || trc == AVCOL_TRC_ARIB_STD_B67)
        return err_set(err, ERR_UNSUPPORTED, "'%s' is HDR (transfer %s), expected SDR: tone-map it first", r->path,
                       av_color_transfer_name(trc));
    if (pri == AVCOL_PRI_BT2020)
        return err_set(err, ERR_UNSUPPORTED, "'%s' has BT.2020 primaries, expected BT.709 or SD ones: convert it first", r->path);
    return 0;
}

int video_to_rgb(VideoReader *r, const VideoFrame *frame, const FitPlan *plan, uint8_t *rgb, Err *err)
{
    const AVFrame *f = frame->av;
    int rc = check_transfer(r, f, err);
    if (rc < 0) return rc;
    FitPlan use = *plan;
    if (f->width != r->info.width || f->height != r->info.height) { /* the size changed mid-stream */
        int64_t w, h;
        display_size(f->width, f->height, r->info.sar, r->info.rotation, &w, &h);
        use = plan_size(w, h, plan->width, plan->height, plan->mode, plan->bias_x, plan->bias_y);
    }
    int turned = r->info.rotation % 180 != 0;
    int64_t stored_w = turned ? use.scaled_height : use.scaled_width, stored_h = turned ? use.scaled_width : use.scaled_height;
    if ((rc = scaler_room(&r->scaler, stored_w, stored_h, err)) < 0) return rc;

    const AVCodecParameters *par = r->stream->codecpar;
    ColourRule rule = colour_rule((enum AVPixelFormat)f->format, par->codec_id, r->info.width, r->info.height,
                                  f->colorspace != AVCOL_SPC_UNSPECIFIED ? f->colorspace : par->color_space,
                                  f->color_range != AVCOL_RANGE_UNSPECIFIED ? f->color_range : par->color_range);
    if (rule.unsupported)
        return err_set(err, ERR_UNSUPPORTED, "'%s': colour matrix '%s' cannot be converted", r->path, r->info.matrix);

    const uint8_t *src[4] = {f->data[0], f->data[1], f->data[2], f->data[3]};
    int stride[4] = {f->linesize[0], f->linesize[1], f->linesize[2], f->linesize[3]};
    int height = f->height;
    if (r->info.interlaced && height >= 4) { /* the field shown first: every second line */
        int second = r->info.interlaced == 2;
        const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
        int planes = d->flags & AV_PIX_FMT_FLAG_PAL ? 1 : av_pix_fmt_count_planes((enum AVPixelFormat)f->format);
        for (int i = 0; i < planes; i++) {
            if (second) src[i] += stride[i];
            stride[i] *= 2;
        }
        height = second ? height / 2 : (height + 1) / 2;
    }
    ScaleJob job = {f->width, height, plain_format((enum AVPixelFormat)f->format), (int)stored_w, (int)stored_h, AV_PIX_FMT_RGB24,
                    rule.space, rule.full, 1, 0};
    int depth = av_pix_fmt_desc_get((enum AVPixelFormat)f->format)->comp[0].depth;
    if (rule.full && depth > 8 && strcmp(rule.name, "grey") != 0 && rule.space) /* the scaler takes 255 << n, not 2^depth - 1, for white */
        job.contrast = (int)(65536.0 * (255 << (depth - 8)) / ((1 << depth) - 1) + 0.5);
    if ((rc = scaler_prepare(&r->scaler, &job, err)) < 0) return err_wrap(err, rc, "'%s'", r->path);
    uint8_t *dst[4] = {r->scaler.rgb};
    int dst_stride[4] = {r->scaler.rgb_stride};
    int rows = sws_scale(r->scaler.sws, src, stride, 0, height, dst, dst_stride);
    if (rows != stored_h)
        return err_set(err, ERR_FORMAT, "'%s': frame %lld: %d of %lld rows converted", r->path, (long long)frame->index, rows,
                       (long long)stored_h);
    turn_and_crop(&r->scaler, stored_w, stored_h, &use, r->info.rotation, r->info.flip, rgb);
    return 0;
}
