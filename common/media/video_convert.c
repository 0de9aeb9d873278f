/* Geometry and colour: a decoded frame becomes upright full-range RGB of the planned size. */
#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <string.h>
#include "common/base/clones.h"
#include "common/base/mem.h"
#include "common/media/media_internal.h"

enum {
    MAX_SCALED_BYTES = 1 << 29, /* a 1 x 4096 source, scaled to cover, would need gigabytes */
    PLANES_SIDE_MIN = 64
};
/* Bicubic; the other four flags make results exact, unbiased and the same on every processor
 * (docs/video.md 3). */
enum { SCALE_FLAGS = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT };

/* ---- scaler ---------------------------------------------------------------------------------- */
void scaler_fini(Scaler *s)
{
    sws_freeContext(s->sws);
    av_freep(&s->rgb);
    *s = (Scaler){0};
}

int scaler_prepare(Scaler *s, const ScaleJob *job, Err *err)
{
    if (s->sws && memcmp(&s->job, job, sizeof *job) == 0)
        return 0;
    sws_freeContext(s->sws);
    s->job = *job;
    s->sws = sws_getContext(job->src_width, job->src_height, (enum AVPixelFormat)job->src_format, job->dst_width,
                            job->dst_height, (enum AVPixelFormat)job->dst_format, SCALE_FLAGS, NULL, NULL, NULL);
    if (!s->sws)
        return err_set(err, ERR_UNSUPPORTED, "cannot convert %dx%d %s to %dx%d %s", job->src_width, job->src_height,
                       av_get_pix_fmt_name((enum AVPixelFormat)job->src_format), job->dst_width, job->dst_height,
                       av_get_pix_fmt_name((enum AVPixelFormat)job->dst_format));
    if (!job->space)
        return 0;
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
    int64_t stride = 3 * ((width + 63) / 64 * 64 + 64), bytes;
    if (mem_mul(stride, height, &bytes) < 0 || bytes > MAX_SCALED_BYTES)
        return err_set(err, ERR_LIMIT, "a scaled picture of %" PRId64 "x%" PRId64 " is too large", width, height);
    s->rgb_stride = (int)stride;
    if (bytes <= s->rgb_bytes)
        return 0;
    av_freep(&s->rgb);
    s->rgb_bytes = 0;
    s->rgb = av_mallocz((size_t)bytes);
    if (!s->rgb)
        return err_set(err, ERR_NOMEM, "no memory for a picture of %" PRId64 "x%" PRId64, width, height);
    s->rgb_bytes = bytes;
    return 0;
}

WEFT_CLONES static void join_planes(const uint8_t *restrict red, const uint8_t *restrict green,
                                    const uint8_t *restrict blue, int64_t n, uint8_t *restrict out)
{
    for (int64_t i = 0; i < n; i++) {
        out[3 * i] = red[i];
        out[3 * i + 1] = green[i];
        out[3 * i + 2] = blue[i];
    }
}

/* Writes out [n,3]: pixels x to x + n of row y of the scaled picture. */
static void copy_pixels(const Scaler *s, int64_t x, int64_t y, int64_t n, uint8_t *out)
{
    const uint8_t *row = s->rgb + y * s->rgb_stride;
    const int64_t plane = s->rgb_stride / 3;
    if (s->job.dst_format == AV_PIX_FMT_GBRP)
        join_planes(row + 2 * plane + x, row + x, row + plane + x, n, out);
    else
        memcpy(out, row + 3 * x, (size_t)(3 * n));
}

/* Writes out [plan.height, plan.width, 3]: the scaled picture s->rgb, which lies as it is stored, turned
 * upright, mirrored and cropped.  Outside the picture its edge pixels repeat. */
static void turn_and_crop(const Scaler *s, int64_t stored_w, int64_t stored_h, const FitPlan *plan, int rotation,
                          int flip, uint8_t *out)
{
    for (int64_t y = 0; y < plan->height; y++) {
        int64_t uy = y + plan->crop_y;
        uy = uy < 0 ? 0 : uy >= plan->scaled_height ? plan->scaled_height - 1 : uy;
        if (rotation == 0 && !flip && plan->crop_x >= 0 && plan->crop_x + plan->width <= stored_w) {
            copy_pixels(s, plan->crop_x, uy, plan->width, out + y * plan->width * 3);
            continue;
        }
        for (int64_t x = 0; x < plan->width; x++) {
            int64_t ux = x + plan->crop_x;
            ux = ux < 0 ? 0 : ux >= plan->scaled_width ? plan->scaled_width - 1 : ux;
            if (flip)
                ux = plan->scaled_width - 1 - ux;
            int64_t p = ux, q = uy;
            if (rotation == 90)
                p = uy, q = stored_h - 1 - ux;
            else if (rotation == 180)
                p = stored_w - 1 - ux, q = stored_h - 1 - uy;
            else if (rotation == 270)
                p = stored_w - 1 - uy, q = ux;
            copy_pixels(s, p, q, 1, out + (y * plan->width + x) * 3);
        }
    }
}

/* ---- frames ---------------------------------------------------------------------------------- */
/* What must happen to the light of this frame; refuses HDR unless the plan converts it. */
static int light_of(const VideoReader *r, const AVFrame *f, const FitPlan *plan, LightJob *job, Err *err)
{
    const AVCodecParameters *par = r->stream->codecpar;
    enum AVColorTransferCharacteristic trc = f->color_trc != AVCOL_TRC_UNSPECIFIED ? f->color_trc : par->color_trc;
    enum AVColorPrimaries pri = f->color_primaries != AVCOL_PRI_UNSPECIFIED ? f->color_primaries : par->color_primaries;
    if (r->info.hdr == VIDEO_HDR_DOLBY)
        return err_set(err, ERR_UNSUPPORTED, "'%s' is Dolby Vision without a picture for other players (profile %d)",
                       r->path, r->info.dolby_profile);
    if (r->info.hdr == VIDEO_HDR_METADATA && trc == AVCOL_TRC_UNSPECIFIED)
        trc = AVCOL_TRC_SMPTE2084;
    if (pri == AVCOL_PRI_SMPTE428)
        return err_set(err, ERR_UNSUPPORTED,
                       "'%s' has XYZ samples (SMPTE 428), expected RGB or YCbCr: convert it first", r->path);
    *job = light_job(trc, pri);
    if (plan->tone_map)
        return 0;
    if (job->hdr == HDR_PQ || job->hdr == HDR_HLG)
        return err_set(err, ERR_UNSUPPORTED, "'%s' is HDR (transfer %s), expected SDR: convert it first", r->path,
                       av_color_transfer_name(trc));
    if (job->hdr == HDR_WIDE)
        return err_set(err, ERR_UNSUPPORTED, "'%s' has BT.2020 primaries, expected BT.709 or SD ones: convert it first",
                       r->path);
    return 0;
}

/* Makes r->part the plan's piece of the frame.  The piece is given in the upright picture; here it is turned
 * and scaled back to the stored one and widened to whole chroma samples. */
static int cut_part(VideoReader *r, const AVFrame *f, const FitPlan *plan, Err *err)
{
    const VideoInfo *v = &r->info;
    const int64_t *c = plan->part;
    int turned = v->rotation % 180 != 0;
    int64_t dw = turned ? v->display_height : v->display_width, dh = turned ? v->display_width : v->display_height;
    if (c[0] < 0 || c[1] < 0 || c[2] < 1 || c[3] < 1 || c[0] + c[2] > v->display_width ||
        c[1] + c[3] > v->display_height)
        return err_set(err, ERR_FORMAT,
                       "'%s': the piece %" PRId64 "x%" PRId64 " at %" PRId64 ", %" PRId64
                       " does not lie inside the picture of %" PRId64 "x%" PRId64,
                       r->path, c[2], c[3], c[0], c[1], v->display_width, v->display_height);
    int64_t ux = v->flip ? v->display_width - c[0] - c[2] : c[0], x = ux, y = c[1], w = c[2], h = c[3];
    if (v->rotation == 90)
        x = c[1], y = dh - ux - c[2];
    else if (v->rotation == 180)
        x = dw - ux - c[2], y = dh - c[1] - c[3];
    else if (v->rotation == 270)
        x = dw - c[1] - c[3], y = ux;
    if (turned)
        w = c[3], h = c[2];
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    int64_t left = (round_ratio(x, f->width, dw) >> d->log2_chroma_w) << d->log2_chroma_w;
    int64_t top = (round_ratio(y, f->height, dh) >> d->log2_chroma_h) << d->log2_chroma_h;
    int64_t right = round_ratio(x + w, f->width, dw), bottom = round_ratio(y + h, f->height, dh);
    av_frame_unref(r->part);
    int av = av_frame_ref(r->part, f);
    if (av < 0)
        return err_av(err, ERR_NOMEM, av, "'%s': no memory for a piece of a frame", r->path);
    r->part->crop_left = (size_t)left;
    r->part->crop_top = (size_t)top;
    r->part->crop_right = (size_t)(f->width - (right > left ? right : left + 1));
    r->part->crop_bottom = (size_t)(f->height - (bottom > top ? bottom : top + 1));
    av = av_frame_apply_cropping(r->part, AV_FRAME_CROP_UNALIGNED);
    return av < 0 ? err_av(err, ERR_FORMAT, av, "'%s': cannot cut a piece out of a frame", r->path) : 0;
}

static Rows choose_rows(const VideoReader *r, const AVFrame *f, Deinterlace mode)
{
    Rows rows = {{f->data[0], f->data[1], f->data[2], f->data[3]},
                 {f->linesize[0], f->linesize[1], f->linesize[2], f->linesize[3]},
                 f->height};
    int field = frame_field(r, f);
    if (mode == DEINTERLACE_ALWAYS && !field)
        field = 1;
    if (mode == DEINTERLACE_NEVER || !field || f->height < 4)
        return rows;
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    int planes = d->flags & AV_PIX_FMT_FLAG_PAL ? 1 : av_pix_fmt_count_planes((enum AVPixelFormat)f->format);
    for (int i = 0; i < planes; i++) {
        if (field == 2)
            rows.data[i] += rows.stride[i];
        rows.stride[i] *= 2;
    }
    rows.height = field == 2 ? f->height / 2 : (f->height + 1) / 2;
    return rows;
}

/* The plan for a frame of another size than the first. */
static FitPlan replan(const VideoReader *r, const AVFrame *f, const FitPlan *plan)
{
    FitPlan use = *plan;
    if ((f->width == r->info.width && f->height == r->info.height) || plan->part[2])
        return use;
    int64_t w, h;
    display_size(f->width, f->height, r->info.sar, r->info.rotation, &w, &h);
    use = fit_plan_size(w, h, plan->width, plan->height, plan->mode, plan->bias_x, plan->bias_y);
    use.deinterlace = plan->deinterlace;
    use.tone_map = plan->tone_map;
    memcpy(use.background, plan->background, sizeof use.background);
    return use;
}

/* The job that scales rows of this format, as RGB of 16 or 8 bits. */
static ScaleJob scale_job(const AVFrame *f, const Rows *rows, const ColourRule *rule, int64_t width, int64_t height,
                          int deep)
{
    ScaleJob job = {f->width,
                    rows->height,
                    plain_format((enum AVPixelFormat)f->format),
                    (int)width,
                    (int)height,
                    deep ? AV_PIX_FMT_RGB48 : AV_PIX_FMT_RGB24,
                    rule->space,
                    rule->full,
                    1,
                    0};
    int depth = av_pix_fmt_desc_get((enum AVPixelFormat)f->format)->comp[0].depth;
    /* the scaler takes 255 << n, not 2^depth - 1, for white */
    if (rule->full && depth > 8 && strcmp(rule->name, "grey") != 0 && rule->space)
        job.contrast = (int)(65536.0 * (255 << (depth - 8)) / ((1 << depth) - 1) + 0.5);
    return job;
}

/* Whether swscale makes the same RGB in planes as in triples: into planes it has vector code, which takes a
 * sixth of the time.  Grey and RGB have short cuts of their own, and so have filters of two rows, which only
 * tiny pictures get. */
static int same_in_planes(const ScaleJob *job)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get((enum AVPixelFormat)job->src_format);
    return job->dst_format == AV_PIX_FMT_RGB24 && job->space && d->nb_components >= 3 &&
           !(d->flags & AV_PIX_FMT_FLAG_RGB) && job->src_width >= PLANES_SIDE_MIN && job->src_height >= PLANES_SIDE_MIN;
}

static int scale(Scaler *s, const ScaleJob *job, const Rows *rows, int64_t room_width, Err *err)
{
    int rc = scaler_room(s, room_width, job->dst_height, err);
    if (rc == 0)
        rc = scaler_prepare(s, job, err);
    if (rc < 0)
        return rc;
    const int stride = s->rgb_stride, planar = job->dst_format == AV_PIX_FMT_GBRP;
    uint8_t *dst[4] = {s->rgb, planar ? s->rgb + stride / 3 : NULL, planar ? s->rgb + stride / 3 * 2 : NULL};
    int dst_stride[4] = {stride, planar ? stride : 0, planar ? stride : 0};
    int done = sws_scale(s->sws, rows->data, rows->stride, 0, rows->height, dst, dst_stride);
    return done == job->dst_height ? 0
                                   : err_set(err, ERR_FORMAT, "%d of %d rows were converted", done, job->dst_height);
}

/* The picture's rows as RGB at their own size, laid over the background; job and rows become those of
 * that picture. */
static int cover(VideoReader *r, const AVFrame *f, const FitPlan *plan, const ColourRule *rule, ScaleJob *job,
                 Rows *rows, Err *err)
{
    Scaler *s = &r->cover;
    const int deep = job->dst_format == AV_PIX_FMT_RGB48;
    ScaleJob plain = scale_job(f, rows, rule, f->width, rows->height, deep);
    int rc = scale(s, &plain, rows, (1 + deep) * (int64_t)f->width, err);
    if (rc == 0)
        rc = alpha_cover((enum AVPixelFormat)f->format, rows, f->width, plan->background, deep, s->rgb, s->rgb_stride,
                         err);
    *rows = (Rows){{s->rgb}, {s->rgb_stride}, rows->height};
    job->src_format = job->dst_format;
    job->space = job->contrast = 0;
    job->src_full = 1;
    return rc;
}

int video_to_rgb(VideoReader *r, const VideoFrame *frame, const FitPlan *plan, uint8_t *rgb, Err *err)
{
    const AVFrame *f = frame->av;
    LightJob light;
    if (!f)
        return err_set(err, ERR_USAGE, "'%s': frame %" PRId64 " was not decoded", r->path, frame->index);
    int rc = light_of(r, f, plan, &light, err);
    if (rc < 0)
        return rc;
    FitPlan use = replan(r, f, plan);
    if (use.part[2] && (rc = cut_part(r, f, &use, err)) < 0)
        return rc;
    if (use.part[2])
        f = r->part;
    int turned = r->info.rotation % 180 != 0;
    int64_t stored_w = turned ? use.scaled_height : use.scaled_width,
            stored_h = turned ? use.scaled_width : use.scaled_height;

    const AVCodecParameters *par = r->stream->codecpar;
    ColourRule rule = colour_rule((enum AVPixelFormat)f->format, par->codec_id, r->info.width, r->info.height,
                                  f->colorspace != AVCOL_SPC_UNSPECIFIED ? f->colorspace : par->color_space,
                                  f->color_range != AVCOL_RANGE_UNSPECIFIED ? f->color_range : par->color_range);
    if (rule.unsupported)
        return err_set(err, ERR_UNSUPPORTED, "'%s': colour matrix '%s' cannot be converted", r->path, r->info.matrix);

    Rows rows = choose_rows(r, f, use.deinterlace);
    ScaleJob job = scale_job(f, &rows, &rule, stored_w, stored_h, light.change);
    int transparent = alpha_find(f, err);
    if (transparent < 0)
        return transparent;
    if (transparent)
        rc = cover(r, f, &use, &rule, &job, &rows, err);
    else if (same_in_planes(&job))
        job.dst_format = AV_PIX_FMT_GBRP;
    if (rc == 0)
        rc = scale(&r->scaler, &job, &rows, light.change ? 2 * stored_w : stored_w, err);
    if (rc < 0)
        return err_wrap(err, rc, "'%s': frame %" PRId64, r->path, frame->index);
    if (light.change)
        light_convert(&light, r->scaler.rgb, r->scaler.rgb_stride, stored_w, stored_h);
    turn_and_crop(&r->scaler, stored_w, stored_h, &use, r->info.rotation, r->info.flip, rgb);
    return 0;
}
